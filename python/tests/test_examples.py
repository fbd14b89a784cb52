"""The examples of servers, as the servers run them; the others are in `test_runtime`."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def environment(world, **more):
    return {**os.environ, "S3_BUCKET": world.bucket, "TOPIC": world.topic, "PYTHONUNBUFFERED": "1", **more}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def request(url, body=None, method=None):
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), timeout=30) as answer:
        return answer.read()


class Server:
    """A process that serves; it is told to stop, and stops well."""

    def __init__(self, world, port, *command, **more):
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=EXAMPLES, env=environment(world, **more), stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 40
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    raise AssertionError(self.process.communicate()[1]) from None
                time.sleep(0.1)

    def stop(self):
        self.process.terminate()
        try:
            errors = self.process.communicate(timeout=40)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, errors


def test_each_worker_of_gunicorn_has_a_producer_of_its_own(world):
    pytest.importorskip("gunicorn")
    port = free_port()
    server = Server(world, port, "gunicorn", "--config", "python:prefork_gunicorn", "prefork_gunicorn:app", BIND=f"127.0.0.1:{port}")
    try:
        answers = []
        while len(answers) < 12 or (len({answer.split()[0] for answer in answers}) < 2 and len(answers) < 200):
            answers.append(request(f"{server.url}/key", bytes(1_000_000 if len(answers) < 4 else 10)))
    finally:
        code, errors = server.stop()
    assert code == 0, errors
    assert len({answer.split()[0] for answer in answers}) == 2, "both workers answered"
    assert sorted(int(answer.split()[1]) for answer in answers) == list(range(len(answers))) and len(world.keys()) == 4


def test_a_service_on_fastapi_takes_documents_and_gives_them_back(world):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    port = free_port()
    server = Server(world, port, "uvicorn", "fastapi_app:app", "--port", str(port), GROUP=world.name)
    try:
        for name, document in (("small", b"a few bytes"), ("large", os.urandom(3_000_000))):
            assert request(f"{server.url}/documents/{name}", document, "PUT").endswith(b"true}" if name == "large" else b"false}")
            deadline = time.monotonic() + 30
            got = None
            while got is None and time.monotonic() < deadline:
                try:
                    got = request(f"{server.url}/documents/{name}")
                except urllib.error.HTTPError as error:
                    assert error.code == 404
                    time.sleep(0.1)
            assert got == document
    finally:
        code, errors = server.stop()
    assert code in (0, -15), errors


def test_records_are_transformed_once(world):
    target = world.new_topic()
    for value in (b"one", b"two", b"x" * 950_000):
        world.put(value)
    arguments = [world.topic, target, "3"]
    done = subprocess.run([sys.executable, EXAMPLES / "exactly_once.py", *arguments], env=environment(world), capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and "done 3" in done.stdout, done.stderr
    assert [record.value()[:5] for record in world.records(3, target)] == [b"ONE", b"TWO", b'{"s3_']


def test_a_payload_is_copied_piece_by_piece(world, tmp_path):
    (tmp_path / "payload").write_bytes(os.urandom(20_000_000))
    arguments = [world.topic, tmp_path / "payload", tmp_path / "copy"]
    done = subprocess.run([sys.executable, EXAMPLES / "large_payloads.py", *arguments], env=environment(world), capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and "bytes 20000000" in done.stdout, done.stderr
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "payload").read_bytes()
