//! `kas3 run` as a child process.

use super::folder::Folder;
use crate::exit::failed;
use std::{
    fs::{File, OpenOptions},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
};

/// The child; it is killed when this is dropped.
pub(super) struct Child {
    process: std::process::Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts `kas3 run` on the demo's configuration.
    pub(super) fn run(folder: &Folder, until_end: bool) -> anyhow::Result<Self> {
        let log = folder.log();
        let out: File = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--log-format", "text", "--log-level", "info", "run"]).arg(folder.configuration());
        if until_end {
            command.arg("--until-end");
        }
        let process = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Child { process, log, ended: None })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.ended = Some(self.process.wait()?);
        Ok(())
    }

    pub(super) fn ended(&mut self) -> anyhow::Result<bool> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait()?;
        }
        Ok(self.ended.is_some())
    }

    pub(super) fn expect_running(&mut self) -> anyhow::Result<()> {
        if self.ended()? { Err(self.explain("the pipeline ended by itself")) } else { Ok(()) }
    }

    pub(super) fn expect_success(&self) -> anyhow::Result<()> {
        match self.ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.explain(&format!("the pipeline failed with {status}"))),
            None => Err(self.explain("the pipeline did not end")),
        }
    }

    /// An error with the last lines that the child logged.
    pub(super) fn explain(&self, what: &str) -> anyhow::Error {
        /// Lines of the log that are shown.
        const LINES: usize = 12;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
        failed(format!("{what}; the last it logged:\n  {last}"), format!("its whole log is `{}`", self.log.display()))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
