"""Where ``s3_connector`` has its exception."""

from ..errors import DataIntegrityError

__all__ = ["DataIntegrityError"]
