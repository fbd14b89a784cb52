"""Scenario 6, connections: slow, thin, sliced, cut and swallowed ones, by toxiproxy."""

import os
import threading

import pytest

from faults.conftest import patience
from faults.test_requests import large, small
from faults.toxiproxy import Toxiproxy
from oracle import S3Files, Watcher, compare

SLOW = [("latency", {"latency": 60, "jitter": 50}), ("slicer", {"average_size": 2000, "size_variation": 1000, "delay": 10}), ("bandwidth", {"rate": 20_000})]
CUT = [("reset_peer", {"timeout": 30})]
SWALLOWED = [("timeout", {"timeout": 1500})]


@pytest.fixture
def toxiproxy(s3, tmp_path):
    with Toxiproxy(os.environ["S3_ENDPOINT_URL"], tmp_path) as toxiproxy:
        yield toxiproxy


class Flapping(threading.Thread):
    """Toxics come and go, a second each, until the end of the `with`."""

    def __init__(self, toxiproxy, toxics, toxicity):
        super().__init__(daemon=True)
        self.toxiproxy, self.toxics, self.toxicity, self.halt, self.turns = toxiproxy, toxics, toxicity, threading.Event(), 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.join(30)

    def run(self):
        while not self.halt.wait(0.3):
            names = [self.toxiproxy.toxic(kind, self.toxicity, "upstream" if self.turns % 2 else "downstream", **how) for kind, how in self.toxics]
            self.turns += 1
            self.halt.wait(1)
            for name in names:
                self.toxiproxy.remove(name)


@pytest.mark.parametrize(("toxics", "toxicity"), [(SLOW, 1.0), (CUT, 0.7), (SWALLOWED, 0.5)], ids=["slow", "cut", "swallowed"])
def test_connections_that_are_slow_cut_or_swallowed_cost_no_record(toxics, toxicity, toxiproxy, pipeline, s3, bucket, small_log, large_log):
    with Flapping(toxiproxy, toxics, toxicity) as flapping:
        for shape, (topic, log) in ((small, small_log), (large, large_log)):
            sink = patience(pipeline(topic, files=S3Files(s3, bucket, shape.__name__)), toxiproxy.url)
            shape(sink)
            with Watcher(sink.files):
                starts = 0
                # a start may find the store not to be reached, and says so
                while sink.run_to_end(code=(0, 3)).code != 0:
                    starts += 1
                    assert starts < 5, "five starts did not suffice"
            compare(log, sink.files).check()
    assert flapping.turns >= 2
