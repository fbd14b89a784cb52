"""``python -m kas3.s3_connector``."""

from ..runtime import run

if __name__ == "__main__":
    run()
