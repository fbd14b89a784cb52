"""Scenario 6: single requests go wrong in every way that a store and the way to it know.

Each fault hits every operation that it can: with small files (in the head), with more of them (in bundles), or with large ones
(uploads in parts).
"""

import asyncio
import signal

import pytest

from faults import faults
from faults.proxy import kind_of
from oracle import Watcher, compare

WRITES = ("PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload")
READS = ("GetObject", "HeadObject", "ListObjectsV2")
PLACES = ("head", "staged", "data")


def small(sink):
    sink.configure(path="{topic}/{value.day}/{partition}_{offset}", roll={"records": 200, "age": "60s"})


def large(sink):
    sink.encode(compression="none")
    sink.configure(roll={"records": 14, "age": "60s"})


def bundled(sink):
    sink.encode(compression="none")
    sink.configure(path="{topic}/{value.id}/{partition}_{offset}", roll={"records": 7, "age": "60s"})


LOGS = {small: "small_log", bundled: "large_log", large: "large_log"}
# What every run of the shape asks of the store: a fault that is meant for it must have hit it.
ASKED = {
    small: {("PutObject", "head"), ("PutObject", "data")},
    bundled: {("PutObject", "head"), ("PutObject", "staged"), ("PutObject", "data")},
    large: {("PutObject", "head"), ("CreateMultipartUpload", "data"), ("UploadPart", "data"), ("CompleteMultipartUpload", "data")},
}


def everywhere(proxy, fault, operations=WRITES, places=PLACES, times=2, skip=0):
    """The fault at the first requests of each operation and place."""
    return [proxy.rule(fault, operation, place, times=times, skip=skip) for operation in operations for place in places]


def lost(proxy):
    return everywhere(proxy, faults.lost_answer, (*WRITES, "AbortMultipartUpload", "DeleteObject"))


def late(proxy):
    return everywhere(proxy, faults.late(2))


def late_and_again(proxy):
    """The same request is applied at once by the sender's next attempt, and once more seconds later."""
    return everywhere(proxy, faults.late(0.8), (*WRITES, "DeleteObject"), times=3)


def conflicts(proxy):
    return everywhere(proxy, faults.conflict, ("PutObject", "CompleteMultipartUpload"), times=3)


def echoes(proxy):
    return everywhere(proxy, faults.twice, (*WRITES, "DeleteObject"))


def failures_after_applying(proxy):
    return everywhere(proxy, faults.error_after_applying, (*WRITES, "DeleteObject"))


def errors_within_success(proxy):
    completion = [proxy.rule(faults.error_in_200(applied), "CompleteMultipartUpload", "data", times=1) for applied in (True, False)]
    return [*completion, *everywhere(proxy, faults.internal_error, times=1)]


def cut_requests(proxy):
    return everywhere(proxy, faults.cut_while_sending)


def cut_answers(proxy):
    return everywhere(proxy, faults.cut_while_answering, (*READS, "CreateMultipartUpload", "CompleteMultipartUpload"), (*PLACES, "ledger", "bucket"))


def throttled(proxy):
    """A third of everything is told to slow down, the start aside."""
    return [proxy.rule(faults.slow_down, where=running, chance=0.3, times=20)]


def slow(proxy):
    return [proxy.rule(faults.slow(0.2), where=running, times=60)]


def running(exchange):
    """Whether it is no race of a start."""
    return exchange.kind != "check"


BOTH = [lost, late_and_again, conflicts, echoes, cut_requests]
CASES = [(fault, shape) for fault in BOTH for shape in LOGS] + [
    (late, large), (failures_after_applying, large), (errors_within_success, large), (cut_answers, large), (slow, large), (throttled, small),
]


@pytest.mark.parametrize(("fault", "shape"), CASES, ids=lambda value: value.__name__)
def test_requests_that_go_wrong_cost_no_record_and_double_none(fault, shape, proxy, through, request):
    topic, log = request.getfixturevalue(LOGS[shape])
    sink = through(topic)
    shape(sink)
    with Watcher(sink.files):
        rules = fault(proxy)
        sink.run_to_end()
        proxy.clear()
        if fault in (late, late_and_again):
            # what was applied late must have changed nothing, to somebody who goes on from here too
            proxy.settle()
            sink.run_to_end()
    hits = {(operation, kind_of(key)) for rule in rules for operation, key in rule.log}
    meant = {(operation, rule.where) for rule in rules for operation in rule.operations}
    assert hits and ASKED[shape] & meant <= hits, f"nothing went wrong with {ASKED[shape] & meant - hits}"
    compare(log, sink.files).check()
    sink.verify()


def behind_our_back(sink, exchange):
    """Somebody deletes what is staged for the file that is being published now."""
    if exchange.operation == "CompleteMultipartUpload":
        upload = {"Bucket": exchange.bucket, "Key": exchange.key, "UploadId": exchange.query["uploadId"]}
        sink.files.client.abort_multipart_upload(**upload)
    else:
        for path in sink.staged():
            sink.files.delete(path)


@pytest.mark.parametrize("shape", [bundled, large], ids=lambda shape: shape.__name__)
def test_staged_bytes_that_somebody_deletes_are_made_again(shape, proxy, through, request):
    topic, log = request.getfixturevalue(LOGS[shape])
    sink = through(topic)
    shape(sink)
    sink.configure(amend_after="1s")

    async def deleted_and_cut(exchange):
        await asyncio.to_thread(behind_our_back, sink, exchange)
        exchange.reset()
        # of files in a bundle the committer has the bytes; a successor has the bundle alone
        if exchange.operation == "PutObject":
            worker.signal(signal.SIGKILL)

    with Watcher(sink.files):
        rule = proxy.rule(deleted_and_cut, ("CompleteMultipartUpload", "PutObject"), "data", times=1, skip=1)
        with sink.start("--until-end") as worker:
            finished = worker.wait()
        assert rule.hits == 1
        if finished.code != 0:
            finished = sink.run_to_end()
    assert "staged bytes of" in finished.stderr, "it says what was lost"
    compare(log, sink.files).check()
    sink.verify()


def test_an_upload_that_is_aborted_while_it_grows_is_read_again(proxy, through, large_log):
    topic, log = large_log
    sink = through(topic)
    large(sink)

    async def aborted(exchange):
        await asyncio.to_thread(behind_our_back_while_growing, exchange)
        await exchange.answer(await exchange.forward())

    def behind_our_back_while_growing(exchange):
        sink.files.client.abort_multipart_upload(Bucket=exchange.bucket, Key=exchange.key, UploadId=exchange.query["uploadId"])

    with Watcher(sink.files):
        rule = proxy.rule(aborted, "UploadPart", "data", times=1, skip=1)
        sink.run_to_end()
    assert rule.hits == 1
    compare(log, sink.files).check()
    sink.verify()


@pytest.mark.parametrize("fault", [faults.refuse_parts, faults.conflict], ids=["refused", "conflicts"])
def test_an_upload_that_can_never_be_completed_is_made_again(fault, proxy, through, large_log):
    topic, log = large_log
    sink = through(topic)
    large(sink)
    sink.configure(amend_after="500ms")
    refused = set()

    def is_first_upload(exchange):
        if exchange.kind == "data" and not refused:
            refused.add(exchange.query["uploadId"])
        return exchange.query["uploadId"] in refused

    with Watcher(sink.files):
        rule = proxy.rule(fault, "CompleteMultipartUpload", is_first_upload)
        finished = sink.run_to_end()
    assert rule.hits >= 1
    finished.says("refuses to complete the upload")
    compare(log, sink.files).check()
    assert sink.files.uploads() == [], "the one that could not be completed was aborted"
    sink.verify()


def test_a_start_through_a_store_that_fails_now_and_then_needs_no_second(proxy, through, small_log):
    topic, log = small_log
    sink = through(topic)
    small(sink)
    with Watcher(sink.files):
        rules = [
            proxy.rule(fault, chance=0.1, times=12)
            for fault in (faults.lost_answer, faults.slow_down, faults.error_after_applying, faults.conflict, faults.cut_while_answering)
        ]
        sink.run_to_end()
    assert all(rule.hits for rule in rules)
    compare(log, sink.files).check()
    sink.verify()
