"""Objects of the ledger that are deleted, emptied, garbled, restored from long ago or forbidden: loud stops, never a silent restart."""

import json
import os
import time

import boto3
import pytest

from e2e.driver import wait_for
from oracle import Watcher, compare, produce, read_committed

DAMAGES = {"deleted": None, "emptied": b"", "garbled": b'{"version": 1, "sess'}


def objects(sink, kind):
    """Paths of the ledger's objects of one kind. On a local disk a head is the newest of several files."""
    paths = [path for path in sink.files.paths(everything=True) if path.startswith(f"_kas3/{sink.name}/")]
    return {
        "heads": sorted((path for path in paths if "/ledger/" in path and "/head" in path), key=lambda path: (len(path), path)),
        "start record": [path for path in paths if "/topics/" in path],
        "segments": sorted(path for path in paths if "/ledger/" in path and path.endswith(".jsonl")),
    }[kind]


def damage(sink, path, how):
    if DAMAGES[how] is None:
        sink.files.delete(path)
    else:
        sink.files.write(path, DAMAGES[how])


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("kind", ["heads", "start record", "segments"])
def test_an_object_of_the_ledger_that_is_damaged_stops_its_partition_until_somebody_decides(kind, how, kafka, topic, pipeline, request):
    name = topic()
    produce(kafka, name, 700)
    # a head is one object on S3 and a row of them on a disk; the rest is alike, and a disk is quicker
    sink = pipeline(name, files=None if kind == "heads" else request.getfixturevalue("local"))
    # more spans than a head holds
    sink.configure(roll={"records": 10 if kind == "segments" else 300, "age": "60s"})
    sink.run_to_end()
    produce(kafka, name, 100, seed=2)
    with Watcher(sink.files):
        before = sink.files.list()
        damage(sink, objects(sink, kind)[-1], how)
        path = objects(sink, kind)[-1] if how != "deleted" else ""
        sink.run_to_end(code=3).says("partition stopped", "kas3 ledger accept", path)
        assert sink.files.list() == before
        accept = ["ledger", "accept", sink.file, "--topic", name, "--partition", 0]
        if kind == "heads":
            sink.command(*accept, code=2).says("--next")
            accept += ["--next", 700]
        sink.command(*accept)
        sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()


@pytest.mark.parametrize("how", DAMAGES)
def test_a_head_that_is_damaged_under_a_running_worker_stops_it_while_other_partitions_go_on(how, kafka, topic, pipeline):
    name = topic(partitions=2)
    produce(kafka, name, 300, partitions=2)
    sink = pipeline(name)
    sink.configure(roll={"records": 100, "age": "300ms"})
    with Watcher(sink.files), sink.start() as worker:
        wait_for(lambda: compare(read_committed(kafka, name), sink.files).exact(), 60, "the files")
        wait_for(lambda: not any(json.loads(sink.files.read(path))["pending"] for path in objects(sink, "heads")), 30, "settled heads")
        before = {path for path in sink.files.paths() if "/0_" in path}
        (head,) = [path for path in objects(sink, "heads") if "/00000/" in path]
        next = json.loads(sink.files.read(head))["next"]
        damage(sink, head, how)
        produce(kafka, name, 600, partitions=2, seed=2)
        log = read_committed(kafka, name)
        held = [entry for entry in log if entry.partition == 1 or entry.offset < next]
        wait_for(lambda: compare(held, sink.files).exact(), 60, "the other partition")
        time.sleep(1)
        assert {path for path in sink.files.paths() if "/0_" in path} == before
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, "--next", next)
        if how == "deleted":
            wait_for(lambda: compare(log, sink.files).exact(), 60, "the partition to go on without a restart")
        worker.terminate().says("partition stopped", f"{name}-0")
        sink.run_to_end()
    compare(log, sink.files).check()


def test_records_and_segments_that_vanish_under_a_running_worker_lose_nothing_and_stop_the_next_start(kafka, topic, pipeline, local):
    name = topic()
    produce(kafka, name, 700)
    sink = pipeline(name, files=local)
    sink.configure(roll={"records": 10, "age": "300ms"})
    with Watcher(sink.files), sink.start() as worker:
        wait_for(lambda: compare(read_committed(kafka, name), sink.files).exact(), 60, "the files")
        for path in objects(sink, "start record") + objects(sink, "segments"):
            sink.files.delete(path)
        produce(kafka, name, 100, seed=2)
        wait_for(lambda: compare(read_committed(kafka, name), sink.files).exact(), 60, "the files that follow")
        assert worker.terminate().code == 0
        sink.run_to_end(code=3).says("start record", "is missing")
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0).says("start record", "segment")
        sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()


@pytest.mark.parametrize("spans", [3, 70], ids=["few spans", "spans in segments"])
def test_a_lost_head_stops_also_when_the_groups_offsets_are_gone_and_files_were_taken(spans, kafka, admin, topic, pipeline, local):
    """Offsets expire a week after a group empties. What tells then is a file that is in the way, or the history that is left."""
    name = topic()
    produce(kafka, name, spans * 10)
    sink = pipeline(name, files=local)
    sink.configure(roll={"records": 10, "age": "60s"})
    sink.run_to_end()
    admin.delete_consumer_groups([sink.name])[sink.name].result(30)
    for path in objects(sink, "heads"):
        sink.files.delete(path)
    if spans > 64:
        for path in sink.files.paths():
            sink.files.delete(path)
    before = sink.files.list()
    sink.run_to_end(code=3).says("stops", "kas3 ledger accept")
    assert sink.files.list() == before


def test_an_older_head_that_was_restored_stops_because_the_report_tells(kafka, topic, pipeline):
    name = topic()
    produce(kafka, name, 300)
    sink = pipeline(name)
    sink.run_to_end()
    (path,) = objects(sink, "heads")
    old = sink.files.read(path)
    produce(kafka, name, 300, seed=2)
    sink.run_to_end()
    log = read_committed(kafka, name)
    with Watcher(sink.files):
        before = sink.files.list()
        sink.files.write(path, old)
        sink.run_to_end(code=3).says("an older ledger was restored", "--next 600")
        assert sink.files.list() == before
        sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, "--next", 600)
        produce(kafka, name, 100, seed=3)
        sink.run_to_end()
    assert len(read_committed(kafka, name)) == len(log) + 100
    compare(read_committed(kafka, name), sink.files).check()


def test_a_ledger_that_may_not_be_read_is_never_begun_anew(kafka, topic, bucket, s3, pipeline):
    """403 by a policy, as after a mistaken change of permissions. Keys that may read no head are refused at the start; where only
    this ledger is forbidden it is waited for, with complaints, because permissions come back."""
    name = topic()
    produce(kafka, name, 300)
    sink = pipeline(name)
    sink.run_to_end()
    produce(kafka, name, 300, seed=2)
    allow = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
    deny = {"Effect": "Deny", "Action": ["s3:GetObject"]}
    keys = sink.environment
    with Watcher(sink.files):
        before = sink.files.list()
        sink.environment = {**keys, **temporary_keys([allow, {**deny, "Resource": [f"arn:aws:s3:::{bucket}/*/head.json"]}])}
        sink.run_to_end(code=3).says("403", "allow `s3:GetObject`")
        sink.environment = {**keys, **temporary_keys([allow, {**deny, "Resource": [f"arn:aws:s3:::{bucket}/*/ledger/*"]}])}
        with sink.start("--until-end") as worker:
            wait_for(lambda: "has refused requests" in worker.errors.read_text(), 60, "the complaint")
            time.sleep(1)
            assert worker.poll() is None
            worker.kill()
        assert sink.files.list() == before
        sink.environment = keys
        sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()


def temporary_keys(statements):
    """Keys of the store's own that may do what a policy says."""
    sts = boto3.client(
        "sts", endpoint_url=os.environ["S3_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    )
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    given = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/kas3", RoleSessionName="kas3", Policy=policy)["Credentials"]
    return {"AWS_ACCESS_KEY_ID": given["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"], "AWS_SESSION_TOKEN": given["SessionToken"]}
