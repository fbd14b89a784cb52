"""Reads one file with one of the readers that are Python packages: `one.py NAME FILE` prints what it found, as JSON.

A process of its own each: some take a file into memory whole, and a reader that is not installed is told by its import.
"""

import hashlib
import json
import sys
import time


def body(path):
    with open(path, "rb") as file:
        return file.read()


def gzip_open(path):
    import gzip

    with gzip.open(path) as file:
        return file.read()


def gzip_decompress(path):
    import gzip

    return gzip.decompress(body(path))


def zlib_decompress(path):
    import zlib

    return zlib.decompress(body(path), 31)


def zlib_object(path):
    import zlib

    return zlib.decompressobj(31).decompress(body(path))


def zstandard_decompress(path):
    import zstandard

    return zstandard.ZstdDecompressor().decompress(body(path))


def zstandard_object(path):
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(body(path))


def zstandard_open(path):
    import zstandard

    with zstandard.open(path) as file:
        return file.read()


def zstandard_reader(path):
    import zstandard

    with open(path, "rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def zstandard_reader_across_frames(path):
    import zstandard

    with open(path, "rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()


def pyarrow_stream(path):
    import pyarrow

    with pyarrow.input_stream(path, compression="detect") as file:
        return file.read()


def pyarrow_json(path):
    import pyarrow
    import pyarrow.json

    return pyarrow.json.read_json(path, pyarrow.json.ReadOptions(block_size=1 << 24)).num_rows


def duckdb_json(path):
    import duckdb

    return duckdb.sql(f"SELECT count(*) FROM read_ndjson_auto('{path}')").fetchall()[0][0]


def pandas_json(path):
    import pandas

    return len(pandas.read_json(path, lines=True))


def polars_json(path):
    import polars

    return polars.read_ndjson(path).height


def polars_scan(path):
    import polars

    return polars.scan_ndjson(path).select(polars.len()).collect().item()


def spark_json(path):
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.log.level", "ERROR").getOrCreate()
    return spark.read.text(path).count()


def main():
    name, path = sys.argv[1:]
    begun = time.monotonic()
    found = globals()[name](path)
    result = {"seconds": round(time.monotonic() - begun, 2)}
    if isinstance(found, bytes):
        result |= {"lines": found.count(b"\n"), "sha256": hashlib.sha256(found).hexdigest()}
    else:
        result |= {"lines": found}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
