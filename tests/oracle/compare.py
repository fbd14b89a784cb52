"""The comparison: the records of all visible files against the log, one by one."""

from collections import defaultdict
from dataclasses import dataclass, field

from .files import lines

SHOWN = 5


@dataclass
class Report:
    """What differs. Empty lists mean that the files hold exactly the log."""

    records: int = 0
    files: int = 0
    lost: list = field(default_factory=list)
    doubled: list = field(default_factory=list)
    unknown: list = field(default_factory=list)
    disordered: list = field(default_factory=list)
    broken: list = field(default_factory=list)

    def exact(self):
        return not (self.lost or self.doubled or self.unknown or self.disordered or self.broken)

    def __str__(self):
        kinds = ("lost", "doubled", "unknown", "disordered", "broken")
        text = f"{self.records} records in {self.files} files: " + ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in kinds)
        for kind in kinds:
            for each in getattr(self, kind)[:SHOWN]:
                text += f"\n  {kind}: {each}"
        return text

    def check(self):
        """Raises AssertionError unless everything is exact; returns the report."""
        assert self.exact(), str(self)
        return self


def by_value(entry):
    """What a line of `json_lines` or `text` must be: the value as it is."""
    return entry.value


def compare(log, files, expect=by_value, read=lambda line: line, records=lines):
    """Compares `log` (entries) with all data in `files`.

    `expect(entry)` is what identifies an entry in a file, or None when it is not to be there; `read(line)` is what identifies
    a line of a file. Both must be the same for a record and its line, and different for any two records.
    """
    expected = {}
    for entry in log:
        identity = expect(entry)
        if identity is None:
            continue
        assert identity not in expected, f"the oracle needs records that differ: {identity!r} is in the log twice"
        expected[identity] = entry
    report, seen = Report(), defaultdict(list)
    for path in files.paths():
        report.files += 1
        try:
            found = [read(line) for line in records(path, files.read(path))]
        except Exception as error:  # noqa: BLE001: whatever a reader trips over is a finding
            report.broken.append(f"{path}: {type(error).__name__}: {error}")
            continue
        _read_file(path, found, expected, seen, report)
    for identity, entry in expected.items():
        places = seen.get(identity, ())
        where = f"{entry.topic}-{entry.partition} offset {entry.offset}"
        if not places:
            report.lost.append(where)
        elif len(places) > 1:
            report.doubled.append(f"{where} in {', '.join(sorted(places))}")
    return report


def _read_file(path, found, expected, seen, report):
    newest = {}
    for number, identity in enumerate(found, 1):
        report.records += 1
        entry = expected.get(identity)
        if entry is None:
            report.unknown.append(f"{path} line {number}: {identity!r:.200}")
            continue
        seen[identity].append(path)
        partition = (entry.topic, entry.partition)
        if entry.offset < newest.get(partition, -1):
            report.disordered.append(f"{path} line {number}: offset {entry.offset} after {newest[partition]}")
        newest[partition] = entry.offset
