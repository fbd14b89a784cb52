"""The watcher: no visible file changes or vanishes after it was first seen."""

import threading


class Watcher:
    """Looks at `files` again and again from another thread while a run goes on, and at the end once more, byte by byte.

    A file may vanish only after `forgive(path)`, for tests in which a reader takes files away.
    """

    def __init__(self, files, seconds_between=0.05):
        self.files, self.seconds_between = files, seconds_between
        self.first, self.digests, self.violations, self.forgiven = {}, {}, [], set()
        self._halt, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._halt.set()
        self._thread.join(60)
        self.look(bytes_too=True)
        if kind is None:
            self.check()

    def forgive(self, path):
        with self._lock:
            self.forgiven.add(path)

    def check(self):
        assert not self.violations, "visible files changed:\n  " + "\n  ".join(self.violations[:10])

    def _run(self):
        while not self._halt.wait(self.seconds_between):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001: a store that is down for a test shows nothing; the last look decides
                self.last_error = error

    def look(self, bytes_too=False):
        """One look. Forgiven files are asked for before the listing, so that a file taken just now is not missed."""
        with self._lock:
            now = self.files.list()
            for path, state in now.items():
                self._look_at(path, state, bytes_too)
            for path in self.first.keys() - now.keys() - self.forgiven:
                self._violated(f"{path} vanished")

    def _look_at(self, path, state, bytes_too):
        known = self.first.setdefault(path, state)
        if known != state:
            self._violated(f"{path} changed from {known} to {state}")
        if path not in self.digests or bytes_too:
            try:
                digest = self.files.digest(path)
            except FileNotFoundError:
                return
            if self.digests.setdefault(path, digest) != digest:
                self._violated(f"{path} holds other bytes than when it was first seen")

    def _violated(self, text):
        if text not in self.violations:
            self.violations.append(text)
