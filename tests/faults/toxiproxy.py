"""Toxiproxy: faults of connections, as a bad network makes them."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest


class Toxiproxy:
    """One server with one proxy before the store, until the end of the `with`."""

    def __init__(self, endpoint, folder):
        self.program = os.environ.get("KAS3_TOXIPROXY") or pytest.fail("KAS3_TOXIPROXY is not set: `dev/services up` sets it", pytrace=False)
        self.upstream = urlsplit(endpoint).netloc
        self.log = Path(folder) / "toxiproxy.log"

    def __enter__(self):
        port = _free_port()
        self.api = f"http://127.0.0.1:{port}"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([self.program, "-host", "127.0.0.1", "-port", str(port)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                made = self._ask("POST", "/proxies", {"name": "store", "listen": "127.0.0.1:0", "upstream": self.upstream})
                break
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
                time.sleep(0.05)
        self.url = f"http://{made['listen']}"
        self.listen = made["listen"]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def toxic(self, kind, toxicity=1.0, stream="downstream", **attributes):
        """Adds a toxic and returns its name."""
        name = f"{kind}-{stream}"
        self._ask("POST", "/proxies/store/toxics", {"name": name, "type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes})
        return name

    def remove(self, name):
        self._ask("DELETE", f"/proxies/store/toxics/{name}")

    def enable(self, enabled):
        # with its address: without, a port of its choice would be taken at each turn
        self._ask("POST", "/proxies/store", {"enabled": enabled, "listen": self.listen, "upstream": self.upstream})

    def _ask(self, method, path, body=None):
        request = urllib.request.Request(self.api + path, None if body is None else json.dumps(body).encode(), method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text else None


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
