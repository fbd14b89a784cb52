"""Kills at random moments, workers that come and go, and a worker that sleeps while another takes over."""

import os
import random
import signal
import time

import pytest
from confluent_kafka.admin import NewPartitions

from e2e.driver import PROTOCOLS, stopped, wait_for
from oracle import Stream, Watcher, compare, produce, read_committed
from torture.broker import shorten_session
from torture.files import Bucket
from torture.run import Run
from torture.scenario import scenario

# Of the campaigns of `make torture`: one to three workers, each protocol, bundles and uploads; the broker is shared, and left alone.
CAMPAIGN_SEEDS = [4, 7, 26, 33]
CAMPAIGN_SECONDS = 8
SEEDS = [int(seed) for seed in os.environ.get("KAS3_SEEDS", "1,2,3").split(",")]


def end(kafka, topic, sink):
    """What every such test ends with."""
    sink.run_to_end()
    compare(read_committed(kafka, topic), sink.files).check()
    sink.verify()


@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_random_moments(kafka, topic, pipeline, store, seed):
    rng = random.Random(seed)
    name = topic(partitions=3)
    sink = pipeline(name)
    sink.configure(path="{topic}/{value.day}/{partition}_{offset}", roll={"records": rng.choice([150, 400, 1000]), "age": "500ms"})
    with Watcher(sink.files), Stream(kafka, name, 3, seed=seed, fields=lambda i: {"day": f"2026-01-0{1 + i % 3}"}):
        for _ in range(8):
            with sink.start() as worker:
                time.sleep(rng.uniform(0.2, 2.5))
                assert worker.kill(), f"the worker ended by itself:\n{worker.finished.stderr}"
    end(kafka, name, sink)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_workers_come_and_go(kafka, topic, pipeline, protocol):
    name = topic(partitions=6)
    sink = pipeline(name)
    sink.configure(roll={"records": 500, "age": "500ms"})
    sink.protocol(protocol)
    rng = random.Random(protocol)
    with Watcher(sink.files), Stream(kafka, name, 6):
        with sink.start() as first:
            time.sleep(2)
            for _ in range(3):
                with sink.start() as other:
                    time.sleep(rng.uniform(0.5, 2.5))
                    if rng.random() < 0.5:
                        other.kill()
                    else:
                        assert other.terminate().code == 0
            wait_for(sink.files.paths, 30, "files of the first worker")
            assert first.terminate().code == 0
    end(kafka, name, sink)


@pytest.mark.parametrize("protocol", ["cooperative", "kip-848"])
def test_a_worker_that_slept_through_its_eviction_changes_nothing(kafka, topic, pipeline, protocol):
    name = topic(partitions=2)
    sink = pipeline(name)
    sink.configure(roll={"records": 300, "age": "500ms"})
    sink.protocol(protocol)
    with Watcher(sink.files), Stream(kafka, name, 2):
        with sink.start() as stale:
            wait_for(lambda: _partitions(sink) == {"0", "1"}, 60, "the first worker's files")
            with stopped(stale), sink.start() as fresh:
                seen = len(sink.files.paths())
                wait_for(lambda: len(sink.files.paths()) > seen + 8, 60, "the second worker's files")
                # Both believe now that they own the partitions.
                stale.signal(signal.SIGCONT)
                time.sleep(3)
                assert fresh.poll() is None
            assert stale.poll() is None, f"the worker that slept ended:\n{stale.finished.stderr}"
            assert stale.terminate().code == 0
    end(kafka, name, sink)


def _partitions(sink):
    return {path.rsplit("/", 1)[1].split("_")[0] for path in sink.files.paths()}


def test_a_static_member_comes_back_without_a_rebalance(kafka, topic, pipeline):
    name = topic(partitions=2)
    sink = pipeline(name)
    sink.kafka["group.instance.id"] = "one"
    with Watcher(sink.files), Stream(kafka, name, 2):
        for _ in range(3):
            with sink.start() as worker:
                seen = len(sink.files.paths())
                wait_for(lambda: len(sink.files.paths()) > seen, 60, "files")
                worker.kill()
    del sink.kafka["group.instance.id"]
    end(kafka, name, sink)


@pytest.mark.parametrize("seed", CAMPAIGN_SEEDS)
def test_a_short_campaign_of_random_faults(kafka, admin, topic, s3, bucket, pipeline, seed):
    plan = scenario(seed, broker=False)
    name = topic(partitions=plan.shape.partitions, max_message_bytes=8_000_000)
    run = Run(plan, admin, kafka, name, pipeline(name, files=Bucket(s3, bucket, "lake")))
    run.go(CAMPAIGN_SECONDS, in_span=1)
    assert any(kill["in_span"] for kill in run.kills), f"no kill fell between the first staged byte and the settlement: {run.kills}"


@pytest.mark.parametrize("protocol", ["cooperative", "kip-848"])
def test_of_two_workers_with_one_instance_id_one_says_so_and_the_other_goes_on(kafka, topic, pipeline, protocol):
    name = topic(partitions=2)
    sink = pipeline(name)
    sink.configure(roll={"records": 300, "age": "500ms"})
    sink.protocol(protocol)
    sink.kafka["group.instance.id"] = "twin"
    with Watcher(sink.files), Stream(kafka, name, 2):
        with sink.start() as one:
            wait_for(sink.files.paths, 60, "the first worker's files")
            with sink.start() as other:
                wait_for(lambda: one.poll() or other.poll(), 60, "one of them to end")
                ended, lives = (one, other) if one.poll() else (other, one)
                assert ended.finished.code == 3
                ended.finished.says("instance")
                seen = len(sink.files.paths())
                wait_for(lambda: len(sink.files.paths()) > seen, 60, "files of the one that is left")
                assert lives.terminate().code == 0
    del sink.kafka["group.instance.id"]
    end(kafka, name, sink)


def test_a_static_member_under_kip_848_waits_for_the_session_of_its_dead_self(kafka, admin, topic, pipeline):
    name = topic(partitions=2)
    produce(kafka, name, 400, partitions=2)
    sink = pipeline(name)
    sink.protocol("kip-848")
    shorten_session(admin, sink.name, 6000)
    sink.kafka["group.instance.id"] = "phoenix"
    with Watcher(sink.files):
        with sink.start() as worker:
            wait_for(lambda: _partitions(sink) == {"0", "1"}, 60, "the first worker's files")
            worker.kill()
        with sink.start() as waits:
            wait_for(lambda: "`phoenix`" in waits.said(), 30, "the reason why it waits")
            # one that waits ends as readily as any other
            assert waits.terminate(10).code == 0
        produce(kafka, name, 400, partitions=2, seed=2)
        with sink.start() as again:
            wait_for(lambda: not compare(read_committed(kafka, name), sink.files).lost, 60, "the files of all records")
            assert again.terminate().code == 0
    del sink.kafka["group.instance.id"]
    end(kafka, name, sink)


def test_partitions_that_appear_later_begin_at_their_beginning(kafka, admin, topic, pipeline):
    name = topic(partitions=1)
    produce(kafka, name, 200)
    sink = pipeline(name)
    sink.settings["source"]["start"] = "latest"
    sink.kafka["topic.metadata.refresh.interval.ms"] = 500
    sink.run_to_end()
    assert sink.files.paths() == []
    admin.create_partitions([NewPartitions(name, 3)])[name].result(30)
    wait_for(lambda: len(admin.list_topics(name, 10).topics[name].partitions) == 3, 30, "partitions")
    produce(kafka, name, 600, partitions=3, seed=2)
    sink.run_to_end()
    compare([entry for entry in read_committed(kafka, name) if entry.partition or entry.offset >= 200], sink.files).check()


def test_sigterm_flushes_and_publishes_what_was_read(kafka, topic, pipeline, store):
    name = topic(partitions=2)
    sink = pipeline(name)
    sink.configure(roll={"records": 1_000_000, "age": "1h"})
    sink.settings["http"] = "127.0.0.1:0"
    produce(kafka, name, 5000, partitions=2)
    with Watcher(sink.files), sink.start() as worker:
        time.sleep(6)
        assert sink.files.paths() == []
        assert worker.terminate(30).code == 0
    compare(read_committed(kafka, name), sink.files).check()
    assert sink.staged() == []
    sink.verify()


def test_two_first_starts_at_once_agree_on_one_beginning(kafka, topic, pipeline):
    name = topic(partitions=4)
    produce(kafka, name, 500, partitions=4)
    sink = pipeline(name)
    sink.settings["source"]["start"] = "latest"
    with Watcher(sink.files), Stream(kafka, name, 4, records_per_second=1000):
        with sink.start() as one, sink.start() as other:
            wait_for(lambda: len(_partitions(sink)) == 4, 60, "files of all partitions")
            one.kill()
            other.kill()
    sink.run_to_end()
    log = read_committed(kafka, name)
    report = compare(log, sink.files)
    assert not (report.doubled or report.unknown or report.disordered or report.broken), str(report)
    for partition in range(4):
        offsets = [entry.offset for entry in log if entry.partition == partition]
        lost = [int(each.rsplit(" ", 1)[1]) for each in report.lost if each.startswith(f"{name}-{partition} ")]
        assert lost == offsets[: len(lost)], f"partition {partition}: a hole after the beginning"
        assert 0 < len(lost) < len(offsets)
    sink.verify()


@pytest.mark.parametrize("dies, stays", [("one", "two"), ("two", "one")])
def test_a_static_member_that_dies_while_it_gives_a_partition_away_leaves_none_without_an_owner(kafka, topic, pipeline, dies, stays):
    name = topic(partitions=2)
    produce(kafka, name, 400, partitions=2)
    sink = pipeline(name)
    sink.protocol("cooperative")
    sink.kafka.update({"group.instance.id": "${INSTANCE}", "session.timeout.ms": 20_000})
    sink.settings["source"]["revoke_deadline"] = "1s"
    # the first commit is that of the revocation, which the second worker causes
    sink.configure(roll={"records": 1_000_000, "age": "1h"})
    with Watcher(sink.files), sink.start(kill="commit.before", INSTANCE=dies) as first:
        wait_for(lambda: "partitions assigned" in first.said(), 60, "the first worker's partitions")
        time.sleep(1)
        sink.configure(roll={"records": 1_000_000, "age": "1s"})
        with sink.start(INSTANCE=stays) as other:
            assert first.wait(60).code == -signal.SIGKILL
            with sink.start(INSTANCE=dies) as again:
                wait_for(lambda: _partitions(sink) == {"0", "1"}, 60, "files of both partitions")
                assert "revoked" not in again.said() + other.said(), "what had an owner changed hands"
                assert again.terminate().code == 0
            assert other.terminate().code == 0
    del sink.kafka["group.instance.id"]
    end(kafka, name, sink)
