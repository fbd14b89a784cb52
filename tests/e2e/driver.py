"""Drives the command `kas3` from outside: writes a configuration, runs the command, kills it, and reads what it left."""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Generous, because CI machines are slow; a test that waits this long has failed.
RUN_SECONDS = 120
CLASSIC = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
PROTOCOLS = {
    "eager": {**CLASSIC, "partition.assignment.strategy": "range"},
    "cooperative": {**CLASSIC, "partition.assignment.strategy": "cooperative-sticky"},
    "kip-848": {"group.protocol": "consumer"},
}


def binary():
    return Path(os.environ.get("KAS3") or ROOT / "target/debug/kas3").resolve()


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str
    peak_bytes: int

    def says(self, *words):
        """Checks that every word is in what the command printed, its results included."""
        printed = self.stdout + self.stderr
        for word in words:
            assert word.lower() in printed.lower(), f"{word!r} is not in:\n{printed}"
        return self


def resident_peak(pid):
    """Largest resident size of a process so far, in bytes; 0 once it has ended."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0


class Worker:
    """A command that runs. It is killed at the end of a `with`, if it still runs then."""

    def __init__(self, arguments, folder, kill=None, environment=None, stdin=subprocess.DEVNULL):
        number = len(list(folder.glob("*.err")))
        self.output, self.errors = folder / f"{number}.out", folder / f"{number}.err"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "S3_"))}
        variables = {**inherited, "RUST_BACKTRACE": "1", **(environment or {}), **({"KAS3_KILL": kill} if kill else {})}
        with open(self.output, "wb") as output, open(self.errors, "wb") as errors:
            command = [str(binary()), *map(str, arguments)]
            self.process = subprocess.Popen(command, stdin=stdin, stdout=output, stderr=errors, env=variables, cwd=folder)
        self.finished = None
        self.peak_bytes = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.finished is None:
            self.signal(signal.SIGKILL)
            self.wait()

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        """Ends it as a power cut would; returns whether it still ran."""
        if self.poll():
            return False
        self.signal(signal.SIGKILL)
        return self.wait().code == -signal.SIGKILL

    def terminate(self, seconds=60):
        """Asks it to stop, and returns how it did."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def poll(self):
        """How it ended, or None while it runs."""
        if self.finished is None:
            # The kernel's own high-water mark of the program: what wait4 says includes the test's process, from before the exec.
            self.peak_bytes = max(self.peak_bytes, resident_peak(self.process.pid))
            pid, status, _ = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                read = lambda path: path.read_text(errors="replace")  # noqa: E731
                self.finished = Finished(self.process.returncode, read(self.output), read(self.errors), self.peak_bytes)
                assert "panicked" not in self.finished.stderr, self.finished.stderr
        return self.finished

    def said(self):
        """What it has said so far beside its results."""
        return self.errors.read_text(errors="replace")

    def wait(self, seconds=RUN_SECONDS):
        deadline = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                os.wait4(self.process.pid, 0)
                self.finished = Finished(-signal.SIGKILL, "", "", 0)
                raise AssertionError(f"kas3 did not end within {seconds} s; it said:\n{self.errors.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)
        return self.finished


class Pipeline:
    """A configuration and the commands that take it. `settings` is the tree of the file, to be changed as a test likes."""

    def __init__(self, folder, name, kafka, files, topics, environment):
        self.folder, self.name, self.files, self.environment = folder, name, files, environment
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        storage = {}
        if files.url.startswith("s3://"):
            storage = {"endpoint": os.environ["S3_ENDPOINT_URL"], "region": os.environ.get("AWS_REGION", "us-east-1"), "allow_http": True}
        self.settings = {
            "name": name,
            "source": {"topics": list(topics), "start": "earliest", "kafka": {"bootstrap.servers": kafka, **CLASSIC}},
            "sink": {
                "type": "files",
                "url": files.url,
                "storage": storage,
                "path": "{topic}/{partition}_{offset}",
                "format": {"type": "json_lines", "compression": "gzip"},
                "roll": {"records": 200, "age": "2s"},
                "settle": "500ms",
                "amend_after": "2s",
            },
            "memory": "256MiB",
            "http": "off",
        }
        self.file = folder / f"{name}.yaml"

    @property
    def kafka(self):
        return self.settings["source"]["kafka"]

    def configure(self, **settings):
        """Replaces settings of the sink."""
        self.settings["sink"].update(settings)

    def encode(self, **settings):
        """Changes settings of the sink's format."""
        self.settings["sink"]["format"].update(settings)

    def protocol(self, name):
        for key in CLASSIC:
            self.kafka.pop(key, None)
        self.kafka.update(PROTOCOLS[name])

    def write(self):
        """Writes the file: every command does, while another may read it. JSON is YAML."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.settings, indent=1))
        new.replace(self.file)

    def start(self, *arguments, kill=None, **environment):
        """Starts `kas3 run`; a worker of the pipeline."""
        self.write()
        return Worker(["run", self.file, *arguments], self.logs, kill, {**self.environment, **environment})

    def command(self, *arguments, code=0, seconds=RUN_SECONDS, **environment):
        """Runs any command to its end and checks the exit code."""
        self.write()
        with Worker(arguments, self.logs, None, {**self.environment, **environment}) as worker:
            finished = worker.wait(seconds)
        wanted = code if isinstance(code, tuple) else (code,)
        assert finished.code in wanted, f"`kas3 {' '.join(map(str, arguments))}` ended with {finished.code}, not {code}:\n{finished.stderr[-6000:]}\n{finished.stdout[-3000:]}"
        return finished

    def run_to_end(self, code=0, kill=None, seconds=RUN_SECONDS):
        """`kas3 run --until-end`; with `kill`, the command must die at that point and no other way."""
        if kill is None:
            return self.command("run", self.file, "--until-end", code=code, seconds=seconds)
        with self.start("--until-end", kill=kill) as worker:
            finished = worker.wait(seconds)
        assert finished.code in (0, -signal.SIGKILL), f"with kill point {kill} it ended with {finished.code}:\n{finished.stderr[-6000:]}"
        return finished

    def verify(self, code=0):
        """`kas3 verify --json`: what kas3 itself says of its files."""
        finished = self.command("verify", self.file, "--json", code=code)
        return json.loads(finished.stdout)

    def cat(self, topic, partition, first, next=None):
        """Lines of `kas3 cat` for the offsets from `first` to before `next`, or for `first` alone."""
        to = [] if next is None else ["--to", next]
        finished = self.command("cat", self.file, "--topic", topic, "--partition", partition, "--from", first, *to)
        return finished.stdout.encode().split(b"\n")[:-1]

    def ledger_folder(self, topic=""):
        return f"_kas3/{self.name}/ledger/{topic}"

    def staged(self):
        """Everything staged as objects; on a local disk hidden files count too."""
        return [path for path in self.files.paths(everything=True) if path.startswith(f"_kas3/{self.name}/staged/")]

    def heads(self):
        """Every head, by its path; on a local disk also the one before it."""
        paths = [path for path in self.files.paths(everything=True) if path.startswith(self.ledger_folder()) and "/head." in path]
        return {path: json.loads(self.files.read(path)) for path in paths}

    def damage_heads(self):
        """Other bytes in place of the files that heads hold; whether there were any."""
        held = {path: head for path, head in self.heads().items() if head.get("bytes")}
        for path, head in held.items():
            self.files.write(path, json.dumps({**head, "bytes": ["AAAA" for _ in head["bytes"]]}, indent=2).encode())
        return bool(held)


def wait_for(condition, seconds=60, what="it"):
    """Waits until `condition()` is true and returns what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)
    return found


@contextmanager
def stopped(worker):
    """SIGSTOP for the time of the block: the process neither runs nor dies."""
    worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.signal(signal.SIGCONT)
