//! What memory this machine lets the process have: its control groups, versions 1 and 2, and what is built in.
//!
//! A `memory` above that is no limit at all: the kernel ends the process before kas3 sees a reason to hold back.

use std::{fs, path::Path};

/// Memory that the process cannot go beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How much, in bytes.
    pub bytes: u64,
    /// Who sets it, in words.
    pub of: &'static str,
}

/// From here on a limit of a control group of version 1 stands for none.
const NO_LIMIT: u64 = 1 << 60;

/// Every limit that can be seen; none where there is no `/proc`.
pub fn of_this_process() -> Vec<Limit> {
    below(Path::new("/"))
}

/// The same below another root than `/`.
fn below(root: &Path) -> Vec<Limit> {
    let group = cgroups(root).into_iter().min().map(|bytes| Limit { bytes, of: "the control group of this process" });
    let machine = machine(root).map(|bytes| Limit { bytes, of: "this machine" });
    group.into_iter().chain(machine).collect()
}

/// The limits of the process' control groups and of those around them. Seen from within a container they lie at the root,
/// whatever the process' own path is.
fn cgroups(root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (mounts, file): (&[&str], _) = match controllers {
            "" => (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => (&["sys/fs/cgroup/memory"], "memory.limit_in_bytes"),
            _ => continue,
        };
        for mount in mounts {
            let around = Path::new(path.trim_start_matches('/')).ancestors();
            let read = around.filter_map(|group| fs::read_to_string(root.join(mount).join(group).join(file)).ok()?.trim().parse::<u64>().ok());
            limits.extend(read.filter(|bytes| *bytes < NO_LIMIT));
        }
    }
    limits
}

fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("written");
        }
        root
    }

    fn bytes(files: &[(&str, &str)]) -> Vec<u64> {
        below(root(files).path()).into_iter().map(|limit| limit.bytes).collect()
    }

    #[test]
    fn the_least_of_the_groups_around_the_process_counts_in_both_versions() {
        let two = [
            ("proc/self/cgroup", "0::/kubepods/pod1/kas3\n"),
            ("sys/fs/cgroup/kubepods/pod1/kas3/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "268435456\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "1073741824\n"),
        ];
        assert_eq!(bytes(&two), [256 << 20]);
        let one = [
            ("proc/self/cgroup", "12:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(bytes(&one), [512 << 20]);
    }

    #[test]
    fn a_container_that_sees_itself_as_the_root_finds_its_limit_there() {
        let inside = [("proc/self/cgroup", "4:memory:/docker/abc\n"), ("sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n")];
        assert_eq!(bytes(&inside), [128 << 20]);
    }

    #[test]
    fn what_is_built_in_is_a_limit_and_what_cannot_be_seen_is_none() {
        let limits = below(root(&[("proc/meminfo", "MemTotal:       16303428 kB\nMemFree: 1 kB\n")]).path());
        assert_eq!(limits, [Limit { bytes: 16_303_428 << 10, of: "this machine" }]);
        assert_eq!(bytes(&[]), [0_u64; 0]);
    }
}
