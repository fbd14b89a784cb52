"""``S3Producer``: that of ``s3_connector``, with uploads beside one another."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from . import _kas3
from ._cluster import ClusterMetadata, cluster_of
from ._sending import OnDelivery, Sender, note, seconds_left
from ._settings import Callbacks, S3Section, number, properties, seconds, sections
from .errors import Error, ForkedError, QueueFull, RecordError
from .record import BytesLike, Delivery, HeadersLike, Reference

logger = logging.getLogger("kas3")


def reference_document(reference: Reference | None) -> dict[str, Any] | None:
    """A reference as ``s3_connector`` writes it, for dead letters."""
    if reference is None:
        return None
    document: dict[str, Any] = {
        "s3_bucket": reference.bucket,
        "s3_key": reference.key,
        "etag": reference.etag,
        "sha256": reference.sha256,
        "compression": reference.compression,
    }
    if reference.shared:
        document["deterministic"] = True
    return document


class S3Producer:
    """Sends payloads of any size: those beyond ``max_inline_bytes`` go to S3, and a reference to each to Kafka.

    :param config: the dictionary of ``s3_connector``, with the sections ``kafka``, ``s3`` and ``hooks``.

    :meth:`produce` does not wait for the upload. Within a topic, records leave in the order of the calls. What became of a
    record is told by ``on_delivery`` and the hook ``metrics``, which run within the calls of :meth:`produce`, :meth:`poll`,
    :meth:`flush` and :meth:`close`, as ``error_cb`` and ``stats_cb`` of the section ``kafka`` do. Every one is called, whatever others
    raise; then the first exception is raised. A payload that the store refused, and for which nobody gave an ``on_delivery``, is raised
    by the next of these calls. It may be shared by threads, and not with the children of a fork: make one in each.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        kafka, s3, hooks = sections(config)
        section = S3Section(s3)
        claim_check = section.to_write()
        self.hooks = hooks
        self.s3_config = s3
        self.s3_bucket, self.s3_prefix = section.bucket, section.prefix
        self.max_inline_bytes: int = claim_check["max_inline_bytes"]
        self.max_payload_bytes = section.max_payload_bytes
        self.produce_timeout = seconds(s3, "produce_timeout", 30.0)
        self.dlq_topic: str | None = kafka.get("dlq_topic") or section.dlq_topic
        told = properties(kafka)
        settings: dict[str, Any] = {"claim_check": claim_check, "kafka": told, "send_timeout_ms": int(self.produce_timeout * 1000)}
        settings["memory_bytes"] = number(s3, "memory_bytes", 256 << 20, 1)
        if s3.get("order"):
            settings["order"] = s3["order"]
        self._on_delivery: OnDelivery | None = kafka.get("on_delivery")
        self._metrics = hooks.get("metrics")
        self._refused: Error | None = None
        callbacks = Callbacks(kafka)
        self._letters = _kas3.Letters(json.dumps(told), callbacks.oauth) if self.dlq_topic else None
        self._sender = Sender(settings, callbacks)

    def produce(
        self,
        topic: str,
        payload: BytesLike,
        key: BytesLike | str | None = None,
        *,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp: int | None = None,
        content_type: str | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Accepts a payload.

        :raises ValueError: it is no bytes, or larger than ``max_payload_bytes``; as :class:`kas3.RecordError`.
        :raises BufferError: there was no room for ``produce_timeout`` seconds; as :class:`kas3.QueueFull`.
        """
        if not isinstance(payload, (bytes, bytearray, memoryview)):
            raise RecordError(f"the payload is a `{type(payload).__name__}`", hint="give bytes")
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        if size > self.max_payload_bytes:
            raise RecordError(
                f"the payload has {size} bytes, more than `max_payload_bytes` ({self.max_payload_bytes})",
                hint="raise `max_payload_bytes` here and at the consumers",
            )
        self._produce(
            topic, payload, size, on_delivery, key=key, headers=headers, partition=partition, timestamp=timestamp, content_type=content_type
        )

    def produce_file(
        self,
        topic: str,
        path: str | os.PathLike[str],
        key: BytesLike | str | None = None,
        *,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp: int | None = None,
        content_type: str | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Accepts a file as payload, which is never held in memory as a whole. It must not change until it is delivered."""
        size = os.stat(path).st_size
        self._produce(
            topic, None, size, on_delivery, path=path, key=key, headers=headers, partition=partition, timestamp=timestamp, content_type=content_type
        )

    def produce_tombstone(
        self, topic: str, key: BytesLike | str, *, headers: HeadersLike = None, partition: int | None = None, on_delivery: OnDelivery | None = None
    ) -> None:
        """Accepts a record without a value: on a compacted topic, the deletion of ``key``."""
        self._produce(topic, None, 0, on_delivery, key=key, headers=headers, partition=partition)

    def _produce(self, topic: str, payload: BytesLike | None, size: int, on_delivery: OnDelivery | None, **parts: Any) -> None:
        try:
            self._sender.serve()
        except ForkedError:
            raise
        except Exception as error:
            note(error, "a callback of an earlier record raised this; the record of this call was not accepted")
            raise
        self._raise_refused("an earlier payload was not sent, and neither was this one")
        on_delivery = on_delivery or self._on_delivery

        def answered(error: Error | None, delivery: Delivery) -> None:
            self._answered(error, delivery, size, on_delivery)

        # somebody listens, or must hear of what the store refuses
        listens = self._metrics is not None or on_delivery is not None or self._letters is not None
        may_fail_silently = size > self.max_inline_bytes or parts.get("path") is not None
        try:
            self._sender.send(topic, payload, answered if listens or may_fail_silently else self._inline_answered, **parts)
        except QueueFull:
            self._emit("produce_queue_full", topic=topic)
            raise

    def _inline_answered(self, error: Error | None, delivery: Delivery) -> None:
        if error is not None:
            self._answered(error, delivery, 0, None)

    def _answered(self, error: Error | None, delivery: Delivery, size: int, on_delivery: OnDelivery | None) -> None:
        reference = delivery.reference
        if reference is not None:
            self._emit("produce_offloaded", topic=delivery.topic(), bytes=size, s3_key=reference.key)
        elif error is None or error.code() is not None:
            self._emit("produce_inline", topic=delivery.topic(), bytes=size)
        if error is None:
            self._emit("produce_delivered", topic=delivery.topic(), partition=delivery.partition(), offset=delivery.offset())
        else:
            self._failed(error, reference, heard=on_delivery is not None)
        if on_delivery is not None:
            on_delivery(error, delivery)

    def _failed(self, error: Error, reference: Reference | None, heard: bool) -> None:
        logger.error("a record was not delivered: %s", error)
        self._emit("produce_error", error=str(error), s3_key=None if reference is None else reference.key)
        if error.code() is None and not heard:
            self._refused = self._refused or error
        if self._letters is None or self.dlq_topic is None:
            return
        try:
            self._letters.send(self.dlq_topic, json.dumps({"error": str(error), "reference": reference_document(reference)}).encode())
        except Error as failure:
            logger.warning("%s", failure)

    def _raise_refused(self, what: str) -> None:
        refused, self._refused = self._refused, None
        if refused is not None:
            note(refused, what)
            raise refused

    def _emit(self, event: str, **data: Any) -> None:
        if self._metrics is not None:
            try:
                self._metrics(event, data)
            except Exception:
                logger.debug("the hook `metrics` failed for %s", event, exc_info=True)

    def poll(self, timeout: float = 0.0) -> int:
        """Serves callbacks, waiting at most ``timeout`` seconds for the first; how many records were answered."""
        served = self._sender.serve(timeout)
        self._raise_refused("an earlier payload was not sent")
        return served

    def flush(self, timeout: float | None = 30.0) -> int:
        """Waits until all records were delivered or have failed, at most ``timeout`` seconds; how many are still on their way."""
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        left = 0
        try:
            left = self._sender.flush(timeout)
        finally:
            if self._letters is not None:
                left += self._letters.flush(seconds_left(deadline))
        self._raise_refused("an earlier payload was not sent")
        return left

    def __len__(self) -> int:
        """Records that were accepted and not answered yet."""
        return self._sender.core.outstanding()

    def __bool__(self) -> bool:
        return True

    def close(self, timeout: float | None = 30.0) -> int:
        """Flushes and stops; how many records were not answered in time. Their payloads stay. In a child of the process that made it
        there is nothing to stop."""
        if self._sender.core.inherited():
            return 0
        try:
            return self.flush(timeout)
        finally:
            left = self._sender.left()
            if left:
                logger.error("%s records were not delivered before the producer was closed", left)
            self._sender.close()

    def purge(self, in_queue: bool = True, in_flight: bool = True) -> None:
        """Gives records up, and calls back for each: ``in_queue`` those that were not sent yet, also while their payloads are on their way
        to the store; ``in_flight`` those that wait for an acknowledgement, which Kafka may have all the same."""
        self._sender.purge(in_queue, in_flight)

    def list_topics(self, topic: str | None = None, timeout: float = 30.0) -> ClusterMetadata:
        """What the brokers know of ``topic``, or of all topics."""
        return cluster_of(self._sender.core.metadata(topic, timeout))

    def init_transactions(self, timeout: float = 30.0) -> None:
        """Prepares transactions; `transactional.id` must be set in `kafka`."""
        self._sender.core.init_transactions(timeout)

    def begin_transaction(self) -> None:
        """Begins a transaction."""
        self._sender.core.begin_transaction()

    def send_offsets_to_transaction(self, positions: Iterable[Any], group_metadata: _kas3.GroupMetadata, timeout: float = 30.0) -> None:
        """Adds what a consumer is done with to the transaction: its group's offsets are committed with the records, or neither are.

        :param positions: partitions with the offsets of the next records to read, as :meth:`kas3.S3Consumer.position` gives them.
        :param group_metadata: of :meth:`kas3.S3Consumer.consumer_group_metadata`. That consumer has ``enable.auto.commit: False``.
        """
        self._sender.send_offsets_to_transaction(positions, group_metadata, timeout)

    def commit_transaction(self, timeout: float = 30.0) -> None:
        """Waits for all uploads and records, and commits them. One whose payload was not stored ends the transaction: abort it."""
        self._ended(lambda: self._sender.core.commit_transaction(timeout), "the transaction was committed")

    def abort_transaction(self, timeout: float = 30.0) -> None:
        """Aborts the transaction. Payloads that were stored for it stay until ``kas3 payloads gc`` finds that no record names them."""
        self._ended(lambda: self._sender.core.abort_transaction(timeout), "the transaction was aborted")

    def _ended(self, end: Callable[[], None], done: str) -> None:
        try:
            end()
        except BaseException:
            # the transaction's own error goes before those of callbacks
            with contextlib.suppress(Exception):
                self._sender.serve()
            raise
        try:
            self._sender.serve()
        except Exception as error:
            note(error, f"a callback raised this; {done}")
            raise

    def __enter__(self) -> S3Producer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except Error:
            # what ended the block says more
            if error is None:
                raise
