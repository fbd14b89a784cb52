"""`kas3 produce` and `kas3 consume` on real services: what was sent comes back, whatever its size, or an error says why not."""

import json
import os
import re
import socket
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler

import pytest

from e2e.claims import PREFIX, Claims, committed, digest, records, reference_of, transactional
from e2e.driver import ROOT, Worker, binary, wait_for
from services import create_topic, fresh_name, serving

MIB = 1 << 20


@pytest.fixture
def claims(tmp_path, kafka, s3, bucket, topic):
    return Claims(tmp_path, kafka, s3, bucket, topic())


def payloads(count, large_every=5):
    """Payloads that tell themselves apart, some too large for their records."""
    return [b"payload %d " % i + (b"x" * 5000 if i % large_every == 0 else b"") for i in range(count)]


def test_lines_come_back_in_order_whether_they_travelled_in_their_records_or_through_the_store(claims):
    sent = payloads(200)
    claims.run("produce", "--key", "k", lines=[*sent[:100], b"", b"   "[:0], *sent[100:]]).says("200 records delivered", "40 through the store")
    assert len(claims.keys()) == 40 and all(key.startswith(f"{PREFIX}/") for key in claims.keys())
    finished = claims.run("consume", "--until-end")
    assert finished.stdout.encode().splitlines() == sent
    assert committed(claims.kafka, claims.settings["kafka"]["group.id"], claims.topic) == 200
    assert claims.consume() == [], "the group has consumed them"


def test_a_large_file_goes_both_ways_without_lying_in_memory(claims, tmp_path):
    file = tmp_path / "large"
    block = os.urandom(MIB)
    with open(file, "wb") as out:
        for number in range(256):
            out.write(number.to_bytes(4, "big") + block[4:])
    produced = claims.run("produce", "--file", file, "--content-type", "video/mp4")
    [entry] = claims.consume("--output", tmp_path / "in")
    consumed = claims.logs
    assert entry["bytes"] == 256 * MIB and digest(entry["file"]) == digest(file)
    assert os.path.basename(entry["file"]) == f"{claims.topic}-0-0"
    assert claims.s3.head_object(Bucket=claims.bucket, Key=next(iter(claims.keys())))["ContentType"] == "video/mp4"
    assert produced.peak_bytes < 160 * MIB, f"{produced.peak_bytes / MIB:.0f} MiB, and the file has 256"
    again = claims.run("consume", "--until-end", "--group", fresh_name("again"), "--output", consumed)
    assert again.peak_bytes < 128 * MIB, f"{again.peak_bytes / MIB:.0f} MiB, and the file has 256"


def test_a_folder_becomes_records_with_its_names_as_keys_and_comes_back_as_files(claims, tmp_path):
    folder = tmp_path / "scans"
    (folder / "b").mkdir(parents=True)
    files = {"a.bin": os.urandom(300_000), "b/c.txt": b"two\nlines\n", "empty": b""}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    claims.run("produce", "--directory", folder, "--header", "source=scanner", "--partition", "0").says("3 records delivered")
    entries = claims.consume("--output", tmp_path / "in")
    assert {entry["key"] for entry in entries} == set(files)
    for entry in entries:
        assert open(entry["file"], "rb").read() == files[entry["key"]]
        assert entry["headers"] == [["source", "scanner"]]
    assert sorted(os.listdir(tmp_path / "in")) == sorted(os.path.basename(entry["file"]) for entry in entries)


def test_the_environment_of_kaf_s3_connector_sends_its_format_and_serves_its_counters(claims, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **claims.environment,
        "TOPIC": claims.topic,
        "KAFKA_BOOTSTRAP_SERVERS": claims.kafka,
        "KAFKA_GROUP_ID": fresh_name("group"),
        "S3_BUCKET": claims.bucket,
        "S3_PREFIX": "kaf",
        "S3_ENDPOINT_URL": os.environ["S3_ENDPOINT_URL"],
        "S3_MAX_INLINE_BYTES": "1000",
        "METRICS_PORT": str(port),
        "POLL_TIMEOUT": "0.5",
    }
    lines = tmp_path / "lines"
    lines.write_bytes(b"small\n\n" + b"y" * 5000 + b"\n")
    with open(lines, "rb") as stdin, Worker(["claim-check"], claims.logs, None, {**environment, "MODE": "producer"}, stdin) as producer:
        assert producer.wait().code == 0, producer.finished.stderr
    values = [message.value() for message in claims.records()]
    reference = json.loads(values[1])
    assert values[0] == b"small"
    assert list(reference) == ["s3_bucket", "s3_key", "etag", "sha256", "compression"] and reference["s3_key"].startswith("kaf/")
    with Worker(["claim-check"], claims.logs, None, {**environment, "MODE": "consumer"}) as consumer:
        metrics = lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()  # noqa: E731
        wait_for(lambda: consumer.output.read_bytes().count(b"\n") == 2, what="two payloads")
        text = metrics()
        assert f'consume_inline{{topic="{claims.topic}"}} 1\n' in text and f'consume_inline_bytes{{topic="{claims.topic}"}} 5\n' in text
        assert f'consume_success{{topic="{claims.topic}"}} 1\n' in text and f'consume_success_bytes{{topic="{claims.topic}"}} 5000\n' in text
        assert json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5))["status"] == "ok"
        assert consumer.terminate().code == 0
    assert consumer.output.read_bytes() == b"small\n" + b"y" * 5000 + b"\n"


@pytest.mark.parametrize(
    ("change", "command", "code", "words"),
    [
        (lambda s: s["claim_check"].update(max_inline_byte=5), "produce", 2, ["claim_check.max_inline_byte", "did you mean", "max_inline_bytes"]),
        (lambda s: s["claim_check"].pop("url"), "produce", 2, ["no place for payloads", "`url`"]),
        (lambda s: s["claim_check"].update(format="avro"), "produce", 2, ["unknown reference format `avro`", "`kafscale`"]),
        (lambda s: s.pop("topic"), "produce", 2, ["no topic", "`--topic`"]),
        (lambda s: s["kafka"].pop("group.id"), "consume", 2, ["no consumer group", "kafka.group.id"]),
        (lambda s: s.update(on_corrupt="dead_letter"), "consume", 2, ["dead_letter", "dead_letter_topic"]),
        (lambda s: s.update(topic="not-there"), "consume", 3, ["`not-there` does not exist"]),
        (lambda s: s["claim_check"].update(url="s3://not-there-at-all/x"), "payloads ls", 3, ["NoSuchBucket", "create bucket"]),
        (lambda s: s["kafka"].update({"bootstrap.server": "x:1"}), "consume", 2, ["bootstrap.server"]),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_out(claims, change, command, code, words):
    change(claims.settings)
    claims.run(command, code=code).says("error: ", "hint: ", *words)


def test_a_payload_that_was_tampered_with_stops_the_consumer_before_its_offset_and_names_the_record(claims):
    claims.produce(payloads(4, large_every=2))
    key = reference_of(claims.records()[2])["key"]
    claims.put(key, b"z" * len(claims.body(key)))
    finished = claims.run("consume", "--until-end", code=3)
    finished.says(f"record 2 of `{claims.topic}` [0]", "etag_mismatch", "hint:")
    assert finished.stdout.encode().splitlines() == payloads(4, large_every=2)[:2]
    assert committed(claims.kafka, claims.settings["kafka"]["group.id"], claims.topic) == 2
    claims.settings["on_corrupt"] = "skip"
    assert [entry["offset"] for entry in claims.consume()] == [3]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_records_whose_payloads_are_gone_or_damaged_go_to_the_dead_letters(claims, admin, streamed, tmp_path):
    if streamed:
        claims.settings["stream_above_bytes"] = 100
    claims.settings["claim_check"]["multipart_bytes"] = 1000
    claims.settings |= {"on_missing": "dead_letter", "on_corrupt": "dead_letter", "dead_letter_topic": f"{claims.topic}-dead"}
    create_topic(admin, claims.settings["dead_letter_topic"])
    claims.produce(payloads(5, large_every=1))
    keys = [reference_of(message)["key"] for message in claims.records()]
    claims.s3.delete_object(Bucket=claims.bucket, Key=keys[1])
    claims.put(keys[3], b"z" * len(claims.body(keys[3])))
    entries = claims.consume("--output", tmp_path / "in")
    assert [entry["offset"] for entry in entries] == [0, 2, 4]
    assert len(os.listdir(tmp_path / "in")) == 3
    letters = records(claims.kafka, claims.settings["dead_letter_topic"])
    assert [dict(letter.headers())["kas3-reason"] for letter in letters] == [b"object_missing", b"sha256_mismatch"]
    assert [dict(letter.headers())["kas3-offset"] for letter in letters] == [b"1", b"3"]
    assert [reference_of(letter)["key"] for letter in letters] == [keys[1], keys[3]]
    assert committed(claims.kafka, claims.settings["kafka"]["group.id"], claims.topic) == 5
    admin.delete_topics([claims.settings["dead_letter_topic"]])


def test_a_consumer_that_is_killed_loses_nothing(claims, tmp_path):
    sent = payloads(400, large_every=2)
    claims.produce(sent)
    folder = tmp_path / "in"
    for _ in range(2):
        with claims.start("consume", "--output", folder) as worker:
            before = len(list(folder.glob("[!.]*"))) if folder.exists() else 0
            wait_for(lambda: folder.exists() and len(list(folder.glob("[!.]*"))) > before + 20, what="files")  # noqa: B023
            worker.kill()
    claims.consume("--output", folder)
    files = {int(path.name.rsplit("-", 1)[1]): path.read_bytes() for path in folder.glob("[!.]*")}
    assert [files[offset] for offset in range(400)] == sent


def test_records_of_a_topic_that_ends_in_markers_and_aborted_records_end_too(claims):
    claims.produce(payloads(3))
    first = claims.records()
    transactional(claims.kafka, "aborts", claims.topic, first, "abort_transaction")
    assert [entry["offset"] for entry in claims.consume()] == [0, 1, 2]


def test_a_producer_that_is_asked_to_stop_delivers_what_it_has_read(claims):
    with claims.start("produce", stdin=subprocess.PIPE) as worker:
        worker.process.stdin.write(b"".join(payload + b"\n" for payload in payloads(50)))
        worker.process.stdin.flush()
        wait_for(lambda: len(claims.records()) == 50, what="the records")
        assert worker.terminate().code == 0
        worker.finished.says("stopped as asked: 50 records delivered")


class Collector(BaseHTTPRequestHandler):
    """Keeps the spans that it is sent."""

    spans = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for resource in body["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                self.spans.extend(scope["spans"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def test_a_trace_goes_on_from_the_producer_to_the_consumer(claims):
    class Handler(Collector):
        spans, lock = [], threading.Lock()

    with serving(Handler) as address:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}"}
        claims.run("produce", lines=payloads(2), **environment)
        claims.consume(**environment)
    by_name = {name: [span for span in Handler.spans if span["name"] == name] for name in ("kas3.send", "kas3.receive")}
    assert len(by_name["kas3.send"]) == len(by_name["kas3.receive"]) == 2
    sent = {(span["traceId"], span["spanId"]) for span in by_name["kas3.send"]}
    assert {(span["traceId"], span["parentSpanId"]) for span in by_name["kas3.receive"]} == sent
    assert all(dict(message.headers())["traceparent"] for message in claims.records())


def test_the_tutorial_of_the_manual_does_what_it_says(claims, tmp_path, topic):
    """Runs the blocks that the manual marks as tested, with this place's addresses."""
    manual = (ROOT / "docs/claim-check.md").read_text()
    blocks = re.findall(r"<!-- tested(?:: (\S+))? -->\n```\w+\n(.*?)```", manual, re.DOTALL)
    [(name, settings)], scripts = [block for block in blocks if block[0]], [script for name, script in blocks if not name]
    assert len(scripts) == 3
    names = {"topic: scans": f"topic: {claims.topic}", "s3://payloads/": f"s3://{claims.bucket}/", "readers": fresh_name("readers")}
    names |= {"http://localhost:9000": os.environ["S3_ENDPOINT_URL"], "localhost:9092": claims.kafka}
    for written, here in names.items():
        assert written in settings
        settings = settings.replace(written, here)
    (tmp_path / name).write_text(settings)
    environment = {**os.environ, "PATH": f"{binary().parent}:{os.environ['PATH']}"}
    script = "set -eux\n" + "".join(scripts).replace("in/scans-", f"in/{claims.topic}-")
    finished = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert "5 records read, 1 reference: 1 payload found as it was sent (66.8 MiB), 0 problems" in finished.stderr
    assert "0 orphans" in finished.stderr
