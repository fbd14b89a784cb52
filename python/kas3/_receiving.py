"""What all consumers share."""

from __future__ import annotations

import json
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import _kas3
from ._sending import raise_first
from ._settings import Callbacks
from .errors import Error, KafkaException
from .record import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    PayloadReader,
    Record,
    StreamedRecord,
    TopicPartition,
    reference_of,
)

logger = logging.getLogger("kas3")

#: Connections come and go, and librdkafka makes new ones: nobody has to do anything about _RESOLVE, _TRANSPORT, _ALL_BROKERS_DOWN.
PASSING = (-193, -195, -187)


class Receiver:
    """The core's consumer, with records as :class:`Record`."""

    def __init__(self, settings: Mapping[str, Any], callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self.core = _kas3.Consumer(json.dumps(settings), list(callbacks.named), callbacks.oauth)

    def poll(self, timeout: float | None) -> Record | None:
        """The next record; ``None`` when there was none within `timeout` seconds."""
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        while True:
            self.serve()
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                got = self.core.poll(left)
            except Error as error:
                if not isinstance(error, KafkaException) or error.topic is not None or error.code() not in PASSING:
                    raise
                logger.warning("%s", error)
                if left is not None and left <= 0:
                    return None
                continue
            if got is None:
                self.serve()
                if left is not None and time.monotonic() < (deadline or 0.0):
                    # only an event ended it
                    continue
                if left is None and self._callbacks.named:
                    continue
                return None
            return record_of(got)

    def serve(self) -> None:
        """Calls back for what the client said.

        :raises Exception: the first that a callback raised, after all were called.
        """
        failures: list[Exception] = []
        self._callbacks.serve(self.core, failures)
        raise_first(failures)

    def subscribe(self, topics: Iterable[str], on_event: Callable[[str, list[TopicPartition]], None] | None) -> None:
        """Joins the group; `on_event` hears of ``assigned``, ``revoked`` and ``lost`` within :meth:`poll`."""
        if isinstance(topics, str):
            raise TypeError("the topics are a `str`: give a list of names")
        if on_event is None:
            self.core.subscribe(list(topics))
            return
        # the core would keep its owner alive for ever: there is no way for a garbage collector to look into it
        held: Callable[[], Callable[[str, list[TopicPartition]], None] | None]
        held = weakref.WeakMethod(on_event) if hasattr(on_event, "__self__") else lambda: on_event

        def listener(event: str, places: list[tuple[str, int, int]]) -> None:
            hears = held()
            if hears is not None:
                hears(event, [TopicPartition(*place) for place in places])

        self.core.subscribe(list(topics), listener)

    def commit(self, in_background: bool) -> list[TopicPartition]:
        """Commits what was handed out."""
        return [TopicPartition(*place) for place in self.core.commit(in_background)]


def record_of(got: _kas3.Received) -> Record:
    """A record as the core tells it."""
    topic, partition, offset, timestamp, appended, key, headers, payload, reference = got
    kind = TIMESTAMP_LOG_APPEND_TIME if appended else TIMESTAMP_CREATE_TIME
    if isinstance(payload, _kas3.PayloadFile):
        reader = PayloadReader(payload)
        return StreamedRecord(topic, partition, offset, timestamp, key, tuple(headers), reader, reference_of(reference), kind)
    return Record(topic, partition, offset, timestamp, key, tuple(headers), payload, reference_of(reference), kind)
