"""``KafS3Producer`` and ``KafS3Consumer``: keyword arguments, a future for each record, an iterator over what comes.

>>> producer = KafS3Producer("localhost:9092", "payloads", "events/")
>>> producer.send("events", key=b"1", payload=bytes(5_000_000)).get(timeout=30).offset
0
>>> for message in KafS3Consumer("localhost:9092", "payloads", "events/").consume("events", timeout_ms=5000):
...     message.key, len(message.value)
(b'1', 5000000)
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from . import _kas3
from ._receiving import Receiver
from ._sending import Sender, raise_first, seconds_left
from ._settings import NO_PROPERTIES, Callbacks, properties, storage, truth
from .errors import Error, PayloadMissing, RecordError, TransientError, make_config
from .record import BytesLike, Delivery, HeadersLike, Record, Reference, TopicPartition

logger = logging.getLogger("kas3")

OFFLOAD_THRESHOLD = 1 << 20
BUFFER_BYTES = 256 << 20
BUFFER_TIMEOUT = 60.0
#: The time bounds the attempts, not their number.
_ATTEMPTS = 1_000_000
#: Seconds in which a group has shared out its partitions.
_JOIN = 30.0
#: The brokers of this process do not answer what topics allow; this is Kafka's default.
_OFFLINE_TOPIC_BYTES = 1_048_588

#: Names that kafka-python has for properties of librdkafka, where dots alone do not make one of the other.
_KAFKA_PYTHON = {
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
    "enable_auto_commit": "enable.auto.commit",
    "auto_offset_reset": "auto.offset.reset",
}
#: Settings of the claim check under their own names.
_CLAIM_CHECK = (
    "format", "accept", "keys", "compression", "level", "max_payload_bytes", "ttl_seconds", "uploads", "read_from",
    "require_integrity", "allow_inline_payloads", "inline_header",
)  # fmt: skip
#: What ``from_env`` reads besides the names of Kafka: variable, argument, and what makes a value of the text.
_ENVIRONMENT: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("S3_BUCKET", "s3_bucket", str),
    ("S3_PREFIX", "s3_prefix", str),
    ("OFFLOAD_THRESHOLD", "offload_threshold", int),
    ("AWS_PROFILE", "aws_profile", str),
    ("AWS_DEFAULT_REGION", "region", str),
    ("AWS_REGION", "region", str),
    ("S3_ENDPOINT_URL", "endpoint_url", str),
    ("S3_COMPRESSION", "compression", str),
    ("S3_MAX_PAYLOAD_BYTES", "max_payload_bytes", int),
    ("S3_TTL_SECONDS", "ttl_seconds", int),
    ("S3_SSE", "sse", str),
    ("S3_SSE_KMS_KEY_ID", "sse_kms_key_id", str),
    ("BUFFER_BYTES", "buffer_bytes", int),
    ("BUFFER_TIMEOUT", "buffer_timeout", float),
    ("KAS3_OFFLINE", "offline", truth),
)
#: Of these, what consumers do not have.
_PRODUCER_ONLY = (
    "offload_threshold",
    "buffer_bytes",
    "buffer_timeout",
    "compression",
    "ttl_seconds",
    "level",
    "keys",
    "uploads",
    "sse",
    "sse_kms_key_id",
)

_Self = TypeVar("_Self", bound="_Configured")
_offline_folder: str | None = None


def _offline(bucket: str, prefix: str) -> str:
    """The folder that stands for a bucket, the same for all clients of this process; it goes when the process does."""
    global _offline_folder
    if _offline_folder is None:
        _offline_folder = tempfile.mkdtemp(prefix="kas3-offline-")
        atexit.register(_remove_offline, _offline_folder, os.getpid())
    return Path(_offline_folder, bucket, prefix).as_uri()


def _remove_offline(folder: str, process: int) -> None:
    # a child of a fork that ends has the parent's handlers, and not its folder
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


class _Configured:
    """Arguments from files and the environment."""

    _passes_over: tuple[str, ...] = ()

    def __init__(self, *_arguments: Any, **_settings: Any) -> None:
        raise NotImplementedError

    @classmethod
    def from_config(cls: type[_Self], config: str | os.PathLike[str] | Mapping[str, Any], **overrides: Any) -> _Self:
        """From a YAML or JSON file, or a dictionary, with the names of the arguments; ``overrides`` go before."""
        if isinstance(config, Mapping):
            settings = dict(config)
        else:
            try:
                text = Path(config).read_text(encoding="utf-8")
            except OSError as error:
                raise make_config(f"`{os.fspath(config)}` cannot be read: {error.strerror}", "name a YAML or JSON file") from error
            settings = json.loads(_kas3.yaml_to_json(text))
            if not isinstance(settings, dict):
                raise make_config(f"`{os.fspath(config)}` holds no settings", "write `s3_bucket: …`, a line for each")
        return cls(**{**cls._of_both(settings), **overrides})

    @classmethod
    def from_env(cls: type[_Self], **overrides: Any) -> _Self:
        """From the environment: ``KAFKA_…`` as in :mod:`kas3.runtime`, ``S3_BUCKET``, ``S3_PREFIX``, ``OFFLOAD_THRESHOLD``,
        ``S3_ENDPOINT_URL``, ``AWS_…``, ``BUFFER_BYTES``, ``BUFFER_TIMEOUT``, ``KAS3_OFFLINE``; ``overrides`` go before."""
        from .runtime import kafka_from_env

        kafka = kafka_from_env()
        settings: dict[str, Any] = {"bootstrap_servers": kafka.pop("bootstrap.servers"), "kafka": kafka}
        for variable, name, read in _ENVIRONMENT:
            text = os.environ.get(variable, "").strip()
            if text:
                try:
                    settings[name] = read(text)
                except ValueError:
                    raise make_config(f"`{variable}` is `{text}`", "name a number") from None
        return cls(**{**cls._of_both(settings), **overrides})

    @classmethod
    def _of_both(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """One file serves producers and consumers."""
        return {name: value for name, value in settings.items() if name not in cls._passes_over}


class _Settings:
    """Keyword arguments, sorted: what is ours, and what librdkafka's."""

    def __init__(self, servers: str | list[str] | None, bucket: str | None, prefix: str | None, profile: str | None, rest: dict[str, Any]) -> None:
        self.rest = rest
        offline = rest.pop("offline", False)
        bucket, prefix = bucket or ("offline" if offline else ""), (prefix or "").strip("/")
        if not bucket:
            raise make_config("no `s3_bucket` is named", "name it; no bucket has a default name")
        told = storage(rest.pop("endpoint_url", None), rest.pop("region", None), profile, rest.pop("storage", None))
        for name in ("sse", "sse_kms_key_id"):
            if rest.get(name) is not None:
                told[name] = rest[name]
            rest.pop(name, None)
        self.kafka: dict[str, Any] = dict(rest.pop("kafka", None) or {})
        if offline:
            self.kafka["bootstrap.servers"], url = _kas3.offline_brokers(), _offline(bucket, prefix)
        else:
            url = f"s3://{bucket}/{prefix}".rstrip("/")
            if servers:
                self.kafka["bootstrap.servers"] = servers if isinstance(servers, str) else ",".join(servers)
        self.claim_check: dict[str, Any] = {"url": url, "storage": told}
        for name in _CLAIM_CHECK:
            if rest.get(name) is not None:
                self.claim_check[name] = rest[name]
            rest.pop(name, None)

    def finish(self, defaults: Mapping[str, Any]) -> dict[str, str]:
        """What is left is librdkafka's, with dots for underscores."""
        for name, value in self.rest.items():
            self.kafka[_KAFKA_PYTHON.get(name, name if name in NO_PROPERTIES else name.replace("_", "."))] = value
        return properties({**defaults, **self.kafka})


@dataclass(frozen=True)
class RecordMetadata:
    """Where a record stands that was sent."""

    topic: str
    partition: int
    offset: int
    #: Where its payload lies; ``None`` when it is in the record.
    reference: Reference | None

    @property
    def topic_partition(self) -> TopicPartition:
        """Topic and partition."""
        return TopicPartition(self.topic, self.partition, self.offset)


class SendFuture:
    """What becomes of a record."""

    def __init__(self, producer: KafS3Producer) -> None:
        self._producer = producer
        self._answered = threading.Event()
        self._lock = threading.Lock()
        self._metadata: RecordMetadata | None = None
        self._error: Error | None = None
        self._callbacks: list[Callable[[], None]] = []

    def _answer(self, error: Error | None, delivery: Delivery) -> None:
        with self._lock:
            self._error = error
            if error is None:
                self._metadata = RecordMetadata(delivery.topic(), delivery.partition(), delivery.offset(), delivery.reference)
            self._answered.set()
            callbacks, self._callbacks = self._callbacks, []
        failures: list[Exception] = []
        for callback in callbacks:
            try:
                callback()
            except Exception as failure:
                failures.append(failure)
        raise_first(failures)

    def done(self) -> bool:
        """Whether it is known."""
        self._producer._serve(0.0)
        return self._answered.is_set()

    def get(self, timeout: float | None = None) -> RecordMetadata:
        """Waits until Kafka has the record.

        :raises kas3.Error: why it was not delivered.
        :raises TimeoutError: it is not known after ``timeout`` seconds; it may still be delivered.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._answered.is_set():
            left = seconds_left(deadline)
            if left == 0.0 and not self._producer._serve(0.0):
                raise TimeoutError(f"the record was not delivered within {timeout} s")
            # another thread may take the answer: then the flag tells
            self._producer._serve(0.05 if left is None else min(left, 0.05))
            if self._producer.closed and not self._answered.is_set():
                raise TransientError("the producer was closed before the record was delivered", hint="flush before closing, or close with more time")
        if self._error is not None:
            raise self._error
        assert self._metadata is not None
        return self._metadata

    result = get

    def exception(self) -> Error | None:
        """Why it was not delivered, as far as is known."""
        return self._error

    def succeeded(self) -> bool:
        """Whether Kafka has it."""
        return self.done() and self._error is None

    def failed(self) -> bool:
        """Whether it was not delivered."""
        return self.done() and self._error is not None

    def add_callback(self, callback: Callable[..., Any], *arguments: Any, **named: Any) -> SendFuture:
        """Calls back with the :class:`RecordMetadata` once it is delivered, within a later call of the producer."""
        return self._add(lambda: self._metadata and callback(*arguments, self._metadata, **named))

    def add_errback(self, callback: Callable[..., Any], *arguments: Any, **named: Any) -> SendFuture:
        """Calls back with the exception if it is not delivered, within a later call of the producer."""
        return self._add(lambda: self._error and callback(*arguments, self._error, **named))

    def _add(self, callback: Callable[[], Any]) -> SendFuture:
        with self._lock:
            if not self._answered.is_set():
                self._callbacks.append(callback)
                return self
        callback()
        return self


class KafS3Producer(_Configured):
    """Sends payloads of any size: those beyond ``offload_threshold`` bytes go to S3.

    :param aws_profile: profile of the AWS configuration files; by default the usual chain of credentials.
    :param buffer_bytes: payloads on their way to S3 at most, which is what is kept while S3 is down. Then :meth:`send` waits.
    :param buffer_timeout: seconds for which a payload is tried, and :meth:`send` waits for room.
    :param offline: brokers within this process and a temporary folder instead of S3, for tests; one set for all clients of the
        process. Servers and bucket need no name then.
    :param settings: ``endpoint_url``, ``region``, ``compression`` (``gzip``, ``zstd``), ``keys``, ``max_payload_bytes``,
        ``ttl_seconds``, ``sse``, ``sse_kms_key_id``, ``format``, ``uploads``, ``order`` (``topic`` or ``key``); ``kafka``, a
        dictionary of librdkafka's properties; any other name is such a property with underscores for dots.

    A payload that S3 did not take is the error of its :class:`SendFuture`; where nobody asked for that, :meth:`flush` raises the
    first. It may be shared by threads.
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str] | None = None,
        s3_bucket: str | None = None,
        s3_prefix: str | None = None,
        offload_threshold: int = OFFLOAD_THRESHOLD,
        aws_profile: str | None = None,
        *,
        buffer_bytes: int = BUFFER_BYTES,
        buffer_timeout: float = BUFFER_TIMEOUT,
        offline: bool = False,
        order: str = "topic",
        **settings: Any,
    ) -> None:
        told = _Settings(bootstrap_servers, s3_bucket, s3_prefix, aws_profile, {**settings, "offline": offline})
        milliseconds = int(buffer_timeout * 1000)
        told.claim_check["storage"] = {"retry_time_ms": milliseconds, "max_attempts": _ATTEMPTS, **told.claim_check["storage"]}
        told.claim_check["max_inline_bytes"] = offload_threshold
        self._sender = Sender(
            {
                "claim_check": told.claim_check,
                "kafka": told.finish({}),
                "memory_bytes": buffer_bytes,
                "send_timeout_ms": milliseconds,
                "order": order,
                "topic_bytes_max": _OFFLINE_TOPIC_BYTES if offline else None,
            },
            Callbacks(told.kafka),
        )
        self._failed: Error | None = None
        self._lock = threading.Lock()

    def send(
        self,
        topic: str,
        key: BytesLike | str | None = None,
        value: BytesLike | str | None = None,
        payload: BytesLike | str | None = None,
        headers: HeadersLike = None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        content_type: str | None = None,
    ) -> SendFuture:
        """Accepts a record with ``value``, or with ``payload``: one of them, it is the same. Neither is a tombstone.

        :raises kas3.QueueFull: there was no room for ``buffer_timeout`` seconds.
        :raises kas3.RecordError: it is no bytes, larger than ``max_payload_bytes``, or carries headers that mark references.
        """
        if value is not None and payload is not None:
            raise RecordError("a record has a `value` and a `payload`", hint="give one of them")
        payload = value if payload is None else payload
        if isinstance(payload, str):
            payload = payload.encode()
        future = SendFuture(self)

        def answered(error: Error | None, delivery: Delivery) -> None:
            if error is not None:
                with self._lock:
                    self._failed = self._failed or error
            future._answer(error, delivery)

        self._serve(0.0)
        self._sender.send(topic, payload, answered, key=key, headers=headers, partition=partition, timestamp=timestamp_ms, content_type=content_type)
        return future

    def _serve(self, timeout: float) -> int:
        return self._sender.serve(timeout)

    def flush(self, timeout: float | None = None) -> int:
        """Waits until all records were delivered or have failed; how many are still on their way after ``timeout`` seconds.

        :raises kas3.Error: the first failure since the last flush.
        """
        left = self._sender.flush(timeout)
        with self._lock:
            failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        return left

    def purge(self, in_queue: bool = True, in_flight: bool = True) -> None:
        """Gives records up, whose futures fail: ``in_queue`` those that were not sent yet, also while their payloads are on their way to
        S3; ``in_flight`` those that wait for an acknowledgement, which Kafka may have all the same."""
        self._sender.purge(in_queue, in_flight)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._sender.core.closed()

    def close(self, timeout: float | None = None) -> int:
        """Flushes and stops; how many records were not answered in time. In a child of the process that made it there is nothing to
        stop."""
        if self._sender.core.inherited():
            return 0
        try:
            return self.flush(timeout)
        finally:
            left = self._sender.left()
            if left:
                logger.error("%s records were not delivered before the producer was closed", left)
            self._sender.close()

    def __enter__(self) -> KafS3Producer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except Error:
            # what ended the block says more
            if error is None:
                raise


class KafS3Consumer(_Configured):
    """Reads payloads wherever they are, and verifies each before it hands it out.

    :param group_id: the group whose offsets count; without one, every :meth:`consume` reads from the beginning (or as
        ``auto_offset_reset`` says) and commits nothing.
    :param offline: as that of the producers of this process.
    :param settings: as those of :class:`KafS3Producer`, and ``prefetch``, ``memory_bytes`` (payloads read ahead).
    """

    _passes_over = _PRODUCER_ONLY

    def __init__(
        self,
        bootstrap_servers: str | list[str] | None = None,
        s3_bucket: str | None = None,
        s3_prefix: str | None = None,
        *,
        aws_profile: str | None = None,
        group_id: str | None = None,
        offline: bool = False,
        prefetch: int = 256,
        memory_bytes: int = BUFFER_BYTES,
        **settings: Any,
    ) -> None:
        told = _Settings(bootstrap_servers, s3_bucket, s3_prefix, aws_profile, {**settings, "offline": offline})
        self._claim_check, self._kafka = told.claim_check, told.finish({"auto.offset.reset": "earliest"})
        self._callbacks = told.kafka
        self._bounds = {"prefetch": prefetch, "memory_bytes": memory_bytes}
        self._group_id = group_id or self._kafka.get("group.id")
        self._receivers: dict[int, Receiver] = {}

    def consume(self, topic: str | list[str], group_id: str | None = None, timeout_ms: int | None = None) -> Iterator[Record]:
        """Records of a topic, or of several, in order; it ends when none came for ``timeout_ms``, and else never.

        Without a group, all partitions are read that the topic has now. With one, a record counts as processed once the next one is
        asked for: one whose processing raised, or after which the loop was left, comes again. A payload that cannot be had ends
        the iteration with an exception; the next one begins with it.
        """
        group = group_id or self._group_id
        kafka = {**self._kafka, "group.id": group or f"kas3-{uuid.uuid4()}"}
        if group is None:
            kafka["enable.auto.commit"] = "false"
        receiver = Receiver({"claim_check": self._claim_check, "kafka": kafka, **self._bounds}, Callbacks(self._callbacks))
        self._receivers[id(receiver)] = receiver
        topics = [topic] if isinstance(topic, str) else list(topic)
        timeout = None if timeout_ms is None else timeout_ms / 1000
        assigned = threading.Event()
        if group is None:
            receiver.core.assign_topics(topics, kafka["auto.offset.reset"] in ("latest", "largest", "end"))
            assigned.set()
        else:
            receiver.subscribe(topics, lambda _event, _partitions: assigned.set())
        return self._records(receiver, timeout, assigned)

    def _records(self, receiver: Receiver, timeout: float | None, assigned: threading.Event) -> Iterator[Record]:
        joining = time.monotonic() + _JOIN
        try:
            while not receiver.core.closed():
                joined = assigned.is_set()
                record = receiver.poll(timeout if joined or timeout is None else min(timeout, 0.1))
                if record is None and not joined and time.monotonic() < joining:
                    # a group takes its time to share out partitions: that is no silence of the topic
                    continue
                if record is None:
                    return
                try:
                    yield record
                except GeneratorExit:
                    # nobody said that it was processed
                    if not receiver.core.inherited() and receiver.core.auto_commits():
                        receiver.core.commit_offsets([(record.topic, record.partition, record.offset)])
                        receiver.core.seek(record.topic, record.partition, record.offset)
                    raise
        finally:
            self._receivers.pop(id(receiver), None)
            receiver.core.close()

    def close(self) -> None:
        """Ends all iterations, and leaves their groups."""
        for receiver in list(self._receivers.values()):
            # in a child of the process that made them there is nothing to leave
            receiver.core.close()
        self._receivers.clear()

    def __enter__(self) -> KafS3Consumer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def upload_to_s3(
    payload: BytesLike,
    bucket: str,
    key: str,
    aws_profile: str | None = None,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    content_type: str = "application/octet-stream",
) -> str:
    """Stores an object; its URI, as ``s3://bucket/key``. ``endpoint_url`` is by default that of ``S3_ENDPOINT_URL``."""
    reached = json.dumps(storage(endpoint_url or os.environ.get("S3_ENDPOINT_URL"), region, aws_profile))
    _kas3.put_object(reached, f"s3://{bucket}", key, bytes(payload), content_type)
    return f"s3://{bucket}/{key}"


def download_from_s3(
    uri: str | None = None,
    bucket: str | None = None,
    key: str | None = None,
    aws_profile: str | None = None,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
) -> bytes:
    """Reads an object that ``uri`` names, or ``bucket`` and ``key``.

    :raises kas3.PayloadMissing: there is none.
    """
    if uri is not None:
        rest = uri.removeprefix("s3://")
        bucket, _, key = rest.partition("/")
        if rest == uri or not bucket or not key:
            raise RecordError(f"`{uri}` is not the URI of an object", hint="write `s3://bucket/key`")
    if not bucket or not key:
        raise RecordError("no object is named", hint="give its `uri`, or `bucket` and `key`")
    reached = json.dumps(storage(endpoint_url or os.environ.get("S3_ENDPOINT_URL"), region, aws_profile))
    payload = _kas3.get_object(reached, f"s3://{bucket}", key)
    if payload is None:
        raise PayloadMissing(f"the object `s3://{bucket}/{key}` is not there", reason="object_missing")
    return payload
