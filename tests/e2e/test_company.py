"""Who else is here: other pipelines at the same place, strangers in the group, topics that go away; and how `check` tells of them."""

import json
import re
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer

from e2e.driver import CLASSIC, wait_for
from oracle import LocalFiles, Stream, Watcher, compare, produce, read_committed


def answers(sink, code):
    """`kas3 check --json`: the answers that are not good, each as its outcome, question and text."""
    report = json.loads(sink.command("check", sink.file, "--json", code=code).stdout)
    assert report["version"] == 1 and report["pipeline"] == sink.name and report["ok"] == (code == 0)
    assert all(set(answer) == {"question", "outcome", "detail", "fix"} for answer in report["answers"])
    return [(answer["outcome"], answer["question"], f"{answer['detail']} {answer['fix'] or ''}") for answer in report["answers"] if answer["outcome"] != "ok"]


def found(answers, outcome, question, *words):
    assert any(each[:2] == (outcome, question) and all(word in each[2] for word in words) for each in answers), answers


@contextmanager
def stranger(kafka, group, topic):
    """A consumer in somebody's group that polls for as long as the block lasts; gives what says how many partitions it has."""
    settings = {"bootstrap.servers": kafka, "group.id": group, "client.id": "reports", "partition.assignment.strategy": "cooperative-sticky"}
    ended, share = threading.Event(), [0]

    def poll():
        consumer = Consumer({**settings, **CLASSIC})
        consumer.subscribe([topic])
        while not ended.is_set():
            consumer.poll(0.1)
            share[0] = len(consumer.assignment())
        consumer.close()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield lambda: share[0]
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("path", ["{topic}/{partition}_{offset}", "{now:%Y-%m-%d}/{topic}/{partition}_{offset}"], ids=["a folder", "by now"])
def test_a_renamed_pipeline_begins_nothing_until_somebody_decides(path, kafka, topic, pipeline):
    name = topic(partitions=2)
    produce(kafka, name, 400, partitions=2)
    old = pipeline(name)
    old.configure(path=path)
    old.run_to_end()
    new = pipeline(name)
    new.configure(path=path)
    before = old.files.list()
    found(answers(new, 1), "error", "start", f"pipeline `{old.name}` has begun it", "beside: true")
    new.run_to_end(code=3).says(f"pipeline `{old.name}` has begun it", "source.start: {beside: true}")
    assert {path for path in old.files.list() if f"_kas3/{new.name}/" not in path} == set(before)
    new.settings["source"]["start"] = {"beside": True}
    new.configure(path=path.replace("{topic}", "again/{topic}"))
    assert not [each for each in answers(new, 0) if each[0] == "error"]
    new.run_to_end()
    again = [path for path in new.files.paths() if "again/" in path]
    assert again and len(new.files.paths()) > len(again)
    # what has begun needs no word any more
    del new.settings["source"]["start"]
    new.run_to_end()
    new.verify(code=(0, 1))


def test_check_says_that_the_sink_was_moved_as_the_start_does(kafka, small_log, tmp_path, pipeline, local):
    name, _ = small_log
    sink = pipeline(name, files=local)
    sink.run_to_end()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    sink.configure(url=LocalFiles(elsewhere).url)
    found(answers(sink, 1), "error", "start", "sink or ledger were moved", f"ledger.url: {local.url}")
    assert LocalFiles(elsewhere).paths(everything=True) == []
    sink.run_to_end(code=3).says("were moved")


def test_two_pipelines_with_one_group_do_not_share_its_partitions(kafka, topic, pipeline, tmp_path, local):
    name = topic(partitions=4)
    one = pipeline(name, files=local)
    (tmp_path / "two").mkdir()
    two = pipeline(name, files=LocalFiles(tmp_path / "two"))
    two.settings["source"]["group"] = one.name
    with Stream(kafka, name, 4), one.start() as worker:
        wait_for(one.files.paths, 60, "files")
        two.run_to_end(code=2).says(f"consumer group `{one.name}` is used by another pipeline, `{one.name}`", "source.group")
        found(answers(two, 1), "error", "group", f"client `kas3-{one.name}` of pipeline `{one.name}`")
        assert "stranger" not in worker.said()
        # a second worker of the same pipeline is none
        report = json.loads(one.command("check", one.file, "--json").stdout)
        assert any("1 worker of this pipeline" in answer["detail"] for answer in report["answers"]), report
        assert worker.terminate().code == 0
    one.run_to_end()
    compare(read_committed(kafka, name), one.files).check()


def test_a_run_to_the_end_says_whom_it_waits_for(kafka, topic, pipeline, local):
    name = topic(partitions=4)
    produce(kafka, name, 400, partitions=4)
    sink = pipeline(name, files=local)
    with stranger(kafka, sink.name, name) as share:
        wait_for(lambda: share() == 4, 60, "the stranger's partitions")
        with sink.start("--until-end") as worker:
            wait_for(lambda: share() == 2, 60, "a share for each")
            wait_for(lambda: "2 partitions are still to be published" in worker.said(), 60, "a line")
            said = worker.said()
            assert re.search(r"belongs? to client `reports` at `[^`]*`, which is no worker of this pipeline", said), said
            assert "is no worker of this pipeline" in said
            found(answers(sink, 0), "warning", "group", "client `reports`", f"`{name}-")
            assert said.count("2 partitions are still to be published") == 1
            assert worker.poll() is None
    # the next run has the group for itself
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()


def test_the_same_name_with_other_topics_is_a_warning_that_names_both(kafka, topic, pipeline, local):
    one, other = topic(), topic()
    produce(kafka, one, 50)
    sink = pipeline(one, files=local)
    sink.run_to_end()
    sink.settings["source"]["topics"] = [other]
    found(answers(sink, 0), "warning", "ledger", f"`{one}`", f"`{other}`")
    sink.run_to_end().says("WARN", f"`{one}`", f"(`{other}`)")


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def test_a_topic_that_is_deleted_stops_and_the_others_go_on_now_and_at_the_next_start(kafka, admin, topic, pipeline, local):
    gone, stays = topic(), topic()
    produce(kafka, gone, 100)
    produce(kafka, stays, 100)
    sink = pipeline(gone, stays, files=local)
    sink.kafka["topic.metadata.refresh.interval.ms"] = 500
    port = free_port()
    sink.settings["http"] = f"127.0.0.1:{port}"
    before = read_committed(kafka, gone)

    def status():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=10) as answer:
            return {each["topic"]: (each["state"], each["reason"]) for each in json.load(answer)["partitions"]}

    with Watcher(sink.files), sink.start() as worker:
        wait_for(lambda: compare(before + read_committed(kafka, stays), sink.files).exact(), 60, "the files")
        admin.delete_topics([gone])[gone].result(30)
        wait_for(lambda: f"topic `{gone}` does not exist any more; its partitions are stopped" in worker.said(), 60, "the line")
        wait_for(lambda: status().get(gone, ("",))[0] == "stopped" and status()[stays][0] == "running", 60, "the state")
        produce(kafka, stays, 100, seed=2)
        wait_for(lambda: compare(before + read_committed(kafka, stays), sink.files).exact(), 60, "the other topic's files")
        assert "does not exist any more" in status()[gone][1]
        said = worker.terminate().stderr
        assert said.count("its partitions are stopped") == 1
    produce(kafka, stays, 100, seed=3)
    found(answers(sink, 1), "error", "topics", f"topic `{gone}` does not exist any more")
    sink.run_to_end(code=3).says(f"topic `{gone}` does not exist any more", "1 partition stopped, the others are done")
    compare(before + read_committed(kafka, stays), sink.files).check()
    # one that never was is a mistake
    sink.settings["source"]["topics"] = [stays, "never-was"]
    sink.run_to_end(code=3).says("there is no topic `never-was`", "source.topics")


def test_mistakes_of_a_template_are_told_by_the_records_that_are_there(kafka, topic, pipeline, local):
    name = topic()
    produce(kafka, name, 30, fields=lambda i: {"customer": f"c{i % 3}"})
    sink = pipeline(name, files=local)
    sink.configure(path="{topic}/{value.custmer}/{timestamp:yyyy-MM-dd}/{partition}_{offset}.json.gz")
    told = answers(sink, 0)
    found(told, "warning", "paths", "`{value.custmer}` is in none of 20 records", "did you mean `{value.customer}`?")
    found(told, "warning", "paths", "write `{timestamp:%Y-%m-%d}`")
    found(told, "warning", "paths", "`.json.gz.jsonl.gz`")
    sink.run_to_end().says("WARN", "write `{timestamp:%Y-%m-%d}`", "`.json.gz.jsonl.gz`")
    sink.configure(path="{topic}/{value.customer}/{timestamp:%Y-%m-%d}/{partition}_{offset}")
    assert not [each for each in answers(sink, 0) if each[1] == "paths"]


def test_check_looks_at_the_port(kafka, topic, pipeline, local):
    name = topic()
    sink = pipeline(name, files=local)
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        sink.settings["http"] = f"127.0.0.1:{opened.getsockname()[1]}"
        found(answers(sink, 1), "error", "http", "cannot listen", "free port")
    assert not [each for each in answers(sink, 0) if each[1] == "http"]
    with sink.start() as worker:
        wait_for(lambda: "http://127" in worker.said(), 60, "the start")
        found(answers(sink, 0), "warning", "http", "a worker of this pipeline listens there already")
        assert worker.terminate().code == 0


def test_what_does_not_answer_keeps_nobody_from_hearing_of_the_rest(pipeline, local):
    """A broker and a store that take connections and say nothing: one deadline for both, and the reasons of each."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(64)
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        sink = pipeline("orders", files=local)
        sink.kafka["bootstrap.servers"] = address
        sink.settings["sink"]["storage"] = {"endpoint": f"http://{address}", "region": "us-east-1", "allow_http": True, "access_key_id": "a", "secret_access_key": "b"}
        sink.configure(url="s3://mute/lake")
        began = time.monotonic()
        told = answers(sink, 1)
        assert time.monotonic() - began < 20, told
        found(told, "error", "kafka", "answers")
        found(told, "error", "sink", "")
