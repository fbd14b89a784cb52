"""The codec around clients of one's own."""

import pytest
from confluent_kafka import DeserializingConsumer, SerializingProducer
from confluent_kafka.serialization import StringDeserializer, StringSerializer

import kas3


def claims_of(world, **settings):
    return kas3.ClaimCheck(f"s3://{world.bucket}/claims", **settings)


@pytest.fixture(autouse=True)
def _endpoint(monkeypatch, s3):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.meta.endpoint_url)


def test_a_payload_becomes_value_and_headers_and_comes_back(world, tmp_path):
    claims = claims_of(world, keys="{topic}/{sha256}", compression="zstd")
    small = claims.offload(b"small")
    assert small == (b"small", [], None) and claims.resolve(b"small") == b"small" and claims.resolve(None) is None
    path = tmp_path / "payload"
    path.write_bytes(bytes(1_000_000))
    for sent in (
        claims.offload(memoryview(bytes(1_000_000)), "orders"),
        claims.offload_file(path, "orders"),
        claims.offload(b"always", "orders", always=True),
    ):
        value, headers, reference = sent
        assert [name for name, _ in headers] == ["kas3-claim-check"] and len(value) < 500
        assert reference.shared and reference.compression == "zstd" and reference.url.startswith(claims.url)
        assert len(claims.resolve(value, headers)) == reference.size
        assert claims.headers_of_user([("mine", b"1"), *headers]) == [("mine", b"1")]
    # both large ones are one object
    assert len(world.keys()) == 2
    # without its header the value is what it looks like: somebody's JSON
    assert claims.resolve(value) == value


def test_errors_have_a_class_for_each_thing_to_do(world):
    claims = claims_of(world, max_inline_bytes=0, max_payload_bytes=100)
    value, headers, reference = claims.offload(b"payload")
    world.s3.put_object(Bucket=world.bucket, Key=reference.key, Body=b"another")
    with pytest.raises(kas3.IntegrityError) as refused:
        claims.resolve(value, headers)
    assert refused.value.reason == "etag_mismatch" and refused.value.code() is None
    assert claims.delete(value, headers) is True
    with pytest.raises(kas3.PayloadMissing):
        claims.resolve(value, headers)
    with pytest.raises(kas3.RecordError, match="max_payload_bytes"):
        claims.offload(bytes(101))
    with pytest.raises(kas3.IntegrityError, match="unexpected_bucket"):
        kas3.ClaimCheck("s3://another").resolve(value, headers)
    with pytest.raises(kas3.MissingError):
        kas3.ClaimCheck(f"s3://{world.bucket}-not-there", max_inline_bytes=0).offload(b"payload")
    with pytest.raises(kas3.ConfigError, match="no_such_setting"):
        claims_of(world, no_such_setting=1)
    for kind in (
        kas3.ConfigError,
        kas3.RecordError,
        kas3.IntegrityError,
        kas3.PayloadMissing,
        kas3.PayloadDenied,
        kas3.TransientError,
        kas3.FatalError,
    ):
        assert issubclass(kind, kas3.Error)


@pytest.mark.parametrize("settings, headers", [({}, []), ({}, {}), ({"format": "kaf-s3-connector"}, None)])
def test_confluent_kafkas_serializers_send_and_read_what_is_too_large(world, settings, headers):
    claims = claims_of(world, **settings)
    producer = SerializingProducer({"bootstrap.servers": world.kafka, "value.serializer": kas3.ClaimCheckSerializer(claims, StringSerializer())})
    texts = ["small", "large" * 300_000]
    for text in texts:
        producer.produce(world.topic, value=text, headers=None if headers is None else type(headers)())
    producer.produce(world.topic, value=None)
    assert producer.flush(30) == 0
    settings = {"value.deserializer": kas3.ClaimCheckDeserializer(claims, StringDeserializer())}
    consumer = DeserializingConsumer({"bootstrap.servers": world.kafka, "group.id": world.name, "auto.offset.reset": "earliest", **settings})
    consumer.subscribe([world.topic])
    got = []
    while len(got) < 3:
        message = consumer.poll(1.0)
        if message is not None:
            got.append(message.value())
    consumer.close()
    assert got == [*texts, None] and len(world.keys()) == 1


def test_a_mark_without_headers_to_put_it_in_is_an_error_that_leaves_nothing_behind(world):
    serialize = kas3.ClaimCheckSerializer(claims_of(world))
    with pytest.raises(kas3.RecordError, match="headers") as refused:
        serialize(bytes(1_000_000))
    assert "headers=[]" in refused.value.hint and world.keys() == []
