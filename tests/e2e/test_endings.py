"""Logs whose end is no record: transaction markers, records that nobody wants, stretches that were compacted away."""

import json
import time

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from e2e.driver import wait_for
from oracle import compare, produce, produce_transactions, read_committed
from oracle.log import producer


def end_of(admin, topic):
    (answer,) = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()}).values()
    return answer.result(30).offset


def next_of(sink):
    """How far the one partition is; None before it has a head."""
    shown = json.loads(sink.command("ledger", "show", sink.file, "--json").stdout)
    return shown[0]["head"]["next"] if shown else None


def delete_records(admin, topic, before):
    admin.delete_records([TopicPartition(topic, 0, before)])[TopicPartition(topic, 0)].result(30)


def aborted(kafka, name):
    produce_transactions(kafka, name, transactions=3, records_each=30, abort_every=1)


def ends_in_a_marker(kafka, name):
    produce_transactions(kafka, name, transactions=2, records_each=30, abort_every=5)


def ends_in_aborts(kafka, name):
    produce_transactions(kafka, name, transactions=3, records_each=30, abort_every=3)


def unwanted(kafka, name):
    client = producer(kafka)
    for i in range(60):
        client.produce(name, b"no json,\nand two lines %d" % i, None, 0)
    client.flush(30)


@pytest.mark.parametrize("ending", [aborted, ends_in_a_marker, ends_in_aborts, unwanted], ids=lambda ending: ending.__name__)
def test_a_run_to_the_end_reaches_an_end_without_records_and_retention_may_pass_it(ending, kafka, admin, topic, pipeline, local):
    name = topic()
    ending(kafka, name)
    sink = pipeline(name, files=local)
    sink.configure(bad_records="skip")
    wanted = [entry for entry in read_committed(kafka, name) if b"\n" not in entry.value]
    sink.run_to_end()
    end = end_of(admin, name)
    assert next_of(sink) == end > (wanted[-1].offset if wanted else 0)
    compare(wanted, sink.files).check()
    sink.verify()
    # nothing is unread: retention that takes all of it stops nothing
    delete_records(admin, name, end)
    sink.run_to_end()
    produce(kafka, name, 50, seed=2)
    ending(kafka, name)
    sink.run_to_end()
    now = [entry for entry in read_committed(kafka, name) if b"\n" not in entry.value]
    compare(wanted + now, sink.files).check()
    assert next_of(sink) == end_of(admin, name)
    sink.verify()


def test_a_worker_that_runs_moves_over_an_empty_stretch_by_itself(kafka, admin, topic, pipeline, local):
    name = topic()
    sink = pipeline(name, files=local)
    sink.configure(roll={"records": 1000, "age": "500ms"})
    with sink.start() as worker:
        aborted(kafka, name)
        wait_for(lambda: next_of(sink) == end_of(admin, name), 60, "the head to move")
        delete_records(admin, name, end_of(admin, name))
        produce(kafka, name, 100, seed=2)
        log = read_committed(kafka, name)
        wait_for(lambda: compare(log, sink.files).exact(), 60, "the records after it")
        assert worker.terminate().code == 0
    sink.verify()


def test_a_run_to_the_end_does_not_wait_for_a_transaction_that_is_open(kafka, admin, topic, pipeline, local):
    """It ends at the last stable offset; what comes after the transaction is for the next run."""
    name = topic()
    produce(kafka, name, 100)
    before = read_committed(kafka, name)
    client = producer(kafka, **{"transactional.id": name})
    client.init_transactions(30)
    client.begin_transaction()
    client.produce(name, b'{"id":"open"}', None, 0)
    client.flush(30)
    produce(kafka, name, 100, seed=2)
    sink = pipeline(name, files=local)
    sink.run_to_end()
    compare(before, sink.files).check()
    assert next_of(sink) == 100
    client.commit_transaction(30)
    sink.run_to_end()
    assert compare(read_committed(kafka, name), sink.files).check().records == 201
    sink.verify()


def test_a_compacted_stretch_between_two_runs_is_passed_over(kafka, topic, pipeline, local):
    """Everything that a stopped pipeline had not read yet is superseded and compacted away, up to the newest of each key."""
    name = topic(cleanup_policy="compact", segment_ms=200, min_cleanable_dirty_ratio=0.01, delete_retention_ms=100)
    produce(kafka, name, 100, key=lambda i: b"first-%d" % i)
    sink = pipeline(name, files=local)
    sink.run_to_end()
    first = read_committed(kafka, name)
    for seed in range(4):
        produce(kafka, name, 300, seed=seed + 2, key=lambda i: b"%d" % (i % 5))
        time.sleep(0.3)
    wait_for(lambda: len(read_committed(kafka, name)) < 1000, 60, "the cleaner")
    before = read_committed(kafka, name)
    sink.run_to_end()
    report = compare({entry.offset: entry for entry in [*first, *before]}.values(), sink.files)
    gone = {entry.offset for entry in before} - {entry.offset for entry in read_committed(kafka, name)}
    assert not (report.doubled or report.unknown or report.disordered or report.broken), str(report)
    assert {int(each.rsplit(" ", 1)[1]) for each in report.lost} <= gone, str(report)
    assert next_of(sink) == 1300
    sink.verify()
