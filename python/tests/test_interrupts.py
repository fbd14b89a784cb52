"""Ctrl-C ends whatever waits, at once: each call waits for somebody who never answers, in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

#: Seconds from the signal to `KeyboardInterrupt`, and to the end of the process; loaded machines included.
SOON, END = 0.5, 15.0

WAITING = {
    "offload": "kas3.ClaimCheck('s3://bucket', max_inline_bytes=0, endpoint_url=STORE).offload(b'payload')",
    "resolve": "claims = kas3.ClaimCheck('s3://bucket', max_inline_bytes=0, endpoint_url=STORE); "
    'claims.resolve(b\'{"bucket":"bucket","key":"k","size":7,"sha256":"\' + b\'0\' * 64 + b\'"}\', [("kas3-claim-check", b"1")])',
    "upload_to_s3": "kas3.upload_to_s3(b'payload', 'bucket', 'key', endpoint_url=STORE)",
    "first produce": "kas3.S3Producer({'kafka': {'bootstrap.servers': BROKER}, 's3': S3}).produce('topic', bytes(500_000))",
    "produce without room": "p = kas3.S3Producer({'kafka': {'bootstrap.servers': KAFKA}, 's3': {**S3, 'memory_bytes': 1_000_000}}); "
    "[p.produce(TOPIC, bytes(950_000)) for _ in range(3)]",
    "produce into a full queue": "p = kas3.S3Producer({'kafka': {'bootstrap.servers': BROKER, 'queue.buffering.max.messages': 1}, 's3': S3}); "
    "[p.produce('topic', b'1') for _ in range(3)]",
    "flush": "p = kas3.S3Producer({'kafka': {'bootstrap.servers': KAFKA}, 's3': S3}); p.produce(TOPIC, bytes(950_000)); p.flush(60)",
    "poll": "c = kas3.S3Consumer({'kafka': {'bootstrap.servers': BROKER, 'group.id': 'g'}, 's3': S3}); c.subscribe(['topic']); c.poll(60)",
    "consume": "c = kas3.S3Consumer({'kafka': {'bootstrap.servers': BROKER, 'group.id': 'g'}, 's3': S3}); c.subscribe(['topic']); c.consume(9)",
    "commit": "c = kas3.S3Consumer({'kafka': {'bootstrap.servers': BROKER, 'group.id': 'g'}, 's3': S3}); "
    "c.commit(offsets=[kas3.TopicPartition('topic', 0, 1)], asynchronous=False)",
    "list_topics": "kas3.S3Producer({'kafka': {'bootstrap.servers': BROKER}, 's3': S3}).list_topics(timeout=60)",
    "committed": "kas3.S3Consumer({'kafka': {'bootstrap.servers': BROKER, 'group.id': 'g'}, 's3': S3}).committed([kas3.TopicPartition('t', 0)], 60)",
    "init_transactions": "kas3.S3Producer({'kafka': {'bootstrap.servers': BROKER, 'transactional.id': 't'}, 's3': S3}).init_transactions(60)",
}


@pytest.fixture
def silence():
    """Somebody who accepts connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    yield server.getsockname()[1]
    server.close()


@pytest.mark.parametrize("call", WAITING)
def test_ctrl_c_ends_a_call_that_waits(world, silence, call):
    program = f"""
import os, sys, time, kas3
TOPIC, KAFKA, BROKER, STORE = {world.topic!r}, {world.kafka!r}, "127.0.0.1:{silence}", "http://127.0.0.1:{silence}"
S3 = {{"bucket": "bucket", "endpoint_url": STORE}}
print("begins", flush=True)
try:
    {WAITING[call]}
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
    os._exit(0)
print("came back", flush=True)
"""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout.readline() == "begins\n", process.stderr.read()
        time.sleep(1.5)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        told, errors = process.communicate(timeout=END)
    finally:
        process.kill()
    assert told.startswith("interrupted "), (told, errors)
    assert float(told.split()[1]) - sent < SOON
