"""Secrets of the configuration appear nowhere: every secret setting holds a value of its own, and everything that kas3 says,
serves, writes or shows of itself is searched for all of them. And the port, which has no authentication, holds its limits."""

import base64
import json
import os
import socket
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler

import pytest

from e2e.driver import wait_for
from e2e.test_permissions import RUN, filled, keys
from e2e.test_sign_in import openssl
from oracle import S3Files, compare, produce, read_committed
from services import serving

PASSWORD = "canary:broker/pass word#1"


class Canaries(dict):
    """Secrets by name."""

    def found(self, text):
        """Which of them are in a text, as they are or in a form that they take on a wire."""
        forms = lambda secret: {  # noqa: E731
            secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode(),
        }
        return sorted(name for name, secret in self.items() for form in forms(secret) if form in text)

    def check(self, *texts):
        for text in texts:
            assert not self.found(text), f"{self.found(text)} can be read in:\n{text[:2000]}"


@pytest.fixture
def proxy():
    """A proxy, and a token endpoint, that refuse everything and keep what they were asked."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(401 if self.path.endswith("/token") else 503)

        do_PUT = do_POST = do_HEAD = do_DELETE = do_CONNECT = do_GET

        def log_message(self, *_):
            pass

    with serving(Proxy) as address:
        yield address, asked


def ask(port, request):
    """What the port answers to these bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer.decode(errors="replace")


def get(port, path, host="127.0.0.1"):
    return ask(port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def canaries_in_use(sink, bucket, tmp_path):
    """Every secret setting that a pipeline can really run with: from the settings, from `${…}` and from a program."""
    secrets = Canaries({f"store {name}": value for name, value in keys(filled(RUN, sink.name, bucket)).items()})
    openssl(tmp_path, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "plain.key")
    openssl(tmp_path, "ec", "-aes256", "-passout", "pass:canary-key-pass", "-in", "plain.key", "-out", "locked.key")
    secrets |= {"password": PASSWORD, "key password": "canary-key-pass", "client secret": "canary-client-secret"}
    secrets["user info"] = "canary-user-info"
    sink.kafka.update({
        "sasl.password": "${TEST_PASSWORD}", "ssl.key.password": secrets["key password"],
        "sasl.oauthbearer.client.secret": secrets["client secret"], "debug": "all",
        "sasl.oauthbearer.token.endpoint.url": f"https://kas3:{secrets['user info']}@127.0.0.1:1/token",
    })
    sink.environment["TEST_PASSWORD"] = PASSWORD
    return secrets


def served(port):
    return [get(port, path) for path in ("/", "/page.js", "/health", "/health/ready", "/metrics", "/api/status", "/api/nothing", "/%2e%2e/etc/passwd")]


@pytest.mark.parametrize("source", ["settings", "environment", "process"])
def test_no_secret_is_logged_served_or_written(source, kafka, topic, bucket, s3, pipeline, tmp_path):
    name, port = topic(), free_port()
    produce(kafka, name, 300)
    sink = pipeline(name, files=S3Files(s3, bucket, "lake"))
    secrets = canaries_in_use(sink, bucket, tmp_path)
    for each in [name for name in sink.environment if name.startswith("AWS_")]:
        del sink.environment[each]
    given = {name.removeprefix("store "): secret for name, secret in secrets.items() if name.startswith("store ")}
    if source == "settings":
        sink.settings["sink"]["storage"].update(given)
    elif source == "environment":
        sink.environment.update({f"AWS_{name.upper()}": secret for name, secret in given.items()})
        sink.settings["sink"]["storage"]["session_token"] = None
    else:
        said = {"Version": 1, "AccessKeyId": given["access_key_id"], "SecretAccessKey": given["secret_access_key"], "SessionToken": given["session_token"]}
        (tmp_path / "said.json").write_text(json.dumps(said))
        (tmp_path / "aws").write_text(f"[profile canary]\ncredential_process = cat {tmp_path}/said.json\n")
        sink.environment["AWS_CONFIG_FILE"] = str(tmp_path / "aws")
        sink.settings["sink"]["storage"]["profile"] = "canary"
    if source != "settings":
        # The name of a key, which stands in every signed request; the SDK logs it. What signs is its secret.
        del secrets["store access_key_id"]
    sink.settings["http"] = f"127.0.0.1:{port}"
    with sink.start("--log-level", "trace") as worker:
        wait_for(lambda: compare(read_committed(kafka, name), sink.files).exact(), 60, "the files")
        secrets.check(*served(port))
        process = f"/proc/{worker.process.pid}"
        secrets.check(*(open(f"{process}/{file}").read() for file in ("cmdline", "comm", "status")))
        finished = worker.terminate()
    assert len(finished.stderr) > 100_000 and "DEBUG" in finished.stderr and "TRACE" in finished.stderr
    secrets.check(finished.stderr, finished.stdout)
    for path in sink.files.paths(everything=True):
        head = s3.head_object(Bucket=bucket, Key=f"lake/{path}")
        content = b"" if path.endswith(".gz") else sink.files.read(path)
        secrets.check(path, json.dumps(head["Metadata"]), content.decode(errors="replace"))
    for command in (("check", sink.file), ("verify", sink.file, "--json"), ("ledger", "show", sink.file, "--json")):
        finished = sink.command("--log-level", "trace", *command)
        secrets.check(finished.stdout, finished.stderr)


# What is wrong with a configuration that holds a secret; the values are `secret`, in places where messages repeat values.
WRONG = {
    "a size": {"sink": {"roll": {"bytes": "${TEST_SECRET}"}}},
    "a key": {"sink": {"${TEST_SECRET}": 1}},
    "a format": {"sink": {"format": {"type": "${TEST_SECRET}"}}},
    "an endpoint": {"sink": {"storage": {"endpoint": "http://kas3:${TEST_SECRET}@127.0.0.1:1"}}},
    "a sink with a user": {"sink": {"url": "s3://kas3:${TEST_SECRET}@bucket/lake"}},
    "a proxy": {"sink": {"storage": {"proxy": "://${TEST_SECRET}"}}},
    "a list": {"sink": {"storage": {"secret_access_key": ["${TEST_SECRET}"]}}},
    "half a pair": {"sink": {"storage": {"secret_access_key": "${TEST_SECRET}"}}},
    "a misspelt property": {"source": {"kafka": {"sasl.pasword": "${TEST_SECRET}"}}},
    "a property's value": {"source": {"kafka": {"ssl.endpoint.identification.algorithm": "${TEST_SECRET}"}}},
    "a number": {"source": {"kafka": {"socket.timeout.ms": "${TEST_SECRET}"}}},
    "a key that is none": {"source": {"kafka": {"security.protocol": "ssl", "ssl.key.pem": "${TEST_SECRET}"}}},
    "a keystore": {"source": {"kafka": {"security.protocol": "ssl", "ssl.keystore.location": "/nowhere", "ssl.keystore.password": "${TEST_SECRET}"}}},
}


# Where no secret belongs, what is written in the open may be repeated.
PUBLIC = {"a size", "a key", "a format", "a property's value", "a number", "a sink with a user"}
PLACES = [(case, "from the environment") for case in WRONG] + [(case, "in the file") for case in WRONG if case not in PUBLIC]


@pytest.mark.parametrize(("case", "written"), PLACES, ids=[" ".join(place) for place in PLACES])
def test_no_secret_is_in_a_message_about_a_wrong_configuration(case, written, pipeline, local):
    secrets = Canaries({"secret": "canary-in-a-message"})
    sink = pipeline("orders", files=local, name="wrong")
    for section, values in WRONG[case].items():
        for key, value in values.items():
            place = sink.settings[section]
            place[key] = {**place[key], **value} if isinstance(place.get(key), dict) else value
    if written == "in the file":
        sink.settings = json.loads(json.dumps(sink.settings).replace("${TEST_SECRET}", secrets["secret"]))
    for command in (("check", sink.file), ("run", sink.file, "--until-end")):
        finished = sink.command(*command, code=(1, 2, 3), seconds=60, TEST_SECRET=secrets["secret"], KAS3_LOG="trace")
        secrets.check(finished.stdout, finished.stderr)


def test_no_secret_is_in_a_message_about_a_failed_connection(proxy, pipeline, bucket, s3, secure_address):
    address, asked = proxy
    secrets = Canaries({"proxy": "canary-of-the-proxy", "oidc": "canary-of-the-provider", "store": "canary-of-the-store"})
    sink = pipeline("orders", files=S3Files(s3, bucket))
    storage = {"proxy": f"http://kas3:{secrets['proxy']}@{address}", "access_key_id": "kas3", "secret_access_key": secrets["store"], "retry_time_ms": 1}
    sink.settings["sink"]["storage"] |= {**storage, "endpoint": "http://store.example"}
    sink.kafka.update({
        "bootstrap.servers": secure_address, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "kas3", "sasl.oauthbearer.client.secret": secrets["oidc"],
        "sasl.oauthbearer.token.endpoint.url": f"http://kas3:{secrets['oidc']}@{address}/token", "debug": "all",
    })
    finished = sink.command("--log-level", "trace", "check", sink.file, code=1, seconds=90).says("503", "OAUTHBEARER token", "401")
    secrets.check(finished.stdout, finished.stderr)
    used = base64.b64encode(f"kas3:{secrets['proxy']}".encode()).decode()
    assert any(used in headers.get("Proxy-Authorization", "") for headers in asked), "the proxy was not used"


@pytest.fixture
def secure_address():
    return os.environ.get("KAS3_KAFKA_SASL", "127.0.0.1:1")


@pytest.fixture
def port(kafka, topic, pipeline, local):
    """The port of a worker at work."""
    name = topic()
    produce(kafka, name, 100)
    sink = pipeline(name, files=local)
    number = free_port()
    sink.settings["http"] = f"127.0.0.1:{number}"
    with sink.start() as worker:
        wait_for(lambda: compare(read_committed(kafka, name), sink.files).exact(), 60, "the files")
        yield number
        assert worker.poll() is None
        assert worker.terminate().code == 0


def listens(pid):
    """Addresses on which a process listens, as hexadecimal text of the kernel."""
    sockets = set()
    for descriptor in os.scandir(f"/proc/{pid}/fd"):
        try:
            sockets.add(os.readlink(descriptor.path))
        except FileNotFoundError:
            continue
    rows = [line.split() for table in ("tcp", "tcp6") for line in open(f"/proc/{pid}/net/{table}").readlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


def test_only_loopback_is_listened_on_unless_asked(kafka, topic, pipeline, local):
    sink = pipeline(topic(), files=local)
    del sink.settings["http"]
    with sink.start() as worker:
        found = wait_for(lambda: worker.poll() or listens(worker.process.pid), 30, "the port")
        # Another kas3 of this machine may have the port.
        assert "9080" in found.stderr if hasattr(found, "stderr") else found == ["0100007F:2378"]


def test_the_port_answers_what_it_should_and_nothing_else(port):
    assert get(port, "/health/live").startswith("HTTP/1.1 200")
    for path in ("/../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/api/status/../../etc/passwd", "/page.css/../../Cargo.toml"):
        assert get(port, path).startswith("HTTP/1.1 404"), path
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        assert ask(port, f"{method} /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()).startswith("HTTP/1.1 405"), method
    assert ask(port, f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {'a' * 100_000}\r\n\r\n".encode()[:60_000]).startswith("HTTP/1.1 431")
    many = "".join(f"X{i}: 1\r\n" for i in range(500))
    assert ask(port, f"GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n".encode()).startswith("HTTP/1.1 431")
    page = get(port, "/").lower()
    for header in ("content-security-policy: default-src 'none'", "frame-ancestors 'none'", "x-frame-options: deny", "x-content-type-options: nosniff", "referrer-policy: no-referrer"):
        assert header in page, header
    assert "access-control-allow-origin" not in page


def test_a_name_that_was_bound_to_this_machine_by_somebody_else_is_refused(port):
    """A page from elsewhere whose own name resolves to 127.0.0.1 would be let by the browser to read the answers."""
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]"):
        assert get(port, "/api/status", host).startswith("HTTP/1.1 200"), host
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example"):
        answer = get(port, "/api/status", host)
        assert answer.startswith("HTTP/1.1 421") and "pipeline" not in answer, host


def test_clients_that_never_finish_do_not_lock_others_out(port):
    """More half requests than there may be connections: they are cut off, and the port answers again by itself."""
    slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(80)]
    try:
        for each in slow:
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        time.sleep(0.5)
        assert get(port, "/health/live").startswith("HTTP/1.1 200")
        ended = 0
        for each in slow[:60]:
            each.settimeout(30)
            try:
                ended += each.recv(1000) in (b"",) or True
            except ConnectionResetError:
                ended += 1
        assert ended == 60
    finally:
        for each in slow:
            each.close()
