"""Where ``s3_connector`` has its producer."""

from ..producer import S3Producer

__all__ = ["S3Producer"]
