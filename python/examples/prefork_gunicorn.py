"""A server that forks its workers: each has a producer of its own, made after the fork.

    gunicorn --config python:prefork_gunicorn prefork_gunicorn:app
    curl --data-binary @large.bin http://127.0.0.1:8000/key

A producer's threads and connections do not go through a fork: one that was made before it raises `kas3.ForkedError` in the workers.
The codec (`ClaimCheck`) may be made before; each worker makes connections of its own. uWSGI has `@postfork` for the same, a pool of
`multiprocessing` has `initializer`.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from kas3 import Error, S3Producer

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = 2
preload_app = True

TOPIC = os.environ.get("TOPIC", "uploads")
CONFIG = {
    "kafka": {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")},
    "s3": {"bucket": os.environ.get("S3_BUCKET", "payloads"), "endpoint_url": os.environ.get("S3_ENDPOINT_URL")},
}

producer: S3Producer | None = None


def post_fork(_server: Any, _worker: Any) -> None:
    """In each worker, right after it was forked."""
    global producer
    producer = S3Producer(CONFIG)


def worker_exit(_server: Any, _worker: Any) -> None:
    """In each worker, before it ends: what it accepted is delivered."""
    if producer is not None:
        producer.close()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Sends the body of a POST; answers once Kafka has the record."""
    assert producer is not None
    payload = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answers: list[tuple[Error | None, int]] = []
    producer.produce(TOPIC, payload, environ["PATH_INFO"].strip("/"), on_delivery=lambda error, message: answers.append((error, message.offset())))
    producer.flush(30)
    error, offset = answers[0] if answers else (None, -1)
    if error is not None or not answers:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [f"{error or 'no answer yet'}\n".encode()]
    start_response("201 Created", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {offset}\n".encode()]
