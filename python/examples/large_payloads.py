"""Payloads larger than memory: sent from a file, and read piece by piece."""

import os
import sys
from pathlib import Path

from kas3 import S3Consumer, S3Producer


def main(topic: str, path: str, copy: str) -> None:
    kafka = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")}
    # format `kas3` has sums of chunks, so that a payload is verified while it is read; those of others lie in a temporary file first
    s3 = {"bucket": os.environ.get("S3_BUCKET", "payloads"), "endpoint_url": os.environ.get("S3_ENDPOINT_URL"), "format": "kas3"}
    with S3Producer({"kafka": kafka, "s3": s3}) as producer:
        producer.produce_file(topic, path)

    group = {**kafka, "group.id": "copies", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    with S3Consumer({"kafka": group, "s3": {**s3, "stream_above_bytes": 1 << 20}}) as consumer:
        consumer.subscribe([topic])
        for record in consumer:
            # what is not what was sent raises here, in the middle: nothing is committed then
            with record.open() as payload, Path(copy).open("wb") as file:
                while piece := payload.read(1 << 20):
                    file.write(piece)
            consumer.commit(record)
            break
    print("bytes", Path(copy).stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
