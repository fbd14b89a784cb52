#!/usr/bin/env python3
"""The floor: the sink that anyone writes in an hour. Consume, buffer per partition, gzip, put, commit: at least once.

Environment: KAFKA_BOOTSTRAP_SERVERS, S3_ENDPOINT_URL, RUN_NAME (bucket and group), TOPIC, BATCH (records of a file), AWS keys."""

import os
import signal
import time
import zlib

import boto3
from botocore.config import Config
from confluent_kafka import Consumer, TopicPartition

bucket, topic = os.environ["RUN_NAME"], os.environ["TOPIC"]
batch, age = int(os.environ.get("BATCH", 50_000)), 10
s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT_URL"], region_name="us-east-1", config=Config(s3={"addressing_style": "path"}))
buffers, running = {}, True
broker = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "group.id": bucket}
consumer = Consumer({**broker, "auto.offset.reset": "earliest", "enable.auto.commit": False, "queued.min.messages": 200000})
consumer.subscribe([topic], on_revoke=lambda c, partitions: buffers.clear())


def stop(*_):
    global running
    running = False


def flush(partition):
    first, _, values = buffers.pop(partition)
    z = zlib.compressobj(6, zlib.DEFLATED, 31)
    body = z.compress(b"\n".join(values) + b"\n") + z.flush()
    s3.put_object(Bucket=bucket, Key=f"{topic}/{partition}/{first:012d}.jsonl.gz", Body=body)
    consumer.commit(offsets=[TopicPartition(topic, partition, first + len(values))], asynchronous=False)


signal.signal(signal.SIGTERM, stop)
while running:
    for m in consumer.consume(5000, 0.5):
        if m.error():
            continue
        values = buffers.setdefault(m.partition(), (m.offset(), time.time(), []))[2]
        values.append(m.value())
        if len(values) >= batch:
            flush(m.partition())
    for p in [p for p, b in buffers.items() if time.time() - b[1] > age]:
        flush(p)
consumer.close()
