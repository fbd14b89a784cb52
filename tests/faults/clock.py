"""A wall clock that tests turn while kas3 runs."""

import datetime
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """Shifts the wall clock of every process that gets `environment`."""

    def __init__(self, folder):
        compiler = shutil.which("cc") or pytest.fail("there is no C compiler; `dev/setup` installs one", pytrace=False)
        library, self.file = folder / "clock.so", folder / "clock"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self.file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "KAS3_TEST_CLOCK": str(self.file)}

    def shift(self, seconds):
        """In place, because processes have it mapped."""
        with open(self.file, "r+b") as file:
            os.pwrite(file.fileno(), struct.pack("q", int(seconds)), 0)

    def turn_to(self, when):
        """From now on it is `when`."""
        self.shift((when - datetime.datetime.now(datetime.timezone.utc)).total_seconds())
