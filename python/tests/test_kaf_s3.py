"""KafS3Producer and KafS3Consumer as the README of kaf_s3 describes them."""

import json
import os

import pytest

import kas3
from kas3.kaf_s3 import KafS3Consumer, KafS3Producer, download_from_s3, upload_to_s3

CLOSED = "http://127.0.0.1:1"
ENDPOINT = os.environ.get("S3_ENDPOINT_URL")


def pair(world, **options):
    arguments = {"bootstrap_servers": world.kafka, "s3_bucket": world.bucket, "s3_prefix": "payloads/", "endpoint_url": ENDPOINT}
    return KafS3Producer(**arguments, **options), KafS3Consumer(**arguments)


def test_small_values_stay_in_kafka_large_payloads_go_through_s3_and_both_come_back(world):
    producer, consumer = pair(world)
    sent = [
        producer.send(world.topic, key=b"id-123", value=b"small payload", headers={"h": "v"}),
        producer.send(world.topic, "id-124", payload=bytearray(5 << 20)),
        producer.send(world.topic, key=b"id-125"),
    ]
    places = [future.get(timeout=30) for future in sent]
    assert producer.close() == 0
    assert [place.offset for place in places] == [0, 1, 2] and [place.reference is not None for place in places] == [False, True, False]
    assert world.keys() == [places[1].reference.key] and world.keys()[0].startswith("payloads/")
    with consumer:
        messages = list(consumer.consume(world.topic, timeout_ms=2000))
    assert [message.key for message in messages] == [b"id-123", b"id-124", b"id-125"]
    assert [message.value for message in messages] == [b"small payload", bytes(5 << 20), None]
    assert messages[0].headers == (("h", b"v"),) and messages[1].offset == 1 and messages[1].timestamp > 0
    # the mark of a reference is a header, so no payload can be mistaken for one
    assert [record.headers() and record.headers()[-1][0] for record in world.records(3)] == ["h", "kas3-claim-check", None]


def test_a_group_goes_on_with_the_record_whose_processing_was_not_finished(world):
    producer, consumer = pair(world)
    with producer, consumer:
        for value in (b"1", b"2", b"3"):
            producer.send(world.topic, value=value)
        producer.flush()
        with pytest.raises(RuntimeError, match="b'2'"):
            for message in consumer.consume(world.topic, group_id=world.name):
                if message.value == b"2":
                    raise RuntimeError(message.value)
        for again in ([b"2", b"3"], []):
            assert [message.value for message in consumer.consume(world.topic, group_id=world.name, timeout_ms=1000)] == again
        assert [message.value for message in consumer.consume(world.topic, timeout_ms=1000)] == [b"1", b"2", b"3"]


def test_a_payload_waits_while_s3_is_down_and_then_fails_with_the_way_out(world):
    producer = KafS3Producer(world.kafka, world.bucket, endpoint_url=CLOSED, buffer_bytes=2_500_000, buffer_timeout=0.5, order="key")
    lost = []
    first = producer.send(world.topic, key=b"1", payload=bytes(2_000_000)).add_errback(lost.append)
    # what needs no S3 goes on
    assert producer.send(world.topic, key=b"2", value=b"small").get(30).offset == 0
    with pytest.raises(kas3.TransientError):
        first.get(30)
    assert lost == [first.exception()] and first.failed() and not first.succeeded()
    with pytest.raises(kas3.TransientError):
        producer.flush()
    assert producer.close() == 0


def test_send_waits_for_room_while_the_buffer_is_full(world):
    producer = KafS3Producer(world.kafka, world.bucket, endpoint_url=CLOSED, buffer_bytes=2_500_000, buffer_timeout=30.0)
    producer.send(world.topic, payload=bytes(2_400_000))
    full = KafS3Producer(
        world.kafka, world.bucket, endpoint_url=CLOSED, buffer_bytes=2_500_000, buffer_timeout=0.2, storage={"retry_time_ms": 30_000}
    )
    full.send(world.topic, payload=bytes(2_400_000))
    with pytest.raises(kas3.QueueFull, match="memory_bytes"):
        full.send(world.topic, payload=bytes(2_400_000))
    for each in (producer, full):
        assert each.close(0.0) == 1


def test_configuration_comes_from_yaml_json_and_the_environment(world, tmp_path, monkeypatch):
    settings = {
        "bootstrap_servers": world.kafka,
        "s3_bucket": world.bucket,
        "s3_prefix": "payloads/",
        "offload_threshold": 10,
        "endpoint_url": ENDPOINT,
    }
    yaml = tmp_path / "settings.yaml"
    yaml.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()) + "region: us-east-1\n")
    as_json = tmp_path / "settings.json"
    as_json.write_text(json.dumps(settings))
    for name, value in (
        ("KAFKA_BOOTSTRAP_SERVERS", world.kafka),
        ("S3_BUCKET", world.bucket),
        ("S3_PREFIX", "payloads/"),
        ("OFFLOAD_THRESHOLD", "10"),
    ):
        monkeypatch.setenv(name, value)
    for make in (
        lambda of: of.from_config(yaml),
        lambda of: of.from_config(str(as_json)),
        lambda of: of.from_config(settings),
        lambda of: of.from_env(),
    ):
        with make(KafS3Producer) as producer:
            assert producer.send(world.topic, payload=b"more than ten").get(30).reference.key.startswith("payloads/")
    with KafS3Consumer.from_config(yaml) as consumer:
        assert [message.value for message in consumer.consume(world.topic, timeout_ms=1000)] == [b"more than ten"] * 4
    with KafS3Consumer.from_env() as consumer:
        assert len(list(consumer.consume(world.topic, timeout_ms=1000))) == 4


def test_configuration_that_cannot_be_is_refused_with_the_way_out(world, tmp_path, monkeypatch):
    broken = tmp_path / "broken.yaml"
    broken.write_text("s3_bucket: [")
    monkeypatch.setenv("OFFLOAD_THRESHOLD", "many")
    refused = {
        "s3_bucket": lambda: KafS3Producer(world.kafka),
        "bootstrap.servers": lambda: KafS3Producer(s3_bucket=world.bucket),
        "no.such.setting": lambda: KafS3Producer(world.kafka, world.bucket, no_such_setting=1),
        "broken.yaml": lambda: KafS3Producer.from_config(tmp_path / "not" / "broken.yaml"),
        "YAML": lambda: KafS3Producer.from_config(broken),
        "OFFLOAD_THRESHOLD": lambda: KafS3Producer.from_env(),
    }
    for named, make in refused.items():
        with pytest.raises(kas3.ConfigError, match=named):
            make()


def test_objects_go_up_and_come_down_by_name(world):
    uri = upload_to_s3(b"payload", world.bucket, "folder/object")
    assert uri == f"s3://{world.bucket}/folder/object" and world.keys() == ["folder/object"]
    assert download_from_s3(uri) == download_from_s3(bucket=world.bucket, key="folder/object") == b"payload"
    with pytest.raises(kas3.PayloadMissing):
        download_from_s3(bucket=world.bucket, key="folder/another")
    with pytest.raises(kas3.RecordError):
        download_from_s3("https://example.com/object")


def test_a_profile_of_the_aws_files_gives_the_credentials(world, tmp_path, monkeypatch):
    file = tmp_path / "credentials"
    file.write_text(f"[kas3]\naws_access_key_id = {os.environ['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {os.environ['AWS_SECRET_ACCESS_KEY']}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    upload_to_s3(b"payload", world.bucket, "object", aws_profile="kas3")
    with pytest.raises(kas3.DeniedError):
        upload_to_s3(b"payload", world.bucket, "object")
    with KafS3Producer(world.kafka, world.bucket, offload_threshold=0, aws_profile="kas3", endpoint_url=ENDPOINT) as producer:
        assert producer.send(world.topic, payload=b"payload").get(30).reference


def test_offline_producers_and_consumers_of_a_process_share_what_is_played_for_them(monkeypatch):
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with KafS3Producer(offline=True) as producer:
        sent = [producer.send("offline-events", str(number), payload=bytes(number * 1_000_000), partition=0) for number in range(4)]
        assert [future.get(30).offset for future in sent] == [0, 1, 2, 3]
        with pytest.raises(kas3.RecordError):
            producer.send("offline-events", value=b"1", payload=b"2")
    for group in (None, "offline-group"):
        with KafS3Consumer(offline=True) as consumer:
            messages = [message for _, message in zip(range(4), consumer.consume("offline-events", group, 10_000))]
        assert [(message.key, len(message.value)) for message in messages] == [(str(number).encode(), number * 1_000_000) for number in range(4)]
