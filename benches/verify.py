#!/usr/bin/env python3
"""verify.py BUCKET RECORDS: decompresses every data object (.gz, .zst, plain) and counts lines, unique ids, doubles and losses.

Endpoint: S3_ENDPOINT_URL. Exit code 1 unless every id is there once."""

import gzip
import io
import os
import sys

import boto3
import numpy
import zstandard
from botocore.config import Config

bucket, records = sys.argv[1], int(sys.argv[2])
s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT_URL"], region_name="us-east-1", config=Config(s3={"addressing_style": "path"}))


def plain(key, body):
    if key.endswith(".gz"):
        return gzip.decompress(body)
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=True).read() if key.endswith(".zst") else body


def ids(text):
    """The number behind `"id":` at the beginning of each line, all lines at once; a line that begins otherwise counts as -1."""
    data = numpy.frombuffer(text + b" " * 32, numpy.uint8)
    ends = numpy.flatnonzero(data == ord("\n"))
    starts = numpy.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    found = numpy.zeros(len(starts), numpy.int64)
    for at, byte in enumerate(b'{"id":'):
        found[data[starts + at] != byte] = -1
    reading, at = found == 0, starts + 6
    for _ in range(12):
        digits = data[at].astype(numpy.int64) - ord("0")
        reading &= (digits >= 0) & (digits <= 9)
        found = numpy.where(reading, found * 10 + digits, found)
        at += 1
    return found


seen, strange, lines, size, files = numpy.zeros(records, numpy.uint8), 0, 0, 0, 0
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
    for o in page.get("Contents", []):
        if any(part.startswith(("_", ".")) for part in o["Key"].split("/")) or o["Key"].endswith(".index.json"):
            continue
        body = s3.get_object(Bucket=bucket, Key=o["Key"])["Body"].read()
        size, files, text = size + len(body), files + 1, plain(o["Key"], body)
        text += b"" if text.endswith(b"\n") else b"\n"
        lines += text.count(b"\n")
        found = ids(text)
        known = found[(found >= 0) & (found < records)]
        strange += len(found) - len(known)
        numpy.add.at(seen, known, 1)
doubled, lost = int(seen.sum(dtype=numpy.int64) - (seen > 0).sum()), int((seen == 0).sum())
print(f"files {files}, bytes {size}, lines {lines}, doubled {doubled}, lost {lost}, strange {strange}")
sys.exit(int(strange > 0 or lines != records or (seen != 1).any()))
