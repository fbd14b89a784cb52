"""Scenario 7: the store is down for longer than Kafka lets a member be silent. Nobody is evicted, and it goes on by itself."""

import time

import pytest

from e2e.driver import wait_for
from faults import faults
from faults.looks import Port, logged, members, resident
from oracle import Stream, Watcher, compare, read_committed

MAX_POLL_SECONDS = 6
# Memory may wander by this while nothing moves: what the allocator keeps, and the HTTP port that is asked.
FLAT_BYTES = 24 << 20


def refused(proxy):
    proxy.down()
    return proxy.up


def silent(proxy):
    return proxy.rule(faults.silent).off


@pytest.mark.parametrize("outage", [refused, silent], ids=lambda outage: outage.__name__)
def test_an_outage_longer_than_the_poll_interval_evicts_nobody_and_heals_by_itself(outage, kafka, admin, topic, proxy, through):
    name = topic(partitions=3)
    sink = through(name)
    sink.kafka.update({"session.timeout.ms": 6000, "max.poll.interval.ms": MAX_POLL_SECONDS * 1000})
    sink.configure(roll={"records": 1000, "age": "500ms"})
    sink.settings["http"] = "127.0.0.1:0"
    with Watcher(sink.files), Stream(kafka, name, 3, records_per_second=1500, padding=500), sink.start() as worker:
        port = Port(worker)
        wait_for(lambda: port.metric("kas3_files_published_total") >= 6, what="files before the outage")
        assert port.reasons() == (200, [])
        before = members(admin, sink.name)
        heal, began = outage(proxy), time.monotonic()
        wait_for(lambda: port.code("/health") == 503, 30, "/health to tell")
        code, reasons = port.reasons()
        assert code == 503 and len(reasons) == 1 and reasons[0].startswith(f"store `{proxy.url}/{sink.files.bucket}` has been down for"), reasons
        assert port.metric("kas3_store_breaker_open") == 1
        # the lanes are full by now: from here on nothing may grow
        wait_for(lambda: time.monotonic() - began > MAX_POLL_SECONDS, what="the poll interval")
        held, asked = resident(worker), proxy.asked_all()
        wait_for(lambda: time.monotonic() - began > 2.2 * MAX_POLL_SECONDS, 60, "twice the poll interval")
        assert resident(worker) - held < FLAT_BYTES, f"{held >> 20} MiB became {resident(worker) >> 20} MiB"
        assert proxy.asked_all() - asked <= 12, "one at a time asks whether it is back"
        assert port.metric("kas3_poll_age_seconds") < 2 and (port.code("/health/live"), port.code("/health/ready")) == (200, 200)
        heal()
        wait_for(lambda: port.code("/health") == 200, 40, "/health to be well again")
        published = port.metric("kas3_records_written_total")
        wait_for(lambda: port.metric("kas3_records_written_total") > published + 2000, what="records after the outage")
        assert members(admin, sink.name) == before, "nobody was evicted"
        assert [port.metric("kas3_rebalances_total", kind=kind) for kind in ("assigned", "revoked", "lost")] == [1, 0, 0]
        assert port.metric("kas3_store_breaker_open") == 0 and port.metric("kas3_store_breaker_opened_total") == 1
        warnings = [entry["message"] for entry in logged(worker)]
        assert sum("the store fails" in text for text in warnings) == 1 and len(warnings) < 8, warnings
        assert worker.terminate().code == 0
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()
