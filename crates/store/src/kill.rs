//! Named points at which a test makes the process kill itself.

/// Kills the process with SIGKILL at a named point when a test asks for it: `KAS3_KILL=name` at the first time, `name:3` at
/// the third. Nothing without the feature `kill-points`.
#[inline]
pub fn kill_point(name: &str) {
    #[cfg(feature = "kill-points")]
    armed::at(name);
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
