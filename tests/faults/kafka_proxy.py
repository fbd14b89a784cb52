"""A proxy before a broker whose connections go wrong on demand: slow, held up, swallowed, cut, refused, half open.

A broker tells its clients where it is, and they connect there: so the proxy writes its own port, and a host of the same length
where one is wanted, into those answers. Nothing else passes changed. Tests that talk to the broker itself go past the proxy.

    with KafkaProxy(bootstrap_servers) as proxy:
        sink.kafka["bootstrap.servers"] = proxy.address
        proxy.cut()
"""

import contextlib
import random
import socket
import struct
import threading
import time

# What a broker on this machine is called, and a name of the same length that a test may resolve as it likes.
HOST, NAME = b"127.0.0.1", b"kas3.test"
# Answers that name brokers are short; records are not looked at.
NAMING_BYTES_MAX = 256 << 10
PIECE_BYTES = 16 << 10


class Line:
    """One connection of a client, and its other end at the broker."""

    def __init__(self, client, broker):
        self.client, self.broker, self.lost = client, broker, False

    def cut(self):
        """RST to both ends, as a router that forgot the connection would."""
        for end in filter(None, (self.client, self.broker)):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class KafkaProxy:
    """Listens until the end of the `with`; every fault lasts until `heal`."""

    def __init__(self, upstream, seed=0, named=False):
        host, _, port = upstream.partition(":")
        self.upstream = (host, int(port))
        self.rng, self.host = random.Random(f"kafka-{seed}"), NAME if named else HOST
        self.lines, self.lock, self.accepted = [], threading.Lock(), 0
        self.moving, self.ended = threading.Event(), threading.Event()
        self.moving.set()
        self.delay, self.jitter, self.rate, self.half_open = 0.0, 0.0, None, False

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.address = f"{self.host.decode()}:{self.port}"
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.moving.set()
        self.down()

    # what goes wrong

    def slow(self, delay=0.05, jitter=0.05, rate=None):
        """Every piece comes later; `rate` bounds the bytes a second of each direction."""
        self.delay, self.jitter, self.rate = delay, jitter, rate

    def freeze(self):
        """Nothing moves, and nothing is lost: it comes when it is healed."""
        self.moving.clear()

    def swallow(self, share=1.0):
        """Connections of now lead nowhere from now on, in both directions, and nobody is told; a new one is well."""
        self._some(share, lambda line: setattr(line, "lost", True))

    def cut(self, share=1.0):
        """Connections of now are reset."""
        self._some(share, Line.cut)

    def open_half(self):
        """Who connects from now on is let in and hears nothing."""
        self.half_open = True

    def down(self):
        """Nobody is let in, and everybody is thrown out."""
        with contextlib.suppress(OSError):
            # closing alone leaves a thread in accept, and the port with it
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def heal(self):
        """From now on all is well; what was let in half is cut, what was swallowed stays so."""
        self.delay, self.jitter, self.rate = 0.0, 0.0, None
        if self.half_open:
            self.half_open = False
            self._some(1.0, lambda line: line.cut() if line.broker is None else None)
        self.moving.set()
        if self.listener.fileno() < 0:
            self.listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _some(self, share, what):
        with self.lock:
            chosen = [line for line in self.lines if self.rng.random() < share]
        for line in chosen:
            what(line)

    # what goes right

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            broker = None
            if not self.half_open:
                try:
                    broker = socket.create_connection(self.upstream, timeout=10)
                except OSError:
                    client.close()
                    continue
                broker.settimeout(None)
                broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = Line(client, broker)
            with self.lock:
                self.lines.append(line)
            if broker is not None:
                threading.Thread(target=self._pump, args=(line, self._pieces(client), broker), daemon=True).start()
                threading.Thread(target=self._pump, args=(line, self._answers(broker), client), daemon=True).start()

    def _pump(self, line, pieces, target):
        with contextlib.suppress(OSError):
            for piece in pieces:
                if self.delay or self.jitter:
                    time.sleep(self.delay + self.rng.uniform(0, self.jitter))
                if self.rate:
                    time.sleep(len(piece) / self.rate)
                self.moving.wait()
                if not line.lost:
                    target.sendall(piece)
        if self.ended.is_set() or not line.lost:
            line.cut()
            with self.lock, contextlib.suppress(ValueError):
                self.lines.remove(line)

    @staticmethod
    def _pieces(source):
        while piece := source.recv(PIECE_BYTES):
            yield piece

    def _answers(self, source):
        """What the broker says, in pieces: short answers as if the broker were the proxy, long ones as they come."""
        ours = self.host + struct.pack(">i", self.port)
        theirs = HOST + struct.pack(">i", self.upstream[1])
        while len(head := self._exactly(source, 4)) == 4:
            left = struct.unpack(">i", head)[0]
            if left <= NAMING_BYTES_MAX:
                yield head + self._exactly(source, left).replace(theirs, ours)
                continue
            yield head
            while left > 0 and (piece := source.recv(min(left, PIECE_BYTES))):
                left -= len(piece)
                yield piece

    @staticmethod
    def _exactly(source, size):
        data = bytearray()
        while len(data) < size and (more := source.recv(size - len(data))):
            data += more
        return bytes(data)


# How connections go wrong, by name: what is done, then done again as long as it lasts.
TROUBLES = {
    "slow": lambda proxy: proxy.slow(0.05, 0.1, 200_000),
    "held up": KafkaProxy.freeze,
    "swallowed": lambda proxy: proxy.swallow(0.7),
    "cut": lambda proxy: proxy.cut(0.7),
    "half open": lambda proxy: (proxy.open_half(), proxy.cut(0.5)),
    "refused": KafkaProxy.down,
}


def trouble(proxy, name, seconds, often=0.7):
    """Connections go wrong for a while, again and again where that is of one moment."""
    until = time.monotonic() + seconds
    once = name in ("slow", "held up", "refused")
    TROUBLES[name](proxy)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, often))
        if not once:
            TROUBLES[name](proxy)
    proxy.heal()
