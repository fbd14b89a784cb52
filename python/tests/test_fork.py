"""Processes that fork, as prefork servers and `multiprocessing` do. Each runs in a process of its own, with a deadline: what goes wrong
here hangs or dies."""

import os
import subprocess
import sys

SECONDS = 90


def run(world, program):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    prelude = f"""
import multiprocessing, os, signal, sys, time, traceback
import kas3
BUCKET, TOPIC, KAFKA = {world.bucket!r}, {world.topic!r}, {world.kafka!r}
PRODUCER, CONSUMER = {world.producer()!r}, {world.consumer()!r}

def in_child(work):
    # a child that ends as programs do: with everything that Python and C run at the end
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.exit(code)
    return child

def joined(*children):
    for child in children:
        deadline = time.monotonic() + 40
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert os.waitstatus_to_exitcode(status) == 0, os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                raise AssertionError("a child hangs")
            time.sleep(0.02)
"""
    done = subprocess.run([sys.executable, "-c", prelude + program], env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def test_a_pool_of_forks_uses_the_codec_that_its_parent_has_used(world):
    run(
        world,
        """
claims = kas3.ClaimCheck(f"s3://{BUCKET}/claims", max_inline_bytes=0, endpoint_url=os.environ["S3_ENDPOINT_URL"])
first = claims.offload(b"of the parent")

def work(number):
    # one of the parent's, and one of its own
    assert claims.resolve(first.value, first.headers) == b"of the parent"
    sent = claims.offload(str(number).encode() * 100_000)
    assert claims.resolve(sent.value, sent.headers) == str(number).encode() * 100_000
    return sent.reference.key

for round in range(3):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        keys = pool.map_async(work, range(40)).get(40)
        # the parent works beside its children, and after them
        own = [claims.offload(bytes(100_000)) for _ in range(10)]
    # children of one parent do not draw the same names
    assert len(set(keys) | {sent.reference.key for sent in own}) == 50
    assert all(claims.resolve(sent.value, sent.headers) == bytes(100_000) for sent in own)
""",
    )


def test_an_inherited_client_says_so_and_its_parent_stays_whole(world):
    run(
        world,
        """
producer, consumer = kas3.S3Producer(PRODUCER), kas3.S3Consumer(CONSUMER)
consumer.subscribe([TOPIC])
producer.produce(TOPIC, bytes(1_000_000))
assert producer.flush() == 0 and consumer.poll(30) == bytes(1_000_000)
producer.produce(TOPIC, b"on its way while it forks")

def work():
    for call in (
        lambda: producer.produce(TOPIC, b"of nobody"),
        lambda: producer.flush(1),
        lambda: producer.poll(0),
        lambda: len(producer),
        lambda: consumer.poll(1),
        lambda: consumer.commit(asynchronous=False),
        lambda: consumer.assignment(),
    ):
        try:
            call()
        except kas3.ForkedError as error:
            assert "fork" in str(error) and "post_fork" in error.hint and isinstance(error, kas3.FatalError), error
        else:
            raise AssertionError("an inherited client did as if")
    # what ends it is no error, and ends nothing
    producer.close()
    consumer.close()
    # the way out
    with kas3.S3Producer(PRODUCER) as own:
        own.produce(TOPIC, b"of the child")

joined(in_child(work), in_child(work))
assert producer.flush() == 0
producer.produce(TOPIC, bytes(2_000_000))
assert producer.flush() == 0
got = sorted(len(consumer.poll(30)) for _ in range(4))
assert got == sorted([25, 12, 12, 2_000_000]), got
consumer.close()
producer.close()
""",
    )


def test_a_server_that_forks_its_workers_gives_each_a_client_of_its_own(world):
    run(
        world,
        """
# as gunicorn with `preload_app`: the application is loaded, and used, before its workers are there
claims = kas3.ClaimCheck(f"s3://{BUCKET}/claims", max_inline_bytes=0, endpoint_url=os.environ["S3_ENDPOINT_URL"])
claims.offload(b"warm")
warm = kas3.S3Producer(PRODUCER)
warm.produce(TOPIC, b"warm")
assert warm.flush() == 0

def worker(number, told):
    # post_fork
    with kas3.S3Producer(PRODUCER) as producer:
        for each in range(20):
            producer.produce(TOPIC, f"{number}/{each}".encode().ljust(100 if each % 2 else 1_000_000))
    claims.offload(str(number).encode())
    os.write(told, b"x")

read, told = os.pipe()
workers = [in_child(lambda: worker(number, told)) for number in range(3)]
# one is killed and replaced, as servers do
victim = in_child(lambda: (kas3.S3Producer(PRODUCER).produce(TOPIC, b"nobody waits for it"), time.sleep(60)))
time.sleep(0.5)
os.kill(victim, signal.SIGKILL)
os.waitpid(victim, 0)
joined(*workers, in_child(lambda: worker(3, told)))
warm.produce(TOPIC, b"after all")
assert warm.flush() == 0
with kas3.S3Consumer(CONSUMER) as consumer:
    consumer.subscribe([TOPIC])
    got = set()
    while "after all" not in got:
        payload = consumer.poll(30)
        if payload is not None:
            got.add(payload.strip().decode())
assert {f"{number}/{each}" for number in range(4) for each in range(20)} <= got, got
""",
    )


def test_a_client_of_asyncio_that_was_inherited_does_not_wait_for_threads_that_are_not_there(world):
    run(
        world,
        """
import asyncio
from kas3 import aio

async def used():
    producer = aio.S3Producer(PRODUCER)
    await producer.produce(TOPIC, b"of the parent")
    return producer

producer = asyncio.run(used())

def work():
    async def call():
        try:
            await asyncio.wait_for(producer.produce(TOPIC, b"of nobody"), 10)
        except kas3.ForkedError:
            await producer.close()
            return
        raise AssertionError("an inherited client did as if")
    asyncio.run(call())

joined(in_child(work))
assert asyncio.run(producer.close()) == 0
""",
    )


def test_what_a_process_plays_offline_outlives_its_children(world):
    run(
        world,
        """
with kas3.KafS3Producer(offline=True) as producer:
    sent = producer.send("events", payload=bytes(2_000_000)).get(30)
    joined(in_child(lambda: None))
    with kas3.KafS3Consumer(offline=True) as consumer:
        assert next(consumer.consume("events", timeout_ms=10_000)).value == bytes(2_000_000)
""",
    )


def test_a_codec_is_pickled_with_its_settings_for_processes_that_do_not_fork(world):
    import copy
    import pickle

    import kas3

    claims = kas3.ClaimCheck(f"s3://{world.bucket}/claims", max_inline_bytes=0, endpoint_url=os.environ["S3_ENDPOINT_URL"])
    sent = claims.offload(b"payload")
    for again in (pickle.loads(pickle.dumps(claims)), copy.copy(claims)):
        assert again.resolve(sent.value, sent.headers) == b"payload" and again.url == claims.url
