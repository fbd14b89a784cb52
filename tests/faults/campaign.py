"""The long version: everything that a store and the way to it may do, mixed at random, with workers killed in between.

One seed decides what is drawn; `python -m faults.campaign SEED SECONDS WORKERS` from the folder `tests` runs it again, with the
services' environment. Times of requests differ from run to run, so a seed narrows a failure down, and does not replay it exactly.
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka.admin import AdminClient

from e2e.driver import PROTOCOLS, Pipeline
from faults import faults
from faults.conftest import patience
from faults.proxy import Proxy
from oracle import S3Files, Stream, Watcher, compare, read_committed
from oracle.files import s3_client
from services import create_topic, fresh_name

WRITES = ("PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload", "DeleteObject")
# How each fault is drawn: its weight, what it hits, and how often of all that come by.
DRAWN = [
    (3, lambda rng: faults.lost_answer, WRITES, 0.3),
    (3, lambda rng: faults.late(rng.uniform(0.2, 6)), WRITES, 0.2),
    (2, lambda rng: faults.twice, WRITES, 0.5),
    (2, lambda rng: faults.conflict, ("PutObject", "CompleteMultipartUpload"), 0.4),
    (2, lambda rng: faults.error_after_applying, WRITES, 0.3),
    (1, lambda rng: faults.error_in_200(rng.random() < 0.5), ("CompleteMultipartUpload",), 0.5),
    (1, lambda rng: faults.no_such_upload_first, ("CompleteMultipartUpload",), 0.5),
    (1, lambda rng: faults.refuse_parts, ("CompleteMultipartUpload",), 0.2),
    (2, lambda rng: faults.cut_while_sending, ("PutObject", "UploadPart"), 0.3),
    (2, lambda rng: faults.cut_while_answering, (), 0.2),
    (2, lambda rng: faults.answers(503, "SlowDown", Retry_After=rng.choice([0, 1, 2])), (), 0.5),
    (1, lambda rng: faults.internal_error, (), 0.5),
    (1, lambda rng: faults.skewed, (), 1.0),
    (1, lambda rng: faults.silent, (), 0.3),
    (2, lambda rng: faults.slow(rng.uniform(0.1, 1)), (), 0.5),
]


class Campaign:
    """A pipeline with its workers, and what befalls them."""

    def __init__(self, seed, workers, folder, kafka):
        self.rng, self.workers, self.folder, self.kafka = random.Random(seed), workers, folder, kafka
        self.counts = {}
        # small files go along in the head, large ones up in parts; with large ones there is time for few
        self.large = self.rng.random() < 0.4
        self.partitions = 2 if self.large else 4
        self.client = s3_client()
        self.bucket = fresh_name(f"campaign-{seed}")
        self.client.create_bucket(Bucket=self.bucket)
        self.topic = create_topic(AdminClient({"bootstrap.servers": kafka}), fresh_name(f"campaign-{seed}"), self.partitions)
        self.sink = self.make_sink()
        self.running = []

    def make_sink(self):
        environment = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION") if name in os.environ}
        files = S3Files(self.client, self.bucket, "lake")
        sink = Pipeline(self.folder, fresh_name("campaign"), self.kafka, files, [self.topic], environment)
        sink.protocol(self.rng.choice(list(PROTOCOLS)))
        if self.large:
            sink.encode(compression="none")
            sink.configure(roll={"records": self.rng.choice([130, 200]), "age": "20s"})
        else:
            sink.encode(compression=self.rng.choice(["none", "gzip", "zstd"]))
            path = self.rng.choice(["{topic}/{partition}_{offset}", "{topic}/{value.day}/{partition}_{offset}"])
            sink.configure(path=path, roll={"records": self.rng.choice([200, 900, 3000]), "age": self.rng.choice(["300ms", "2s"])})
        sink.configure(amend_after="1s", settle=self.rng.choice(["200ms", "1s", "next"]))
        return sink

    def count(self, what, number=1):
        self.counts[what] = self.counts.get(what, 0) + number

    def keep_running(self):
        """As an orchestrator: who ended is started again."""
        for worker in list(self.running):
            finished = worker.poll()
            if finished:
                assert finished.code in (0, 3, -9), f"a worker ended with {finished.code}:\n{finished.stderr[-4000:]}"
                self.count(f"ended with {finished.code}")
                self.running.remove(worker)
        while len(self.running) < self.workers:
            self.running.append(self.sink.start())

    def befall(self, proxy):
        """Something goes wrong for a while."""
        drawn = self.rng.choices(range(len(DRAWN) + 3), [weight for weight, *_ in DRAWN] + [4, 1, 2])[0]
        if drawn < len(DRAWN):
            _, fault, operations, chance = DRAWN[drawn]
            rule = proxy.rule(fault(self.rng), operations, chance=chance)
            self.pause(1, 4)
            rule.off()
            self.count(getattr(rule.fault, "__qualname__", "fault").split(".")[0], rule.hits)
        elif drawn == len(DRAWN):
            self.rng.choice(self.running).kill()
            self.count("SIGKILL")
        elif drawn == len(DRAWN) + 1:
            proxy.down()
            self.pause(1, 8)
            proxy.up()
            self.count("store down")
        else:
            self.take_staged()

    def take_staged(self):
        """Somebody deletes bundles and aborts uploads."""
        for path in self.sink.staged():
            if self.rng.random() < 0.5:
                self.sink.files.delete(path)
                self.count("bundles deleted")
        for path, upload in self.sink.files.uploads():
            if self.rng.random() < 0.5:
                try:
                    self.client.abort_multipart_upload(Bucket=self.bucket, Key=self.sink.files.prefix + path, UploadId=upload)
                except self.client.exceptions.NoSuchUpload:
                    continue
                self.count("uploads aborted")

    def pause(self, least, most):
        time.sleep(self.rng.uniform(least, most))

    def run(self, proxy, seconds):
        patience(self.sink, proxy.url)
        day = lambda i: {"day": f"2026-01-0{1 + i % 3}"}  # noqa: E731
        padding, rate = (100_000, 80) if self.large else self.rng.choice([(100, 1500), (8000, 400)])
        try:
            with Watcher(self.sink.files) as watcher:
                with Stream(self.kafka, self.topic, self.partitions, rate, padding=padding, fields=day):
                    deadline = time.monotonic() + seconds
                    while time.monotonic() < deadline:
                        self.keep_running()
                        self.pause(0.2, 1.5)
                        self.befall(proxy)
                proxy.clear()
                proxy.settle(60)
                for worker in self.running:
                    worker.kill()
                self.sink.run_to_end(seconds=300)
                watcher.look()
            log = read_committed(self.kafka, self.topic)
            report = compare(log, self.sink.files).check()
            self.sink.verify()
            self.count("records", len(log))
            self.count("files", report.files)
        finally:
            for worker in self.running:
                worker.kill()

    def clean_up(self):
        files = S3Files(self.client, self.bucket)
        for path in files.paths(everything=True):
            files.delete(path)
        for path, upload in files.uploads():
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=path, UploadId=upload)
        self.client.delete_bucket(Bucket=self.bucket)
        AdminClient({"bootstrap.servers": self.kafka}).delete_topics([self.topic])[self.topic].exception(30)


def run(seed, seconds, workers):
    """One campaign; what befell it, as counts. Raises when a record was lost or doubled, or a visible file changed."""
    with tempfile.TemporaryDirectory(prefix="kas3-campaign-") as folder, Proxy(os.environ["S3_ENDPOINT_URL"], seed) as proxy:
        campaign = Campaign(seed, workers, Path(folder), os.environ["KAFKA_BOOTSTRAP_SERVERS"])
        campaign.run(proxy, seconds)
        campaign.clean_up()
        return campaign.counts


if __name__ == "__main__":
    print(run(*(int(argument) for argument in sys.argv[1:4])))
