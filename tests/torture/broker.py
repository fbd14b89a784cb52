"""Troubles of the broker that this checkout runs (`dev/services`); a broker of somebody else is left alone."""

import fcntl
import os
import signal
import subprocess
import time
from contextlib import contextmanager

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from e2e.driver import ROOT

STATE = ROOT / ".services/kafka"


def is_ours():
    """Whether the broker that the tests use was started by `dev/services` of this checkout."""
    try:
        return os.environ["KAFKA_BOOTSTRAP_SERVERS"].endswith(f":{(STATE / 'port').read_text().strip()}")
    except (OSError, KeyError):
        return False


def pause(seconds):
    """The broker neither answers nor dies for a while."""
    pid = int((STATE / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def restart():
    """The broker goes and comes back, with its data, on its port; not while another seed wants it to stay."""
    with _locked(fcntl.LOCK_EX):
        subprocess.run([ROOT / "dev/services", "restart", "kafka"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120)


@contextmanager
def stays():
    """The broker is not restarted during the block: commands that end when they cannot reach it run in there."""
    with _locked(fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(how):
    if not is_ours():
        yield
        return
    with open(STATE / "restarts", "w") as lock:
        fcntl.flock(lock, how)
        yield


def shorten_session(admin, group, milliseconds):
    """How soon a KIP-848 group takes a silent member for dead; in that protocol the broker decides."""
    values = {"consumer.session.timeout.ms": milliseconds, "consumer.heartbeat.interval.ms": 300}
    entries = [ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET) for name, value in values.items()]
    for future in admin.incremental_alter_configs([ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)]).values():
        future.result(30)


def meddle_with_offsets(admin, group, topic, rng, seconds=20):
    """Deletes the offsets of a group whose members are all dead, or moves them anywhere; says what was done.

    Kafka refuses until it has noticed that the members are dead.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if rng.random() < 0.4:
                admin.delete_consumer_groups([group])[group].result(10)
                return "deleted"
            partitions = list(admin.list_topics(topic, 10).topics[topic].partitions)
            moved = [TopicPartition(topic, partition, rng.choice([0, rng.randrange(1, 5000), 10_000_000])) for partition in partitions]
            admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, moved)])[group].result(10)
            return "moved"
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
