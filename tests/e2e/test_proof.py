"""What `verify` says of what it did not compare, and decisions that leave their mark: going back, and many partitions at once."""

import re
import shlex

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from services import fresh_name
from e2e.driver import wait_for
from oracle import compare, produce, read_committed
from oracle.log import producer


def complete(sink, code):
    """`verify --complete`, in words."""
    return sink.command("verify", sink.file, "--complete", code=code)


def test_partitions_and_topics_that_nobody_opened_are_listed_and_not_called_compared(admin, kafka, topic, pipeline):
    begun = fresh_name("begun")
    topic(name=begun, partitions=2)
    produce(kafka, begun, 400, partitions=2)
    sink = pipeline(f"^{begun}.*")
    sink.run_to_end()
    assert complete(sink, 0).stdout.count("✓") == 2
    (grown,) = admin.create_partitions([NewPartitions(begun, 4)]).values()
    grown.result(30)
    topic(name=f"{begun}-new")
    wait_for(lambda: len(admin.list_topics(timeout=10).topics[begun].partitions) == 4, 30, "more partitions")
    for partition in (2, 3):
        client = producer(kafka)
        for i in range(200):
            client.produce(begun, f'{{"late":{partition * 1000 + i}}}', partition=partition)
        assert client.flush(60) == 0
    produce(kafka, f"{begun}-new", 50)
    report = sink.verify()
    listed = {(of["topic"], of["partition"]): of["unread"] for of in report["not_begun"]}
    assert listed == {(begun, 2): 200, (begun, 3): 200, (f"{begun}-new", 0): 50}
    assert report["ok"] and not report["complete"] and report["totals"]["not_begun"] == 450
    said = complete(sink, 1).says("every compared record is in exactly one file: 400 records of 2 partitions")
    said.says("3 partitions configured and not begun, 450 offsets in no file", f"{begun}-3 (0 to 200", "not complete")
    assert "✓ every record" not in said.stdout
    sink.run_to_end()
    complete(sink, 0)
    compare(read_committed(kafka, begun) + read_committed(kafka, f"{begun}-new"), sink.files).check()


def test_records_that_are_unread_or_behind_an_open_transaction_are_counted(kafka, topic, pipeline, local):
    name = topic()
    produce(kafka, name, 300)
    sink = pipeline(name, files=local)
    sink.run_to_end()
    produce(kafka, name, 40, seed=2)
    client = producer(kafka, **{"transactional.id": name, "transaction.timeout.ms": 300_000})
    client.init_transactions(30)
    client.begin_transaction()
    for i in range(60):
        client.produce(name, f'{{"held":{i}}}')
    assert client.flush(60) == 0
    report = sink.verify()
    assert (report["ok"], report["complete"], report["totals"]["unread"], report["totals"]["waiting_for_transaction"]) == (True, False, 40, 60)
    complete(sink, 1).says("40 offsets not read yet", f"{name}-0 (300 to 340)", "60 offsets waiting for a transaction to end", "(from 340 on)")
    sink.run_to_end()
    report = sink.verify()
    assert (report["totals"]["unread"], report["totals"]["waiting_for_transaction"], report["complete"]) == (0, 60, False)
    client.abort_transaction(60)
    wait_for(lambda: sink.verify()["totals"]["waiting_for_transaction"] == 0, 30, "the end of the transaction")
    # aborted records and the marker are nothing that anybody could read
    complete(sink, 0)


def test_going_back_needs_a_word_that_says_so_and_verify_names_what_is_doubled_for_ever(kafka, topic, pipeline):
    name = topic()
    produce(kafka, name, 152)
    sink = pipeline(name)
    sink.run_to_end()
    accept = ["ledger", "accept", sink.file, "--topic", name, "--partition", 0, "--next", 100]
    before = sink.files.list()
    refused = sink.command(*accept, code=2).says("reads 52 records (offsets 100 to 151) a second time", "`-i1.jsonl.gz`", "--again")
    assert sink.files.list() == before
    command = re.search(r"`(kas3 ledger accept .* --again)`", refused.stderr).group(1)
    assert str(sink.file) in command
    sink.command(*shlex.split(command)[1:]).says("incarnation 1 begins at offset 100")
    sink.run_to_end()
    report = sink.verify()
    totals = report["totals"]
    assert (totals["equal"], totals["doubled_by_decision"], totals["not_comparable"], report["ok"]) == (204, 52, 0, True)
    (again,) = report["partitions"][0]["begun"]
    assert (again["why"], again["start"], again["read_to"], again["incarnation"]) == ("again", 100, 152, 1)
    said = sink.command("verify", sink.file).says("52 records doubled by decision, in files of two incarnations", "was read again from 100 by decision")
    assert "no longer has" not in said.stdout and "but for 52 records read again by decision" in said.stdout
    produce(kafka, name, 100, seed=2)
    sink.run_to_end()
    assert sink.verify()["totals"]["doubled_by_decision"] == 52
    sink.command("ledger", "show", sink.file).says("read again from 100 by decision (52 offsets, incarnation 1)")
    # what is gone from an older incarnation's file is still found
    sink.files.delete(next(path for path in sink.files.paths() if path.endswith("/0_0.jsonl.gz")))
    assert sink.verify(code=1)["totals"]["gaps"] > 0


@pytest.fixture
def misfits(kafka, topic, pipeline):
    """A pipeline of three partitions, two of which stop at a record without the field of its path, and the third at nothing."""
    name = topic(partitions=3)
    client = producer(kafka)
    for partition in range(3):
        for i in range(20):
            value = "oops" if partition < 2 and i == 10 + partition else f'{{"day":"{partition}","id":{partition * 100 + i}}}'
            client.produce(name, value, partition=partition)
    assert client.flush(60) == 0
    sink = pipeline(name)
    sink.configure(path="{topic}/{value.day}/{partition}_{offset}")
    return name, sink


def test_a_record_that_does_not_fit_is_named_with_the_command_that_passes_over_it(misfits, kafka):
    name, sink = misfits
    command = f"kas3 ledger accept {sink.file} --topic {name} --partition 0 --next 11"
    sink.run_to_end(code=3).says(command, command.replace("partition 0 --next 11", "partition 1 --next 12"))
    sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, code=2).says(f"`{name}-0` holds a record at offset 10", command)
    sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 2, code=2).says("there is nothing to accept")
    sink.command(*shlex.split(command)[1:]).says("offsets 10 to 10 are recorded as a gap")
    sink.run_to_end(code=3)
    shown = sink.command("verify", sink.file).says("1 record accepted as lost", "9 offsets not read yet")
    assert "✓ every compared record" in shown.stdout


def test_all_partitions_of_one_kind_of_stop_are_accepted_together_and_only_those(misfits, admin, kafka):
    name, sink = misfits
    sink.run_to_end(code=3)
    client = producer(kafka)
    for i in range(30):
        client.produce(name, f'{{"day":"2","id":{i + 1000}}}', partition=2)
    assert client.flush(60) == 0
    admin.delete_records([TopicPartition(name, 2, 35)])[TopicPartition(name, 2)].result(30)
    everything = ["ledger", "accept", sink.file, "--all"]
    shown = sink.command(*everything, code=1).says(f"{name}-0  bad_record", f"{name}-2  retention", "nothing was changed")
    assert "--all --stop bad_record    (2 partitions)" in shown.stdout
    assert sink.command(*everything, "--topic", name, code=1).stdout.count("accepted.") == 0
    sink.command(*everything, "--stop", "set_back").says("none is stopped by `set_back`")
    sink.command(*everything, "--stop", "rain", code=2).says("bad_record, ")
    sink.command(*everything, "--stop", "bad_record").says("2 partitions accepted.", "offsets 11 to 11 are recorded as a gap")
    sink.command(*everything, code=1).says("retention")
    sink.command(*everything, "--topic", name).says("1 partition accepted.", "offsets 20 to 34 are recorded as a gap")
    sink.run_to_end()
    sink.command(*everything).says("none is stopped")
    report = sink.verify()
    assert (report["totals"]["accepted"], report["complete"]) == (17, True)
    log = [entry for entry in read_committed(kafka, name) if entry.value != b"oops"]
    assert report["totals"]["equal"] == len(log)


def test_what_needs_an_offset_that_only_a_person_knows_is_left_alone_with_the_reason(kafka, topic, pipeline, local):
    name = topic()
    produce(kafka, name, 100)
    sink = pipeline(name, files=local)
    sink.run_to_end()
    for path in sink.files.paths(everything=True):
        if "/head" in path:
            sink.files.delete(path)
    sink.run_to_end(code=3)
    before = sink.files.list()
    sink.command("ledger", "accept", sink.file, "--all", "--stop", "head_lost", code=1).says("only you can say", "--next", "1 left as they are")
    assert sink.files.list() == before
    lost = sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, code=2).says("kas3 was at 100", "--next 100`")
    assert str(sink.file) in lost.stderr
    sink.command("ledger", "accept", sink.file, "--topic", name, "--partition", 0, "--next", 60, code=2).says("up to 40 records", "--again")
