"""``python -m kas3``: a producer or a consumer that the environment describes."""

from .runtime import run

if __name__ == "__main__":
    run()
