"""Consume, transform, produce: each record takes effect once, payloads of any size included.

Offsets and results are committed together. What a crash or an error interrupts is aborted: nobody who reads committed records sees
it, and its payloads are found by `kas3 payloads gc`.
"""

import os
import sys

from kas3 import Error, S3Consumer, S3Producer


def main(source: str, target: str, count: str = "0") -> None:
    servers = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")}
    s3 = {"bucket": os.environ.get("S3_BUCKET", "payloads"), "endpoint_url": os.environ.get("S3_ENDPOINT_URL")}
    group = {"group.id": f"{source}-to-{target}", "auto.offset.reset": "earliest", "enable.auto.commit": False, "isolation.level": "read_committed"}
    wanted, done = int(count), 0
    with (
        S3Consumer({"kafka": {**servers, **group}, "s3": s3}) as consumer,
        S3Producer({"kafka": {**servers, "transactional.id": f"{source}-to-{target}"}, "s3": s3}) as producer,
    ):
        producer.init_transactions()
        consumer.subscribe([source])
        while not wanted or done < wanted:
            messages = consumer.consume(100, timeout=1.0)
            if not messages:
                continue
            producer.begin_transaction()
            try:
                for message in messages:
                    producer.produce(target, (message.value() or b"").upper(), message.key())
                producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata())
                producer.commit_transaction()
                done += len(messages)
            except Error as error:
                if error.fatal():
                    raise
                producer.abort_transaction()
                # from the last commit on again
                for place in consumer.committed(consumer.assignment()):
                    if place.offset >= 0:
                        consumer.seek(place)
                    else:
                        consumer.seek(place._replace(offset=consumer.get_watermark_offsets(place)[0]))
    print("done", done)


if __name__ == "__main__":
    main(*sys.argv[1:])
