"""What people know from confluent_kafka's clients: the same names, and the same meaning."""

import asyncio
import hashlib
import json
import logging
import os
import resource
import subprocess
import sys
import time

import pytest
from conftest import poll_until

import kas3
from kas3 import TopicPartition, aio


#: A moment ago: what is older than the topic keeps, the broker deletes.
NOW = int(time.time() * 1000) - 60_000


def send(world, *payloads, topic=None, **parts):
    with kas3.S3Producer(world.producer()) as producer:
        for payload in payloads:
            producer.produce(topic or world.topic, payload, **parts)


def reader(world, kafka=None, **s3):
    consumer = kas3.S3Consumer(world.consumer(kafka={"enable.auto.commit": False, **(kafka or {})}, **s3))
    consumer.subscribe([world.topic])
    return consumer


def test_consume_gives_messages_as_confluent_kafka_does(world):
    send(world, b"1", bytes(1_000_000), headers={"h": b"v"}, timestamp=NOW)
    with kas3.S3Producer(world.producer()) as producer:
        producer.produce_tombstone(world.topic, b"key")
    with reader(world) as consumer:
        messages = consumer.consume(3, 30)
        assert consumer.consume(5, 0.2) == [] and consumer.consume(0) == []
        first, large, tombstone = messages
        assert (first.topic(), first.partition(), first.offset(), first.key(), first.value()) == (world.topic, 0, 0, None, b"1")
        assert first.headers() == [("h", b"v")] and first.timestamp() == (kas3.TIMESTAMP_CREATE_TIME, NOW)
        assert first.error() is None and len(large) == 1_000_000 and large.reference.key == world.keys()[0]
        assert (tombstone.value(), tombstone.key(), len(tombstone), bool(tombstone)) == (None, b"key", 0, True)
        assert [place.offset for place in consumer.commit(message=large, asynchronous=False)] == [2]
        with pytest.raises(kas3.RecordError):
            consumer.consume(-1)


def test_consume_gives_what_came_before_a_record_that_cannot_be_trusted_and_then_raises(world):
    send(world, b"1")
    world.put(json.dumps({"s3_bucket": world.bucket, "s3_key": "k", "sha256": None}))
    send(world, b"3")
    with reader(world) as consumer:
        assert [message.value() for message in consumer.consume(3, 30)] == [b"1"]
        with pytest.raises(kas3.DataIntegrityError, match="missing_checksum"):
            consumer.consume(3, 30)
        assert [message.value() for message in consumer.consume(1, 30)] == [b"3"]


def test_a_paused_partition_gives_nothing_and_then_everything_in_order(world):
    topic = world.new_topic(partitions=2)
    with kas3.S3Producer(world.producer(max_inline_bytes=100)) as producer:
        for number in range(40):
            producer.produce(topic, str(number).encode().ljust(10 if number % 3 else 100_000), partition=number % 2)
    with kas3.S3Consumer(world.consumer(kafka={"enable.auto.commit": False}, memory_bytes=150_000)) as consumer:
        consumer.subscribe([topic])
        got = {0: [], 1: []}

        def take(seconds, many=1000):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and many > 0:
                record = consumer.poll_record(0.2)
                if record is not None:
                    got[record.partition].append(int(record.payload))
                    many -= 1

        take(30, 5)
        consumer.pause([TopicPartition(topic, 0)])
        before = len(got[0])
        take(4)
        # also not what was read ahead; the other one goes on, although memory holds little more than one payload
        assert len(got[0]) == before and got[1] == list(range(1, 40, 2))
        consumer.resume([TopicPartition(topic, 0)])
        take(30, 20 - before)
        assert got[0] == list(range(0, 40, 2))
        with pytest.raises(kas3.ConfigError, match="not assigned"):
            consumer.pause([TopicPartition(topic, 7)])


def test_positions_commits_and_bounds_of_partitions(world):
    send(world, b"1", b"2", b"3", timestamp=NOW)
    send(world, b"4", timestamp=NOW + 5_000)
    here = TopicPartition(world.topic, 0)
    with reader(world) as consumer:
        assert consumer.position([here])[0].offset == -1001 == consumer.committed([here])[0].offset
        assert consumer.get_watermark_offsets(here) == (0, 4)
        poll_until(consumer), poll_until(consumer)
        assert consumer.position([here]) == [TopicPartition(world.topic, 0, 2)]
        assert consumer.get_watermark_offsets(here, cached=True)[1] == 4
        assert consumer.commit(asynchronous=False) == [TopicPartition(world.topic, 0, 2)] == consumer.committed([here])
        assert consumer.commit(offsets=[TopicPartition(world.topic, 0, 1)], asynchronous=False) == consumer.committed([here])
        times = [TopicPartition(world.topic, 0, moment) for moment in (NOW - 9_000, NOW + 1, NOW + 9_000)]
        assert [consumer.offsets_for_times([moment])[0].offset for moment in times] == [0, 3, -1]
        with pytest.raises(kas3.MissingError):
            consumer.get_watermark_offsets(TopicPartition(world.topic, 9))


def test_offsets_are_stored_by_hand_where_that_is_set(world):
    send(world, b"1", b"2", b"3", b"4")
    config = world.consumer(kafka={"enable.auto.offset.store": False})
    here = TopicPartition(world.topic, 0)
    with kas3.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic])
        messages = consumer.consume(4, 30)
        consumer.store_offsets(messages[1])
        assert consumer.commit(asynchronous=False) == [TopicPartition(world.topic, 0, 2)]
        consumer.store_offsets(offsets=[TopicPartition(world.topic, 0, 3)])
    # closing commits what was stored, and not what was handed out
    assert world.committed(config["kafka"]["group.id"]) == 3
    with reader(world) as consumer, pytest.raises(kas3.ConfigError, match="by hand"):
        consumer.store_offsets(offsets=[here._replace(offset=1)])


def test_a_subscription_is_left_and_entered_again(world):
    send(world, b"1", b"2")
    told = []
    with kas3.S3Consumer(world.consumer(kafka={"enable.auto.commit": False})) as consumer:

        def subscribe():
            consumer.subscribe([world.topic], on_revoke=lambda consumer, places: told.append(places[0].partition))

        subscribe()
        assert poll_until(consumer) == b"1"
        consumer.unsubscribe()
        assert consumer.poll(2.0) is None and told == [0] and consumer.assignment() == []
        subscribe()
        assert poll_until(consumer) == b"1"


def test_the_cluster_is_described_as_confluent_kafka_does(world):
    topic = world.new_topic(partitions=3)
    with kas3.S3Producer(world.producer()) as producer, reader(world) as consumer:
        for client in (producer, consumer):
            cluster = client.list_topics(timeout=30)
            assert {world.topic, topic} <= cluster.topics.keys() and cluster.cluster_id and cluster.orig_broker_id in cluster.brokers
            one = client.list_topics(topic, timeout=30).topics[topic]
            assert sorted(one.partitions) == [0, 1, 2] and one.error is None
            assert one.partitions[0].leader in cluster.brokers and one.partitions[0].isrs == one.partitions[0].replicas
        unknown = producer.list_topics("nowhere-to-be-found", 30).topics["nowhere-to-be-found"]
        assert unknown.error.name() == "UNKNOWN_TOPIC_OR_PART" and isinstance(unknown.error, kas3.MissingError)


def test_consume_transform_produce_happens_once_whatever_is_aborted(world):
    results = world.new_topic()
    payloads = [bytes([number]) * (1_000_000 if number % 2 else 10) for number in range(8)]
    send(world, *payloads)
    group = {"enable.auto.commit": False, "isolation.level": "read_committed"}
    config = world.consumer(kafka=group)

    def work(aborts):
        """Every record of a batch becomes its hash and length; the first attempts are given up half-way."""
        with kas3.S3Consumer(config) as consumer, kas3.S3Producer(world.producer(kafka={"transactional.id": world.name})) as producer:
            consumer.subscribe([world.topic])
            producer.init_transactions()
            done = 0
            while done < 4:
                messages = consumer.consume(2, 30)
                producer.begin_transaction()
                for message in messages:
                    producer.produce(results, hashlib.sha256(message.value()).digest() + message.value())
                producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata())
                if aborts:
                    aborts -= 1
                    producer.abort_transaction()
                    for place in consumer.committed(consumer.assignment()):
                        consumer.seek(place if place.offset >= 0 else place._replace(offset=0))
                    continue
                producer.commit_transaction()
                done += len(messages)

    work(aborts=2)
    assert world.committed(config["kafka"]["group.id"]) == 4
    work(aborts=1)
    with kas3.S3Consumer(world.consumer(kafka={"isolation.level": "read_committed"})) as consumer:
        consumer.subscribe([results])
        got = [poll_until(consumer) for _ in range(8)]
        assert got == [hashlib.sha256(payload).digest() + payload for payload in payloads] and consumer.poll(1.0) is None


def test_purged_records_are_reported_and_their_payloads_are_not_left(world):
    heard = []
    kafka = {"bootstrap.servers": "127.0.0.1:1"}
    with kas3.S3Producer(world.producer(kafka=kafka)) as producer:
        for size in (10, 1_000_000, 10):
            producer.produce(world.topic, bytes(size), on_delivery=lambda error, message: heard.append((error, message)))
        # one that waits for Kafka, one whose payload is stored or on its way, and one behind it
        producer.purge()
        assert producer.flush(30) == 0
        assert [error.name() for error, _ in heard] == ["_PURGE_QUEUE"] * 3 and all(error.certain for error, _ in heard)
        deadline = time.monotonic() + 10
        while world.keys() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert world.keys() == []


def test_callbacks_of_the_client_run_within_its_calls(world):
    told = {"error_cb": [], "stats_cb": [], "on_commit": []}
    broken = {"bootstrap.servers": "127.0.0.1:1", "error_cb": told["error_cb"].append}
    with kas3.S3Producer(world.producer(kafka=broken)) as producer:
        deadline = time.monotonic() + 30
        while not told["error_cb"] and time.monotonic() < deadline:
            producer.poll(0.5)
    error = told["error_cb"][0]
    assert isinstance(error, kas3.KafkaException) and error.name() in ("_TRANSPORT", "_ALL_BROKERS_DOWN") and error.retriable()
    kafka = {
        "statistics.interval.ms": 200,
        "stats_cb": told["stats_cb"].append,
        "on_commit": lambda error, places: told["on_commit"].append((error, places)),
    }
    send(world, b"1")
    config = world.consumer(kafka={**kafka, "enable.auto.commit": False})
    with kas3.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic])
        assert poll_until(consumer) == b"1"
        consumer.commit()
        deadline = time.monotonic() + 30
        while not (told["stats_cb"] and told["on_commit"]) and time.monotonic() < deadline:
            consumer.poll(0.5)
    assert json.loads(told["stats_cb"][0])["type"] == "consumer"
    assert told["on_commit"][0] == (None, [TopicPartition(world.topic, 0, 1)])
    assert world.committed(config["kafka"]["group.id"]) == 1
    with pytest.raises(kas3.ConfigError, match="error_cb"):
        kas3.S3Producer(world.producer(kafka={"error_cb": "no function"}))
    for name, value in (("throttle_cb", print), ("logger", logging.getLogger())):
        with pytest.raises(kas3.ConfigError, match=name):
            kas3.S3Producer(world.producer(kafka={name: value}))


def test_what_a_callback_of_the_client_raises_its_call_raises_and_no_record_is_lost(world):
    def fails(_statistics):
        raise RuntimeError("of the callback")

    send(world, b"1", b"2")
    with kas3.S3Consumer(world.consumer(kafka={"statistics.interval.ms": 50, "stats_cb": fails})) as consumer:
        consumer.subscribe([world.topic])
        got, raised = [], 0
        while len(got) < 2 or not raised:
            try:
                payload = consumer.poll(1.0)
            except RuntimeError:
                raised += 1
            else:
                got += [payload] if payload else []
        assert got == [b"1", b"2"]


def test_a_client_signs_in_with_the_tokens_that_a_function_gives(world):
    import base64

    asked = []

    def token(config):
        asked.append(config)
        now = time.time()
        part = lambda fields: base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()  # noqa: E731
        return f"{part({'alg': 'none'})}.{part({'sub': 'kas3', 'iat': now, 'exp': now + 600})}.", now + 600

    signed = {
        "bootstrap.servers": os.environ["KAS3_KAFKA_SASL"],
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.config": "of=the-test",
        "oauth_cb": token,
    }
    with kas3.S3Producer(world.producer(kafka=signed)) as producer:
        producer.produce(world.topic, bytes(1_000_000))
        assert producer.flush(30) == 0
    with kas3.S3Consumer(world.consumer(kafka=signed)) as consumer:
        assert world.topic in consumer.list_topics(timeout=30).topics
        consumer.subscribe([world.topic])
        assert poll_until(consumer) == bytes(1_000_000)
    assert set(asked) == {"of=the-test"}


def test_the_log_of_core_and_librdkafka_is_that_of_the_logger_kas3(world, caplog):
    with caplog.at_level(logging.DEBUG, logger="kas3"):
        # the level is looked at once a second
        time.sleep(1.1)
        with kas3.S3Producer(world.producer(kafka={"bootstrap.servers": "127.0.0.1:1", "debug": "broker"})) as producer:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not any("BROKER" in record.getMessage() for record in caplog.records):
                producer.poll(0.2)
    lines = [record for record in caplog.records if record.getMessage().startswith("librdkafka: ")]
    assert lines and all(record.name == "kas3" for record in lines) and {logging.DEBUG} <= {record.levelno for record in lines}
    program = f"import kas3\nkas3.S3Producer({world.producer(kafka={'bootstrap.servers': '127.0.0.1:1'})!r}).poll(1)\n"
    logged = subprocess.run(
        [sys.executable, "-c", "import logging\nlogging.basicConfig(filename='/dev/null')\n" + program], capture_output=True, text=True, timeout=60
    )
    assert logged.returncode == 0 and logged.stderr == ""
    stderr = subprocess.run([sys.executable, "-c", program], env={**os.environ, "KAS3_LOG": "info"}, capture_output=True, text=True, timeout=60)
    assert "librdkafka" in stderr.stderr


def test_payloads_larger_than_memory_are_read_as_files(world, tmp_path):
    path = tmp_path / "payload"
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(200):
            piece = number.to_bytes(4, "big") * 262_144
            hasher.update(piece)
            file.write(piece)
    for options in ({"format": "kas3"}, {}, {"compression": "gzip"}):
        with kas3.S3Producer(world.producer(**options)) as producer:
            producer.produce_file(world.topic, path, key="large")
            producer.produce(world.topic, b"small")
    with reader(world, stream_above_bytes=1_000_000, memory_bytes=8 << 20) as consumer:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(3):
            record = consumer.poll_record(30)
            assert isinstance(record, kas3.StreamedRecord) and record.key == b"large" and record.reference is not None
            with pytest.raises(kas3.RecordError, match="stream"):
                record.payload
            small = consumer.poll_record(30)
            # a stream is read beside what comes after it
            assert small.payload == b"small" and small.open().read() == b"small"
            read = hashlib.sha256()
            with record.open() as file:
                while piece := file.read(1 << 20):
                    read.update(piece)
            assert read.digest() == hasher.digest()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 150_000, f"{grown} KiB for payloads of 200 MiB"


def test_a_stream_that_is_not_what_was_sent_ends_with_an_error_and_one_outlives_its_consumer(world):
    for _ in range(2):
        with kas3.S3Producer(world.producer(format="kas3")) as producer:
            producer.produce(world.topic, os.urandom(5_000_000))
    consumer = reader(world, stream_above_bytes=0)
    first = consumer.poll_record(30)
    key = first.reference.key
    body = bytearray(world.s3.get_object(Bucket=world.bucket, Key=key)["Body"].read())
    second = consumer.poll_record(30)
    file = second.open()
    consumer.close()
    assert len(file.read()) == 5_000_000
    body[4_000_000] ^= 1
    world.s3.put_object(Bucket=world.bucket, Key=key, Body=bytes(body))
    with kas3.S3Consumer(world.consumer(stream_above_bytes=0, require_integrity=False)) as consumer:
        consumer.subscribe([world.topic])
        with pytest.raises(kas3.IntegrityError):
            consumer.poll_record(30).open().read()


def test_serializers_leave_the_callers_headers_as_they_were(world, monkeypatch):
    from confluent_kafka import Producer, SerializingProducer
    from confluent_kafka.serialization import MessageField, SerializationContext

    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["S3_ENDPOINT_URL"])
    claims = kas3.ClaimCheck(f"s3://{world.bucket}/claims", max_inline_bytes=10)
    producer = SerializingProducer({"bootstrap.servers": world.kafka, "value.serializer": kas3.ClaimCheckSerializer(claims)})
    for headers in ([("mine", b"1")], {"mine": b"1"}, []):
        given = type(headers)(headers)
        # the same headers for several records, large and small
        for value in (bytes(100), b"small", bytes(200)):
            producer.produce(world.topic, value=value, headers=headers)
            assert headers == given
    # a full queue raises with the frame in its hand, and the same headers are given again meanwhile
    full = SerializingProducer(
        {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 1, "value.serializer": kas3.ClaimCheckSerializer(claims)}
    )
    headers = [("mine", b"1")]
    full.produce(world.topic, value=bytes(100), headers=headers)
    for _ in range(2):
        try:
            full.produce(world.topic, value=bytes(100), headers=headers)
        except BufferError:
            with pytest.raises(BufferError):
                full.produce(world.topic, value=bytes(100), headers=headers)
    assert headers == [("mine", b"1")]
    full.purge()
    # by hand the mark is there as long as the value is
    serialize, headers = kas3.ClaimCheckSerializer(claims), [("mine", b"1")]
    by_hand = Producer({"bootstrap.servers": world.kafka})
    by_hand.produce(world.topic, serialize(bytes(300), SerializationContext(world.topic, MessageField.VALUE, headers)), headers=headers)
    assert headers == [("mine", b"1")] and producer.flush(30) == by_hand.flush(30) == 0
    with kas3.S3Consumer(world.consumer(prefix="claims")) as consumer:
        consumer.subscribe([world.topic])
        records = [consumer.poll_record(30) for _ in range(10)]
    assert sorted(len(record.payload) for record in records) == [5] * 3 + [100] * 3 + [200] * 3 + [300]
    assert {record.headers for record in records} == {(("mine", b"1"),), ()}


def test_the_calls_of_asyncio_are_the_same(world):
    async def run():
        async with aio.S3Producer(world.producer(kafka={"transactional.id": world.name})) as producer:
            await producer.init_transactions()
            await producer.begin_transaction()
            await producer.produce(world.topic, b"aborted")
            await producer.abort_transaction()
            await producer.begin_transaction()
            await asyncio.gather(*(producer.produce(world.topic, str(number).encode()) for number in range(4)))
            await producer.commit_transaction()
            assert world.topic in (await producer.list_topics()).topics
        here = TopicPartition(world.topic, 0)
        async with aio.S3Consumer(world.consumer(kafka={"isolation.level": "read_committed"})) as consumer:
            consumer.subscribe([world.topic])
            messages = await consumer.consume(2, 30)
            assert [message.value() for message in messages] == [b"0", b"1"]
            assert (await consumer.position([here]))[0].offset == messages[-1].offset() + 1
            await consumer.pause([here])
            assert await consumer.poll(0.5) is None
            await consumer.resume([here])
            assert [message.value() for message in await consumer.consume(2, 30)] == [b"2", b"3"]
            assert (await consumer.get_watermark_offsets(here))[0] == 0
            await consumer.seek(here._replace(offset=messages[0].offset()))
            assert await consumer.poll(30) == b"0"
            assert (await consumer.commit())[0].offset == messages[0].offset() + 1
            assert (await consumer.committed([here]))[0].offset == messages[0].offset() + 1

    asyncio.run(asyncio.wait_for(run(), 90))
