"""A test of an application without Kafka and without S3: both are played within this process."""

from kas3 import KafS3Consumer, KafS3Producer


def main() -> None:
    with KafS3Producer(offline=True) as producer:
        sent = producer.send("events", key=b"1", payload=bytes(3_000_000), headers={"source": "test"}).get(timeout=30)
        assert sent.reference is not None
    with KafS3Consumer(offline=True) as consumer:
        message = next(consumer.consume("events", timeout_ms=10_000))
    assert (message.key, message.header("source"), message.value) == (b"1", b"test", bytes(3_000_000))
    print(f"{len(message.value or b'')} bytes there and back")


if __name__ == "__main__":
    main()
