//! The cgroup of an action: its limits, and the end of all that it started. Version 2 of cgroups only.
//!
//! Groups lie in `farrier/` at the top of the hierarchy, as only there a controller can be had in any case: processes of
//! whoever runs the action may be in its own group, and a group with processes gives none on. On a host that has version 2
//! beside version 1 (no controllers in it) a group is of use to end what is in it, and limits are refused.
//!
//! Source: Linux, Documentation/admin-guide/cgroup-v2.rst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

const PARENT: &str = "farrier";
/// The period of `cpu.max`, which is the kernel's own choice too.
const PERIOD_US: u64 = 100_000;
/// What is dead is buried within this; what hangs in the kernel is not.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
/// A group in a group and so on is not followed further; the kernel can be told to allow less, never asked for this much.
const MAX_DEPTH: usize = 64;

/// What an action may use; 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// With what it writes beside its volumes, which lies in memory; it gets no swap.
    pub memory_bytes: u64,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl Limits {
    fn controllers(&self) -> Vec<&'static str> {
        let wanted = [
            ("cpu", self.cpu_millis),
            ("memory", self.memory_bytes),
            ("pids", self.pids),
        ];
        wanted
            .into_iter()
            .filter(|(_, limit)| *limit > 0)
            .map(|(name, _)| name)
            .collect()
    }

    /// Files of a group and what is written into them. Those that not every kernel has come with `false`.
    fn settings(&self) -> Vec<(&'static str, String, bool)> {
        let mut settings = Vec::new();
        if self.memory_bytes > 0 {
            settings.push(("memory.max", self.memory_bytes.to_string(), true));
            settings.push(("memory.swap.max", "0".to_owned(), false));
            // One that lost a process is no use; all of it ends, and is told as such.
            settings.push(("memory.oom.group", "1".to_owned(), false));
        }
        if self.cpu_millis > 0 {
            // The kernel's own lower bound is 1 ms.
            let quota_us = (self.cpu_millis.saturating_mul(PERIOD_US) / 1000).max(1000);
            settings.push(("cpu.max", format!("{quota_us} {PERIOD_US}"), true));
        }
        if self.pids > 0 {
            settings.push(("pids.max", self.pids.to_string(), true));
        }
        settings
    }
}

/// Why an action has no group.
#[derive(Debug, Error)]
pub enum GroupError {
    #[error(
        "this machine cannot limit {missing}: no such controller in the cgroups of version 2 at {at} (there are: {there}). Leave resources: out, or boot \
         with cgroup_no_v1=all"
    )]
    NoController {
        missing: String,
        there: String,
        at: PathBuf,
    },
    #[error(
        "this machine has no cgroups of version 2: mount them (mount -t cgroup2 none /sys/fs/cgroup), or leave resources: out"
    )]
    NoHierarchy,
    #[error("{what} {file} failed")]
    Refused {
        what: &'static str,
        file: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A group of its own for one action. It is ended and taken away when it is dropped, too.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes one; `None` where the machine has no hierarchy of version 2, and no limits are asked for.
    ///
    /// # Errors
    /// There is no hierarchy or no controller for what is to be limited; the kernel refuses a group.
    pub fn make(name: &str, limits: &Limits) -> Result<Option<Group>, GroupError> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        match hierarchy(&mountinfo) {
            Some(top) => Group::make_below(&top, name, limits).map(Some),
            None if *limits == Limits::default() => Ok(None),
            None => Err(GroupError::NoHierarchy),
        }
    }

    fn make_below(top: &Path, name: &str, limits: &Limits) -> Result<Group, GroupError> {
        let wanted = limits.controllers();
        let there = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
        let missing: Vec<&str> = wanted
            .iter()
            .copied()
            .filter(|name| !there.split_whitespace().any(|found| found == *name))
            .collect();
        if !missing.is_empty() {
            return Err(GroupError::NoController {
                missing: missing.join(" and "),
                there: if there.trim().is_empty() {
                    "none".to_owned()
                } else {
                    there.trim().to_owned()
                },
                at: top.to_owned(),
            });
        }
        let parent = top.join(PARENT);
        make_folder(&parent)?;
        for folder in [top, &parent] {
            for name in &wanted {
                write(&folder.join("cgroup.subtree_control"), &format!("+{name}"))?;
            }
        }
        let path = parent.join(name);
        make_folder(&path)?;
        let group = Group { path };
        for (file, value, is_needed) in limits.settings() {
            let written = write(&group.path.join(file), &value);
            if is_needed {
                written?;
            }
        }
        Ok(group)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the kernel killed a process of it because its memory was used up.
    pub fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        count(&events, "oom_kill") > 0
    }

    /// Whether it was refused a process because of the limit.
    pub fn ran_out_of_pids(&self) -> bool {
        let events = fs::read_to_string(self.path.join("pids.events")).unwrap_or_default();
        count(&events, "max") > 0
    }

    /// Kills all that is in it and takes it away; waits a bounded time for what is dying. May block.
    ///
    /// # Errors
    /// Something is left in it that the kernel does not let die, or what took its place.
    pub fn end(self) -> io::Result<()> {
        let ended = end(&self.path);
        std::mem::forget(self);
        ended
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = end(&self.path);
    }
}

/// Ends the group of this name that one who was killed has left; there may be none. May block.
///
/// # Errors
/// As [`Group::end`].
pub fn end_left(name: &str) -> io::Result<()> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match hierarchy(&mountinfo) {
        Some(top) => end(&top.join(PARENT).join(name)),
        None => Ok(()),
    }
}

fn end(group: &Path) -> io::Result<()> {
    let deadline = Instant::now() + EMPTY_WITHIN;
    loop {
        let _ = fs::write(group.join("cgroup.kill"), "1");
        match remove(group, MAX_DEPTH) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if Instant::now() >= deadline => {
                let left = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                let left: Vec<&str> = left.split_whitespace().take(16).collect();
                return Err(io::Error::new(
                    e.kind(),
                    format!(
                        "processes of the action do not die: {} in {}: {e}",
                        left.join(" "),
                        group.display()
                    ),
                ));
            }
            Err(_) => sleep(POLL),
        }
    }
}

/// Groups that it made for itself go first.
fn remove(group: &Path, depth: usize) -> io::Result<()> {
    if depth > 0 {
        for inner in folders(group) {
            remove(&inner, depth - 1)?;
        }
    }
    fs::remove_dir(group)
}

fn folders(at: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(at).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn make_folder(at: &Path) -> Result<(), GroupError> {
    match fs::create_dir(at) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(GroupError::Refused {
            what: "making the group",
            file: at.to_owned(),
            source: e,
        }),
        _ => Ok(()),
    }
}

fn write(file: &Path, value: &str) -> Result<(), GroupError> {
    fs::write(file, value).map_err(|source| GroupError::Refused {
        what: "setting a limit in",
        file: file.to_owned(),
        source,
    })
}

/// Where a hierarchy of version 2 is mounted. Pure.
///
/// Source: proc_pid_mountinfo(5): the file system's kind is the first field after the separator ` - `.
fn hierarchy(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let (root, at) = (fields.nth(3)?, fields.next()?);
        (after.split(' ').next() == Some("cgroup2") && root == "/").then(|| PathBuf::from(at))
    })
}

/// The number behind a word in a file of lines `word number`.
fn count(events: &str, word: &str) -> u64 {
    let found = events
        .lines()
        .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    found.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "22 1 0:21 / /sys rw shared:7 - sysfs sysfs rw\n\
        29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "30 22 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
        31 22 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_hierarchy_is_found_where_it_is_mounted() {
        let found = |text| hierarchy(text).map(|at| at.display().to_string());
        assert_eq!(found(UNIFIED).as_deref(), Some("/sys/fs/cgroup"));
        assert_eq!(found(HYBRID).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(
            found("30 22 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"),
            None
        );
        // Somebody's own group, shown to a container.
        assert_eq!(
            found("31 22 0:28 /x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            None
        );
        assert_eq!(found("\nx - \n - cgroup2\n"), None);
    }

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let limits = Limits {
            memory_bytes: 64 << 20,
            cpu_millis: 1500,
            pids: 32,
        };
        let settings: Vec<String> = limits
            .settings()
            .into_iter()
            .map(|(file, value, _)| format!("{file}={value}"))
            .collect();
        assert_eq!(
            settings,
            [
                "memory.max=67108864",
                "memory.swap.max=0",
                "memory.oom.group=1",
                "cpu.max=150000 100000",
                "pids.max=32"
            ]
        );
        let little = Limits {
            cpu_millis: 1,
            ..Limits::default()
        };
        assert_eq!(little.settings(), [("cpu.max", "1000 100000".to_owned(), true)]);
        assert!(Limits::default().settings().is_empty() && Limits::default().controllers().is_empty());
    }

    #[test]
    fn a_machine_without_the_controller_refuses_the_limit_in_words() {
        let top = tempfile::tempdir().expect("folder");
        fs::write(top.path().join("cgroup.controllers"), "cpuset hugetlb\n").expect("written");
        let limits = Limits {
            memory_bytes: 1,
            pids: 1,
            ..Limits::default()
        };
        let refused = Group::make_below(top.path(), "x", &limits)
            .expect_err("refused")
            .to_string();
        assert!(refused.contains("cannot limit memory and pids"), "{refused}");
        assert!(refused.contains("there are: cpuset hugetlb"), "{refused}");
        assert!(!top.path().join(PARENT).exists());
    }

    #[test]
    fn events_are_counted() {
        let events = "low 0\nhigh 2\nmax 17\noom 1\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(
            (
                count(events, "oom_kill"),
                count(events, "max"),
                count(events, "none")
            ),
            (3, 17, 0)
        );
        assert_eq!(count("oom_kill many\n", "oom_kill"), 0);
    }
}
