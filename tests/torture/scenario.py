"""What a seed decides: the shape of the data, the group protocol, the number of workers and which faults occur."""

import random
from dataclasses import dataclass, field

from faults.kafka_proxy import TROUBLES

SESSION_MS = 1500
CLASSIC = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 300}
PROTOCOLS = {
    "eager": {**CLASSIC, "partition.assignment.strategy": "range"},
    "cooperative": {**CLASSIC, "partition.assignment.strategy": "cooperative-sticky"},
    "kip-848": {"group.protocol": "consumer"},
}
GROUPS = [f"{static}{protocol}" for static in ("", "static ") for protocol in PROTOCOLS]


# What befalls the way to Kafka, in which share of the seeds.
CONNECTIONS = [f"connections {name}" for name in TROUBLES]
CONNECTIONS_SHARE = 0.4


@dataclass(frozen=True)
class Shape:
    """Records and the files that become of them."""

    name: str
    partitions: int
    records_per_second: int
    padding: int
    path: str
    compressions: tuple
    roll: dict
    # Points that are worth waiting for, with weights.
    points: dict
    fields: object = field(default=lambda i: {})
    # Between two spans of a partition: how long a point is waited for while points are being passed.
    span_seconds: float = 1.5


SMALL_POINTS = {
    "commit.before": 4, "commit.after": 5, "put.before": 4, "put.after": 4, "settle.before": 2, "settle.after": 1, "report.before": 1,
}
BUNDLE_POINTS = {"bundle.before": 3, "bundle.after": 3, "bundle_delete.before": 1, "bundle_delete.after": 1}
LARGE_POINTS = {
    "upload.before": 2, "upload.after": 3, "part.before": 4, "part.after": 4, "commit.before": 4, "commit.after": 4, "complete.before": 4,
    "complete.after": 4, "settle.before": 1, "settle.after": 1,
}
SHAPES = [
    Shape("small files", 4, 800, 60, "{topic}/{value.day}/{partition}_{offset}", ("gzip", "zstd", "none"), {"age": "300ms", "records": 400},
          SMALL_POINTS, lambda i: {"day": f"2026-01-0{1 + i % 3}"}),
    Shape("one path", 3, 1200, 40, "{topic}/{partition}_{offset}", ("gzip", "zstd"), {"age": "200ms"}, SMALL_POINTS),
    Shape("long history", 2, 120, 30, "{topic}/{partition}/{offset}", ("gzip", "none"), {"records": 20, "age": "400ms"},
          {**SMALL_POINTS, "segment.before": 2, "segment.after": 2}),
    Shape("uploads", 3, 6, 1_000_000, "{topic}/{partition}_{offset}", ("none",), {"age": "4s", "bytes": "20MiB"}, LARGE_POINTS, span_seconds=4),
    # Two records in three go to one path and make an upload of it; the others make a bundle of the same span.
    Shape("uploads and bundles", 2, 60, 90_000, "{topic}/{value.kind}/{partition}_{offset}", ("none", "gzip"), {"age": "2500ms"},
          {**SMALL_POINTS, **BUNDLE_POINTS, **LARGE_POINTS}, lambda i: {"kind": "abcc"[i % 4] if i % 3 == 0 else "many"}, 3),
]
SHAPE_WEIGHTS = [4, 3, 2, 2, 2]


@dataclass
class Scenario:
    """One seed's plan."""

    seed: int
    group: str
    workers: int
    shape: Shape
    compression: str
    settle: str
    faults: list

    @property
    def through_proxy(self):
        """Whether the way to Kafka goes wrong."""
        return any(fault in CONNECTIONS for fault in self.faults)

    @property
    def static(self):
        return self.group.startswith("static ")

    @property
    def protocol(self):
        return self.group.removeprefix("static ")

    def __str__(self):
        faults = f"; {', '.join(self.faults)}" if self.faults else ""
        return f"{self.group}, {self.workers} workers, {self.shape.name}, {self.compression}{faults}"


def scenario(seed, workers=None, broker=True):
    """The plan of a seed. Protocols and numbers of workers take turns, so that eighteen seeds in a row have all pairs."""
    rng = random.Random(f"scenario-{seed}")
    shape = rng.choices(SHAPES, SHAPE_WEIGHTS)[0]
    compression, settle = rng.choice(shape.compressions), rng.choice(["200ms", "500ms", "1s"])
    chosen = [fault for fault, share in [("broker paused", 0.12), ("broker restarted", 0.06), ("offsets", 0.25)] if rng.random() < share]
    faults = [fault for fault in chosen if broker or not fault.startswith("broker")]
    # drawn apart, so that a seed of before does what it did
    connections = random.Random(f"connections-{seed}")
    faults += connections.sample(CONNECTIONS, 2) if connections.random() < CONNECTIONS_SHARE else []
    return Scenario(seed, GROUPS[seed % 6], workers or 1 + seed // 6 % 3, shape, compression, settle, faults)
