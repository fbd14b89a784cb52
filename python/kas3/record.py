"""What producers and consumers hand out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import Error, RecordError

#: A header's value: bytes, text (sent as UTF-8), or nothing.
HeaderValue = bytes | bytearray | memoryview | str | None
#: Headers as they are given: a mapping, or pairs where a name may occur again.
HeadersLike = Mapping[str, HeaderValue] | Iterable[tuple[str, HeaderValue]] | None
#: A payload or a key.
BytesLike = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Reference:
    """Where the payload of a record lies."""

    bucket: str
    key: str
    size: int | None
    sha256: str | None
    etag: str | None
    compression: str | None
    content_type: str | None
    encryption: str | None
    #: Other records may name the same object.
    shared: bool

    @property
    def url(self) -> str:
        """``s3://bucket/key``."""
        return f"{self.bucket}/{self.key}" if "://" in self.bucket else f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Record:
    """A record with its payload. ``payload`` is ``None`` for a tombstone: on a compacted topic, the deletion of its key."""

    topic: str
    partition: int
    offset: int
    #: Milliseconds since 1970.
    timestamp: int | None
    key: bytes | None
    #: Those of its sender; what marks references is taken out.
    headers: tuple[tuple[str, bytes | None], ...]
    payload: bytes | None
    #: Where the payload lay; ``None`` when it was in the record.
    reference: Reference | None

    @property
    def value(self) -> bytes | None:
        """The payload, under the name that Kafka has for it."""
        return self.payload

    def header(self, name: str) -> bytes | None:
        """The newest value under ``name``."""
        return next((value for key, value in reversed(self.headers) if key == name), None)


class TopicPartition(NamedTuple):
    """A partition, and an offset in it; -1001 when there is none to name."""

    topic: str
    partition: int
    offset: int = -1001


class Delivery:
    """What became of a record, as ``on_delivery(err, msg)`` hears it: methods are those of ``confluent_kafka.Message``."""

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        headers: list[tuple[str, bytes | None]] | None,
        timestamp: int | None,
        reference: Reference | None,
        error: Error | None,
    ) -> None:
        self._topic, self._partition, self._offset, self._key = topic, partition, offset, key
        self._headers, self._timestamp, self._error = headers, timestamp, error
        #: Where the payload was stored; ``None`` when it is in the record.
        self.reference = reference

    def topic(self) -> str:
        """Topic."""
        return self._topic

    def partition(self) -> int:
        """Partition; -1 when the record was not delivered."""
        return self._partition

    def offset(self) -> int:
        """Offset; -1 when the record was not delivered, or with ``acks=0``."""
        return self._offset

    def key(self) -> bytes | None:
        """Key."""
        return self._key

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Headers as they were given."""
        return self._headers

    def timestamp(self) -> int | None:
        """Timestamp as it was given, in milliseconds since 1970."""
        return self._timestamp

    def error(self) -> Error | None:
        """Why it was not delivered."""
        return self._error


def reference_of(fields: dict[str, Any] | None) -> Reference | None:
    """A reference as the core tells it."""
    return None if fields is None else Reference(**fields)


def bytes_of(what: str, value: BytesLike | str | None) -> bytes | None:
    """A key or a header's value as bytes."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise RecordError(f"{what} is a `{type(value).__name__}`", hint="give bytes or text")


def headers_of(headers: HeadersLike) -> list[tuple[str, bytes | None]] | None:
    """Headers as pairs of text and bytes."""
    if not headers:
        return None
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, bytes_of(f"header `{name}`", value)) for name, value in pairs]
