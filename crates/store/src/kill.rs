//! Named points at which a test makes the process kill itself.

/// Kills the process with SIGKILL at a named point when a test asks for it: `KAS3_KILL=name` at the first time, `name:3` at
/// the third. `KAS3_KILL_TRACE=path` appends each point that is passed to that file, as `<microseconds since 1970> <task> <name>`,
/// so that somebody who kills from outside can tell, and aim at, the step. Nothing without the feature `kill-points`.
#[inline]
pub fn kill_point(name: &str) {
    #[cfg(feature = "kill-points")]
    {
        trace::passed(name);
        armed::at(name);
    }
    #[cfg(not(feature = "kill-points"))]
    let _ = name;
}

#[cfg(feature = "kill-points")]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    pub(super) fn at(name: &str) {
        static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static SEEN: AtomicU64 = AtomicU64::new(0);
        let wanted = WANTED.get_or_init(|| {
            let text = std::env::var("KAS3_KILL").ok()?;
            let (name, count) = text.rsplit_once(':').unwrap_or((text.as_str(), "1"));
            Some((name.to_owned(), count.parse().unwrap_or(1)))
        });
        if let Some((wanted, count)) = wanted
            && wanted == name
            && SEEN.fetch_add(1, Ordering::SeqCst) + 1 == *count
        {
            eprintln!("kill point `{name}` reached");
            // SAFETY: kill has no memory effects; the process ends here.
            #[allow(unsafe_code)]
            unsafe {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
    }
}

#[cfg(feature = "kill-points")]
mod trace {
    use std::{
        fs::{File, OpenOptions},
        io::Write,
        sync::OnceLock,
        time::{SystemTime, UNIX_EPOCH},
    };

    /// One unbuffered write a line: what was passed is in the file, however soon the process dies.
    pub(super) fn passed(name: &str) {
        static TRACE: OnceLock<Option<File>> = OnceLock::new();
        let file = TRACE.get_or_init(|| {
            let path = std::env::var_os("KAS3_KILL_TRACE")?;
            OpenOptions::new().append(true).create(true).open(path).ok()
        });
        if let Some(mut file) = file.as_ref() {
            let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
            let task = tokio::task::try_id().map_or_else(|| "-".to_owned(), |id| id.to_string());
            let _ = file.write_all(format!("{micros} {task} {name}\n").as_bytes());
        }
    }
}
