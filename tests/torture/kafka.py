"""What the runs ask Kafka."""

from confluent_kafka import Consumer, TopicPartition


def ends(bootstrap, topic, partitions):
    """Where each partition ends now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "kas3-torture-ends"})
    try:
        return {partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), 30)[1] for partition in range(partitions)}
    finally:
        consumer.close()
