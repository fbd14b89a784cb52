//! `kas3 demo`: the main job on an embedded broker and a local folder, killed half-way.
//!
//! The broker (librdkafka's in-process one) lives in this process; `kas3 run` is a child that gets SIGKILL. What is shown is
//! what happened: numbers come from the ledger, verify and cat are the commands themselves.

mod broker;
mod child;
mod folder;
mod orders;

use crate::{
    configuration,
    exit::{Exit, failed, usage},
    inspect,
    output::Results,
    readable, runtime,
};
use broker::Broker;
use child::Child;
use clap::Args;
use folder::Folder;
use kas3_sink::{ledger::Ledger, plan::Pipeline};
use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

/// See it work: an embedded broker, a local folder, and a SIGKILL half-way
///
/// Produces sample orders, moves them into files with `kas3 run` in a child process, kills that child half-way, starts it again,
/// verifies every record, shows the files, and reads one record back by offset. Needs no set-up and no network; takes about
/// fifteen seconds. Everything is below the folder `demo` in the current directory.
#[derive(Args, Debug)]
pub(crate) struct DemoArguments {
    /// Orders to produce, 3000 to 45000 (the embedded broker keeps 5 MiB a partition)
    #[arg(long, default_value_t = 30_000)]
    records: u64,
    /// Keep the broker up afterwards, until Ctrl-C, so that you can try the commands
    #[arg(long)]
    keep: bool,
}

/// Partitions of the topic.
const PARTITIONS: i32 = 3;
/// What the embedded broker holds without forgetting.
const RECORDS: std::ops::RangeInclusive<u64> = 3_000..=45_000;
/// How long producing each half takes.
const HALF: Duration = Duration::from_secs(4);
/// How long the child may make no progress.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often is looked.
const TICK: Duration = Duration::from_millis(50);
/// How often numbers are shown.
const SHOW: Duration = Duration::from_secs(1);
/// The record that is read back.
const SHOWN_PARTITION: i32 = 1;

/// Runs the command.
pub(crate) fn demo(arguments: DemoArguments) -> anyhow::Result<Exit> {
    if !RECORDS.contains(&arguments.records) {
        let text = format!("`--records {}` is not between {} and {}", arguments.records, RECORDS.start(), RECORDS.end());
        return Err(usage(text, "the embedded broker keeps about 5 MiB a partition; try the sink on a real broker for more"));
    }
    let folder = Folder::prepare(Path::new("demo"))?;
    runtime::block_on(async move {
        let broker = Broker::start(PARTITIONS, arguments.records)?;
        let mut demo = Demo::new(broker, folder, arguments.records).await?;
        let exit = demo.show().await?;
        if arguments.keep {
            demo.keep().await?;
        }
        Ok(exit)
    })
}

struct Demo {
    broker: Broker,
    folder: Folder,
    ledger: Arc<Ledger>,
    records: u64,
    out: Results,
    begun: Instant,
}

/// What the ledger says.
#[derive(Clone, Copy, Default, PartialEq)]
struct Progress {
    committed: u64,
    files: u64,
}

impl Demo {
    async fn new(broker: Broker, folder: Folder, records: u64) -> anyhow::Result<Self> {
        folder.write_configuration(&broker.servers())?;
        let pipeline: Arc<Pipeline> = configuration::from_file(&folder.configuration())?;
        let (_, ledger) = inspect::without_kafka(&pipeline).await?;
        Ok(Demo { broker, folder, ledger, records, out: Results::new(), begun: Instant::now() })
    }

    /// Shows a line at once.
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.out.line(text)?;
        Ok(self.out.flush()?)
    }

    async fn show(&mut self) -> anyhow::Result<Exit> {
        let (shown, records) = (self.folder.configuration_shown(), self.records);
        self.say("kas3 demo: from Kafka into files, exactly once, with a SIGKILL half-way")?;
        self.say(&format!("  broker   librdkafka's in-process broker at {} (this process)", self.broker.servers()))?;
        self.say(&format!("  sink     {}", self.folder.lake_shown()))?;
        self.say(&format!("  config   {shown}\n"))?;
        self.say(&format!("1. Produce {} orders into {PARTITIONS} partitions while `kas3 run {shown}` moves them", readable::number(records)))?;
        let mut child = Child::run(&self.folder, false)?;
        self.wait_for_group(&mut child).await?;
        self.produce_while(&mut child, records / 2).await?;
        let pid = child.id();
        child.kill()?;
        let before = self.progress().await?;
        self.say(&format!("\n2. Kill it half-way: process {pid} got SIGKILL and could not tidy up"))?;
        self.say(&format!(
            "   the ledger says that {} are committed; the others it had read are in no file",
            readable::count(before.committed, "record")
        ))?;
        self.broker.produce(records / 2..records)?;
        self.broker.flush()?;
        self.say(&format!("   meanwhile the other {} orders arrive", readable::number(records - records / 2)))?;
        self.say(&format!("\n3. Start it again: `kas3 run {shown} --until-end` goes on where the ledger says"))?;
        let mut child = Child::run(&self.folder, true)?;
        self.wait_for_end(&mut child).await?;
        let exit = self.prove()?;
        self.say(&self.epilogue(exit))?;
        Ok(exit)
    }

    /// Waits until the child has opened all partitions: a consumer group takes a few seconds to form.
    async fn wait_for_group(&mut self, child: &mut Child) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.ledger.heads().await?.len() < PARTITIONS.unsigned_abs() as usize {
            child.expect_running()?;
            if begun.elapsed() > PATIENCE {
                return Err(child.explain("the pipeline did not open its partitions"));
            }
            tokio::time::sleep(TICK).await;
        }
        self.say(&format!("   its consumer group formed and its partitions are open after {}", readable::duration(begun.elapsed())))
    }

    /// Produces the first half at its pace, and waits until the child has committed some of it.
    async fn produce_while(&mut self, child: &mut Child, until: u64) -> anyhow::Result<()> {
        let (begun, mut produced, mut shown) = (Instant::now(), 0, Instant::now());
        loop {
            let due = (until as f64 * begun.elapsed().as_secs_f64() / HALF.as_secs_f64()) as u64;
            let due = due.min(until);
            self.broker.produce(produced..due)?;
            produced = due;
            let progress = self.progress().await?;
            if shown.elapsed() >= SHOW {
                shown = Instant::now();
                self.say(&numbers(produced, progress))?;
            }
            if produced == until && progress.committed > 0 {
                return Ok(());
            }
            child.expect_running()?;
            if begun.elapsed() > HALF + PATIENCE {
                return Err(child.explain("the pipeline committed nothing"));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn wait_for_end(&mut self, child: &mut Child) -> anyhow::Result<()> {
        let (mut moved, mut shown) = (Instant::now(), Instant::now());
        let (mut last, mut said) = (self.progress().await?, None);
        loop {
            let ended = child.ended()?;
            let progress = self.progress().await?;
            if progress != last {
                (last, moved) = (progress, Instant::now());
            }
            let changed = said != Some(progress);
            if (ended || shown.elapsed() >= SHOW) && changed {
                (shown, said) = (Instant::now(), Some(progress));
                self.say(&numbers(self.records, progress))?;
            }
            if ended {
                return child.expect_success();
            }
            if moved.elapsed() > PATIENCE {
                return Err(child.explain("the pipeline makes no progress"));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn progress(&self) -> anyhow::Result<Progress> {
        let mut progress = Progress::default();
        for head in self.ledger.heads().await? {
            let of = head.of();
            for entry in self.ledger.history(&head).await?.iter().chain(&head.pending) {
                progress.committed += entry.counts.read;
                progress.files += self.ledger.files(entry, &of).await?.len() as u64;
            }
        }
        Ok(progress)
    }

    /// Verifies, shows the files, and reads one record back, with the commands themselves.
    fn prove(&mut self) -> anyhow::Result<Exit> {
        let shown = self.folder.configuration_shown();
        self.say(&format!("\n4. Compare broker and files, record by record: `kas3 verify {shown}`"))?;
        let exit = self.command(&["verify", &shown])?;
        self.say("\n5. The files")?;
        for line in self.folder.tree()? {
            self.say(&format!("   {line}"))?;
        }
        let offset = (self.records / PARTITIONS.unsigned_abs() as u64 / 2).to_string();
        let partition = SHOWN_PARTITION.to_string();
        let words = ["cat", &shown, "--topic", orders::TOPIC, "--partition", &partition, "--from", &offset];
        self.say(&format!("\n6. Read one record back by its offset, through the block index: `kas3 {}`", words.join(" ")))?;
        let read = self.command(&words)?;
        Ok(if exit == Exit::Done { read } else { exit })
    }

    /// Runs one of our own commands and shows what it prints.
    fn command(&mut self, words: &[&str]) -> anyhow::Result<Exit> {
        let output = Command::new(std::env::current_exe()?).args(words).output()?;
        for text in [&output.stdout, &output.stderr] {
            for line in String::from_utf8_lossy(text).lines() {
                self.say(&format!("   {line}"))?;
            }
        }
        match output.status.code() {
            Some(0) => Ok(Exit::Done),
            Some(1) => Ok(Exit::Found),
            _ => Err(failed(format!("`kas3 {}` failed with {}", words.join(" "), output.status), "what it said is above")),
        }
    }

    fn epilogue(&self, exit: Exit) -> String {
        let took = readable::duration(self.begun.elapsed());
        if exit != Exit::Done {
            return format!("\nVerify found something, after {took}. That must not happen: please report it, with the folder `demo`.");
        }
        let (shown, lake) = (self.folder.configuration_shown(), self.folder.lake_shown());
        format!(
            "\nDone in {took}: {} records, one SIGKILL, nothing lost and nothing doubled.\n\n\
             What to try next:\n  \
               {:<44}  the files are plain gzip\n  \
               {:<44}  how far each partition is\n  \
               {:<44}  the broker stays up, so that you can run the commands yourself\n  \
               {:<44}  your own Kafka and S3: README.md has a configuration to begin with",
            readable::number(self.records),
            format!("zcat {lake}/orders/*/*/*.gz | head -3"),
            format!("kas3 ledger show {shown}"),
            "kas3 demo --keep",
            "kas3 check FILE, then kas3 run FILE",
        )
    }

    async fn keep(&mut self) -> anyhow::Result<()> {
        let shown = self.folder.configuration_shown();
        self.say(&format!("\nThe broker stays up until Ctrl-C. In another terminal: kas3 verify {shown}, kas3 check {shown}, kas3 run {shown}"))?;
        tokio::signal::ctrl_c().await?;
        Ok(())
    }
}

fn numbers(produced: u64, progress: Progress) -> String {
    let [produced, committed, files] = [produced, progress.committed, progress.files].map(readable::number);
    format!("   produced {produced:>7}   committed {committed:>7}   files {files:>4}")
}
