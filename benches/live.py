"""Benchmarks against a stream: how long a record takes to become visible, and how long a dead worker's partitions wait."""

import gzip
import json
import re
import threading
import time

import ground
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from ground import KAFKA, KAS3, Process, say


class Stream:
    """Produces `rate` records a second, each with the moment of its making in milliseconds, until the block ends."""

    def __init__(self, topic, partitions, rate):
        self.topic, self.partitions, self.rate = topic, partitions, rate
        self.sent, self.behind_max_s, self.ending = 0, 0.0, threading.Event()

    def __enter__(self):
        admin = AdminClient({"bootstrap.servers": KAFKA})
        admin.create_topics([NewTopic(self.topic, self.partitions, 1)])[self.topic].result()
        settings = {"linger.ms": 5, "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000}
        self.producer = Producer({"bootstrap.servers": KAFKA, **settings})
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        self.producer.flush(60)

    def run(self):
        filler, started = "x" * 150, time.time()
        while not self.ending.is_set():
            now = time.time()
            due = int((now - started) * self.rate)
            stamp = int(now * 1000)
            while self.sent < due:
                partition = self.sent // 50 % self.partitions
                self.producer.produce(self.topic, b'{"id":%d,"ts":%d,"t":"%s"}' % (self.sent, stamp, filler.encode()), partition=partition)
                self.sent += 1
                if not self.sent % 2000:
                    # each record bears the time of its own making, also when the producer is late
                    now = time.time()
                    stamp = int(now * 1000)
            self.producer.poll(0)
            self.behind_max_s = max(self.behind_max_s, time.time() - now)
            time.sleep(0.005)


def begin(topic, kafka=None, **sink):
    """A bucket and the configuration of a pipeline on it."""
    s3 = ground.client()
    bucket = f"bench-live-{int(time.time() * 1000)}"
    s3.create_bucket(Bucket=bucket)
    source = {"topics": [topic], "group": bucket, "start": "earliest", "kafka": {"bootstrap.servers": KAFKA, **(kafka or {})}}
    return s3, bucket, ground.configuration(bucket, topic, source=source, sink=sink)


def latency(rate, seconds):
    """From a record's making to the LastModified of its file, in milliseconds, sorted; the first seconds are left out."""
    topic = f"bench-latency-{rate}-{int(time.time())}"
    s3, bucket, configuration = begin(topic, roll={"age": "1s"})
    with Stream(topic, 4, rate) as stream:
        worker = Process([KAS3, "run", configuration], log=f"{bucket}.log")
        time.sleep(seconds + 5)
    code, cpu = worker.stop()
    if code:
        raise SystemExit(f"kas3 ended with {code}; its log: {worker.log}")
    warm, found, records = worker.started * 1000 + 5000, [], 0
    for key, _, modified in ground.objects(s3, bucket):
        text = gzip.decompress(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        stamps = [int(stamp) for stamp in re.findall(rb'"ts":(\d+)', text)]
        records += len(stamps)
        found.extend(modified * 1000 - stamp for stamp in stamps if stamp > warm)
    if records != stream.sent:
        raise SystemExit(f"{records} of {stream.sent} records are visible")
    ground.clean(bucket)
    ground.delete_topic(topic)
    return sorted(found), stream, cpu


def latencies(options):
    print("### From produced to visible, `roll: {age: 1s}`, 4 partitions\n")
    print("| records/s | p50 ms | p99 ms | most ms | records | producer late by at most ms | CPU-s of kas3 per million |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rate in (10_000, 100_000):
        found, stream, cpu = latency(rate, options.seconds)
        at = lambda share: found[min(len(found) - 1, int(len(found) * share))]  # noqa: E731
        cells = [f"{rate:,}", f"{at(0.5):.0f}", f"{at(0.99):.0f}", f"{found[-1]:.0f}", f"{len(found):,}"]
        print("| " + " | ".join([*cells, f"{stream.behind_max_s * 1000:.0f}", f"{cpu / stream.sent * 1e6:.2f}"]) + " |", flush=True)


def failover(protocol, kafka):
    """Seconds from a SIGKILL of one of two workers to the first new file of the last of its 64 partitions."""
    topic = f"bench-failover-{int(time.time())}"
    s3, bucket, configuration = begin(topic, kafka, roll={"age": "1s"})
    workers = []
    with Stream(topic, 64, 5000):
        for _ in range(2):
            workers.append(Process([KAS3, "run", configuration], log=f"{bucket}-{len(workers)}.log"))
            time.sleep(4)
        time.sleep(8)
        killed = time.time()
        workers[0].process.kill()
        while True:
            newest = {}
            for key, _, modified in ground.objects(s3, bucket):
                partition = int(key.rsplit("/", 1)[1].split("_")[0])
                if modified > killed + 0.5:
                    newest[partition] = min(modified, newest.get(partition, modified))
            if len(newest) == 64:
                break
            if time.time() > killed + 120:
                raise SystemExit(f"{64 - len(newest)} partitions are not read again after two minutes")
            time.sleep(0.2)
    workers[1].stop()
    ground.clean(bucket)
    ground.delete_topic(topic)
    say(f"{protocol}: {max(newest.values()) - killed:.1f} s")
    return max(newest.values()) - killed


def scale(options):
    """Four workers against one on 64 partitions, and how long a dead worker's partitions wait."""
    records, topic = 4_000_000 * options.percent // 100, "bench-scale"
    ground.ensure_topic(topic, records, 64)
    print(f"### {records:,} records, 64 partitions: one worker, and four on the same two cores\n")
    print("| workers | records/s | CPU-s per million | S3 requests |")
    print("| --- | --- | --- | --- |")
    for count in (1, 4):
        s3, bucket, configuration = begin(topic)
        seen = ground.requests_seen()
        workers = [Process([KAS3, "run", configuration, "--until-end"], log=f"{bucket}-{number}.log") for number in range(count)]
        ended = [worker.wait() for worker in workers]
        if any(code for code, _ in ended):
            raise SystemExit(f"a worker failed: {json.dumps(ended)}; logs: {workers[0].log}")
        made = sum(ground.requests_seen().values()) - sum(seen.values())
        seconds = max(modified for _, _, modified in ground.objects(s3, bucket)) - workers[0].started
        say("  " + ground.verify(bucket, records))
        print(f"| {count} | {records / seconds:,.0f} | {sum(cpu for _, cpu in ended) / records * 1e6:.2f} | {made} |", flush=True)
        ground.clean(bucket)
    ground.delete_topic(topic)
    print("\n### One of two workers is killed (64 partitions, 5,000 records/s, `roll: {age: 1s}`)\n")
    print("| group protocol | session timeout | seconds until every partition has a new file |")
    print("| --- | --- | --- |")
    classic = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}
    print(f"| classic, cooperative | 6 s | {failover('classic', classic):.1f} |")
    print(f"| KIP-848 | 6 s | {failover('KIP-848', {'group.protocol': 'consumer'}):.1f} |", flush=True)
