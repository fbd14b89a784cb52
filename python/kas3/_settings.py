"""From the dictionaries of users to the settings of the core."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from . import _kas3
from .errors import ConfigError, make_config
from .record import TopicPartition

logger = logging.getLogger("kas3")

GIB = 1 << 30
MAX_INLINE_BYTES = 900_000
MAX_PAYLOAD_BYTES = 5 * GIB
SINGLE_PUT_BYTES_MAX = 5 * GIB
MULTIPART_THRESHOLD = 8 << 20

#: Formats of references that ``S3Consumer`` takes: that of ``s3_connector``, and all that no payload can be mistaken for.
ACCEPT = ["kas3", "bakdata", "irori", "kaf-s3-connector"]

#: Settings of the core that the section `s3` may name as they are.
_OF_CORE = ("accept", "inline_header", "keys", "level", "uploads", "read_from")
_KNOWN = {
    "bucket", "url", "prefix", "region_name", "endpoint_url", "storage", "profile_name", "format", "compression", "max_inline_bytes",
    "max_payload_bytes", "deterministic_keys", "multipart_threshold", "produce_timeout", "ttl_seconds", "server_side_encryption",
    "sse_kms_key_id", "delete_after_consume", "delete_after_groups", "allow_inline_payloads", "require_integrity", "dlq_topic",
    "dlq_max_raw_bytes", "dlq_max_record_bytes", "memory_bytes", "order", "prefetch", "stream_above_bytes", *_OF_CORE,
}  # fmt: skip


#: Callbacks that run within the calls of their client; `oauth_cb` runs where librdkafka asks for a token.
_CALLBACKS = ("error_cb", "stats_cb", "on_commit")
#: What the section `kafka` may name besides librdkafka's properties.
NO_PROPERTIES = ("dlq_topic", "on_delivery", "oauth_cb", *_CALLBACKS)


class Callbacks:
    """The callbacks of section ``kafka``, and what waits for them: one that raises, or is torn from its work, costs the others nothing."""

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        self.named: dict[str, Callable[..., Any]] = {name: kafka[name] for name in _CALLBACKS if kafka.get(name) is not None}
        self.oauth: Callable[[str], tuple[Any, ...]] | None = kafka.get("oauth_cb")
        for name in (*_CALLBACKS, "oauth_cb"):
            if kafka.get(name) is not None and not callable(kafka[name]):
                raise make_config(f"`{name}` is a `{type(kafka[name]).__name__}`", "name a function")
        self._waiting: deque[tuple[Any, ...]] = deque()

    def serve(self, core: _kas3.Producer | _kas3.Consumer, failures: list[Exception]) -> None:
        """Calls back for what a client said. What callbacks raise is kept for who raises it."""
        if not self.named:
            return
        core.events(self._waiting)
        while self._waiting:
            name, *told = self._waiting.popleft()
            if name == "on_commit":
                told[1] = [TopicPartition(*place) for place in told[1]]
            try:
                self.named[name](*told)
            except Exception as error:
                failures.append(error)


def truth(value: Any, default: bool = False) -> bool:
    """A setting that is a truth value, or the text of one."""
    if value is None:
        return default
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "yes", "on")
    return bool(value)


def properties(kafka: Mapping[str, Any]) -> dict[str, str]:
    """librdkafka's properties as text. What is ours is taken out."""
    told: dict[str, str] = {}
    for name, value in kafka.items():
        if name in NO_PROPERTIES or value is None:
            continue
        if name == "logger":
            raise make_config("`logger` names a logger, and kas3 has one", 'leave it out of `kafka`: librdkafka logs to `logging.getLogger("kas3")`')
        if callable(value):
            raise make_config(f"`{name}` is a callback of confluent_kafka, which kas3 does not call", "leave it out of `kafka`")
        if isinstance(value, Mapping):
            # `default.topic.config`: librdkafka takes properties of topics beside the others
            told.update(properties(value))
            continue
        told[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return told


def storage(endpoint: str | None, region: str | None, profile: str | None = None, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How the store is reached. An endpoint without TLS is meant when it is written so."""
    told: dict[str, Any] = {}
    if endpoint:
        told["endpoint"] = endpoint
    if region:
        told["region"] = region
    if profile:
        told["profile"] = profile
    of_environment = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if urlsplit(endpoint or of_environment).scheme == "http":
        told["allow_http"] = True
    told.update(extra or {})
    return told


def number(section: Mapping[str, Any], name: str, default: int, least: int) -> int:
    """A whole number that is not below `least`."""
    value = section.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise make_config(f"`{name}` is `{value!r}`", f"name a whole number from {least} on")
    return value


def seconds(section: Mapping[str, Any], name: str, default: float) -> float:
    """A time that is not negative."""
    value = section.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise make_config(f"`{name}` is `{value!r}`", "name seconds, from 0 on")
    return float(value)


class S3Section:
    """The section `s3` of ``s3_connector``'s dictionary, looked at."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        for name in section.keys() - _KNOWN:
            logger.warning("setting `%s` of section `s3` is not known, and does nothing", name)
        self.section = section
        self.prefix = (section.get("prefix") or "").rstrip("/")
        if section.get("prefix") and not self.prefix:
            raise make_config("`prefix` is nothing but slashes", "name a folder, or leave it out")
        self.bucket, self.url = self._place()
        self.format: str = section.get("format") or "kaf-s3-connector"
        self.max_payload_bytes = number(section, "max_payload_bytes", MAX_PAYLOAD_BYTES, 1)
        self.dlq_topic: str | None = section.get("dlq_topic")

    def _place(self) -> tuple[str, str]:
        url, bucket = self.section.get("url"), self.section.get("bucket")
        if url:
            return bucket or url, f"{url.rstrip('/')}/{self.prefix}".rstrip("/")
        if not isinstance(bucket, str) or not bucket.strip():
            raise make_config("no `bucket` is named in section `s3`", "name it; no bucket has a default name")
        if bucket != bucket.strip():
            raise make_config(f"`bucket` is `{bucket}`, with space around it", "write it without")
        return bucket, f"s3://{bucket}/{self.prefix}".rstrip("/")

    def _accepted(self) -> list[str]:
        if self.format == "bakdata-value":
            # it looks at the first byte of every value: the core knows what it can stand beside
            return []
        return ACCEPT if self.format in ACCEPT else [self.format, *ACCEPT]

    def claim_check(self) -> dict[str, Any]:
        """What producer and consumer share."""
        section = self.section
        told: dict[str, Any] = {
            "url": self.url,
            "storage": storage(section.get("endpoint_url"), section.get("region_name"), section.get("profile_name"), section.get("storage")),
            "format": self.format,
            "accept": self._accepted(),
            "max_payload_bytes": self.max_payload_bytes,
            "max_inline_bytes": min(MAX_INLINE_BYTES, self.max_payload_bytes),
            "require_integrity": truth(section.get("require_integrity"), True),
            "allow_inline_payloads": truth(section.get("allow_inline_payloads"), True),
        }
        told.update({name: section[name] for name in _OF_CORE if section.get(name) is not None})
        return told

    def to_write(self) -> dict[str, Any]:
        """What a producer is told besides."""
        section, told = self.section, self.claim_check()
        inline = number(section, "max_inline_bytes", MAX_INLINE_BYTES, 0)
        if inline > self.max_payload_bytes:
            raise make_config(
                f"`max_inline_bytes` ({inline}) is more than `max_payload_bytes` ({self.max_payload_bytes})", "lower the one or raise the other"
            )
        told["max_inline_bytes"] = inline
        threshold = number(section, "multipart_threshold", MULTIPART_THRESHOLD, 1)
        if threshold > SINGLE_PUT_BYTES_MAX:
            raise make_config(f"`multipart_threshold` is {threshold}", f"S3 takes at most {SINGLE_PUT_BYTES_MAX} bytes in one piece")
        told["multipart_bytes"] = threshold
        if truth(section.get("deterministic_keys")):
            told["keys"] = "{sha256}"
        compression = section.get("compression") or None
        if compression not in (None, "gzip") and not (compression == "zstd" and self.format == "kas3"):
            raise make_config(f"`compression` is `{compression}`", "`gzip`, with `format: kas3` also `zstd`, or none")
        told["compression"] = compression or "none"
        if section.get("ttl_seconds") is not None:
            told["ttl_seconds"] = number({"ttl_seconds": int(section["ttl_seconds"])}, "ttl_seconds", 1, 1)
        self._encryption(told["storage"])
        return told

    def _encryption(self, told: dict[str, Any]) -> None:
        sse, key = self.section.get("server_side_encryption") or None, self.section.get("sse_kms_key_id") or None
        if sse not in (None, "AES256", "aws:kms"):
            raise make_config(f"`server_side_encryption` is `{sse}`", "`AES256` or `aws:kms`")
        if key and sse != "aws:kms":
            raise make_config("`sse_kms_key_id` is named without `server_side_encryption: aws:kms`", "add it")
        if sse:
            told["sse"] = sse
        if key:
            told["sse_kms_key_id"] = key


def sections(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    """The sections `kafka`, `s3` and `hooks`."""
    if not isinstance(config, Mapping):
        raise ConfigError("the configuration is no dictionary", hint='give `{"kafka": {…}, "s3": {…}}`')
    return config.get("kafka") or {}, config.get("s3") or {}, config.get("hooks") or {}
