"""Exceptions: a class for each thing that the caller does about it.

Every one is an :class:`Error`. What came from Kafka's client is a :class:`KafkaException` besides, and where the program has
imported ``confluent_kafka`` one of its ``KafkaException`` too, with the same codes, so that handlers written for it go on working.
"""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar

_OfClient = tuple[int, str | None, bool, bool, bool]
#: The type, where a method of that name is in sight.
_str = str


class Error(Exception):
    """An error of kas3: what happened, why, and the way out.

    Exceptions that a consumer raises for a record carry ``topic``, ``partition``, ``offset``, ``key``, ``value``, ``headers``
    and ``reference`` as they stand in Kafka; those of a delivery carry ``certain``: whether Kafka certainly has no such record.
    :meth:`code`, :meth:`name`, :meth:`str`, :meth:`fatal`, :meth:`retriable` and :meth:`txn_requires_abort` are those of
    ``confluent_kafka.KafkaError``. All of it survives pickling and copying.
    """

    kind: ClassVar[_str] = "fatal"

    topic: _str | None = None
    partition: int | None = None
    offset: int | None = None
    key: bytes | None = None
    value: bytes | None = None
    headers: list[tuple[_str, bytes | None]] | None = None
    reference: dict[_str, Any] | None = None
    certain: bool = True

    #: Code of Kafka's client, its name, and whether it is fatal, may be tried again, ends the transaction.
    _of_client: _OfClient | None = None

    def __init__(self, message: _str, reason: _str | None = None, hint: _str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.hint = hint
        if hint and sys.version_info >= (3, 11):
            self.add_note(f"hint: {hint}")

    def __str__(self) -> _str:
        return f"{self.reason}: {self.message}" if self.reason else self.message

    def code(self) -> int | None:
        """The code of Kafka's client, as ``confluent_kafka.KafkaError`` names them; ``None`` when it was not Kafka."""
        return None if self._of_client is None else self._of_client[0]

    def name(self) -> _str:
        """The name of that code, as ``UNKNOWN_TOPIC_OR_PART`` or ``_MSG_TIMED_OUT``; else ``reason``, or the kind of error."""
        if self._of_client is not None and self._of_client[1]:
            return self._of_client[1]
        return self.reason or self.kind

    def str(self) -> _str:
        """What happened."""
        return self.__str__()

    def fatal(self) -> bool:
        """Whether the client cannot go on."""
        return isinstance(self, FatalError) if self._of_client is None else self._of_client[2]

    def retriable(self) -> bool:
        """Whether the same may go well when it is tried again."""
        return isinstance(self, TransientError) if self._of_client is None else self._of_client[3]

    def txn_requires_abort(self) -> bool:
        """Whether the transaction can only be aborted."""
        return self._of_client is not None and self._of_client[4]

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("message", "reason", "hint", "_of_client")}
        return _again, (self._class(), self.message, self.reason, self.hint, self._of_client), state

    def _class(self) -> type[Error]:
        """The class as it is named in a module: those that are also ``confluent_kafka``'s are made anew where they are needed."""
        return next(each for each in type(self).__mro__ if each not in _MADE)


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


class ForkedError(FatalError):
    """The client was made before a fork, and is used in the child: its threads and connections stayed with the parent."""


class KafkaException(Error):
    """Comes from Kafka's client; :meth:`Error.code` and :meth:`Error.name` say what."""


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
#: The classes of ``_of_kafka``: no module names them.
_MADE: set[type] = set()


def make(kind: str, message: str, reason: str | None, hint: str | None, of_client: _OfClient | None) -> Error:
    """The exception for an error of the core."""
    chosen = _REASONS.get(reason or "") or _KINDS[kind]
    if of_client is not None and of_client[0] == _QUEUE_FULL:
        chosen = QueueFull
    return _again(chosen, message, reason, hint, of_client)


def make_forked(what: str, process: int) -> ForkedError:
    """The exception for what is asked of an inherited client."""
    return ForkedError(
        f"the {what} was made in process {process} and is used in process {os.getpid()}, a fork of it: "
        "its threads and connections stayed with the parent",
        hint="make it in the child: in gunicorn's `post_fork`, in the `initializer` of a `multiprocessing` pool, after `os.fork()`",
    )


def _again(chosen: type[Error], message: str, reason: str | None, hint: str | None, of_client: _OfClient | None) -> Error:
    """An exception of a class of this module; what came from Kafka's client is also a :class:`KafkaException`."""
    if of_client is None:
        return chosen(message, reason, hint)
    # whoever can catch their exceptions has imported them
    confluent = sys.modules.get("confluent_kafka")
    of_kafka = _of_kafka.get((chosen, confluent is not None))
    if of_kafka is None:
        bases = (chosen, KafkaException) + ((confluent.KafkaException,) if confluent is not None else ())
        of_kafka = type(f"Kafka{chosen.__name__}", bases, {"__doc__": chosen.__doc__, "__module__": __name__})
        _of_kafka[chosen, confluent is not None] = of_kafka
        _MADE.add(of_kafka)
    error = of_kafka(message, reason, hint)
    error._of_client = of_client
    if confluent is not None:
        code, _, fatal, retriable, abort = of_client
        error.args = (confluent.KafkaError(code, message, fatal, retriable, abort),)
    return error


def make_config(message: str, hint: str) -> ConfigError:
    """A wrong setting, and the way out."""
    return ConfigError(message, hint=hint)
