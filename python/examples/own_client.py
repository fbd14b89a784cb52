"""The claim check around clients that a program has already: confluent_kafka's, with its serializers."""

import json
import os
import sys
from typing import Any

from confluent_kafka import DeserializingConsumer, SerializingProducer

from kas3 import ClaimCheck, ClaimCheckDeserializer, ClaimCheckSerializer


def main(topic: str) -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    claims = ClaimCheck(f"s3://{os.environ.get('S3_BUCKET', 'payloads')}/documents", endpoint_url=os.environ.get("S3_ENDPOINT_URL"))

    def to_bytes(document: dict[str, Any], _context: Any) -> bytes:
        return json.dumps(document).encode()

    def from_bytes(value: bytes, _context: Any) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(value)
        return document

    producer: Any = SerializingProducer({"bootstrap.servers": servers, "value.serializer": ClaimCheckSerializer(claims, to_bytes)})
    producer.produce(topic, value={"text": "x" * 3_000_000}, headers=[("source", b"example")])
    producer.flush(30)

    consumer: Any = DeserializingConsumer(
        {
            "bootstrap.servers": servers,
            "group.id": "documents",
            "auto.offset.reset": "earliest",
            "value.deserializer": ClaimCheckDeserializer(claims, from_bytes),
        }
    )
    consumer.subscribe([topic])
    message = None
    while message is None:
        message = consumer.poll(1.0)
    print("characters", len(message.value()["text"]))
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
