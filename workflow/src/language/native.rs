//! The actions that there are: those built into the agent, which pulls no images.
//!
//! Known here so that a template that asks for another one is told before anything runs. A test of the command line, which
//! knows both, holds this list and the agent's together.

use super::fields::Check;
use super::flow::Ancestors;
use super::{Action, Definition, Task};

/// An action that is built into the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Native {
    /// The base name of its image.
    pub name: &'static str,
    pub writes: Writes,
}

/// What an action changes on a disk, and the variable that names the disk. Without that variable it changes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// What is in a filesystem on it.
    Files {
        disk: &'static str,
    },
    Nothing,
    /// All of it.
    WholeDisk {
        disk: &'static str,
    },
}

impl Native {
    pub fn writes_disk(&self) -> bool {
        self.writes != Writes::Nothing
    }
}

/// Sorted by name.
pub const NATIVE: [Native; 5] = [
    Native {
        name: "cexec",
        writes: Writes::Files { disk: "BLOCK_DEVICE" },
    },
    Native {
        name: "image2disk",
        writes: Writes::WholeDisk { disk: "DEST_DISK" },
    },
    Native {
        name: "poweroff",
        writes: Writes::Nothing,
    },
    Native {
        name: "reboot",
        writes: Writes::Nothing,
    },
    Native {
        name: "writefile",
        writes: Writes::Files { disk: "DEST_DISK" },
    },
];

/// The native action that goes by this image; `None` where nobody has it.
pub fn native(image: &str) -> Option<&'static Native> {
    let name = base_name(image);
    NATIVE.iter().find(|native| native.name == name)
}

/// `quay.io:5000/tinkerbell/actions/image2disk:v1@sha256:…` → `image2disk`: whatever registry and tag stand around it.
pub fn base_name(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let base = image.rsplit('/').next().unwrap_or(image);
    base.split_once(':').map_or(base, |(name, _)| name)
}

/// Whether a variable of this name says which disk an action writes.
pub(super) fn names_disk(variable: &str) -> bool {
    NATIVE.iter().any(|native| match native.writes {
        Writes::Files { disk } | Writes::WholeDisk { disk } => disk.eq_ignore_ascii_case(variable),
        Writes::Nothing => false,
    })
}

impl Check<'_> {
    /// Warns of each action that nobody has. What an expression gives is not known yet.
    pub(super) fn check_images(&mut self, definition: &Definition, ancestors: Option<&Ancestors>) {
        for (task, number, at) in std::mem::take(&mut self.images) {
            let Some(of) = definition.tasks.get(task) else {
                continue;
            };
            let Some(action) = of.actions.get(number) else {
                continue;
            };
            if native(&action.image).is_some() {
                continue;
            }
            let written = disk_writer_before(definition, ancestors, task, number);
            self.not_done(&at, cannot_run(&action.name, &action.image, written.as_deref()));
        }
    }
}

/// The action that first writes a disk and runs before this one, perhaps on the same machine.
fn disk_writer_before(
    definition: &Definition,
    ancestors: Option<&Ancestors>,
    task: usize,
    number: usize,
) -> Option<String> {
    let own = definition.tasks.get(task)?;
    let is_known = |worker: &str| !worker.is_empty() && !worker.contains("${{");
    let on_another_machine = |worker: &str| is_known(worker) && is_known(&own.worker) && worker != own.worker;
    let before = definition.tasks.iter().enumerate().filter(|(index, of)| {
        *index == task
            || ancestors.is_some_and(|ancestors| ancestors.has(task, *index))
                && !on_another_machine(&of.worker)
    });
    let writer = |(index, of): (usize, &Task)| {
        let until = if index == task { number } else { of.actions.len() };
        let writes = |action: &&Action| native(&action.image).is_some_and(Native::writes_disk);
        let action = of.actions.iter().take(until).find(writes)?;
        Some(format!("action {:?} of task {:?}", action.name, of.name))
    };
    before.into_iter().find_map(writer)
}

/// What is said of an action that cannot run. `after` is an action that writes a disk and runs before it.
pub(super) fn cannot_run(action: &str, image: &str, after: Option<&str>) -> String {
    let names: Vec<&str> = NATIVE.iter().map(|native| native.name).collect();
    let when = match after {
        Some(after) => format!("; {after} will have written to a disk by then"),
        None => "; nothing before it writes to a disk".to_owned(),
    };
    format!(
        "action {action:?} cannot run: image {image} is not built into the agent, which pulls none; built in are {}{when}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_base_name() {
        for image in [
            "image2disk",
            "image2disk:latest",
            "quay.io/tinkerbell/actions/image2disk",
            "localhost:5000/a/image2disk:v1.0@sha256:0123",
        ] {
            assert_eq!(
                native(image).map(|native| native.name),
                Some("image2disk"),
                "{image}"
            );
        }
        assert_eq!(native("quay.io/tinkerbell/actions/kexec"), None);
    }
}
