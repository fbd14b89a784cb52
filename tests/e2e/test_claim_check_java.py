"""The claim check beside the real large-message serde of bakdata, in Java: each reads what the other wrote, or a setting is refused."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from e2e.claims import Claims
from oracle.files import lines
from services import fresh_name

PROGRAM = Path(__file__).parent / "peers" / "LargeMessages.java"
SERIALIZER, DESERIALIZER = "com.bakdata.kafka.LargeMessageSerializer", "com.bakdata.kafka.LargeMessageDeserializer"
BYTES = "org.apache.kafka.common.serialization.ByteArray"
FRAMED = b"\0\0\0\0\7framed as Confluent's serializers do"
LOOKS_LIKE_A_REFERENCE = b"\x01s3://elsewhere/secret"
LARGE = b"large " * 5000
#: Prefixes as the store has them, and as a base path of Java's client writes them: that is a URI.
PREFIXES = {"plain": "plain", "a b": "a%20b", "100%": "100%25", "a#b?c": "a%23b%3Fc", "ä": "ä"}


class Java:
    """A process with Kafka's Java client and the serde."""

    def __init__(self, jars, classes, kafka):
        command = ["java", "-Xmx192m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{classes}:{jars}/*"]
        self.process = subprocess.Popen([*command, "LargeMessages"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        self.kafka = kafka

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)

    def _settings(self, bucket, prefix, headers, more):
        named = {
            "bootstrap.servers": self.kafka,
            "large.message.base.path": f"s3://{bucket}/{prefix}/",
            "large.message.s3.endpoint": os.environ["S3_ENDPOINT_URL"],
            "large.message.s3.region": "us-east-1",
            "large.message.s3.access.key": os.environ["AWS_ACCESS_KEY_ID"],
            "large.message.s3.secret.key": os.environ["AWS_SECRET_ACCESS_KEY"],
            "large.message.s3.path.style.access": "true",
            "large.message.max.byte.size": "1000",
            "large.message.use.headers": str(headers).lower(),
            **more,
        }
        return [f"{name}={value}" for name, value in named.items()]

    def _say(self, *fields):
        self.process.stdin.write("\t".join(fields) + "\n")
        self.process.stdin.flush()

    def _heard(self):
        line = self.process.stdout.readline().rstrip("\n")
        assert line and not line.startswith("error"), line or "the process of Java's client ended"
        return line

    def produce(self, topic, bucket, records, prefix="plain", headers=True, keys=False, compression="none"):
        """Sends records, pairs of key and value, with values (and keys) by way of the store where they are large."""
        serializers = {"key.serializer": SERIALIZER if keys else f"{BYTES}Serializer", "value.serializer": SERIALIZER}
        settings = self._settings(bucket, prefix, headers, {**serializers, "large.message.compression.type": compression})
        for key, value in records:
            self._say("produce", topic, _text(key), _text(value), *settings)
            assert self._heard() == "ok"

    def consume(self, topic, bucket, count, keys=False):
        """Records of the topic's only partition: key, value, and names of headers."""
        settings = {"key.deserializer": DESERIALIZER if keys else f"{BYTES}Deserializer", "value.deserializer": DESERIALIZER}
        self._say("consume", topic, str(count), *self._settings(bucket, "plain", True, settings))
        records = [self._heard().split("\t") for _ in range(count)]
        return [(_bytes(key), _bytes(value), [name for name in headers.split(",") if name]) for key, value, headers in records]


def _text(data):
    return "-" if data is None else base64.b64encode(data).decode()


def _bytes(text):
    return None if text == "-" else base64.b64decode(text)


@pytest.fixture(scope="session")
def java(tmp_path_factory, kafka):
    jars = os.environ.get("KAS3_BAKDATA") or pytest.fail("KAS3_BAKDATA is not set: `dev/services up` sets it", pytrace=False)
    if not shutil.which("javac"):
        pytest.fail("`javac` is missing: `dev/setup` installs it (Debian package openjdk-17-jdk-headless)", pytrace=False)
    classes = tmp_path_factory.mktemp("java")
    subprocess.run(["javac", "-d", str(classes), "-cp", f"{jars}/*", str(PROGRAM)], check=True)
    client = Java(jars, classes, kafka)
    yield client
    client.close()


@pytest.fixture
def claims(tmp_path, kafka, s3, bucket, topic):
    made = Claims(tmp_path, kafka, s3, bucket, topic())
    # its references hold no checksum
    made.settings["claim_check"]["require_integrity"] = False
    return made


def at(claims, prefix, topic=None, **claim_check):
    """Sets where payloads lie and what is written and accepted; a topic of its own."""
    claims.settings["claim_check"] |= {"url": f"s3://{claims.bucket}/{prefix}", **claim_check}
    if topic:
        claims.settings |= {"topic": topic}
    claims.settings["kafka"]["group.id"] = fresh_name("group")


def consumed(claims):
    """Keys and values as `kas3 consume` gives them."""
    payload = lambda entry: entry["payload"].encode() if "payload" in entry else base64.b64decode(entry["payload_base64"])  # noqa: E731
    return [(entry["key"], None if entry.get("tombstone") else payload(entry), entry["headers"]) for entry in claims.consume()]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("headers", [True, False], ids=["headers", "first-byte"])
def test_what_java_writes_is_read(java, claims, prefix, headers):
    records = [(b"1", FRAMED), (b"2", LARGE), (b"3", LOOKS_LIKE_A_REFERENCE), (b"4", None), (b"5", b"")]
    java.produce(claims.topic, claims.bucket, records, prefix=PREFIXES[prefix], headers=headers)
    assert [key for key in claims.keys() if key.startswith(f"{prefix}/{claims.topic}/values/")], claims.keys()
    at(claims, prefix, accept=["bakdata" if headers else "bakdata-value"])
    assert consumed(claims) == [(key.decode(), value, []) for key, value in records]


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_what_java_compresses_is_read(java, claims, topic, compression):
    for headers, name in ((True, claims.topic), (False, topic())):
        java.produce(name, claims.bucket, [(b"1", b"small"), (b"2", LARGE)], headers=headers, compression=compression)
        at(claims, "plain", name, accept=["bakdata", "bakdata-value"])
        assert consumed(claims) == [("1", b"small", []), ("2", LARGE, [])], f"with headers: {headers}"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("format", ["bakdata", "bakdata-value"])
def test_java_reads_what_is_written(java, claims, topic, format, prefix):
    values = [b"small", LARGE, LOOKS_LIKE_A_REFERENCE, FRAMED]
    for compression in ("none", "gzip", "zstd"):
        name = topic()
        at(claims, prefix, name, format=format, compression=compression)
        claims.run("produce", "--key", "k", lines=values)
        found = java.consume(name, claims.bucket, len(values))
        assert [(key, value) for key, value, _ in found] == [(b"k", value) for value in values], compression
        assert all(names == (["__large.message.backed.key"] if format == "bakdata" else []) for _, _, names in found)


def test_keys_that_went_through_the_store_come_back_as_keys_everywhere(java, claims, pipeline):
    key = b"key " * 1000
    java.produce(claims.topic, claims.bucket, [(b"small", LARGE), (key, b"{}"), (key, None)], keys=True)
    at(claims, "plain")
    assert [entry[:2] for entry in consumed(claims)] == [("small", LARGE), (key.decode(), b"{}"), (key.decode(), None)]

    problems, counts = claims.verify()
    assert (problems, counts["references"], counts["inline"], counts["tombstones"]) == ([], 3, 1, 1)
    orphans, _ = claims.gc("--unmarked")
    assert not orphans, "the objects of keys are in use"
    claims.run("payloads show", "--offset", "1").says("key_payload", "/keys/")
    for name in (name for name in claims.keys() if "/keys/" in name):
        claims.s3.delete_object(Bucket=claims.bucket, Key=name)
    problems, _ = claims.verify(code=1)
    assert [(problem["offset"], problem["reason"]) for problem in problems] == [(1, "object_missing"), (2, "object_missing")]


def test_the_sink_writes_keys_that_went_through_the_store(java, claims, pipeline):
    key = b"key " * 1000
    java.produce(claims.topic, claims.bucket, [(b"small", b'{"large":"' + b"x" * 2000 + b'"}'), (key, b"{}"), (key, None)], keys=True)
    sink = pipeline(claims.topic)
    sink.settings["transforms"] = [{"type": "claim_check", "url": f"s3://{claims.bucket}/plain", "require_integrity": False}]
    sink.encode(envelope=True)
    sink.run_to_end()
    rows = [json.loads(line) for path in sorted(sink.files.paths()) for line in lines(path, sink.files.read(path))]
    assert [(row["key"], row["headers"]) for row in rows] == [("small", []), (key.decode(), []), (key.decode(), [])]
    assert "x" * 2000 in json.dumps(rows[0]["value"])
    sink.verify()


def test_java_reads_keys_of_records_that_are_written_with_headers(java, claims):
    at(claims, "plain", format="bakdata")
    claims.run("produce", "--key", "k", lines=[b"small", LARGE])
    # its key deserializer takes the header of the compression away before values are read, so without one here
    assert [entry[:2] for entry in java.consume(claims.topic, claims.bucket, 2, keys=True)] == [(b"k", b"small"), (b"k", LARGE)]


def test_a_topic_moves_from_java_to_kas3_without_a_pause(java, claims, pipeline):
    """The way that the manual describes: consumers first, then producers, each record read as what it is."""
    old = [(b"1", FRAMED), (b"2", LARGE), (b"3", LOOKS_LIKE_A_REFERENCE)]
    java.produce(claims.topic, claims.bucket, old, headers=False)
    both = ["kas3", "bakdata-value"]
    at(claims, "plain", accept=both)
    claims.run("consume", "--until-end", code=2).says("`bakdata-value` and `kas3`", "hint:", "inline_header: true")
    sink = pipeline(claims.topic)
    transform = {"type": "claim_check", "url": f"s3://{claims.bucket}/plain", "require_integrity": False, "accept": both}
    sink.settings["transforms"] = [transform]
    sink.encode(envelope=True)
    sink.command("check", sink.file, code=2).says("transforms[0]", "`bakdata-value` and `kas3`", "inline_header: true")

    at(claims, "plain", accept=both, inline_header=True)
    new = [FRAMED, LARGE, LOOKS_LIKE_A_REFERENCE, b"{}"]
    claims.run("produce", "--key", "k", lines=new)
    java.produce(claims.topic, claims.bucket, [(b"last", FRAMED)], headers=False)
    expected = [value for _, value in old] + new + [FRAMED]
    records = consumed(claims)
    assert [value for _, value, _ in records] == expected
    assert all(not headers for _, _, headers in records), "no header of ours reaches the application"
    sink.settings["transforms"] = [{**transform, "inline_header": True}]
    sink.run_to_end()
    rows = [json.loads(line) for path in sorted(sink.files.paths()) for line in lines(path, sink.files.read(path))]
    written = [row["value"] for row in rows]
    assert [value.encode() if isinstance(value, str) else json.dumps(value).encode() for value in written] == expected
