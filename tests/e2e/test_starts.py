"""Where a pipeline begins: one start per partition, whoever resolves it, whenever it is killed, and whatever appears later."""

import json
import signal

import pytest
from confluent_kafka.admin import NewPartitions

from services import create_topic, fresh_name
from e2e.driver import wait_for
from oracle import Stream, Watcher, compare, produce, read_committed

# Every step until the first span is committed.
STEPS = ["pipeline.before", "pipeline.after", "start.before", "start.after", "open.before", "open.after", "commit.before"]


def starts(sink, topic):
    """The first offset of each partition, from the object that says so; empty while there is none."""
    try:
        record = json.loads(sink.files.read(f"_kas3/{sink.name}/topics/{topic}.json"))
    except FileNotFoundError:
        return {}
    return {each["partition"]: each["start"] for each in record["partitions"]}


def ends(kafka, topic):
    return {entry.partition: entry.offset + 1 for entry in read_committed(kafka, topic)}


@pytest.mark.parametrize("point", STEPS)
def test_a_first_start_that_is_killed_and_two_that_follow_agree_on_one_beginning(point, kafka, topic, pipeline, local):
    """`latest`, while records arrive: a beginning that moved would lose what came between two starts."""
    name = topic(partitions=2)
    produce(kafka, name, 300, partitions=2)
    sink = pipeline(name, files=local)
    sink.settings["source"]["start"] = "latest"
    # a file for each day
    sink.configure(path="{topic}/{value.day}/{partition}_{offset}", roll={"records": 200, "age": "300ms"})
    before = ends(kafka, name)
    with Watcher(sink.files), Stream(kafka, name, 2, records_per_second=1500, fields=lambda i: {"day": f"2026-01-0{1 + i % 2}"}):
        with sink.start(kill=point) as first:
            assert first.wait(60).code == -signal.SIGKILL
        resolved = starts(sink, name)
        assert bool(resolved) == (point not in STEPS[:3])
        with sink.start() as one, sink.start() as other:
            wait_for(lambda: {path.rsplit("/", 1)[1][0] for path in sink.files.paths()} == {"0", "1"}, 60, "files of both partitions")
            one.kill()
            other.kill()
        begin = starts(sink, name)
        assert resolved in ({}, begin)
    sink.run_to_end()
    assert all(begin[partition] >= before[partition] for partition in (0, 1)), "something before the start was read"
    compare([entry for entry in read_committed(kafka, name) if entry.offset >= begin[entry.partition]], sink.files).check()
    assert {head["start"] for head in heads(sink)} == set(begin.values())
    sink.verify()


def heads(sink):
    return [each["head"] for each in json.loads(sink.command("ledger", "show", sink.file, "--json").stdout)]


def test_a_topic_and_partitions_that_appear_while_a_worker_runs_begin_at_their_beginning(kafka, admin, topic, pipeline, local):
    """Found by an expression; `latest` is for what was there at the first start."""
    family = fresh_name("family")
    first = topic(name=f"{family}.a")
    produce(kafka, first, 200)
    sink = pipeline(f"^{family}\\..*", files=local)
    sink.settings["source"]["start"] = "latest"
    sink.kafka["topic.metadata.refresh.interval.ms"] = 300
    sink.configure(roll={"records": 100, "age": "300ms"})
    with Watcher(sink.files), sink.start() as worker:
        wait_for(lambda: starts(sink, first), 60, "the start")
        second = create_topic(admin, f"{family}.b", 1)
        produce(kafka, second, 300)
        admin.create_partitions([NewPartitions(first, 2)])[first].result(30)
        wait_for(lambda: len(admin.list_topics(first, 10).topics[first].partitions) == 2, 30, "the partition")
        produce(kafka, first, 300, partitions=2, seed=2)
        wanted = [entry for entry in read_committed(kafka, first) if entry.partition == 1 or entry.offset >= 200] + read_committed(kafka, second)
        wait_for(lambda: compare(wanted, sink.files).exact(), 60, "all of it, without a restart")
        assert worker.terminate().code == 0
    sink.verify()
    admin.delete_topics([second])[second].result(30)


def test_what_appears_while_no_worker_runs_is_read_from_its_beginning_too(kafka, admin, topic, pipeline, local):
    """Also when the list of the first topics was lost meanwhile: what nobody has begun is new."""
    family = fresh_name("family")
    first = topic(name=f"{family}.a")
    produce(kafka, first, 200)
    sink = pipeline(f"^{family}\\..*", files=local)
    sink.settings["source"]["start"] = "latest"
    sink.run_to_end()
    sink.files.delete(f"_kas3/{sink.name}/pipeline.json")
    second = create_topic(admin, f"{family}.b", 1)
    produce(kafka, second, 300)
    produce(kafka, first, 100, seed=2)
    sink.run_to_end().says("pipeline.json")
    wanted = [entry for entry in read_committed(kafka, first) if entry.offset >= 200] + read_committed(kafka, second)
    compare(wanted, sink.files).check()
    sink.verify()
    admin.delete_topics([second])[second].result(30)
