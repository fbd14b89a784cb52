"""What a producer does besides sending payloads."""

import json

import pytest

import kas3

CLOSED = "http://127.0.0.1:1"


def test_produce_does_not_wait_for_uploads_and_records_keep_their_order(world):
    delivered = []
    with kas3.S3Producer(world.producer()) as producer:
        for number in range(30):
            size = 2_000_000 if number % 3 == 0 else 10
            producer.produce(
                world.topic, number.to_bytes(4, "big") + bytes(size), on_delivery=lambda error, message: delivered.append((error, message.offset()))
            )
        # the store cannot have answered all of them yet, and nobody waited
        assert len(producer) > 0
        assert producer.flush() == 0 == len(producer)
    assert delivered == [(None, offset) for offset in range(30)]
    with kas3.S3Consumer(world.consumer()) as consumer:
        consumer.subscribe([world.topic])
        records = iter(consumer)
        assert [int.from_bytes(next(records).payload[:4], "big") for _ in range(30)] == list(range(30))


def test_hooks_hear_of_every_record(world):
    events = []
    with kas3.S3Producer(world.producer({"metrics": lambda event, data: events.append((event, data))})) as producer:
        producer.produce(world.topic, b"inline")
        producer.produce(world.topic, bytes(1_000_000))
    assert [event for event, _ in events] == ["produce_inline", "produce_delivered", "produce_offloaded", "produce_delivered"]
    assert events[0][1] == {"topic": world.topic, "bytes": 6}
    assert events[2][1] == {"topic": world.topic, "bytes": 1_000_000, "s3_key": world.keys()[0]}
    assert events[3][1] == {"topic": world.topic, "partition": 0, "offset": 1}


def test_a_file_is_sent_as_a_payload(world, tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(bytes(range(256)) * 50_000)
    with kas3.S3Producer(world.producer()) as producer:
        producer.produce_file(world.topic, path, key="file", content_type="application/x-test")
    assert world.s3.head_object(Bucket=world.bucket, Key=world.keys()[0])["ContentType"] == "application/x-test"
    with kas3.S3Consumer(world.consumer()) as consumer:
        consumer.subscribe([world.topic])
        assert next(iter(consumer)).payload == path.read_bytes()


def test_a_payload_that_is_none_or_too_large_is_refused_as_a_value_error(world):
    with kas3.S3Producer(world.producer(max_payload_bytes=100, max_inline_bytes=10)) as producer:
        for payload in ("text", None, 7, bytes(101)):
            with pytest.raises(ValueError):
                producer.produce(world.topic, payload)
        with pytest.raises(kas3.RecordError, match="kas3-claim-check"):
            producer.produce(world.topic, b"payload", headers={"kas3-claim-check": "1"})
    assert world.keys() == []


def test_a_delivery_that_certainly_failed_takes_its_payload_back_and_tells_the_dead_letters(world):
    failed, events, letters = [], [], world.new_topic()
    config = world.producer({"metrics": lambda event, data: events.append((event, data))}, {"dlq_topic": letters, "message.timeout.ms": 10_000})
    with kas3.S3Producer(config) as producer:
        producer.produce(world.topic, bytes(1_000_000), partition=99, on_delivery=lambda error, message: failed.append((error, message)))
    error, message = failed[0]
    assert isinstance(error, kas3.KafkaException) and error.certain and message.reference.bucket == world.bucket
    assert events[-1] == ("produce_error", {"error": str(error), "s3_key": message.reference.key})
    letter = world.letters(1, letters)[0]
    assert letter["error"] == str(error) and letter["reference"]["s3_key"] == message.reference.key
    for _ in range(50):
        if not world.keys():
            break
        events.append(world.s3.list_buckets())
    assert world.keys() == []


def test_a_payload_that_the_store_refuses_is_raised_unless_its_callback_heard_of_it(world):
    heard = []
    config = world.producer(endpoint_url=CLOSED, storage={"max_attempts": 1})
    with kas3.S3Producer(config) as producer:
        producer.produce(world.topic, bytes(1_000_000), on_delivery=lambda error, message: heard.append(error))
        assert producer.flush() == 0 and isinstance(heard[0], kas3.TransientError)
        producer.produce(world.topic, bytes(1_000_000))
        with pytest.raises(kas3.TransientError):
            producer.flush()
        producer.produce(world.topic, b"small ones still go")
        assert producer.flush() == 0
    assert world.records(1)[0].value() == b"small ones still go"


def test_a_full_queue_is_a_buffer_error_after_the_time_to_wait(world):
    full = []
    kafka = {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 1}
    producer = kas3.S3Producer(world.producer({"metrics": lambda event, data: full.append(event)}, kafka, produce_timeout=0.1))
    producer.produce(world.topic, b"1")
    with pytest.raises(BufferError) as raised:
        producer.produce(world.topic, b"2")
    assert isinstance(raised.value, kas3.QueueFull) and raised.value.hint and full == ["produce_queue_full"]
    assert producer.flush(0.1) == 1
    producer.close(0)


def test_a_transaction_shows_its_records_when_it_is_committed(world):
    with kas3.S3Producer(world.producer(kafka={"transactional.id": world.name})) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(world.topic, bytes(1_000_000))
        # its upload is still on the way: it must not end up in the next one
        producer.abort_transaction()
        producer.begin_transaction()
        producer.produce(world.topic, b"committed")
        producer.commit_transaction()
    with kas3.S3Consumer(world.consumer(kafka={"isolation.level": "read_committed"})) as consumer:
        consumer.subscribe([world.topic])
        assert next(iter(consumer)).payload == b"committed"


def test_a_transaction_with_a_payload_that_was_not_stored_is_not_committed(world):
    config = world.producer(kafka={"transactional.id": world.name}, endpoint_url=CLOSED, storage={"max_attempts": 1})
    heard = []
    with kas3.S3Producer(config) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(world.topic, b"a part")
        producer.produce(world.topic, bytes(1_000_000), on_delivery=lambda error, message: heard.append(error))
        with pytest.raises(kas3.TransientError, match="not committed"):
            producer.commit_transaction()
        producer.abort_transaction()
        producer.begin_transaction()
        producer.produce(world.topic, b"the next one")
        producer.commit_transaction()
    assert len(heard) == 1
    with kas3.S3Consumer(world.consumer(kafka={"isolation.level": "read_committed"})) as consumer:
        consumer.subscribe([world.topic])
        assert next(iter(consumer)).payload == b"the next one"


def test_callbacks_of_confluent_kafka_that_nobody_would_call_are_refused(world):
    with pytest.raises(kas3.ConfigError, match="throttle_cb"):
        kas3.S3Producer(world.producer(kafka={"throttle_cb": print}))
    with pytest.raises(kas3.ConfigError) as raised:
        kas3.S3Producer(world.producer(kafka={"no.such.property": 1}))
    assert "no.such.property" in str(raised.value)
    assert json.dumps(world.producer())  # the dictionary itself stays plain
