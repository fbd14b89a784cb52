//! What is wrong right now, or is waited for: the one register from which the log, `/health`, metrics, the page and the terminal
//! take it.
//!
//! A condition begins and ends. It is *told* once it has lasted as long as its kind asks for, so that a blip tells nobody: one line
//! when it is told, one when it ends, and between them one after a minute and then ever more rarely. What a wider condition
//! explains (the steps of a thousand partitions while their store is down) is not told on top of it.
//!
//! ```
//! use kas3_sink::conditions::{Cause, ConditionKind, Conditions};
//! use std::time::{Duration, Instant};
//! let (conditions, now) = (Conditions::default(), Instant::now());
//! conditions.begin(ConditionKind::StoreRefuses, "s3://lake", Cause::new("the store answered 403", "allow `s3:PutObject`"), now);
//! assert_eq!(conditions.list(now + Duration::from_secs(9))[0].text, "store `s3://lake` has refused requests for 9 s: the store answered 403");
//! ```

use crate::span::TopicPartition;
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What a condition is about. In the order in which conditions are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// The poll loop does not go round.
    PollSilent,
    /// No broker answers at all.
    BrokersUnreachable,
    /// Requests to a store fail: it does not answer, or not as a store that is well.
    StoreDown,
    /// A store answers, and refuses for a reason that another try does not change: no permission, no bucket, no room.
    StoreRefuses,
    /// A partition stopped until a person decides.
    PartitionStopped,
    /// Brokers answer, but not for this partition.
    PartitionUnreachable,
    /// A step of a partition fails and is tried again.
    PartitionRetries,
    /// Records wait behind a transaction that is open.
    TransactionOpen,
    /// A member of the consumer group is no worker of the pipeline: its partitions are not read.
    GroupStranger,
    /// The consumer group has given no partition yet.
    GroupAwaited,
    /// A run that is to end waits for partitions that others own.
    OthersAwaited,
}

/// How bad a condition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// `/health` answers 503: records do not become visible as they should.
    Failing,
    /// Somebody may want to know; `/health` answers 200.
    Warning,
}

impl ConditionKind {
    /// Every kind.
    pub const ALL: [ConditionKind; 11] = [
        ConditionKind::PollSilent,
        ConditionKind::BrokersUnreachable,
        ConditionKind::StoreDown,
        ConditionKind::StoreRefuses,
        ConditionKind::PartitionStopped,
        ConditionKind::PartitionUnreachable,
        ConditionKind::PartitionRetries,
        ConditionKind::TransactionOpen,
        ConditionKind::GroupStranger,
        ConditionKind::GroupAwaited,
        ConditionKind::OthersAwaited,
    ];

    /// The name in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            ConditionKind::PollSilent => "poll_silent",
            ConditionKind::BrokersUnreachable => "brokers_unreachable",
            ConditionKind::StoreDown => "store_down",
            ConditionKind::StoreRefuses => "store_refuses",
            ConditionKind::PartitionStopped => "partition_stopped",
            ConditionKind::PartitionUnreachable => "partition_unreachable",
            ConditionKind::PartitionRetries => "partition_retries",
            ConditionKind::TransactionOpen => "transaction_open",
            ConditionKind::GroupStranger => "group_stranger",
            ConditionKind::GroupAwaited => "group_awaited",
            ConditionKind::OthersAwaited => "others_awaited",
        }
    }

    /// How bad it is where nothing else is said.
    pub fn severity(self) -> Severity {
        match self {
            ConditionKind::TransactionOpen | ConditionKind::GroupAwaited | ConditionKind::OthersAwaited => Severity::Warning,
            _ => Severity::Failing,
        }
    }

    /// How long it lasts before anybody is told.
    fn told_after(self) -> Duration {
        Duration::from_secs(match self {
            ConditionKind::PollSilent | ConditionKind::PartitionStopped | ConditionKind::GroupStranger | ConditionKind::OthersAwaited => 0,
            // longer than what a store that throttles now and then takes to answer again
            ConditionKind::StoreDown | ConditionKind::StoreRefuses | ConditionKind::GroupAwaited => 5,
            // brokers are asked every few seconds, and a question may take as long
            ConditionKind::BrokersUnreachable => 10,
            // a leader moves within seconds
            ConditionKind::PartitionUnreachable => 20,
            // longer than the longest pause between two tries
            ConditionKind::PartitionRetries => 30,
            // transactions of common frameworks are open for as long as one interval of theirs
            ConditionKind::TransactionOpen => 30,
        })
    }

    /// Explains why steps of partitions fail.
    fn is_wide(self) -> bool {
        matches!(self, ConditionKind::BrokersUnreachable | ConditionKind::StoreDown | ConditionKind::StoreRefuses)
    }

    /// It is about a store.
    fn is_of_store(self) -> bool {
        matches!(self, ConditionKind::StoreDown | ConditionKind::StoreRefuses)
    }

    /// Not told while something wide explains it.
    fn is_narrow(self) -> bool {
        matches!(self, ConditionKind::PartitionUnreachable | ConditionKind::PartitionRetries)
    }

    fn level(self, severity: Severity) -> Level {
        match (self, severity) {
            (ConditionKind::PartitionStopped, _) => Level::Error,
            (ConditionKind::GroupAwaited, _) => Level::Info,
            _ => Level::Warn,
        }
    }

    /// A condition in words.
    fn sentence(self, subject: &str, lasted: Duration, reason: &str) -> String {
        let lasted = words(lasted);
        match self {
            ConditionKind::PollSilent => format!("the poll loop has been silent for {lasted}"),
            ConditionKind::BrokersUnreachable => format!("no broker of `{subject}` has answered for {lasted}: {reason}"),
            ConditionKind::StoreDown => format!("store `{subject}` has been down for {lasted}: {reason}"),
            ConditionKind::StoreRefuses => format!("store `{subject}` has refused requests for {lasted}: {reason}"),
            ConditionKind::PartitionStopped => format!("partition `{subject}` has been stopped for {lasted}: {reason}"),
            ConditionKind::PartitionUnreachable => format!("no broker has answered for partition `{subject}` for {lasted}: {reason}"),
            ConditionKind::PartitionRetries => format!("partition `{subject}` has not got on for {lasted}: {reason}"),
            ConditionKind::TransactionOpen => format!("partition `{subject}` has waited for {lasted} for a transaction that is open: {reason}"),
            ConditionKind::GroupStranger => format!(
                "the consumer group `{subject}` has had a member for {lasted} that is no worker of this pipeline, and whose partitions it does not read: {reason}"
            ),
            ConditionKind::OthersAwaited => format!("the run has waited for {lasted} for others of the consumer group `{subject}`: {reason}"),
            ConditionKind::GroupAwaited => format!("the consumer group `{subject}` has given no partition for {lasted}: {reason}"),
        }
    }

    /// What the log says when it is told.
    fn beginning(self, subject: &str, lasted: Duration, reason: &str) -> String {
        match self {
            ConditionKind::StoreDown => format!(
                "the store fails, `{subject}`, for {} now: {reason}; partitions that need it wait, and it is asked again every few seconds",
                words(lasted)
            ),
            ConditionKind::PartitionStopped => format!("partition stopped: {reason}"),
            _ => self.sentence(subject, lasted, reason),
        }
    }

    /// What the log says when it has ended.
    fn ending(self, subject: &str, lasted: Duration) -> String {
        let lasted = words(lasted);
        match self {
            ConditionKind::PollSilent => format!("the poll loop goes round again after {lasted}"),
            ConditionKind::BrokersUnreachable => format!("brokers of `{subject}` answer again after {lasted}"),
            ConditionKind::StoreDown => format!("the store answers again, `{subject}`, after {lasted}; what waited for it goes on"),
            ConditionKind::StoreRefuses => format!("store `{subject}` takes again what it had refused for {lasted}"),
            ConditionKind::PartitionStopped => format!("partition `{subject}` goes on after it was stopped for {lasted}"),
            ConditionKind::PartitionUnreachable => format!("a broker answers for partition `{subject}` again after {lasted}"),
            ConditionKind::PartitionRetries => format!("partition `{subject}` gets on again after {lasted}"),
            ConditionKind::TransactionOpen => format!("partition `{subject}` waits for no transaction any more, after {lasted}"),
            ConditionKind::GroupStranger => format!("the consumer group `{subject}` has workers of this pipeline only again, after {lasted}"),
            ConditionKind::OthersAwaited => format!("the run waits for no others of the consumer group `{subject}` any more, after {lasted}"),
            ConditionKind::GroupAwaited => format!("the consumer group `{subject}` has given partitions after {lasted}"),
        }
    }
}

/// Why a condition is there, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    reason: String,
    hint: String,
    severity: Option<Severity>,
}

impl Cause {
    /// The reason in words, and the way out; empty where there is none to name.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Cause { reason: reason.into(), hint: hint.into(), severity: None }
    }

    /// The same, as bad as this.
    #[must_use]
    pub fn severity(self, severity: Severity) -> Self {
        Cause { severity: Some(severity), ..self }
    }
}

/// A condition, as of now.
#[derive(Clone, Debug, Serialize)]
pub struct Condition {
    /// What it is about.
    pub kind: ConditionKind,
    /// How bad it is.
    pub severity: Severity,
    /// Whom it concerns: brokers, a store, a partition, a group.
    pub subject: String,
    /// When it began.
    pub since: Timestamp,
    /// How long it has lasted, in seconds.
    pub seconds: f64,
    /// The reason in words.
    pub reason: String,
    /// The way out, where there is one to name.
    pub hint: Option<String>,
    /// All of it as one sentence, the way out aside.
    pub text: String,
}

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Somebody must do something.
    Error,
    /// Something is wrong.
    Warn,
    /// Good to know.
    Info,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How loud.
    pub level: Level,
    /// What it is about.
    pub kind: ConditionKind,
    /// Whom it concerns.
    pub subject: String,
    /// What happened.
    pub text: String,
    /// The way out; empty where there is none to name.
    pub hint: String,
}

/// Conditions of one kind that begin or end together and are told each; of the others the log says how many.
const TOLD_EACH_MAX: usize = 10;
/// When the log says again that a condition lasts; the pause doubles.
const REMIND_FIRST: Duration = Duration::from_secs(60);
const REMIND_MAX: Duration = Duration::from_secs(3600);
/// A step that was not tried for so long is not tried any more, whoever forgot to say so.
const RENEWED_MAX: Duration = Duration::from_secs(300);

/// A step counts as failing when it failed again after so long: the pauses between tries grow to this.
const TRIED_AGAIN_MIN: Duration = Duration::from_secs(15);

/// The conditions of one process.
#[derive(Default)]
pub struct Conditions(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    active: BTreeMap<Key, Active>,
    /// What was told and has ended since the last look.
    ended: Vec<(Key, Duration)>,
    reminders: BTreeMap<ConditionKind, Reminder>,
    /// When something wide was last there.
    wide: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: ConditionKind,
    subject: String,
    /// Which step of the subject; empty where there is one only.
    step: String,
}

struct Active {
    cause: Cause,
    since: Instant,
    renewed: Instant,
    times: u64,
    told: bool,
}

struct Reminder {
    at: Instant,
    pause: Duration,
}

impl Conditions {
    /// It is there since `since`; one that was there already has this cause from now on.
    pub fn begin(&self, kind: ConditionKind, subject: impl Into<String>, cause: Cause, since: Instant) {
        self.lock().begin(Key { kind, subject: subject.into(), step: String::new() }, cause, since, Instant::now());
    }

    /// It is over.
    pub fn end(&self, kind: ConditionKind, subject: &str) {
        self.lock().end(&Key { kind, subject: subject.to_owned(), step: String::new() });
    }

    /// A step of a partition has failed and is tried again.
    pub fn retries(&self, of: &TopicPartition, step: &str, cause: Cause, now: Instant) {
        self.lock().begin(Key { kind: ConditionKind::PartitionRetries, subject: of.to_string(), step: step.to_owned() }, cause, now, now);
    }

    /// The partition gets on: whatever step of it had failed has succeeded, or is not needed any more.
    pub fn gets_on(&self, of: &TopicPartition) {
        let (mut inner, subject) = (self.lock(), of.to_string());
        let of_partition = |key: &&Key| key.kind == ConditionKind::PartitionRetries && key.subject == subject;
        let keys: Vec<Key> = inner.active.keys().filter(of_partition).cloned().collect();
        keys.iter().for_each(|key| inner.end(key));
    }

    /// A partition is no longer ours: what was wrong with it is told by its next owner.
    pub fn forget(&self, of: &TopicPartition) {
        let subject = of.to_string();
        let whole = [
            ConditionKind::BrokersUnreachable,
            ConditionKind::StoreDown,
            ConditionKind::StoreRefuses,
            ConditionKind::GroupAwaited,
            ConditionKind::GroupStranger,
            ConditionKind::OthersAwaited,
        ];
        self.lock().active.retain(|key, _| key.subject != subject || whole.contains(&key.kind));
    }

    /// Of these kinds only the ones about these subjects stay: the others are somebody else's by now.
    pub fn keep(&self, kinds: &[ConditionKind], subjects: &BTreeSet<String>) {
        self.lock().active.retain(|key, _| !kinds.contains(&key.kind) || subjects.contains(&key.subject));
    }

    /// Whether something wide is there, told or not, that explains why steps of partitions fail.
    pub fn explained(&self) -> bool {
        self.lock().explains(ConditionKind::PartitionRetries)
    }

    /// What has lasted for long enough that somebody should know, the worst kinds first.
    pub fn list(&self, now: Instant) -> Vec<Condition> {
        let inner = self.lock();
        let due = inner.active.iter().filter(|(key, active)| active.told || inner.is_due(key, active, now));
        due.map(|(key, active)| active.shown(key, now)).collect()
    }

    /// What the log should say now.
    pub fn look(&self, now: Instant) -> Vec<Line> {
        let mut inner = self.lock();
        inner.active.retain(|key, active| key.kind != ConditionKind::PartitionRetries || now.saturating_duration_since(active.renewed) < RENEWED_MAX);
        if inner.explains(ConditionKind::PartitionRetries) {
            inner.wide = Some(now);
        }
        let mut lines = inner.tell_ended();
        lines.extend(inner.tell_begun(now, false));
        lines.extend(inner.remind(now));
        lines
    }

    /// What the log should say at the end of the process: what a store fails or refuses is told, however short it has lasted, because
    /// nobody tells it later.
    pub fn look_last(&self, now: Instant) -> Vec<Line> {
        let mut inner = self.lock();
        let mut lines = inner.tell_ended();
        lines.extend(inner.tell_begun(now, true));
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn begin(&mut self, key: Key, cause: Cause, since: Instant, now: Instant) {
        let active = self.active.entry(key).or_insert_with(|| Active { cause: cause.clone(), since, renewed: now, times: 0, told: false });
        (active.cause, active.renewed) = (cause, now);
        active.times += 1;
    }

    fn end(&mut self, key: &Key) {
        if let Some(active) = self.active.remove(key).filter(|active| active.told) {
            self.ended.push((key.clone(), active.since.elapsed()));
        }
    }

    /// Whether something wide is there that explains a condition of this kind. A warning explains nothing, and a store no silence of
    /// brokers.
    fn explains(&self, kind: ConditionKind) -> bool {
        let wide = |key: &Key| key.kind.is_wide() && (kind != ConditionKind::PartitionUnreachable || key.kind == ConditionKind::BrokersUnreachable);
        self.active.iter().any(|(key, active)| wide(key) && active.cause.severity.unwrap_or(key.kind.severity()) == Severity::Failing)
    }

    fn is_due(&self, key: &Key, active: &Active, now: Instant) -> bool {
        let since = match self.wide {
            _ if !key.kind.is_narrow() => active.since,
            _ if self.explains(key.kind) => return false,
            // what waited for it is tried again only some time after it has ended
            Some(wide) => active.since.max(wide),
            None => active.since,
        };
        // a step that failed once and was not tried again for want of records is none
        let tried_again = key.kind != ConditionKind::PartitionRetries || active.renewed.saturating_duration_since(active.since) >= TRIED_AGAIN_MIN;
        tried_again && now.saturating_duration_since(since) >= key.kind.told_after()
    }

    fn tell_ended(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (kind, ended) in by_kind(std::mem::take(&mut self.ended), |(key, _)| key.kind) {
            let more = ended.len().saturating_sub(TOLD_EACH_MAX);
            for (key, lasted) in ended.into_iter().take(TOLD_EACH_MAX) {
                let text = kind.ending(&key.subject, lasted);
                lines.push(Line { level: Level::Info, kind, subject: key.subject, text, hint: String::new() });
            }
            if more > 0 {
                let text = format!("{more} more conditions of kind `{}` have ended", kind.name());
                lines.push(Line { level: Level::Info, kind, subject: String::new(), text, hint: String::new() });
            }
        }
        lines
    }

    fn tell_begun(&mut self, now: Instant, last: bool) -> Vec<Line> {
        let tells = |key: &Key, active: &Active| self.is_due(key, active, now) || (last && key.kind.is_of_store());
        let due = self.active.iter().filter(|(key, active)| !active.told && tells(key, active)).map(|(key, _)| key.clone());
        let mut lines = Vec::new();
        for (kind, keys) in by_kind(due.collect(), |key| key.kind) {
            let more = keys.len().saturating_sub(TOLD_EACH_MAX);
            let mut level = Level::Info;
            for (number, key) in keys.iter().enumerate() {
                let Some(active) = self.active.get_mut(key) else { continue };
                active.told = true;
                level = kind.level(active.severity(kind));
                if number < TOLD_EACH_MAX {
                    let text = kind.beginning(&key.subject, now.saturating_duration_since(active.since), &active.cause.reason);
                    lines.push(Line { level, kind, subject: key.subject.clone(), text, hint: active.cause.hint.clone() });
                }
            }
            if more > 0 {
                let text = format!("{more} more conditions of kind `{}` have begun; `/health` lists them", kind.name());
                lines.push(Line { level, kind, subject: String::new(), text, hint: String::new() });
            }
        }
        lines
    }

    /// One line for all that lasts of a kind, ever more rarely.
    fn remind(&mut self, now: Instant) -> Vec<Line> {
        let told = self.active.iter().filter(|(_, active)| active.told);
        let mut lines = Vec::new();
        for (kind, lasting) in by_kind(told.collect(), |(key, _)| key.kind) {
            let reminder = self.reminders.entry(kind).or_insert(Reminder { at: now + REMIND_FIRST, pause: REMIND_FIRST });
            let Some((key, active)) = lasting.iter().min_by_key(|(_, active)| active.since) else { continue };
            if now < reminder.at {
                continue;
            }
            reminder.pause = (reminder.pause * 2).min(REMIND_MAX);
            reminder.at = now + reminder.pause;
            let sentence = kind.sentence(&key.subject, now.saturating_duration_since(active.since), &active.cause.reason);
            let others = match lasting.len() - 1 {
                0 => String::new(),
                others => format!("; and {others} more of kind `{}`", kind.name()),
            };
            let times = if kind == ConditionKind::PartitionRetries { format!(" ({} attempts)", active.times) } else { String::new() };
            let (level, text) = (kind.level(active.severity(kind)), format!("still: {sentence}{times}{others}"));
            lines.push(Line { level, kind, subject: key.subject.clone(), text, hint: active.cause.hint.clone() });
        }
        let lasting: Vec<ConditionKind> = self.active.iter().filter(|(_, active)| active.told).map(|(key, _)| key.kind).collect();
        self.reminders.retain(|kind, _| lasting.contains(kind));
        lines
    }
}

impl Active {
    fn severity(&self, kind: ConditionKind) -> Severity {
        self.cause.severity.unwrap_or_else(|| kind.severity())
    }

    fn shown(&self, key: &Key, now: Instant) -> Condition {
        let lasted = now.saturating_duration_since(self.since);
        let hint = (!self.cause.hint.is_empty()).then(|| self.cause.hint.clone());
        Condition {
            kind: key.kind,
            severity: self.severity(key.kind),
            subject: key.subject.clone(),
            since: Timestamp::now().checked_sub(lasted).unwrap_or_else(|_| Timestamp::now()),
            seconds: lasted.as_secs_f64(),
            reason: self.cause.reason.clone(),
            hint,
            text: key.kind.sentence(&key.subject, lasted, &self.cause.reason),
        }
    }
}

/// Groups what is in the order of its kinds already, or not.
fn by_kind<T>(all: Vec<T>, kind: impl Fn(&T) -> ConditionKind) -> BTreeMap<ConditionKind, Vec<T>> {
    let mut groups: BTreeMap<ConditionKind, Vec<T>> = BTreeMap::new();
    for each in all {
        groups.entry(kind(&each)).or_default().push(each);
    }
    groups
}

/// A time span in one word or two: seconds up to ten minutes, then minutes, then hours.
fn words(lasted: Duration) -> String {
    match lasted.as_secs() {
        seconds @ 0..600 => format!("{seconds} s"),
        seconds @ 600..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn cause(reason: &str) -> Cause {
        Cause::new(reason, "look there")
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn an_outage_is_one_line_when_it_is_told_one_now_and_then_and_one_when_it_ends() {
        let (conditions, began) = (Conditions::default(), Instant::now());
        for second in 0..600 {
            conditions.begin(ConditionKind::StoreDown, "s", cause("no answer"), began);
            let lines = conditions.look(began + SECOND * second);
            match second {
                5 => assert!(lines.len() == 1 && lines[0].level == Level::Warn && lines[0].text.contains("no answer"), "{lines:?}"),
                65 | 185 | 425 => assert!(lines.len() == 1 && lines[0].text.starts_with("still: store `s`"), "{second}: {lines:?}"),
                _ => assert_eq!(lines, [], "{second}"),
            }
        }
        conditions.end(ConditionKind::StoreDown, "s");
        let lines = conditions.look(began + SECOND * 600);
        assert!(lines.len() == 1 && lines[0].level == Level::Info && lines[0].text.contains("answers again"), "{lines:?}");
        assert_eq!(conditions.look(began + SECOND * 700), []);
    }

    #[test]
    fn a_blip_tells_nobody() {
        let (conditions, began) = (Conditions::default(), Instant::now());
        conditions.begin(ConditionKind::StoreDown, "s", cause("no answer"), began);
        assert!(conditions.look(began + SECOND * 4).is_empty() && conditions.list(began + SECOND * 4).is_empty());
        conditions.end(ConditionKind::StoreDown, "s");
        assert_eq!(conditions.look(began + SECOND * 6), []);
    }

    #[test]
    fn what_a_wider_condition_explains_is_not_told_on_top_of_it_nor_at_once_when_that_one_ends() {
        let (conditions, began) = (Conditions::default(), Instant::now());
        conditions.begin(ConditionKind::StoreRefuses, "s", cause("403"), began);
        for partition in 0..50 {
            for second in [0, 20] {
                conditions.retries(&TopicPartition::new("t", partition), "commit", cause("403"), began + SECOND * second);
            }
        }
        assert_eq!(conditions.look(began + SECOND * 40).len(), 1);
        assert_eq!(conditions.list(began + SECOND * 40).len(), 1);
        conditions.end(ConditionKind::StoreRefuses, "s");
        assert_eq!(texts(&conditions.look(began + SECOND * 50)).len(), 1, "that it has ended");
        assert_eq!(conditions.list(began + SECOND * 60).len(), 0);
        let lines = conditions.look(began + SECOND * 90);
        assert_eq!(lines.len(), TOLD_EACH_MAX + 1);
        assert!(lines[TOLD_EACH_MAX].text.starts_with("40 more conditions of kind `partition_retries`"), "{lines:?}");
        assert_eq!(conditions.list(began + SECOND * 90).len(), 50);
    }

    #[test]
    fn a_partition_that_gets_on_has_no_step_that_fails_and_what_is_given_away_is_forgotten() {
        let (conditions, of, began) = (Conditions::default(), TopicPartition::new("t", 3), Instant::now());
        let other = TopicPartition::new("t", 4);
        for second in [0, 20] {
            conditions.retries(&of, "read", cause("no"), began + SECOND * second);
            conditions.retries(&of, "publish", cause("no"), began + SECOND * second);
            conditions.retries(&other, "publish", cause("no"), began + SECOND * second);
        }
        conditions.retries(&TopicPartition::new("t", 5), "read", cause("once"), began);
        conditions.gets_on(&of);
        assert_eq!(conditions.list(began + SECOND * 60).len(), 1);
        conditions.gets_on(&other);
        conditions.begin(ConditionKind::PartitionStopped, of.to_string(), cause("a gap"), began);
        assert_eq!(conditions.list(began)[0].text, "partition `t-3` has been stopped for 0 s: a gap");
        conditions.forget(&of);
        assert!(conditions.list(began + SECOND * 60).is_empty() && conditions.look(began + SECOND * 60).is_empty());
    }
}
