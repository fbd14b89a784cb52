"""An S3 proxy that misbehaves on demand: between kas3 and the real store, with faults that no real store makes when asked.

Requests pass unchanged, the Host header too, because it is signed. A rule picks requests by operation and key and says what
becomes of them; what no rule picks is passed on. The oracle talks to the store itself, past the proxy.

    with Proxy(endpoint) as proxy:
        rule = proxy.rule(faults.lost_answer, "PutObject", "data", times=3)
        ...
        assert rule.hits == 3
"""

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

HEAD_BYTES_MAX = 64 << 10
# What a key is to kas3: its heads, staged bundles, the race at a start, the rest of its ledger; files; nothing.
KINDS = ("head", "staged", "check", "ledger", "data", "bucket")
# What a client of the real store waits for at most.
UPSTREAM_SECONDS = 60


def operation(method, query):
    """S3's name of a request."""
    if "uploadId" in query:
        return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}.get(method, "Other")
    if "uploads" in query:
        return {"POST": "CreateMultipartUpload", "GET": "ListMultipartUploads"}.get(method, "Other")
    if "list-type" in query:
        return "ListObjectsV2"
    return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(method, "Other")


def kind_of(key):
    """What a key is to kas3."""
    if "/check/conditions-" in key:
        return "check"
    if key.endswith("/head.json"):
        return "head"
    if "/staged/" in key:
        return "staged"
    if "_kas3/" in key:
        return "ledger"
    return "data" if key else "bucket"


@dataclass
class Answer:
    """An answer of the store, or one made up."""

    status: int
    headers: list
    body: bytes = b""

    def head(self, length=None):
        kept = [(name, value) for name, value in self.headers if name.lower() not in ("content-length", "transfer-encoding", "connection")]
        lines = [f"HTTP/1.1 {self.status} Said"] + [f"{name}: {value}" for name, value in kept]
        # a HEAD's length is that of the object, which does not follow
        told = next((value for name, value in self.headers if name.lower() == "content-length"), None)
        lines.append(f"Content-Length: {len(self.body) if length is None else told or 0}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def error(status, code, message="the proxy says so", **headers):
    """An error as S3 writes it."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
    named = [(name.replace("_", "-"), str(value)) for name, value in headers.items()]
    return Answer(status, [("Content-Type", "application/xml"), *named], body)


@dataclass
class Exchange:
    """One request, and the means to do something with it."""

    proxy: "Proxy"
    method: str
    target: str
    headers: list
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rng: random.Random
    body: bytes = None
    open: bool = True

    def __post_init__(self):
        parts = urlsplit(self.target)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.bucket, _, self.key = unquote(parts.path).lstrip("/").partition("/")
        self.operation = operation(self.method, self.query)
        self.kind = kind_of(self.key)

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def length(self):
        return int(self.header("content-length") or 0)

    async def take(self, share=1.0):
        """Reads the body from the client, or its first share."""
        if self.body is None:
            if (self.header("expect") or "").lower() == "100-continue":
                self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await self.writer.drain()
            self.body = await self.reader.readexactly(int(self.length * share))
        return self.body

    async def forward(self, share=1.0):
        """Sends the request to the store; its answer, or None when only a share of the body was sent before the line was cut."""
        body = await self.take(share)
        kept = [(name, value) for name, value in self.headers if name.lower() not in ("connection", "expect")]
        lines = [f"{self.method} {self.target} HTTP/1.1"] + [f"{name}: {value}" for name, value in kept] + ["Connection: close"]
        reader, writer = await asyncio.open_connection(*self.proxy.upstream, limit=HEAD_BYTES_MAX)
        # read from the beginning: a store may answer before it has the whole body, and cut the line then
        answer = asyncio.ensure_future(read_answer(reader, self.method))
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            writer.write(body)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await writer.drain()
            if share < 1:
                return None
            return await asyncio.wait_for(answer, UPSTREAM_SECONDS)
        finally:
            answer.cancel()
            writer.close()

    async def answer(self, answer, share=1.0, pause=0.0):
        """Answers the client; with a share the line is cut in the middle of the body, with a pause it comes in pieces."""
        await self.take()
        head = answer.head(length=0) if self.method == "HEAD" else answer.head()
        body = b"" if self.method == "HEAD" else answer.body
        if share < 1:
            self.writer.write(head + body[: int(len(body) * share)])
            await self.writer.drain()
            return self.reset()
        self.writer.write(head)
        pieces = 8 if pause else 1
        size = max(1, -(-len(body) // pieces))
        for at in range(0, len(body), size):
            if pause:
                await self.writer.drain()
                await asyncio.sleep(pause / pieces)
            self.writer.write(body[at:at + size])
        await self.writer.drain()

    def reset(self):
        """Cuts the line to the client as a router that forgot it would: RST, not FIN."""
        self.open = False
        line = self.writer.get_extra_info("socket")
        if line is not None:
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def read_head(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    return head[0], [tuple(part.strip() for part in line.split(":", 1)) for line in head[1:] if line]


async def read_answer(reader, method):
    while True:
        first, headers = await read_head(reader)
        status = int(first.split(" ")[1])
        if status != 100:
            break
    named = {name.lower(): value for name, value in headers}
    if method == "HEAD" or status in (204, 304):
        return Answer(status, headers)
    if "chunked" in named.get("transfer-encoding", ""):
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        return Answer(status, headers, body)
    length = named.get("content-length")
    return Answer(status, headers, await (reader.read() if length is None else reader.readexactly(int(length))))


@dataclass
class Rule:
    """What becomes of some requests. `hits` counts them."""

    fault: object
    operations: frozenset
    where: object
    chance: float
    skip: int
    times: int
    seen: int = 0
    hits: int = 0
    on: bool = True
    log: list = field(default_factory=list)

    def off(self):
        self.on = False

    def picks(self, exchange, rng):
        if not self.on or self.hits >= self.times or (self.operations and exchange.operation not in self.operations):
            return False
        if isinstance(self.where, str):
            if self.where in KINDS:
                if exchange.kind != self.where:
                    return False
            elif not re.search(self.where, exchange.key):
                return False
        elif self.where is not None and not self.where(exchange):
            return False
        self.seen += 1
        if self.seen <= self.skip or rng.random() >= self.chance:
            return False
        self.hits += 1
        self.log.append((exchange.operation, exchange.key))
        return True


class Proxy:
    """Listens on a free port of loopback, in a thread of its own, until the end of the `with`."""

    def __init__(self, endpoint, seed=1):
        parts = urlsplit(endpoint)
        self.upstream = (parts.hostname, parts.port or 80)
        self.seed = seed
        self.rng = random.Random(seed)
        self.rules, self.counts, self.late = [], {}, set()
        self._lock = threading.RLock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._lines = set()
        self._server = None

    def __enter__(self):
        self._thread.start()
        self._run(self._listen(0))
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_):
        self._run(self._close(wait=True))
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def rule(self, fault, operations=None, where=None, *, chance=1.0, skip=0, times=10**9):
        """Adds a rule; the newest is asked first. `where` is a kind of key, an expression, or a function of the exchange."""
        operations = frozenset([operations] if isinstance(operations, str) else operations or ())
        rule = Rule(fault, operations, where, chance, skip, times)
        with self._lock:
            self.rules.insert(0, rule)
        return rule

    def clear(self):
        """From now on everything passes."""
        with self._lock:
            self.rules.clear()

    def settle(self, seconds=30):
        """Waits until what is still to be applied late has been."""
        future = asyncio.run_coroutine_threadsafe(self._drain(), self._loop)
        future.result(seconds)

    def down(self):
        """Nobody listens any more, and every line is cut."""
        self._run(self._close())

    def up(self):
        self._run(self._listen(self.port))

    def asked(self, name):
        """How many requests of one operation came in."""
        with self._lock:
            return self.counts.get(name, 0)

    def asked_all(self):
        with self._lock:
            return sum(self.counts.values())

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _listen(self, port):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=HEAD_BYTES_MAX, backlog=1024)

    async def _close(self, wait=False):
        self._server.close()
        for writer in list(self._lines):
            writer.transport.abort()
        if wait:
            await self._drain()

    async def _end(self):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _drain(self):
        while self.late:
            await asyncio.wait(list(self.late))

    def later(self, coroutine):
        """Runs beyond the life of its connection."""
        task = self._loop.create_task(coroutine)
        self.late.add(task)
        task.add_done_callback(self.late.discard)

    async def _serve(self, reader, writer):
        self._lines.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._lines.discard(writer)
            writer.close()

    async def _one(self, reader, writer):
        first, headers = await read_head(reader)
        method, target, _ = first.split(" ", 2)
        exchange = Exchange(self, method, target, headers, reader, writer, self.rng)
        with self._lock:
            self.counts[exchange.operation] = self.counts.get(exchange.operation, 0) + 1
            fault = next((rule.fault for rule in self.rules if rule.picks(exchange, self.rng)), None)
        if fault is None:
            await exchange.answer(await exchange.forward())
        else:
            await fault(exchange)
        return exchange.open
