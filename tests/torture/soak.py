"""`python -m torture.soak`: steady load for an hour, and nothing that should be flat may grow.

One worker lives from the beginning to the end and is measured; beside it another one is restarted every few minutes, now by
SIGTERM, now by SIGKILL, so that partitions come and go. Small records go into bundles; a topic of large ones makes uploads.
Every sample goes into `samples.csv`. At the end the oracle reads everything, a partition at a time.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median

from confluent_kafka.admin import AdminClient

from e2e.driver import Pipeline, wait_for
from oracle import Files, Stream, Watcher, compare, read_committed
from oracle.files import s3_client
from services import create_topic, fresh_name

from .files import Bucket
from .kafka import ends
from .__main__ import CREDENTIALS

PARTITIONS = 8
GROUPS = 2
ROLL_SECONDS = 2
LARGE_ROLL_SECONDS = 30
# An upload that is open for longer belongs to a dead worker: MinIO lists uploads under an exact key only, so kas3 cannot find it.
ABANDONED_AFTER = timedelta(seconds=4 * LARGE_ROLL_SECONDS)
# How far the median of the last quarter may be above that of the second: a share of it, and so much more.
MARGINS = {
    "resident_mib": (0.05, 8), "threads": (0, 2), "open_files": (0, 8), "staged_objects": (0, 6), "staged_kib": (0.5, 1024),
    "uploads_growing": (0, 1), "unsettled": (0, 3),
}


class Below(Files):
    """The files below one folder of another."""

    def __init__(self, listing, files):
        self.listing, self.files = listing, files

    def list(self, everything=False):
        return self.listing

    def read(self, path):
        return self.files.read(path)


class Soak:
    """The load, the workers and the samples."""

    def __init__(self, options):
        self.options = options
        self.folder = options.folder or Path(tempfile.mkdtemp(prefix="kas3-soak-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kafka = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        self.admin = AdminClient({"bootstrap.servers": self.kafka})
        self.name = fresh_name("soak")
        self.topics = {f"{self.name}-small": PARTITIONS, f"{self.name}-large": 1}
        self.samples, self.events = [], Counter()
        for topic, partitions in self.topics.items():
            create_topic(self.admin, topic, partitions, max_message_bytes=8_000_000)
        self.files = Bucket(s3_client(), self.name, "lake").make()
        environment = {key: os.environ[key] for key in CREDENTIALS if key in os.environ}
        self.sink = Pipeline(self.folder, self.name, self.kafka, self.files, list(self.topics), environment)
        self.sink.kafka.update({"partition.assignment.strategy": "cooperative-sticky"})
        self.sink.configure(path="{topic}/{partition}/{value.group}/{offset}", roll={"age": f"{ROLL_SECONDS}s"}, settle="5s")
        self.sink.settings["topics"] = {f"{self.name}-large": {
            "path": "{topic}/{partition}/{offset}", "format": {"compression": "none"}, "roll": {"age": f"{LARGE_ROLL_SECONDS}s"}}}

    def run(self):
        small, large = self.topics
        streams = [
            Stream(self.kafka, small, PARTITIONS, self.options.rate, fields=lambda i: {"group": i % GROUPS}),
            Stream(self.kafka, large, 1, 2, padding=200_000),
        ]
        print(f"samples go to {self.folder}/samples.csv", flush=True)
        with Watcher(self.files, seconds_between=60):
            with self.sink.start() as veteran:
                with streams[0], streams[1]:
                    self._load(veteran)
                goals = {topic: ends(self.kafka, topic, partitions) for topic, partitions in self.topics.items()}
                wait_for(lambda: veteran.poll() or self._reached(goals), 300, "the worker to catch up")
                assert veteran.terminate().code == 0, veteran.finished.stderr[-3000:]
            self.sink.run_to_end()
        records = self._compare()
        self.sink.command("verify", self.sink.file, seconds=1800)
        assert self.sink.staged() == []
        return records

    def _load(self, veteran):
        began, next_sample, next_restart = time.monotonic(), self.options.sample_seconds, self.options.restart_seconds
        other = self.sink.start()
        try:
            while (elapsed := time.monotonic() - began) < self.options.seconds:
                assert veteran.poll() is None, f"the worker ended:\n{veteran.finished.stderr[-3000:]}"
                assert other.poll() is None, f"the other worker ended:\n{other.finished.stderr[-3000:]}"
                if elapsed >= next_sample:
                    next_sample += self.options.sample_seconds
                    self._sample(elapsed, veteran.process.pid)
                if elapsed >= next_restart:
                    next_restart += self.options.restart_seconds
                    other = self._restart(other)
                time.sleep(0.5)
            assert other.terminate().code == 0, other.finished.stderr[-3000:]
        finally:
            other.__exit__()

    def _restart(self, worker):
        if self.events.total() % 2:
            self.events["SIGKILL"] += 1
            worker.kill()
        else:
            self.events["SIGTERM"] += 1
            assert worker.terminate().code == 0, worker.finished.stderr[-3000:]
        return self.sink.start()

    def _sample(self, elapsed, pid):
        status = Path(f"/proc/{pid}/status").read_text()
        heads, segments = self._ledger()
        staged = self.files.below(f"_kas3/{self.name}/staged/")
        now = datetime.now(timezone.utc)
        begun = self.files.uploads_begun()
        sample = {
            "seconds": round(elapsed), "resident_mib": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024,
            "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]), "open_files": len(os.listdir(f"/proc/{pid}/fd")),
            "cpu_seconds": sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK"),
            "staged_objects": len(staged), "staged_kib": sum(state[1] for state in staged.values()) / 1024,
            "uploads_growing": sum(now - each < ABANDONED_AFTER for each in begun), "uploads_abandoned": sum(now - each >= ABANDONED_AFTER for each in begun),
            "unsettled": sum(bool(head["pending"]) for head in heads), "segments": segments, "committed": sum(head["next"] for head in heads),
        }
        self.samples.append(sample)
        with open(self.folder / "samples.csv", "a", newline="") as file:
            writer = csv.DictWriter(file, sample)
            if len(self.samples) == 1:
                writer.writeheader()
            writer.writerow(sample)

    def _ledger(self):
        listing = self.files.below(self.sink.ledger_folder())
        heads = [json.loads(self.files.read(path)) for path in listing if path.endswith("/head.json")]
        return heads, len(listing) - len(heads)

    def _reached(self, goals):
        heads = {(head["topic"], head["partition"]): head["next"] for head in self._ledger()[0]}
        return all(heads.get((topic, partition), 0) >= end for topic, found in goals.items() for partition, end in found.items())

    def _compare(self):
        """Partition by partition, with digests for values: an hour's log does not fit into memory."""
        everything, records, seen = self.files.list(), 0, 0
        digest = lambda value: hashlib.blake2b(value, digest_size=20).digest()  # noqa: E731
        for topic, partitions in self.topics.items():
            for partition in range(partitions):
                listing = {path: state for path, state in everything.items() if path.startswith(f"{topic}/{partition}/")}
                log = read_committed(self.kafka, topic, 600, [partition], lambda entry: entry._replace(value=digest(entry.value)))
                records += compare(log, Below(listing, self.files), read=digest).check().records
                seen += len(listing)
        assert seen == len(everything), "a file lies where no partition has its files"
        print(f"{records} records in {seen} files, exact")
        return records

    def table(self):
        """The table, and the names of what grew."""
        quarter = len(self.samples) // 4
        second, last = self.samples[quarter:2 * quarter], self.samples[-quarter:]
        lines, grown = ["| what | least | second quarter | last quarter | most | change an hour | may grow by |", "| --- | --- | --- | --- | --- | --- | --- |"], []
        for name, (share, more) in MARGINS.items():
            values = [sample[name] for sample in self.samples]
            before, after = median(sample[name] for sample in second), median(sample[name] for sample in last)
            slope = self._slope(name)
            if after > before * (1 + share) + more:
                grown.append(name)
            numbers = [min(values), before, after, max(values), slope, before * share + more]
            lines.append(f"| {name} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |")
        abandoned = max(sample["uploads_abandoned"] for sample in self.samples)
        if abandoned > self.events["SIGKILL"]:
            grown.append("uploads_abandoned")
        final = self.samples[-1]
        lines += ["", f"uploads that killed workers left open: {abandoned} after {self.events['SIGKILL']} SIGKILLs (MinIO cannot list them for kas3)"]
        lines += [f"history segments: {final['segments']} (they grow with the spans, by design)"]
        lines += [f"the measured worker used {100 * final['cpu_seconds'] / final['seconds']:.1f} % of a core; {dict(self.events)} of the other"]
        return "\n".join(lines) + "\n", grown

    def _slope(self, name):
        """Least squares over the second half and the quarter before it, per hour."""
        points = [(sample["seconds"] / 3600, sample[name]) for sample in self.samples[len(self.samples) // 4:]]
        x, y = (sum(each) / len(points) for each in zip(*points))
        return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)

    def remove(self):
        self.files.remove()
        for future in self.admin.delete_topics(list(self.topics)).values():
            future.result(60)


def main():
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=int, default=3000, help="small records a second")
    parser.add_argument("--restart-seconds", type=float, default=180, help="how often the other worker is restarted")
    parser.add_argument("--sample-seconds", type=float, default=10)
    parser.add_argument("--folder", type=Path, help="where samples and logs go; by default a new folder for temporary files")
    soak = Soak(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    soak.run()
    text, grown = soak.table()
    print(text)
    (soak.folder / "summary.txt").write_text(text)
    if grown:
        print(f"FAILED, these grew: {', '.join(grown)}")
        return 1
    soak.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
