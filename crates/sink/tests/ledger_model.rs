//! An exhaustive model of the ledger's protocol, beside the code that it mirrors (`src/ledger`).
//!
//! Two workers both believe that they own the partition, for ever, and resolve different starts. They stage files before the swap or
//! within it, and settle at once or with the next commit. They crash anywhere; answers are lost; requests land late or never; staged
//! bytes are deleted by others; a reader takes settled files away. In no state do spans overlap or skip, is one dropped whose files
//! were not visible, does an object change, or something taken come back; and from every state the end can be reached.
//! Breaking one rule must show: each of the last tests asserts that the checker finds it.
//!
//! A request is one step with three outcomes: applied and answered; applied, and the answer lost; not applied yet, taken for
//! lost by its sender, and landing at any later moment or never. Time is one assumption: a reader waits longer after a settle
//! than publishing requests live, so when it takes a file those have died, and workers look at the head again before sending.
#![allow(clippy::unwrap_used)]

use stateright::{Checker, Model, Property};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Who wrote a head: session and counter. No two writes that anybody still remembers share it, so it stands for the ETag as
/// well, and for the id of the span that was committed with it.
type By = u8;
type Span = (u8, u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Head {
    by: By,
    next: u8,
    pending: Option<Pending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Pending {
    id: By,
    span: Span,
    /// Where its bytes are staged; `None`: in the head itself, from the swap that commits it to the one that drops it.
    stage: Option<u8>,
}

/// Staged bytes: an upload is used up by its completion, a bundle stays, and a PUT carries its bytes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Stage {
    first: u8,
    upload: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Down,
    /// Must read the head before anything else.
    Reading,
    NoHead,
    Open {
        head: Head,
        published: bool,
        fresh: bool,
    },
    Swapping {
        base: By,
        new: Head,
    },
    /// A swap without an answer: the head is asked.
    Asking {
        base: By,
        new: Head,
    },
    /// A foreign object: a person is asked.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Request {
    CreateRecord { start: u8 },
    CreateHead { head: Head },
    Swap { base: By, new: Head },
    Publish { pending: Pending, upload: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    record: Option<u8>,
    head: Option<Head>,
    stages: BTreeMap<u8, Stage>,
    /// Visible objects by name, which is the first offset of their span; the id of the span that they are of.
    objects: BTreeMap<u8, By>,
    in_flight: BTreeSet<Request>,
    workers: [Worker; 2],
    crashes: u8,
    late: u8,
    deletions: u8,
    takes: u8,
    /// What an omniscient observer notes.
    committed: Option<u8>,
    seen: BTreeMap<u8, By>,
    taken: BTreeSet<By>,
    overlap: bool,
    changed: bool,
    returned: bool,
    dropped: bool,
}

impl State {
    /// All heads' ids and all stages that somebody could still mention.
    fn remembered(&self) -> (BTreeSet<By>, BTreeSet<u8>) {
        let (mut ids, mut stages) = (BTreeSet::new(), BTreeSet::new());
        let mut head = |head: &Head| {
            ids.insert(head.by);
            if let Some(pending) = head.pending {
                ids.insert(pending.id);
                stages.extend(pending.stage);
            }
        };
        self.head.iter().for_each(&mut head);
        let mut bases = Vec::new();
        for worker in &self.workers {
            match worker {
                Worker::Open { head: known, .. } => head(known),
                Worker::Swapping { base, new } | Worker::Asking { base, new } => {
                    head(new);
                    bases.push(*base);
                }
                _ => {}
            }
        }
        for request in &self.in_flight {
            match request {
                Request::CreateHead { head: new } => head(new),
                Request::Swap { base, new } => {
                    head(new);
                    bases.push(*base);
                }
                Request::Publish { pending, .. } => head(&Head { by: pending.id, next: 0, pending: Some(*pending) }),
                Request::CreateRecord { .. } => {}
            }
        }
        ids.extend(bases.into_iter().chain(self.seen.values().copied()).chain(self.taken.iter().copied()));
        ids.extend(self.objects.values());
        (ids, stages)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    Answered,
    AnswerLost,
    Late,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Crash(usize),
    Restart(usize),
    Read(usize),
    Create(usize, Outcome),
    Publish(usize, Outcome),
    Commit(usize, u8),
    Settle(usize),
    Amend(usize),
    Send(usize, Outcome),
    Ask(usize),
    Reclaim(usize, u8),
    Delete(u8),
    Land(Request),
    Vanish(Request),
    Take(u8),
}

/// The protocol, or one with a rule broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Kept,
    SwapIgnoresVersion,
    ReaderTakesUnsettled,
    NoAmendment,
    PublishOverwrites,
    PublishWithoutLook,
    CommitBeforePublished,
}

#[derive(Clone, Copy)]
struct Ledger {
    rules: Rules,
    /// Workers that put the bytes of their files into the head: small files; the others stage theirs before.
    in_head: [bool; 2],
    end: u8,
    crashes: u8,
    late: u8,
    deletions: u8,
    takes: u8,
}

impl Ledger {
    fn with(rules: Rules) -> Ledger {
        Ledger { rules, in_head: [false; 2], end: 2, crashes: 1, late: 1, deletions: 1, takes: 1 }
    }

    /// A fresh session and counter: the smallest that is remembered nowhere, so that equal histories give equal states.
    fn by(state: &State) -> By {
        let used = state.remembered().0;
        (0..).find(|by| !used.contains(by)).unwrap()
    }

    fn stage(&self, state: &mut State, worker: usize, first: u8) -> Option<u8> {
        if self.in_head[worker] {
            return None;
        }
        let used = state.remembered().1;
        let id = (0..).find(|id| !used.contains(id) && !state.stages.contains_key(id)).unwrap();
        state.stages.insert(id, Stage { first, upload: worker == 0 });
        Some(id)
    }

    /// What the store does with a request. `true`: it did what was asked.
    fn apply(&self, state: &mut State, request: Request) -> bool {
        match request {
            Request::CreateRecord { start } => {
                let won = state.record.is_none();
                state.record.get_or_insert(start);
                won
            }
            Request::CreateHead { head } => {
                let won = state.head.is_none();
                if won {
                    state.committed = Some(head.next);
                    state.head = Some(head);
                }
                won
            }
            Request::Swap { base, new } => {
                let Some(old) = state.head else { return false };
                if old.by != base && self.rules != Rules::SwapIgnoresVersion {
                    return false;
                }
                if let Some(pending) = new.pending
                    && old.pending.map(|pending| pending.id) != Some(pending.id)
                {
                    state.overlap |= state.committed != Some(pending.span.0);
                    state.committed = Some(pending.span.1);
                }
                if let Some(pending) = old.pending
                    && new.pending.map(|pending| pending.id) != Some(pending.id)
                {
                    state.dropped |= state.seen.get(&pending.span.0) != Some(&pending.id);
                }
                state.overlap |= state.committed != Some(new.next);
                state.head = Some(new);
                true
            }
            Request::Publish { pending, upload } => {
                let stage = pending.stage.filter(|_| upload);
                if stage.is_some_and(|stage| !state.stages.contains_key(&stage)) {
                    return false;
                }
                if state.objects.contains_key(&pending.span.0) && self.rules != Rules::PublishOverwrites {
                    return false;
                }
                if let Some(stage) = stage {
                    state.stages.remove(&stage);
                }
                state.changed |= *state.seen.entry(pending.span.0).or_insert(pending.id) != pending.id;
                state.returned |= state.taken.contains(&pending.id);
                state.objects.insert(pending.span.0, pending.id);
                true
            }
        }
    }

    /// One request by its outcome; whether the sender knows that it was done.
    fn send(&self, state: &mut State, request: Request, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Answered => self.apply(state, request),
            Outcome::AnswerLost => {
                self.apply(state, request);
                false
            }
            Outcome::Late => {
                state.late -= 1;
                state.in_flight.insert(request);
                false
            }
        }
    }

    fn outcomes(state: &State) -> impl Iterator<Item = Outcome> {
        let late = (state.late > 0).then_some(Outcome::Late);
        [Outcome::Answered, Outcome::AnswerLost].into_iter().chain(late)
    }

    fn worker_actions(&self, state: &State, w: usize, actions: &mut Vec<Action>) {
        match &state.workers[w] {
            Worker::Down => actions.push(Action::Restart(w)),
            Worker::Reading => actions.push(Action::Read(w)),
            Worker::NoHead => actions.extend(Self::outcomes(state).map(|outcome| Action::Create(w, outcome))),
            Worker::Open { head, published: false, fresh } => {
                let pending = head.pending.unwrap();
                let gone = pending.stage.is_some_and(|stage| !state.stages.contains_key(&stage)) && !state.objects.contains_key(&pending.span.0);
                if self.rules == Rules::CommitBeforePublished {
                    actions.extend((head.next + 1..=self.end).map(|next| Action::Commit(w, next)));
                }
                if !fresh && self.rules != Rules::PublishWithoutLook {
                    actions.push(Action::Read(w));
                } else if gone {
                    if self.rules != Rules::NoAmendment {
                        actions.push(Action::Amend(w));
                    }
                } else {
                    actions.extend(Self::outcomes(state).map(|outcome| Action::Publish(w, outcome)));
                }
            }
            Worker::Open { head, published: true, .. } => {
                actions.extend((head.next + 1..=self.end).map(|next| Action::Commit(w, next)));
                if head.pending.is_some() {
                    actions.push(Action::Settle(w));
                }
                let useless = |(id, stage): (&u8, &Stage)| {
                    let settled = head.pending.map_or(head.next, |pending| pending.span.0);
                    (stage.first < settled).then_some(Action::Reclaim(w, *id))
                };
                actions.extend(state.stages.iter().filter_map(useless));
            }
            Worker::Swapping { .. } => actions.extend(Self::outcomes(state).map(|outcome| Action::Send(w, outcome))),
            Worker::Asking { .. } => actions.push(Action::Ask(w)),
            Worker::Stopped => {}
        }
        if state.crashes > 0 && !matches!(state.workers[w], Worker::Down | Worker::Stopped) {
            actions.push(Action::Crash(w));
        }
    }

    fn open(head: Option<Head>) -> Worker {
        match head {
            None => Worker::NoHead,
            Some(head) => Worker::Open { head, published: head.pending.is_none(), fresh: true },
        }
    }

    fn publish(&self, state: &mut State, w: usize, outcome: Outcome) {
        let Worker::Open { head, .. } = state.workers[w].clone() else { unreachable!() };
        let pending = head.pending.unwrap();
        let upload = match pending.stage {
            Some(stage) => state.stages.get(&stage).map(|stage| stage.upload),
            None => Some(false),
        };
        let done = upload.is_some_and(|upload| self.send(state, Request::Publish { pending, upload }, outcome));
        let ours = state.objects.get(&pending.span.0).map(|id| *id == pending.id);
        state.workers[w] = match (done, outcome, ours) {
            (true, ..) | (_, Outcome::Answered, Some(true)) => Worker::Open { head, published: true, fresh: true },
            (_, Outcome::Answered, Some(false)) => Worker::Stopped,
            _ => Worker::Reading,
        };
    }

    fn create(&self, state: &mut State, w: usize, outcome: Outcome) {
        let request = match state.record {
            None => Request::CreateRecord { start: u8::try_from(w).unwrap() },
            Some(start) => Request::CreateHead { head: Head { by: Self::by(state), next: start, pending: None } },
        };
        self.send(state, request, outcome);
        state.workers[w] = Worker::Reading;
    }

    fn take(&self, state: &mut State, name: u8) {
        state.takes -= 1;
        let object = state.objects.remove(&name).unwrap();
        state.taken.insert(object);
        state.in_flight.retain(|request| !matches!(request, Request::Publish { .. }));
        for worker in &mut state.workers {
            if let Worker::Open { fresh, .. } = worker {
                *fresh = false;
            }
        }
    }

    fn at_end(&self, state: &State) -> bool {
        state.head.is_some_and(|head| head.next == self.end && head.pending.is_none())
            && state.seen.iter().all(|(first, id)| state.objects.get(first) == Some(id) || state.taken.contains(id))
    }
}

impl Model for Ledger {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            record: None,
            head: None,
            stages: BTreeMap::new(),
            objects: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            workers: [Worker::Reading, Worker::Reading],
            crashes: self.crashes,
            late: self.late,
            deletions: self.deletions,
            takes: self.takes,
            committed: None,
            seen: BTreeMap::new(),
            taken: BTreeSet::new(),
            overlap: false,
            changed: false,
            returned: false,
            dropped: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for w in 0..2 {
            self.worker_actions(state, w, actions);
        }
        if state.deletions > 0 {
            actions.extend(state.stages.keys().map(|stage| Action::Delete(*stage)));
        }
        for request in &state.in_flight {
            actions.push(Action::Land(*request));
            actions.push(Action::Vanish(*request));
        }
        if state.takes > 0 {
            for (name, id) in &state.objects {
                let settled = state.head.is_some_and(|head| head.pending.is_none_or(|pending| pending.id != *id));
                if settled || self.rules == Rules::ReaderTakesUnsettled {
                    actions.push(Action::Take(*name));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Crash(w) => {
                state.crashes -= 1;
                state.workers[w] = Worker::Down;
            }
            Action::Restart(w) => state.workers[w] = Worker::Reading,
            Action::Read(w) => state.workers[w] = Self::open(state.head),
            Action::Create(w, outcome) => self.create(&mut state, w, outcome),
            Action::Publish(w, outcome) => self.publish(&mut state, w, outcome),
            Action::Commit(w, next) => {
                let Worker::Open { head, .. } = state.workers[w] else { return None };
                let stage = self.stage(&mut state, w, head.next);
                let by = Self::by(&state);
                let pending = Pending { id: by, span: (head.next, next), stage };
                state.workers[w] = Worker::Swapping { base: head.by, new: Head { by, next, pending: Some(pending) } };
            }
            Action::Settle(w) => {
                let Worker::Open { head, .. } = state.workers[w] else { return None };
                let by = Self::by(&state);
                state.workers[w] = Worker::Swapping { base: head.by, new: Head { by, pending: None, ..head } };
            }
            Action::Amend(w) => {
                let Worker::Open { head, .. } = state.workers[w] else { return None };
                let pending = head.pending?;
                let stage = self.stage(&mut state, w, pending.span.0);
                let by = Self::by(&state);
                let new = Head { by, pending: Some(Pending { stage, ..pending }), ..head };
                state.workers[w] = Worker::Swapping { base: head.by, new };
            }
            Action::Send(w, outcome) => {
                let Worker::Swapping { base, new } = state.workers[w] else { return None };
                state.workers[w] = match self.send(&mut state, Request::Swap { base, new }, outcome) {
                    true => Self::open(Some(new)),
                    false => Worker::Asking { base, new },
                };
            }
            Action::Ask(w) => {
                let Worker::Asking { base, new } = state.workers[w] else { return None };
                let found = state.head?;
                state.workers[w] = match found.by {
                    by if by == new.by => Self::open(Some(new)),
                    by if by == base => Worker::Swapping { base, new },
                    _ => Worker::Reading,
                };
            }
            Action::Reclaim(_, stage) => {
                state.stages.remove(&stage);
            }
            Action::Delete(stage) => {
                state.deletions -= 1;
                state.stages.remove(&stage);
            }
            Action::Land(request) => {
                state.in_flight.remove(&request);
                self.apply(&mut state, request);
            }
            Action::Vanish(request) => {
                state.in_flight.remove(&request);
            }
            Action::Take(name) => self.take(&mut state, name),
        }
        // Staged bytes that nobody can name any more are of no further interest.
        let named = state.remembered().1;
        state.stages.retain(|stage, _| named.contains(stage));
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("spans neither overlap nor skip", |_, state: &State| !state.overlap),
            Property::always("a visible object never changes", |_, state: &State| !state.changed),
            Property::always("what was taken never comes back", |_, state: &State| !state.returned),
            Property::always("no span is dropped before its files were visible", |_, state: &State| !state.dropped),
            Property::always("nobody stops", |_, state: &State| !state.workers.contains(&Worker::Stopped)),
            Property::sometimes("the end is reached", |model: &Ledger, state: &State| model.at_end(state)),
        ]
    }
}

/// All states, and how many of them cannot reach the end any more.
fn explore(model: Ledger) -> (usize, usize) {
    let mut numbers: HashMap<State, usize> = HashMap::new();
    let mut before: Vec<Vec<u32>> = Vec::new();
    let mut ends = Vec::new();
    let mut queue = model.init_states();
    for state in &queue {
        numbers.insert(state.clone(), before.len());
        before.push(Vec::new());
    }
    while let Some(state) = queue.pop() {
        let number = numbers[&state];
        if model.at_end(&state) {
            ends.push(number);
        }
        for next in model.next_states(&state) {
            let found = *numbers.entry(next).or_insert_with_key(|next| {
                before.push(Vec::new());
                queue.push(next.clone());
                before.len() - 1
            });
            before[found].push(u32::try_from(number).unwrap());
        }
    }
    let mut reaches = vec![false; before.len()];
    while let Some(number) = ends.pop() {
        if !std::mem::replace(&mut reaches[number], true) {
            ends.extend(before[number].iter().map(|number| *number as usize));
        }
    }
    (reaches.len(), reaches.iter().filter(|reaches| !**reaches).count())
}

fn discoveries(rules: Rules) -> Vec<&'static str> {
    discoveries_of(Ledger::with(rules))
}

fn discoveries_of(ledger: Ledger) -> Vec<&'static str> {
    let checker = ledger.checker().finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut found: Vec<_> = checker.discoveries().into_keys().filter(|name| *name != "the end is reached").collect();
    found.sort_unstable();
    found
}

/// Records, and troubles that come together: crashes, late requests, deletions, files taken. All four at once on one record;
/// fewer at a time on two, where spans can overlap.
const TOGETHER: [(u8, u8, u8, u8, u8); 3] = [(1, 1, 1, 1, 1), (2, 1, 0, 1, 1), (2, 1, 1, 0, 0)];

/// Files staged before the swap by both workers; within it by both; within it by one of them, and each takes over what the other left.
const IN_HEAD: [[bool; 2]; 3] = [[false, false], [true, true], [true, false]];

/// All troubles with each way of staging; where the workers differ, all four at once: then each meets what the other staged.
fn ledgers() -> impl Iterator<Item = Ledger> {
    let all = IN_HEAD.into_iter().flat_map(|in_head| TOGETHER.map(|together| (in_head, together)));
    let searched = all.filter(|(in_head, (end, ..))| in_head[0] == in_head[1] || *end == 1);
    searched.map(|(in_head, (end, crashes, late, deletions, takes))| Ledger { rules: Rules::Kept, in_head, end, crashes, late, deletions, takes })
}

#[test]
fn the_protocol_keeps_its_promises_in_every_state() {
    for ledger in ledgers() {
        let checker = ledger.checker().spawn_bfs().join();
        checker.assert_properties();
        // Shown with `--nocapture`: how much "every state" is.
        eprintln!("model of the ledger: {} states checked", checker.unique_state_count());
        assert!(checker.unique_state_count() > 10_000);
    }
}

#[test]
fn from_every_state_the_end_can_be_reached() {
    for ledger in ledgers() {
        let (states, stuck) = explore(ledger);
        eprintln!("model of the ledger: {states} states, {stuck} of them stuck");
        assert_eq!(stuck, 0);
    }
}

#[test]
fn a_swap_that_ignores_the_version_is_found() {
    assert!(discoveries(Rules::SwapIgnoresVersion).contains(&"spans neither overlap nor skip"));
}

#[test]
fn a_reader_that_takes_unsettled_files_is_found() {
    assert_eq!(discoveries(Rules::ReaderTakesUnsettled), ["what was taken never comes back"]);
}

#[test]
fn publishing_after_a_sleep_without_a_look_at_the_head_is_found() {
    assert_eq!(discoveries(Rules::PublishWithoutLook), ["what was taken never comes back"]);
}

#[test]
fn a_commit_that_drops_the_bytes_of_a_span_before_they_are_published_is_found() {
    for in_head in IN_HEAD {
        let broken = Ledger { in_head, crashes: 0, late: 0, deletions: 0, takes: 0, ..Ledger::with(Rules::CommitBeforePublished) };
        assert_eq!(discoveries_of(broken), ["no span is dropped before its files were visible"], "{in_head:?}");
    }
}

#[test]
fn bytes_in_the_head_are_never_lost_without_it() {
    let in_head = |rules| Ledger { rules, in_head: [true; 2], end: 1, crashes: 1, late: 1, deletions: 1, takes: 1 };
    assert_eq!(explore(in_head(Rules::NoAmendment)).1, 0, "nothing has to be made again");
}

#[test]
fn without_amendments_states_are_stuck() {
    let (_, stuck) = explore(Ledger { crashes: 0, late: 0, takes: 0, ..Ledger::with(Rules::NoAmendment) });
    assert!(stuck > 0);
}
