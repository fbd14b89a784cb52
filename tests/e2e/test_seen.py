"""What an operator sees: records that are unread, partitions that stopped, transactions and groups that are waited for, refused records."""

import json
import os
import signal
import time

import pytest

from e2e.driver import wait_for
from faults.looks import Port, logged
from oracle import compare, produce, read_committed
from oracle.log import producer

BAD = b"no json,\nand two lines"


def seen(port, kind):
    """The condition of a kind that `/health` names, if there is one."""
    found = [condition for condition in json.loads(port.ask("/health")[1])["conditions"] if condition["kind"] == kind]
    return found[0] if found else None


def said(worker):
    """All messages of the log; every line must be JSON."""
    return [json.loads(line)["message"] for line in worker.errors.read_text().splitlines()]


@pytest.fixture
def watched(pipeline, local):
    def make(*topics):
        sink = pipeline(*topics, files=local)
        sink.configure(roll={"records": 1000, "age": "500ms"})
        sink.settings["http"] = "127.0.0.1:0"
        return sink

    return make


def bad_in_the_middle(kafka, name, before=50, behind=52):
    produce(kafka, name, before)
    client = producer(kafka)
    client.produce(name, BAD, None, 0)
    client.flush(30)
    produce(kafka, name, behind, seed=2)


def test_a_partition_that_stopped_stays_so_through_its_retries_until_it_is_behind_the_record(kafka, topic, watched):
    name = topic()
    bad_in_the_middle(kafka, name)
    sink = watched(name)
    with sink.start() as worker:
        port = Port(worker)
        wait_for(lambda: port.code("/health") == 503, what="/health to tell")
        wait_for(lambda: port.metric("kas3_lag_records") == 53, what="the end of the partition")
        deadline, ages = time.monotonic() + 25, []
        while time.monotonic() < deadline:
            # a retry comes after 15 seconds
            assert port.code("/health") == 503 and port.metric("kas3_partition_stopped") == 1 and port.metric("kas3_partitions_stopped") == 1
            ages.append(port.metric("kas3_lag_seconds"))
            time.sleep(0.1)
        assert min(ages) > 0 and ages[-1] > ages[0] + 15, ages[::20]
        assert port.metric("kas3_unread_records") == 53
        assert port.metric("kas3_records_read_total") >= port.metric("kas3_records_written_total") == 50
        assert len(logged(worker, "ERROR")) == 1, "one line, however often it is tried again"
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, "--next", 51)
        wait_for(lambda: port.code("/health") == 200, 60, "the partition to go on")
        wait_for(lambda: port.metric("kas3_lag_records") == 0 and port.metric("kas3_lag_seconds") == 0, what="the rest")
        assert port.metric("kas3_partition_stopped") == 0
        told = lambda: sum(f"partition `{name}-0` goes on after it was stopped for" in line for line in said(worker))  # noqa: E731
        wait_for(lambda: told() == 1, what="the line that says so")
        assert worker.terminate().code == 0
    sink.run_to_end()
    compare([entry for entry in read_committed(kafka, name) if entry.offset != 50], sink.files).check()


@pytest.mark.parametrize("how", ["asked to stop", "until the end"])
def test_a_run_with_a_partition_that_stopped_ends_with_three_and_its_last_lines_are_json(how, kafka, topic, watched):
    name = topic()
    bad_in_the_middle(kafka, name)
    sink = watched(name)
    with sink.start(*(["--until-end"] if how == "until the end" else [])) as worker:
        if how == "asked to stop":
            wait_for(lambda: logged(worker, "ERROR"), what="the stop")
            worker.signal(signal.SIGINT)
        assert worker.wait().code == 3
        *_, stop, last = said(worker)
        assert stop.startswith(f"stopped: partition `{name}-0`") and "50 records published" in last, (stop, last)


def test_records_behind_an_open_transaction_are_unread_and_waited_for(kafka, topic, watched):
    name = topic()
    produce(kafka, name, 100)
    client = producer(kafka, **{"transactional.id": name})
    client.init_transactions(30)
    client.begin_transaction()
    began = time.time()
    client.produce(name, b'{"id":"open"}', None, 0)
    client.flush(30)
    produce(kafka, name, 99, seed=2)
    sink = watched(name)
    with sink.start() as worker:
        port = Port(worker)
        wait_for(lambda: port.metric("kas3_records_written_total") == 100, what="what is before it")
        wait_for(lambda: port.metric("kas3_unread_records") == 100, what="the end of the partition")
        wait_for(lambda: port.metric("kas3_stable_offset") == 100, what="the stable offset")
        assert port.metric("kas3_lag_records") == 100
        assert port.metric("kas3_lag_seconds") > 0
        wait_for(lambda: port.metric("kas3_lag_seconds") > time.time() - began - 3, 30, "the age of the record itself")
        waits = wait_for(lambda: seen(port, "transaction_open"), 60, "/health to name it")
        assert waits["subject"] == f"{name}-0" and waits["severity"] == "warning" and "100 offsets from 100" in waits["text"], waits
        assert port.code("/health") == 200 and port.metric("kas3_conditions", kind="transaction_open") == 1
        client.commit_transaction(30)
        wait_for(lambda: port.metric("kas3_unread_records") == 0 and port.metric("kas3_lag_seconds") == 0, what="the rest")
        wait_for(lambda: seen(port, "transaction_open") is None, what="/health to be well")
        wait_for(lambda: sum("waits for no transaction any more" in line for line in said(worker)) == 1, what="the line that says so")
        assert worker.terminate().code == 0
    compare(read_committed(kafka, name), sink.files).check()


def test_a_start_that_waits_for_its_group_says_so(kafka, topic, watched):
    name = topic()
    produce(kafka, name, 100)
    sink = watched(name)
    sink.kafka["session.timeout.ms"] = 15_000
    with sink.start() as worker:
        wait_for(sink.files.paths, what="files")
        worker.kill()
    with sink.start() as worker:
        port = Port(worker)
        waits = wait_for(lambda: seen(port, "group_awaited"), 14, "/health to name it")
        assert waits["subject"] == sink.name and "15000" in waits["reason"] and port.code("/health") == 200, waits
        wait_for(lambda: port.metric("kas3_partitions_assigned") == 1, 60, "the partition")
        assert seen(port, "group_awaited") is None
        told = lambda: sum(f"the consumer group `{sink.name}` has given partitions after" in line for line in said(worker))  # noqa: E731
        wait_for(lambda: told() == 1, what="the line that says so")
        assert worker.terminate().code == 0


def test_a_record_that_is_passed_over_leaves_its_offset_and_its_reason(kafka, topic, watched):
    name = topic()
    bad_in_the_middle(kafka, name)
    sink = watched(name)
    sink.configure(bad_records="skip")
    with sink.start(KAS3_LOG="info,kas3_sink=debug") as worker:
        port = Port(worker)
        wait_for(lambda: port.metric("kas3_records_written_total") == 102, what="the files")
        (partition,) = json.loads(port.ask("/api/status")[1])["partitions"]
        (refused,) = partition["refused_last"]
        assert refused["offset"] == 50 and refused["code"] in dict(partition["refusals"]) and refused["detail"], refused
        lines = [json.loads(line) for line in worker.errors.read_text().splitlines()]
        assert any(line.get("offset") == 50 and refused["code"] in line["reason"] for line in lines), "the log names it"
        assert any(line["message"] == "file published" and line["path"] for line in lines)
        assert worker.terminate().code == 0


@pytest.mark.parametrize("protocol", ["ssl", "plaintext"])
def test_tls_against_a_plaintext_port_and_the_reverse_are_one_line(protocol, kafka, topic, pipeline, local):
    sink = pipeline(topic(), files=local)
    sink.kafka["security.protocol"] = protocol
    if protocol == "plaintext":
        sink.kafka["bootstrap.servers"] = os.environ["KAS3_KAFKA_TLS"]
    finished = sink.command("run", sink.file, code=3)
    lines = [json.loads(line) for line in finished.stderr.splitlines()]
    assert len(lines) == 2 and lines[0]["message"] == "starting", finished.stderr
    way_out = {"ssl": "the broker's port speaks no TLS", "plaintext": "the broker closes the connection at its first request: if its port speaks TLS"}[protocol]
    assert lines[1]["level"] == "ERROR" and lines[1]["hint"].startswith(way_out), lines[1]
