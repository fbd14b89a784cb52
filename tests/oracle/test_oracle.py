"""The oracle against sinks of its own, right and wrong ones: it must find every way in which a sink can be wrong."""

import gzip
import time

import pytest
import zstandard
from confluent_kafka import Consumer, TopicPartition

from oracle import Stream, Watcher, compare, lines, produce, produce_transactions, read_committed

BATCH = 50


def write(files, log, extension=".gz"):
    """A right sink: a file per partition and fifty records."""
    squeeze = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress, "": bytes}[extension]
    by_partition = {}
    for entry in log:
        by_partition.setdefault(entry.partition, []).append(entry)
    for partition, entries in by_partition.items():
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            content = b"".join(entry.value + b"\n" for entry in batch)
            files.write(f"{batch[0].topic}/{partition}_{batch[0].offset}.jsonl{extension}", squeeze(content))


def rewrite(files, path, change):
    content = gzip.decompress(files.read(path)).splitlines(keepends=True)
    files.write(path, gzip.compress(b"".join(change(content))))


@pytest.fixture
def log(kafka, topic):
    name = topic(partitions=2)
    produce(kafka, name, 300, partitions=2)
    entries = read_committed(kafka, name)
    assert len(entries) == 300
    return entries


@pytest.mark.parametrize("extension", [".gz", ".zst", ""])
def test_a_right_sink_passes(store, log, extension):
    write(store, log, extension)
    store.write("_kas3/p/staged/bundle", b"not data")
    store.write("t/.hidden", b"not data")
    store.write("t/0_0.index.json", b"not data")
    report = compare(log, store).check()
    assert (report.records, report.files) == (300, len(store.paths()))


def test_a_lost_record_is_found(store, log):
    write(store, log)
    rewrite(store, store.paths()[0], lambda records: records[:7] + records[8:])
    report = compare(log, store)
    assert (len(report.lost), len(report.doubled)) == (1, 0)
    assert report.lost == [f"{log[7].topic}-0 offset 7"]


def test_a_lost_file_is_found(store, log):
    write(store, log)
    store.delete(store.paths()[0])
    assert len(compare(log, store).lost) == BATCH


def test_a_record_doubled_in_one_file_or_in_two_is_found(store, log):
    write(store, log)
    first, second, *_ = store.paths()
    rewrite(store, first, lambda records: records[:3] + [records[2]] + records[3:])
    store.write("again.gz", store.read(second))
    twice = len(lines(second, store.read(second)))
    report = compare(log, store)
    assert (len(report.lost), len(report.doubled)) == (0, 1 + twice)
    assert sum("again.gz" in each for each in report.doubled) == twice


def test_an_order_that_is_not_the_logs_is_found(store, log):
    write(store, log)
    rewrite(store, store.paths()[0], lambda records: records[:4] + [records[5], records[4]] + records[6:])
    report = compare(log, store)
    assert (len(report.lost), len(report.doubled), len(report.disordered)) == (0, 0, 1)


def test_a_changed_record_is_found(store, log):
    write(store, log)
    rewrite(store, store.paths()[0], lambda records: [records[0].replace(b"pad", b"bad")] + records[1:])
    report = compare(log, store)
    assert (len(report.lost), len(report.unknown)) == (1, 1)


@pytest.mark.parametrize("extension", [".gz", ".zst", ""])
@pytest.mark.parametrize("cut", [1, 30])
def test_a_file_cut_short_is_found(store, log, extension, cut):
    write(store, log, extension)
    path = store.paths()[0]
    store.write(path, store.read(path)[:-cut])
    report = compare(log, store)
    assert len(report.broken) == 1 and len(report.lost) == BATCH


def test_the_watcher_is_quiet_while_files_only_appear(store, log):
    with Watcher(store) as watcher:
        write(store, log)
    assert len(watcher.digests) == len(store.paths())


def test_a_file_that_changes_and_changes_back_is_found(store, log):
    write(store, log)
    path = store.paths()[0]
    before = store.read(path)
    watcher = Watcher(store)
    watcher.look()
    store.write(path, b"something else")
    watcher.look()
    store.write(path, before)
    with pytest.raises(AssertionError, match="changed"):
        watcher.check()


def test_a_replaced_file_is_found_even_between_looks(store, log):
    write(store, log)
    path = store.paths()[0]
    watcher = Watcher(store, seconds_between=3600)
    watcher.look()
    store.write(path, gzip.compress(b"the stale worker's shorter file\n"))
    watcher.look(bytes_too=True)
    with pytest.raises(AssertionError, match=r"changed(.|\n)*other bytes"):
        watcher.check()


def test_a_file_that_vanishes_is_found_unless_a_reader_took_it(store, log):
    write(store, log)
    taken, lost, *_ = store.paths()
    watcher = Watcher(store)
    watcher.look()
    watcher.forgive(taken)
    store.delete(taken)
    watcher.look()
    watcher.check()
    store.delete(lost)
    watcher.look()
    with pytest.raises(AssertionError, match="vanished"):
        watcher.check()


def test_aborted_records_are_not_in_the_log_and_a_sink_that_writes_them_is_found(kafka, topic, store):
    name = topic(partitions=2)
    produce_transactions(kafka, name, transactions=6, records_each=20, partitions=2, abort_every=3)
    log = read_committed(kafka, name)
    assert len(log) == 80
    write(store, log)
    compare(log, store).check()
    aborted = [value for value in read_uncommitted(kafka, name, 120) if value not in {entry.value for entry in log}]
    assert len(aborted) == 40
    store.write("aborted.gz", gzip.compress(aborted[0] + b"\n"))
    assert len(compare(log, store).unknown) == 1


def test_a_log_of_aborted_transactions_only_is_empty(kafka, topic):
    name = topic()
    produce_transactions(kafka, name, transactions=3, records_each=5, abort_every=1)
    assert read_committed(kafka, name) == []


def test_the_sink_that_puts_and_then_commits_doubles_records_when_it_dies_between(kafka, topic, store):
    """At-least-once, the bug that kas3 exists for: without this the oracle could be blind to it."""
    name = topic(partitions=2)
    with Stream(kafka, name, partitions=2, records_per_second=500):
        time.sleep(1)
    log = read_committed(kafka, name)
    put_then_commit(kafka, name, store, dies_after=2, named="first")
    put_then_commit(kafka, name, store, dies_after=None, named="second")
    report = compare(log, store)
    assert report.doubled and not report.lost and not report.unknown


def put_then_commit(kafka, topic, store, dies_after, named):
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"floor-{topic}", "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    positions = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], 10)
    consumer.assign([TopicPartition(each.topic, each.partition, max(each.offset, 0)) for each in positions])
    puts, buffers, idle = 0, {}, 0
    while idle < 3:
        messages = consumer.consume(100, 0.5)
        idle = 0 if messages else idle + 1
        for message in messages:
            buffers.setdefault(message.partition(), []).append(message)
        full = [partition for partition, batch in buffers.items() if len(batch) >= BATCH or (idle and batch)]
        for partition in full:
            batch = buffers.pop(partition)
            content = b"".join(message.value() + b"\n" for message in batch)
            store.write(f"{named}-{partition}-{batch[0].offset()}.gz", gzip.compress(content))
            puts += 1
            if puts == dies_after:
                consumer.close()
                return
            consumer.commit(offsets=[TopicPartition(topic, partition, batch[-1].offset() + 1)], asynchronous=False)
    consumer.close()


def read_uncommitted(kafka, topic, count):
    settings = {"bootstrap.servers": kafka, "group.id": "kas3-oracle", "isolation.level": "read_uncommitted", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, 0), TopicPartition(topic, 1, 0)])
    values = []
    while len(values) < count:
        messages = consumer.consume(count - len(values), 10)
        assert messages, f"only {len(values)} records in {topic}"
        values += [message.value() for message in messages if message.error() is None]
    consumer.close()
    return values
