"""Fixtures of the tests that drive the command."""

import os

import pytest
from services import create_topic, fresh_name
from e2e.driver import Pipeline, binary
from oracle import S3Files, produce, produce_transactions, read_committed

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")


@pytest.fixture(scope="session", autouse=True)
def command_is_built():
    if not binary().exists():
        pytest.fail(f"{binary()} is not there: run `make build`", pytrace=False)


@pytest.fixture
def pipeline(tmp_path, kafka, request):
    """Makes pipelines: `pipeline(topic)`. They write to S3, or to `store` in a test that runs on each, or to `files`."""

    def make(*topics, files=None, name=None):
        if files is None and "store" in request.fixturenames:
            files = request.getfixturevalue("store")
        if files is None:
            files = S3Files(request.getfixturevalue("s3"), request.getfixturevalue("bucket"), "lake")
        environment = {key: os.environ[key] for key in CREDENTIALS if key in os.environ}
        return Pipeline(tmp_path, name or fresh_name(request.node.name.removeprefix("test_")), kafka, files, topics, environment)

    return make


def shared_topic(admin, kafka, hint, partitions, **options):
    """A topic that many tests read and none writes, with its log."""
    name = create_topic(admin, fresh_name(hint), partitions)
    produce(kafka, name, partitions=partitions, **options)
    return name, read_committed(kafka, name)


@pytest.fixture(scope="session")
def small_log(admin, kafka):
    """1,600 small records in two partitions, of four days each: spans of several small files, which fit into a head."""
    return shared_topic(admin, kafka, "small", 2, count=1600, fields=lambda i: {"day": f"2026-01-0{1 + i % 4}"})


@pytest.fixture(scope="session")
def large_log(admin, kafka):
    """32 records of 700 KB in one partition: files that need uploads of several parts."""
    return shared_topic(admin, kafka, "large", 1, count=32, padding=700_000)


@pytest.fixture(scope="session")
def aborted_log(admin, kafka):
    """Nothing but the markers of aborted transactions: offsets that no committed reader sees."""
    name = create_topic(admin, fresh_name("aborted"), 1)
    produce_transactions(kafka, name, transactions=5, records_each=20, abort_every=1)
    return name, read_committed(kafka, name)
