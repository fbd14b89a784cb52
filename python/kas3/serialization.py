"""The claim check in ``confluent_kafka``'s ``SerializingProducer`` and ``DeserializingConsumer``."""

from __future__ import annotations

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


class ClaimCheckSerializer(Generic[T]):
    """A ``value.serializer`` that offloads what is too large for a record.

    :param claims: where payloads go.
    :param serializer: makes bytes of what is produced, as any of ``confluent_kafka``'s; none for bytes.

    Formats that mark their references by a header need a list or dictionary to add it to: produce with ``headers=[]`` at least.
    """

    def __init__(self, claims: ClaimCheck, serializer: Callable[[T, Any], bytes | None] | None = None) -> None:
        self.claims, self.serializer = claims, serializer

    def __call__(self, value: T | None, ctx: Context | None = None) -> bytes | None:
        payload: Any = value if self.serializer is None or value is None else self.serializer(value, ctx)
        if payload is None:
            return None
        payload = bytes_of("the payload", payload)
        headers: HeadersLike = None if ctx is None else ctx.headers
        self.claims.check_headers(headers)
        sent = self.claims.offload(payload, "" if ctx is None else ctx.topic or "")
        if not sent.headers:
            return sent.value
        if isinstance(headers, list):
            headers.extend(sent.headers)
        elif isinstance(headers, dict):
            headers.update(sent.headers)
        else:
            self.claims.delete(sent.value, sent.headers)
            raise RecordError(
                "the record has no headers to which the mark of its reference could be added",
                hint="produce with `headers=[]`, or choose a format without marks: `format='kaf-s3-connector'`",
            )
        return sent.value


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
