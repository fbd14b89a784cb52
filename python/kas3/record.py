"""What producers and consumers hand out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import _kas3
from .errors import Error, RecordError

#: Kinds of timestamps, as ``confluent_kafka`` numbers them.
TIMESTAMP_NOT_AVAILABLE, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME = 0, 1, 2
#: What is read ahead of a payload's reader.
STREAM_BUFFER_BYTES = 1 << 20

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
    #: Whose time ``timestamp`` is: ``TIMESTAMP_CREATE_TIME`` the sender's, ``TIMESTAMP_LOG_APPEND_TIME`` the broker's.
    timestamp_type: int = TIMESTAMP_CREATE_TIME

    @property
    def value(self) -> bytes | None:
        """The payload, under the name that Kafka has for it."""
        return self.payload

    def header(self, name: str) -> bytes | None:
        """The newest value under ``name``."""
        return next((value for key, value in reversed(self.headers) if key == name), None)

    def open(self) -> io.BufferedIOBase:
        """The payload as a file, however large it is: with ``stream_above_bytes`` large ones are never in memory as a whole.

        :raises kas3.RecordError: a tombstone has none.
        """
        if self.payload is None:
            raise RecordError("the record has no payload: it is a tombstone", hint="look at `record.payload` first")
        return io.BytesIO(self.payload)

    def message(self) -> Message:
        """The same with the methods of ``confluent_kafka.Message``."""
        return Message(self)


class TopicPartition(NamedTuple):
    """A partition, and an offset in it; -1001 when there is none to name."""

    topic: str
    partition: int
    offset: int = -1001


class PayloadReader(io.RawIOBase):
    """A payload that is read piece by piece: no more than a few pieces of it are in memory. What was read is verified together with all
    before it; one that is not what was sent raises :class:`kas3.IntegrityError` in the middle, and is then to be thrown away.

    It can be read to its end after the consumer was closed, from one thread, and once.
    """

    def __init__(self, core: _kas3.PayloadFile) -> None:
        self._core = core

    @property
    def size(self) -> int | None:
        """Bytes of the payload, when its reference says so."""
        return self._core.size()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as there is something; 0 at the end."""
        if self.closed:
            raise ValueError("the payload is closed")
        with memoryview(buffer).cast("B") as view:
            read = self._core.read(len(view))
            view[: len(read)] = read
        return len(read)

    def close(self) -> None:
        """Lets go of what was not read."""
        if not self.closed:
            self._core.close()
        super().close()


class StreamedRecord(Record):
    """A record whose payload is larger than ``stream_above_bytes``: it is read from :meth:`Record.open`, and nowhere as a whole."""

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int | None,
        key: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...],
        reader: PayloadReader,
        reference: Reference | None,
        timestamp_type: int = TIMESTAMP_CREATE_TIME,
    ) -> None:
        told = {"topic": topic, "partition": partition, "offset": offset, "timestamp": timestamp, "key": key, "headers": headers}
        for name, value in {**told, "reader": reader, "reference": reference, "timestamp_type": timestamp_type}.items():
            object.__setattr__(self, name, value)

    #: What :meth:`open` reads from.
    reader: PayloadReader

    @property
    def payload(self) -> bytes | None:
        """Not to be had as a whole.

        :raises kas3.RecordError: read it from :meth:`open`.
        """
        raise RecordError("the payload of this record is a stream", hint="read it: `with record.open() as file: …`")

    def open(self) -> io.BufferedReader:
        """The payload as a file, once."""
        return io.BufferedReader(self.reader, STREAM_BUFFER_BYTES)

    def __repr__(self) -> str:
        return f"StreamedRecord(topic={self.topic!r}, partition={self.partition}, offset={self.offset}, key={self.key!r})"

    __eq__, __hash__ = object.__eq__, object.__hash__


class Message:
    """A record as ``confluent_kafka.Message`` has it: the same methods, and ``reference`` and :meth:`open`."""

    def __init__(self, record: Record) -> None:
        self._record = record
        #: Where the payload lay; ``None`` when it was in the record.
        self.reference = record.reference

    def topic(self) -> str:
        """Topic."""
        return self._record.topic

    def partition(self) -> int:
        """Partition."""
        return self._record.partition

    def offset(self) -> int:
        """Offset."""
        return self._record.offset

    def key(self) -> bytes | None:
        """Key."""
        return self._record.key

    def value(self) -> bytes | None:
        """The payload, wherever it was; ``None`` for a tombstone."""
        return self._record.payload

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Headers of its sender; ``None`` when there are none."""
        return list(self._record.headers) or None

    def timestamp(self) -> tuple[int, int]:
        """Kind and time: ``(TIMESTAMP_CREATE_TIME or TIMESTAMP_LOG_APPEND_TIME, milliseconds since 1970)``, or
        ``(TIMESTAMP_NOT_AVAILABLE, 0)``."""
        return _timestamp(self._record.timestamp, self._record.timestamp_type)

    def error(self) -> Error | None:
        """None: a record that cannot be had is raised."""
        return None

    def open(self) -> io.BufferedIOBase:
        """The payload as a file."""
        return self._record.open()

    def __len__(self) -> int:
        return len(self._record.payload or b"")

    def __bool__(self) -> bool:
        return True


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

    def value(self) -> None:
        """Payloads are not kept until their records are answered."""

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Headers as they were given."""
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        """Kind and time: ``(TIMESTAMP_CREATE_TIME, milliseconds since 1970)``, or ``(TIMESTAMP_NOT_AVAILABLE, 0)``."""
        return _timestamp(self._timestamp)

    def error(self) -> Error | None:
        """Why it was not delivered."""
        return self._error


def _timestamp(milliseconds: int | None, kind: int = TIMESTAMP_CREATE_TIME) -> tuple[int, int]:
    return (TIMESTAMP_NOT_AVAILABLE, 0) if milliseconds is None else (kind, milliseconds)


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
