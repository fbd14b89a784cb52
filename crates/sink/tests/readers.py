"""Reads files of kas3 with readers that are not ours: Python's gzip, zstandard, pyarrow and DuckDB.

    readers.py FILE...              every reader gives the same content; prints records and SHA-256 of each file
    readers.py --content PLAIN FILE the content is that of PLAIN, too

Needs pyarrow, duckdb and zstandard (the end-to-end tests' virtual environment). Exit code 1 on the first difference.
"""

import argparse
import gzip
import hashlib
import io
import json
import sys

import duckdb
import pyarrow
import zstandard


def with_python(path):
    if path.endswith(".gz"):
        with gzip.open(path) as file:
            return file.read()
    with open(path, "rb") as file:
        if not path.endswith(".zst"):
            return file.read()
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()


def with_pyarrow(path):
    with pyarrow.input_stream(path, compression="detect") as file:
        return file.read()


def with_duckdb(path):
    """The lines as DuckDB sees them; it is a reader of text, so only for files that are UTF-8."""
    columns = "columns={'line': 'VARCHAR'}, delim=chr(31), quote='', escape='', header=false, auto_detect=false"
    rows = duckdb.sql(f"SELECT line FROM read_csv('{path}', {columns}, new_line='\\n', max_line_size=67108864, null_padding=true)")
    return "".join((row[0] or "") + "\n" for row in rows.fetchall()).encode()


def seeks_with_zstandard_table(path, content):
    """The seek table of zstd's seekable format leads to every frame by itself."""
    with open(path, "rb") as file:
        stored = file.read()
    frames = int.from_bytes(stored[-9:-5], "little")
    assert stored[-4:] == (0x8F92EAB1).to_bytes(4, "little"), "no seek table"
    table, read, at = stored[-9 - 8 * frames : -9], io.BytesIO(), 0
    for frame in range(frames):
        size = int.from_bytes(table[8 * frame : 8 * frame + 4], "little")
        plain = int.from_bytes(table[8 * frame + 4 : 8 * frame + 8], "little")
        part = zstandard.ZstdDecompressor().decompress(stored[at : at + size])
        assert len(part) == plain, f"frame {frame} has another size than its entry says"
        read.write(part)
        at += size
    assert read.getvalue() == content, "frames give another content"


def check(path, expected):
    content = with_python(path)
    assert expected is None or content == expected, f"{path}: not the expected content"
    assert with_pyarrow(path) == content, f"{path}: pyarrow gives another content"
    try:
        content.decode()
        text = b"\r" not in content and b"\x1f" not in content and b"\n\n" not in b"\n" + content
    except UnicodeDecodeError:
        text = False
    if text and content:
        assert with_duckdb(path) == content, f"{path}: DuckDB gives another content"
    if path.endswith(".zst"):
        seeks_with_zstandard_table(path, content)
    return {"file": path, "records": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest(), "duckdb": text}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--content", metavar="PLAIN", help="a file that holds the expected content")
    arguments.add_argument("files", metavar="FILE", nargs="+")
    asked = arguments.parse_args()
    expected = None
    if asked.content:
        with open(asked.content, "rb") as file:
            expected = file.read()
    for path in asked.files:
        print(json.dumps(check(path, expected)))


if __name__ == "__main__":
    try:
        main()
    except AssertionError as difference:
        sys.exit(f"readers.py: {difference}")
