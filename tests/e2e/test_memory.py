"""The memory budget holds: the largest resident size of the process stays below `memory`."""

import json
import re

import pytest

from services import create_topic, fresh_name
from oracle import compare, produce, read_committed

MIB = 1 << 20


def measure(sink, log, what):
    finished = sink.run_to_end(seconds=300)
    print(f"peak resident size with {what}: {finished.peak_bytes / MIB:.0f} MiB of {sink.settings['memory']}")
    compare(log, sink.files).check()
    limit = int(sink.settings["memory"].removesuffix("MiB")) * MIB
    assert finished.peak_bytes < limit, f"{finished.peak_bytes / MIB:.0f} MiB with {what}"


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_five_thousand_open_paths(kafka, topic, pipeline, store, compression):
    name = topic()
    produce(kafka, name, 100_000, padding=200, fields=lambda i: {"group": i % 5000})
    sink = pipeline(name)
    sink.configure(path="{topic}/{value.group}/{partition}_{offset}", roll={"records": 100_000, "age": "10m"})
    sink.encode(compression=compression)
    measure(sink, read_committed(kafka, name), f"5,000 open paths, {compression}")


def test_a_thousand_partitions(kafka, admin, pipeline):
    name = create_topic(admin, fresh_name("thousand"), 1000)
    produce(kafka, name, 100_000, partitions=1000, padding=200)
    sink = pipeline(name)
    sink.configure(roll={"records": 1000, "age": "10m"})
    measure(sink, read_committed(kafka, name), "1,000 partitions")
    admin.delete_topics([name])[name].result(60)


def test_a_backlog_larger_than_the_budget(kafka, topic, pipeline, local):
    name = topic(partitions=4)
    produce(kafka, name, 3000, partitions=4, padding=100_000)
    sink = pipeline(name, files=local)
    sink.settings["memory"] = "192MiB"
    sink.configure(roll={"age": "10m"})
    measure(sink, read_committed(kafka, name), "a backlog of 300 MB")


def test_values_of_one_byte(kafka, topic, pipeline, local):
    """Nothing but what is kept around each record. The envelope tells them apart."""
    name = topic(partitions=2)
    produce(kafka, name, 100_000, partitions=2, value=lambda i: b"%d" % (i % 10))
    sink = pipeline(name, files=local)
    sink.settings["memory"] = "192MiB"
    sink.encode(envelope=True)
    sink.configure(roll={"records": 1_000_000, "age": "10m"})
    finished = sink.run_to_end()
    place = lambda line: tuple(map(json.loads(line).get, ("partition", "offset", "value")))  # noqa: E731
    compare(read_committed(kafka, name), sink.files, lambda entry: (entry.partition, entry.offset, entry.value.decode()), place).check()
    assert finished.peak_bytes < 192 * MIB


def test_one_hot_partition_among_many(kafka, topic, pipeline, local):
    name = topic(partitions=64)
    produce(kafka, name, 2000, partitions=64, padding=1000)
    produce(kafka, name, 900, partitions=1, seed=2, padding=100_000)
    sink = pipeline(name, files=local)
    sink.settings["memory"] = "128MiB"
    sink.configure(roll={"age": "10m"})
    measure(sink, read_committed(kafka, name), "one partition of 64 with 98% of the bytes")


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_records_too_large_for_the_memory_stop_their_partition_and_the_memory_that_is_named_holds(kafka, topic, pipeline, s3, bucket, compression):
    """Records of 9 MB cannot be divided: with the least memory there is no room for their copies, with what the message names there is."""
    name = topic(partitions=2, max_message_bytes=10_000_000)
    produce(kafka, name, 40, partitions=2, padding=9_000_000)
    sink = pipeline(name)
    sink.settings["memory"] = "80MiB"
    sink.encode(compression=compression)
    sink.configure(roll={"age": "10m"})
    stopped = sink.run_to_end(code=3).says("too many for `memory: 80MiB`")
    print(f"peak of what stopped: {stopped.peak_bytes / MIB:.0f} MiB")
    # a record is in memory when it is found too large, and librdkafka has fetched the next two by then
    assert stopped.peak_bytes < 40 * MIB + 4 * 9_000_000
    sink.settings["memory"] = re.search(r"set `memory: (\d+MiB)` or more", stopped.stderr).group(1)
    measure(sink, read_committed(kafka, name), f"records of 9 MB, {compression}")


def test_the_least_memory_is_exceeded_by_a_tenth_at_most(kafka, topic, pipeline, local):
    name = topic(partitions=4)
    produce(kafka, name, 400_000, partitions=4, padding=150)
    sink = pipeline(name, files=local)
    sink.settings["memory"] = "80MiB"
    sink.configure(roll={"records": 1_000_000, "age": "10m"})
    finished = sink.run_to_end()
    print(f"peak with the least that is accepted: {finished.peak_bytes / MIB:.0f} MiB")
    assert finished.peak_bytes < 88 * MIB
    compare(read_committed(kafka, name), sink.files).check()
