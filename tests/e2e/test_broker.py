"""Brokers that are killed, sleep, come back with older data, or are replaced. A worker that lives through it needs no restart.

These tests share a broker of their own, one after the other: the others' must not go away.
"""

import json
import os
import shutil
import signal
import time

import pytest
from services import create_topic, fresh_name
from e2e.broker import Broker
from e2e.driver import wait_for
from faults.looks import Port, logged
from oracle import Stream, Watcher, compare, lines, produce, read_committed

# Longer than the session lasts.
SLEEP_SECONDS = 4 if os.environ.get("KAS3_BROKER_PROTOCOLS") is None else 8
# The others take longer: kip-848, eager.
PROTOCOLS = os.environ.get("KAS3_BROKER_PROTOCOLS", "cooperative").split(",")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    made = Broker(tmp_path_factory.mktemp("broker"))
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def broker_is_up(broker):
    """A test that failed may have left it down."""
    if not broker.service.runs():
        broker.start()


@pytest.fixture
def sinks(pipeline, broker, local):
    """Makes pipelines on that broker that write to a local folder."""

    def make(*topics):
        sink = pipeline(*topics, files=local)
        sink.kafka["bootstrap.servers"] = broker.address
        sink.kafka["reconnect.backoff.max.ms"] = 500
        sink.configure(roll={"records": 500, "age": "500ms"})
        return sink

    return make


def more_files(sink, count=6, seconds=60):
    seen = len(sink.files.paths())
    wait_for(lambda: len(sink.files.paths()) >= seen + count, seconds, "files that go on")


def visible(sink):
    return {line for path in sink.files.paths() for line in lines(path, sink.files.read(path))}


def end(broker, topic, sink):
    sink.run_to_end()
    compare(read_committed(broker.address, topic), sink.files).check()
    sink.verify()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_worker_lives_through_the_death_and_the_sleep_of_its_broker(broker, sinks, protocol):
    name = create_topic(broker.admin(), fresh_name("lives"), 2)
    sink = sinks(name)
    sink.protocol(protocol)
    with Watcher(sink.files), Stream(broker.address, name, 2):
        with sink.start() as worker:
            more_files(sink)
            broker.kill()
            time.sleep(2)
            broker.start()
            more_files(sink)
            # longer than the session lasts: connections stay open, and nobody answers
            broker.sleep(SLEEP_SECONDS)
            more_files(sink)
            broker.shut_down()
            broker.start()
            more_files(sink)
            assert worker.poll() is None
            assert worker.terminate().code == 0
    end(broker, name, sink)


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_a_broker_that_does_not_answer_is_seen_and_told_once(broker, sinks, how):
    name = create_topic(broker.admin(), fresh_name("seen"), 2)
    sink = sinks(name)
    sink.settings["http"] = "127.0.0.1:0"
    sink.kafka["session.timeout.ms"] = 60_000
    produce(broker.address, name, 1000, partitions=2)
    with sink.start() as worker:
        port = Port(worker)
        wait_for(lambda: port.metric("kas3_records_written_total") == 1000 and port.metric("kas3_lag_seconds") == 0, what="the files")
        assert port.reasons() == (200, []) and port.metric("kas3_running") == 1
        if how == "hangs":
            broker.signal(signal.SIGSTOP)
        else:
            broker.kill()
        try:
            wait_for(lambda: port.code("/health") == 503, 40, "/health to tell")
            _, reasons = port.reasons()
            assert len(reasons) == 1 and reasons[0].startswith(f"no broker of `{broker.address}` has answered for"), reasons
            assert ("refused" in reasons[0]) == (how == "dies"), reasons
            assert port.metric("kas3_running") == 0 and port.metric("kas3_conditions", kind="brokers_unreachable") == 1
            assert port.metric("kas3_lag_seconds") > 10, "of both partitions nobody knows what is unread"
            time.sleep(5)
            warnings = [entry["message"] for entry in logged(worker)]
            assert len(warnings) == 1 and warnings[0].startswith("no broker of"), warnings
        finally:
            if how == "hangs":
                broker.signal(signal.SIGCONT)
            else:
                broker.start()
        wait_for(lambda: port.code("/health") == 200, 40, "/health to be well again")
        wait_for(lambda: sum("answer again after" in entry["message"] for entry in logged(worker, "INFO")) == 1, what="the line that says so")
        wait_for(lambda: port.metric("kas3_lag_seconds") == 0, 40, "nothing to be unread")
        assert worker.terminate().code == 0
    end(broker, name, sink)


def test_a_run_to_the_end_whose_broker_dies_in_the_middle_ends(broker, sinks):
    name = create_topic(broker.admin(), fresh_name("middle"), 2)
    produce(broker.address, name, 30_000, partitions=2)
    sink = sinks(name)
    sink.configure(roll={"records": 200, "age": "60s"})
    with Watcher(sink.files), sink.start("--until-end") as worker:
        wait_for(sink.files.paths, 60, "the first files")
        broker.kill()
        seen = len(sink.files.paths())
        assert seen < 100 and worker.poll() is None
        time.sleep(2)
        broker.start()
        assert worker.wait().code == 0
    compare(read_committed(broker.address, name), sink.files).check()
    sink.verify()


def test_a_worker_whose_coordinator_is_gone_stops_in_time_and_loses_nothing(broker, sinks):
    """Its last commit waits for a broker that does not come back: what was not committed is read again."""
    name = create_topic(broker.admin(), fresh_name("gone"), 2)
    sink = sinks(name)
    sink.settings["shutdown_deadline"] = "4s"
    with Watcher(sink.files), Stream(broker.address, name, 2):
        with sink.start() as worker:
            more_files(sink)
            broker.kill()
            time.sleep(1)
            # 3 where something was left to flush
            finished = worker.terminate(20)
            assert finished.code == (3 if "could not be flushed in time" in finished.stderr else 0)
        broker.start()
    end(broker, name, sink)


@pytest.mark.parametrize("when", ["while a worker runs", "while none runs"])
def test_a_log_that_was_cut_back_and_grew_past_our_position_stops_its_partition(broker, sinks, when):
    """The disk of a broker comes back with an older state, and producers go on: the same offsets are other records now."""
    admin = broker.admin()
    name = create_topic(admin, fresh_name("cut"), 2)
    sink = sinks(name)
    produce(broker.address, name, 400, partitions=2)
    broker.shut_down()
    copy = broker.data.parent / name
    shutil.copytree(broker.log(name), copy)
    broker.start()
    produce(broker.address, name, 800, partitions=2, seed=2)
    old = read_committed(broker.address, name)
    ends = [max(entry.offset for entry in old if entry.partition == partition) + 1 for partition in (0, 1)]
    with Watcher(sink.files):
        with sink.start() as worker:
            wait_for(lambda: compare(old, sink.files).exact(), 60, "the files")
            time.sleep(1.5)
            if when == "while none runs":
                worker.terminate()
            # wherever a span was closed, it is known who led the log then; without that a cut would not show
            shown = json.loads(sink.command("ledger", "show", sink.file, "--json").stdout)
            assert all(span["partitions"][0]["leader_epoch"] >= 0 for each in shown for span in each["spans"])
            broker.shut_down()
            shutil.rmtree(broker.log(name))
            shutil.copytree(copy, broker.log(name))
            broker.start()
            produce(broker.address, name, 2000, partitions=2, seed=3)
            now = read_committed(broker.address, name)
            assert max(entry.offset for entry in now if entry.partition == 0) > ends[0]
            known = {entry.value for entry in old}
            cut = min(entry.offset for entry in now if entry.partition == 0 and entry.value not in known)
            assert 100 < cut < ends[0]
            if when == "while a worker runs":
                other = [entry for entry in old + now if entry.partition == 1]
                wait_for(lambda: {e.value for e in other} <= visible(sink), 60, "the other partition")
                time.sleep(2)
                worker.terminate(60).says("cut back")
        finished = sink.run_to_end(code=3).says(f"partition `{name}-0` stops", "cut back", f"--next {cut}")
        assert f"partition `{name}-1` stops" not in finished.stderr
        expected = {entry.value: entry for entry in old + [each for each in now if each.partition == 1]}
        compare(expected.values(), sink.files).check()
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, "--next", cut)
        sink.run_to_end()
    expected = {entry.value: entry for entry in old + now}
    compare(expected.values(), sink.files).check()
    sink.verify()


@pytest.mark.parametrize("when", ["while a worker runs", "while none runs"])
def test_another_cluster_under_the_same_address_stops_everything(broker, sinks, when):
    name = create_topic(broker.admin(), fresh_name("another"), 1)
    produce(broker.address, name, 400)
    old = read_committed(broker.address, name)
    sink = sinks(name)
    with Watcher(sink.files), sink.start() as worker:
        wait_for(lambda: compare(old, sink.files).exact(), 60, "the files")
        if when == "while none runs":
            worker.terminate()
        broker.become(f"kas3-other-{'running' if worker.poll() is None else 'stopped'}")
        create_topic(broker.admin(), name, 1)
        produce(broker.address, name, 1000, seed=2)
        if when == "while a worker runs":
            time.sleep(8)
            worker.terminate()
        before = sink.files.list()
        sink.run_to_end(code=3).says(name, "cluster", "kas3 ledger accept")
        assert sink.files.list() == before
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0)
        sink.run_to_end()
    compare(old + read_committed(broker.address, name), sink.files).check()
    sink.verify()
