"""``python -m kas3`` and the examples, as processes."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TUTORIAL = EXAMPLES.parent.parent / "docs" / "python.md"


def environment(world, **more):
    return {**os.environ, "S3_BUCKET": world.bucket, "TOPIC": world.topic, "PYTHONUNBUFFERED": "1", **more}


def metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def port_of(process):
    for line in process.stderr:
        if "metrics are on port" in line:
            return int(line.split()[-1])
    raise AssertionError("it ended without serving metrics")


def test_the_environment_of_the_container_runs_a_producer_and_a_consumer(world):
    options = {"METRICS_PORT": "0", "METRICS_ADDRESS": "127.0.0.1", "S3_MAX_INLINE_BYTES": "10", "S3_PREFIX": "lines", "S3_COMPRESSION": "gzip"}
    produced = subprocess.run(
        [sys.executable, "-m", "kas3"],
        input=b"short\n\nlonger than ten bytes\r\n",
        env=environment(world, MODE="producer", **options),
        timeout=60,
    )
    assert produced.returncode == 0
    assert [record.value()[:5] for record in world.records(2)] == [b"short", b'{"s3_'] and world.keys()[0].startswith("lines/")
    more = {"KAFKA_GROUP_ID": world.name, "KAFKA_ENABLE_AUTO_COMMIT": "false", "S3_DELETE_AFTER_CONSUME": "yes", "POLL_TIMEOUT": "0.2", **options}
    # like the container's, this consumer begins at the end unless its group has been here
    _commit_the_beginning(world)
    consumer = subprocess.Popen([sys.executable, "-m", "kas3"], env=environment(world, MODE="consumer", **more), stderr=subprocess.PIPE, text=True)
    try:
        port = port_of(consumer)
        deadline = time.monotonic() + 30
        while "consume_success{" not in metrics(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        shown = metrics(port)
        assert f'consume_inline{{topic="{world.topic}"}} 1' in shown and f'consume_success_bytes{{topic="{world.topic}"}} 21' in shown
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/another", timeout=5)
    finally:
        consumer.terminate()
        assert consumer.wait(30) == 0
    assert world.keys() == [] and world.committed(world.name) == 2


def _commit_the_beginning(world):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": world.kafka, "group.id": world.name})
    consumer.commit(offsets=[TopicPartition(world.topic, 0, 0)], asynchronous=False)
    consumer.close()


def test_a_line_in_the_environment_that_cannot_be_is_named(world):
    for variable, value in (("MODE", "neither"), ("TOPIC", ""), ("S3_MAX_INLINE_BYTES", "many"), ("S3_BUCKET", "")):
        done = subprocess.run(
            [sys.executable, "-m", "kas3"],
            stdin=subprocess.DEVNULL,
            env=environment(world, **{"MODE": "producer", "METRICS_PORT": "0", variable: value}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        named = "bucket" if variable == "S3_BUCKET" else variable
        assert done.returncode != 0 and named in done.stderr.splitlines()[-2] + done.stderr.splitlines()[-1]


def test_an_interrupt_ends_a_poll_that_waits(world):
    program = f"""
import kas3
with kas3.S3Consumer({world.consumer()!r}) as consumer:
    consumer.subscribe([{world.topic!r}], on_assign=lambda *_: print("assigned", flush=True))
    consumer.poll(600)
"""
    waiting = subprocess.Popen([sys.executable, "-c", program], env=environment(world), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert waiting.stdout.readline() == "assigned\n"
    # out of the callback, and into the poll
    time.sleep(1)
    waiting.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in waiting.communicate(timeout=30)[1]


def test_the_tutorial_runs_as_it_is_written(world):
    section = TUTORIAL.read_text().split("\n## ")[1]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    for block, says in zip(blocks, ("b'1' 3000000", "1 b'2' (('source', b'tutorial'),) 5000000"), strict=True):
        program = block.replace('"payloads"', repr(world.bucket)).replace('"events"', repr(world.topic)).replace('"readers"', repr(world.name))
        done = subprocess.run([sys.executable, "-c", program], env=environment(world), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and says in done.stdout, done.stderr


def example(world, name, *arguments):
    done = subprocess.run([sys.executable, EXAMPLES / name, *arguments], env=environment(world), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_s3_connector_run_with_only_the_import_changed(world, tmp_path):
    payload = os.urandom(2_000_000)
    (tmp_path / "sent").write_bytes(payload)
    example(world, "s3_connector_producer.py", world.topic, tmp_path / "sent")
    assert "received 2000000 bytes" in example(world, "s3_connector_consumer.py", world.topic, tmp_path / "received")
    assert (tmp_path / "received").read_bytes() == payload


@pytest.mark.parametrize(
    "name, says",
    [
        ("kaf_s3_quick_start.py", "id-124 5242880 from S3"),
        ("offline.py", "3000000 bytes there and back"),
        ("async_round_trip.py", "received 10"),
        ("own_client.py", "characters 3000000"),
    ],
)
def test_an_example_runs(world, name, says):
    assert says in example(world, name, *([] if name == "offline.py" else [world.topic]))
