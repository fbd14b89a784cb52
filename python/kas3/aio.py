"""Producer and consumer for ``asyncio``.

>>> async with S3Producer(config) as producer:
...     delivery = await producer.produce("orders", payload, key=b"1")
>>> async with S3Consumer(config) as consumer:
...     consumer.subscribe(["orders"])
...     async for record in consumer:
...         await consumer.commit(record)

Everything that waits does so on a thread of its own. Whatever is awaited may be cancelled: a record that was on its way to a
cancelled call is given to the next one, and what was produced is delivered all the same. Hooks and callbacks run on those
threads, not in the event loop.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from . import consumer, producer
from .consumer import OnRebalance
from .errors import Error
from .record import BytesLike, Delivery, HeadersLike, Record, TopicPartition

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
        while self._outstanding > 0:
            await asyncio.get_running_loop().run_in_executor(self._serving, self._inner.poll, _SLICE)
            # what was answered is counted by callbacks of the loop
            await asyncio.sleep(0)

    async def flush(self, timeout: float | None = 30.0) -> int:
        """Waits until all records were delivered or have failed; how many are still on their way."""
        return await asyncio.get_running_loop().run_in_executor(self._serving, self._inner.flush, timeout)

    async def close(self, timeout: float | None = 30.0) -> int:
        """Flushes and stops; how many records were not answered in time."""
        left = await asyncio.get_running_loop().run_in_executor(self._serving, self._inner.close, timeout)
        if self._pump is not None:
            self._pump.cancel()
        self._accepting.shutdown(wait=False)
        self._serving.shutdown(wait=False)
        return left

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

    def subscribe(self, topics: Iterable[str], on_assign: OnRebalance = None, on_revoke: OnRebalance = None, on_lost: OnRebalance = None) -> None:
        """Joins the group for ``topics``."""
        self._inner.subscribe(topics, on_assign, on_revoke, on_lost)

    async def poll_record(self, timeout: float | None = None) -> Record | None:
        """The next record; ``None`` when there was none within ``timeout`` seconds (without one: it waits).

        :raises kas3.DataIntegrityError: its payload cannot be trusted; the record is passed over.
        """
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

    async def skip(self) -> TopicPartition | None:
        """Passes over the record that the last call raised for."""
        return await self._run(self._inner.skip)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._committing, work))

    async def close(self) -> None:
        """Leaves the group."""
        if self._on_its_way is not None:
            try:
                record = await self._on_its_way
            except Error:
                record = None
            if record is not None:
                # nobody has seen it: closing must not commit its offset
                await self._run(functools.partial(self._inner.seek, record))
        await self._run(self._inner.close)
        self._polling.shutdown(wait=False)
        self._committing.shutdown(wait=False)

    async def __aenter__(self) -> S3Consumer:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
