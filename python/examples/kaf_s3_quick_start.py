"""The quick start of kaf_s3's README: small values in Kafka, large payloads through S3, both as they were."""

import os
import sys

from kas3 import KafS3Consumer, KafS3Producer


def main(topic: str) -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    bucket = os.environ.get("S3_BUCKET", "my-kaf-s3-bucket")
    endpoint_url = os.environ.get("S3_ENDPOINT_URL")

    producer = KafS3Producer(
        bootstrap_servers=servers,
        s3_bucket=bucket,
        s3_prefix="payloads/",
        offload_threshold=1024 * 1024,
        endpoint_url=endpoint_url,
    )
    producer.send(topic, key=b"id-123", value=b"small payload")
    large_payload = b"A" * (5 * 1024 * 1024)
    producer.send(topic, key=b"id-124", payload=large_payload)
    producer.flush()
    producer.close()

    consumer = KafS3Consumer(bootstrap_servers=servers, s3_bucket=bucket, s3_prefix="payloads/", endpoint_url=endpoint_url)
    for message in consumer.consume(topic, timeout_ms=2000):
        assert message.key is not None and message.value is not None
        print(message.key.decode(), len(message.value), "from S3" if message.reference else "from Kafka")
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
