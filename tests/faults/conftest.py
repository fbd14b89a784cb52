"""Fixtures of the tests that put something between kas3 and its store."""

import os

import pytest

from e2e.conftest import command_is_built, pipeline, shared_topic  # noqa: F401: fixtures
from faults.proxy import Proxy


@pytest.fixture
def proxy(s3):
    with Proxy(os.environ["S3_ENDPOINT_URL"]) as proxy:
        yield proxy


def patience(sink, endpoint):
    """Reaches the store at `endpoint`, and waits for it as tests wait, not as operations do."""
    sink.settings["sink"]["storage"].update(endpoint=endpoint, connect_timeout_ms=1000, read_timeout_ms=3000, attempt_timeout_ms=6000)
    return sink


@pytest.fixture
def through(proxy, pipeline):  # noqa: F811
    """Makes pipelines whose store is reached through the proxy; the oracle reads past it."""
    return lambda *topics, **options: patience(pipeline(*topics, **options), proxy.url)


@pytest.fixture(scope="session")
def small_log(admin, kafka):
    """800 small records in two partitions, of four days each: spans of several small files, which fit into a head."""
    return shared_topic(admin, kafka, "small-f", 2, count=800, fields=lambda i: {"day": f"2026-01-0{1 + i % 4}"})


@pytest.fixture(scope="session")
def large_log(admin, kafka):
    """28 records of 700 KB in one partition: files that need uploads of two parts."""
    return shared_topic(admin, kafka, "large-f", 1, count=28, padding=700_000)
