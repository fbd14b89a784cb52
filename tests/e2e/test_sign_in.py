"""Ways to sign in to Kafka, each against the real broker."""

import base64
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from oracle import compare, produce, read_committed


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
            now = int(time.time())
            parts = [{"alg": "none"}, {"sub": "kas3", "iat": now, "exp": now + 300}]
            token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."
            body = json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": 300}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/token", asked
    server.shutdown()
    server.server_close()


def runs(sink, topic, kafka):
    sink.run_to_end()
    compare(read_committed(kafka, topic), sink.files).check()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_user_and_a_password(kafka, secure, topic, pipeline, local, mechanism):
    name = topic()
    produce(kafka, name, 100)
    sink = pipeline(name, files=local)
    sink.kafka.update({
        "bootstrap.servers": secure["sasl"], "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism,
        "sasl.username": secure["user"], "sasl.password": "${TEST_PASSWORD}",
    })
    sink.environment["TEST_PASSWORD"] = secure["password"]
    runs(sink, name, kafka)


def test_a_wrong_password_is_said_and_not_shown(kafka, secure, topic, pipeline, local):
    sink = pipeline(topic(), files=local)
    sink.kafka.update({
        "bootstrap.servers": secure["sasl"], "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": secure["user"], "sasl.password": "a-wrong-password-nobody-may-see",
    })
    finished = sink.run_to_end(code=(2, 3), seconds=90).says("authentication")
    assert "a-wrong-password-nobody-may-see" not in finished.stderr + finished.stdout


def test_tokens_of_an_oidc_provider(kafka, secure, tokens, topic, pipeline, local):
    endpoint, asked = tokens
    name = topic()
    produce(kafka, name, 100)
    sink = pipeline(name, files=local)
    sink.kafka.update({
        "bootstrap.servers": secure["sasl"], "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "kas3", "sasl.oauthbearer.client.secret": "secret", "sasl.oauthbearer.token.endpoint.url": endpoint,
    })
    runs(sink, name, kafka)
    assert base64.b64encode(b"kas3:secret").decode() in asked[0]


def test_tls_with_an_authority_of_ones_own(kafka, secure, topic, pipeline, local):
    name = topic()
    produce(kafka, name, 100)
    sink = pipeline(name, files=local)
    sink.kafka.update({"bootstrap.servers": secure["tls"], "security.protocol": "SSL", "ssl.ca.location": secure["ca"]})
    runs(sink, name, kafka)


def test_tls_without_that_authority_is_refused(kafka, secure, topic, pipeline, local):
    sink = pipeline(topic(), files=local)
    sink.kafka.update({"bootstrap.servers": secure["tls"], "security.protocol": "SSL"})
    sink.run_to_end(code=(2, 3), seconds=90).says("certificate")
