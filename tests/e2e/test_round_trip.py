"""What is in the topic is in the files, once, in order, whatever the format, the layout and the kind of records."""

import base64
import gzip
import json
import subprocess
import time

import duckdb
import pyarrow.json
import pytest
from confluent_kafka import Consumer, TopicPartition

from e2e.driver import wait_for
from oracle import LocalFiles, Watcher, compare, lines, produce, produce_transactions, read_committed
from oracle.files import decompress
from oracle.log import producer


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_every_record_is_in_exactly_one_file(kafka, topic, pipeline, store, compression):
    name = topic(partitions=3)
    produce(kafka, name, 3000, partitions=3)
    sink = pipeline(name)
    sink.encode(compression=compression)
    with Watcher(sink.files):
        sink.run_to_end()
        before = sink.files.list()
        compare(read_committed(kafka, name), sink.files).check()
        assert all(path.endswith({"gzip": ".jsonl.gz", "zstd": ".jsonl.zst", "none": ".jsonl"}[compression]) for path in before)
        sink.verify()
        # Nothing new: nothing to do. Something new: only that.
        sink.run_to_end()
        assert sink.files.list() == before
        produce(kafka, name, 500, partitions=3, seed=2)
        sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    assert sink.staged() == []


def test_readers_of_others_read_the_files(kafka, topic, pipeline, tmp_path):
    name = topic()
    produce(kafka, name, 2000, fields=lambda i: {"n": i})
    log = read_committed(kafka, name)
    for compression in ("gzip", "zstd"):
        folder = tmp_path / compression
        folder.mkdir()
        sink = pipeline(name, files=LocalFiles(folder), name=f"{name}-{compression}")
        sink.encode(compression=compression, block="8KiB")
        sink.configure(roll={"records": 900})
        sink.run_to_end()
        paths = [folder / path for path in sink.files.paths()]
        assert len(paths) == 3
        counted = duckdb.sql(f"select count(distinct id), count(*) from read_json({[str(path) for path in paths]!r})").fetchall()
        assert counted == [(len(log), len(log))]
        if compression == "gzip":
            tables = [pyarrow.json.read_json(str(path)) for path in paths]
            assert sorted(n for table in tables for n in table["n"].to_pylist()) == sorted(json.loads(entry.value)["n"] for entry in log)
            subprocess.run(["gzip", "-t", *paths], check=True)


def test_the_envelope_loses_nothing(kafka, topic, pipeline):
    name = topic()
    client = producer(kafka)
    records = [
        (b"key", b'{"a": 1}', [("h", b"text"), ("h", b"again"), ("bytes", b"\xff\x00")], 1_700_000_000_123),
        (None, b"not json", [], 1_700_000_000_124),
        (b"\xff\xfe", b"\x00\x01\xff", [("null", None)], 1_700_000_000_125),
        (b"", b"", [], 1_700_000_000_126),
        (b"gone", None, [], 1_700_000_000_127),
        (b"lines", b'{"two":\n"lines"}\n', [], 1_700_000_000_128),
    ]
    for key, value, headers, timestamp in records:
        client.produce(name, value, key, 0, timestamp=timestamp, headers=headers)
    client.flush(30)
    sink = pipeline(name)
    sink.encode(envelope=True)
    sink.run_to_end()
    (path,) = sink.files.paths()
    found = [json.loads(line) for line in lines(path, sink.files.read(path))]
    places = [(each["topic"], each["partition"], each["offset"], each["timestamp"]) for each in found]
    assert places == [(name, 0, i, record[3]) for i, record in enumerate(records)]
    assert [_bytes(each["key"]) for each in found] == [record[0] for record in records]
    assert [_bytes(each["value"], plain=record[1]) for each, record in zip(found, records)] == [record[1] for record in records]
    sink.verify()


def _bytes(field, plain=None):
    """The bytes behind an envelope's field: text, base64, or JSON that stands there as it is."""
    if field is None:
        return None
    if isinstance(field, str):
        return field.encode()
    if isinstance(field, dict) and field.keys() == {"base64"}:
        return base64.b64decode(field["base64"])
    assert plain is not None and json.loads(plain) == field
    return plain


def test_values_with_newlines_tombstones_and_empty_values_stay_one_line_each(kafka, topic, pipeline):
    name = topic()
    values = [b'{\n "a": [1,\r\n 2],\n "b": "x\\ny"\n}', None, b"", b'{"last": true}']
    client = producer(kafka)
    for value in values:
        client.produce(name, value, b"k", 0)
    client.flush(30)
    sink = pipeline(name)
    sink.run_to_end()
    (path,) = sink.files.paths()
    found = lines(path, sink.files.read(path))
    assert [json.loads(line) for line in found] == [{"a": [1, 2], "b": "x\ny"}, None, None, {"last": True}]
    sink.verify()


def test_records_that_do_not_fit_stop_their_partition_or_are_skipped_and_counted(kafka, topic, pipeline):
    name = topic(partitions=2)
    client = producer(kafka)
    for partition, value in [(0, b'{"id":1}'), (0, b"two\nlines, no json"), (0, b'{"id":2}'), (1, b'{"id":3}')]:
        client.produce(name, value, None, partition)
    client.flush(30)
    sink = pipeline(name)
    sink.run_to_end(code=3).says(f"{name}", "1", "newline")
    assert [path for path in sink.files.paths() if "/1_0" in path], "the other partition goes on"
    sink.configure(bad_records="skip")
    sink.run_to_end()
    found = sorted(line for path in sink.files.paths() for line in lines(path, sink.files.read(path)))
    assert found == [b'{"id":1}', b'{"id":2}', b'{"id":3}']
    sink.verify()


def test_large_records_and_parts_of_uploads(kafka, large_log, pipeline, store):
    name, log = large_log
    sink = pipeline(name)
    sink.encode(compression="none")
    sink.configure(roll={"records": 20, "age": "60s"})
    with Watcher(sink.files):
        sink.run_to_end()
    report = compare(log, sink.files).check()
    assert report.files == 2
    sink.verify()


def test_paths_follow_values_times_and_time_zones(kafka, topic, pipeline):
    name = topic()
    half_past_eleven = 1_767_223_800_000  # 2025-12-31T23:30:00Z: already next year in Berlin
    produce(kafka, name, 100, fields=lambda i: {"city": ["Köln", "a/b", "", "_x"][i % 4]}, timestamp_ms=lambda i: half_past_eleven + i)
    sink = pipeline(name)
    sink.configure(path="{topic}/year={timestamp:%Y}/city={value.city}/{partition:05}-{offset:012}", timezone="Europe/Berlin")
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    folders = {path.rsplit("/", 1)[0] for path in sink.files.paths()}
    assert folders == {f"{name}/year=2026/city={city}" for city in ("Köln", "a%2Fb", "__HIVE_DEFAULT_PARTITION__", "_x")}
    sink.verify()


def test_values_that_would_leave_the_prefix_hide_or_be_too_long_become_names_that_do_not(kafka, topic, pipeline, store):
    name = topic(partitions=2)
    values = ["..", ".", "../../up", "_kas3", "_kas3/x/ledger", ".hidden", "/absolute", "a//b", "x" * 2000, "ü" * 2000, "x" * 1999 + "y", "con:%00\\n"]
    produce(kafka, name, 240, partitions=2, fields=lambda i: {"v": values[i % len(values)]}, key=lambda i: values[i % len(values)].encode())
    sink = pipeline(name)
    sink.configure(path="{topic}/{value.v}/{key}/{partition}_{offset}", roll={"records": 1000, "age": "60s"})
    with Watcher(sink.files):
        sink.run_to_end()
    log = read_committed(kafka, name)
    report = compare(log, sink.files)
    # readers of data lakes skip nothing of it: no part of a path begins with a dot or an underscore
    assert report.check().files == 2 * len(values)
    assert all(path.startswith(f"{name}/") for path in sink.files.paths())
    sink.verify()


def test_expressions_find_topics_and_settings_differ_per_topic(kafka, topic, pipeline):
    orders, events = topic(), topic(partitions=2)
    for name in (orders, events):
        produce(kafka, name, 300, partitions=2 if name == events else 1)
    sink = pipeline(f"^{orders[:-1]}.*|{events}")
    sink.settings["topics"] = {events: {"format": {"type": "json_lines", "compression": "zstd"}, "roll": {"records": 50}}}
    sink.run_to_end()
    compare(read_committed(kafka, orders) + read_committed(kafka, events), sink.files).check()
    endings = {(path.split("/")[0], path.rsplit(".", 1)[1]) for path in sink.files.paths()}
    assert endings == {(orders, "gz"), (events, "zst")}


def test_cat_reads_records_by_offset(kafka, topic, pipeline):
    name = topic(partitions=2)
    produce(kafka, name, 1500, partitions=2)
    log = [entry for entry in read_committed(kafka, name) if entry.partition == 1]
    sink = pipeline(name)
    sink.encode(block="4KiB")
    sink.run_to_end()
    for first, to in ((0, 1), (150, 350), (len(log) - 3, len(log))):
        assert sink.cat(name, 1, first, to) == [entry.value for entry in log[first:to]]
    assert sink.cat(name, 1, 700) == [log[700].value]


def test_transactions_and_their_aborts(kafka, topic, pipeline):
    name = topic(partitions=2)
    produce_transactions(kafka, name, transactions=12, records_each=60, partitions=2, abort_every=3)
    sink = pipeline(name)
    with Watcher(sink.files):
        sink.run_to_end()
    log = read_committed(kafka, name)
    assert len(log) == 480
    compare(log, sink.files).check()
    sink.verify()


ENCODINGS = {
    "json lines": {"type": "json_lines"},
    "text": {"type": "text", "newlines": "escape"},
    "envelope": {"type": "json_lines", "envelope": True},
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_records_of_every_kind_in_transactions_that_commit_and_abort(encoding, kafka, topic, pipeline, local):
    """900 KB, no bytes, no value, keys that are not UTF-8, and every third transaction never happened."""
    name = topic(partitions=2)
    client = producer(kafka, **{"transactional.id": name})
    client.init_transactions(30)
    for transaction in range(9):
        client.begin_transaction()
        for i in range(8):
            body = {1: None, 2: b"", 3: json.dumps({"id": f"{transaction}-{i}", "pad": "x" * 900_000}).encode()}
            key = b"\xff\xfe\x00%d-%d" % (transaction, i)
            client.produce(name, body.get(i, b'{"id":"%d-%d"}' % (transaction, i)), key, i % 2, headers=[("h", b"\xff")])
        client.flush(30)
        client.abort_transaction(30) if transaction % 3 == 2 else client.commit_transaction(30)
    log = read_committed(kafka, name)
    assert len(log) == 48
    sink = pipeline(name, files=local)
    sink.encode(**ENCODINGS[encoding])
    sink.configure(roll={"records": 10, "age": "60s"})
    with Watcher(sink.files):
        sink.run_to_end()
    if encoding == "envelope":
        place = lambda line: (json.loads(line)["partition"], json.loads(line)["offset"], _bytes(json.loads(line)["key"]))  # noqa: E731
        compare(log, sink.files, expect=lambda entry: (entry.partition, entry.offset, entry.key), read=place).check()
    else:
        empty = {"json lines": b"null", "text": b""}[encoding]
        found = sorted(line for path in sink.files.paths() for line in lines(path, sink.files.read(path)))
        assert found == sorted(entry.value or empty for entry in log)
    sink.verify()


def test_a_log_of_nothing_but_aborted_records_ends(kafka, topic, pipeline):
    name = topic()
    produce_transactions(kafka, name, transactions=4, records_each=20, abort_every=1)
    sink = pipeline(name)
    sink.run_to_end()
    assert sink.files.paths() == []
    produce(kafka, name, 10)
    sink.run_to_end()
    assert compare(read_committed(kafka, name), sink.files).check().records == 10
    sink.verify()


def test_a_compacted_topic_with_gaps(kafka, admin, topic, pipeline):
    name = topic(cleanup_policy="compact", segment_ms=200, min_cleanable_dirty_ratio=0.01, delete_retention_ms=100)
    for seed in range(4):
        produce(kafka, name, 400, seed=seed, key=lambda i: b"%d" % (i % 37))
        time.sleep(0.3)
    wait_for(lambda: len(read_committed(kafka, name)) < 1200, 60, "the cleaner")
    sink = pipeline(name)
    # The oracle looks before and after: the cleaner may go on in between, and what it took meanwhile may be in the files.
    before = read_committed(kafka, name)
    sink.run_to_end()
    report = compare(before, sink.files)
    gone = {entry.offset for entry in before} - {entry.offset for entry in read_committed(kafka, name)}
    assert not (report.doubled or report.unknown or report.disordered or report.broken), str(report)
    assert {int(each.rsplit(" ", 1)[1]) for each in report.lost} <= gone, str(report)
    sink.verify()


@pytest.mark.parametrize("start", ["latest", "timestamp", "group"])
def test_a_pipeline_starts_where_it_is_told(kafka, topic, pipeline, start):
    name = topic()
    now = int(time.time() * 1000)
    produce(kafka, name, 100, timestamp_ms=lambda i: now - 100_000 + i)
    sink = pipeline(name)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((now - 50_000) / 1000))
    sink.settings["source"]["start"] = {"latest": "latest", "timestamp": {"timestamp": moment}, "group": {"group": f"{name}-old"}}[start]
    if start == "group":
        old = Consumer({"bootstrap.servers": kafka, "group.id": f"{name}-old"})
        old.commit(offsets=[TopicPartition(name, 0, 60)], asynchronous=False)
        old.close()
    sink.run_to_end()
    produce(kafka, name, 100, seed=2)
    sink.run_to_end()
    first = {"latest": 100, "timestamp": 100, "group": 60}[start]
    compare([entry for entry in read_committed(kafka, name) if entry.offset >= first], sink.files).check()


def test_index_side_files_and_the_cursor_of_other_systems(kafka, topic, pipeline):
    name = topic()
    produce(kafka, name, 900)
    sink = pipeline(name)
    sink.configure(path="deviantart", cursor=True)
    sink.encode(index="side_file", block="4KiB")
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    everything = sink.files.paths(everything=True)
    for path in sink.files.paths():
        side_file = next(each for each in everything if each.endswith(".index.json") and each.startswith(path.rsplit(".gz", 1)[0]))
        chunks = json.loads(sink.files.read(side_file))["chunks"]
        data = sink.files.read(path)
        assert sum(chunk["byte_length"] for chunk in chunks) == len(data) and len(chunks) > 1
        for chunk in chunks:
            member = gzip.decompress(data[chunk["byte_offset"] : chunk["byte_offset"] + chunk["byte_length"]])
            assert (len(member), member.count(b"\n")) == (chunk["byte_length_uncompressed"], chunk["num_records"])
        assert sum(chunk["num_records"] for chunk in chunks) == decompress(path, data).count(b"\n")
    (cursor,) = [path for path in everything if path.endswith(f"last_chunk_index.{name}-00000.txt")]
    assert sink.files.read(cursor).decode().strip().endswith(".index.json")
