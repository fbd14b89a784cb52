#!/usr/bin/env python3
"""Benchmarks of the sink, beside the floor and Bento, on the same broker, topic and store.

    make bench                       the main comparison: 20,000,000 records, gzip and zstd, the floor, Bento
    make bench BENCH="shapes"        partitions and sizes of records
    make bench BENCH="paths"         5,000 open paths against one
    make bench BENCH="latency"       from produced to visible
    make bench BENCH="scale"         four workers against one; a worker that dies
    make bench BENCH="claims"        the claim check beside bare requests and kaf-s3-connector
    make bench BENCH="requests"      what the store is asked for at start, per roll and idle, and what it costs (20 minutes)
    make bench BENCH="main --records 5000000 --rounds 3"
    make bench BENCH="shapes --before /tmp/kas3-of-the-commit-before --rounds 3"    another build, in turns with this one

One sink at a time. Every run is checked by a reader that is not kas3's. Results go to standard output as Markdown."""

import argparse
import statistics
from pathlib import Path

import claims
import counts
import ground
import live
from ground import header, say

# Bytes of values and their newlines of the events of `load.py`, per record: what "size" is a share of.
EVENT_BYTES = 191.6


def once(make, records, check=True):
    run, bucket = make()
    say(f"{run.sink}: {run.rate:,.0f} records/s, {run.cpu_per_million:.2f} CPU-s per million, {run.peak_bytes / 2**20:.0f} MiB")
    if check:
        say("  " + ground.verify(bucket, records))
    ground.clean(bucket)
    return run


def median(runs):
    """The run in the middle, by rate."""
    middle = statistics.median_low([run.rate for run in runs])
    return next(run for run in runs if run.rate == middle)


def content_bytes(topic, records, size):
    return records * (EVENT_BYTES if size is None else size + 1)


def compare(topic, records, partitions, size, options, sinks, peers=None):
    """Prints one table: the floor (or what was before), each of `peers` and each of `sinks`, their middle runs, taken in turns."""
    ground.ensure_topic(topic, records, partitions, size)
    rounds = options.rounds
    makers = {"floor": ground.floor, **(peers or {})}
    if options.before:
        makers = {f"{name}, before": before(options, name, settings) for name, settings in sinks.items()}
    bases = list(makers)
    makers = {name: lambda make=make: make(topic, records, partitions) for name, make in makers.items()}
    for name, settings in sinks.items():
        makers[name] = lambda name=name, settings=settings: ground.kas3(name, topic, records, partitions, **settings)
    runs = {name: [] for name in makers}
    for number in range(rounds):
        for name, make in makers.items():
            runs[name].append(once(make, records, check=number == 0))
    whole = content_bytes(topic, records, size)
    best = {name: median(each) for name, each in runs.items()}
    print(header(*bases))
    for run in best.values():
        print(run.row(whole, *(best[base] for base in bases)))
    spread = {name: f"{min(run.rate for run in each):,.0f} to {max(run.rate for run in each):,.0f}" for name, each in runs.items()}
    if rounds > 1:
        print(f"\nrecords/s over {rounds} rounds: " + ", ".join(f"{name} {text}" for name, text in spread.items()))
    print(flush=True)
    return best


def before(options, name, settings):
    """The same sink by the build that `--before` names."""
    binary = Path(options.before).resolve()
    return lambda topic, records, partitions: ground.kas3(f"{name}, before", topic, records, partitions, binary=binary, **settings)


def main_table(options):
    print(f"### {options.records:,} JSON records of 192 bytes, 4 partitions, lz4 in Kafka\n")
    sinks = {f"kas3 {name}": {"sink": merged(name)} for name in options.compressions.split(",")}
    if not ground.BENTO:
        say("without Bento: it is not built here; `dev/services fetch bento` builds it")
    compare("bench", options.records, 4, None, options, sinks, {"Bento": ground.bento} if ground.BENTO and not options.before else None)


def merged(compression, **sink):
    """Settings of a sink: JSON Lines with this compression, as `zstd` or `zstd:3` with a level, and what else is given."""
    name, _, level = compression.partition(":")
    return {**sink, "format": {"type": "json_lines", "compression": name, **({"level": int(level)} if level else {})}}


SHAPES = {
    "1 partition": (4_000_000, 1, None),
    "64 partitions": (4_000_000, 64, None),
    "1,000 partitions": (4_000_000, 1000, None),
    "20 bytes": (20_000_000, 4, 20),
    "1 KiB": (1_600_000, 4, 1024),
    "100 KiB": (20_000, 4, 102_400),
}


def shapes(options):
    for name, (records, partitions, size) in SHAPES.items():
        if options.only and options.only not in name:
            continue
        records = records * options.percent // 100
        topic = "bench-" + name.replace(" ", "-").replace(",", "").lower()
        print(f"### {name}: {records:,} records of {size or 192} bytes, {partitions} partitions\n")
        compare(topic, records, partitions, size, options, {"kas3 gzip": {"sink": merged("gzip")}})
        ground.delete_topic(topic)


def paths(options):
    """5,000 open paths against one path a partition, on the same records: 1,250 values of a field in each of four partitions."""
    records, topic = 4_000_000 * options.percent // 100, "bench-paths"
    ground.ensure_topic(topic, records, keys=1250)
    print(f"### {records:,} records of 201 bytes, 4 partitions: one path each, and 5,000 paths open at once\n")
    sinks = {"one path": "{topic}/{partition}_{offset}", "5,000 paths": "{topic}/{value.k}/{partition}_{offset}"}
    sinks = {name: {"sink": merged("gzip", path=path)} for name, path in sinks.items()}
    makers = {name: lambda name=name, settings=settings: ground.kas3(name, topic, records, 4, **settings) for name, settings in sinks.items()}
    if options.before:
        for name, settings in sinks.items():
            makers[f"{name}, before"] = lambda make=before(options, name, settings): make(topic, records, 4)
    runs = {name: [] for name in makers}
    for number in range(options.rounds):
        for name, make in makers.items():
            runs[name].append(once(make, records, check=number == 0))
    best = [median(each) for each in runs.values()]
    print(header("one path"))
    for run in best:
        print(run.row(content_bytes(topic, records, 200), best[0]), flush=True)
    ground.delete_topic(topic)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="main", choices=["main", "shapes", "paths", "latency", "scale", "claims", "requests"])
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--compressions", default="gzip,zstd")
    parser.add_argument("--percent", type=int, default=100, help="all but main, latency and requests: share of the records")
    parser.add_argument("--before", help="main, shapes and paths: another build of kas3, beside this one instead of floor and peers")
    parser.add_argument("--only", help="shapes: those whose name contains this; claims: straight, latency or inline; requests: starts, rolls, thousand or idle")
    parser.add_argument("--seconds", type=int, default=30, help="latency: how long")
    options = parser.parse_args()
    tables = {"main": main_table, "shapes": shapes, "paths": paths, "latency": live.latencies, "scale": live.scale}
    tables |= {"claims": claims.claims, "requests": counts.requests}
    tables[options.what](options)


if __name__ == "__main__":
    main()
