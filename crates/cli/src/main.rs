//! The command `kas3`: one file a subcommand.
//!
//! Exit codes: 0 done, 1 the check found something, 2 wrong usage or configuration, 3 failed at run time. An error is printed
//! once, here: its chain of causes on one line, then `hint:` with the way out. Secrets of the configuration never appear.
//!
//! ```text
//! $ kas3 run orders.yaml
//! error: unknown key `compresion` in `sink.format`
//! hint: did you mean `compression`?
//! ```

mod accept;
mod allocator;
mod cat;
mod check;
mod claims;
mod configuration;
mod demo;
mod exit;
mod file;
mod http;
mod inspect;
mod ledger;
mod logging;
mod output;
mod payloads;
mod progress;
mod readable;
mod redact;
mod reference;
mod run;
mod runtime;
mod signals;
mod verify;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Everything between Kafka and object storage: moves topics into S3 exactly once, and carries payloads too large for Kafka.
#[derive(Debug, Parser)]
#[command(name = "kas3", version, propagate_version = true, max_term_width = 110, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: logging::LoggingArguments,
}

const EXAMPLES: &str = "\
Examples:
  kas3 demo                          see it work: no set-up, no network
  kas3 check orders.yaml             what will happen, and what stands in the way
  kas3 run orders.yaml               move records until SIGTERM
  kas3 run orders.yaml --until-end   move what is there now, then stop
  kas3 verify orders.yaml            compare Kafka with the files, record by record
  kas3 cat orders.yaml --topic orders --partition 0 --from 41 --to 43

  kas3 produce claims.yaml --directory scans    send files of any size: large ones travel through S3
  kas3 consume claims.yaml --output in          and have them back, verified
  kas3 payloads gc claims.yaml                  what no record names any more

Exit codes:
  0 done, 1 the check found something, 2 wrong usage or configuration, 3 failed at run time";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArguments),
    Check(check::CheckArguments),
    Verify(verify::VerifyArguments),
    Cat(cat::CatArguments),
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    Produce(claims::ProduceArguments),
    Consume(claims::ConsumeArguments),
    #[command(subcommand)]
    Payloads(payloads::PayloadsCommand),
    ClaimCheck(claims::ClaimCheckArguments),
    Demo(demo::DemoArguments),
    Reference(reference::ReferenceArguments),
}

impl Command {
    /// Whether the settings come from the names of kaf-s3-connector.
    fn takes_the_environment(&self) -> bool {
        match self {
            Command::Produce(command) => command.takes_the_environment(),
            Command::Consume(command) => command.takes_the_environment(),
            Command::ClaimCheck(_) => true,
            _ => false,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let long_running = matches!(arguments.command, Command::Run(_) | Command::ClaimCheck(_));
    let level = arguments.command.takes_the_environment().then(|| std::env::var("LOG_LEVEL").ok()).flatten();
    let outcome = arguments.logging.install(long_running, level).and_then(|()| match arguments.command {
        Command::Run(command) => run::run(command),
        Command::Check(command) => check::check(command),
        Command::Verify(command) => verify::verify(command),
        Command::Cat(command) => cat::cat(command),
        Command::Ledger(ledger::LedgerCommand::Show(command)) => ledger::show(command),
        Command::Ledger(ledger::LedgerCommand::Accept(command)) => accept::accept(command),
        Command::Produce(command) => claims::produce(command),
        Command::Consume(command) => claims::consume(command),
        Command::Payloads(command) => payloads::payloads(command),
        Command::ClaimCheck(command) => claims::claim_check(command),
        Command::Demo(command) => demo::demo(command),
        Command::Reference(command) => reference::reference(command),
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => exit::explain(&error).into(),
    }
}
