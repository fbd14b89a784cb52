"""What all producers share: records go to the core, and what became of them comes back on the caller's own thread."""

from __future__ import annotations

import atexit
import itertools
import json
import logging
import os
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import _kas3
from ._settings import Callbacks
from .errors import Error
from .record import BytesLike, Delivery, HeadersLike, TopicPartition, bytes_of, headers_of, reference_of

logger = logging.getLogger("kas3")

#: Called with why a record was not delivered, or ``None``, and with the record.
OnDelivery = Callable[[Error | None, Delivery], None]
_Waiting = tuple[OnDelivery, bytes | None, list[tuple[str, bytes | None]] | None, int | None]

#: Producers of which records may be on their way when the process ends.
_open: weakref.WeakSet[Sender] = weakref.WeakSet()


def raise_first(failures: list[Exception]) -> None:
    """Raises what a callback raised, after all were called; of further ones it says how many there were."""
    if not failures:
        return
    first = failures[0]
    if len(failures) > 1:
        note(first, f"{len(failures) - 1} further calls of callbacks raised as well")
        for other in failures[1:]:
            logger.error("a callback raised", exc_info=other)
    raise first


def note(error: BaseException, text: str) -> None:
    """Adds a note where Python has such."""
    if hasattr(error, "add_note"):
        error.add_note(text)


class Sender:
    """The core's producer, and who waits for which report. Callbacks run within the caller's calls, never beside them. Each is called,
    whatever others raise: the first exception is raised when all were."""

    def __init__(self, settings: Mapping[str, Any], callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self.core = _kas3.Producer(json.dumps(settings), list(callbacks.named), callbacks.oauth)
        self._tokens = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        # reports that left the core: one that a signal tears from its callbacks leaves the others here
        self._reports: deque[_kas3.Report] = deque()
        _open.add(self)

    def send(
        self,
        topic: str,
        payload: BytesLike | None,
        on_delivery: OnDelivery | None,
        *,
        path: str | os.PathLike[str] | None = None,
        key: BytesLike | str | None = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp: int | None = None,
        content_type: str | None = None,
    ) -> None:
        """Accepts a record; waits only for room."""
        its_key, its_headers = bytes_of("the key", key), headers_of(headers)
        token = None
        if on_delivery is not None:
            token = next(self._tokens)
            self._waiting[token] = (on_delivery, its_key, its_headers, timestamp)
        try:
            self.core.send(
                topic,
                bytes_of("the payload", payload),
                path=None if path is None else os.fspath(path),
                key=its_key,
                headers=its_headers,
                partition=None if partition is None or partition < 0 else partition,
                timestamp=timestamp or None,
                content_type=content_type,
                token=token,
            )
        except BaseException:
            if token is not None:
                self._waiting.pop(token, None)
            raise

    def serve(self, timeout: float = 0.0) -> int:
        """Calls back for what was answered, waiting for the first answer; how many there were.

        :raises Exception: the first that a callback raised, after all were called.
        """
        failures: list[Exception] = []
        served = self._serve(timeout, failures)
        raise_first(failures)
        return served

    def _serve(self, timeout: float, failures: list[Exception]) -> int:
        self.core.reports(self._reports, timeout)
        self._callbacks.serve(self.core, failures)
        served = 0
        while self._reports:
            try:
                token, error, topic, partition, offset, timestamp, reference = self._reports.popleft()
            except IndexError:
                # another thread has taken the last one
                break
            served += 1
            waiting = self._waiting.pop(token, None)
            if waiting is None:
                continue
            on_delivery, key, headers, given = waiting
            try:
                delivery = Delivery(topic, partition, offset, key, headers, timestamp or given, reference_of(reference), error)
                on_delivery(error, delivery)
            except Exception as failure:
                failures.append(failure)
        return served

    def flush(self, timeout: float | None) -> int:
        """Waits until everything was answered and told, also what callbacks sent; how much was not.

        :raises Exception: the first that a callback raised, after all were called.
        """
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        failures: list[Exception] = []
        while True:
            left = self.core.flush(seconds_left(deadline))
            self._serve(0.0, failures)
            if left or not self.core.outstanding():
                break
        raise_first(failures)
        return left

    def close(self) -> None:
        """Stops. What was not answered is given up, and its callbacks are told nothing more."""
        self.core.close()
        _open.discard(self)

    def purge(self, in_queue: bool, in_flight: bool) -> None:
        """Gives records up; each is reported."""
        self.core.purge(in_queue, in_flight)

    def send_offsets_to_transaction(self, positions: Iterable[Any], group_metadata: _kas3.GroupMetadata, timeout: float) -> None:
        """Adds a consumer's offsets to the transaction."""
        places = [TopicPartition(each.topic, each.partition, each.offset) for each in positions]
        self.core.send_offsets_to_transaction([place for place in places if place.offset >= 0], group_metadata, timeout)

    def left(self) -> int:
        """Records that nobody waited for: not answered, of a producer that was not closed."""
        if self.core.inherited() or self.core.closed():
            return 0
        return self.core.outstanding()

    def __del__(self) -> None:
        # of one whose making failed there is nothing
        if not hasattr(self, "_reports"):
            return
        left = self.left()
        if left:
            logger.warning(_LEFT, left)
            warnings.warn(_LEFT % left, ResourceWarning, source=self, stacklevel=2)


_LEFT = "a producer goes with %s records that were not delivered yet: call `flush()` or `close()` before, or use it in a `with` block"


def _at_exit() -> None:
    for sender in list(_open):
        left = sender.left()
        if left:
            logger.warning(_LEFT, left)
            _open.discard(sender)


# before Python tears down what logs
atexit.register(_at_exit)


def seconds_left(deadline: float | None) -> float | None:
    """Until a deadline, or for ever."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
