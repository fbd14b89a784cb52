"""Scenario 33: the way to Kafka is slow, held up, swallowed, cut, half open, refused, or its name cannot be resolved. A worker that
runs waits for better times, says so without filling the log, and goes on by itself."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from e2e.driver import wait_for
from faults.kafka_proxy import NAME, TROUBLES, KafkaProxy, trouble
from oracle import Stream, Watcher, compare, produce, read_committed

# Longer than the session of these tests lasts: the group has given the partitions away by then.
TROUBLE_SECONDS = 5
# A refusal lasts longer than the poll interval may.
MAX_POLL_SECONDS = 6
# Lines in the log of one test at most, librdkafka's own about each request that it gives up included: ten or so for each connection.
LINES_MAX = 150


@pytest.fixture
def way(kafka):
    with KafkaProxy(kafka) as proxy:
        yield proxy


@pytest.fixture
def through(pipeline, local, way):
    """Makes pipelines that reach Kafka through the proxy, and write to a local folder."""

    def make(*topics):
        sink = pipeline(*topics, files=local)
        sink.kafka["bootstrap.servers"] = way.address
        sink.configure(roll={"records": 500, "age": "500ms"})
        return sink

    return make


def more_files(sink, count=4, seconds=60):
    seen = len(sink.files.paths())
    wait_for(lambda: len(sink.files.paths()) >= seen + count, seconds, "files that go on")


def end(kafka, topic, sink):
    sink.run_to_end()
    compare(read_committed(kafka, topic), sink.files).check()
    sink.verify()


@pytest.mark.parametrize("name", TROUBLES)
def test_connections_to_kafka_that_go_wrong_end_no_worker_and_cost_no_record(name, kafka, topic, way, through):
    log = topic(partitions=2)
    sink = through(log)
    # what leads nowhere is given up after this, and a request to join the group after the poll interval: a minute each otherwise
    sink.kafka.update({"socket.timeout.ms": 3000, "max.poll.interval.ms": MAX_POLL_SECONDS * 1000, "reconnect.backoff.max.ms": 1000})
    with Watcher(sink.files), Stream(kafka, log, 2), sink.start() as worker:
        more_files(sink)
        before = worker.said().count("\n")
        for _ in range(2):
            trouble(way, name, TROUBLE_SECONDS)
            more_files(sink)
        assert worker.poll() is None, worker.said()[-3000:]
        lines = worker.said().count("\n") - before
        print(f"{name}: {lines} lines in the log")
        assert lines < LINES_MAX, worker.said()[-6000:]
        assert worker.terminate().code == 0
    end(kafka, log, sink)


def test_a_run_to_the_end_gets_there_through_connections_that_are_cut_again_and_again(kafka, topic, way, through):
    log = topic(partitions=2)
    produce(kafka, log, 20_000, partitions=2, padding=200)
    sink = through(log)
    sink.kafka["reconnect.backoff.max.ms"] = 500
    with Watcher(sink.files), sink.start("--until-end") as worker:
        wait_for(sink.files.paths, 60, "the first files")
        trouble(way, "cut", 3, often=0.3)
        assert worker.wait().code == 0
    end(kafka, log, sink)


def test_a_broker_that_refuses_for_longer_than_the_poll_interval_is_waited_for(kafka, topic, way, through):
    log = topic(partitions=2)
    sink = through(log)
    sink.kafka.update({"max.poll.interval.ms": MAX_POLL_SECONDS * 1000, "session.timeout.ms": 6000, "reconnect.backoff.max.ms": 1000})
    with Watcher(sink.files), Stream(kafka, log, 2), sink.start() as worker:
        more_files(sink)
        way.down()
        time.sleep(3 * MAX_POLL_SECONDS)
        assert worker.poll() is None, worker.said()[-3000:]
        way.heal()
        more_files(sink)
        assert worker.terminate().code == 0
    end(kafka, log, sink)


@pytest.fixture
def names(tmp_path):
    """The environment in which the proxy's name resolves as long as a file is there, and that file."""
    compiler = shutil.which("cc") or pytest.fail("there is no C compiler; `dev/setup` installs one", pytrace=False)
    library, file = tmp_path / "names.so", tmp_path / "resolves"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("names.c"), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "KAS3_TEST_NAME": NAME.decode(), "KAS3_TEST_NAME_FILE": str(file)}, file


def test_a_name_server_that_fails_while_a_worker_runs_is_waited_for_and_at_the_start_it_is_told(kafka, topic, through, names):
    environment, file = names
    log = topic(partitions=2)
    with KafkaProxy(kafka, named=True) as way:
        sink = through(log)
        sink.kafka.update({"bootstrap.servers": way.address, "reconnect.backoff.max.ms": 1000, "broker.address.ttl": 500})
        with sink.start(**environment) as lost:
            assert lost.wait(60).says(NAME.decode(), "resolve").code == 3
        file.touch()
        with Watcher(sink.files), Stream(kafka, log, 2), sink.start(**environment) as worker:
            more_files(sink)
            file.unlink()
            way.cut()
            time.sleep(TROUBLE_SECONDS)
            assert worker.poll() is None, worker.said()[-3000:]
            file.touch()
            more_files(sink)
            assert worker.terminate().code == 0
        sink.kafka["bootstrap.servers"] = kafka
        end(kafka, log, sink)
