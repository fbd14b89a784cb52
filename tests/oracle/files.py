"""The store's side of the comparison: what a reader of the data sees below a URL, and the records in it."""

import gzip
import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import zstandard
from botocore.config import Config

SIDE_FILE = ".index.json"
CURSOR = "last_chunk_index."


def is_data(path):
    """Whether readers of data lakes would take `path` for data; they skip what begins with `_` or `.`."""
    name = path.rsplit("/", 1)[-1]
    return not (any(part.startswith(("_", ".")) for part in path.split("/")) or name.endswith(SIDE_FILE) or name.startswith(CURSOR))


class Files:
    """What lies below a URL. `list` maps paths to something that changes when the file does."""

    def list(self, everything=False):
        raise NotImplementedError

    def read(self, path):
        """The bytes of a file; FileNotFoundError when there is none."""
        raise NotImplementedError

    def write(self, path, data):
        raise NotImplementedError

    def delete(self, path):
        raise NotImplementedError

    def paths(self, everything=False):
        return sorted(self.list(everything))

    def digest(self, path):
        return hashlib.sha256(self.read(path)).hexdigest()


class LocalFiles(Files):
    """A folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.url = f"file://{self.folder}"

    def list(self, everything=False):
        found = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                file = Path(folder) / name
                path = file.relative_to(self.folder).as_posix()
                if everything or is_data(path):
                    try:
                        state = file.stat()
                    except FileNotFoundError:
                        continue
                    found[path] = (state.st_ino, state.st_size, state.st_mtime_ns)
        return found

    def read(self, path):
        return (self.folder / path).read_bytes()

    def write(self, path, data):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(data)

    def delete(self, path):
        (self.folder / path).unlink()


class S3Files(Files):
    """A prefix of a bucket."""

    def __init__(self, client, bucket, prefix=""):
        self.client, self.bucket = client, bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.url = f"s3://{bucket}/{self.prefix}".rstrip("/")

    def list(self, everything=False):
        found = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix):
            for each in page.get("Contents", []):
                path = each["Key"][len(self.prefix):]
                if everything or is_data(path):
                    found[path] = (each["ETag"], each["Size"], each["LastModified"])
        return found

    def read(self, path):
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self.prefix + path)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            raise FileNotFoundError(path) from None

    def write(self, path, data):
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + path, Body=data)

    def delete(self, path):
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + path)

    def uploads(self):
        """Multipart uploads that are open, as pairs of path and upload id. MinIO lists them for a whole bucket only."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        found = [(each["Key"], each["UploadId"]) for page in pages for each in page.get("Uploads", [])]
        return [(key[len(self.prefix):], upload) for key, upload in found if key.startswith(self.prefix)]


def s3_client(environment=os.environ):
    """A client of the store that the environment names."""
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5, "mode": "standard"}, max_pool_connections=4)
    return boto3.client(
        "s3", endpoint_url=environment.get("S3_ENDPOINT_URL"), region_name=environment.get("AWS_REGION", "us-east-1"),
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID"), aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=environment.get("AWS_SESSION_TOKEN"), config=config,
    )


def open_files(url, client=None):
    """The files below `s3://bucket/prefix` or `file:///folder`."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalFiles(parts.path)
    return S3Files(client or s3_client(), parts.netloc, parts.path)


def decompress(path, data):
    """The content of a file by its extension. A file that was cut short is an error, not less content."""
    if path.endswith(".gz"):
        return gzip.decompress(data)
    return _zstd(path, data) if path.endswith(".zst") else data


def _zstd(path, data):
    """Frame by frame, because zstandard's stream reader ends silently where a frame is cut short."""
    content, rest = [], data
    while rest:
        if rest[1:4] == b"\x2a\x4d\x18" and 0x50 <= rest[0] <= 0x5F:
            size = 8 + int.from_bytes(rest[4:8], "little")
            if len(rest) < size:
                raise EOFError(f"{path}: skippable frame cut short")
            rest = rest[size:]
            continue
        frame = zstandard.ZstdDecompressor().decompressobj()
        content.append(frame.decompress(rest))
        if not frame.eof:
            raise EOFError(f"{path}: frame cut short")
        rest = frame.unused_data
    return b"".join(content)


def lines(path, data):
    """The records of a file of lines. A last line without its newline is an error: a record may have been cut."""
    content = decompress(path, data)
    if content and not content.endswith(b"\n"):
        raise EOFError(f"{path}: the last line has no newline")
    return content.split(b"\n")[:-1]
