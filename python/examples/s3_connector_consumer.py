"""The consumer of s3_connector's README; only the import is another one."""

import os
import sys
from pathlib import Path

from kas3 import S3Consumer

consumer_config = {
    "kafka": {
        "bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        "group.id": "my-s3-consumers",
        "auto.offset.reset": "earliest",
    },
    "s3": {"bucket": os.environ.get("S3_BUCKET", "my-large-messages-bucket"), "endpoint_url": os.environ.get("S3_ENDPOINT_URL")},
}


def main(topic: str, path: str) -> None:
    consumer = S3Consumer(config=consumer_config)
    consumer.subscribe([topic])
    while True:
        try:
            payload = consumer.poll(timeout=10.0)
            if payload:
                print(f"received {len(payload)} bytes")
                Path(path).write_bytes(payload)
                break
        except KeyboardInterrupt:
            break
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
