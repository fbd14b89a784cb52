"""All readers on large files: `make services-up`, then

    dev/services run env PYTHONPATH=tests python -m readers [--mib 256] [--random 0.5]

Produces so much content into a topic, lets kas3 write it with blocks of 1 MiB, with blocks that grow and with one block, in gzip and in
zstd, and prints the table of `docs/readers.md`: what each reader made of each file, and the seconds that it took. Readers that are
not installed are left out and named. (`pip install pandas polars pyspark`, and Debian's `chromium`, bring those that the tests do
without.)
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from confluent_kafka.admin import AdminClient

from e2e.driver import Pipeline
from oracle import LocalFiles, produce
from readers.catalogue import READERS, Missing, outcome, read
from services import create_topic, fresh_name

BLOCKS = ("1MiB", "auto", "file")


def values(mib, share):
    """JSON objects of about a KiB, of which so much is random."""
    rng = random.Random(1)

    def value(i):
        noise = rng.randbytes(int(450 * share)).hex()
        text = ("some text that is always the same " * 30)[: 900 - len(noise)]
        return f'{{"id":{i},"customer":"{i % 977}","noise":"{noise}","text":"{text}"}}'.encode()

    return (mib << 20) // 960, value


def plain(path):
    """Lines and SHA-256 of the content, by the program `gzip` or `zstd`."""
    reader = next(reader for reader in READERS if path.endswith(".gz") == (reader.compression == "gzip") and isinstance(reader.how, tuple))
    found = read(reader, path)
    assert not found.problem, found.problem
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--mib", type=int, default=256, help="content in MiB")
    arguments.add_argument("--random", type=float, default=0.9, help="how much of it does not compress")
    asked = arguments.parse_args()
    kafka = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    admin = AdminClient({"bootstrap.servers": kafka})
    topic = create_topic(admin, fresh_name("readers"))
    count, value = values(asked.mib, asked.random)
    with tempfile.TemporaryDirectory() as folder:
        try:
            produce(kafka, topic, count, value=value)
            paths = {}
            for compression in ("gzip", "zstd"):
                for block in BLOCKS:
                    data = Path(folder) / compression / block
                    data.mkdir(parents=True)
                    pipeline = Pipeline(Path(folder), fresh_name("readers"), kafka, LocalFiles(data), [topic], {})
                    pipeline.encode(compression=compression, block=block)
                    pipeline.configure(roll={"records": 1 << 40, "bytes": "8GiB", "age": "1h"})
                    pipeline.run_to_end(seconds=1200)
                    (path,) = pipeline.files.paths()
                    paths[compression, block] = str(data / path)
        finally:
            admin.delete_topics([topic])[topic].exception(30)
        table(paths, count)


def table(paths, count):
    for compression in ("gzip", "zstd"):
        known = plain(paths[compression, "1MiB"])
        assert known.lines == count, f"{known.lines} lines of {count}"
        sizes = ", ".join(f"`{block}`: {os.path.getsize(paths[compression, block]) >> 20} MiB" for block in BLOCKS)
        print(f"\n{compression}, stored: {sizes}\n\n| reader | " + " | ".join(f"`block: {block}`" for block in BLOCKS) + " |")
        print("| --- " * (len(BLOCKS) + 1) + "|")
        for reader in READERS:
            if reader.compression != compression:
                continue
            try:
                cells = [cell(read(reader, paths[compression, block]), known) for block in BLOCKS]
            except Missing as missing:
                print(f"{reader.name}: not on this machine ({missing})", file=sys.stderr)
                continue
            print(f"| {reader.name} | " + " | ".join(cells) + " |", flush=True)


def cell(found, known):
    match outcome(found, known.lines, known.sha256):
        case "all":
            return f"{found.seconds:.1f} s"
        case "first":
            return f"**{found.lines:,} of {known.lines:,} lines**, says nothing"
        case _:
            return f"error: {found.problem[-90:]}"


if __name__ == "__main__":
    main()
