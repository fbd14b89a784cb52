#!/usr/bin/env python3
"""load.py TOPIC RECORDS [PARTITIONS] [BYTES]: fills a topic (lz4) with JSON web events of about 192 bytes and a unique id
0..RECORDS-1 each; with BYTES, with records of that size instead. Broker: KAFKA_BOOTSTRAP_SERVERS.

The events are those of the peers' figures in docs/performance.md: the same seed gives the same bytes."""

import os
import random
import sys
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

PATHS = [f"/products/{i}" for i in range(100, 900)] + [f"/search?q={w}" for w in ("shoes", "lamp", "phone+case", "desk", "coffee")]
PATHS += ["/cart", "/checkout", "/", "/account/orders", "/api/v1/recommendations?limit=20"]
COUNTRIES = ["DE", "US", "FR", "GB", "JP", "BR", "IN", "SE", "PL", "ES", "IT", "CA"]
STATUSES = [200] * 88 + [301, 302, 304, 304, 400, 401, 404, 404, 404, 500, 502, 503]
EVENT = (
    '{"id":%d,"ts":%d,"user":"u-%08x-%04x","session":"%016x","url":"https://shop.example.com%s","status":%d,"latency":%.3f,"country":"%s","bytes":%d}'
)


def events(records):
    """JSON web events of about 192 bytes."""
    r = random.Random(42)
    ts = 1_790_000_000_000
    for i in range(records):
        ts += r.getrandbits(3)
        user = (r.getrandbits(20) * 2654435761 & 0xFFFFFFFF, r.getrandbits(16))
        rest = (r.getrandbits(64), r.choice(PATHS), r.choice(STATUSES), r.expovariate(0.02), r.choice(COUNTRIES), r.getrandbits(16))
        yield (EVENT % (i, ts, *user, *rest)).encode()


def spread(records, keys):
    """The same events with a field `k` that has `keys` values, in no order."""
    r = random.Random(43)
    for event in events(records):
        yield event[:-1] + b',"k":%d}' % r.randrange(keys)


def sized(records, size):
    """JSON of `size` bytes each: a unique id, and a text cut from 32 MB of events, so that large records compress as events do."""
    if size < 32:
        for i in range(records):
            yield b'{"id":%d,"t":0}' % i if size > 18 else b'{"id":%d}' % i
        return
    r = random.Random(42)
    pool = b"".join(events(170_000)).replace(b'"', b"'")
    for i in range(records):
        head = b'{"id":%d,"t":"' % i
        room = size - len(head) - 2
        start = r.randrange(len(pool) - room)
        yield head + pool[start : start + room] + b'"}'


def load(broker, topic, records, partitions=4, size=None, keys=None):
    """Makes the topic and fills it: 500 records in a row go to one partition."""
    admin = AdminClient({"bootstrap.servers": broker})
    config = {"compression.type": "producer", "retention.ms": "-1", "message.timestamp.type": "CreateTime"}
    for future in admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values():
        future.result()
    settings = {"bootstrap.servers": broker, "compression.type": "lz4", "linger.ms": 50, "batch.size": 131072, "batch.num.messages": 2000}
    producer = Producer({**settings, "queue.buffering.max.messages": 200000, "queue.buffering.max.kbytes": 262144, "acks": "all"})
    values = spread(records, keys) if keys else events(records) if size is None else sized(records, size)
    run = 500 if partitions <= 64 else 50
    for i, value in enumerate(values):
        while True:
            try:
                producer.produce(topic, value, partition=i // run % partitions)
                break
            except BufferError:
                producer.poll(0.05)
        if not i % 2000:
            producer.poll(0)
    if producer.flush(300):
        raise SystemExit("not everything was delivered")


if __name__ == "__main__":
    started = time.time()
    numbers = [int(argument) for argument in sys.argv[2:]]
    load(os.environ["KAFKA_BOOTSTRAP_SERVERS"], sys.argv[1], *numbers)
    print(f"{numbers[0]} records in {time.time() - started:.1f} s")
