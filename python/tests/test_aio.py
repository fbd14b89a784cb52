"""The variants for asyncio."""

import asyncio

import pytest

import kas3
from kas3 import aio


def test_many_payloads_go_at_once_in_order_and_come_back(world):
    async def run():
        async with aio.S3Producer(world.producer()) as producer:
            deliveries = await asyncio.gather(*(producer.produce(world.topic, bytes(1_000_000 + number), str(number)) for number in range(10)))
        async with aio.S3Consumer(world.consumer()) as consumer:
            consumer.subscribe([world.topic])
            records = []
            async for record in consumer:
                records.append(record)
                if len(records) == 10:
                    break
            assert await consumer.poll(0.1) is None
        return deliveries, records

    deliveries, records = asyncio.run(run())
    assert [delivery.offset() for delivery in deliveries] == list(range(10))
    assert [(record.key, len(record.payload)) for record in records] == [(str(number).encode(), 1_000_000 + number) for number in range(10)]


def test_a_cancelled_poll_loses_no_record_and_commits_none_that_nobody_saw(world):
    config = world.consumer(kafka={"enable.auto.commit": False})

    async def run():
        async with aio.S3Consumer(config) as consumer:
            consumer.subscribe([world.topic])
            waiting = asyncio.create_task(consumer.poll_record())
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(world.put, b"1")
            assert (await consumer.poll_record()).payload == b"1"
            await asyncio.to_thread(world.put, b"2")
            # until the record lies on the way to nobody
            waiting = asyncio.create_task(consumer.poll_record())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            if consumer._on_its_way is not None:
                await asyncio.wait([consumer._on_its_way])
            assert [place.offset for place in await consumer.commit()] == [1]
            assert (await consumer.poll_record()).payload == b"2"

    asyncio.run(run())
    assert world.committed(config["kafka"]["group.id"]) == 1


def test_closing_gives_back_a_record_that_nobody_saw(world):
    config = world.consumer()

    async def cancelled():
        async with aio.S3Consumer(config) as consumer:
            consumer.subscribe([world.topic])
            assert (await consumer.poll_record()).payload == b"1"
            while True:
                waiting = asyncio.create_task(consumer.poll_record())
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                await asyncio.wait([consumer._on_its_way])
                if consumer._on_its_way.result() is not None:
                    return

    async def again():
        async with aio.S3Consumer(config) as consumer:
            consumer.subscribe([world.topic])
            return [(await consumer.poll_record()).payload for _ in range(2)]

    world.put(b"1")
    world.put(b"2")
    asyncio.run(cancelled())
    world.put(b"3")
    got = asyncio.run(again())
    assert b"2" in got


def test_errors_come_to_who_awaits(world):
    async def run():
        async with aio.S3Producer(world.producer(endpoint_url="http://127.0.0.1:1", storage={"max_attempts": 1})) as producer:
            with pytest.raises(kas3.TransientError):
                await producer.produce(world.topic, bytes(1_000_000))
            with pytest.raises(kas3.RecordError):
                await producer.produce(world.topic, "text")
            assert (await producer.produce(world.topic, b"small")).offset() == 0
        await asyncio.to_thread(world.put, f'{{"s3_bucket": "{world.bucket}", "s3_key": "k", "sha256": null}}')
        async with aio.S3Consumer(world.consumer()) as consumer:
            consumer.subscribe([world.topic])
            assert await consumer.poll() == b"small"
            with pytest.raises(kas3.DataIntegrityError, match="missing_checksum"):
                await consumer.poll()
            assert await consumer.poll(0.1) is None

    asyncio.run(run())
