"""Changes around a pipeline: another bucket, another version, another deployment of its name, a pipeline beside it."""

import json
import signal

import pytest

from e2e import test_kill_points as situations
from e2e.driver import wait_for
from oracle import S3Files, Stream, Watcher, compare, lines, produce, read_committed


def everything(*places):
    """The records of all files of several places."""
    return [line for files in places for path in files.paths() for line in lines(path, files.read(path))]


def pending(sink):
    """The files of spans that are pending, by where their bytes are."""
    return [file["staged"] for head in sink.heads().values() for span in head["pending"] for file in span["files"]]


@pytest.mark.parametrize("place", ["head", "bundle", "bundle that is lost"])
def test_a_sink_that_moves_while_a_span_is_pending_publishes_it_where_it_was_committed_for(place, kafka, request, s3, bucket, pipeline):
    name, log = request.getfixturevalue("small_log" if place == "head" else "large_log")
    old, new = S3Files(s3, bucket, "old"), S3Files(s3, bucket, "new")
    sink = pipeline(name, files=old)
    sink.configure(path="{topic}/{value.day}/{partition}_{offset}")
    if place != "head":
        situations.bundles(sink, None)
    with Watcher(old), Watcher(new):
        assert sink.run_to_end(kill="commit.after:3").code == -signal.SIGKILL
        staged = sink.staged()
        assert bool(staged) == (place != "head")
        if place == "bundle that is lost":
            for path in staged:
                old.delete(path)
        visible = len(old.paths())
        assert {next(iter(each)) for each in pending(sink)} == {place.split()[0]}
        bundles = {each["bundle"]["path"] for each in pending(sink) if "bundle" in each}
        sink.settings["ledger"] = {"url": old.url}
        sink.configure(url=new.url)
        sink.run_to_end().says("it is published where it was committed for")
    assert len(old.paths()) > visible and new.paths()
    found = everything(old, new)
    assert sorted(found) == sorted(entry.value for entry in log)
    assert not bundles & set(old.paths(everything=True))
    # the ledger lies elsewhere than the files now, and takes none of them along
    assert not any(head.get("bytes") for head in sink.heads().values())
    sink.verify()


def test_a_sink_that_moves_without_its_ledger_stops(kafka, small_log, s3, bucket, pipeline):
    name, log = small_log
    old, new = S3Files(s3, bucket, "old"), S3Files(s3, bucket, "new")
    sink = pipeline(name, files=old)
    sink.run_to_end()
    sink.configure(url=new.url)
    sink.run_to_end(code=3).says("were moved", f"set `ledger.url: {old.url}`", "kas3 ledger accept")
    assert new.paths() == []
    sink.settings["ledger"] = {"url": old.url}
    sink.run_to_end()
    assert new.paths() == []
    compare(log, old).check()


def head_path(sink, topic, partition=0):
    folder = f"{sink.ledger_folder(topic)}/{partition:05}/"
    return max(path for path in sink.files.paths(everything=True) if path.startswith(folder) and "/head" in path)


def test_what_a_newer_version_keeps_in_the_ledger_survives_this_one(kafka, topic, pipeline):
    """Both run side by side during an upgrade: fields that we do not know are written back as they were."""
    name = topic()
    produce(kafka, name, 400)
    sink = pipeline(name)
    assert sink.run_to_end(kill="commit.after:2").code == -signal.SIGKILL
    path = head_path(sink, name)
    head = json.loads(sink.files.read(path))
    head["of_tomorrow"] = {"lease": [1, 2, {"deep": None}]}
    assert head["pending"] and head["closed"]
    for span in (head["pending"][0], head["closed"][0]):
        span["of_tomorrow"] = "span"
        span["roll"] = "tide"
        span["counts"]["of_tomorrow"] = span["partitions"][0]["of_tomorrow"] = span["files"][0]["offsets"][0]["of_tomorrow"] = [1]
        span["files"][0]["of_tomorrow"] = "file"
    marked = [span["id"] for span in (head["pending"][0], head["closed"][0])]
    sink.files.write(path, json.dumps(head).encode())
    sink.run_to_end()
    # beyond what a head holds, so that spans move into a segment
    sink.configure(roll={"records": 10, "age": "60s"})
    produce(kafka, name, 800, seed=2)
    sink.run_to_end()
    assert json.loads(sink.files.read(head_path(sink, name)))["of_tomorrow"] == {"lease": [1, 2, {"deep": None}]}
    (segment,) = [path for path in sink.files.paths(everything=True) if path.endswith(".jsonl") and "/ledger/" in path]
    spans = {span["id"]: span for span in map(json.loads, sink.files.read(segment).splitlines()[1:])}
    assert [(spans[id]["of_tomorrow"], spans[id]["files"][0]["of_tomorrow"]) for id in marked] == [("span", "file")] * 2
    for span in (spans[id] for id in marked):
        within = (span["counts"], span["partitions"][0], span["files"][0]["offsets"][0])
        assert span["roll"] == "tide" and all(each["of_tomorrow"] == [1] for each in within)
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()


def test_a_head_of_a_version_that_we_do_not_know_is_left_alone(kafka, topic, pipeline):
    name = topic(partitions=2)
    produce(kafka, name, 400, partitions=2)
    sink = pipeline(name)
    sink.run_to_end()
    path = head_path(sink, name)
    head = json.loads(sink.files.read(path))
    sink.files.write(path, json.dumps({**head, "version": 2}).encode())
    produce(kafka, name, 400, partitions=2, seed=2)
    before = sink.files.read(path)
    sink.run_to_end(code=3).says("version 2", "a newer kas3 wrote it", "run the newer kas3")
    # nobody's decision either: it would begin anew in the newer one's ledger
    for next in ([], ["--next", 0], ["--next", 200], ["--next", 400]):
        accept = sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, *next, code=3)
        accept.says("version 2", "a newer kas3 wrote it", "run the newer kas3")
    sink.command("verify", sink.file, code=3).says("a newer kas3 wrote it")
    assert head_path(sink, name) == path and sink.files.read(path) == before
    sink.files.write(path, json.dumps(head).encode())
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()


@pytest.mark.parametrize("mistake", ["the same group", "another group"])
def test_two_deployments_of_one_name_with_different_settings_double_nothing(mistake, kafka, topic, pipeline, local):
    """By mistake, or as a rolling change. With groups of their own both believe to own everything, all the time."""
    name = topic(partitions=3)
    one = pipeline(name, files=local)
    one.configure(roll={"records": 400, "age": "500ms"})
    two = pipeline(name, files=local, name=one.name)
    two.file = two.folder / "two.yaml"
    two.configure(roll={"records": 150, "age": "300ms"}, path="{topic}/hour={timestamp:%H}/{partition:05}-{offset:012}")
    two.encode(compression="zstd")
    if mistake == "another group":
        two.settings["source"]["group"] = f"{one.name}-two"
    with Watcher(local), Stream(kafka, name, 3):
        with one.start() as first:
            wait_for(local.paths, 60, "files of the first")
            with two.start() as second:
                wait_for(lambda: [path for path in local.paths() if "hour=" in path], 60, "files of the second")
                seen = len(local.paths())
                wait_for(lambda: len(local.paths()) > seen + 20, 60, "progress of both")
                told = second.terminate()
            told = told.stderr + first.terminate().stderr
    assert "two deployments of one name" in told
    one.run_to_end()
    compare(read_committed(kafka, name), local).check()
    # the second's files by their ledger alone: its template is not ours
    one.verify(code=(0, 1))


@pytest.mark.parametrize("store", ["file", "s3"], indirect=True)
def test_two_pipelines_whose_files_would_get_the_same_names_overwrite_nothing(kafka, topic, store, pipeline):
    """Whoever publishes a partition's first file has it; the other one stops there."""
    name = topic(partitions=4)
    produce(kafka, name, 3000, partitions=4)
    one, two = pipeline(name, files=store), pipeline(name, files=store)
    for each in (one, two):
        each.settings["source"]["start"] = {"beside": True}
    with Watcher(store), one.start("--until-end") as first, two.start("--until-end") as second:
        ended = [first.wait(), second.wait()]
    assert 3 in {each.code for each in ended} <= {0, 3}
    compare(read_committed(kafka, name), store).check()
    for each in ended:
        if each.code == 3:
            each.says("holds an object that this pipeline did not write", "nothing is overwritten", "kas3 ledger accept")
