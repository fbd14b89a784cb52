"""The claim check beside bare requests and beside kaf-s3-connector, on the same broker and store.

Every row is a process of its own. Bare requests are made by a client that does nothing but send them (presigned URLs) and
compute SHA-256. With a latency, all go through one toxiproxy that holds every answer back.
"""

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path

import ground
from confluent_kafka.admin import AdminClient, NewTopic
from ground import KAFKA, S3, WORK, client, say

EXAMPLE = Path(os.environ.get("KAS3_CLAIMS") or ground.HERE.parent / "target/release/examples/claims").resolve()
PEER = "kaf-s3-connector==2.0.1"
# payload bytes, how many: straight at the store, and with a latency
SIZES = [(64 << 10, 4000), (1 << 20, 400), (64 << 20, 12)]
SIZES_LATE = [(64 << 10, 2000), (1 << 20, 200), (64 << 20, 8)]
LATENCY_MS = 30
CONCURRENCY = 32
# The peer takes one after the other: a share is enough to know its rate.
PEER_SHARE = 4
PEER_SHARE_LATE = 20
RECORDS = 300_000
RECORD_BYTES = 1000


def peer_python():
    """A virtual environment with the peer."""
    place = WORK / "peer"
    python = place / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PEER], check=True)
    return python


PEER_PROGRAM = """
import json, os, resource, sys, time
from s3_connector import S3Consumer, S3Producer
mode, topic, bucket, endpoint, size, count = *sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6])
kafka = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]}
s3 = {"bucket": bucket, "prefix": "claims", "max_inline_bytes": 10_000, "endpoint_url": endpoint, "region_name": "us-east-1"}
begun = time.monotonic()
if mode == "produce":
    pattern = os.urandom(size)
    producer = S3Producer({"kafka": kafka, "s3": s3})
    for number in range(count):
        producer.produce(topic, number.to_bytes(8, "little") + pattern[8:])
    assert producer.close(600) == 0
else:
    consumer = S3Consumer({"kafka": {**kafka, "group.id": f"peer-{os.getpid()}", "auto.offset.reset": "earliest"}, "s3": s3})
    consumer.subscribe([topic])
    left = count
    while left:
        got = consumer.poll(30) is not None
        begun = time.monotonic() if left == count and got else begun
        left -= got
seconds = time.monotonic() - begun
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"payloads": count, "bytes": count * size, "seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024}))
"""


@contextmanager
def slow_store(latency_ms):
    """The store behind a proxy that holds every answer back for so long."""
    api, listen = "127.0.0.1:18474", "127.0.0.1:18475"
    proxy = subprocess.Popen([os.environ["KAS3_TOXIPROXY"], "-host", api.split(":")[0], "-port", api.split(":")[1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path, body):
        request = urllib.request.Request(f"http://{api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=5).read()

    try:
        ground.until(lambda: ask("/proxies", {"name": "store", "listen": listen, "upstream": S3.removeprefix("http://")}))
        ask("/proxies/store/toxics", {"type": "latency", "stream": "downstream", "attributes": {"latency": latency_ms}})
        yield f"http://{listen}"
    finally:
        proxy.terminate()
        proxy.wait()


def measured(command, **environment):
    done = subprocess.run([str(word) for word in command], env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True, timeout=ground.RUN_SECONDS)
    return json.loads(done.stdout.decode().splitlines()[-1])


def make_topic():
    name = f"claims-{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": KAFKA})
    for made in admin.create_topics([NewTopic(name, 1, 1)]).values():
        made.result(30)
    return name


def urls(bucket, count, verb, endpoint):
    """A file of presigned URLs of objects that no other run has."""
    signer = client() if endpoint == S3 else ground.client_of(endpoint)
    folder = WORK / f"{verb}-urls"
    folder.parent.mkdir(parents=True, exist_ok=True)
    lines = (signer.generate_presigned_url(verb, {"Bucket": bucket, "Key": f"bare/{number:08}"}, ExpiresIn=3600) for number in range(count))
    folder.write_text("\n".join(lines) + "\n")
    return folder


def row(name, result, bare=None, peer=None):
    rate = result["payloads"] / result["seconds"]
    against = [f"{rate / (other['payloads'] / other['seconds']):.2f}" if other else "1" for other in (bare, peer)]
    cpu = result["cpu_seconds"] / result["payloads"] * 1e6
    megabytes = result["bytes"] / result["seconds"] / 1e6
    return f"| {name} | {rate:,.1f} | {megabytes:,.0f} | {against[0]} | {against[1]} | {cpu:,.0f} | {result['peak_bytes'] / 2**20:.0f} |"


HEADER = """| | payloads/s | MB/s | bare = 1 | peer = 1 | CPU µs each | peak MiB |
| --- | --- | --- | --- | --- | --- | --- |"""


def compare(size, count, endpoint, peer_share, rounds):
    """Produce and consume: bare requests, kas3, the peer; middle runs of `rounds` taken in turns."""
    late = {"CLAIMS_ENDPOINT": endpoint}
    few = max(4, count // peer_share)
    runs = {}
    for _ in range(rounds):
        bucket = f"claims-{uuid.uuid4().hex}"
        client().create_bucket(Bucket=bucket)
        store, own, peers = f"s3://{bucket}/claims", make_topic(), make_topic()
        concurrency = min(CONCURRENCY, max(4, (256 << 20) // size))
        steps = {
            "bare PUT": lambda: measured([EXAMPLE, "put", urls(bucket, count, "put_object", endpoint), size, concurrency]),
            "kas3 produce": lambda: measured([EXAMPLE, "produce", own, store, size, count], **late),
            "peer produce": lambda: measured([peer_python(), "-c", PEER_PROGRAM, "produce", peers, bucket, endpoint, size, few]),
            "bare GET": lambda: measured([EXAMPLE, "get", urls(bucket, count, "get_object", endpoint), concurrency]),
            "kas3 consume": lambda: measured([EXAMPLE, "consume", own, store, count], **late),
            "peer consume": lambda: measured([peer_python(), "-c", PEER_PROGRAM, "consume", peers, bucket, endpoint, size, few]),
        }
        for name, step in steps.items():
            runs.setdefault(name, []).append(step())
            say(f"{name}: {runs[name][-1]['payloads'] / runs[name][-1]['seconds']:,.1f}/s")
        ground.clean(bucket)
    middle = {name: sorted(each, key=lambda run: run["seconds"] / run["payloads"])[len(each) // 2] for name, each in runs.items()}
    print(HEADER)
    for bare, own, peer in (("bare PUT", "kas3 produce", "peer produce"), ("bare GET", "kas3 consume", "peer consume")):
        print(row(f"{bare}, {concurrency} at once", middle[bare], None, middle[peer]))
        print(row(own, middle[own], middle[bare], middle[peer]))
        print(row(f"kaf-s3-connector 2.0.1 {peer.split()[1]}", middle[peer], middle[bare]))
    print(flush=True)


def inline(rounds):
    print(f"### {RECORDS:,} records of {RECORD_BYTES} bytes that stay in Kafka: bare librdkafka and the Producer\n")
    runs = {"bare": [], "kas3": []}
    for _ in range(rounds):
        runs["bare"].append(measured([EXAMPLE, "records", make_topic(), RECORD_BYTES, RECORDS]))
        runs["kas3"].append(measured([EXAMPLE, "inline", make_topic(), "s3://none/claims", RECORD_BYTES, RECORDS]))
    best = {name: sorted(each, key=lambda run: run["cpu_seconds"])[len(each) // 2] for name, each in runs.items()}
    print("| | records/s | CPU µs each | CPU, bare = 1 |\n| --- | --- | --- | --- |")
    for name, run in best.items():
        each = run["cpu_seconds"] / run["payloads"] * 1e6
        print(f"| {name} | {run['payloads'] / run['seconds']:,.0f} | {each:.2f} | {run['cpu_seconds'] / best['bare']['cpu_seconds']:.2f} |")
    print(flush=True)


def claims(options):
    for size, count in SIZES:
        if not options.only or options.only == "straight":
            print(f"### {count:,} payloads of {size >> 10:,} KiB, straight at the store\n")
            compare(size, count * options.percent // 100, S3, PEER_SHARE, options.rounds)
    if not options.only or options.only == "latency":
        with slow_store(LATENCY_MS) as endpoint:
            for size, count in SIZES_LATE:
                print(f"### {count:,} payloads of {size >> 10:,} KiB, {LATENCY_MS} ms in front of the store\n")
                compare(size, count * options.percent // 100, endpoint, PEER_SHARE_LATE, options.rounds)
    if not options.only or options.only == "inline":
        inline(max(3, options.rounds))
