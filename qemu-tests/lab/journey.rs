//! One machine on its way from power on to a login on the Debian that was installed on it.
//!
//! Every stage is seen by evidence of its own: what the machine put on the wire (the boot timeline), what it
//! said on its serial line, what its agent reported, and at last who answers over SSH. A stage that is not
//! seen in time ends the journey.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use proto::v1::{ActionState, BootLogEntry, BootOutcome, BootStage, Workflow};

use crate::lab::api::{self, Api};
use crate::lab::display::{Display, Task};
use crate::lab::machine::Machine;
use crate::lab::serial::Mark;
use crate::lab::wait::{Look, WaitError, wait_until, wait_while_it_moves};

/// A stage that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub duration: Duration,
    /// What was transferred or written in it.
    pub bytes: u64,
}

/// A machine that is on its way.
#[derive(Debug)]
pub struct Journey<'a> {
    /// The machine; switched on by [`Journey::power_on`].
    pub machine: &'a mut Machine,
    api: &'a Api,
    display: &'a Display,
    /// What has been seen so far.
    pub stages: Vec<Stage>,
    /// Where the current stage began.
    since: Instant,
    /// Boots on the timeline that are not the current one.
    boots_before: Vec<String>,
    /// What the timeline of the current boot has sent in stages that were seen.
    wire_bytes: u64,
    /// The agent's own clock at its last line that ended a stage, and when that was.
    uptime: Option<(f64, Instant)>,
    patience: u32,
}

impl<'a> Journey<'a> {
    /// Deadlines are multiplied by `patience`: how many machines share the host's processors.
    pub fn new(machine: &'a mut Machine, api: &'a Api, display: &'a Display, patience: u32) -> Journey<'a> {
        Journey {
            machine,
            api,
            display,
            stages: Vec::new(),
            since: Instant::now(),
            boots_before: Vec::new(),
            wire_bytes: 0,
            uptime: None,
            patience: patience.max(1),
        }
    }

    /// Switches the machine on.
    ///
    /// # Errors
    /// As [`Machine::power_on`].
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        self.remember_boots();
        self.machine.power_on()?;
        self.since = Instant::now();
        Ok(())
    }

    /// Firmware, boot loader, kernel and initramfs, kernel start, agent attached.
    ///
    /// # Errors
    /// Which stage was not seen.
    pub fn netboot(&mut self) -> anyhow::Result<()> {
        self.uptime = None;
        self.on_the_wire("firmware", 60, |entry| entry.what.contains("DISCOVER"))?;
        self.on_the_wire("DHCP", 60, |entry| entry.what.contains("REQUEST"))?;
        self.on_the_wire("boot loader", 90, |entry| entry.what.contains("auto.ipxe"))?;
        self.on_the_wire("kernel and initramfs transfer", 180, |entry| {
            entry.what.contains("initramfs.img")
                && entry.outcome() == BootOutcome::Answered
                && entry.bytes > 0
        })?;
        let mark = self.machine.mark();
        self.on_the_serial_line("kernel start", 120, mark, |line| {
            line.contains("farrier: stage=agent-start")
        })?;
        self.on_the_serial_line("agent attached", 60, mark, |line| {
            line.contains("farrier: stage=attached")
        })?;
        // Whatever boot comes next is another one.
        self.remember_boots();
        Ok(())
    }

    /// The first action starts on the machine.
    ///
    /// # Errors
    /// When it does not.
    pub fn first_action(&mut self) -> anyhow::Result<()> {
        let mark = self.machine.mark();
        self.on_the_serial_line("first action", 60, mark, |line| {
            line.contains("farrier: stage=action-start")
        })
    }

    /// Follows a workflow action by action to its end, which must be SUCCESS.
    ///
    /// # Errors
    /// Which action failed, and why.
    pub fn run_workflow(&mut self, id: &str) -> anyhow::Result<Workflow> {
        let progress = self.api.follow_progress(id);
        let mut shown = 0;
        let mut task: Option<(usize, Task<'_>)> = None;
        let deadline = self.deadline(1800);
        let finished = wait_until(&format!("workflow {id} to end"), deadline, || {
            let workflow = match self.api.workflow(id) {
                Ok(workflow) => workflow,
                Err(error) => return Look::not_yet(format!("{error:#}")),
            };
            let actions: Vec<ActionState> = workflow
                .tasks
                .iter()
                .flat_map(|task| task.actions.clone())
                .collect();
            while let Some(action) = actions.get(shown).filter(|action| action.state == "SUCCESS") {
                task = None;
                self.record(&action.name, took(action), action.bytes.unwrap_or_default());
                shown += 1;
            }
            if let Some(action) = actions.get(shown).filter(|action| action.started_at.is_some()) {
                if task.as_ref().is_none_or(|(index, _)| *index != shown) {
                    task = Some((shown, self.display.task(&self.named(&action.name))));
                }
                let latest = progress
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .clone();
                if let (Some((_, task)), Some(latest)) = (&task, latest)
                    && latest.action == action.name
                {
                    task.at(&latest.stage);
                    task.bytes(latest.done_bytes, latest.total_bytes);
                }
            }
            match workflow.state.as_str() {
                "SUCCESS" => Look::Done(workflow),
                state if api::is_final(state) => Look::never(api::describe(&workflow)),
                _ if !self.machine.is_on() => Look::never("QEMU is gone"),
                _ => Look::not_yet(api::describe(&workflow)),
            }
        })?;
        drop(task);
        self.since = Instant::now();
        Ok(finished)
    }

    /// The machine restarts, asks the network, is told to boot its disk, and comes up to a login prompt.
    ///
    /// # Errors
    /// Which stage was not seen.
    pub fn boot_from_disk(&mut self) -> anyhow::Result<()> {
        let mark = self.machine.serial().mark();
        self.on_the_wire("restart", 120, |entry| entry.what.contains("DISCOVER"))?;
        self.on_the_wire("local boot answered", 90, is_local_boot)?;
        self.on_the_serial_line("disk to login", 600, mark, |line| line.contains("login:"))
    }

    /// Waits for evidence of another kind, as a stage of this machine.
    ///
    /// # Errors
    /// As `look` says, or after `deadline_s`.
    pub fn until(
        &mut self,
        name: &str,
        deadline_s: u64,
        mut look: impl FnMut(&mut Machine) -> Look<u64>,
    ) -> anyhow::Result<()> {
        self.observe(name, deadline_s, |machine| match look(machine) {
            Look::Done(bytes) => Look::Done((bytes, Instant::now())),
            Look::NotYet(status) => Look::NotYet(status),
            Look::Never(why) => Look::Never(why),
        })
    }

    /// As [`Journey::until`]; `look` says when it happened, which is before it was seen.
    fn observe(
        &mut self,
        name: &str,
        deadline_s: u64,
        mut look: impl FnMut(&mut Machine) -> Look<(u64, Instant)>,
    ) -> anyhow::Result<()> {
        let task = self.display.task(&self.named(name));
        let deadline = self.deadline(deadline_s);
        let what = format!("{name} of machine {}", self.machine.name());
        let machine = &mut *self.machine;
        let seen: Result<(u64, Instant), WaitError> =
            wait_while_it_moves(&what, deadline, MOVING * deadline, || {
                if !machine.is_on() {
                    return Look::never("QEMU is gone");
                }
                task.at(&machine.serial().last_lines(1).join(""));
                look(machine)
            });
        drop(task);
        let (bytes, at) = seen.with_context(|| format!("stage {name:?} was not seen"))?;
        let took = at.saturating_duration_since(self.since);
        self.since = at.max(self.since);
        self.record(name, took, bytes);
        Ok(())
    }

    fn on_the_wire(
        &mut self,
        name: &str,
        deadline_s: u64,
        wanted: impl Fn(&BootLogEntry) -> bool,
    ) -> anyhow::Result<()> {
        let (api, before, counted) = (self.api, self.boots_before.clone(), self.wire_bytes);
        let mut so_far = counted;
        self.observe(name, deadline_s, |machine| {
            let entries = match api.boot_log(machine.mac()) {
                Ok(entries) => entries,
                Err(error) => return Look::not_yet(format!("{error:#}")),
            };
            let this_boot: Vec<_> = entries
                .iter()
                .filter(|entry| !entry.boot.is_empty() && !before.contains(&entry.boot))
                .collect();
            let found = this_boot.iter().enumerate().find(|(_, entry)| wanted(entry));
            match found {
                Some((index, entry)) => {
                    so_far = this_boot.iter().take(index + 1).map(|entry| entry.bytes).sum();
                    Look::Done((so_far.saturating_sub(counted), happened(entry)))
                }
                None => Look::not_yet(
                    this_boot
                        .last()
                        .map_or("nothing on the boot timeline".to_owned(), |entry| {
                            format!("{} {} {}", entry.stage().word(), entry.what, entry.detail)
                        }),
                ),
            }
        })?;
        self.wire_bytes = so_far;
        Ok(())
    }

    fn on_the_serial_line(
        &mut self,
        name: &str,
        deadline_s: u64,
        mark: Mark,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let mut uptime = self.uptime;
        self.observe(name, deadline_s, |machine| {
            let text = machine.serial().since(mark);
            match text.lines().find(|line| wanted(line)) {
                Some(line) => {
                    let at = when_said(line, uptime);
                    uptime = uptime_of(line).map(|now| (now, at));
                    Look::Done((0, at))
                }
                None => Look::not_yet(
                    text.lines()
                        .rfind(|line| !line.trim().is_empty())
                        .unwrap_or("silence"),
                ),
            }
        })?;
        self.uptime = uptime;
        Ok(())
    }

    fn remember_boots(&mut self) {
        let entries = self.api.boot_log(self.machine.mac()).unwrap_or_default();
        self.boots_before = entries.into_iter().map(|entry| entry.boot).collect();
        self.wire_bytes = 0;
    }

    fn record(&mut self, name: &str, duration: Duration, bytes: u64) {
        let size = match bytes {
            0 => String::new(),
            bytes => format!(", {}", crate::lab::table::bytes(bytes)),
        };
        self.display.line(&format!(
            "{:<34} {}{size}",
            self.named(name),
            crate::lab::table::seconds(duration)
        ));
        self.stages.push(Stage {
            name: name.to_owned(),
            duration,
            bytes,
        });
    }

    fn named(&self, stage: &str) -> String {
        format!("{}: {stage}", self.machine.name())
    }

    fn deadline(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) * self.patience
    }
}

/// A machine that goes on saying something has so many times the deadline of one that stands still: other work on the host makes it
/// slow, not wrong.
const MOVING: u32 = 3;

/// Whether a timeline entry shows that the machine fetched what sends it to its own disk: the script on BIOS,
/// GRUB on UEFI.
pub fn is_local_boot(entry: &BootLogEntry) -> bool {
    entry.outcome() == BootOutcome::Answered
        && matches!(entry.stage(), BootStage::Http | BootStage::Tftp)
        && (entry.detail.contains("boots its own disk") || entry.what.contains("local-boot.efi"))
}

/// When an entry of the timeline was made, on this host's other clock.
fn happened(entry: &BootLogEntry) -> Instant {
    let at = entry.at.and_then(|at| SystemTime::try_from(at).ok());
    let ago = at.and_then(|at| SystemTime::now().duration_since(at).ok());
    let now = Instant::now();
    ago.and_then(|ago| now.checked_sub(ago)).unwrap_or(now)
}

/// When a line was said: by the agent's clock, counted from its line before. What is looked at every 50 ms is not
/// measured by looking.
fn when_said(line: &str, before: Option<(f64, Instant)>) -> Instant {
    before
        .zip(uptime_of(line))
        .and_then(|((then, at), now)| {
            // Another boot's clock has begun again.
            let since = Duration::try_from_secs_f64(now - then).ok()?;
            at.checked_add(since)
        })
        .unwrap_or_else(Instant::now)
}

/// Seconds, of `farrier: stage=NAME uptime=SECONDS`.
fn uptime_of(line: &str) -> Option<f64> {
    let words = line.split_once("farrier: stage=")?.1;
    words
        .split_whitespace()
        .find_map(|word| word.strip_prefix("uptime=")?.parse().ok())
}

fn took(action: &ActionState) -> Duration {
    let at = |time: &Option<prost_types::Timestamp>| {
        time.and_then(|time| SystemTime::try_from(time).ok())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    at(&action.ended_at)
        .duration_since(at(&action.started_at))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_clock_measures_between_its_lines() {
        let started = Instant::now();
        let line = "farrier: stage=action-start uptime=4.207 action=write-image";
        assert_eq!(uptime_of(line), Some(4.207));
        let said = when_said(line, Some((4.2, started)));
        let millis = (said - started).as_secs_f64() * 1000.0;
        assert!((millis - 7.0).abs() < 0.01, "{millis} ms");
        // The clock of another boot, or none, says nothing: it was said when it was seen.
        assert!(when_said(line, Some((90.0, started))) >= started);
        assert!(when_said("m1 login:", Some((4.2, started))) >= started);
        assert_eq!(uptime_of("uptime=4 days"), None);
    }

    #[test]
    fn an_entry_of_the_timeline_happened_when_it_says() {
        let entry = |ago| BootLogEntry {
            at: Some(prost_types::Timestamp::from(SystemTime::now() - ago)),
            ..Default::default()
        };
        let ago = happened(&entry(Duration::from_secs(3))).elapsed();
        assert!(ago >= Duration::from_secs(3), "{ago:?}");
        // A clock that was set back makes no future.
        assert!(happened(&BootLogEntry::default()) <= Instant::now());
    }
}
