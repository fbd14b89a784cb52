"""What an operator sees of a worker: its HTTP port, its log, its memory, its membership in the group."""

import json
import re
import urllib.error
import urllib.request

from e2e.driver import wait_for

_METRIC = re.compile(r"^(\w+)\{(.*)\} (\S+)$")


class Port:
    """The HTTP port of a worker that was started with `http: 127.0.0.1:0`."""

    def __init__(self, worker):
        said = lambda: re.search(r'"http":"(http://[0-9.:]+)"', worker.errors.read_text(errors="replace"))  # noqa: E731
        self.url = wait_for(said, what="the address of the port").group(1)

    def ask(self, path):
        """Code and body."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def code(self, path):
        return self.ask(path)[0]

    def reasons(self):
        code, body = self.ask("/health")
        return code, json.loads(body)["reasons"]

    def metric(self, name, **labels):
        """The sum of a metric over all lines with these labels."""
        found = [_METRIC.match(line) for line in self.ask("/metrics")[1].splitlines()]
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(each.group(3)) for each in found if each and each.group(1) == name and all(label in each.group(2) for label in wanted))


def resident(worker):
    """Resident size now, in bytes."""
    with open(f"/proc/{worker.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def members(admin, group):
    """Member ids of a consumer group."""
    described = admin.describe_consumer_groups([group])[group].result(10)
    return sorted(member.member_id for member in described.members)


def logged(worker, level="WARN"):
    """Messages that the worker logged at a level."""
    found = []
    for line in worker.errors.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") == level:
            found.append(entry)
    return found
