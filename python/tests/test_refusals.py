"""Records that cannot be trusted, and records that are of no use: the same codes as the real package has."""

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import s3_connector

import kas3

PAYLOAD = b"payload" * 100


def reference(world, body=PAYLOAD, stored=None, **changed):
    """An object and its reference, but for what is changed."""
    key = changed.pop("key", "object")
    etag = world.s3.put_object(Bucket=world.bucket, Key=key, Body=body if stored is None else stored)["ETag"].strip('"')
    fields = {"s3_bucket": world.bucket, "s3_key": key, "etag": etag, "sha256": hashlib.sha256(body).hexdigest(), "compression": None}
    return {**fields, **changed}


REFUSED = {
    "unexpected_bucket": (lambda world: reference(world, s3_bucket="elsewhere"), {}),
    "prefix_violation": (lambda world: reference(world), {"prefix": "inside"}),
    "missing_checksum": (lambda world: reference(world, etag=None, sha256=None), {}),
    "unsupported_compression": (lambda world: reference(world, compression="lzma"), {}),
    "object_too_large": (lambda world: reference(world), {"max_payload_bytes": 100}),
    "etag_mismatch": (lambda world: reference(world, etag="0" * 32), {}),
    "decompression_failed": (lambda world: reference(world, compression="gzip"), {}),
    "decompressed_too_large": (
        lambda world: reference(world, bytes(100_000), gzip.compress(bytes(100_000)), compression="gzip"),
        {"max_payload_bytes": 10_000},
    ),
    "sha256_mismatch": (lambda world: reference(world, sha256="0" * 64), {}),
}


def events_of(package, world, options, polls=1):
    events, letters = [], world.new_topic()
    config = world.consumer({"metrics": lambda event, data: events.append((event, data.get("reason")))}, {"dlq_topic": letters}, **options)
    raised = None
    with package.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic])
        while len(events) < polls:
            try:
                consumer.poll(1.0)
            except package.DataIntegrityError as error:
                raised = error
    return events, raised, letters


@pytest.mark.parametrize("code", REFUSED)
def test_a_payload_that_cannot_be_trusted_is_raised_told_and_passed_over(world, code):
    make, options = REFUSED[code]
    made = make(world)
    world.put(json.dumps(made))
    world.put("after")
    theirs, _, _ = events_of(s3_connector, world, options, 2)
    ours, raised, letters = events_of(kas3, world, options, 2)
    assert ours == theirs == [("consume_integrity_error", code), ("consume_inline", None)]
    assert raised.reason == code and str(raised).startswith(f"{code}: ") and isinstance(raised, kas3.IntegrityError)
    assert (raised.topic, raised.partition, raised.offset, json.loads(raised.value)) == (world.topic, 0, 0, made)
    letter = world.letters(1, letters)[0]
    assert letter["reference"] == made and letter["error"] == str(raised)


class NoETags(BaseHTTPRequestHandler):
    """A store that gives every object, and no ETag."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAYLOAD)))
        self.end_headers()
        self.wfile.write(PAYLOAD)

    def log_message(self, format, *arguments):
        pass


def test_a_store_without_etags_fails_a_reference_that_has_one(world):
    world.put(json.dumps(reference(world)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), NoETags)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        options = {"endpoint_url": f"http://127.0.0.1:{server.server_port}"}
        theirs, _, _ = events_of(s3_connector, world, options)
        ours, raised, _ = events_of(kas3, world, options)
    finally:
        server.shutdown()
        server.server_close()
    assert ours == theirs == [("consume_integrity_error", "missing_etag")] and raised.reason == "missing_etag"


SKIPPED = {
    "tombstone": (lambda world: None, {}),
    "object_missing": (lambda world: json.dumps(reference(world, s3_key="gone")), {}),
    "malformed_message": (lambda world: b"no \xff json", {"allow_inline_payloads": False, "dlq_max_raw_bytes": 4}),
    "missing_key": (lambda world: json.dumps({"s3_bucket": world.bucket}), {"allow_inline_payloads": False}),
}


@pytest.mark.parametrize("code", SKIPPED)
def test_a_record_of_no_use_is_skipped_with_its_reason(world, code):
    make, options = SKIPPED[code]
    world.put(make(world), key="key")
    theirs, _, their_letters = events_of(s3_connector, world, options)
    told = []
    letters = world.new_topic()
    config = world.consumer({"skipped": lambda reason, data: told.append((reason, data))}, {"dlq_topic": letters}, **options)
    with kas3.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic])
        while not told:
            assert consumer.poll(1.0) is None
    assert theirs == [("consume_skipped", code)]
    assert told[0][0] == code and told[0][1]["topic"] == world.topic
    assert world.letters(1, letters) == world.letters(1, their_letters)


def test_a_payload_that_may_not_be_had_is_raised_until_it_is_skipped(world):
    world.put(json.dumps(reference(world)))
    world.put("after")
    config = world.consumer(storage={"access_key_id": "nobody", "secret_access_key": "nothing-at-all", "max_attempts": 1})
    with kas3.S3Consumer(config) as consumer:
        consumer.subscribe([world.topic])
        for _ in range(2):
            with pytest.raises(kas3.PayloadDenied) as raised:
                while True:
                    consumer.poll(1.0)
            assert (raised.value.offset, raised.value.reason) == (0, "object_forbidden") and raised.value.hint
        assert consumer.skip().offset == 0
        payload = None
        while payload is None:
            payload = consumer.poll(1.0)
        assert payload == b"after"


def test_a_topic_that_is_not_there_raises_the_exception_of_confluent_kafka_with_its_code(world):
    import confluent_kafka

    for package in (s3_connector, kas3):
        with package.S3Consumer(world.consumer()) as consumer:
            consumer.subscribe(["nowhere-to-be-found"])
            with pytest.raises(confluent_kafka.KafkaException) as raised:
                for _ in range(30):
                    consumer.poll(1.0)
            assert raised.value.args[0].code() == confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART
    assert isinstance(raised.value, kas3.KafkaException) and isinstance(raised.value, kas3.MissingError)
