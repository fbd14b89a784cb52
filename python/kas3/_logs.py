"""The core's log, in Python's ``logging``: logger ``kas3``."""

from __future__ import annotations

import atexit
import logging

from . import _kas3

logger = logging.getLogger("kas3")


def level() -> int:
    """The level from which the logger takes lines: those below are not made."""
    return logger.getEffectiveLevel()


def emit(level: int, target: str, message: str, created: float) -> None:
    """A line of the core or of librdkafka, with the time at which it was made."""
    if not logger.isEnabledFor(level):
        return
    record = logger.makeRecord(logger.name, level, target, 0, "%s: %s", (target, message), None)
    record.created, record.msecs = created, created % 1 * 1000
    logger.handle(record)


def _at_exit() -> None:
    _kas3.hand_over_logs()


# the core does not call back while the interpreter goes: what came since the last call is told before
atexit.register(_at_exit)
