"""The producer of s3_connector's README; only the import is another one."""

import os
import sys
from pathlib import Path

from kas3 import S3Producer

producer_config = {
    "kafka": {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")},
    "s3": {"bucket": os.environ.get("S3_BUCKET", "my-large-messages-bucket"), "endpoint_url": os.environ.get("S3_ENDPOINT_URL")},
}


def main(topic: str, path: str) -> None:
    producer = S3Producer(config=producer_config)
    payload_data = Path(path).read_bytes()
    producer.produce(topic=topic, payload=payload_data)
    producer.flush(timeout=30.0)
    producer.close()
    print(f"produced {len(payload_data)} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
