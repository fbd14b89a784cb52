"""Every reader that is looked at, how it is run, and what is known of it.

What a reader makes of a file of several blocks is one of `all` (its whole content), `first` (the first block only, and it says
nothing) and `error`. The list holds what is expected; a reader that learns more makes the test fail, and this table and that of
`docs/readers.md` shorter.
"""

import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
SECONDS_MAX = 900


class Reader(NamedTuple):
    """One way to read a file."""

    name: str
    compression: str
    how: object
    """A name of `one.py`, a command as a tuple, or a function of a path."""
    many: str | None
    """What it makes of a file of several blocks; None where nobody looked yet."""
    one: str | None = "all"
    """What it makes of a file of one block."""


class Found(NamedTuple):
    """What a reader made of a file."""

    lines: int | None
    sha256: str | None
    seconds: float
    problem: str | None


class Missing(Exception):
    """The reader is not on this machine."""


def chromium(path):
    """DecompressionStream in headless Chromium."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        raise Missing("chromium")
    answers = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = Path(path).read_bytes() if self.path == "/file" else (PROGRAMS / "page.html").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if self.path == "/file" else "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self):
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
        process = subprocess.Popen([browser, *options, f"http://127.0.0.1:{server.server_port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + SECONDS_MAX
            while not answers and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
            server.shutdown()
    assert answers, "the browser did not answer"
    answer = answers[0]
    return Found(None if answer["problem"] else answer["lines"], None, answer["seconds"], answer["problem"])


READERS = [
    Reader("Python `gzip.open(path)`", "gzip", "gzip_open", "all"),
    Reader("Python `gzip.decompress(body)`", "gzip", "gzip_decompress", "all"),
    Reader("Python `zlib.decompress(body, 31)`", "gzip", "zlib_decompress", "first"),
    Reader("Python `zlib.decompressobj(31)`", "gzip", "zlib_object", "first"),
    Reader("pandas `read_json(path, lines=True)`", "gzip", "pandas_json", None, None),
    Reader("polars `read_ndjson(path)`", "gzip", "polars_json", None, None),
    Reader("polars `scan_ndjson(path)`", "gzip", "polars_scan", None, None),
    Reader("pyarrow `input_stream(path)`", "gzip", "pyarrow_stream", "all"),
    Reader("pyarrow `json.read_json(path)`", "gzip", "pyarrow_json", "all"),
    Reader("DuckDB `read_ndjson_auto(path)`", "gzip", "duckdb_json", "all"),
    Reader("Spark `read.text(path)`", "gzip", "spark_json", None, None),
    Reader("`zcat`", "gzip", ("zcat",), "all"),
    Reader("Java `GZIPInputStream`", "gzip", ("java", str(PROGRAMS / "Gunzip.java")), "all"),
    Reader("Go `compress/gzip`", "gzip", ("go", "run", str(PROGRAMS / "gunzip.go")), "all"),
    Reader("Node `zlib.gunzipSync(body)`", "gzip", ("node", str(PROGRAMS / "gunzip_sync.js")), "all"),
    Reader("Node `zlib.createGunzip()`", "gzip", ("node", str(PROGRAMS / "gunzip_stream.js")), "all"),
    Reader("Node `DecompressionStream`", "gzip", ("node", str(PROGRAMS / "web_stream.js")), "all"),
    Reader("Chromium `DecompressionStream`", "gzip", chromium, "error"),
    Reader("`zstd -dc`", "zstd", ("zstd", "-dcq"), "all"),
    Reader("zstandard `decompress(body)`", "zstd", "zstandard_decompress", "first", "error"),
    Reader("zstandard `decompressobj()`", "zstd", "zstandard_object", "first"),
    Reader("zstandard `open(path)`", "zstd", "zstandard_open", "all"),
    Reader("zstandard `stream_reader(file)`", "zstd", "zstandard_reader", "all"),
    Reader("zstandard `stream_reader(file, read_across_frames=True)`", "zstd", "zstandard_reader_across_frames", "all"),
    Reader("pandas `read_json(path, lines=True)`", "zstd", "pandas_json", None, None),
    Reader("polars `read_ndjson(path)`", "zstd", "polars_json", None, None),
    Reader("polars `scan_ndjson(path)`", "zstd", "polars_scan", None, None),
    Reader("pyarrow `input_stream(path)`", "zstd", "pyarrow_stream", "all"),
    Reader("pyarrow `json.read_json(path)`", "zstd", "pyarrow_json", "all"),
    Reader("DuckDB `read_ndjson_auto(path)`", "zstd", "duckdb_json", "all"),
]


def read(reader, path):
    """What a reader makes of a file; raises `Missing` where it is not installed."""
    if callable(reader.how):
        return reader.how(path)
    if isinstance(reader.how, str):
        command = [sys.executable, str(HERE / "one.py"), reader.how, path]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
        said = finished.stderr.strip().splitlines()
        if finished.returncode and said and said[-1].startswith("ModuleNotFoundError"):
            raise Missing(said[-1])
        if finished.returncode:
            return Found(None, None, 0, said[-1] if said else f"exit code {finished.returncode}")
        found = json.loads(finished.stdout.splitlines()[-1])
        return Found(found["lines"], found.get("sha256"), found["seconds"], None)
    return _program(reader.how, path)


def _program(command, path):
    if not shutil.which(command[0]):
        raise Missing(command[0])
    begun, lines, content = time.monotonic(), 0, hashlib.sha256()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([*command, path], stdout=subprocess.PIPE, stderr=errors)
        while part := process.stdout.read(1 << 20):
            lines += part.count(b"\n")
            content.update(part)
        code = process.wait(SECONDS_MAX)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if code and ("jdk.compiler" in said or "ompiler" in said.splitlines()[-1:]):
        raise Missing("the Java compiler")
    problem = (said.splitlines() or [f"exit code {code}"])[-1] if code else None
    return Found(None if code else lines, None if code else content.hexdigest(), time.monotonic() - begun, problem)


def outcome(found, lines, sha256):
    """`all`, `first` or `error`: what was found of a file of so many lines."""
    if found.problem:
        return "error"
    if found.lines == lines and found.sha256 in (None, sha256):
        return "all"
    assert 0 < found.lines < lines, f"{found} of {lines} lines"
    return "first"
