//! `kas3 reference`: writes the generated pages of the manual, or says which are out of date.

use crate::{Arguments, claims, exit::Exit, output::tell};
use clap::{Args, CommandFactory};
use kas3_sink::{config, metrics};
use std::path::{Path, PathBuf};

/// Write the generated pages of docs/, or check that they are up to date
#[derive(Args, Debug)]
#[command(hide = true)]
pub(crate) struct ReferenceArguments {
    /// Folder of the pages
    #[arg(long, default_value = "docs")]
    dir: PathBuf,
    /// Write nothing; exit 1 when a page is not what it would be
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub(crate) fn reference(arguments: ReferenceArguments) -> anyhow::Result<Exit> {
    let pages = [
        ("reference.md", config::reference_markdown()),
        ("schema.json", config::schema_json()),
        ("commands.md", commands()),
        ("metrics.md", metrics_page()),
        ("claim-check-settings.md", claims::reference_page()),
    ];
    let mut stale = false;
    for (name, text) in pages {
        let path = arguments.dir.join(name);
        if arguments.check {
            if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
                tell(&format!("`{}` is out of date", path.display()));
                stale = true;
            }
        } else {
            write(&path, &text)?;
        }
    }
    if stale {
        tell("hint: run `make reference` and commit what it writes");
        return Ok(Exit::Found);
    }
    Ok(Exit::Done)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use anyhow::Context;
    std::fs::write(path, text).with_context(|| format!("write `{}`", path.display()))
}

/// The commands, from their own help.
fn commands() -> String {
    let mut page = String::from("<!-- Generated from the help of the commands; do not edit. -->\n\n# Commands\n\n");
    let mut root = Arguments::command().term_width(100);
    root.build();
    section(&mut root, "kas3", &mut page);
    page
}

fn section(command: &mut clap::Command, path: &str, page: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let help =
        command.clone().help_template("{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}").render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("## `{path}`\n\n```text\n{}\n```\n\n", lines.join("\n").trim()));
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        if let Some(sub) = command.find_subcommand_mut(&name) {
            section(sub, &format!("{path} {name}"), page);
        }
    }
}

fn metrics_page() -> String {
    format!(
        "<!-- Generated from the metrics themselves; do not edit. -->\n\n# Metrics\n\nEvery metric has the label `pipeline`; the labels in braces come on top. \
         Sizes are in bytes, times in seconds.\n\n{}",
        metrics::reference()
    )
}
