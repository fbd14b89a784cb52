"""The claim check in ``confluent_kafka``'s ``SerializingProducer`` and ``DeserializingConsumer``."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from .claims import ClaimCheck
from .errors import RecordError
from .record import HeadersLike, bytes_of

T = TypeVar("T")


class Context(Protocol):
    """``confluent_kafka.serialization.SerializationContext``."""

    topic: Any
    headers: Any


class _Marks:
    """The mark of a reference in the headers of a caller.

    ``SerializingProducer.produce`` hands the caller's own headers to Kafka's client, right after the serializer has returned, and takes
    no others: a mark can reach its record only through them. So it is put in, and taken out again when nobody needs it any more: when
    the value is gone that it belongs to, and the context that named the headers. In ``SerializingProducer`` both are gone when
    ``produce`` returns.
    """

    #: By the identity of headers: what is in them now. Headers may be used again before an exception's traceback lets go of the last.
    _within: weakref.WeakValueDictionary[int, _Marks] = weakref.WeakValueDictionary()

    def __init__(self, headers: list[Any] | dict[str, Any], marks: list[tuple[str, bytes | None]]) -> None:
        self._headers, self._marks = headers, marks
        if isinstance(headers, list):
            headers.extend(marks)
        else:
            headers.update(marks)
        self._within[id(headers)] = self

    @classmethod
    def take_out_of(cls, headers: Any) -> None:
        """Takes out what an earlier record has left."""
        known = cls._within.pop(id(headers), None)
        if known is not None:
            known.take_out()

    def take_out(self) -> None:
        """Leaves the headers as the caller gave them."""
        marks, self._marks = self._marks, []
        for mark in marks:
            if isinstance(self._headers, list):
                # this one, and no equal one of the caller's
                at = next((at for at, header in enumerate(self._headers) if header is mark), None)
                if at is not None:
                    del self._headers[at]
            elif self._headers.get(mark[0]) is mark[1]:
                del self._headers[mark[0]]

    def __del__(self) -> None:
        self.take_out()


class _Value(bytes):
    """A reference, as long as whose life its mark is in the headers."""

    marks: _Marks


class ClaimCheckSerializer(Generic[T]):
    """A ``value.serializer`` that offloads what is too large for a record.

    :param claims: where payloads go.
    :param serializer: makes bytes of what is produced, as any of ``confluent_kafka``'s; none for bytes.

    Formats that mark their references by a header need a list or dictionary to add it to: produce with ``headers=[]`` at least. The mark
    is in it only until ``produce`` returns; then the headers are as they were given, and may be given again.
    """

    def __init__(self, claims: ClaimCheck, serializer: Callable[[T, Any], bytes | None] | None = None) -> None:
        self.claims, self.serializer = claims, serializer

    def __call__(self, value: T | None, ctx: Context | None = None) -> bytes | None:
        payload: Any = value if self.serializer is None or value is None else self.serializer(value, ctx)
        if payload is None:
            return None
        payload = bytes_of("the payload", payload)
        headers: HeadersLike = None if ctx is None else ctx.headers
        _Marks.take_out_of(headers)
        self.claims.check_headers(headers)
        sent = self.claims.offload(payload, "" if ctx is None else ctx.topic or "")
        if not sent.headers:
            return sent.value
        if not isinstance(headers, (list, dict)):
            self.claims.delete(sent.value, sent.headers)
            raise RecordError(
                "the record has no headers to which the mark of its reference could be added",
                hint="produce with `headers=[]`, or choose a format without marks: `format='kaf-s3-connector'`",
            )
        marked = _Value(sent.value)
        marked.marks = _Marks(headers, sent.headers)
        # a caller that makes something else of the value has the context still
        with contextlib.suppress(AttributeError):
            setattr(ctx, "_kas3_marks", marked.marks)
        return marked


class ClaimCheckDeserializer(Generic[T]):
    """A ``value.deserializer`` that brings payloads back, verified.

    :param claims: where payloads may lie.
    :param deserializer: makes objects of bytes, as any of ``confluent_kafka``'s; without one, values are bytes.
    """

    def __init__(self, claims: ClaimCheck, deserializer: Callable[[bytes, Any], T] | None = None) -> None:
        self.claims, self.deserializer = claims, deserializer

    def __call__(self, value: bytes | None, ctx: Context | None = None) -> T | bytes | None:
        payload = self.claims.resolve(value, None if ctx is None else ctx.headers)
        if payload is None or self.deserializer is None:
            return payload
        return self.deserializer(payload, ctx)
