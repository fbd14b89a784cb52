"""The codec: payloads in, values and headers out, and back, for whoever has a Kafka client already."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from . import _kas3
from ._settings import storage
from .errors import RecordError
from .record import BytesLike, HeadersLike, Reference, bytes_of, headers_of, reference_of


class Offloaded(NamedTuple):
    """What goes to Kafka."""

    #: Value of the record.
    value: bytes
    #: Headers to add to the record's.
    headers: list[tuple[str, bytes | None]]
    #: Where the payload lies; ``None`` when it is in the value.
    reference: Reference | None


class ClaimCheck:
    """A claim check around a client of your own. It may be shared by threads, and be used in the children of a fork, which make
    connections of their own; pickled, it is made anew from its settings.

    :param url: where payloads go, as ``s3://bucket/prefix`` or ``file:///folder``.
    :param endpoint_url: of an S3-compatible store; by default AWS, or ``AWS_ENDPOINT_URL``.
    :param settings: any other setting of the claim check, as ``format``, ``accept``, ``compression`` (``none``, ``gzip``,
        ``zstd``), ``keys`` (a template, as ``{topic}/{uuid}``), ``max_inline_bytes``, ``max_payload_bytes``, ``read_from``,
        ``ttl_seconds``, ``uploads``, ``require_integrity``, ``allow_inline_payloads``.

    >>> claims = kas3.ClaimCheck("s3://payloads/orders")
    >>> value, headers, reference = claims.offload(bytes(5_000_000), topic="orders")
    >>> claims.resolve(value, headers) == bytes(5_000_000)
    True
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        storage_settings: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self._settings = json.dumps({"url": url, "storage": storage(endpoint_url, region, profile, storage_settings), **settings})
        self._core = _kas3.ClaimCheck(self._settings)

    def __getstate__(self) -> str:
        return self._settings

    def __setstate__(self, settings: str) -> None:
        self._settings = settings
        self._core = _kas3.ClaimCheck(settings)

    @property
    def url(self) -> str:
        """Where payloads are written."""
        return self._core.url()

    def offload(
        self, payload: BytesLike, topic: str = "", *, content_type: str | None = None, room: int | None = None, always: bool = False
    ) -> Offloaded:
        """Stores a payload if it is too large for its record, and says what the record holds.

        :param room: bytes that the record has for its value, where less than ``max_inline_bytes``.
        :param always: store it however small it is.
        """
        told = bytes_of("the payload", payload)
        if told is None:
            raise RecordError("the payload is `None`", hint="send a record without a value as it is: it holds no claim")
        value, headers, reference = self._core.offload(told, topic=topic, content_type=content_type, room=room, always=always)
        return Offloaded(value, headers, reference_of(reference))

    def offload_file(self, path: str | os.PathLike[str], topic: str = "", *, content_type: str | None = None, always: bool = False) -> Offloaded:
        """The same for a file, which is never held in memory as a whole."""
        value, headers, reference = self._core.offload_file(path, topic=topic, content_type=content_type, always=always)
        return Offloaded(value, headers, reference_of(reference))

    def resolve(self, value: BytesLike | None, headers: HeadersLike = None) -> bytes | None:
        """The payload of a record, verified; ``None`` for a tombstone.

        :raises kas3.IntegrityError: it cannot be trusted.
        :raises kas3.PayloadMissing: it is gone.
        """
        return self._core.resolve(bytes_of("the value", value), headers_of(headers))

    def delete(self, value: BytesLike | None, headers: HeadersLike = None) -> bool:
        """Deletes the payload of a record, unless others may share it; whether it did."""
        return self._core.delete(bytes_of("the value", value), headers_of(headers))

    def check_headers(self, headers: HeadersLike) -> None:
        """Refuses headers that mark references: no record of a user may carry them."""
        self._core.check_headers(headers_of(headers) or [])

    def headers_of_user(self, headers: HeadersLike) -> list[tuple[str, bytes | None]]:
        """Headers without those that mark references: what a record's sender gave it."""
        return self._core.headers_of_user(headers_of(headers) or [])
