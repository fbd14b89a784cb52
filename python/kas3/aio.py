"""Producer and consumer for ``asyncio``.

>>> async with S3Producer(config) as producer:
...     delivery = await producer.produce("orders", payload, key=b"1")
>>> async with S3Consumer(config) as consumer:
...     consumer.subscribe(["orders"])
...     async for record in consumer:
...         await consumer.commit(record)

Everything that waits does so on a thread of its own. Whatever is awaited may be cancelled: a record that was on its way to a
cancelled call is given to the next one, and what was produced is delivered all the same. Hooks and callbacks run on those
threads, not in the event loop. A child of a fork has none of these threads: it makes its own clients.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from . import _kas3, consumer, producer
from ._cluster import ClusterMetadata
from .consumer import OnRebalance
from .errors import Error, FatalError
from .record import BytesLike, Delivery, HeadersLike, Message, Record, TopicPartition

logger = logging.getLogger("kas3")

T = TypeVar("T")

#: Seconds that a thread waits before it looks whether somebody still wants it.
_SLICE = 0.2


class S3Producer:
    """:class:`kas3.S3Producer` for ``asyncio``. Use it from one event loop."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._inner = producer.S3Producer(config)
        # one accepts records in the order of the calls; the other waits for answers, and for the end
        self._accepting = ThreadPoolExecutor(1, "kas3-produce")
        self._serving = ThreadPoolExecutor(1, "kas3-reports")
        self._pump: asyncio.Task[None] | None = None
        self._outstanding = 0
        self._closed = False

    def _here(self) -> None:
        """Refuses what would wait for ever: threads of a closed client, or of the process that this one is a fork of."""
        self._inner._sender.core.outstanding()
        if self._closed:
            raise FatalError("the producer is closed", hint="make a new one")

    async def _run(self, work: Callable[[], T]) -> T:
        self._here()
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._serving, work))

    async def produce(
        self,
        topic: str,
        payload: BytesLike,
        key: BytesLike | str | None = None,
        *,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp: int | None = None,
        content_type: str | None = None,
    ) -> Delivery:
        """Sends a payload and waits until Kafka has its record.

        To have many on their way at once, gather many calls: records leave in the order in which the calls began.

        :raises kas3.Error: why it was not delivered.
        """
        return await (await self.begin(topic, payload, key, headers=headers, partition=partition, timestamp=timestamp, content_type=content_type))

    async def begin(
        self,
        topic: str,
        payload: BytesLike,
        key: BytesLike | str | None = None,
        *,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp: int | None = None,
        content_type: str | None = None,
    ) -> asyncio.Future[Delivery]:
        """Waits only until there is room for a payload; the future tells what became of its record."""
        self._here()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Delivery] = loop.create_future()

        def answered(error: Error | None, delivery: Delivery) -> None:
            loop.call_soon_threadsafe(self._answered, answer, error, delivery)

        accept = functools.partial(
            self._inner.produce,
            topic, payload, key,
            headers=headers, partition=partition, timestamp=timestamp, content_type=content_type, on_delivery=answered,
        )  # fmt: skip
        self._outstanding += 1
        accepting = loop.run_in_executor(self._accepting, accept)
        try:
            await asyncio.shield(accepting)
        except asyncio.CancelledError:
            accepting.add_done_callback(self._abandoned)
            self._ensure_pump()
            raise
        except BaseException:
            self._outstanding -= 1
            raise
        self._ensure_pump()
        return answer

    def _abandoned(self, accepting: asyncio.Future[None]) -> None:
        if not accepting.cancelled() and accepting.exception() is not None:
            self._outstanding -= 1

    def _answered(self, answer: asyncio.Future[Delivery], error: Error | None, delivery: Delivery) -> None:
        self._outstanding -= 1
        if answer.done():
            return
        if error is None:
            answer.set_result(delivery)
        else:
            answer.set_exception(error)
            # who does not ask is told by the log and the hook already
            answer.exception()

    def _ensure_pump(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        while self._outstanding > 0 and not self._closed:
            try:
                await asyncio.get_running_loop().run_in_executor(self._serving, self._inner.poll, _SLICE)
            except Error:
                # who awaits its record hears of it
                logger.debug("while records were answered", exc_info=True)
            except Exception:
                # a callback: the others were called, and records go on being answered
                logger.exception("a callback raised")
            # what was answered is counted by callbacks of the loop
            await asyncio.sleep(0)

    async def flush(self, timeout: float | None = 30.0) -> int:
        """Waits until all records were delivered or have failed; how many are still on their way."""
        return await self._run(lambda: self._inner.flush(timeout))

    async def purge(self, in_queue: bool = True, in_flight: bool = True) -> None:
        """As :meth:`kas3.S3Producer.purge`."""
        await self._run(lambda: self._inner.purge(in_queue, in_flight))
        self._ensure_pump()

    async def list_topics(self, topic: str | None = None, timeout: float = 30.0) -> ClusterMetadata:
        """What the brokers know of ``topic``, or of all topics."""
        return await self._run(lambda: self._inner.list_topics(topic, timeout))

    async def init_transactions(self, timeout: float = 30.0) -> None:
        """Prepares transactions; `transactional.id` must be set in `kafka`."""
        await self._run(lambda: self._inner.init_transactions(timeout))

    async def begin_transaction(self) -> None:
        """Begins a transaction."""
        await self._run(self._inner.begin_transaction)

    async def send_offsets_to_transaction(self, positions: Iterable[Any], group_metadata: _kas3.GroupMetadata, timeout: float = 30.0) -> None:
        """As :meth:`kas3.S3Producer.send_offsets_to_transaction`."""
        await self._run(lambda: self._inner.send_offsets_to_transaction(positions, group_metadata, timeout))

    async def commit_transaction(self, timeout: float = 30.0) -> None:
        """Waits for all uploads and records, and commits them."""
        await self._run(lambda: self._inner.commit_transaction(timeout))

    async def abort_transaction(self, timeout: float = 30.0) -> None:
        """Aborts the transaction."""
        await self._run(lambda: self._inner.abort_transaction(timeout))

    async def close(self, timeout: float | None = 30.0) -> int:
        """Flushes and stops; how many records were not answered in time. Closing again does nothing."""
        if self._closed or self._inner._sender.core.inherited():
            return 0
        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._serving, self._inner.close, timeout))
        finally:
            self._closed = True
            if self._pump is not None:
                self._pump.cancel()
            self._accepting.shutdown(wait=False)
            self._serving.shutdown(wait=False)

    async def __aenter__(self) -> S3Producer:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


class S3Consumer:
    """:class:`kas3.S3Consumer` for ``asyncio``. Rebalance callbacks are plain functions and run on its thread."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._inner = consumer.S3Consumer(config)
        self._polling = ThreadPoolExecutor(1, "kas3-poll")
        self._committing = ThreadPoolExecutor(1, "kas3-commit")
        self._on_its_way: asyncio.Future[Record | None] | None = None
        # what the inner one has handed out may be on its way to nobody yet: only this may be committed
        self._given: dict[tuple[str, int], int] = {}
        self._closed = False

    def _here(self) -> None:
        """Refuses what would wait for ever: threads of a closed client, or of the process that this one is a fork of."""
        self._inner._receiver.core.closed()
        if self._closed:
            raise FatalError("the consumer is closed", hint="make a new one")

    def subscribe(self, topics: Iterable[str], on_assign: OnRebalance = None, on_revoke: OnRebalance = None, on_lost: OnRebalance = None) -> None:
        """Joins the group for ``topics``."""
        self._inner.subscribe(topics, on_assign, on_revoke, on_lost)

    def unsubscribe(self) -> None:
        """Leaves the subscription."""
        self._inner.unsubscribe()

    async def poll_record(self, timeout: float | None = None) -> Record | None:
        """The next record; ``None`` when there was none within ``timeout`` seconds (without one: it waits).

        :raises kas3.DataIntegrityError: its payload cannot be trusted; the record is passed over.
        """
        self._here()
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            left = _SLICE if deadline is None else min(_SLICE, max(0.0, deadline - loop.time()))
            if self._on_its_way is None:
                self._on_its_way = loop.run_in_executor(self._polling, self._inner.poll_record, left)
            try:
                record = await asyncio.shield(self._on_its_way)
            except asyncio.CancelledError:
                # it goes on: the next call takes what it brings
                raise
            except BaseException:
                self._on_its_way = None
                raise
            self._on_its_way = None
            if record is not None:
                self._given[record.topic, record.partition] = record.offset + 1
                return record
            if deadline is not None and loop.time() >= deadline:
                return None

    async def poll(self, timeout: float | None = None) -> bytes | None:
        """The next payload; ``None`` when there was none within ``timeout`` seconds, and for a tombstone."""
        record = await self.poll_record(timeout)
        return None if record is None else record.payload

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def __anext__(self) -> Record:
        """Records for ever."""
        while True:
            record = await self.poll_record()
            if record is not None:
                return record

    async def commit(self, message: Any = None) -> list[TopicPartition]:
        """Commits what was handed out, or ``message`` and what came before it in its partition, and waits for Kafka."""
        if message is not None:
            return await self._run(lambda: self._inner.commit(message, asynchronous=False) or [])
        places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in self._given.items()]
        await self._run(functools.partial(self._inner._commit_places, places))
        return places

    async def consume(self, num_messages: int = 1, timeout: float | None = None) -> list[Message]:
        """Up to ``num_messages`` records: when all came, or ``timeout`` seconds are over."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        got: list[Message] = []
        while len(got) < num_messages:
            try:
                record = await self.poll_record(None if deadline is None else max(0.0, deadline - loop.time()))
            except Error as error:
                if not got:
                    raise
                # it comes with the next call
                self._inner._raised_later = error
                break
            if record is not None:
                got.append(record.message())
            elif deadline is not None and loop.time() >= deadline:
                break
        return got

    async def skip(self) -> TopicPartition | None:
        """Passes over the record that the last call raised for."""
        return await self._run(self._inner.skip)

    async def seek(self, partition: Any) -> None:
        """Reads a partition from its ``offset`` on."""
        await self._drop_on_its_way()
        await self._run(lambda: self._inner.seek(partition))
        self._given.pop((partition.topic, partition.partition), None)

    async def pause(self, partitions: Iterable[Any]) -> None:
        """Hands out no more of these partitions until :meth:`resume`."""
        await self._drop_on_its_way()
        await self._run(lambda: self._inner.pause(partitions))

    async def resume(self, partitions: Iterable[Any]) -> None:
        """Reads paused partitions on."""
        await self._run(lambda: self._inner.resume(partitions))

    async def _drop_on_its_way(self) -> None:
        """A record that lies on the way to nobody is read again."""
        if self._on_its_way is None:
            return
        try:
            record = await asyncio.shield(self._on_its_way)
        except Error as error:
            self._inner._raised_later = error
            record = None
        self._on_its_way = None
        if record is not None:
            await self._run(functools.partial(self._inner.seek, record))

    async def assignment(self) -> list[TopicPartition]:
        """The partitions that this consumer has."""
        return await self._run(self._inner.assignment)

    async def position(self, partitions: Iterable[Any]) -> list[TopicPartition]:
        """For each partition the offset after the newest record that was handed out; -1001 before the first one."""
        names = [(each.topic, each.partition) for each in partitions]
        return [TopicPartition(*name, self._given.get(name, -1001)) for name in names]

    async def committed(self, partitions: Iterable[Any], timeout: float = 30.0) -> list[TopicPartition]:
        """For each partition the offset that the group has committed."""
        return await self._run(lambda: self._inner.committed(partitions, timeout))

    async def offsets_for_times(self, partitions: Iterable[Any], timeout: float = 30.0) -> list[TopicPartition]:
        """As :meth:`kas3.S3Consumer.offsets_for_times`."""
        return await self._run(lambda: self._inner.offsets_for_times(partitions, timeout))

    async def get_watermark_offsets(self, partition: Any, timeout: float = 30.0, cached: bool = False) -> tuple[int, int]:
        """Offset of the oldest record of a partition, and the one after its newest."""
        return await self._run(lambda: self._inner.get_watermark_offsets(partition, timeout, cached))

    async def list_topics(self, topic: str | None = None, timeout: float = 30.0) -> ClusterMetadata:
        """What the brokers know of ``topic``, or of all topics."""
        return await self._run(lambda: self._inner.list_topics(topic, timeout))

    def consumer_group_metadata(self) -> _kas3.GroupMetadata:
        """This consumer's place in its group, for :meth:`S3Producer.send_offsets_to_transaction`."""
        return self._inner.consumer_group_metadata()

    async def _run(self, work: Callable[[], T]) -> T:
        self._here()
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._committing, work))

    async def close(self) -> None:
        """Leaves the group. Closing again does nothing."""
        if self._closed or self._inner._receiver.core.inherited():
            return
        try:
            # nobody has seen it: closing must not commit its offset
            await self._drop_on_its_way()
            await self._run(self._inner.close)
        finally:
            self._closed = True
            self._polling.shutdown(wait=False)
            self._committing.shutdown(wait=False)

    async def __aenter__(self) -> S3Consumer:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
