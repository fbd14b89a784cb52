"""The transform `claim_check`: pipelines over topics whose records name payloads. References are written here by their documented
form, without kas3, and what is published is compared with the payloads."""

import hashlib
import json
import os
import random
import signal

import pytest
from confluent_kafka import Producer

from e2e.driver import wait_for
from faults.looks import Port
from faults.proxy import Proxy
from oracle import Watcher, compare, read_committed
from oracle.log import unique_value
from services import fresh_name

MARK = "kas3-claim-check"


class Payloads:
    """A bucket of payloads, and a producer of references to them."""

    def __init__(self, s3, kafka, bucket):
        self.s3, self.bucket = s3, bucket
        self.producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "linger.ms": 5})
        self.keys, self.rng = {}, random.Random(bucket)

    def send(self, topic, partition, bytes=20_000):
        """A record that names its payload; the key of the payload's object."""
        payload = unique_value(self.rng, bytes)
        sha256 = hashlib.sha256(payload).hexdigest()
        key = f"orders/{sha256[:24]}"
        etag = self.s3.put_object(Bucket=self.bucket, Key=key, Body=payload)["ETag"].strip('"')
        self.keys[sha256] = (key, payload)
        reference = {"bucket": self.bucket, "key": key, "size": len(payload), "sha256": sha256, "etag": etag}
        self.producer.produce(topic, json.dumps(reference), partition=partition, headers=[(MARK, "1"), ("trace", "7")])
        self.producer.poll(0)
        return key

    def mixed(self, topic, count, partitions, bytes=20_000):
        """References among inline values and tombstones."""
        for number in range(count):
            partition = number % partitions
            if number % 7 == 3:
                self.producer.produce(topic, unique_value(self.rng), partition=partition)
            elif number % 31 == 5:
                self.producer.produce(topic, None, f"key {number}", partition=partition)
            else:
                self.send(topic, partition, bytes)
        self.flush()

    def flush(self):
        assert self.producer.flush(60) == 0

    def of(self, entry):
        """What a line of the file must be for a record; None for tombstones, which are left out here."""
        if entry.value is None or not any(name == MARK for name, _ in entry.headers):
            return entry.value
        return self.keys[json.loads(entry.value)["sha256"]][1]

    def restore(self, key):
        payload = next(payload for known, payload in self.keys.values() if known == key)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=payload)

    def delete(self, key):
        self.s3.delete_object(Bucket=self.bucket, Key=key)


@pytest.fixture
def payloads(s3, kafka):
    bucket = fresh_name("payloads")
    s3.create_bucket(Bucket=bucket)
    yield Payloads(s3, kafka, bucket)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=each["Key"])
    s3.delete_bucket(Bucket=bucket)


@pytest.fixture
def resolving(pipeline, payloads):
    """Makes pipelines that write payloads."""

    def make(*topics, endpoint=None):
        sink = pipeline(*topics)
        transform = {"type": "claim_check", "url": f"s3://{payloads.bucket}/orders"}
        if endpoint:
            storage = sink.settings["sink"]["storage"]
            transform["storage"] = {**storage, "endpoint": endpoint, "connect_timeout_ms": 1000, "read_timeout_ms": 3000, "attempt_timeout_ms": 6000}
        sink.settings["transforms"] = [transform]
        sink.encode(tombstones="skip")
        return sink

    return make


def test_payloads_are_published_once_whenever_the_process_is_killed(kafka, topic, payloads, resolving):
    name = topic(partitions=2)
    payloads.mixed(name, 600, 2, bytes=5000)
    log = read_committed(kafka, name)
    sink = resolving(name)
    with Watcher(sink.files):
        for point in ("commit.before", "commit.after", "put.after"):
            assert sink.run_to_end(kill=point).code == -signal.SIGKILL
        with sink.start() as worker:
            wait_for(lambda: worker.poll() or len(sink.files.paths()) > 3, what="files")
            worker.kill()
        sink.run_to_end()
    compare(log, sink.files, expect=payloads.of).check()
    report = sink.verify()
    assert report["totals"]["equal"] == sum(entry.value is not None for entry in log)
    assert report["totals"]["not_comparable"] == 0


def test_a_payload_that_is_gone_stops_its_partition_alone_and_names_the_record_and_the_way_out(kafka, topic, payloads, resolving):
    name = topic(partitions=2)
    keys = [payloads.send(name, number % 2, 2000) for number in range(300)]
    payloads.flush()
    log = read_committed(kafka, name)
    payloads.delete(keys[200])
    sink = resolving(name)
    sink.run_to_end(code=3).says(f"{name}-0", "offset 100", "object_missing", keys[200], "--partition 0 --next 101", "bad_records: skip")
    before = [entry for entry in log if entry.partition == 1 or entry.offset < 100]
    compare(before, sink.files, expect=payloads.of).check()
    payloads.restore(keys[200])
    sink.run_to_end()
    compare(log, sink.files, expect=payloads.of).check()
    # what a consumer deletes after the sink has it cannot be compared any more, and is no finding
    payloads.delete(keys[7])
    report = sink.verify()
    assert (report["totals"]["equal"], report["totals"]["not_comparable"]) == (299, 1)
    assert any("offset 3" in note and keys[7] in note for note in report["notes"]), report["notes"]


def test_staged_payloads_that_vanish_are_made_again_while_they_are_there_and_stop_loudly_when_not(kafka, topic, payloads, resolving):
    name = topic()
    keys = [payloads.send(name, 0, 2000) for _ in range(100)]
    payloads.flush()
    log = read_committed(kafka, name)
    sink = resolving(name)
    sink.configure(roll={"records": 50, "age": "2s"})
    assert sink.run_to_end(kill="commit.after").code == -signal.SIGKILL
    assert sink.damage_heads()
    payloads.delete(keys[10])
    sink.run_to_end(code=3).says("cannot be made again", keys[10], "kas3 ledger accept")
    payloads.restore(keys[10])
    sink.run_to_end()
    compare(log, sink.files, expect=payloads.of).check()


def test_while_the_store_of_payloads_is_down_its_partitions_wait_and_all_others_go_on(kafka, topic, payloads, resolving):
    waits, goes_on = topic(name=fresh_name("waits")), topic(name=fresh_name("goes-on"))
    with Proxy(os.environ["S3_ENDPOINT_URL"]) as proxy:
        sink = resolving(waits, goes_on, endpoint=proxy.url)
        sink.configure(roll={"records": 100, "age": "500ms"})
        sink.settings["topics"] = {goes_on: {"transforms": []}}
        sink.settings["http"] = "127.0.0.1:0"
        with Watcher(sink.files), sink.start() as worker:
            port = Port(worker)
            payloads.mixed(waits, 100, 1)
            wait_for(lambda: compare(read_committed(kafka, waits), sink.files, expect=payloads.of).exact(), what="files before the outage")
            proxy.down()
            payloads.mixed(waits, 400, 1)
            wait_for(lambda: port.code("/health") == 503, 60, "/health to tell")
            _, reasons = port.reasons()
            assert len(reasons) == 1 and f"{proxy.url}/{payloads.bucket}" in reasons[0], reasons
            published = port.metric("kas3_records_written_total", topic=goes_on)
            for _ in range(300):
                payloads.producer.produce(goes_on, unique_value(payloads.rng))
            payloads.flush()
            wait_for(lambda: port.metric("kas3_records_written_total", topic=goes_on) == published + 300, what="the other topic")
            assert port.metric("kas3_partitions_stopped") == 0 and port.metric("kas3_poll_age_seconds") < 2
            proxy.up()
            log = read_committed(kafka, waits) + read_committed(kafka, goes_on)
            wait_for(lambda: compare(log, sink.files, expect=payloads.of).exact(), what="what had waited")
            assert port.metric("kas3_payloads_resolved_total", topic=waits) > 300
            assert worker.terminate().code == 0
    compare(log, sink.files, expect=payloads.of).check()


def test_an_envelope_holds_the_payload_and_the_headers_of_its_sender(kafka, topic, payloads, resolving):
    name = topic()
    payloads.send(name, 0, 100)
    payloads.flush()
    sink = resolving(name)
    sink.encode(envelope=True)
    sink.run_to_end()
    (line,) = sink.cat(name, 0, 0)
    ((_, payload),) = payloads.keys.values()
    envelope = json.loads(line)
    assert envelope["value"] == payload.decode() and envelope["headers"] == [["trace", "7"]]
    sink.verify()


def test_check_says_what_will_be_resolved_and_whether_the_store_answers(kafka, topic, payloads, resolving):
    name = topic()
    payloads.send(name, 0, 100)
    payloads.flush()
    sink = resolving(name)
    said = sink.command("check", sink.file)
    said.says("transforms: `claim_check`", f"s3://{payloads.bucket}/orders", "can be asked for", "Nothing stands in the way")
    sink.settings["transforms"][0]["url"] = f"s3://{payloads.bucket}-not-there/orders"
    sink.command("check", sink.file, code=1).says("✗", "cannot be asked for")
