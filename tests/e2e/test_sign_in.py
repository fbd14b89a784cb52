"""Ways to sign in to Kafka and to a store behind TLS, each against the real server, and what a refused user is told."""

import base64
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import boto3
import pytest

from e2e.driver import Worker, wait_for
from oracle import S3Files, compare, produce, read_committed
from services import fresh_name, serving

WRONG = "a-wrong-password-nobody-may-see"


@pytest.fixture
def secure():
    """Addresses of the listeners that want a user, or TLS; only a broker of `dev/services` has them."""
    if "KAS3_KAFKA_SASL" not in os.environ:
        pytest.skip("a broker of your own is used: its listeners are not known")
    return {name.removeprefix("KAS3_KAFKA_").lower(): value for name, value in os.environ.items() if name.startswith("KAS3_KAFKA_")}


@pytest.fixture
def tokens():
    """A token endpoint: it gives unsigned tokens to whoever knows the secret, and keeps what it was asked."""
    asked = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.headers["Authorization"] or self.rfile.read(int(self.headers["Content-Length"])).decode())
            right = base64.b64encode(b"kas3:secret").decode() in asked[-1]
            now = int(time.time())
            parts = [{"alg": "none"}, {"sub": "kas3", "iat": now, "exp": now + 300}]
            token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."
            answer = {"access_token": token, "token_type": "Bearer", "expires_in": 300} if right else {"error": "invalid_client"}
            body = json.dumps(answer).encode()
            self.send_response(200 if right else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(Endpoint) as address:
        yield f"http://{address}/token", asked


def openssl(folder, *arguments):
    subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True)


def vouched(folder, authority, name, days=1, host="IP:127.0.0.1"):
    """A certificate of the broker's authority and its key, as files."""
    (folder / "names").write_text(f"subjectAltName={host}\n")
    openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=localhost")
    by = ["-CA", f"{authority}/ca.pem", "-CAkey", f"{authority}/ca.key", "-CAcreateserial", "-CAserial", "serial"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *by, "-days", days, "-extfile", "names", "-out", f"{name}.crt")
    return folder / f"{name}.crt", folder / f"{name}.key"


@pytest.fixture
def impostor(tmp_path, secure):
    """Makes ports that show a certificate of the right authority, and let nobody get further."""
    sockets = []

    def make(**certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*vouched(tmp_path, secure["certificates"], f"impostor-{len(sockets)}", **certificate))
        port = socket.create_server(("127.0.0.1", 0))
        sockets.append(port)

        def serve():
            while True:
                try:
                    connection, _ = port.accept()
                    with context.wrap_socket(connection, server_side=True) as talk:
                        talk.recv(1)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{port.getsockname()[1]}"

    yield make
    for each in sockets:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def user(secure, mechanism, **properties):
    named = {name.replace("_", "."): value for name, value in properties.items()}
    return {"bootstrap.servers": secure["sasl"], "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism, **named}


def tls(secure, server="tls", **properties):
    named = {name.replace("_", "."): value for name, value in properties.items()}
    return {"bootstrap.servers": secure.get(server, server), "security.protocol": "SSL", "ssl.ca.location": secure["ca"], **named}


def kerberos(secure, keytab="kas3", principal="kas3", service="kafka"):
    keys = {"sasl.kerberos.keytab": f"{secure['kerberos']}/{keytab}.keytab", "sasl.kerberos.principal": principal}
    return {**user(secure, "GSSAPI"), **keys, "sasl.kerberos.service.name": service}


def oidc(secure, endpoint, secret):
    return user(
        secure, "OAUTHBEARER", sasl_oauthbearer_method="oidc", sasl_oauthbearer_client_id="kas3",
        sasl_oauthbearer_client_secret=secret, sasl_oauthbearer_token_endpoint_url=endpoint,
    )


def realm(secure, tmp_path):
    """Where Kerberos finds its realm and keeps its tickets."""
    return {"KRB5_CONFIG": f"{secure['kerberos']}/krb5.conf", "KRB5CCNAME": str(tmp_path / "tickets")}


@pytest.fixture
def signs_in(kafka, topic, pipeline, local):
    """Moves a topic with these properties, and compares."""

    def check(properties, **environment):
        name = topic()
        produce(kafka, name, 100)
        sink = pipeline(name, files=local)
        sink.kafka.update(properties)
        sink.environment.update(environment)
        sink.run_to_end()
        compare(read_committed(kafka, name), sink.files).check()

    return check


@pytest.fixture
def is_refused(pipeline, local):
    """Checks that `run` and `check` both say these words: the reason and the way out. Nothing is written."""

    def check(properties, *words, codes=(3, 1), **environment):
        sink = pipeline("orders", files=local)
        sink.kafka.update(properties)
        sink.environment.update(environment)
        with sink.start("--until-end") as run, Worker(["check", sink.file], sink.logs, environment=sink.environment) as looked:
            for finished, code in zip((run.wait(60), looked.wait(60)), codes, strict=True):
                finished.says(*words)
                assert finished.code == code and WRONG not in finished.stdout + finished.stderr, finished.stderr
        assert sink.files.paths(everything=True) == []

    return check


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_user_and_a_password(secure, signs_in, mechanism):
    properties = user(secure, mechanism, sasl_username=secure["user"], sasl_password="${TEST_PASSWORD}")
    signs_in(properties, TEST_PASSWORD=secure["password"])


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_said_and_not_shown(secure, is_refused, mechanism):
    properties = user(secure, mechanism, sasl_username=secure["user"], sasl_password=WRONG)
    is_refused(properties, "Authentication failed", "`sasl.username`, `sasl.password`")


def test_tokens_of_an_oidc_provider(secure, tokens, signs_in):
    endpoint, asked = tokens
    signs_in(oidc(secure, endpoint, "secret"))
    assert base64.b64encode(b"kas3:secret").decode() in asked[0]


def test_a_provider_that_gives_no_token_is_named(secure, tokens, pipeline, local):
    # Not given up at once: a provider that is away comes back. `check` has the same words as `run`.
    sink = pipeline("orders", files=local)
    sink.kafka.update(oidc(secure, tokens[0], WRONG))
    finished = sink.command("check", sink.file, code=1, seconds=60).says("OAUTHBEARER token", "401", "`sasl.oauthbearer.` properties")
    assert WRONG not in finished.stdout + finished.stderr


def test_tickets_of_a_kerberos_realm(secure, signs_in, tmp_path):
    signs_in(kerberos(secure), **realm(secure, tmp_path))


@pytest.mark.parametrize("wrong", ["keytab", "principal", "service"])
def test_a_kerberos_realm_that_gives_no_ticket_is_said(secure, is_refused, tmp_path, wrong):
    wrongs = {"keytab": "stranger", "principal": "nobody", "service": "kafkaesque"}
    reason = "Server kafkaesque/127.0.0.1@KAS3.TEST not found" if wrong == "service" else "No Kerberos credentials available"
    is_refused(kerberos(secure, **{wrong: wrongs[wrong]}), reason, "`sasl.kerberos.keytab`", "kinit", **realm(secure, tmp_path))


def test_tls_with_an_authority_of_ones_own(secure, signs_in):
    signs_in(tls(secure))


def test_tls_without_that_authority_is_refused(secure, is_refused):
    properties = tls(secure)
    del properties["ssl.ca.location"]
    is_refused(properties, "certificate verify failed", "`ssl.ca.location`")


@pytest.mark.parametrize("certificate", [{"days": -1}, {"host": "DNS:elsewhere.example"}], ids=["expired", "of another host"])
def test_a_certificate_that_does_not_hold_is_refused(secure, is_refused, impostor, certificate):
    is_refused(tls(secure, impostor(**certificate)), "certificate verify failed", "expired", "another host name", "openssl s_client")


@pytest.mark.parametrize("key", ["plain", "encrypted", "in the settings"])
def test_a_certificate_of_ones_own(secure, signs_in, tmp_path, key):
    plain, certificate = f"{secure['certificates']}/client.key", f"{secure['certificates']}/client.crt"
    if key == "in the settings":
        pem = {"TEST_KEY": Path(plain).read_text(), "TEST_CERTIFICATE": Path(certificate).read_text()}
        return signs_in(tls(secure, "mtls", ssl_key_pem="${TEST_KEY}", ssl_certificate_pem="${TEST_CERTIFICATE}"), **pem)
    properties = tls(secure, "mtls", ssl_certificate_location=certificate, ssl_key_location=plain)
    if key == "encrypted":
        openssl(tmp_path, "ec", "-aes256", "-passout", "pass:of-the-key", "-in", plain, "-out", "locked.key")
        properties |= {"ssl.key.location": str(tmp_path / "locked.key"), "ssl.key.password": "of-the-key"}
    return signs_in(properties)


def test_a_certificate_that_is_missing_expired_or_locked_is_said(secure, is_refused, tmp_path):
    is_refused(tls(secure, "mtls"), "alert bad certificate", "`ssl.certificate.location`")
    certificate, key = vouched(tmp_path, secure["certificates"], "late", days=-1)
    is_refused(tls(secure, "mtls", ssl_certificate_location=str(certificate), ssl_key_location=str(key)), "SSL alert", "`ssl.certificate.location`")
    openssl(tmp_path, "ec", "-aes256", "-passout", "pass:of-the-key", "-in", f"{secure['certificates']}/client.key", "-out", "locked.key")
    properties = tls(secure, "mtls", ssl_certificate_location=f"{secure['certificates']}/client.crt", ssl_key_location=str(tmp_path / "locked.key"))
    is_refused({**properties, "ssl.key.password": WRONG}, "ssl.key.location failed", "`ssl.key.password`", codes=(2, 1))


@pytest.fixture
def https_store(tmp_path, secure):
    """A MinIO of its own that speaks TLS: its files, and the endpoint."""
    program = os.environ.get("KAS3_MINIO") or pytest.skip("a store of your own is used: MinIO is not at hand")
    folder = tmp_path / "certs"
    folder.mkdir()
    certificate, key = vouched(tmp_path, secure["certificates"], "minio")
    certificate.rename(folder / "public.crt")
    key.rename(folder / "private.key")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    keys = {"MINIO_ROOT_USER": os.environ["AWS_ACCESS_KEY_ID"], "MINIO_ROOT_PASSWORD": os.environ["AWS_SECRET_ACCESS_KEY"]}
    command = [program, "server", str(tmp_path / "minio"), "--address", address, "--certs-dir", str(folder), "--quiet"]
    with open(tmp_path / "minio.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **keys, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"})
    try:
        client = boto3.client("s3", endpoint_url=f"https://{address}", verify=secure["ca"], region_name="us-east-1")
        bucket = fresh_name("https")

        def created():
            try:
                return client.create_bucket(Bucket=bucket)
            except Exception:  # noqa: BLE001: whatever it says before it is up
                return None

        wait_for(created, 30, "MinIO with TLS")
        yield S3Files(client, bucket, "lake"), f"https://{address}"
    finally:
        server.kill()
        server.wait()


def test_a_store_behind_tls_is_trusted_by_its_authority_alone(kafka, topic, pipeline, secure, https_store, tmp_path):
    files, endpoint = https_store
    name = topic()
    produce(kafka, name, 300)
    sink = pipeline(name, files=files)
    storage = sink.settings["sink"]["storage"] = {"endpoint": endpoint, "region": "us-east-1", "ca_file": secure["ca"]}
    sink.command("check", sink.file)
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()
    openssl(tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=other")
    for storage["ca_file"] in (str(tmp_path / "other.pem"), None):
        sink.run_to_end(code=2, seconds=60).says(endpoint, "is not trusted", "UnknownIssuer", "`ca_file`")
        sink.command("check", sink.file, code=1, seconds=60).says(endpoint, "is not trusted", "`ca_file`")
    storage["ca_file"] = secure["ca"]
    storage["endpoint"] = endpoint.replace("127.0.0.1", "localhost")
    sink.run_to_end(code=2, seconds=60).says("localhost", "not valid for name", "`endpoint`")
