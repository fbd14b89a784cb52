"""Against the real kaf-s3-connector from PyPI: what the one sends, the other reads."""

import hashlib
import json
import random

import pytest
import s3_connector
from conftest import poll_until

import kas3

SHAPES = {
    "inline": (1_000, {}),
    "empty": (0, {}),
    "at the threshold": (900_000, {}),
    "offloaded": (900_001, {}),
    "offloaded however small": (1, {"max_inline_bytes": 0}),
    "below a prefix": (1_000_000, {"prefix": "events/large/"}),
    "gzip": (1_000_000, {"compression": "gzip"}),
    "deterministic": (1_000_000, {"deterministic_keys": True}),
    "deterministic gzip": (1_000_002, {"deterministic_keys": True, "compression": "gzip"}),
    "multipart": (12_000_000, {"multipart_threshold": 5 << 20}),
    "expiring": (1_000_000, {"ttl_seconds": 3600}),
    "encrypted": (1_000_000, {"server_side_encryption": "AES256"}),
}
PACKAGES = {"kas3 to s3_connector": (kas3, s3_connector), "s3_connector to kas3": (s3_connector, kas3), "kas3 to kas3": (kas3, kas3)}


def payload_of(size):
    return random.Random(size).randbytes(size // 2) + bytes(size - size // 2)


@pytest.mark.parametrize("packages", PACKAGES)
def test_what_one_package_sends_the_other_reads(world, packages):
    writer, reader = PACKAGES[packages]
    for size, options in SHAPES.values():
        with writer.S3Producer(config=world.producer(**options)) as producer:
            producer.produce(topic=world.topic, payload=payload_of(size), key=b"key")
    with reader.S3Consumer(config=world.consumer()) as consumer:
        consumer.subscribe([world.topic])
        for name, (size, _) in SHAPES.items():
            assert poll_until(consumer) == payload_of(size), name


def test_references_of_both_packages_have_the_same_fields_in_the_same_order(world):
    for package in (kas3, s3_connector):
        for options in ({}, {"compression": "gzip"}, {"deterministic_keys": True, "prefix": "p"}, {"multipart_threshold": 1 << 20}):
            with package.S3Producer(world.producer(max_inline_bytes=0, **options)) as producer:
                producer.produce(world.topic, bytes(2 << 20))
    records = world.records(8)
    references = [json.loads(record.value()) for record in records]
    assert all(record.headers() is None for record in records)
    sha256 = hashlib.sha256(bytes(2 << 20)).hexdigest()
    for ours, theirs in zip(references[:4], references[4:]):
        assert list(ours) == list(theirs)
        assert (ours["sha256"], ours["compression"], ours.get("deterministic")) == (sha256, theirs["compression"], theirs.get("deterministic"))
        assert ours["s3_bucket"] == theirs["s3_bucket"] == world.bucket
    plain, _, deterministic, multipart = references[:4]
    assert plain["etag"] == references[4]["etag"] and multipart["etag"] is None is references[7]["etag"]
    assert deterministic["s3_key"] == references[6]["s3_key"] == f"p/{sha256}"
    # as text they differ only in what is random
    assert records[0].value().replace(plain["s3_key"].encode(), b"") == records[4].value().replace(references[4]["s3_key"].encode(), b"")


def test_an_expiring_payload_has_the_tag_that_lifecycle_rules_of_the_package_look_for(world):
    for package in (kas3, s3_connector):
        with package.S3Producer(world.producer(ttl_seconds=3600, max_inline_bytes=0)) as producer:
            producer.produce(world.topic, b"payload")
    tags = [world.s3.get_object_tagging(Bucket=world.bucket, Key=key)["TagSet"] for key in world.keys()]
    assert tags == [[{"Key": "kaf-s3-ttl-seconds", "Value": "3600"}]] * 2
    assert all("ttl_epoch" in world.s3.head_object(Bucket=world.bucket, Key=key)["Metadata"] for key in world.keys())


def test_producers_and_consumers_upgrade_in_either_order(world):
    """Old ones beside new ones on one topic, first each in their old format, then the new format once no old reader is left."""
    payload = payload_of(1_000_000)
    for package, options in ((s3_connector, {}), (kas3, {}), (kas3, {"format": "kas3"}), (kas3, {"format": "kas3", "compression": "zstd"})):
        with package.S3Producer(world.producer(**options)) as producer:
            producer.produce(world.topic, payload)
    with kas3.S3Consumer(world.consumer()) as consumer:
        consumer.subscribe([world.topic])
        assert [poll_until(consumer) == payload for _ in range(4)] == [True] * 4
    with s3_connector.S3Consumer(world.consumer()) as consumer:
        consumer.subscribe([world.topic])
        assert [poll_until(consumer) == payload for _ in range(2)] == [True] * 2


@pytest.mark.parametrize(
    "section, value",
    [
        ("s3", {"bucket": ""}),
        ("s3", {"bucket": None}),
        ("s3", {"bucket": " b"}),
        ("s3", {"prefix": "//"}),
        ("s3", {"max_inline_bytes": -1}),
        ("s3", {"max_payload_bytes": 0}),
        ("s3", {"max_inline_bytes": 11, "max_payload_bytes": 10}),
        ("s3", {"compression": "lzma"}),
        ("s3", {"server_side_encryption": "rot13"}),
        ("s3", {"sse_kms_key_id": "k"}),
        ("s3", {"multipart_threshold": 0}),
        ("s3", {"multipart_threshold": (5 << 30) + 1}),
        ("s3", {"produce_timeout": -1}),
        ("s3", {"ttl_seconds": 0}),
        ("consumer", {"kafka": {"group.id": None}}),
        ("consumer", {"bucket": ""}),
        ("consumer", {"prefix": "/"}),
        ("consumer", {"max_payload_bytes": 0}),
        ("consumer", {"delete_after_consume": True}),
    ],
)
def test_a_configuration_that_the_package_refuses_is_refused_as_a_value_error(world, section, value):
    for package in (s3_connector, kas3):
        with pytest.raises(ValueError):
            if section == "consumer":
                config = world.consumer(**value)
                config["kafka"] = {name: of for name, of in config["kafka"].items() if of is not None}
                package.S3Consumer(config)
            else:
                package.S3Producer(world.producer(**value))


def test_only_the_import_changes(world):
    import kas3.s3_connector as renamed
    from kas3.s3_connector.exceptions import DataIntegrityError
    from kas3.s3_connector.runtime import build_config_from_env

    assert set(s3_connector.__all__) <= set(renamed.__all__)
    assert DataIntegrityError is renamed.DataIntegrityError is kas3.DataIntegrityError and callable(build_config_from_env)
    for ours, theirs in ((renamed.S3Producer, s3_connector.S3Producer), (renamed.S3Consumer, s3_connector.S3Consumer)):
        methods = {name for name in vars(theirs) if not name.startswith("_")} | {"__enter__", "__exit__"}
        assert methods <= set(dir(ours))
