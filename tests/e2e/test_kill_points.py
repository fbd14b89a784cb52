"""SIGKILL before and after every step of the protocol. A restart needs no hand, and the oracle holds.

The points are found in the source, so a new one is tested from the day it is written. Each is reached in the first of several
situations that leads there: bundles of small files, uploads of large ones, a long history, staged bytes that somebody
deleted, bytes that a killed worker left.
"""

import re
import signal

import pytest

from e2e.driver import ROOT
from oracle import Watcher, compare

POINT = re.compile(r'kill_point\(\s*"([a-z_]+\.(?:before|after))"\s*\)')
STEPS = {"open", "part", "bundle", "commit", "complete", "put", "bundle_delete", "settle", "amend", "report", "segment", "reclaim"}


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


def history(sink, _):
    """Many spans, and many files in each."""
    sink.configure(path="{topic}/{value.id}/{partition}_{offset}", roll={"records": 50, "age": "60s"})


def bundle_lost(sink, watcher):
    small(sink, watcher)
    assert sink.run_to_end(kill="commit.after").code == -signal.SIGKILL
    for path in sink.staged():
        sink.files.delete(path)


def upload_lost(sink, watcher):
    large(sink, watcher)
    assert sink.run_to_end(kill="commit.after").code == -signal.SIGKILL
    if hasattr(sink.files, "uploads"):
        for path, upload in sink.files.uploads():
            sink.files.client.abort_multipart_upload(Bucket=sink.files.bucket, Key=sink.files.prefix + path, UploadId=upload)
    else:
        bundle_lost(sink, watcher)


def left_behind(sink, watcher):
    """A bundle that no head names, and a head that has moved past it."""
    small(sink, watcher)
    assert sink.run_to_end(kill="commit.before:2").code == -signal.SIGKILL
    sink.run_to_end()


def uploads_left_behind(sink, watcher):
    large(sink, watcher)
    assert sink.run_to_end(kill="commit.before:2").code == -signal.SIGKILL
    sink.run_to_end()


SITUATIONS = [small, large, bundle_lost, upload_lost, left_behind, uploads_left_behind, history]
FIRST = {"part": large, "upload": large, "complete": large, "amend": bundle_lost, "reclaim": left_behind, "segment": history}
OF_LARGE_FILES = {large, upload_lost, uploads_left_behind}


def test_every_step_of_the_protocol_has_its_points():
    found = points()
    missing = {f"{step}.{when}" for step in STEPS for when in ("before", "after")} - set(found)
    assert not missing, f"no kill points {sorted(missing)} in the source"


@pytest.mark.parametrize("point", points())
def test_a_kill_at_any_point_needs_no_hand(point, store, small_log, large_log, pipeline):
    first = FIRST.get(point.split(".")[0], small)
    for number, situation in enumerate([first, *(each for each in SITUATIONS if each is not first)]):
        topic, log = large_log if situation in OF_LARGE_FILES else small_log
        files = type(store)(store.folder / str(number)) if hasattr(store, "folder") else type(store)(store.client, store.bucket, f"lake/{number}")
        if hasattr(files, "folder"):
            files.folder.mkdir(exist_ok=True)
        sink = pipeline(topic, files=files)
        with Watcher(files) as watcher:
            situation(sink, watcher)
            reached = sink.run_to_end(kill=point).code == -signal.SIGKILL
            halfway = compare(log, files)
            assert not (halfway.doubled or halfway.unknown or halfway.disordered or halfway.broken), str(halfway)
            sink.run_to_end()
        compare(log, files).check()
        if reached:
            sink.verify()
            return
    pytest.fail(f"no situation reaches {point}")


@pytest.mark.parametrize("point", ["bundle.after", "commit.before", "commit.after", "put.after", "bundle_delete.after", "settle.before"])
def test_kills_again_and_again_at_one_point_get_through(point, store, small_log, pipeline):
    """Every start gets a little further: a pipeline that dies at its second commit, each time, still ends."""
    topic, log = small_log
    sink = pipeline(topic)
    with Watcher(sink.files) as watcher:
        small(sink, watcher)
        for _ in range(30):
            if sink.run_to_end(kill=f"{point}:2").code == 0:
                break
        else:
            pytest.fail("thirty starts did not suffice")
    compare(log, sink.files).check()
    sink.verify()
