"""Kafka's side of the comparison: records whose values are all different, and the log that a committed reader sees."""

import itertools
import os
import random
import threading
import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

_counter = itertools.count()


class Entry(NamedTuple):
    """One record of the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple


def unique_value(rng, padding=0, **fields):
    """A JSON object that no other call in this or another process returns. `padding` bytes of it do not compress."""
    id = f"{os.getpid()}-{next(_counter)}-{rng.getrandbits(48):012x}"
    rest = "".join(f',"{name}":"{value}"' for name, value in fields.items())
    return f'{{"id":"{id}"{rest},"pad":"{rng.randbytes(padding // 2).hex()}"}}'.encode()


def producer(bootstrap, **properties):
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "enable.idempotence": True, "message.max.bytes": 10_000_000, **properties})


def produce(bootstrap, topic, count, partitions=1, seed=1, padding=40, fields=None, key=None, timestamp_ms=None, value=None):
    """Produces `count` records in a seeded order of partitions and returns how many were delivered to each partition.

    `fields(i)`, `key(i)`, `timestamp_ms(i)` and `value(i)` say what the i-th record holds; without them values are JSON
    objects of about 60 + `padding` bytes, keys are null and the time is the producer's.
    """
    rng, failures, delivered = random.Random(f"{seed}-{topic}"), [], [0] * partitions

    def report(error, message):
        if error:
            failures.append(error)
        else:
            delivered[message.partition()] += 1

    client = producer(bootstrap)
    for i in range(count):
        options = {"timestamp": timestamp_ms(i)} if timestamp_ms else {}
        body = value(i) if value else unique_value(rng, padding, **(fields(i) if fields else {}))
        _send(client, topic, body, rng.randrange(partitions), key(i) if key else None, report, options)
    if client.flush(60) or failures:
        raise AssertionError(f"could not produce to {topic}: {failures[:3]}")
    return delivered


def _send(client, topic, value, partition, key, report, options):
    while True:
        try:
            client.produce(topic, value, key, partition, on_delivery=report, **options)
            client.poll(0)
            return
        except BufferError:
            client.poll(0.05)


def produce_transactions(bootstrap, topic, transactions, records_each, partitions=1, seed=1, abort_every=3, padding=40):
    """Produces transactions, every `abort_every`-th of which is aborted; 1 aborts all of them."""
    rng = random.Random(f"{seed}-{topic}")
    client = producer(bootstrap, **{"transactional.id": f"{topic}-{rng.getrandbits(32):x}"})
    client.init_transactions(30)
    for transaction in range(1, transactions + 1):
        client.begin_transaction()
        for _ in range(records_each):
            _send(client, topic, unique_value(rng, padding, transaction=transaction), rng.randrange(partitions), None, None, {})
        # An aborted transaction counts only when its records really are in the log.
        client.flush(30)
        if transaction % abort_every == 0:
            client.abort_transaction(30)
        else:
            client.commit_transaction(30)


class Stream(threading.Thread):
    """Produces until it is stopped, a few records at a time, for runs in which records arrive while things go wrong."""

    def __init__(self, bootstrap, topic, partitions, records_per_second=2000, seed=1, padding=40, fields=None):
        super().__init__(daemon=True)
        self._arguments = (bootstrap, topic, partitions, records_per_second, padding, fields)
        self._rng = random.Random(f"{seed}-{topic}-stream")
        self._halt, self._failures = threading.Event(), []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._halt.set()
        self.join(60)
        if self._failures:
            raise AssertionError(f"could not produce: {self._failures[:3]}")

    def run(self):
        bootstrap, topic, partitions, rate, padding, fields = self._arguments
        client = producer(bootstrap)
        report = lambda error, _: error and self._failures.append(error)  # noqa: E731
        number, started = 0, time.monotonic()
        while not self._halt.wait(0.02):
            while number < (time.monotonic() - started) * rate:
                value = unique_value(self._rng, padding, **(fields(number) if fields else {}))
                _send(client, topic, value, self._rng.randrange(partitions), None, report, {})
                number += 1
        if client.flush(60):
            self._failures.append("flush timed out")


def read_committed(bootstrap, topic, timeout_seconds=60, partitions=None, keep=lambda entry: entry):
    """All records of `topic` that a committed reader sees, up to the last stable offset of this moment.

    Of logs that are too large to be held, take some `partitions` at a time, and `keep(entry)`, say with a digest as its value.
    """
    settings = {
        "bootstrap.servers": bootstrap, "group.id": "kas3-oracle", "enable.auto.commit": False, "isolation.level": "read_committed",
        "enable.partition.eof": True, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50, "fetch.message.max.bytes": 8_000_000,
    }
    consumer = Consumer(settings)
    try:
        found = consumer.list_topics(topic, 10).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        unfinished = set(found.partitions if partitions is None else partitions)
        consumer.assign([TopicPartition(topic, partition, _earliest(consumer, topic, partition)) for partition in unfinished])
        entries, deadline = [], time.monotonic() + timeout_seconds
        while unfinished:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: partitions {sorted(unfinished)} did not end within {timeout_seconds} s")
            for message in consumer.consume(5000, 0.2):
                error = message.error()
                if error is None:
                    entries.append(keep(_entry(message)))
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(message.partition())
                else:
                    raise KafkaException(error)
        return sorted(entries, key=lambda entry: (entry.partition, entry.offset))
    finally:
        consumer.close()


def _earliest(consumer, topic, partition):
    return consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[0]


def _entry(message):
    headers = tuple(message.headers() or ())
    return Entry(message.topic(), message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(), headers)
