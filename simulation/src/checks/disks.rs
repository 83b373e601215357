//! The machines' disks, as they really are: no machine is told to boot from one that is half written, and what it boots
//! does not change when nothing was done on it.

use std::collections::BTreeMap;

use coordinator::netboot::Next;

/// A machine's disk.
#[derive(Default)]
pub(super) struct Disks(BTreeMap<String, Disk>);

#[derive(Default)]
struct Disk {
    /// The attempt that began to write it and did not end well.
    half: Option<String>,
    /// Before the action that runs now.
    before: Option<String>,
    /// What the machine was told when nobody had anything for it, and nothing was handed to it since; and which workflow had ended
    /// there last, as a template may say what is booted then.
    told: Option<(Next, Option<String>)>,
}

impl Disks {
    /// Something was handed to the machine.
    pub(super) fn handed(&mut self, machine: &str) {
        self.of(machine).told = None;
    }

    /// An action that overwrites the disk begins.
    pub(super) fn begins(&mut self, machine: &str, attempt: &str) {
        let disk = self.of(machine);
        disk.before = disk.half.replace(attempt.to_owned());
    }

    /// It has ended, well or without having touched the disk.
    pub(super) fn ends(&mut self, machine: &str, well: bool, untouched: bool) {
        let disk = self.of(machine);
        if well {
            disk.half = None;
        } else if untouched {
            disk.half = disk.before.take();
        }
    }

    /// A machine is told what it boots, and which workflow has ended there last; `open`: since a workflow needs it.
    ///
    /// # Errors
    /// It must not.
    pub(super) fn told(
        &mut self,
        machine: &str,
        (next, last): (&Next, Option<&str>),
        open: bool,
        is_good: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let disk = self.of(machine);
        if let (Next::LocalDisk, Some(half)) = (next, &disk.half)
            && !is_good(half)
        {
            return Err(format!(
                "machine {machine} is told to boot its disk, which attempt {half} has half written"
            ));
        }
        if open {
            return Ok(());
        }
        let told = (next.clone(), last.map(str::to_owned));
        if let Some((before, before_last)) = disk.told.replace(told)
            && before != *next
            && before_last.as_deref() == last
        {
            return Err(format!(
                "machine {machine} is told to boot {next:?}, and {before:?} before, and nothing was handed to it or ended in between"
            ));
        }
        Ok(())
    }

    fn of(&mut self, machine: &str) -> &mut Disk {
        self.0.entry(machine.to_owned()).or_default()
    }
}
