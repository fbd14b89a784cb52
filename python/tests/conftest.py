"""The real services, and fresh names on them."""

import itertools
import json
import os
import re
import time

import boto3
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

_names = itertools.count()


def _needed(name):
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set: run `make wheel-test`, or the tests under `dev/services run`", pytrace=False)
    return value


class World:
    """A topic and a bucket of a test's own, and what is needed to look at both without kas3."""

    def __init__(self, kafka, admin, s3, hint):
        self.kafka, self.admin, self.s3 = kafka, admin, s3
        self.name = f"py-{hint}-{os.getpid()}-{next(_names)}"
        self.topics = []
        self.topic = self.new_topic()
        self.bucket = self.name
        s3.create_bucket(Bucket=self.bucket)

    def new_topic(self, partitions=1):
        name = self.name if not self.topics else f"{self.name}-{len(self.topics)}"
        self.admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
        self.topics.append(name)
        return name

    def producer(self, hooks=None, kafka=None, **s3):
        """A configuration for producers of both packages."""
        told = {"bucket": self.bucket, "endpoint_url": os.environ["S3_ENDPOINT_URL"], **s3}
        return {"kafka": {"bootstrap.servers": self.kafka, **(kafka or {})}, "s3": told, "hooks": hooks or {}}

    def consumer(self, hooks=None, kafka=None, **s3):
        """A configuration for consumers of both packages, each with a group of its own."""
        group = {"group.id": f"{self.name}-{next(_names)}", "auto.offset.reset": "earliest"}
        return self.producer(hooks, {**group, **(kafka or {})}, **s3)

    def keys(self):
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def put(self, value, key=None, headers=None, topic=None):
        """Sends a record as it is."""
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(topic or self.topic, value, key, headers=headers)
        assert producer.flush(30) == 0

    def records(self, count, topic=None):
        """Reads records as they are."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": f"{self.name}-{next(_names)}", "auto.offset.reset": "earliest"})
        consumer.subscribe([topic or self.topic])
        try:
            return [_got(consumer) for _ in range(count)]
        finally:
            consumer.close()

    def letters(self, count, topic):
        return [json.loads(record.value()) for record in self.records(count, topic)]

    def committed(self, group):
        from confluent_kafka import TopicPartition

        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": group})
        try:
            return consumer.committed([TopicPartition(self.topic, 0)], 30)[0].offset
        finally:
            consumer.close()

    def close(self):
        for key in self.keys():
            self.s3.delete_object(Bucket=self.bucket, Key=key)
        self.s3.delete_bucket(Bucket=self.bucket)
        for future in self.admin.delete_topics(self.topics).values():
            future.exception(30)


def _got(consumer):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        record = consumer.poll(1.0)
        if record is not None and record.error() is None:
            return record
    raise AssertionError("no record came within 30 s")


def poll_until(consumer, seconds=30):
    """The next payload of either package's consumer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        payload = consumer.poll(timeout=1.0)
        if payload is not None:
            return payload
    raise AssertionError(f"no payload came within {seconds} s")


@pytest.fixture(scope="session")
def kafka():
    return _needed("KAFKA_BOOTSTRAP_SERVERS")


@pytest.fixture(scope="session")
def s3():
    return boto3.client("s3", endpoint_url=_needed("S3_ENDPOINT_URL"))


@pytest.fixture(scope="session")
def admin(kafka):
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture
def world(kafka, admin, s3, request):
    hint = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:24].strip("-")
    made = World(kafka, admin, s3, hint)
    yield made
    made.close()
