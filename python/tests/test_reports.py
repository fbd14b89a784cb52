"""What became of records is told to the last one, whatever callbacks do."""

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import time
import warnings

import pytest

import kas3
from kas3 import aio

CLOSED = "http://127.0.0.1:1"


class Raising:
    """A callback that hears everything, and raises each time."""

    def __init__(self):
        self.heard = []

    def __call__(self, error, message):
        self.heard.append(error)
        raise RuntimeError(f"number {len(self.heard)}")


@contextlib.contextmanager
def untold(producer):
    """Nothing is told while records are sent, so that all of it comes later."""
    serve, producer._sender.serve = producer._sender.serve, lambda timeout=0.0: 0
    yield
    producer._sender.serve = serve


def failing(world):
    """A producer whose uploads fail."""
    return kas3.S3Producer(world.producer(endpoint_url=CLOSED, storage={"max_attempts": 1}))


@pytest.mark.parametrize("call", ["flush", "close", "poll", "produce"])
def test_callbacks_that_raise_cost_no_other_record_its_report(world, call):
    heard = Raising()
    producer = failing(world)
    with untold(producer):
        for _ in range(6):
            producer.produce(world.topic, bytes(1_000_000), on_delivery=heard)
    raised = []

    def wait():
        if call == "produce":
            producer.produce(world.topic, b"small", on_delivery=lambda error, message: None)
        elif call == "poll":
            producer.poll(1.0)
        else:
            getattr(producer, call)()

    deadline = time.monotonic() + 60
    while len(heard.heard) < 6 and time.monotonic() < deadline:
        try:
            wait()
        except RuntimeError as error:
            raised.append(error)
        time.sleep(0.02)
    assert len(heard.heard) == 6 and all(isinstance(error, kas3.TransientError) for error in heard.heard)
    assert str(raised[0]) == "number 1"
    if call in ("flush", "close"):
        # all of them in one call, which ends when everything was told
        assert len(raised) == 1 and len(producer) == 0
    producer.close()


def test_a_flush_whose_callback_raises_has_delivered_all_records(world):
    heard = Raising()
    with kas3.S3Producer(world.producer()) as producer:
        with untold(producer):
            for number in range(20):
                producer.produce(world.topic, bytes(1_000_000 if number % 2 else 10), on_delivery=heard)
        with pytest.raises(RuntimeError):
            producer.flush()
        assert heard.heard == [None] * 20 and len(producer) == 0
    assert len(world.records(20)) == 20


def test_futures_call_all_of_their_callbacks(world):
    heard = []

    def raises(_metadata):
        heard.append("first")
        raise RuntimeError("of the first")

    with kas3.KafS3Producer(world.kafka, world.bucket, endpoint_url=os.environ["S3_ENDPOINT_URL"]) as producer:
        future = producer.send(world.topic, value=b"payload").add_callback(raises).add_callback(lambda metadata: heard.append(metadata.offset))
        other = producer.send(world.topic, value=b"another")
        with pytest.raises(RuntimeError, match="of the first"):
            producer.flush()
        assert heard == ["first", 0] and future.succeeded() and other.get(30).offset == 1


def test_a_signal_that_ends_a_callback_leaves_the_other_reports_to_the_next_call(world):
    heard = []

    def interrupted(error, message):
        heard.append(message.offset())
        if len(heard) == 1:
            raise KeyboardInterrupt

    with kas3.S3Producer(world.producer()) as producer:
        with untold(producer):
            for _ in range(5):
                producer.produce(world.topic, b"payload", on_delivery=interrupted)
        with pytest.raises(KeyboardInterrupt):
            producer.flush()
        assert producer.flush() == 0
    assert heard == [0, 1, 2, 3, 4]


def test_callbacks_of_asyncio_do_not_stop_one_another(world):
    events = []

    def metrics(event, data):
        events.append(event)
        raise RuntimeError("of the hook")

    async def run():
        config = world.producer({"metrics": metrics}, endpoint_url=CLOSED, storage={"max_attempts": 1})
        async with aio.S3Producer(config) as producer:
            calls = [producer.produce(world.topic, bytes(1_000_000)) for _ in range(6)]
            return await asyncio.gather(*calls, return_exceptions=True)

    failures = asyncio.run(asyncio.wait_for(run(), 60))
    assert len(failures) == 6 and all(isinstance(failure, kas3.TransientError) for failure in failures)


def test_closing_a_client_of_asyncio_twice_is_fine_and_using_it_afterwards_says_so(world):
    async def run():
        producer, consumer = aio.S3Producer(world.producer()), aio.S3Consumer(world.consumer())
        consumer.subscribe([world.topic])
        await producer.produce(world.topic, b"payload")
        for _ in range(2):
            assert await producer.close() == 0
            assert await consumer.close() is None
        for call in (producer.produce(world.topic, b"late"), producer.flush(), consumer.poll_record(0.1), consumer.commit()):
            with pytest.raises(kas3.FatalError, match="closed"):
                await call

    asyncio.run(run())


def test_leaving_without_a_flush_is_told_with_the_number_of_records(world, caplog):
    kafka = {"bootstrap.servers": "127.0.0.1:1"}
    with caplog.at_level(logging.WARNING, logger="kas3"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        producer = kas3.S3Producer(world.producer(kafka=kafka))
        for _ in range(3):
            producer.produce(world.topic, b"of nobody")
        del producer
        gc.collect()
        told = [str(warning.message) for warning in warned if warning.category is ResourceWarning and "records" in str(warning.message)]
    assert len(told) == 1 and "3 records" in told[0] and "flush()" in told[0]
    assert any("3 records" in record.getMessage() for record in caplog.records)


def test_a_program_that_ends_without_a_flush_says_so(world):
    program = f"""
import kas3
producer = kas3.S3Producer({world.producer(kafka={"bootstrap.servers": "127.0.0.1:1"})!r})
producer.produce({world.topic!r}, b"of nobody")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "1 records that were not delivered" in done.stderr, done.stderr
    done = subprocess.run([sys.executable, "-c", program + "producer.close(0)"], capture_output=True, text=True, timeout=60)
    assert "1 records were not delivered before the producer was closed" in done.stderr
