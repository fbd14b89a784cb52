"""Readers of the files: programs that are not ours, and those that take files away while workers are killed."""

import hashlib
import json
import os
import random
import threading
import time

import pytest
import zstandard

from e2e.driver import wait_for
from oracle import LocalFiles, Stream, compare, lines, produce, read_committed
from readers.catalogue import READERS, Missing, outcome, read

# The published rule is two minutes after settling; requests that a dead worker sent must be over by then. Ours are, within this.
REST_SECONDS = float(os.environ.get("KAS3_REST_SECONDS", "1"))
SEEDS = [int(seed) for seed in os.environ.get("KAS3_SEEDS", "1").split(",")]


# Content of a file here: several blocks also of those that grow, and a file of one block in several pieces.
READ_RECORDS = 6000


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_every_reader_of_others_makes_of_a_file_what_the_documentation_says(kafka, topic, pipeline, tmp_path, compression):
    name = topic()
    produce(kafka, name, READ_RECORDS, padding=600)
    content = {}
    for block in ("64KiB", "auto", "file"):
        folder = tmp_path / block
        folder.mkdir()
        sink = pipeline(name, files=LocalFiles(folder))
        sink.encode(compression=compression, block=block)
        sink.configure(roll={"records": 1_000_000, "bytes": "1GiB", "age": "1h"})
        sink.run_to_end()
        compare(read_committed(kafka, name), sink.files).check()
        # by offset, or from the beginning where there is no index
        assert json.loads(sink.cat(name, 0, READ_RECORDS - 1)[0])["pad"]
        sink.verify()
        (path,) = sink.files.paths()
        stored = sink.files.read(path)
        plain = b"".join(line + b"\n" for line in lines(path, stored))
        content[block] = (str(folder / path), hashlib.sha256(plain).hexdigest())
        if compression == "zstd" and block != "file":
            seeks_with_the_table_of_zstd(stored, plain)
    missing = []
    for reader in READERS:
        for block, (path, sha256) in content.items() if reader.compression == compression else ():
            try:
                found = outcome(read(reader, path), READ_RECORDS, sha256)
            except Missing as absent:
                missing.append(str(absent))
                continue
            expected = reader.one if block == "file" else reader.many
            assert expected in (None, found), f"{reader.name} of {block}: docs/readers.md says something else than `{found}`"
    assert not set(missing) & {"zcat", "pyarrow", "duckdb", "zstandard"}, "these are there"


def seeks_with_the_table_of_zstd(stored, plain):
    """The seek table of zstd's seekable format leads to every frame by itself."""
    frames = int.from_bytes(stored[-9:-5], "little")
    assert stored[-4:] == (0x8F92EAB1).to_bytes(4, "little"), "no seek table"
    table, read_back, at = stored[-9 - 8 * frames : -9], [], 0
    for frame in range(frames):
        size = int.from_bytes(table[8 * frame : 8 * frame + 4], "little")
        part = zstandard.ZstdDecompressor().decompress(stored[at : at + size])
        assert len(part) == int.from_bytes(table[8 * frame + 4 : 8 * frame + 8], "little"), f"frame {frame} has another size than its entry says"
        read_back.append(part)
        at += size
    assert b"".join(read_back) == plain, "frames give another content"


class Taker(threading.Thread):
    """A reader that moves files away: those that are settled for a while, or whatever it sees."""

    def __init__(self, sink, rule):
        super().__init__(daemon=True)
        self.sink, self.rule = sink, rule
        self.taken, self.settled_at, self.violations = {}, {}, []
        self._halt = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._halt.set()
        self.join(60)

    def run(self):
        while not self._halt.wait(0.05):
            try:
                self.look()
            except FileNotFoundError:
                continue

    def look(self):
        ripe = self.settled() if self.rule == "settled" else None
        for path in self.sink.files.paths():
            content = lines(path, self.sink.files.read(path))
            if path in self.taken:
                if self.rule == "settled":
                    self.violations.append(f"{path} came back although it was settled")
                elif self.taken[path] != content:
                    self.violations.append(f"{path} came back with other records")
            if ripe is None or path in ripe:
                self.taken[path] = content
                self.sink.files.delete(path)

    def settled(self):
        """Files that the heads, as documented, have called complete for a while."""
        now = time.monotonic()
        for path in self.sink.files.paths(everything=True):
            if "/head." in path and path.startswith(self.sink.ledger_folder()):
                for span in json.loads(self.sink.files.read(path))["closed"]:
                    for file in span["files"]:
                        self.settled_at.setdefault(file["url"].removeprefix(self.sink.files.url).lstrip("/"), now)
        return {path for path, since in self.settled_at.items() if now - since >= REST_SECONDS}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", ["settled", "visible"])
def test_a_reader_takes_files_away_while_workers_are_killed(rule, seed, kafka, topic, pipeline, local):
    rng = random.Random(f"{rule}-{seed}")
    name = topic(partitions=2)
    sink = pipeline(name, files=local)
    sink.configure(path="{topic}/{value.day}/{partition}_{offset}", roll={"records": 300, "age": "300ms"}, settle="200ms", amend_after="300ms")
    with Taker(sink, rule) as taker:
        with Stream(kafka, name, 2, seed=seed, fields=lambda i: {"day": f"2026-01-0{1 + i % 3}"}):
            for _ in range(8):
                with sink.start() as worker:
                    time.sleep(rng.uniform(0.4, 1.8))
                    assert worker.kill(), worker.finished.stderr
        sink.run_to_end()
        if rule == "settled":
            wait_for(lambda: not sink.files.paths(), 30, "the reader to take the rest")
        else:
            time.sleep(0.3)
    taker.look()
    assert not taker.violations, "\n".join(taker.violations)
    assert len(taker.taken) > 20
    # every name once, however often it was seen: that is what a reader has that keeps files by their names
    found = [line for path in taker.taken for line in taker.taken[path]]
    assert len(found) == len(set(found)), "records in two files"
    assert sorted(found) == sorted(entry.value for entry in read_committed(kafka, name))
    # what Kafka and ledger say of each other still holds; the files are elsewhere
    before = sink.files.paths()
    sink.run_to_end()
    assert sink.files.paths() == before == []
