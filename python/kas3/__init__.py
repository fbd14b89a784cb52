"""kas3: payloads too large for Kafka travel through S3, and a reference to each through Kafka.

:class:`S3Producer` and :class:`S3Consumer` take the place of those of ``s3_connector``; :class:`KafS3Producer` and
:class:`KafS3Consumer` are a smaller pair with keyword arguments; :mod:`kas3.aio` has both for ``asyncio``; and
:class:`ClaimCheck`, :class:`ClaimCheckSerializer` and :class:`ClaimCheckDeserializer` go around a client of your own.
"""

from . import _logs as _logs
from ._cluster import ClusterMetadata
from ._kas3 import __version__
from .claims import ClaimCheck
from .consumer import S3Consumer
from .errors import (
    ConfigError,
    DataIntegrityError,
    DeniedError,
    Error,
    FatalError,
    ForkedError,
    IntegrityError,
    KafkaException,
    MissingError,
    PayloadDenied,
    PayloadMissing,
    QueueFull,
    RecordError,
    TransientError,
)
from .kaf_s3 import KafS3Consumer, KafS3Producer, download_from_s3, upload_to_s3
from .producer import S3Producer
from .record import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Delivery,
    Message,
    PayloadReader,
    Record,
    Reference,
    StreamedRecord,
    TopicPartition,
)
from .serialization import ClaimCheckDeserializer, ClaimCheckSerializer

__all__ = [
    "ClaimCheck",
    "ClaimCheckDeserializer",
    "ClaimCheckSerializer",
    "ClusterMetadata",
    "ConfigError",
    "DataIntegrityError",
    "Delivery",
    "DeniedError",
    "Error",
    "FatalError",
    "ForkedError",
    "IntegrityError",
    "KafS3Consumer",
    "KafS3Producer",
    "KafkaException",
    "Message",
    "MissingError",
    "PayloadDenied",
    "PayloadMissing",
    "PayloadReader",
    "QueueFull",
    "Record",
    "RecordError",
    "Reference",
    "S3Consumer",
    "S3Producer",
    "StreamedRecord",
    "TIMESTAMP_CREATE_TIME",
    "TIMESTAMP_LOG_APPEND_TIME",
    "TIMESTAMP_NOT_AVAILABLE",
    "TopicPartition",
    "TransientError",
    "__version__",
    "download_from_s3",
    "upload_to_s3",
]
