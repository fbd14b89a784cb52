"""What all consumers share."""

from __future__ import annotations

import json
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import _kas3
from .errors import Error, KafkaException
from .record import Record, TopicPartition, reference_of

logger = logging.getLogger("kas3")

#: Connections come and go, and librdkafka makes new ones: nobody has to do anything about _RESOLVE, _TRANSPORT, _ALL_BROKERS_DOWN.
PASSING = (-193, -195, -187)


class Receiver:
    """The core's consumer, with records as :class:`Record`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.core = _kas3.Consumer(json.dumps(settings))

    def poll(self, timeout: float | None) -> Record | None:
        """The next record; ``None`` when there was none within `timeout` seconds."""
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        while True:
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
                return None
            topic, partition, offset, timestamp, key, headers, payload, reference = got
            return Record(topic, partition, offset, timestamp, key, tuple(headers), payload, reference_of(reference))

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
