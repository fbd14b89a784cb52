"""Exceptions: a class for each thing that the caller does about it.

Every one is an :class:`Error`. What came from Kafka's client is a :class:`KafkaException` besides, and where the program has
imported ``confluent_kafka`` one of its ``KafkaException`` too, with the same codes, so that handlers written for it go on working.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar


class Error(Exception):
    """An error of kas3: what happened, why, and the way out.

    Exceptions that a consumer raises for a record carry ``topic``, ``partition``, ``offset``, ``key``, ``value``, ``headers``
    and ``reference`` as they stand in Kafka; those of a delivery carry ``certain``: whether Kafka certainly has no such record.
    """

    kind: ClassVar[str] = "fatal"

    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    key: bytes | None = None
    value: bytes | None = None
    headers: list[tuple[str, bytes | None]] | None = None
    reference: dict[str, Any] | None = None
    certain: bool = True

    def __init__(self, message: str, reason: str | None = None, hint: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.hint = hint
        self._code = code
        if hint and sys.version_info >= (3, 11):
            self.add_note(f"hint: {hint}")

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.reason else self.message

    def code(self) -> int | None:
        """The code of Kafka's client, as ``confluent_kafka.KafkaError`` names them; ``None`` when it was not Kafka."""
        return self._code


class ConfigError(Error, ValueError):
    """A setting is wrong; nothing was started."""

    kind = "config"


class RecordError(Error, ValueError):
    """A record that was to be sent does not fit: too large, or it carries what is ours. Nothing was sent."""

    kind = "record"


class IntegrityError(Error):
    """A record that was read, or the payload that it names, cannot be trusted; ``reason`` is the fixed code of why."""

    kind = "integrity"


#: The name that ``s3_connector`` has for :class:`IntegrityError`.
DataIntegrityError = IntegrityError


class MissingError(Error):
    """What is asked for is not there: a bucket, a topic."""

    kind = "missing"


class PayloadMissing(MissingError):
    """The payload is gone (404)."""


class DeniedError(Error):
    """No permission."""

    kind = "denied"


class PayloadDenied(DeniedError):
    """The payload may not be read (403)."""


class TransientError(Error):
    """It may go well when tried again."""

    kind = "transient"


class QueueFull(TransientError, BufferError):
    """Payloads on their way to the store, or records on their way to Kafka, filled their room, and no place came free in time."""


class FatalError(Error):
    """The client cannot go on."""


class KafkaException(Error):
    """Comes from Kafka's client; :meth:`Error.code` says what."""


_KINDS: dict[str, type[Error]] = {
    "config": ConfigError,
    "record": RecordError,
    "integrity": IntegrityError,
    "missing": MissingError,
    "denied": DeniedError,
    "transient": TransientError,
    "queue_full": QueueFull,
    "fatal": FatalError,
}
_REASONS: dict[str, type[Error]] = {"object_missing": PayloadMissing, "object_forbidden": PayloadDenied}
_QUEUE_FULL = -184
_of_kafka: dict[tuple[type[Error], bool], type[Error]] = {}


def make(kind: str, message: str, reason: str | None, hint: str | None, code: int | None) -> Error:
    """The exception for an error of the core."""
    chosen = _REASONS.get(reason or "") or _KINDS[kind]
    if code is None:
        return chosen(message, reason, hint)
    if code == _QUEUE_FULL:
        chosen = QueueFull
    # whoever can catch their exceptions has imported them
    confluent = sys.modules.get("confluent_kafka")
    of_kafka = _of_kafka.get((chosen, confluent is not None))
    if of_kafka is None:
        bases = (chosen, KafkaException) + ((confluent.KafkaException,) if confluent is not None else ())
        of_kafka = type(f"Kafka{chosen.__name__}", bases, {"__doc__": chosen.__doc__, "__module__": __name__})
        _of_kafka[chosen, confluent is not None] = of_kafka
    error = of_kafka(message, reason, hint, code)
    if confluent is not None:
        error.args = (confluent.KafkaError(code, message),)
    return error


def make_config(message: str, hint: str) -> ConfigError:
    """A wrong setting, and the way out."""
    return ConfigError(message, hint=hint)
