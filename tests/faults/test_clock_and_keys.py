"""Scenario 8: credentials that expire in the middle of an upload, a clock that is wrong, midnight, and an amendment the day after."""

import datetime
import json
import os
import signal
import time

import boto3
import pytest

from e2e.driver import wait_for
from faults import faults
from faults.clock import Clock
from faults.looks import Port
from oracle import Stream, Watcher, compare, produce, read_committed

UTC = datetime.timezone.utc


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


def temporary_keys():
    """Keys of a session, from the store's own STS."""
    keys = {"aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    sts = boto3.client("sts", endpoint_url=os.environ["S3_ENDPOINT_URL"], region_name="us-east-1", **keys)
    given = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/any", RoleSessionName="kas3", DurationSeconds=900)["Credentials"]
    return {"Version": 1, **{name: given[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}}


def test_credentials_that_expire_in_the_middle_of_an_upload_are_renewed(tmp_path, kafka, topic, proxy, through):
    name = topic()
    produce(kafka, name, 40, padding=700_000)
    sink = through(name)
    sink.encode(compression="none")
    sink.configure(roll={"records": 40, "age": "60s"})
    sink.settings["http"] = "127.0.0.1:0"
    given, old, new = tmp_path / "keys.json", temporary_keys(), temporary_keys()
    given.write_text(json.dumps(old))
    (tmp_path / "config").write_text(f"[default]\nregion = us-east-1\ncredential_process = cat {given}\n")
    sink.environment = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"}
    begun, parts = [], []

    def expired(exchange):
        """From the second part of the file on, the old keys are no good."""
        if exchange.kind == "data" and exchange.operation in ("CreateMultipartUpload", "UploadPart"):
            (parts if exchange.operation == "UploadPart" else begun).append(exchange.key)
        return len(parts) > 1 and exchange.header("x-amz-security-token") == old["SessionToken"]

    refusals = proxy.rule(faults.answers(400, "ExpiredToken", "The provided token has expired."), where=expired)
    unsigned = {name: "" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    with Watcher(sink.files), sink.start(**unsigned) as worker:
        port = Port(worker)
        wait_for(lambda: port.code("/health") == 503, 40, "/health to tell")
        _, reasons = port.reasons()
        assert "ExpiredToken" in reasons[0], reasons
        given.write_text(json.dumps(new))
        wait_for(lambda: port.metric("kas3_records_written_total") == 40, what="the file")
        wait_for(lambda: port.code("/health") == 200, what="/health to be well again")
        assert worker.terminate().code == 0
    assert refusals.hits < 60, "it did not hammer"
    compare(read_committed(kafka, name), sink.files).check()
    assert len(begun) == 1, "the upload that was open went on"


def test_a_clock_that_is_twenty_minutes_off_is_told_right_or_stops_visibly_until_it_is(kafka, topic, clock, proxy, through):
    name = topic(partitions=2)
    sink = through(name)
    sink.configure(roll={"records": 500, "age": "500ms"})
    sink.settings["http"] = "127.0.0.1:0"
    with Watcher(sink.files), Stream(kafka, name, 2, records_per_second=1000), sink.start(**clock.environment) as worker:
        port = Port(worker)
        written = lambda: port.metric("kas3_records_written_total")  # noqa: E731
        wait_for(lambda: written() > 2000, what="files while the clock is right")
        # the store refuses one request; from its answer the difference is known, and later ones are signed with the right time
        clock.shift(20 * 60)
        before = written()
        wait_for(lambda: written() > before + 2000, what="files while the clock is wrong")
        assert 1 <= port.metric("kas3_store_requests_total", outcome="failed") <= 5 and port.code("/health/live") == 200
        # a store that refuses all the same
        refusals = proxy.rule(faults.skewed)
        wait_for(lambda: port.code("/health") == 503, 40, "/health to tell")
        _, reasons = port.reasons()
        assert "RequestTimeTooSkewed" in reasons[0] and port.code("/health/live") == 200, reasons
        refusals.off()
        clock.shift(0)
        wait_for(lambda: port.code("/health") == 200, 40, "/health to be well again")
        before = written()
        wait_for(lambda: written() > before + 2000, what="files afterwards")
        assert worker.terminate().code == 0
        assert "the clock of this machine is wrong" in worker.errors.read_text()
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()


def pending_files(sink, topic):
    """URLs of the files that heads call pending."""
    heads = [path for path in sink.files.paths(everything=True) if path.startswith(sink.ledger_folder(topic)) and "/head." in path]
    newest = {}
    for path in heads:
        folder, name = path.rsplit("/", 1)
        newest[folder] = max(newest.get(folder, ""), name, key=lambda name: (len(name), name))
    read = [json.loads(sink.files.read(f"{folder}/{name}")) for folder, name in newest.items()]
    return [file["url"] for head in read for entry in head["pending"] for file in entry["files"]]


def test_midnight_during_a_roll_and_an_amendment_the_day_after_keep_the_names(kafka, topic, clock, local, pipeline):
    """On a local disk: a store would refuse requests of another day."""
    name = topic()
    sink = pipeline(name, files=local)
    sink.configure(path="{topic}/now={now:%Y-%m-%d}/{partition}_{offset}", roll={"records": 1_000_000, "age": "400ms"})
    environment, command = clock.environment, ["run", sink.file, "--until-end"]
    clock.turn_to(datetime.datetime(2031, 3, 1, 23, 59, 57, tzinfo=UTC))
    with Watcher(sink.files):
        with Stream(kafka, name, 1, records_per_second=1000), sink.start(**environment) as worker:
            days = lambda: {path.split("/")[1] for path in sink.files.paths()}  # noqa: E731
            wait_for(lambda: days() == {"now=2031-03-01", "now=2031-03-02"}, what="files of both days")
            worker.kill()
        sink.run_to_end()
        produce(kafka, name, 300, seed=7)
        clock.turn_to(datetime.datetime(2031, 3, 2, 23, 59, 59, tzinfo=UTC))
        with sink.start("--until-end", kill="commit.after", **environment) as worker:
            assert worker.wait().code == -signal.SIGKILL
        named = pending_files(sink, name)
        assert named and all("/now=2031-03-0" in url for url in named), named
        assert sink.damage_heads()
        clock.turn_to(datetime.datetime(2031, 3, 3, 12, tzinfo=UTC))
        time.sleep(0.1)
        finished = sink.command(*command, **environment)
        assert "staged bytes of" in finished.stderr
    assert {url.removeprefix("file://") for url in named} <= {str(local.folder / path) for path in sink.files.paths()}
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()
