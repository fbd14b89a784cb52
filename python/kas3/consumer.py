"""``S3Consumer``: that of ``s3_connector``, with payloads read ahead beside one another."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from . import _kas3
from ._cluster import ClusterMetadata, cluster_of
from ._receiving import Receiver
from ._settings import Callbacks, S3Section, number, properties, sections, truth
from .errors import Error, IntegrityError, RecordError, make_config
from .record import Message, Record, StreamedRecord, TopicPartition

logger = logging.getLogger("kas3")

#: Called with the consumer and the partitions in question.
OnRebalance = Callable[["S3Consumer", list[TopicPartition]], None] | None

_INLINE_NOT_ALLOWED, _OBJECT_MISSING = "inline_not_allowed", "object_missing"


class S3Consumer:
    """Reads payloads wherever they are, and verifies each before it hands it out.

    :param config: the dictionary of ``s3_connector``, with the sections ``kafka``, ``s3`` and ``hooks``.

    Beside the references of ``s3_connector`` it takes those that a header marks, as :class:`kas3.KafS3Producer` writes them. A
    record whose payload cannot be trusted is raised once, told to the dead letters, and passed over; one whose payload cannot be
    had for now (no permission, no answer) is raised by every call until it can be had, or until :meth:`skip`. One thread polls.
    Children of a fork make their own.

    With ``stream_above_bytes`` in section ``s3``, larger payloads are not read ahead and never in memory as a whole: :meth:`poll_record`
    gives a :class:`kas3.StreamedRecord`, which is read from its ``open()``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        kafka, s3, hooks = sections(config)
        if not kafka.get("group.id"):
            raise make_config("no `group.id` is named in section `kafka`", "name the consumer group")
        section = S3Section(s3)
        self.hooks = hooks
        self.s3_config = s3
        self.s3_bucket, self.expected_prefix = section.bucket, section.prefix
        self.max_payload_bytes = section.max_payload_bytes
        self.auto_commit = truth(kafka.get("enable.auto.commit"), True)
        self.delete_after_consume = truth(s3.get("delete_after_consume"))
        self.dlq_topic: str | None = kafka.get("dlq_topic") or section.dlq_topic
        self.dlq_max_raw_bytes = number(s3, "dlq_max_raw_bytes", 16 << 10, 0)
        self.dlq_max_record_bytes = number(s3, "dlq_max_record_bytes", 512 << 10, 1)
        if self.delete_after_consume and self.auto_commit:
            raise make_config(
                "`delete_after_consume` needs `enable.auto.commit: False`",
                "commit after processing: with automatic commits a payload could go before its record is processed",
            )
        told = properties(kafka)
        settings: dict[str, Any] = {"claim_check": section.claim_check(), "kafka": told}
        settings["delete"] = {"after_commit": self.delete_after_consume, "other_groups": list(s3.get("delete_after_groups") or [])}
        settings["memory_bytes"] = number(s3, "memory_bytes", 256 << 20, 1)
        settings["prefetch"] = number(s3, "prefetch", 256, 1)
        self._metrics, self._skipped = hooks.get("metrics"), hooks.get("skipped")
        if s3.get("stream_above_bytes") is not None:
            settings["stream_above_bytes"] = number(s3, "stream_above_bytes", 0, 0)
        callbacks = Callbacks(kafka)
        self._letters = _kas3.Letters(json.dumps(told), callbacks.oauth) if self.dlq_topic else None
        self._receiver = Receiver(settings, callbacks)
        self._listeners: dict[str, OnRebalance] = {}
        # what a record raised that came behind others of one call
        self._raised_later: Exception | None = None

    def subscribe(self, topics: Iterable[str], on_assign: OnRebalance = None, on_revoke: OnRebalance = None, on_lost: OnRebalance = None) -> None:
        """Joins the group for ``topics``. The callbacks run within :meth:`poll` and :meth:`close`, with this consumer and the
        partitions; in ``on_revoke`` offsets can still be committed. What they raise, :meth:`poll` raises."""
        self._listeners = {"assigned": on_assign, "revoked": on_revoke, "lost": on_lost}
        self._receiver.subscribe(topics, self._rebalanced)

    def unsubscribe(self) -> None:
        """Leaves the subscription. Partitions are given back within the next calls of :meth:`poll`, which tell ``on_revoke``."""
        self._receiver.core.unsubscribe()

    def _rebalanced(self, event: str, partitions: list[TopicPartition]) -> None:
        listener = self._listeners.get(event)
        if listener is not None:
            listener(self, partitions)

    def poll(self, timeout: float = 1.0) -> bytes | None:
        """The next payload. ``None`` when there was none within ``timeout`` seconds, and for a record that was skipped: the hook
        ``skipped`` hears of those.

        :raises kas3.DataIntegrityError: the payload cannot be trusted; the record is passed over.
        """
        record = self._next(timeout)
        if record is None:
            return None
        if isinstance(record, StreamedRecord):
            with record.open() as file:
                return file.read()
        if record.payload is None:
            self._skip("tombstone", record.topic)
        return record.payload

    def poll_record(self, timeout: float = 1.0) -> Record | None:
        """The same with key, headers, topic, partition, offset and timestamp. A tombstone is a record without a payload."""
        return self._next(timeout)

    def consume(self, num_messages: int = 1, timeout: float | None = None) -> list[Message]:
        """Up to ``num_messages`` records, as ``confluent_kafka.Consumer.consume`` gives them: when all came, or ``timeout`` seconds are
        over (none, or a negative number: it waits for all). What :meth:`poll` raises for is raised when it is the first one; behind
        others it waits for the next call.
        """
        if num_messages < 0:
            raise RecordError(f"{num_messages} records cannot be had", hint="ask for 0 or more")
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        got: list[Message] = []
        while len(got) < num_messages:
            left = 1.0 if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                record = self._next(min(left, 1.0))
            except Exception as error:
                if not got:
                    raise
                self._raised_later = error
                break
            if record is not None:
                got.append(record.message())
            elif deadline is not None and time.monotonic() >= deadline:
                break
        return got

    def __iter__(self) -> Iterator[Record]:
        """Records for ever, as :meth:`poll_record` gives them."""
        while True:
            record = self._next(1.0)
            if record is not None:
                yield record

    def _next(self, timeout: float | None) -> Record | None:
        later, self._raised_later = self._raised_later, None
        if later is not None:
            raise later
        try:
            record = self._receiver.poll(timeout)
        except Error as error:
            if error.topic is None or error.reason is None:
                raise
            self._refused(error)
            return None
        if isinstance(record, StreamedRecord):
            key = None if record.reference is None else record.reference.key
            self._emit("consume_success", topic=record.topic, bytes=record.reader.size, s3_key=key)
        elif record is not None and record.payload is not None:
            if record.reference is None:
                self._emit("consume_inline", topic=record.topic, bytes=len(record.payload))
            else:
                self._emit("consume_success", topic=record.topic, bytes=len(record.payload), s3_key=record.reference.key)
        return record

    def _refused(self, error: Error) -> None:
        """Skips a record that is of no use to anybody; raises for the others."""
        document = _document(error.value)
        if error.reason == _OBJECT_MISSING:
            self._receiver.core.skip()
            self._skip("object_missing", error.topic, reference=document)
        elif error.reason == _INLINE_NOT_ALLOWED:
            self._receiver.core.skip()
            if document is None:
                self._skip("malformed_message", error.topic, raw=error.value)
            else:
                self._skip("missing_key", error.topic, reference=document)
        elif isinstance(error, IntegrityError):
            self._receiver.core.skip()
            self._dead_letter(str(error), document, None)
            self._emit("consume_integrity_error", reason=error.reason)
            raise error
        else:
            raise error

    def _skip(self, reason: str, topic: str | None, reference: dict[str, Any] | None = None, raw: bytes | None = None) -> None:
        logger.warning("a record of `%s` is skipped: %s", topic, reason)
        self._dead_letter(reason, reference, raw)
        self._emit("consume_skipped", topic=topic, reason=reason)
        if self._skipped is not None:
            try:
                self._skipped(reason, {"topic": topic, "reference": reference})
            except Exception:
                logger.debug("the hook `skipped` failed for %s", reason, exc_info=True)

    def _dead_letter(self, error: str, reference: dict[str, Any] | None, raw: bytes | None) -> None:
        if self._letters is None or self.dlq_topic is None:
            return
        letter: dict[str, Any] = {"error": error}
        if reference is not None:
            letter["reference"] = reference
        try:
            self._letters.send(self.dlq_topic, self._fitting(letter, raw))
        except Error as failure:
            logger.warning("%s", failure)

    def _fitting(self, letter: dict[str, Any], raw: bytes | None) -> bytes:
        """The letter with as much of the record as its bounds allow: bytes that are no text grow in JSON."""
        if raw is None:
            return json.dumps(letter).encode()
        keep = min(len(raw), self.dlq_max_raw_bytes)
        while True:
            letter["raw"] = raw[:keep].decode("utf-8", errors="replace")
            if keep < len(raw):
                letter["raw_truncated"] = True
            encoded = json.dumps(letter).encode()
            if len(encoded) <= self.dlq_max_record_bytes or keep == 0:
                return encoded
            keep //= 2

    def skip(self) -> TopicPartition | None:
        """Passes over the record that :meth:`poll` raised for: its offset counts as consumed."""
        skipped = self._receiver.core.skip()
        return None if skipped is None else TopicPartition(*skipped)

    def commit(self, message: Any = None, asynchronous: bool = True, offsets: Iterable[Any] | None = None) -> list[TopicPartition] | None:
        """Commits the offsets of all that was handed out (with ``enable.auto.offset.store: False``: of all that was stored), or of
        ``message`` and what came before it in its partition: a :class:`Record`, or a message of ``confluent_kafka``; or ``offsets``,
        partitions with the offsets of the next records to read. Then deletes payloads where ``delete_after_consume`` is set, for
        which it waits for Kafka's answer. What was committed; ``None`` when ``asynchronous``."""
        if message is not None and offsets is not None:
            raise RecordError("a commit names a `message` and `offsets`", hint="give one of them")
        if message is not None or offsets is not None:
            places = [_after(message)] if offsets is None else _places(offsets)
            self._receiver.core.commit_offsets(places, asynchronous)
            return None if asynchronous else places
        committed = self._receiver.commit(asynchronous)
        return None if asynchronous else committed

    def _commit_places(self, places: list[TopicPartition]) -> None:
        self._receiver.core.commit_offsets([(place.topic, place.partition, place.offset) for place in places])

    def store_offsets(self, message: Any = None, offsets: Iterable[Any] | None = None) -> None:
        """Says what the next commit commits, by hand: ``message`` and what came before it in its partition, or ``offsets`` of the next
        records to read. Needs ``enable.auto.offset.store: False``."""
        if (message is None) == (offsets is None):
            raise RecordError("offsets are stored of a `message` or of `offsets`", hint="give one of them")
        self._receiver.core.store_offsets([_after(message)] if offsets is None else _places(offsets))

    def pause(self, partitions: Iterable[Any]) -> None:
        """Hands out no more of these partitions until :meth:`resume`; the group keeps them here, as long as :meth:`poll` is called."""
        self._receiver.core.pause(_names(partitions))

    def resume(self, partitions: Iterable[Any]) -> None:
        """Reads paused partitions on, from where they were."""
        self._receiver.core.resume(_names(partitions))

    def position(self, partitions: Iterable[Any]) -> list[TopicPartition]:
        """For each partition the offset after the newest record that was handed out; -1001 before the first one."""
        names = _names(partitions)
        return [TopicPartition(*name, offset) for name, offset in zip(names, self._receiver.core.position(names))]

    def committed(self, partitions: Iterable[Any], timeout: float = 30.0) -> list[TopicPartition]:
        """For each partition the offset that the group has committed; -1001 where there is none."""
        names = _names(partitions)
        return [TopicPartition(*name, offset) for name, offset in zip(names, self._receiver.core.committed(names, timeout))]

    def offsets_for_times(self, partitions: Iterable[Any], timeout: float = 30.0) -> list[TopicPartition]:
        """For each partition, with a time (milliseconds since 1970) for its ``offset``: the offset of the first record from then on; -1
        where there is none."""
        times = [(each.topic, each.partition, each.offset) for each in partitions]
        known = self._receiver.core.offsets_for_times(times, timeout)
        return [TopicPartition(topic, partition, offset) for (topic, partition, _), offset in zip(times, known)]

    def get_watermark_offsets(self, partition: Any, timeout: float = 30.0, cached: bool = False) -> tuple[int, int]:
        """Offset of the oldest record of a partition, and the one after its newest. ``cached``: as the last fetch told, without asking;
        -1001 for what it did not."""
        if cached:
            return self._receiver.core.cached_watermarks(partition.topic, partition.partition)
        return self._receiver.core.watermarks(partition.topic, partition.partition, timeout)

    def list_topics(self, topic: str | None = None, timeout: float = 30.0) -> ClusterMetadata:
        """What the brokers know of ``topic``, or of all topics."""
        return cluster_of(self._receiver.core.metadata(topic, timeout))

    def consumer_group_metadata(self) -> _kas3.GroupMetadata:
        """This consumer's place in its group, for :meth:`kas3.S3Producer.send_offsets_to_transaction`."""
        return self._receiver.core.group_metadata()

    def assignment(self) -> list[TopicPartition]:
        """The partitions that this consumer has."""
        return [TopicPartition(*place) for place in self._receiver.core.assignment()]

    def assign(self, partitions: Iterable[Any]) -> None:
        """Takes partitions, each from its ``offset`` if it names one, as :class:`TopicPartition` or those of ``confluent_kafka``."""
        self._receiver.core.assign([(each.topic, each.partition, each.offset) for each in partitions])

    def unassign(self) -> None:
        """Gives up all partitions."""
        self._receiver.core.assign([])

    def seek(self, partition: Any) -> None:
        """Reads a partition from its ``offset`` on."""
        self._receiver.core.seek(partition.topic, partition.partition, partition.offset)

    def close(self) -> None:
        """Sends what is left for the dead letters and leaves the group. Payloads whose offsets were not committed are kept. In a child of
        the process that made it there is nothing to leave."""
        if self._receiver.core.inherited() or self._receiver.core.closed():
            return
        if self._letters is not None:
            left = self._letters.flush(30.0)
            if left:
                logger.error("%s dead letters were not delivered before the consumer was closed", left)
        self._receiver.core.close()

    def _emit(self, event: str, **data: Any) -> None:
        if self._metrics is not None:
            try:
                self._metrics(event, data)
            except Exception:
                logger.debug("the hook `metrics` failed for %s", event, exc_info=True)

    def __enter__(self) -> S3Consumer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _names(partitions: Iterable[Any]) -> list[tuple[str, int]]:
    return [(each.topic, each.partition) for each in partitions]


def _places(partitions: Iterable[Any]) -> list[TopicPartition]:
    return [TopicPartition(each.topic, each.partition, each.offset) for each in partitions]


def _after(message: Any) -> TopicPartition:
    """Where reading goes on behind a record."""
    return TopicPartition(_part(message, "topic"), _part(message, "partition"), _part(message, "offset") + 1)


def _part(message: Any, name: str) -> Any:
    part = getattr(message, name)
    return part() if callable(part) else part


def _document(value: bytes | None) -> dict[str, Any] | None:
    """A value as a JSON object."""
    try:
        document = json.loads(value or b"")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
