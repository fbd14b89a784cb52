"""What the store is asked for, and what that costs: requests by kind at start, per roll, idle, and one roll of 1,000 partitions.

Requests are those that MinIO counted, from everybody: nobody else may use it meanwhile. A count begins and ends when the sink has sent
nothing for a while, so it holds all that belongs to the rolls between, and is the same on a slow machine."""

import time
from collections import Counter
from typing import NamedTuple

import ground
import live
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from ground import KAFKA, KAS3, Process, say

# Seconds without a request after which nothing is on its way: longer than `sink.settle`, which is twice the age of the rolls here, or 5 s.
QUIET_S = 12
ROLL_AGE_S = 5
ROLLS = 5
MANY = 1000
FEW = 10
# Spans of each partition in a row: two segments of history.
SPANS = 130
PATHS = 20
PART_BYTES = 8 << 20
LARGE_BYTES = 64 << 20
# More than a head takes along, less than a part.
MIDDLE_BYTES, IN_HEAD_BYTES = 6 << 20, 4 << 20
LARGE_FILES = 2
# The sweep comes every ten minutes, and once at start.
SWEEP_S = 600
CLOCK_S = 60
# How long a roll is watched; a look at the store's counts takes longer than one at the clock.
WATCH_S = 35
RECORDS_OF_A_ROLL = 200
# MinIO's names, as columns. Both listings are billed alike, as are all that cost nothing.
COLUMNS = {
    "put": ("PutObject",),
    "begin": ("NewMultipartUpload",),
    "part": ("PutObjectPart",),
    "complete": ("CompleteMultipartUpload",),
    "list": ("ListObjectsV2", "ListMultipartUploads"),
    "get": ("GetObject",),
    "head": ("HeadObject",),
    "delete": ("DeleteObject", "AbortMultipartUpload"),
}
PUT_CLASS, GET_CLASS = ("put", "begin", "part", "complete", "list"), ("get", "head")
# USD a request, S3 Standard, us-east-1; deleting is free.
PUT_USD, GET_USD = 0.005 / 1000, 0.0004 / 1000
HEADER = f"| what | count of it | {' | '.join(COLUMNS)} |\n| --- | --- |{' --- |' * len(COLUMNS)}"


def row(name, requests, divisor=1):
    """A row of requests by kind, each divided by how often the thing was done."""
    unknown = set(requests) - set(COLUMNS)
    if unknown:
        raise SystemExit(f"MinIO counted requests that have no column: {sorted(unknown)}")
    digits = 0 if divisor == 1 else 3
    cells = [f"{requests[column] / divisor:,.{digits}f}" if requests[column] else "0" for column in COLUMNS]
    print(f"| {name} | {divisor:,} | " + " | ".join(cells) + " |", flush=True)


def billed(requests, columns):
    return sum(requests[column] for column in columns)


def seen():
    """Requests that the store counted so far, by column."""
    columns = {name: column for column, names in COLUMNS.items() for name in names}
    found = Counter()
    for name, count in ground.requests_seen().items():
        if "Bucket" not in name and name != "DeleteMultipleObjects":  # the benchmark's own
            found[columns.get(name, name)] += count
    return found


class Sink:
    """kas3 on a topic and a bucket of their own, started and stopped at will; what it asked the store for since the last look."""

    def __init__(self, partitions, **sink):
        self.topic, self.partitions = f"bench-counts-{time.time_ns()}", partitions
        admin = AdminClient({"bootstrap.servers": KAFKA})
        admin.create_topics([NewTopic(self.topic, partitions, 1)])[self.topic].result()
        # a busy broker tells of a new topic a moment later
        ground.until(lambda: self.known(admin))
        self.s3, self.bucket, self.configuration = live.begin(self.topic, **sink)
        # waits for the end of a feed, so that each partition gets few batches
        settings = {"linger.ms": 1000, "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000}
        self.producer = Producer({"bootstrap.servers": KAFKA, **settings})
        self.worker, self.before = None, seen()

    def known(self, admin):
        found = admin.list_topics(timeout=10).topics.get(self.topic)
        if not found or len(found.partitions) != self.partitions:
            raise OSError(f"the broker does not know `{self.topic}` yet")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.worker:
            self.stop()
        ground.clean(self.bucket)
        ground.delete_topic(self.topic)

    def start(self):
        self.worker = Process([KAS3, "run", self.configuration], log=f"{self.bucket}.log")
        # joining the group asks the store for nothing, and takes long on a busy machine: that is not rest
        ground.until(self.assigned, ground.RUN_SECONDS)

    def assigned(self):
        if self.worker.poll():
            raise SystemExit(f"kas3 ended by itself; its log: {self.worker.log}")
        if b"partitions assigned" not in self.worker.log.read_bytes():
            raise OSError("kas3 has no partitions yet")

    def stop(self):
        worker, self.worker = self.worker, None
        code, cpu = worker.stop()
        if code:
            raise SystemExit(f"kas3 ended with {code}; its log: {worker.log}")
        return cpu

    def quiet(self):
        """Requests by column since the last look, taken when there were none for a while."""
        last, since, begun = seen(), time.monotonic(), time.monotonic()
        while time.monotonic() < since + QUIET_S:
            time.sleep(0.25)
            now = seen()
            if now != last:
                last, since = now, time.monotonic()
            if self.worker and self.worker.poll() or time.monotonic() > begun + ground.RUN_SECONDS:
                raise SystemExit(f"kas3 ended by itself, or never rests; its log: {self.bucket}.log in {ground.WORK}")
        made, self.before = last - self.before, last
        return made

    def files(self):
        """The data objects; what this asks for is not counted."""
        found, before = ground.objects(self.s3, self.bucket), self.before
        self.before = before + (seen() - before)
        return found

    def feed(self, make, count=1):
        """`count` records for each partition, `make(number)` each."""
        for number in range(count):
            value = make(number)
            for partition in range(self.partitions):
                while True:
                    try:
                        self.producer.produce(self.topic, value, partition=partition)
                        break
                    except BufferError:
                        self.producer.poll(0.05)
            self.producer.poll(0)
        if self.producer.flush(60):
            raise SystemExit("not everything was delivered")


def event(number):
    return b'{"id":%d,"k":%d,"t":"%s"}' % (number, number % PATHS, b"x" * 150)


def starts():
    """First starts and restarts, of few and of many partitions; requests that each partition adds."""
    print(f"### Starts\n\n{HEADER}")
    firsts, agains = [], []
    for partitions in (FEW, MANY):
        with Sink(partitions) as sink:
            firsts.append(sink.quiet())
            row(f"first start, {partitions:,} partitions", firsts[-1])
            sink.stop()
            row(f"its stop, {partitions:,} partitions", sink.quiet())
            sink.start()
            agains.append(sink.quiet())
            row(f"restart, {partitions:,} partitions", agains[-1])
    each = {name: few_to_many(*found) for name, found in (("first start", firsts), ("restart", agains))}
    for name, added in each.items():
        row(f"{name}, each further partition", added, MANY - FEW)
    print(flush=True)
    return {name: Counter({column: count / (MANY - FEW) for column, count in added.items()}) for name, added in each.items()}


def few_to_many(few, many):
    return Counter({column: many[column] - few[column] for column in COLUMNS if many[column] > few[column]})


def per_file(name, sink, requests, expected=None):
    """A row of requests per file; the same as a counter."""
    files = sink.files()
    if not files or (expected and len(files) != expected):
        raise SystemExit(f"{name}: {len(files)} files, expected {expected}")
    row(name, requests, len(files))
    return Counter({column: count / len(files) for column, count in requests.items()})


def steady(name, **sink):
    """Rolls by age, of a stream that gives every partition records in every roll."""
    with Sink(20, roll={"age": f"{ROLL_AGE_S}s"}, **sink) as running:
        running.quiet()
        begun = time.monotonic()
        while time.monotonic() < begun + ROLLS * ROLL_AGE_S:
            running.feed(event)
            time.sleep(0.5)
        return per_file(name, running, running.quiet())


def in_a_row():
    """Rolls that follow each other at once, with history that moves into segments; then a restart that finds it."""
    with Sink(FEW, roll={"records": 1}) as sink:
        sink.quiet()
        sink.feed(event, SPANS)
        found = per_file(f"small file, {SPANS} rolls in a row", sink, sink.quiet(), FEW * SPANS)
        sink.stop()
        row("the stop after it", sink.quiet())
        sink.start()
        row(f"restart of {FEW} partitions with {SPANS} spans each", sink.quiet())
        return found


def many_paths():
    with Sink(FEW, roll={"records": PATHS}, path="{topic}/{value.k}/{partition}_{offset}") as sink:
        sink.quiet()
        sink.feed(event, PATHS)
        return per_file(f"small file, {PATHS} of them in a span", sink, sink.quiet(), FEW * PATHS)


def of_size(size, settle):
    """Files of one size, one of each partition, so that each is settled by itself if it ever is."""
    value = b'"' + b"x" * ((64 << 10) - 3) + b'"'
    records = size // (len(value) + 1)
    none = {"type": "json_lines", "compression": "none"}
    with Sink(LARGE_FILES, roll={"records": records, "age": f"{ROLL_AGE_S}s"}, format=none, settle=settle) as sink:
        sink.quiet()
        sink.feed(lambda _: value, records)
        found = per_file(f"file of {size >> 20} MiB, `settle: {settle}`", sink, sink.quiet(), LARGE_FILES)
        sizes = {size for _, size, _ in sink.files()}
        if sizes != {size}:
            raise SystemExit(f"files of other sizes: {sizes}")
        return found


def rolls():
    """Requests per file of small files, of those that fit into no head, and of large ones."""
    print(f"### Rolls, per file\n\n{HEADER}")
    found = {"usual": steady("small file"), "settle": steady("small file, `settle: 1s`", settle="1s"), "next": steady("small file, `settle: next`", settle="next")}
    found |= {"row": in_a_row(), "paths": many_paths(), "middle": of_size(MIDDLE_BYTES, "next"), "large": of_size(LARGE_BYTES, "next")}
    found |= {"middle settled": of_size(MIDDLE_BYTES, "1s"), "large settled": of_size(LARGE_BYTES, "1s")}
    print(flush=True)
    return found


def idle():
    """A sink that gets nothing, for long enough to see a sweep."""
    print(f"### Idle\n\n{HEADER}")
    with Sink(MANY) as sink:
        sink.quiet()
        time.sleep(SWEEP_S)
        found = sink.quiet()
        row(f"{MANY:,} partitions, {SWEEP_S // 60} minutes", found)
    print(flush=True)
    return found


class Moment(NamedTuple):
    at: float
    cpu: float
    store_cpu: float
    requests: int


def one_roll(sink, known):
    """One roll by the clock, the same instant for all partitions: seconds and CPU seconds until the last file is visible, and in all."""
    begin = (time.time() // CLOCK_S + 2) * CLOCK_S
    time.sleep(begin - CLOCK_S - time.time() + 1)
    sink.feed(event, RECORDS_OF_A_ROLL)
    if time.time() > begin - 5:
        raise SystemExit("the machine is too slow: the records of a roll must be there well before it")
    # by then everything is read
    time.sleep(begin - time.time() - 0.1)
    store, moments, before = ground.service_pids().get("minio"), [], sink.before
    while time.time() < begin + WATCH_S:
        store_cpu = ground.cpu_seconds(store) if store else 0.0
        moments.append(Moment(time.time(), ground.cpu_seconds(sink.worker.pid), store_cpu, (seen() - before).total()))
        time.sleep(0.05)
    requests = sink.quiet()
    modified = sorted(at for key, _, at in sink.files() if key not in known)
    if len(modified) != MANY:
        raise SystemExit(f"{len(modified)} files of one roll of {MANY} partitions")
    visible = next(moment for moment in moments if moment.at >= modified[-1])
    first = moments[0]
    last = next(moment for moment in moments if moment.requests == moments[-1].requests)
    shares = [visible.cpu - first.cpu, last.cpu - first.cpu, last.store_cpu - first.store_cpu]
    cells = [modified[0] - begin, modified[len(modified) // 2] - begin, modified[-1] - begin, *shares]
    print("| " + " | ".join([*(f"{cell:.2f}" for cell in cells), f"{visible.requests:,}", f"{last.requests:,}"]) + " |", flush=True)
    return requests


def thousand():
    """The cost of one roll of 1,000 partitions, three times."""
    print(f"### One roll of {MANY:,} partitions, {RECORDS_OF_A_ROLL} records each\n")
    print("| first file s | half s | last file s | CPU s until then | CPU s with settling | store's CPU s | requests until then | requests with settling |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with Sink(MANY, roll={"clock": f"{CLOCK_S}s"}) as sink:
        sink.quiet()
        made, known = [], set()
        for _ in range(3):
            made.append(one_roll(sink, known))
            known = {key for key, _, _ in sink.files()}
        peak = sink.worker.peak_bytes / 2**20
    print(f"\npeak {peak:.0f} MiB\n\n{HEADER}")
    for requests in made:
        row("the roll", requests)
    print(flush=True)


def money(per_start, per_roll, per_sweep):
    """Requests and USD a day, worked out from the counts; one worker, which holds all partitions."""
    # of the rolls in a row the last one alone was settled by itself; what else there is more than with `settle: next` is history
    history = billed(per_roll["row"], PUT_CLASS) - billed(per_roll["next"], PUT_CLASS) - 1 / SPANS
    # in every roll of these partitions another one follows: nothing is settled by itself
    small = billed(per_roll["next"], PUT_CLASS) + history
    middle = billed(per_roll["middle"], PUT_CLASS) + history
    large = billed(per_roll["large"], PUT_CLASS) - per_roll["large"]["part"] + history
    print("### Requests and money a day\n\n| partitions | TB a day | roll | files a day | open files GiB | PUT class | GET class | USD a day | USD per TB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for terabytes, age_minutes in ((1, 5), (10, 5), (1, 30)):
        for partitions in (10, 1000, 10_000):
            bytes_day = terabytes * 1e12
            files = max(bytes_day / (128 << 20), partitions * 24 * 60 / age_minutes)
            size = bytes_day / files
            each = small if size <= IN_HEAD_BYTES else middle if size < PART_BYTES else large + -(-size // PART_BYTES)
            sweeps = 24 * 3600 / SWEEP_S * partitions / MANY
            puts, gets = files * each + sweeps * billed(per_sweep, PUT_CLASS), sweeps * billed(per_sweep, GET_CLASS)
            usd = puts * PUT_USD + gets * GET_USD
            cells = [f"{partitions:,}", f"{terabytes}", f"`128MiB, {age_minutes}m`", f"{files:,.0f} of {size / 2**20:.2f} MiB"]
            # what is not yet a part of an upload; `memory` of all workers must be larger
            cells.append(f"{partitions * min(size, PART_BYTES) / 2**30:.1f}")
            print("| " + " | ".join([*cells, f"{puts:,.0f}", f"{gets:,.0f}", f"{usd:.2f}", f"{usd / terabytes:.2f}"]) + " |", flush=True)
    print("\n| partitions | first start, USD | restart, USD |\n| --- | --- | --- |")
    for partitions in (10, 1000, 10_000):
        usd = [partitions * (billed(each, PUT_CLASS) * PUT_USD + billed(each, GET_CLASS) * GET_USD) for each in per_start.values()]
        print(f"| {partitions:,} | " + " | ".join(f"{each:.4f}" for each in usd) + " |", flush=True)


def requests(options):
    if not ground.requests_seen() and not ground.service_pids():
        raise SystemExit("requests are counted by MinIO's metrics, and this store has none")
    sections = {"starts": starts, "rolls": rolls, "thousand": thousand, "idle": idle}
    if options.only and options.only not in sections:
        raise SystemExit(f"unknown part `{options.only}`: {', '.join(sections)}")
    found = {}
    for name, section in sections.items():
        if options.only in (None, name):
            say(f"requests: {name}")
            found[name] = section()
    if not options.only:
        money(found["starts"], found["rolls"], found["idle"])
