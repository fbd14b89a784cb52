"""`kas3 payloads` on real services: what a record names is never deleted, what none names is found, and damage too."""

import json
import signal
import subprocess

import pytest
from confluent_kafka import Producer, TopicPartition

from e2e.broker import Broker
from e2e.claims import PREFIX, Claims, copy, records, reference_of, transactional
from e2e.driver import wait_for
from services import create_topic, fresh_name


@pytest.fixture
def claims(tmp_path, kafka, s3, bucket, topic):
    return Claims(tmp_path, kafka, s3, bucket, topic())


def large(count):
    return [b"payload %d " % i + b"x" * 5000 for i in range(count)]


def named(messages):
    return [reference_of(message)["key"] for message in messages]


def test_gc_deletes_the_orphan_of_a_killed_producer_and_nothing_that_a_record_names(claims, topic):
    """The records are copied from a topic that gc does not read into those that it reads, so each is named there alone."""
    claims.produce(large(8))
    source = claims.records()
    open_one, aborted, superseded, current, consumed, in_letter, unnamed, of_dead_producer = named(source)
    transactions, compacted, letters = topic(), topic(cleanup_policy="compact"), topic()
    writer = Producer({"bootstrap.servers": claims.kafka})
    held = transactional(claims.kafka, "open", transactions, source[:1], None)
    transactional(claims.kafka, "aborted", transactions, source[1:2], "abort_transaction")
    for message in source[2:4]:
        copy(message, writer, compacted, key=b"one key")
    copy(source[4], writer, transactions)
    writer.produce(compacted, None, key=b"a tombstone")
    letter = {"error": "timed out", "topic": "t", "reference": {"bucket": claims.bucket, "key": in_letter}}
    writer.produce(letters, json.dumps(letter))
    writer.flush(30)
    finished = claims.run("produce", lines=large(1), kill="claim.uploaded", code=-signal.SIGKILL)
    assert "claim.uploaded" in finished.stderr
    [orphan] = claims.keys() - set(named(source))
    claims.settings |= {"topic": transactions, "topics": [compacted], "dead_letter_topic": letters}
    assert claims.run("payloads gc").stdout == "", "all are younger than a day"
    found, counts = claims.gc()
    assert set(found) == {unnamed, of_dead_producer, orphan}, "nothing else, and found again without --delete"
    assert counts["deleted"] == 0 and len(claims.keys()) == 9
    found, counts = claims.gc("--delete")
    assert counts["deleted"] == 3 and all(entry["deleted"] for entry in found.values())
    assert claims.keys() == {open_one, aborted, superseded, current, consumed, in_letter}
    held.abort_transaction(30)


def test_payloads_of_a_group_that_is_far_behind_are_live_until_the_log_forgets_them(claims, admin):
    claims.produce(large(6))
    keys = named(claims.records())
    claims.consume("--group", fresh_name("fast"))
    assert claims.gc("--delete")[1]["deleted"] == 0
    behind = claims.consume("--group", fresh_name("slow"), "--max-records", "2")
    assert [entry["offset"] for entry in behind] == [0, 1]
    admin.delete_records([TopicPartition(claims.topic, 0, 4)])[TopicPartition(claims.topic, 0, 4)].result(30)
    assert set(claims.gc("--delete")[0]) == set(keys[:4]) and claims.keys() == set(keys[4:])


def test_gc_leaves_what_is_not_its_own_or_may_be_meant_by_records_to_come(claims):
    claims.produce(large(1))
    [key] = claims.keys()
    foreign, ledger, file = f"{PREFIX}/of-somebody", f"{PREFIX}/_kas3/p/ledger/head.json", f"{PREFIX}/lake/0_0.jsonl"
    shared = f"{PREFIX}/{'0123456789abcdef' * 4}"
    claims.put(foreign, b"1")
    claims.put(ledger, b"{}")
    claims.put(file, b"{}", Metadata={"kas3-span": "a/0"})
    claims.put(shared, b"1", Metadata={"kas3-claim-check": "1"})
    claims.put("beside-the-prefix", b"1", Metadata={"kas3-claim-check": "1"})
    found, counts = claims.gc("--delete")
    assert found == {} and (counts["unmarked"], counts["shared"], counts["of_sinks"], counts["named"]) == (1, 1, 2, 1)
    found, _ = claims.gc("--delete", "--unmarked", "--shared", "--limit", "1")
    assert len(found) == 1
    claims.gc("--delete", "--unmarked", "--shared")
    assert claims.keys() == {key, ledger, file, "beside-the-prefix"}


def test_gc_deletes_nothing_when_it_cannot_know_what_is_named(claims):
    claims.produce(large(1))
    source = claims.topic
    claims.run("payloads gc", "--grace", "5m", code=2).says("--grace 5m", "--force")
    claims.settings["topics"] = ["not-there"]
    claims.run("payloads gc", "--delete", "--force", "--grace", "0s", code=3).says("`not-there` does not exist", "nothing more is deleted")
    claims.settings["topics"] = []
    writer = Producer({"bootstrap.servers": claims.kafka})
    writer.produce(source, b"{}", headers={"kas3-claim-check": b"2"})
    writer.flush(30)
    claims.put(f"{PREFIX}/orphan", b"1", Metadata={"kas3-claim-check": "1"})
    claims.run("payloads gc", "--delete", "--force", "--grace", "0s", code=3).says("version `2`", "--ignore-unreadable")
    assert len(claims.keys()) == 2
    assert set(claims.gc("--delete", "--ignore-unreadable")[0]) == {f"{PREFIX}/orphan"}


def test_verify_finds_payloads_that_are_missing_cut_and_tampered_with(claims):
    claims.settings["claim_check"]["multipart_bytes"] = 1000
    claims.produce(large(5))
    assert claims.verify()[1]["sound"] == claims.verify("--deep")[1]["sound"] == 5
    keys = named(claims.records())
    claims.s3.delete_object(Bucket=claims.bucket, Key=keys[0])
    claims.put(keys[1], claims.body(keys[1])[:-1])
    claims.put(keys[2], b"z" * len(claims.body(keys[2])))
    problems, counts = claims.verify(code=1)
    assert [(problem["offset"], problem["reason"]) for problem in problems] == [(0, "object_missing"), (1, "size_mismatch")]
    problems, counts = claims.verify("--deep", code=1)
    expected = [(0, "object_missing"), (1, "size_mismatch"), (2, "sha256_mismatch")]
    assert [(problem["offset"], problem["reason"]) for problem in problems] == expected
    assert (counts["sound"], counts["problems"], counts["records"]) == (2, 3, 5)


def test_show_and_ls_say_where_a_payload_is_and_who_wrote_it(claims):
    claims.produce([b"small", *large(1)])
    claims.put(f"{PREFIX}/of-somebody", b"12345")
    [key] = named(claims.records()[1:])
    shown = json.loads(claims.run("payloads show", "--partition", "0", "--offset", "1", "--json").stdout)
    assert shown["payload"] == f"s3://{claims.bucket}/{key}" and shown["object"] == "is there" and shown["written_by"] == "kas3"
    assert "in the record" in claims.run("payloads show", "--offset", "0").stdout
    claims.run("payloads show", "--offset", "7", code=3).says("no record at offset 7", "from 0 to before 2")
    listed = [json.loads(line) for line in claims.run("payloads ls", "--json").stdout.splitlines()]
    assert {entry["key"]: entry["written_by"] for entry in listed} == {key: "kas3", f"{PREFIX}/of-somebody": "unmarked"}
    claims.s3.delete_object(Bucket=claims.bucket, Key=key)
    assert "is not there" in claims.run("payloads show", "--offset", "1", code=1).stdout


def test_payloads_are_deleted_after_their_commit_and_only_when_the_other_group_has_passed_them(claims):
    claims.produce(large(4))
    keys = named(claims.records())
    other = fresh_name("other")
    claims.settings["delete"] = {"after_commit": True, "other_groups": [other]}
    claims.consume()
    assert claims.keys() == set(keys), "the other group has read nothing"
    claims.settings["delete"] = {"after_commit": False}
    claims.consume("--group", other, "--max-records", "3")
    claims.settings["delete"] = {"after_commit": True, "other_groups": [other]}
    claims.consume("--group", fresh_name("late"))
    assert claims.keys() == {keys[3]}


def test_a_record_that_times_out_and_arrives_later_still_has_its_payload(tmp_path, s3, bucket):
    broker = Broker(tmp_path / "broker")
    try:
        claims = Claims(tmp_path, broker.address, s3, bucket, create_topic(broker.admin(), fresh_name("late")))
        claims.settings["kafka"] |= {"message.timeout.ms": 3000, "socket.timeout.ms": 60000}
        with claims.start("produce", stdin=subprocess.PIPE) as worker:
            worker.process.stdin.write(b"first\n")
            worker.process.stdin.flush()
            wait_for(lambda: len(records(broker.address, claims.topic)) == 1, what="the first record")
            broker.signal(signal.SIGSTOP)
            try:
                worker.process.stdin.write(large(1)[0] + b"\n")
                worker.process.stdin.flush()
                wait_for(lambda: b"was not delivered" in worker.errors.read_bytes(), what="the failure")
            finally:
                broker.signal(signal.SIGCONT)
            worker.process.stdin.close()
            assert worker.wait().code == 3
            worker.finished.says("it may turn up all the same", "of which 1 may turn up")
        wait_for(lambda: len(records(broker.address, claims.topic)) == 2, what="the late record")
        assert [entry["payload"] for entry in claims.consume()] == ["first", large(1)[0].decode()]
    finally:
        broker.remove()
