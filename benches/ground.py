"""What every benchmark stands on: topics, buckets, measured processes, and the services' own share of the work."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import boto3
from botocore.config import Config
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from load import load

HERE = Path(__file__).resolve().parent
KAFKA, S3 = os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["S3_ENDPOINT_URL"]
KAS3 = Path(os.environ.get("KAS3") or HERE.parent / "target/release/kas3").resolve()
# The peer that people know, where `dev/services fetch bento` could build it.
BENTO = os.environ.get("KAS3_BENTO")
WORK = Path(os.environ.get("KAS3_BENCH_WORK") or HERE.parent / "target/bench")
RUN_SECONDS = 1800
TICKS = os.sysconf("SC_CLK_TCK")


def client():
    return client_of(S3)


def client_of(endpoint):
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, max_pool_connections=16))


class Run(NamedTuple):
    """One run of one sink."""

    sink: str
    records: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    services_cpu_seconds: dict
    requests: dict
    objects: int
    bytes: int

    @property
    def rate(self):
        return self.records / self.seconds

    @property
    def cpu_per_million(self):
        return self.cpu_seconds / self.records * 1e6

    def row(self, content_bytes, *bases):
        """A line of the table; its rate is given as a multiple of that of each of `bases` as well."""
        ratios = ["1" if base is self else f"{self.rate / base.rate:.2f}" for base in bases]
        size = self.bytes / content_bytes
        services = " + ".join(f"{name} {seconds / self.records * 1e6:.2f}" for name, seconds in self.services_cpu_seconds.items())
        per_gb = sum(self.requests.values()) / (content_bytes / 1e9)
        cells = [self.sink, f"{self.rate:,.0f}", *ratios, f"{self.cpu_per_million:.2f}", services, f"{self.peak_bytes / 2**20:.0f}"]
        return "| " + " | ".join([*cells, f"{size:.3f}", f"{self.objects}", f"{per_gb:.0f}"]) + " |"


def header(*bases):
    names = ["sink", "records/s", *(f"{base} = 1" for base in bases), "CPU-s per million", "CPU-s per million of the services", "peak MiB"]
    names += ["size", "objects", "S3 requests per GB"]
    return "| " + " | ".join(names) + " |\n|" + " --- |" * len(names)


def service_pids():
    """The services of this checkout, as far as they run here."""
    found = {}
    for name in ("kafka", "minio"):
        try:
            found[name] = int((HERE.parent / ".services" / name / "pid").read_text())
        except (OSError, ValueError):
            continue
    return found


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def requests_seen():
    """S3 requests that MinIO counted so far, by kind; empty for a store that does not say."""
    found = {}
    try:
        with urllib.request.urlopen(f"{S3}/minio/metrics/v3/api/requests", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("minio_api_requests_total{"):
                    kind = line.split('name="', 1)[1].split('"', 1)[0]
                    found[kind] = found.get(kind, 0) + int(float(line.rsplit(" ", 1)[1]))
    except OSError:
        pass
    return found


def peak(pid):
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def resident(pid):
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


class Process:
    """A sink that runs: its CPU time is its own alone, its memory the kernel's high-water mark."""

    def __init__(self, command, environment=None, log="sink.log"):
        WORK.mkdir(parents=True, exist_ok=True)
        self.log = WORK / log
        with open(self.log, "wb") as output:
            variables = {**os.environ, **(environment or {})}
            self.started = time.time()
            self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=variables)
        self.pid, self.peak_bytes, self.ended = self.process.pid, 0, None

    def poll(self):
        """(exit code, CPU seconds) once it has ended."""
        if self.ended is None:
            self.peak_bytes = max(self.peak_bytes, peak(self.pid))
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.ended = (self.process.returncode, used.ru_utime + used.ru_stime)
        return self.ended

    def wait(self, seconds=RUN_SECONDS):
        deadline = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise SystemExit(f"a sink did not end within {seconds} s; its log: {self.log}")
            time.sleep(0.02)
        return self.ended

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        return self.wait(120)


def objects(s3, bucket):
    """(key, bytes, last modified) of all data objects."""
    found = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            if not any(part.startswith(("_", ".")) for part in each["Key"].split("/")):
                found.append((each["Key"], each["Size"], each["LastModified"].timestamp()))
    return found


def empty_bucket(s3, bucket):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": each["Key"]} for each in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


def ensure_topic(topic, records, partitions=4, size=None, keys=None):
    """The topic with exactly these records; filled now unless an earlier run has left it."""
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": "bench-look"})
    known = consumer.list_topics(timeout=10).topics
    if topic in known and len(known[topic].partitions) == partitions:
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(partitions)]
        if sum(ends) == records:
            consumer.close()
            return
    if topic in known:
        delete_topic(topic)
        time.sleep(2)
    consumer.close()
    say(f"filling topic {topic}: {records:,} records, {partitions} partitions")
    load(KAFKA, topic, records, partitions, size, keys)


def delete_topic(topic):
    admin = AdminClient({"bootstrap.servers": KAFKA})
    admin.delete_topics([topic])[topic].result()


def committed(group, topic, partitions):
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": group})
    try:
        found = consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=10)
        return sum(max(0, each.offset) for each in found)
    finally:
        consumer.close()


def until(done, seconds=10):
    """Tries again until it goes well."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return done()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(sink, topic, records, partitions, command, environment=None, finished=None):
    """Runs a sink over a whole topic into a bucket of its own. Time is from its start to the LastModified of its last object."""
    s3 = client()
    bucket = f"bench-{re.sub('[^a-z0-9]+', '-', sink.lower())}-{int(time.time() * 1000)}"
    s3.create_bucket(Bucket=bucket)
    services = service_pids()
    before, seen = {name: cpu_seconds(pid) for name, pid in services.items()}, requests_seen()
    process = Process(*command(bucket), environment and environment(bucket), log=f"{bucket}.log")
    if finished:
        while not finished(bucket):
            if process.poll():
                raise SystemExit(f"{sink} ended by itself; its log: {process.log}")
            time.sleep(0.5)
        ended = process.stop()
    else:
        ended = process.wait()
    if ended[0] not in (0, -signal.SIGTERM):
        raise SystemExit(f"{sink} failed with {ended[0]}; its log: {process.log}\n{process.log.read_text(errors='replace')[-3000:]}")
    used = {name: cpu_seconds(pid) - before[name] for name, pid in services.items()}
    made = {kind: count - seen.get(kind, 0) for kind, count in requests_seen().items() if count > seen.get(kind, 0)}
    found = objects(s3, bucket)
    last = max(modified for _, _, modified in found)
    size = sum(each[1] for each in found)
    return Run(sink, records, last - process.started, ended[1], process.peak_bytes, used, made, len(found), size), bucket


def floor(topic, records, partitions):
    """The floor, over a whole topic."""
    batch = min(50_000, records // partitions)
    environment = lambda bucket: {"RUN_NAME": bucket, "TOPIC": topic, "BATCH": str(batch)}  # noqa: E731
    command = lambda bucket: ([sys.executable, HERE / "floor.py"],)  # noqa: E731
    return measure("floor", topic, records, partitions, command, environment, lambda bucket: committed(bucket, topic, partitions) >= records)


def bento(topic, records, partitions):
    """Bento, over a whole topic, with as many records in a file as the floor."""
    batch = min(50_000, records // partitions)
    environment = lambda bucket: {"RUN_NAME": bucket, "TOPIC": topic, "BATCH": str(batch), "PENDING": str(4 * batch)}  # noqa: E731
    command = lambda bucket: ([BENTO, "-c", HERE / "peers/bento.yaml"],)  # noqa: E731
    return measure("Bento", topic, records, partitions, command, environment, lambda bucket: committed(bucket, topic, partitions) >= records)


def configuration(bucket, topic, **settings):
    """A pipeline with the defaults of kas3; `sink`, `source` and others are merged into it."""
    tree = {
        "name": "bench",
        "source": {"topics": [topic], "group": bucket, "kafka": {"bootstrap.servers": KAFKA}},
        "sink": {
            "type": "files",
            "url": f"s3://{bucket}",
            "storage": {"endpoint": S3, "region": "us-east-1", "allow_http": True},
            "path": "{topic}/{partition}_{offset}",
            "format": {"type": "json_lines", "compression": "gzip"},
        },
        "memory": "256MiB",
        "http": "off",
    }
    for name, value in settings.items():
        tree[name] = {**tree[name], **value} if isinstance(value, dict) else value
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"{bucket}.yaml"
    path.write_text(json.dumps(tree, indent=1))
    return path


def kas3(name, topic, records, partitions, binary=KAS3, **settings):
    """kas3, over a whole topic."""
    command = lambda bucket: ([binary, "run", configuration(bucket, topic, **settings), "--until-end"],)  # noqa: E731
    return measure(name, topic, records, partitions, command)


def verify(bucket, records):
    """Counts what arrived, with a reader that is not kas3's; the command fails unless it is all there once."""
    done = subprocess.run([sys.executable, HERE / "verify.py", bucket, str(records)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{bucket}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def clean(bucket):
    empty_bucket(client(), bucket)
    (WORK / f"{bucket}.yaml").unlink(missing_ok=True)


def free_disk():
    return shutil.disk_usage(HERE).free
