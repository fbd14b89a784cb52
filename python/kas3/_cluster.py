"""What the brokers know, in the shape that ``confluent_kafka.admin`` gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import Error


@dataclass(frozen=True)
class BrokerMetadata:
    """A broker."""

    id: int
    host: str
    port: int


@dataclass(frozen=True)
class PartitionMetadata:
    """A partition; brokers are named by their ids."""

    id: int
    leader: int
    replicas: list[int]
    isrs: list[int]
    error: Error | None


@dataclass(frozen=True)
class TopicMetadata:
    """A topic, with its partitions by number."""

    topic: str
    partitions: dict[int, PartitionMetadata]
    error: Error | None


@dataclass(frozen=True)
class ClusterMetadata:
    """Brokers by id, and topics by name."""

    cluster_id: str | None
    orig_broker_id: int
    orig_broker_name: str
    brokers: dict[int, BrokerMetadata]
    topics: dict[str, TopicMetadata]


def cluster_of(told: tuple[Any, ...]) -> ClusterMetadata:
    """As the core tells it."""
    cluster_id, broker, name, brokers, topics = told
    known: dict[str, TopicMetadata] = {}
    for topic, partitions, error in topics:
        known[topic] = TopicMetadata(topic, {partition[0]: PartitionMetadata(*partition) for partition in partitions}, error)
    return ClusterMetadata(cluster_id, broker, name, {broker[0]: BrokerMetadata(*broker) for broker in brokers}, known)
