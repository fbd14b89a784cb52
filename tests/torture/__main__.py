"""`python -m torture`: a campaign of seeds, each in a process of its own; prints a line a seed and a table at the end.

Exit code 1 when a seed failed. Its folder (configuration, logs, traces, ledger) is kept, and its topic and bucket.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from confluent_kafka.admin import AdminClient

from e2e.driver import Pipeline
from oracle.files import s3_client
from services import create_topic, fresh_name

from . import broker
from .files import Bucket
from .run import Run
from .scenario import scenario
from .trace import MEANINGS, SPAN_STEPS

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")
# A seed's end (catching up, reading everything back) may take so much longer than its faults.
END_SECONDS = 600


def parse_seeds(text):
    """`7`, `1,5,9` and `1-40`."""
    seeds = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def arguments():
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="no seed is begun after so long")
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("1-100000"), help="as 7, 1,5,9 or 1-40")
    parser.add_argument("--workers", type=int, choices=[1, 2, 3], help="by default the seed decides")
    parser.add_argument("--kills", type=int, default=0, help="end when so many workers were killed")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at once")
    parser.add_argument("--seed-seconds", type=float, default=30, help="how long each seed makes trouble")
    parser.add_argument("--folder", type=Path, help="where results go; by default a new folder for temporary files")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def one(options):
    """Runs one seed and writes `result.json` into its folder."""
    seed, folder = options.seeds[0], options.folder
    kafka = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    plan = scenario(seed, options.workers, broker.is_ours())
    admin, name = AdminClient({"bootstrap.servers": kafka}), fresh_name(f"torture-{seed}")
    result = {"seed": seed, "scenario": str(plan), "name": name, "failure": None}
    began = time.monotonic()
    create_topic(admin, name, plan.shape.partitions, max_message_bytes=8_000_000)
    files = Bucket(s3_client(), name, "lake").make()
    sink = Pipeline(folder, name, kafka, files, [name], {key: os.environ[key] for key in CREDENTIALS if key in os.environ})
    with open(folder / "events.log", "w", buffering=1) as events:
        run = Run(plan, admin, kafka, name, sink, lambda text: events.write(f"{time.time():.3f} {text}\n"))
        try:
            run.go(options.seed_seconds)
        except BaseException:  # noqa: BLE001: whatever ended it is the finding
            result["failure"] = traceback.format_exc()
    result |= {"kills": run.kills, "events": dict(run.events), "seconds": round(time.monotonic() - began, 1)}
    result |= {"records": run.report.records, "files": run.report.files} if run.report else {}
    result["uploads_left"] = len(files.uploads())
    if result["failure"]:
        keep_store(files, folder / "store")
    else:
        files.remove()
        admin.delete_topics([name])[name].result(60)
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    return 1 if result["failure"] else 0


def keep_store(files, folder):
    """The ledger and a list of everything, for whoever looks for the cause."""
    folder.mkdir()
    listing = files.list(everything=True)
    (folder / "objects.txt").write_text("".join(f"{state[2]:%H:%M:%S} {state[1]:>10} {path}\n" for path, state in sorted(listing.items())))
    for path in files.below("_kas3/"):
        if "/staged/" not in path:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(files.read(path))


class Campaign:
    """Seeds in processes of their own, a few at once."""

    def __init__(self, options):
        self.options, self.running, self.results = options, {}, []
        self.folder = options.folder or Path(tempfile.mkdtemp(prefix="kas3-torture-"))
        self.began = time.monotonic()

    def run(self):
        print(f"results go to {self.folder}", flush=True)
        seeds = iter(self.options.seeds)
        while True:
            while len(self.running) < self.options.jobs and self.wants_more():
                seed = next(seeds, None)
                if seed is None:
                    break
                self.begin(seed)
            if not self.running:
                break
            self.look()
            time.sleep(0.2)
        text = self.summary()
        print(text)
        (self.folder / "summary.txt").write_text(text)
        (self.folder / "results.json").write_text(json.dumps(self.results, indent=1))
        return 1 if any(result["failure"] for result in self.results) else 0

    def kills(self):
        return [kill for result in self.results for kill in result.get("kills", [])]

    def wants_more(self):
        options = self.options
        return time.monotonic() - self.began < options.seconds and not (options.kills and len(self.kills()) >= options.kills)

    def begin(self, seed):
        folder = self.folder / f"seed-{seed}"
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "torture", "--one", "--seeds", str(seed), "--folder", str(folder), "--seed-seconds", str(self.options.seed_seconds)]
        command += ["--workers", str(self.options.workers)] if self.options.workers else []
        with open(folder / "runner.log", "w") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.running[seed] = (process, folder, time.monotonic())

    def look(self):
        for seed, (process, folder, began) in list(self.running.items()):
            late = time.monotonic() - began > self.options.seed_seconds + END_SECONDS
            if late:
                process.kill()
            if process.poll() is None and not late:
                continue
            process.wait()
            del self.running[seed]
            try:
                result = json.loads((folder / "result.json").read_text())
            except FileNotFoundError:
                said = (folder / "runner.log").read_text()[-3000:]
                result = {"seed": seed, "scenario": "", "failure": f"the run {'took too long' if late else 'died'}:\n{said}"}
            self.results.append(result)
            self.tell(result, folder)

    def tell(self, result, folder):
        kills = result.get("kills", [])
        spans = sum(kill["in_span"] for kill in kills)
        text = f"seed {result['seed']}: {result['scenario']}: {len(kills)} kills ({spans} in a span)"
        text += "".join(f", {count} {event}" for event, count in result.get("events", {}).items())
        if result["failure"]:
            text += f"\nFAILED: {result['failure']}\nSEEDS={result['seed']} runs it again; see {folder}"
        else:
            text += f"; {result['records']} records in {result['files']} files, exact; {result['seconds']} s"
        print(text, flush=True)

    def summary(self):
        kills, failed = self.kills(), [result["seed"] for result in self.results if result["failure"]]
        steps, ways = Counter(kill["step"] for kill in kills), Counter(kill["how"] for kill in kills)
        stored = sum(any(kill["store"].values()) for kill in kills)
        spans, events = sum(kill["in_span"] for kill in kills), Counter()
        for result in self.results:
            events.update(result.get("events", {}))
        lines = ["", f"{len(self.results)} seeds, {len(failed)} failed{f': {failed}' if failed else ''}; {time.monotonic() - self.began:.0f} s"]
        lines += [f"{sum(result.get('records', 0) for result in self.results)} records in {sum(result.get('files', 0) for result in self.results)} files, compared one by one"]
        lines += [f"{len(kills)} SIGKILLs ({', '.join(f'{count} {way}' for way, count in ways.most_common())}); {spans} between the first staged byte and the settlement"]
        lines += [f"after {stored} of them the store held something staged or pending"]
        lines += [f"uploads that dead workers left open in the end: {sum(result.get('uploads_left', 0) for result in self.results)}", "", "| step | kills | what it is |", "| --- | --- | --- |"]
        lines += [f"| {step} | {steps[step]} | {MEANINGS[step]} |" for step in MEANINGS if step in SPAN_STEPS]
        lines += [f"| {step} | {steps[step]} | {MEANINGS[step]} |" for step in MEANINGS if step not in SPAN_STEPS]
        lines += ["", "| other fault | times |", "| --- | --- |"] + [f"| {event} | {count} |" for event, count in sorted(events.items())]
        return "\n".join(lines) + "\n"


if __name__ == "__main__":
    chosen = arguments()
    sys.exit(one(chosen) if chosen.one else Campaign(chosen).run())
