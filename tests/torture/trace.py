"""At which step of the protocol a worker died: read from the points that it passed (`KAS3_KILL_TRACE`).

A line is `<microseconds since 1970> <task> <point>`. A task of the worker looks after one partition, so what a task passed last
tells how far the span of that partition was. Uploads and their parts have tasks of their own.
"""

import time
from dataclasses import dataclass

# A task that has passed nothing for so long has ended with its lane: a live one settles within `sink.settle`, far sooner.
QUIET_SECONDS = 2.5
# Steps of a span, in order; a kill in any of them falls between the first staged byte and the settlement.
SPAN_STEPS = ("part", "bundle", "commit", "publish", "published", "settle", "amend")
OTHER_STEPS = ("start", "open", "reading", "reclaim", "report")
MEANINGS = {
    "part": "parts of an upload go up while the file grows",
    "bundle": "the bundle is being put, or lies there and is not committed",
    "commit": "the swap of the head is under way",
    "publish": "committed; files are being completed or put",
    "published": "all files are visible; the head does not say so yet",
    "settle": "the swap that settles is under way",
    "amend": "lost bytes are being made again",
    "start": "nothing was done yet: it starts, joins the group, or was given no partition",
    "open": "ledger and heads are being read or created",
    "reading": "between spans: nothing is staged",
    "reclaim": "useless bytes are being deleted",
    "report": "the consumer group is being told",
}


@dataclass
class Task:
    """What one task passed last."""

    step: str | None = None
    at: float = 0.0
    under_way: int = 0


class Trace:
    """The points that one worker passes, read while it lives and after its death."""

    def __init__(self, path):
        self.path, self._offset, self._rest = path, 0, b""
        self.events = []

    def read(self):
        """Points passed since the last call, as (seconds since 1970, task, point)."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        new = [(int(at) / 1e6, task, point) for at, task, point in (line.decode().split(" ") for line in lines)]
        self.events += new
        return new

    def passed_since(self, moment):
        """Whether a point was passed since a moment (seconds since 1970)."""
        self.read()
        return bool(self.events) and self.events[-1][0] >= moment

    def step(self, died):
        """The step at the moment of death (seconds since 1970): that of the span that moved last, else what else went on."""
        self.read()
        if not self.events:
            return "start"
        tasks, growing, last = {}, 0.0, "open"
        for at, task, point in self.events:
            name, when = point.split(".")
            if name in ("upload", "part"):
                growing = at
            elif name in ("reclaim", "report"):
                last = name if when == "before" else "reading"
            elif name in ("open", "start", "pipeline"):
                last = "open"
            else:
                state = tasks.setdefault(task, Task())
                _pass(state, name, when)
                state.at, last = at, "reading"
        alive = [(state.at, state.step) for state in tasks.values() if state.step]
        if growing:
            alive.append((growing, "part"))
        alive = [each for each in alive if died - each[0] < QUIET_SECONDS]
        return max(alive)[1] if alive else last


def wait_for_point(traces, point, occurrences, seconds, lively_seconds):
    """Waits until one of several workers has passed a point so many times more; returns its place, or None.

    Waits for `seconds`, and for `lively_seconds` once any of them passes any point: then this one is rare.
    """
    left = [occurrences] * len(traces)
    for trace in traces:
        trace.read()
    deadline = time.monotonic() + seconds
    while (now := time.monotonic()) < deadline:
        for number, trace in enumerate(traces):
            passed = trace.read()
            left[number] -= sum(each == point for _, _, each in passed)
            if left[number] <= 0:
                return number
            if passed:
                deadline = min(deadline, now + lively_seconds)
        time.sleep(0.001)
    return None


def _pass(state, name, when):
    """Moves a task on by one point."""
    before = when == "before"
    if name == "bundle":
        state.step = "bundle"
    elif name == "commit":
        state.step, state.under_way = ("commit" if before else "publish"), 0
    elif name in ("put", "complete"):
        state.under_way += 1 if before else -1
        state.step = "publish" if state.under_way > 0 else "published"
    elif name == "settle":
        state.step = "settle" if before else None
    elif name == "advance" and not before:
        state.step = None
    elif name == "amend":
        state.step = "amend" if before else "publish"
