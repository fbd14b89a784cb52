"""Where ``s3_connector`` has its consumer."""

from ..consumer import S3Consumer

__all__ = ["S3Consumer"]
