"""SIGKILL before and after every step of the protocol. A restart needs no hand, and the oracle holds.

The points are found in the source, so a new one is tested from the day it is written. Each is reached in the first of several
situations that leads there: small files in the head, bundles of more, uploads of large ones, a long history, staged bytes that
somebody deleted or damaged, bytes that a killed worker left.
"""

import re
import signal

import pytest

from e2e.driver import ROOT
from oracle import LocalFiles, S3Files, Watcher, compare, produce, read_committed

POINT = re.compile(r'kill_point\(\s*"([a-z_]+\.(?:before|after))"\s*\)')
STEPS = {"open", "part", "bundle", "commit", "advance", "complete", "put", "bundle_delete", "settle", "amend", "report", "segment", "reclaim"}


def points():
    found = set()
    for source in ROOT.glob("crates/*/src/**/*.rs"):
        found |= set(POINT.findall(source.read_text()))
    return sorted(found)


def small(sink, _):
    sink.configure(path="{topic}/{value.day}/{partition}_{offset}", roll={"records": 200, "age": "60s"})


def large(sink, _):
    sink.encode(compression="none")
    sink.configure(roll={"records": 14, "age": "60s"})


def bundles(sink, _):
    """Spans of several small files, too much together for a head."""
    sink.encode(compression="none")
    sink.configure(path="{topic}/{value.id}/{partition}_{offset}", roll={"records": 7, "age": "60s"})


def many_files(sink, _):
    """Spans whose lists of files are too long for the head."""
    sink.configure(path="{topic}/{value.id}/{partition}_{offset}", roll={"records": 400, "age": "60s"})


def many_spans(sink, _):
    """More spans than the head keeps."""
    sink.configure(roll={"records": 10, "age": "60s"})


def markers(sink, _):
    """Offsets without records."""
    sink.configure(roll={"records": 100, "age": "60s"})


def cursor(sink, _):
    """The one object that is rewritten. The oracle does not take it for data."""
    sink.configure(path="deviantart", cursor=True, roll={"records": 200, "age": "60s"})
    sink.encode(index="side_file")


def bundle_lost(sink, watcher):
    bundles(sink, watcher)
    assert sink.run_to_end(kill="commit.after").code == -signal.SIGKILL
    assert sink.staged()
    for path in sink.staged():
        sink.files.delete(path)


def head_damaged(sink, watcher):
    small(sink, watcher)
    assert sink.run_to_end(kill="commit.after").code == -signal.SIGKILL
    assert sink.damage_heads()


def upload_lost(sink, watcher):
    large(sink, watcher)
    assert sink.run_to_end(kill="commit.after").code == -signal.SIGKILL
    for path in sink.staged():
        sink.files.delete(path)
    if isinstance(sink.files, S3Files):
        for path, upload in sink.files.uploads():
            sink.files.client.abort_multipart_upload(Bucket=sink.files.bucket, Key=sink.files.prefix + path, UploadId=upload)


def left_behind(sink, watcher):
    """A bundle that no head names, and a head that has moved past it."""
    bundles(sink, watcher)
    assert sink.run_to_end(kill="commit.before:2").code == -signal.SIGKILL
    sink.run_to_end()


def uploads_left_behind(sink, watcher):
    large(sink, watcher)
    assert sink.run_to_end(kill="commit.before:2").code == -signal.SIGKILL
    sink.run_to_end()


SITUATIONS = [
    small, large, bundles, bundle_lost, upload_lost, head_damaged, left_behind, uploads_left_behind, many_files, many_spans, markers, cursor,
]
FIRST = {
    "part": large, "upload": large, "complete": large, "bundle": bundles, "bundle_delete": bundles, "amend": bundle_lost, "reclaim": left_behind,
    "segment": many_files, "advance": markers, "cursor": cursor,
}
LOGS = {each: "large_log" for each in (large, bundles, bundle_lost, upload_lost, left_behind, uploads_left_behind)} | {markers: "aborted_log"}
# Points that are reached in more situations than the first, where something else is at stake.
AGAIN = [
    ("amend.before", upload_lost), ("amend.after", upload_lost), ("bundle.after", bundle_lost), ("put.before", bundle_lost),
    ("put.after", bundle_lost), ("complete.after", upload_lost), ("settle.before", upload_lost), ("reclaim.before", uploads_left_behind),
    ("reclaim.after", uploads_left_behind), ("segment.before", many_spans), ("segment.after", many_spans), ("commit.after", many_files),
    ("commit.before", bundles), ("commit.after", bundles), ("put.before", bundles), ("put.after", bundles), ("settle.before", bundles),
    ("settle.after", bundles), ("put.before", head_damaged), ("put.after", head_damaged), ("amend.before", head_damaged),
    ("amend.after", head_damaged), ("commit.after", many_spans), ("settle.after", many_files),
]


def test_every_step_of_the_protocol_has_its_points():
    found = points()
    missing = {f"{step}.{when}" for step in STEPS for when in ("before", "after")} - set(found)
    assert not missing, f"no kill points {sorted(missing)} in the source"


def below(store, folder):
    """Files of their own for a situation, so that one does not see what another left."""
    if isinstance(store, S3Files):
        return S3Files(store.client, store.bucket, f"{store.prefix}{folder}")
    (store.folder / folder).mkdir()
    return LocalFiles(store.folder / folder)


def kill_and_recover(request, pipeline, store, point, situation):
    """One situation with a kill in it, and the oracle. Returns whether the kill point was reached."""
    topic, log = request.getfixturevalue(LOGS.get(situation, "small_log"))
    sink = pipeline(topic, files=below(store, situation.__name__))
    with Watcher(sink.files) as watcher:
        situation(sink, watcher)
        reached = sink.run_to_end(kill=point).code == -signal.SIGKILL
        halfway = compare(log, sink.files)
        assert not (halfway.doubled or halfway.unknown or halfway.disordered or halfway.broken), str(halfway)
        sink.run_to_end()
    compare(log, sink.files).check()
    sink.verify()
    return reached


@pytest.mark.parametrize("point", points())
def test_a_kill_at_any_point_needs_no_hand(point, store, pipeline, request):
    first = FIRST.get(point.split(".")[0], small)
    for situation in [first, *(each for each in SITUATIONS if each is not first)]:
        if kill_and_recover(request, pipeline, store, point, situation):
            return
    pytest.fail(f"no situation reaches {point}")


@pytest.mark.parametrize(("point", "situation"), AGAIN, ids=lambda value: getattr(value, "__name__", value))
def test_a_kill_in_a_harder_situation_needs_no_hand(point, situation, store, pipeline, request):
    assert kill_and_recover(request, pipeline, store, point, situation), f"{point} was not reached"


# One more time than a start needs to publish what the one before committed; fewer and it would die before it gets anywhere.
AGAIN_AND_AGAIN = [
    ("commit.before", 2, small), ("commit.after", 2, small), ("put.after", 5, small), ("settle.before", 2, small), ("bundle.after", 2, bundles),
    ("commit.after", 2, bundles), ("bundle_delete.after", 2, bundles),
]


@pytest.mark.parametrize(("point", "times", "situation"), AGAIN_AND_AGAIN, ids=lambda value: getattr(value, "__name__", value))
def test_kills_again_and_again_at_one_point_get_through(point, times, situation, kafka, topic, local, pipeline):
    """Every start gets a little further: a pipeline that dies with every second span, each time, still ends. On a local disk,
    where a start is quick: single kills are tried on both stores."""
    name = topic()
    if situation is small:
        produce(kafka, name, 1600, fields=lambda i: {"day": f"2026-01-0{1 + i % 4}"})
    else:
        produce(kafka, name, 56, padding=700_000)
    sink = pipeline(name, files=local)
    starts = 0
    with Watcher(sink.files) as watcher:
        situation(sink, watcher)
        while sink.run_to_end(kill=f"{point}:{times}").code != 0:
            starts += 1
            assert starts < 30, "thirty starts did not suffice"
    assert starts > 2 or point == "settle.before"
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()
