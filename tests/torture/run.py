"""One seed: faults against a pipeline while records stream in, then the oracle."""

import json
import random
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timezone

from e2e.driver import wait_for
from oracle import Stream, Watcher, compare, read_committed

from faults.kafka_proxy import KafkaProxy, trouble
from .broker import meddle_with_offsets, pause, restart, shorten_session, stays
from .kafka import ends
from .scenario import PROTOCOLS, SESSION_MS
from .trace import SPAN_STEPS, Trace, wait_for_point

# Catching up after the last fault, without a hand.
CATCH_UP_SECONDS = 120
# How long a point is waited for: a group may have to miss a dead member first.
POINT_SECONDS = 8
# How long two workers with one instance id may live side by side; under KIP-848 the second one waits for the session to time out.
TWINS_SECONDS = 15
# How long faults go on beyond their time while too few kills fell within a span: a busy machine starts a worker slowly.
LONGER_SECONDS = 120
# A worker that has passed a point within this time has partitions.
BUSY_SECONDS = 3


class Slot:
    """The place of one worker: who follows a dead one has its instance id."""

    def __init__(self, number):
        self.number, self.worker, self.trace, self.started = number, None, None, 0.0

    def runs(self):
        return self.worker is not None


class Run:
    """One seed against topic, bucket and pipeline that were made for it. `go` raises AssertionError when something is wrong."""

    def __init__(self, scenario, admin, kafka, topic, sink, log=lambda text: None):
        self.scenario, self.admin, self.kafka, self.topic, self.sink, self.log = scenario, admin, kafka, topic, sink, log
        self.rng = random.Random(f"run-{scenario.seed}")
        self.slots = [Slot(number) for number in range(scenario.workers)]
        self.kills, self.events = [], Counter()
        self.report, self.proxy = None, None
        self._workers = []
        self._configure()

    def _configure(self):
        scenario, sink = self.scenario, self.sink
        for name in ("session.timeout.ms", "heartbeat.interval.ms"):
            sink.kafka.pop(name, None)
        sink.kafka.update(PROTOCOLS[scenario.protocol])
        if scenario.static:
            sink.kafka["group.instance.id"] = "${INSTANCE:-last}"
        if scenario.protocol == "kip-848":
            shorten_session(self.admin, sink.name, SESSION_MS)
        sink.configure(path=scenario.shape.path, roll=dict(scenario.shape.roll), settle=scenario.settle)
        sink.encode(compression=scenario.compression)
        sink.settings["source"]["revoke_deadline"] = "2s"

    def go(self, seconds, in_span=0):
        """Faults for `seconds`, and longer until `in_span` kills fell between a first staged byte and its settlement; then the oracle."""
        shape = self.scenario.shape
        with self._way(), Watcher(self.sink.files, seconds_between=0.5) as watcher:
            try:
                stream = Stream(self.kafka, self.topic, shape.partitions, shape.records_per_second, self.scenario.seed, shape.padding, shape.fields)
                with stream:
                    self._faults(seconds, in_span)
                self._catch_up()
                self._leave_all()
            finally:
                for worker in self._workers:
                    worker.__exit__()
            with stays():
                self.sink.run_to_end()
                log = read_committed(self.kafka, self.topic, 120)
        self.report = compare(log, self.sink.files).check()
        assert watcher.first and self.report.records == len(log), "no file was seen"
        with stays():
            self.sink.verify()
        assert self.sink.staged() == [], f"staged bytes remain: {self.sink.staged()[:5]}"

    @contextmanager
    def _way(self):
        """A proxy before Kafka for the workers of a seed in which the way there goes wrong."""
        if not self.scenario.through_proxy:
            yield
            return
        with KafkaProxy(self.kafka, self.scenario.seed) as self.proxy:
            patience = {"socket.timeout.ms": 3000, "max.poll.interval.ms": 6000, "reconnect.backoff.max.ms": 1000}
            self.sink.kafka.update({"bootstrap.servers": self.proxy.address, **patience})
            try:
                yield
            finally:
                self.sink.kafka["bootstrap.servers"] = self.kafka

    # what happens

    def _faults(self, seconds, in_span):
        began = time.monotonic()
        plan = self._rare_faults(seconds)
        while True:
            lasted, enough = time.monotonic() - began, sum(kill["in_span"] for kill in self.kills) >= in_span
            if lasted >= (seconds if enough else seconds + LONGER_SECONDS):
                break
            self._fill()
            if plan and lasted > plan[0][0]:
                self._rare(plan.pop(0)[1])
                continue
            action = self.rng.choices([self._aimed, self._timed, self._early, self._all, self._sleeper, self._leaver, self._joiner, self._duplicate],
                                      [50, 15, 5, 5, 5, 6, 5, 3 if self.scenario.static else 0])[0]
            action()

    def _rare_faults(self, seconds):
        """Once each, somewhere in the middle."""
        return sorted((self.rng.uniform(0.2, 0.8) * seconds, fault) for fault in self.scenario.faults)

    def _rare(self, fault):
        self.log(fault)
        self.events[fault] += 1
        if fault == "offsets":
            for slot in self.slots:
                self._kill(slot, "all")
            done = meddle_with_offsets(self.admin, self.sink.name, self.topic, self.rng)
            self.events[f"offsets {done}"] += 1
            return
        going_wrong = threading.Thread(target=self._trouble, args=(fault, self.rng.uniform(0.5, 4)))
        going_wrong.start()
        while going_wrong.is_alive():
            going_wrong.join(self.rng.uniform(0.3, 2))
            if self.rng.random() < 0.5:
                self._kill(self._anyone(), "timed")
                self._fill()

    def _trouble(self, fault, seconds):
        if fault.startswith("connections "):
            trouble(self.proxy, fault.removeprefix("connections "), seconds)
        elif fault == "broker paused":
            pause(seconds)
        else:
            restart()

    def _aimed(self):
        """Waits until some worker passes a point, and kills it at once or a little later."""
        points = self.scenario.shape.points
        point = self.rng.choices(list(points), list(points.values()))[0]
        occurrences, pause = self.rng.choice([1, 1, 2, 3]), self.rng.choice([0, self.rng.uniform(0, 0.004), self.rng.uniform(0, 0.02)])
        self._fill()
        number = wait_for_point([slot.trace for slot in self.slots], point, occurrences, POINT_SECONDS, self.scenario.shape.span_seconds)
        time.sleep(pause)
        self._kill(self._busy() if number is None else self.slots[number], "timed" if number is None else "aimed")

    def _timed(self):
        time.sleep(self.rng.uniform(0.02, 1.5))
        self._kill(self._busy(), "timed")

    def _early(self):
        """Dies young: while it starts, joins or opens."""
        slot = self._anyone()
        self._kill(slot, "timed")
        self._start(slot)
        time.sleep(self.rng.uniform(0, 0.9))
        self._kill(slot, "timed")

    def _all(self):
        """A power cut."""
        self._fill()
        wait_for_point([slot.trace for slot in self.slots], "commit.before", 1, POINT_SECONDS, self.scenario.shape.span_seconds)
        for slot in self.slots:
            self._kill(slot, "all")

    def _sleeper(self):
        """Sleeps past its eviction while another goes on, wakes up, and lives or dies."""
        slot = self._anyone()
        self.events["SIGSTOP"] += 1
        extra = self._extra() if self.scenario.workers == 1 else None
        slot.worker.signal(signal.SIGSTOP)
        time.sleep(SESSION_MS / 1000 + self.rng.uniform(0.5, 2.5))
        slot.worker.signal(signal.SIGCONT)
        time.sleep(self.rng.choice([0, 0.02, 0.3, 1.5]))
        if self.rng.random() < 0.5:
            self._kill(slot, "timed")
        if extra:
            self._dismiss(extra)

    def _leaver(self):
        slot = self._anyone()
        self.events["leave"] += 1
        self._terminate(slot)

    def _joiner(self):
        """One more than there should be, for a while."""
        self.events["join"] += 1
        extra = self._extra()
        time.sleep(self.rng.uniform(0.3, 2))
        self._dismiss(extra)

    def _duplicate(self):
        """Two processes with one instance id: the group throws one of them out, or does not let it in; it says why and ends."""
        self.events["duplicate instance id"] += 1
        slot = self._anyone()
        twin = Slot(slot.number)
        self._start(twin)
        until = time.monotonic() + TWINS_SECONDS
        while time.monotonic() < until and slot.worker.poll() is None and twin.worker.poll() is None:
            time.sleep(0.05)
        for each in (slot, twin):
            finished = each.worker.poll()
            if finished:
                assert finished.code == 3, f"a worker with a duplicate instance id ended with {finished.code}:\n{finished.stderr[-3000:]}"
                finished.says("instance")
                each.worker = None
        if slot.runs() and twin.runs():
            # the one that is killed may have had the other thrown out already, which learns of it later: both go
            for each in (twin, slot):
                if each.worker.poll() is None:
                    self._kill(each, "timed")
                each.worker = None
        elif twin.runs():
            slot.worker, slot.trace, slot.started = twin.worker, twin.trace, twin.started

    # the hands

    def _anyone(self):
        self._fill()
        return self.rng.choice(self.slots)

    def _busy(self):
        """A worker that has partitions, where there is one: those without any are killed often enough while they start."""
        self._fill()
        since = time.time() - BUSY_SECONDS
        busy = [slot for slot in self.slots if slot.trace.passed_since(since)]
        return self.rng.choice(busy or self.slots)

    def _fill(self):
        for slot in self.slots:
            if not slot.runs():
                self._start(slot)
            self._still_runs(slot)

    def _start(self, slot):
        path = self.sink.logs / f"{len(self._workers)}.trace"
        environment = {"INSTANCE": f"worker-{slot.number}", "KAS3_KILL_TRACE": str(path)}
        slot.worker, slot.trace, slot.started = self.sink.start(**environment), Trace(path), time.time()
        self._workers.append(slot.worker)

    def _extra(self):
        extra = Slot(len(self.slots))
        self._start(extra)
        return extra

    def _dismiss(self, slot):
        self._still_runs(slot)
        if self.rng.random() < 0.6:
            self._kill(slot, "timed")
        else:
            self._terminate(slot)

    def _still_runs(self, slot):
        finished = slot.worker.poll()
        assert finished is None, f"worker {slot.number} ended by itself with {finished.code}:\n{finished.stderr[-4000:]}"

    def _terminate(self, slot):
        young = time.time() - slot.started < 2
        finished = slot.worker.terminate()
        slot.worker = None
        # before it has asked for the signal, SIGTERM ends a process as it ends any other
        allowed = (0, -signal.SIGTERM) if young else (0,)
        late = finished.code == 3 and "could not be flushed in time" in finished.stderr
        assert finished.code in allowed or late, f"SIGTERM ended worker {slot.number} with {finished.code}:\n{finished.stderr[-4000:]}"

    def _kill(self, slot, how):
        self._still_runs(slot)
        died, age = time.time(), time.time() - slot.started
        if not slot.worker.kill():
            return self._still_runs(slot)
        step = slot.trace.step(died)
        kill = {"how": how, "step": step, "in_span": step in SPAN_STEPS, "age": round(age, 3), "store": self._in_store(slot.started)}
        self.log(f"killed worker {slot.number} ({how}, {age:.1f} s old): {step}; {kill['store']}")
        self.kills.append(kill)
        slot.worker = None

    # what can be seen from outside

    def heads(self):
        """Heads by partition, without kas3's help."""
        paths = [path for path in self.sink.files.below(self.sink.ledger_folder()) if path.endswith("/head.json")]
        heads = [json.loads(self.sink.files.read(path)) for path in paths]
        return {head["partition"]: head for head in heads}

    def _in_store(self, since):
        """What the store holds of unsettled spans right after a death, whoever staged it: what the trace says must show here."""
        heads = self.heads()
        born = datetime.fromtimestamp(since, timezone.utc).replace(microsecond=0)
        staged = 0
        for path, state in self.sink.files.below(f"_kas3/{self.sink.name}/staged/").items():
            folder, name = path.rsplit("/", 1)
            head = heads.get(int(folder.rsplit("/", 1)[1]))
            staged += state[2] >= born and (head is None or int(name.split("-")[1]) >= head["next"])
        uploads = sum(begun >= born for begun in self.sink.files.uploads_begun()) if "upload" in self.scenario.shape.name else 0
        return {"pending": sum(bool(head["pending"]) for head in heads.values()), "staged": staged, "uploads": uploads}

    def _catch_up(self):
        """Whoever lives now reaches the end of the log without a hand."""
        self._fill()
        goals = ends(self.kafka, self.topic, self.scenario.shape.partitions)

        def done():
            for slot in self.slots:
                self._still_runs(slot)
            heads = self.heads()
            return all(end == 0 or partition in heads and heads[partition]["next"] >= end for partition, end in goals.items())

        wait_for(done, CATCH_UP_SECONDS, f"the workers to reach {goals}")

    def _leave_all(self):
        for slot in self.slots:
            self._terminate(slot)
