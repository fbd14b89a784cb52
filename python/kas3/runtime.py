"""A producer or a consumer that the environment describes, with the names that the container of ``s3_connector`` has.

``MODE=producer`` sends each line of standard input, ``MODE=consumer`` reads until it is stopped; both show counters on
``http://…:METRICS_PORT/metrics``.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ._settings import MAX_INLINE_BYTES, MAX_PAYLOAD_BYTES, truth
from .consumer import S3Consumer
from .errors import Error, IntegrityError, make_config
from .producer import S3Producer

logger = logging.getLogger("kas3")

#: What of an event becomes a label: names of which there are few.
LABELS = ("topic", "partition", "reason")
_SASL_AND_SSL = (
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
)
#: Seconds between two attempts at a record that cannot be had.
_AGAIN_AFTER = 1.0

_Labels = tuple[tuple[str, Any], ...]


class MetricsRegistry:
    """Counters in the text format of Prometheus."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, _Labels], int] = {}
        self._lock = threading.Lock()

    def inc(self, name: str, labels: Mapping[str, Any] | None = None, value: int = 1) -> None:
        """Counts."""
        counter = (name, tuple(sorted((labels or {}).items())))
        with self._lock:
            self._counters[counter] = self._counters.get(counter, 0) + value

    def render(self) -> str:
        """All counters, by name."""
        with self._lock:
            counters = sorted(self._counters.items(), key=lambda counter: (counter[0][0], str(counter[0][1])))
        lines: list[str] = []
        family = None
        for (name, labels), value in counters:
            if name != family:
                lines.append(f"# TYPE {name} counter")
                family = name
            shown = ",".join(f'{label}="{_escaped(of)}"' for label, of in labels)
            lines.append(f"{name}{{{shown}}} {value}" if shown else f"{name} {value}")
        return "\n".join([*lines, ""])


def _escaped(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metric_hook(registry: MetricsRegistry) -> Callable[[str, Mapping[str, Any]], None]:
    """A hook ``metrics`` that counts events, and their bytes beside them."""

    def hook(event: str, data: Mapping[str, Any]) -> None:
        labels = {name: data[name] for name in LABELS if data.get(name) is not None}
        registry.inc(event, labels)
        if isinstance(data.get("bytes"), int):
            registry.inc(f"{event}_bytes", labels, data["bytes"])

    return hook


def start_metrics_server(registry: MetricsRegistry, port: int, address: str = "") -> ThreadingHTTPServer:
    """Serves ``/metrics`` from a thread of its own. Nobody has to sign in: keep it inside."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            body = registry.render().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            logger.debug(format, *arguments)

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="kas3-metrics", daemon=True).start()
    logger.info("metrics are on port %s", server.server_address[1])
    return server


def _number(name: str, default: int | None) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise make_config(f"`{name}` is `{text}`", "name a whole number") from None


def kafka_from_env() -> dict[str, Any]:
    """The section `kafka`."""
    kafka: dict[str, Any] = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")}
    for name in ("group.id", *_SASL_AND_SSL):
        value = os.environ.get("KAFKA_" + name.replace(".", "_").upper())
        if value:
            kafka[name] = value
    if os.environ.get("KAFKA_ENABLE_AUTO_COMMIT"):
        kafka["enable.auto.commit"] = truth(os.environ["KAFKA_ENABLE_AUTO_COMMIT"])
    return kafka


def build_config_from_env() -> dict[str, Any]:
    """The configuration that the environment describes, for :class:`S3Producer` and :class:`S3Consumer`."""
    kafka, environment = kafka_from_env(), os.environ.get
    dlq_topic = environment("DLQ_TOPIC") or None
    if dlq_topic:
        kafka["dlq_topic"] = dlq_topic
    s3 = {
        "bucket": environment("S3_BUCKET", ""),
        "prefix": environment("S3_PREFIX", ""),
        "region_name": environment("AWS_REGION"),
        "endpoint_url": environment("S3_ENDPOINT_URL"),
        "delete_after_consume": truth(environment("S3_DELETE_AFTER_CONSUME")),
        "allow_inline_payloads": truth(environment("S3_ALLOW_INLINE_PAYLOADS"), True),
        "inline_header": truth(environment("S3_INLINE_HEADER"), False),
        "require_integrity": truth(environment("S3_REQUIRE_INTEGRITY"), True),
        "max_inline_bytes": _number("S3_MAX_INLINE_BYTES", MAX_INLINE_BYTES),
        "max_payload_bytes": _number("S3_MAX_PAYLOAD_BYTES", MAX_PAYLOAD_BYTES),
        "deterministic_keys": truth(environment("S3_DETERMINISTIC_KEYS")),
        "ttl_seconds": _number("S3_TTL_SECONDS", None),
        "compression": environment("S3_COMPRESSION") or None,
        "server_side_encryption": environment("S3_SSE") or None,
        "sse_kms_key_id": environment("S3_SSE_KMS_KEY_ID") or None,
        "dlq_topic": dlq_topic,
    }
    if environment("S3_FORMAT"):
        s3["format"] = environment("S3_FORMAT")
    return {"kafka": kafka, "s3": s3, "hooks": {}}


def _produce(config: Mapping[str, Any], topic: str, registry: MetricsRegistry) -> None:
    with S3Producer(config) as producer:
        for line in sys.stdin.buffer:
            payload = line.rstrip(b"\r\n")
            if not payload:
                # a record without a value deletes its key on a compacted topic: no blank line means that
                registry.inc("stdin_blank_lines")
                continue
            producer.produce(topic, payload)
            registry.inc("stdin_lines")


def _consume(config: Mapping[str, Any], topic: str, registry: MetricsRegistry, stopped: threading.Event) -> None:
    timeout = float(os.environ.get("POLL_TIMEOUT") or 5.0)
    with S3Consumer(config) as consumer:
        consumer.subscribe([topic])
        while not stopped.is_set():
            try:
                payload = consumer.poll(timeout)
                if payload is not None and not consumer.auto_commit:
                    consumer.commit(asynchronous=False)
            except IntegrityError as error:
                logger.error("a payload cannot be trusted, and its record is passed over: %s", error)
            except Error as error:
                logger.error("%s", error)
                registry.inc("consume_unhandled_error")
                stopped.wait(_AGAIN_AFTER)


def run() -> None:
    """Does what the environment says, until the input ends or a signal comes."""
    logging.basicConfig(level=(os.environ.get("LOG_LEVEL") or "INFO").upper())
    mode, topic = os.environ.get("MODE") or "consumer", os.environ.get("TOPIC")
    if not topic:
        raise make_config("`TOPIC` is not set", "name the topic")
    if mode not in ("producer", "consumer"):
        raise make_config(f"`MODE` is `{mode}`", "`producer` or `consumer`")
    registry = MetricsRegistry()
    config = build_config_from_env()
    config["hooks"]["metrics"] = metric_hook(registry)
    server = start_metrics_server(registry, _number("METRICS_PORT", 8000) or 0, os.environ.get("METRICS_ADDRESS", ""))
    stopped = threading.Event()

    def stop(_number: int, _frame: Any) -> None:
        stopped.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        if mode == "producer":
            _produce(config, topic, registry)
        else:
            _consume(config, topic, registry, stopped)
    except KeyboardInterrupt:
        logger.info("stopped")
    finally:
        server.shutdown()
