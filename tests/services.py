"""Fresh names and topics on the services that all tests share."""

import itertools
import os
import re
import threading
from contextlib import contextmanager
from http.server import HTTPServer

from confluent_kafka.admin import NewTopic

_names = itertools.count()


def fresh_name(hint):
    """A name that no other test, worker or run has, good for a topic, a bucket and a pipeline."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "w")
    hint = re.sub("[^a-z0-9]+", "-", hint.lower()).strip("-")[:36].strip("-")
    return f"{hint}-{worker}-{os.getpid()}-{next(_names)}"


def create_topic(admin, name, partitions=1, **config):
    """Creates a topic and waits until it is there. It keeps records however old the timestamps that a test gives them."""
    config = {"retention_ms": -1, **config}
    topic = NewTopic(name, partitions, 1, config={key.replace("_", "."): str(value) for key, value in config.items()})
    admin.create_topics([topic])[name].result(30)
    return name


@contextmanager
def serving(handler):
    """Runs an HTTP server on a free port for the time of the block; its address."""
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
