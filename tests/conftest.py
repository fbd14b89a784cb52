"""What all Python tests share: the real services and fresh names on them."""

import os

import pytest
from confluent_kafka.admin import AdminClient

from oracle.files import LocalFiles, S3Files, s3_client
from services import create_topic, fresh_name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests that share a broker of their own stay together, and come first; all others go where there is room."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "broker" if "/test_broker.py::" in nodeid else nodeid

    return Together(config, log)


def _needed(name):
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set: run `make e2e`, or `dev/services run .venv/bin/pytest tests`", pytrace=False)
    return value


@pytest.fixture(scope="session")
def kafka():
    """Address of the broker."""
    return _needed("KAFKA_BOOTSTRAP_SERVERS")


@pytest.fixture(scope="session")
def admin(kafka):
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture(scope="session")
def s3():
    _needed("S3_ENDPOINT_URL")
    return s3_client()


@pytest.fixture
def topic(admin, request):
    """Makes topics: `topic(partitions=2, cleanup_policy="compact")` returns the name of a new one."""
    made = []

    def make(partitions=1, name=None, **config):
        made.append(create_topic(admin, name or fresh_name(request.node.name.removeprefix("test_")), partitions, **config))
        return made[-1]

    yield make
    if made:
        for future in admin.delete_topics(made).values():
            future.exception(30)


@pytest.fixture
def bucket(s3, request):
    """A new bucket, emptied and removed afterwards."""
    name = fresh_name(request.node.name.removeprefix("test_"))
    s3.create_bucket(Bucket=name)
    yield name
    files = S3Files(s3, name)
    for path in files.paths(everything=True):
        files.delete(path)
    for path, upload in files.uploads():
        s3.abort_multipart_upload(Bucket=name, Key=path, UploadId=upload)
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def local(tmp_path):
    """Files in a fresh folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    return LocalFiles(folder)


@pytest.fixture(params=["file", "s3"])
def store(request):
    """Files below a fresh URL, once on a local disk and once on S3."""
    if request.param == "file":
        return request.getfixturevalue("local")
    return S3Files(request.getfixturevalue("s3"), request.getfixturevalue("bucket"), "lake")
