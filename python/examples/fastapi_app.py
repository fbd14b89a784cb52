"""A service on FastAPI: documents of any size come in over HTTP, go to Kafka, and the newest can be read back.

    uvicorn fastapi_app:app

The clients are made in the service's lifespan, which every worker of uvicorn runs for itself, after it was started.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response

from kas3 import Error
from kas3.aio import S3Consumer, S3Producer

TOPIC = os.environ.get("TOPIC", "documents")
KAFKA = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")}
S3 = {"bucket": os.environ.get("S3_BUCKET", "payloads"), "endpoint_url": os.environ.get("S3_ENDPOINT_URL")}
GROUP = {"group.id": os.environ.get("GROUP", "documents"), "auto.offset.reset": "earliest", "enable.auto.commit": False}


async def keep_newest(consumer: S3Consumer, newest: dict[str, bytes | None]) -> None:
    """Reads for as long as the service runs."""
    while True:
        try:
            record = await consumer.poll_record()
        except Error as error:
            # one that cannot be trusted was passed over; one that cannot be had is tried again
            print("a document cannot be read:", error)
            await asyncio.sleep(1)
            continue
        if record is not None:
            newest[(record.key or b"").decode()] = record.payload
            await consumer.commit(record)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Makes the clients in the process, and the event loop, that uses them."""
    async with S3Producer({"kafka": KAFKA, "s3": S3}) as producer, S3Consumer({"kafka": {**KAFKA, **GROUP}, "s3": S3}) as consumer:
        consumer.subscribe([TOPIC])
        app.state.producer, app.state.newest = producer, {}
        reading = asyncio.create_task(keep_newest(consumer, app.state.newest))
        yield
        reading.cancel()
        await asyncio.wait([reading])


app = FastAPI(lifespan=lifespan)


@app.put("/documents/{name}")
async def put(name: str, request: Request) -> dict[str, Any]:
    """Answers once Kafka has the document's record."""
    try:
        delivery = await request.app.state.producer.produce(TOPIC, await request.body(), name)
    except Error as error:
        raise HTTPException(503 if error.retriable() else 400, str(error)) from error
    return {"partition": delivery.partition(), "offset": delivery.offset(), "in_s3": delivery.reference is not None}


@app.get("/documents/{name}")
async def get(name: str, request: Request) -> Response:
    """The newest document of a name that came back from Kafka."""
    document = request.app.state.newest.get(name)
    if document is None:
        raise HTTPException(404, f"there is no document `{name}` yet")
    return Response(document, media_type="application/octet-stream")
