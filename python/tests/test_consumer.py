"""What a consumer does besides giving payloads."""

import threading

import pytest
import s3_connector
from conftest import poll_until

import kas3


def send(world, *payloads, **options):
    with kas3.S3Producer(world.producer(max_inline_bytes=0, **options)) as producer:
        for payload in payloads:
            producer.produce(world.topic, payload)


def test_a_record_comes_with_all_that_its_sender_gave_it(world):
    with kas3.S3Producer(world.producer()) as producer:
        producer.produce(world.topic, bytes(1_000_000), "key", headers=[("a", b"1"), ("a", None)], timestamp=1_700_000_000_000)
        producer.produce(world.topic, b"inline", headers={"b": "text"}, partition=0)
        producer.produce_tombstone(world.topic, b"key")
    with kas3.S3Consumer(world.consumer()) as consumer:
        consumer.subscribe([world.topic])
        records = iter(consumer)
        large, inline, tombstone = next(records), next(records), next(records)
    assert (large.topic, large.partition, large.offset, large.key, large.timestamp) == (world.topic, 0, 0, b"key", 1_700_000_000_000)
    assert large.payload == large.value == bytes(1_000_000) and large.headers == (("a", b"1"), ("a", None))
    assert large.reference.url == f"s3://{world.bucket}/{world.keys()[0]}"
    assert (inline.payload, inline.reference, inline.header("b")) == (b"inline", None, b"text")
    assert (tombstone.payload, tombstone.key, tombstone.offset) == (None, b"key", 2)
    with pytest.raises(AttributeError):
        large.payload = b"another"


def test_payloads_are_deleted_once_their_offsets_are_committed_and_shared_ones_never(world):
    send(world, b"1", b"2", b"3")
    send(world, b"shared", deterministic_keys=True)
    config = world.consumer(kafka={"enable.auto.commit": False}, delete_after_consume=True)
    with kas3.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic])
        first = next(iter(consumer))
        assert [poll_until(consumer) for _ in range(3)] == [b"2", b"3", b"shared"]
        assert len(world.keys()) == 4
        assert consumer.commit(first) is None and len(world.keys()) == 3
        assert [place.offset for place in consumer.commit(asynchronous=False)] == [4]
    assert len(world.keys()) == 1
    assert world.committed(config["kafka"]["group.id"]) == 4


def test_closing_deletes_nothing_that_was_not_committed(world):
    send(world, b"1")
    config = world.consumer(kafka={"enable.auto.commit": False}, delete_after_consume=True)
    for _ in range(2):
        with kas3.S3Consumer(config) as consumer:
            consumer.subscribe([world.topic])
            assert poll_until(consumer) == b"1"
    assert len(world.keys()) == 1


def test_rebalance_callbacks_get_the_consumer_and_its_partitions_and_may_commit(world):
    send(world, b"1", b"2")
    config = world.consumer(kafka={"enable.auto.commit": False})
    told = []

    def revoked(consumer, partitions):
        told.append(("revoked", [(place.topic, place.partition) for place in partitions]))
        consumer.commit(asynchronous=False)

    with kas3.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic], on_assign=lambda consumer, places: told.append(("assigned", places[0].topic)), on_revoke=revoked)
        assert poll_until(consumer) == b"1"
        assert [place.partition for place in consumer.assignment()] == [0]
    assert told == [("assigned", world.topic), ("revoked", [(world.topic, 0)])]
    assert world.committed(config["kafka"]["group.id"]) == 1


def test_what_a_rebalance_callback_raises_poll_raises_and_no_record_is_lost(world):
    send(world, b"1")

    def assigned(_consumer, _places):
        raise RuntimeError("of the callback")

    with kas3.S3Consumer(world.consumer()) as consumer:
        consumer.subscribe([world.topic], on_assign=assigned)
        with pytest.raises(RuntimeError, match="of the callback"):
            while True:
                assert consumer.poll(1.0) is None
        assert poll_until(consumer) == b"1"


def test_what_was_processed_before_a_crash_is_not_lost_by_automatic_commits(world):
    send(world, b"1", b"2")
    config = world.consumer()
    with kas3.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic])
        assert poll_until(consumer) == b"1"
    with kas3.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic])
        assert poll_until(consumer) == b"2"
        consumer.seek(kas3.TopicPartition(world.topic, 0, 0))
        assert poll_until(consumer) == b"1"


def test_other_threads_of_python_go_on_while_a_poll_waits(world):
    went_on, begun = threading.Event(), threading.Event()

    def work():
        begun.wait()
        sum(number for number in range(200_000))
        went_on.set()

    thread = threading.Thread(target=work)
    thread.start()
    with kas3.S3Consumer(world.consumer()) as consumer:
        consumer.subscribe([world.topic])
        begun.set()
        # it returns as soon as nothing came; the other thread had all that time
        assert consumer.poll(2.0) is None
        assert went_on.is_set()
    thread.join()


def test_a_closed_consumer_says_so(world):
    consumer = kas3.S3Consumer(world.consumer())
    consumer.close()
    consumer.close()
    with pytest.raises(kas3.FatalError, match="closed"):
        consumer.poll(0)


@pytest.mark.parametrize("beside", [kas3, s3_connector])
def test_two_consumers_of_one_group_share_a_topic_also_with_one_of_the_old_package(world, beside):
    topic = world.new_topic(partitions=2)
    config = world.consumer(kafka={"enable.auto.commit": False})
    sent, got = [], {}
    with kas3.S3Producer(world.producer(max_inline_bytes=0)) as producer, kas3.S3Consumer(config) as first, beside.S3Consumer(config) as second:
        first.subscribe([topic])
        second.subscribe([topic])
        # until each has a partition of its own, and has everything of it
        while len(got) < 2 or len(set().union(*got.values())) < len(sent):
            if len(got) < 2 and len(sent) < 1000:
                for partition in (0, 1):
                    sent.append(str(len(sent)).encode())
                    producer.produce(topic, sent[-1], partition=partition)
                producer.flush()
            for consumer in (first, second):
                payload = consumer.poll(0.1)
                if payload is not None:
                    got.setdefault(consumer, set()).add(payload)
    assert set().union(*got.values()) == set(sent)
