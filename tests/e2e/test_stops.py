"""What must stop a partition loudly, never silently: and the command that the message names gets it going again."""

import gzip
import json
import signal
import time

import pytest
from confluent_kafka import TopicPartition

from services import create_topic
from e2e.driver import stopped, wait_for
from oracle import Watcher, compare, produce, read_committed


def recreate(admin, name, partitions=1):
    admin.delete_topics([name])[name].result(30)
    wait_for(lambda: name not in admin.list_topics(timeout=10).topics, 30, "the deletion")
    deadline = time.monotonic() + 30
    while True:
        try:
            return create_topic(admin, name, partitions)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_topic_created_again_stops_although_it_outgrew_our_position(kafka, admin, topic, pipeline):
    name = topic()
    produce(kafka, name, 300)
    old = read_committed(kafka, name)
    sink = pipeline(name)
    sink.run_to_end()
    recreate(admin, name)
    produce(kafka, name, 700, seed=2)
    with Watcher(sink.files):
        before = sink.files.list()
        sink.run_to_end(code=3).says(name, "created again", "kas3 ledger accept")
        assert sink.files.list() == before
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0)
        sink.run_to_end()
    assert all(("-i1." in path) == (path not in before) for path in sink.files.paths())
    compare(old + read_committed(kafka, name), sink.files).check()
    sink.verify()


@pytest.mark.parametrize("size", [100, 700], ids=["smaller", "grown past our position"])
def test_a_running_worker_notices_that_its_topic_was_created_again(size, kafka, admin, topic, pipeline):
    name, beside = topic(), topic(name=f"beside-{size}-{time.time_ns()}")
    produce(kafka, name, 300)
    produce(kafka, beside, 100)
    old = read_committed(kafka, name)
    sink = pipeline(name, beside)
    sink.kafka["topic.metadata.refresh.interval.ms"] = 500
    with Watcher(sink.files):
        with sink.start() as worker:
            wait_for(lambda: compare(old + read_committed(kafka, beside), sink.files).exact(), 60, "the old topic's files")
            before = {path for path in sink.files.paths() if path.startswith(name)}
            recreate(admin, name)
            produce(kafka, name, size, seed=2)
            wait_for(lambda: "created again" in worker.errors.read_text(), 60, "the complaint")
            produce(kafka, beside, 300, seed=2)
            wait_for(lambda: compare(old + read_committed(kafka, beside), sink.files).exact(), 60, "the other topic, which goes on")
            assert {path for path in sink.files.paths() if path.startswith(name)} == before
            worker.terminate().says("partition stopped", "kas3 ledger accept")
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0)
        sink.run_to_end()
    compare(old + read_committed(kafka, name) + read_committed(kafka, beside), sink.files).check()
    assert all(("-i1." in path) == (path not in before) for path in sink.files.paths() if path.startswith(name))
    sink.verify()


def test_a_topic_created_again_and_smaller_stops(kafka, admin, topic, pipeline, local):
    name = topic()
    produce(kafka, name, 300)
    old = read_committed(kafka, name)
    sink = pipeline(name, files=local)
    sink.run_to_end()
    recreate(admin, name)
    produce(kafka, name, 100, seed=2)
    before = sink.files.list()
    sink.run_to_end(code=3).says(name, "created again", "kas3 ledger accept")
    assert sink.files.list() == before
    sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0)
    sink.run_to_end()
    compare(old + read_committed(kafka, name), sink.files).check()
    sink.verify()


def test_retention_that_overtakes_a_worker_that_runs_stops_its_partition_until_the_gap_is_accepted(kafka, admin, topic, pipeline, local):
    """It sleeps while records come and go, as one does that is throttled, or whose store is away for days."""
    name = topic(partitions=2)
    produce(kafka, name, 400, partitions=2)
    sink = pipeline(name, files=local)
    sink.configure(roll={"records": 100, "age": "300ms"})
    with Watcher(sink.files), sink.start() as worker:
        before = read_committed(kafka, name)
        wait_for(lambda: compare(before, sink.files).exact(), 60, "the files")
        overtaken = max(entry.offset for entry in before if entry.partition == 0) + 101
        with stopped(worker):
            produce(kafka, name, 600, partitions=2, seed=2)
            admin.delete_records([TopicPartition(name, 0, overtaken)])[TopicPartition(name, 0)].result(30)
        wait_for(lambda: "were deleted unread" in worker.errors.read_text(), 60, "the complaint")
        now = read_committed(kafka, name)
        other = [entry for entry in now if entry.partition == 1]
        held = {(entry.partition, entry.offset): entry for entry in before + other}
        wait_for(lambda: compare(held.values(), sink.files).exact(), 60, "the other partition, which goes on")
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0)
        expected = {(entry.partition, entry.offset): entry for entry in before + now}
        wait_for(lambda: compare(expected.values(), sink.files).exact(), 60, "the partition to go on without a restart")
        assert worker.terminate().code == 0
    sink.verify()


def test_retention_that_overtook_us_stops_and_the_accepted_gap_is_recorded(kafka, admin, topic, pipeline):
    name = topic(partitions=2)
    produce(kafka, name, 600, partitions=2)
    sink = pipeline(name)
    sink.run_to_end()
    before = read_committed(kafka, name)
    produce(kafka, name, 600, partitions=2, seed=2)
    ends = {0: 0, 1: 0}
    for entry in read_committed(kafka, name):
        ends[entry.partition] = entry.offset + 1
    overtaken = ends[0] - 20
    admin.delete_records([TopicPartition(name, 0, overtaken)])[TopicPartition(name, 0)].result(30)
    now = read_committed(kafka, name)
    with Watcher(sink.files):
        sink.run_to_end(code=3).says(f"{name}", "kas3 ledger accept")
        # The other partition went on.
        compare(before + [entry for entry in now if entry.partition == 1 and entry not in set(before)], sink.files).check()
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0)
        sink.run_to_end()
    expected = {(entry.partition, entry.offset): entry for entry in before + now}
    compare(expected.values(), sink.files).check()
    sink.command("ledger", "show", sink.file).says("accepted gap")
    (shown,) = json.loads(sink.command("ledger", "show", sink.file, "--json", "--partition", 0).stdout)
    (gap,) = [stretch for span in shown["spans"] if span["kind"] == "gap" for stretch in span["partitions"]]
    assert gap["next"] == overtaken


@pytest.mark.parametrize("way_out", ["moved away", "accepted"])
def test_an_object_of_somebody_else_stops_its_partition_and_is_never_overwritten(kafka, topic, pipeline, store, way_out):
    name = topic(partitions=2)
    produce(kafka, name, 300, partitions=2)
    sink = pipeline(name)
    sink.settings["source"]["start"] = {"beside": True}
    foreign = f"{name}/0_0.jsonl.gz"
    sink.files.write(foreign, gzip.compress(b"not ours\n"))
    with Watcher(sink.files) as watcher:
        sink.run_to_end(code=3).says(foreign)
        log = read_committed(kafka, name)
        report = compare([entry for entry in log if entry.partition == 1], sink.files)
        assert not report.lost and len(report.unknown) == 1, str(report)
        if way_out == "accepted":
            sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0)
            sink.run_to_end()
        watcher.forgive(foreign)
        sink.files.delete(foreign)
        watcher.look()
    sink.run_to_end()
    compare(log, sink.files).check()
    sink.verify()


@pytest.mark.parametrize("size", ["small", "large"])
def test_an_object_of_somebody_else_that_comes_between_commit_and_publish_is_not_overwritten(size, kafka, request, pipeline):
    name, log = request.getfixturevalue(f"{size}_log")
    sink = pipeline(name)
    sink.configure(roll={"records": 14 if size == "large" else 200, "age": "60s"})
    sink.encode(compression="none")
    assert sink.run_to_end(kill="commit.after").code == -signal.SIGKILL
    heads = [json.loads(sink.files.read(path)) for path in sink.files.paths(everything=True) if path.endswith("/head.json")]
    pending = [head for head in heads if head["pending"]]
    foreign = {file["url"].removeprefix(f"{sink.files.url}/") for head in pending for file in head["pending"][0]["files"]}
    assert foreign
    for path in foreign:
        sink.files.write(path, b"not ours\n")
    with Watcher(sink.files) as watcher:
        sink.run_to_end(code=3).says(*foreign, "nothing is overwritten")
        for head in pending:
            sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", head["partition"])
        sink.run_to_end()
        assert all(sink.files.read(path) == b"not ours\n" for path in foreign)
        for path in foreign:
            watcher.forgive(path)
            sink.files.delete(path)
        watcher.look()
    compare(log, sink.files).check()
    sink.verify()


@pytest.mark.parametrize("lost", ["head", "everything"])
def test_a_lost_ledger_stops_and_needs_a_decision(kafka, topic, pipeline, store, lost):
    name = topic()
    produce(kafka, name, 300)
    sink = pipeline(name)
    sink.run_to_end()
    for path in sink.files.paths(everything=True):
        if path.startswith("_kas3/") and (lost == "everything" or "/head" in path):
            sink.files.delete(path)
    produce(kafka, name, 200, seed=2)
    with Watcher(sink.files):
        before = sink.files.list()
        sink.run_to_end(code=3).says("ledger", "kas3 ledger accept", "--next")
        assert sink.files.list() == before
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, code=2).says("--next")
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, "--next", 300)
        sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()


def test_a_head_that_vanishes_under_a_running_worker_stops_it(kafka, topic, pipeline, store):
    name = topic()
    produce(kafka, name, 300)
    sink = pipeline(name)
    with sink.start() as worker:
        wait_for(lambda: compare(read_committed(kafka, name), sink.files).exact(), 60, "the files")
        time.sleep(1.5)
        for path in sink.files.paths(everything=True):
            if "/head" in path:
                sink.files.delete(path)
        before = sink.files.list()
        produce(kafka, name, 300, seed=2)
        time.sleep(5)
        assert sink.files.list() == before
        worker.terminate().says("ledger")


def test_a_head_that_cannot_be_read_stops(kafka, topic, pipeline):
    name = topic()
    produce(kafka, name, 100)
    sink = pipeline(name)
    sink.run_to_end()
    for path in sink.files.paths(everything=True):
        if "/head" in path:
            sink.files.write(path, b'{"version": 999}')
    produce(kafka, name, 100, seed=2)
    before = sink.files.list()
    sink.run_to_end(code=3).says("head")
    assert sink.files.list() == before


def test_verify_finds_what_was_lost_doubled_or_changed_behind_our_back(kafka, topic, pipeline):
    name = topic()
    produce(kafka, name, 1000)
    sink = pipeline(name)
    sink.run_to_end()
    sink.verify(code=0)
    first, second, *_ = sink.files.paths()
    kept = {path: sink.files.read(path) for path in (first, second)}
    content = gzip.decompress(kept[first])
    records = content.splitlines(keepends=True)
    for wrong in (
        content.replace(b'"pad":"', b'"pad":"f', 1).replace(b'f"}\n', b'"}\n', 1),
        b"".join(records[:-1]),
        b"".join(records + records[-1:]),
        b"".join([records[1], records[0], *records[2:]]),
    ):
        sink.files.delete(first)
        sink.files.write(first, gzip.compress(wrong))
        sink.verify(code=1)
    sink.files.delete(first)
    sink.verify(code=1)
    sink.files.write(first, kept[second])
    sink.verify(code=1)
    sink.files.delete(first)
    sink.files.write(first, kept[first])
    sink.verify(code=0)


@pytest.mark.parametrize("place", ["head", "bundle"])
def test_staged_bytes_that_vanish_cost_work_and_never_a_record(place, kafka, request, pipeline, store):
    name, log = request.getfixturevalue("small_log" if place == "head" else "large_log")
    sink = pipeline(name)
    if place == "bundle":
        # too much together for a head
        sink.encode(compression="none")
        sink.configure(roll={"records": 7, "age": "60s"})
    sink.configure(path="{topic}/{now:%Y-%m-%d}/{value.id}/{partition}_{offset}")
    with Watcher(sink.files):
        for point in ("commit.after", "put.after"):
            sink.run_to_end(kill=point)
            if place == "head":
                assert sink.damage_heads()
            staged = sink.staged()
            assert bool(staged) == (place == "bundle")
            for path in staged:
                sink.files.delete(path)
        sink.run_to_end()
    compare(log, sink.files).check()
    sink.verify()


def test_what_a_reader_took_after_it_was_settled_never_comes_back(kafka, small_log, pipeline):
    name, log = small_log
    sink = pipeline(name)
    sink.run_to_end()
    compare(log, sink.files).check()
    for path in sink.files.paths():
        sink.files.delete(path)
    sink.run_to_end()
    assert sink.files.paths() == []
