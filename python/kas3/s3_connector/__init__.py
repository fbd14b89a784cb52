"""What ``s3_connector`` exports, so that ``import kas3.s3_connector as s3_connector`` is the whole change."""

from .. import __version__
from ..consumer import S3Consumer
from ..errors import DataIntegrityError
from ..producer import S3Producer

__all__ = ["DataIntegrityError", "S3Consumer", "S3Producer", "__version__"]
