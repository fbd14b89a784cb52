//! `kas3 check`: what will happen, and what stands in the way.
//!
//! Questions that do not need one another are asked at once, each within [`QUESTION_MAX`]: a broker that does not answer keeps
//! nobody from hearing of a bucket that is not there.
//!
//! ```text
//! kafka ──▶ topics ──▶ records ─┐                    (kafka.rs, records.rs)
//!                  ├─▶ group    │                    (kafka.rs)
//! sink, ledger ────┴─▶ ledger: the start, rehearsed  (stores.rs, ledger.rs)
//! transforms, port              └─▶ paths            (transforms.rs, port.rs, paths.rs)
//! ```

mod answers;
mod kafka;
mod ledger;
mod paths;
mod port;
mod records;
mod stores;
mod transforms;

use crate::{configuration, exit::Exit, output::Results, readable, redact, runtime};
use answers::{Answer, Asking, Report};
use clap::Args;
use kas3_sink::plan::Pipeline;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How long one question may take.
const QUESTION_MAX: Duration = Duration::from_secs(10);

/// Say what will happen, and what stands in the way
///
/// Reads the configuration, asks Kafka for topics, permissions, offsets and the members of the consumer group, reads a few records, and
/// asks the store for permissions, conditional writes and lifecycle rules. Then it does what `run` does before it begins, without the
/// writing. Writes nothing but a few objects under `_kas3/<pipeline>/check`, which it deletes.
#[derive(Args, Debug)]
#[command(after_help = "\
Each line begins with ✓ (good), ! (good to know) or ✗ (stands in the way). Exits 1 when there is a ✗.
A question takes ten seconds at most, and most are asked at once.

Example:
  kas3 check orders.yaml --json | jq '.answers[] | select(.outcome != \"ok\")'")]
pub(crate) struct CheckArguments {
    /// Configuration
    file: PathBuf,
    /// Print one JSON document: a list of question, outcome (`ok`, `warning`, `error`), detail and fix
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn check(arguments: CheckArguments) -> anyhow::Result<Exit> {
    let pipeline = configuration::from_file(&arguments.file)?;
    runtime::block_on(async move {
        let asking = Asking::begin();
        let mut answers = vec![configured(&arguments, &pipeline)];
        answers.extend(configuration::warnings(&pipeline).into_iter().map(|warning| Answer::warning("configuration", warning)));
        answers.extend(all(&asking, &pipeline).await);
        asking.end();
        let report = Report::new(&pipeline.name, answers);
        let mut results = Results::new();
        if arguments.json {
            results.line(&redact::text(&report.json()?))?;
        } else {
            for line in report.lines() {
                results.line(&redact::text(&line))?;
            }
            results.line(&redact::text(&match report.errors() {
                0 => format!("Nothing stands in the way: kas3 run {}", arguments.file.display()),
                errors => format!("{} in the way", readable::count(errors, "thing")),
            }))?;
        }
        results.flush()?;
        Ok(if report.errors() == 0 { Exit::Done } else { Exit::Found })
    })
}

fn configured(arguments: &CheckArguments, pipeline: &Pipeline) -> Answer {
    Answer::ok("configuration", format!("configuration `{}` of pipeline `{}`", arguments.file.display(), pipeline.name))
}

/// All questions but the configuration's, and their answers in the order of the page.
async fn all(asking: &Asking, pipeline: &Arc<Pipeline>) -> Vec<Answer> {
    let reading = async {
        let (mut answers, log) = kafka::connect(asking, pipeline).await;
        let mut topics = kafka::Found::default();
        if let Some(log) = &log {
            let (more, found) = kafka::topics(asking, pipeline, log).await;
            answers.extend(more);
            topics = found;
            let (records, group) = tokio::join!(records::read(asking, log, &topics), kafka::group(asking, pipeline, log, &topics));
            answers.extend(records.0);
            answers.extend(group);
            topics.records = records.1;
        }
        (answers, log, topics)
    };
    let (reading, stores, transforms, port) =
        tokio::join!(reading, stores::all(asking, pipeline), transforms::all(asking, pipeline), port::free(asking, pipeline));
    let ((mut answers, log, topics), (store_answers, stores)) = (reading, stores);
    answers.extend(store_answers);
    let (ledger, paths) = tokio::join!(ledger::rehearsed(asking, pipeline, log.as_ref(), stores, &topics), paths::all(asking, pipeline, &topics));
    for more in [ledger, transforms, paths, port] {
        answers.extend(more);
    }
    answers
}
