//! How a command ends: its exit code, and an error in words.

use crate::{output, redact};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// The check found something.
    Found,
    /// Wrong usage or configuration.
    Usage,
    /// Failed at run time.
    Failed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Found => 1,
            Exit::Usage => 2,
            Exit::Failed => 3,
        })
    }
}

/// Prints an error once: the chain of its causes, then the way out. Says how the command ends.
pub(crate) fn explain(error: &anyhow::Error) -> Exit {
    if output::is_broken_pipe(error) {
        return Exit::Done;
    }
    let (text, hint, exit) = words(error);
    output::say("ERROR", &text, hint.as_deref());
    exit
}

fn words(error: &anyhow::Error) -> (String, Option<String>, Exit) {
    let mut messages: Vec<String> = Vec::new();
    for cause in error.chain() {
        let message = cause.to_string();
        // Some libraries repeat their source in their own message.
        if !messages.last().is_some_and(|before| before.contains(&message)) {
            messages.push(message);
        }
    }
    let text = format!("error: {}", redact::text(&messages.join(": ")));
    (text, way_out(error).map(|hint| redact::text(hint).into_owned()), exit_of(error))
}

fn way_out(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| {
        let sink = cause.downcast_ref::<kas3_sink::Error>().and_then(kas3_sink::Error::way_out);
        let claim = || cause.downcast_ref::<kas3_claimcheck::Error>().and_then(kas3_claimcheck::Error::way_out);
        sink.or_else(claim).or_else(|| cause.downcast_ref::<kas3_store::Error>().and_then(kas3_store::Error::way_out))
    })
}

fn exit_of(error: &anyhow::Error) -> Exit {
    let sink = error.chain().find_map(|cause| cause.downcast_ref::<kas3_sink::Error>()).map(kas3_sink::Error::kind);
    let store = error.chain().find_map(|cause| cause.downcast_ref::<kas3_store::Error>()).map(kas3_store::Error::kind);
    let claim = error.chain().find_map(|cause| cause.downcast_ref::<kas3_claimcheck::Error>()).map(kas3_claimcheck::Error::kind);
    match (sink, claim, store) {
        (Some(kas3_sink::Kind::Config), ..) => Exit::Usage,
        (None, Some(kas3_claimcheck::Kind::Config), _) | (None, None, Some(kas3_store::Kind::Config)) => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// A wrong use of the command itself, which clap cannot see.
pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    kas3_sink::Error::new(kas3_sink::Kind::Config, message).hint(hint).into()
}

/// Something failed at run time and there is a way out to name.
pub(crate) fn failed(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    kas3_sink::Error::new(kas3_sink::Kind::Fatal, message).hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kas3_sink::{Error, Kind};

    #[test]
    fn an_error_is_its_chain_once_and_the_hint_of_the_nearest_cause() {
        let store = kas3_store::Error::new(kas3_store::Kind::Denied, "no permission to write `a/b`").hint("grant `s3:PutObject`");
        let error = anyhow::Error::from(Error::new(Kind::Fatal, "object store").source(store)).context("cannot open `a.yaml`");
        let (text, hint, exit) = words(&error);
        assert_eq!(text, "error: cannot open `a.yaml`: object store: no permission to write `a/b`");
        assert_eq!(hint.as_deref(), Some("grant `s3:PutObject`"));
        assert_eq!(exit, Exit::Failed);
    }

    #[test]
    fn what_is_configured_wrongly_ends_with_two_and_everything_else_with_three() {
        assert_eq!(exit_of(&usage("a", "b")), Exit::Usage);
        assert_eq!(exit_of(&failed("a", "b")), Exit::Failed);
        assert_eq!(exit_of(&kas3_store::Error::new(kas3_store::Kind::Config, "a").into()), Exit::Usage);
        assert_eq!(exit_of(&kas3_claimcheck::Error::new(kas3_claimcheck::Kind::Config, "a").into()), Exit::Usage);
        assert_eq!(exit_of(&kas3_claimcheck::Error::new(kas3_claimcheck::Kind::Transient, "a").into()), Exit::Failed);
        assert_eq!(exit_of(&anyhow::anyhow!("a")), Exit::Failed);
    }
}
