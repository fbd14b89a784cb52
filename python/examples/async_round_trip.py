"""Many payloads at once with asyncio, and back."""

import asyncio
import os
import sys
from typing import Any

from kas3.aio import S3Consumer, S3Producer


async def main(topic: str) -> None:
    kafka = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")}
    s3: dict[str, Any] = {"bucket": os.environ.get("S3_BUCKET", "payloads"), "endpoint_url": os.environ.get("S3_ENDPOINT_URL")}

    async with S3Producer({"kafka": kafka, "s3": s3}) as producer:
        deliveries = await asyncio.gather(*(producer.produce(topic, bytes(1_000_000), key=str(number)) for number in range(10)))
    print("sent", len(deliveries))

    group = {**kafka, "group.id": "async-readers", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    async with S3Consumer({"kafka": group, "s3": s3}) as consumer:
        consumer.subscribe([topic])
        received = 0
        async for record in consumer:
            received += 1
            await consumer.commit(record)
            if received == len(deliveries):
                break
    print("received", received)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
