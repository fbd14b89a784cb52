"""Errors: their classes, their shape, and that they travel."""

import copy
import pickle
import subprocess
import sys

import confluent_kafka
import pytest

import kas3

CLOSED = "http://127.0.0.1:1"


def undelivered(world, **parts):
    failed = []
    with kas3.S3Producer(world.producer(kafka={"message.timeout.ms": 10_000})) as producer:
        producer.produce(world.topic, parts.pop("payload", b"payload"), on_delivery=lambda error, message: failed.append((error, message)), **parts)
    return failed[0]


def test_errors_survive_pickling_and_copying(world):
    error, message = undelivered(world, partition=99)
    producer = kas3.S3Producer(world.producer(endpoint_url=CLOSED, storage={"max_attempts": 1}))
    producer.produce(world.topic, bytes(1_000_000))
    with pytest.raises(kas3.TransientError) as refused:
        producer.flush()
    producer.close()
    with pytest.raises(kas3.ConfigError) as config:
        kas3.S3Producer(world.producer(kafka={"no.such.property": 1}))
    for first in (error, refused.value, config.value):
        for again in (pickle.loads(pickle.dumps(first)), copy.copy(first), copy.deepcopy(first)):
            assert type(again) is type(first) and str(again) == str(first) and again.hint == first.hint and again.certain == first.certain
            assert (again.code(), again.name(), again.fatal(), again.retriable()) == (first.code(), first.name(), first.fatal(), first.retriable())
            assert getattr(again, "__notes__", None) == getattr(first, "__notes__", None)
    assert isinstance(pickle.loads(pickle.dumps(error)), confluent_kafka.KafkaException)
    again = pickle.loads(pickle.dumps(message))
    assert str(again.error()) == str(error) and again.topic() == world.topic
    # what a consumer raises for a record carries the record
    world.put(f'{{"s3_bucket": "{world.bucket}", "s3_key": "k", "sha256": null}}', key="key")
    with kas3.S3Consumer(world.consumer()) as consumer:
        consumer.subscribe([world.topic])
        with pytest.raises(kas3.DataIntegrityError) as untrusted:
            while True:
                consumer.poll(1.0)
    again = pickle.loads(pickle.dumps(untrusted.value))
    assert (again.reason, again.topic, again.offset, again.key) == ("missing_checksum", world.topic, 0, b"key")


def test_errors_of_kafka_have_the_shape_of_confluent_kafka(world):
    error, _ = undelivered(world, partition=99)
    assert isinstance(error, kas3.MissingError) and isinstance(error, kas3.KafkaException)
    assert (error.code(), error.name()) == (confluent_kafka.KafkaError._UNKNOWN_PARTITION, "_UNKNOWN_PARTITION")
    assert (error.fatal(), error.retriable(), error.txn_requires_abort()) == (False, False, False)
    theirs = error.args[0]
    assert isinstance(theirs, confluent_kafka.KafkaError)
    assert (theirs.code(), theirs.name(), theirs.fatal(), theirs.retriable()) == (error.code(), error.name(), False, False)
    assert error.str() == str(error) and error.hint
    with kas3.S3Producer(world.producer(kafka={"message.timeout.ms": 300, "bootstrap.servers": "127.0.0.1:1"})) as producer:
        failed = []
        producer.produce(world.topic, b"payload", on_delivery=lambda error, message: failed.append(error))
    assert isinstance(failed[0], kas3.TransientError) and failed[0].name() == "_MSG_TIMED_OUT" and failed[0].retriable()
    # of an error that is not Kafka's the same can be asked
    own = kas3.ConfigError("a setting", hint="correct it")
    assert (own.code(), own.name(), own.fatal(), own.retriable(), own.str()) == (None, "config", False, False, "a setting")


@pytest.mark.parametrize("topic", ["", "a\0b", "a" * 250])
def test_a_name_that_no_topic_can_have_is_an_error_everywhere_and_never_the_end(world, topic):
    """In a process of its own: what is tested for is that it goes on."""
    program = f"""
import kas3
topic, here = {topic!r}, kas3.TopicPartition({topic!r}, 0, 0)
with kas3.S3Producer({world.producer()!r}) as producer, kas3.S3Consumer({world.consumer()!r}) as consumer:
    consumer.subscribe([{world.topic!r}])
    for call in (
        lambda: producer.produce(topic, b"payload"),
        lambda: producer.produce(topic, bytes(1_000_000)),
        lambda: producer.produce_tombstone(topic, b"key"),
        lambda: producer.produce_file(topic, __file__ if "__file__" in globals() else "/etc/hostname"),
        lambda: producer.list_topics(topic),
        lambda: consumer.subscribe([topic]),
        lambda: consumer.assign([here]),
        lambda: consumer.seek(here),
        lambda: consumer.pause([here]),
        lambda: consumer.committed([here]),
        lambda: consumer.commit(offsets=[here], asynchronous=False),
        lambda: consumer.offsets_for_times([here]),
        lambda: consumer.get_watermark_offsets(here),
        lambda: consumer.get_watermark_offsets(here, cached=True),
        lambda: consumer.list_topics(topic),
    ):
        try:
            call()
        except kas3.RecordError as error:
            assert "topic" in str(error), error
        else:
            raise AssertionError("nothing was said")
    try:
        producer.produce({world.topic!r}, b"payload", headers=[("a\\0", b"1")])
    except kas3.RecordError as error:
        assert "header" in str(error)
    producer.produce({world.topic!r}, b"after all")
    assert producer.flush() == 0
with kas3.KafS3Producer(offline=True) as producer:
    try:
        producer.send(topic, value=b"payload")
    except kas3.RecordError:
        print("fine")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and done.stdout == "fine\n", (done.returncode, done.stderr)
