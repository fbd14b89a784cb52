"""What operators and strangers do to the consumer group: the ledger wins, and a warning says so."""

import time

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition

from e2e.driver import CLASSIC, wait_for
from oracle import Stream, Watcher, compare, produce, read_committed


def set_offset(admin, group, topic, offset):
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, offset)])
    (answer,) = admin.alter_consumer_group_offsets([request]).values()
    answer.result(30)


def delete_group(admin, group):
    admin.delete_consumer_groups([group])[group].result(30)


@pytest.mark.parametrize("change", ["deleted", "moved back", "moved forth", "moved past the end"])
def test_the_groups_offsets_may_be_changed_while_no_worker_runs(change, kafka, admin, topic, pipeline, local):
    name = topic()
    produce(kafka, name, 600)
    sink = pipeline(name, files=local)
    with Watcher(sink.files):
        sink.run_to_end()
        produce(kafka, name, 300, seed=2)
        if change == "deleted":
            delete_group(admin, sink.name)
        else:
            set_offset(admin, sink.name, name, {"moved back": 100, "moved forth": 750, "moved past the end": 5000}[change])
        sink.run_to_end().says("WARN", "600, and it wins")
        # what the operator set is overwritten by the next report
        assert "it wins" not in sink.run_to_end().stderr
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()


def test_a_stranger_in_the_group_moves_offsets_while_a_worker_runs(kafka, topic, pipeline, local):
    """An application that uses our group by mistake takes partitions, commits what it likes, and leaves."""
    name = topic(partitions=4)
    sink = pipeline(name, files=local)
    sink.configure(roll={"records": 500, "age": "500ms"})
    settings = {"bootstrap.servers": kafka, "group.id": sink.name, "partition.assignment.strategy": "cooperative-sticky", **CLASSIC}
    with Watcher(sink.files), Stream(kafka, name, 4):
        with sink.start() as worker:
            wait_for(sink.files.paths, 60, "files")
            for jump in (100_000, -1):
                stranger = Consumer({**settings, "enable.auto.commit": False})
                stranger.subscribe([name])
                wait_for(lambda: stranger.poll(0.1) and stranger.assignment(), 60, "partitions of the stranger")
                taken = [TopicPartition(name, each.partition, jump if jump > 0 else 1) for each in stranger.assignment()]
                stranger.commit(offsets=taken, asynchronous=False)
                stranger.close()
                seen = len(sink.files.paths())
                wait_for(lambda: len(sink.files.paths()) > seen + 8, 60, "files after the stranger left")
            finished = worker.terminate()
            assert finished.code == 0
            finished.says("by somebody else's hand", "it wins")
    sink.run_to_end()
    compare(read_committed(kafka, name), sink.files).check()
    sink.verify()
