"""What all producers share: records go to the core, and what became of them comes back on the caller's own thread."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from . import _kas3
from .errors import Error
from .record import BytesLike, Delivery, HeadersLike, bytes_of, headers_of, reference_of

#: Called with why a record was not delivered, or ``None``, and with the record.
OnDelivery = Callable[[Error | None, Delivery], None]
_Waiting = tuple[OnDelivery, bytes | None, list[tuple[str, bytes | None]] | None, int | None]


class Sender:
    """The core's producer, and who waits for which report. Callbacks run within the caller's calls, never beside them."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.core = _kas3.Producer(json.dumps(settings))
        self._tokens = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}

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
        """Calls back for what was answered, waiting for the first answer; how many there were."""
        reports = self.core.reports(timeout)
        for token, error, topic, partition, offset, reference in reports:
            waiting = self._waiting.pop(token, None)
            if waiting is not None:
                on_delivery, key, headers, timestamp = waiting
                on_delivery(error, Delivery(topic, partition, offset, key, headers, timestamp, reference_of(reference), error))
        return len(reports)

    def flush(self, timeout: float | None) -> int:
        """Waits until everything was answered and told, also what callbacks sent; how much was not."""
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        while True:
            left = self.core.flush(None if deadline is None else max(0.0, deadline - time.monotonic()))
            self.serve()
            if left or not self.core.outstanding():
                return left

    def close(self) -> None:
        """Stops. What was not answered is given up."""
        self.core.close()


def seconds_left(deadline: float | None) -> float | None:
    """Until a deadline, or for ever."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
