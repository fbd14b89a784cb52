"""Drives the commands of the claim check from outside, and reads topics and payloads without them."""

import contextlib
import hashlib
import json
import os
import subprocess
import time

from confluent_kafka import Consumer, Producer, TopicPartition

from e2e.driver import CLASSIC, RUN_SECONDS, Worker, wait_for
from services import fresh_name

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")
PREFIX = "payloads"


class Claims:
    """Settings and the commands that take them. `settings` is the tree of the file, to be changed as a test likes."""

    def __init__(self, folder, kafka, s3, bucket, topic):
        self.folder, self.s3, self.bucket, self.topic = folder, s3, bucket, topic
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.environment = {key: os.environ[key] for key in CREDENTIALS if key in os.environ}
        self.settings = {
            "topic": topic,
            "claim_check": {
                "url": f"s3://{bucket}/{PREFIX}",
                "storage": {"endpoint": os.environ["S3_ENDPOINT_URL"], "region": "us-east-1", "allow_http": True},
                "max_inline_bytes": 1000,
            },
            "kafka": {"bootstrap.servers": kafka, "group.id": fresh_name("group"), **CLASSIC},
        }

    @property
    def kafka(self):
        return self.settings["kafka"]["bootstrap.servers"]

    def start(self, command, *arguments, kill=None, stdin=subprocess.DEVNULL, **environment):
        """Starts a command on the settings."""
        file = self.folder / "claims.yaml"
        file.write_text(json.dumps(self.settings, indent=1))
        command = command.split()
        return Worker([*command, file, *arguments], self.logs, kill, {**self.environment, **environment}, stdin)

    def run(self, command, *arguments, code=0, kill=None, lines=None, seconds=RUN_SECONDS, **environment):
        """Runs a command to its end and checks the exit code; `lines` are its standard input."""
        source = contextlib.nullcontext(subprocess.DEVNULL) if lines is None else self._file(lines).open("rb")
        with source as stdin, self.start(command, *arguments, kill=kill, stdin=stdin, **environment) as worker:
            finished = worker.wait(seconds)
        assert finished.code == code, f"`kas3 {command}` ended with {finished.code}, not {code}:\n{finished.stderr[-6000:]}\n{finished.stdout[-3000:]}"
        return finished

    def _file(self, lines):
        path = self.folder / "stdin"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    def produce(self, payloads):
        """Sends payloads without newlines, in order."""
        return self.run("produce", lines=payloads)

    def consume(self, *arguments, code=0, **options):
        """The JSON lines of all that the group has not consumed yet."""
        finished = self.run("consume", "--until-end", "--json", *arguments, code=code, **options)
        return [json.loads(line) for line in finished.stdout.splitlines()]

    def gc(self, *arguments, code=0):
        """`payloads gc --json` without a grace period: the orphans by key, and the counts."""
        finished = self.run("payloads gc", "--json", "--force", "--grace", "0s", *arguments, code=code)
        *orphans, counts = [json.loads(line) for line in finished.stdout.splitlines()]
        return {orphan["key"]: orphan for orphan in orphans}, counts

    def verify(self, *arguments, code=0):
        """`payloads verify --json`: the problems, and the counts."""
        finished = self.run("payloads verify", "--json", *arguments, code=code)
        *problems, counts = [json.loads(line) for line in finished.stdout.splitlines()]
        return problems, counts

    def keys(self):
        """Keys of all payloads."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    def put(self, key, body, **options):
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **options)

    def body(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def records(self, topic=None, isolation="read_uncommitted"):
        """All records of a topic as Kafka has them."""
        return records(self.kafka, topic or self.topic, isolation)


def records(kafka, topic, isolation="read_uncommitted"):
    settings = {"bootstrap.servers": kafka, "group.id": fresh_name("reader"), "isolation.level": isolation}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "enable.partition.eof": True})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    found, open_partitions, deadline = [], set(partitions), time.monotonic() + 60
    while open_partitions:
        assert time.monotonic() < deadline, "a topic could not be read to its end"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            open_partitions.discard(message.partition())
        else:
            found.append(message)
    consumer.close()
    return found


def reference_of(message):
    """The reference in a record of kas3's own format, or None."""
    marked = dict(message.headers() or []).get("kas3-claim-check")
    return json.loads(message.value()) if marked else None


def copy(message, producer, topic, key=None):
    """Sends a record as it stands, reference and all, to another topic."""
    producer.produce(topic, message.value(), key=key or message.key(), headers=message.headers())


def transactional(kafka, name, topic, messages, end):
    """Sends records in a transaction and ends it by `end`: `commit_transaction`, `abort_transaction`, or None, which leaves it open."""
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": fresh_name(name), "transaction.timeout.ms": 300_000})
    producer.init_transactions(30)
    producer.begin_transaction()
    for message in messages:
        copy(message, producer, topic)
    producer.flush(30)
    if end:
        getattr(producer, end)(30)
    return producer


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def committed(kafka, group, topic, partition=0):
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    [answer] = consumer.committed([TopicPartition(topic, partition)], 30)
    consumer.close()
    return answer.offset


__all__ = ["PREFIX", "Claims", "committed", "copy", "digest", "records", "reference_of", "transactional", "wait_for"]
