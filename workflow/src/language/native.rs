//! The actions that are built into the agent; every other image is pulled, and runs as a container.
//!
//! Known here so that a template that asks for another one is told before anything runs. A test of the command line, which
//! knows both, holds this list and the agent's together.

use yaml::{Kind, Node};

use super::fields::Check;
use super::flow::Ancestors;
use super::retired::retired;
use super::{Action, Definition, Runtime, Task};

/// An action that is built into the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Native {
    /// The base name of its image.
    pub name: &'static str,
    pub writes: Writes,
    /// The variables that it reads, sorted.
    pub variables: &'static [&'static str],
    /// Those of them that an input may give as a list: the action reads it as JSON.
    pub lists: &'static [&'static str],
}

/// What an action changes on a disk, and the variable that names the disk. Without that variable it changes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Nobody knows what, and only where this switch is on.
    Anything {
        switch: &'static str,
    },
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
    /// Whether the variable that names what it writes has a list: an array of JSON.
    pub fn lists_disks(&self) -> bool {
        match self.writes {
            Writes::Files { disk } | Writes::WholeDisk { disk } => self.lists.contains(&disk),
            Writes::Nothing | Writes::Anything { .. } => false,
        }
    }

    /// Whether it is there to write a disk; one that may do so when it is told to is not.
    pub fn writes_disk(&self) -> bool {
        matches!(self.writes, Writes::Files { .. } | Writes::WholeDisk { .. })
    }
}

/// Sorted by name.
pub const NATIVE: [Native; 20] = [
    Native {
        name: "archive2disk",
        writes: Writes::Files { disk: "DEST_DISK" },
        variables: &[
            "ALL_PROXY",
            "ARCHIVE_TYPE",
            "ARCHIVE_URL",
            "CA_CERTIFICATES",
            "DEST_DISK",
            "DEST_PATH",
            "FS_TYPE",
            "HTTPS_PROXY",
            "HTTP_CLIENT_TIMEOUT_MINUTES",
            "HTTP_PROXY",
            "INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION",
            "NO_PROXY",
            "RETRY_DURATION_MINUTES",
            "RETRY_ENABLED",
            "SHA256",
            "TARFILE_CHECKSUM",
        ],
        lists: &[],
    },
    Native {
        name: "bootentry",
        // The disk that it names is only read.
        writes: Writes::Nothing,
        variables: &[
            "ARGUMENTS",
            "DEST_DISK",
            "LABEL",
            "LOADER",
            "NEXT",
            "ORDER",
            "PARTITION",
            "REMOVE",
        ],
        lists: &["ORDER", "REMOVE"],
    },
    Native {
        name: "cexec",
        writes: Writes::Files { disk: "BLOCK_DEVICE" },
        variables: &[
            "BLOCK_DEVICE",
            "CHROOT",
            "CMD_LINE",
            "DEFAULT_INTERPRETER",
            "FS_TYPE",
            "UPDATE_RESOLV_CONF",
        ],
        lists: &[],
    },
    Native {
        name: "download",
        writes: Writes::Files { disk: "DEST_DISK" },
        variables: &[
            "ALL_PROXY",
            "CA_CERTIFICATES",
            "DEST_DISK",
            "DEST_PATH",
            "DIRMODE",
            "FS_TYPE",
            "GID",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "MODE",
            "NO_PROXY",
            "RETRY_DURATION_MINUTES",
            "RETRY_ENABLED",
            "SHA256",
            "UID",
            "URL",
        ],
        lists: &[],
    },
    Native {
        name: "exec",
        writes: Writes::Anything { switch: "WRITE" },
        variables: &["CMD_LINE", "DEFAULT_INTERPRETER", "WRITE"],
        lists: &[],
    },
    Native {
        name: "growpart",
        writes: Writes::Files { disk: "DEST_DISK" },
        variables: &["DEST_DISK", "PARTITION", "PARTITION_ONLY"],
        lists: &[],
    },
    Native {
        name: "image2disk",
        writes: Writes::WholeDisk { disk: "DEST_DISK" },
        variables: &[
            "ALL_PROXY",
            "CA_CERTIFICATES",
            "CHECKSUM",
            "COMPRESSED",
            "DEST_DISK",
            "GROW_ROOT",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "IMG_URL",
            "NO_PROXY",
            "PROGRESS_INTERVAL_SECONDS",
            "RAW",
            "RESUME",
            "RETRY_DURATION_MINUTES",
            "RETRY_ENABLED",
            "SHA256",
            "STOP_USERS",
            "VERIFY",
        ],
        lists: &[],
    },
    Native {
        name: "kexec",
        writes: Writes::Nothing,
        variables: &[
            "BLOCK_DEVICE",
            "CMD_LINE",
            "FS_TYPE",
            "GRUBCFG_PATH",
            "INITRD_PATH",
            "KERNEL_PATH",
        ],
        lists: &[],
    },
    Native {
        name: "luks",
        writes: Writes::Files { disk: "DEST_DISK" },
        variables: &[
            "DEST_DISK",
            "KEY",
            "LABEL",
            "NAME",
            "ONLY_EMPTY",
            "OPTIONS",
            "PASSPHRASE",
            "STOP_USERS",
            "UUID",
        ],
        lists: &["OPTIONS"],
    },
    Native {
        name: "lvm",
        writes: Writes::Files { disk: "DEVICES" },
        variables: &["DEVICES", "NAME", "ONLY_EMPTY", "STOP_USERS", "VOLUMES"],
        lists: &["DEVICES", "VOLUMES"],
    },
    Native {
        name: "mkfs",
        writes: Writes::Files { disk: "DEST_DISK" },
        variables: &[
            "DEST_DISK",
            "FS_TYPE",
            "LABEL",
            "ONLY_EMPTY",
            "OPTIONS",
            "STOP_USERS",
            "UUID",
        ],
        lists: &["OPTIONS"],
    },
    Native {
        name: "oci2disk",
        writes: Writes::WholeDisk { disk: "DEST_DISK" },
        variables: &[
            "ALL_PROXY",
            "CA_CERTIFICATES",
            "CHECKSUM",
            "COMPRESSED",
            "DEST_DISK",
            "GROW_ROOT",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "IMG_URL",
            "NO_PROXY",
            "PROGRESS_INTERVAL_SECONDS",
            "RAW",
            "REGISTRY_PASSWORD",
            "REGISTRY_USERNAME",
            "RETRY_DURATION_MINUTES",
            "RETRY_ENABLED",
            "SHA256",
            "SKIP_VERIFY",
            "STOP_USERS",
            "VERIFY",
        ],
        lists: &[],
    },
    Native {
        name: "partition",
        writes: Writes::WholeDisk { disk: "DEST_DISK" },
        variables: &["DEST_DISK", "ONLY_EMPTY", "PARTITIONS", "STOP_USERS", "TABLE"],
        lists: &["PARTITIONS"],
    },
    Native {
        name: "poweroff",
        writes: Writes::Nothing,
        variables: &[],
        lists: &[],
    },
    Native {
        name: "qemuimg2disk",
        writes: Writes::WholeDisk { disk: "DEST_DISK" },
        variables: &[
            "ALL_PROXY",
            "CA_CERTIFICATES",
            "CHECKSUM",
            "DEST_DISK",
            "EXTRA_ARGS",
            "FORMAT",
            "GROW_ROOT",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "IMG_URL",
            "NO_PROXY",
            "PROGRESS_INTERVAL_SECONDS",
            "RAW",
            "RESUME",
            "RETRY_DURATION_MINUTES",
            "RETRY_ENABLED",
            "SHA256",
            "STOP_USERS",
            "VERIFY",
        ],
        lists: &[],
    },
    Native {
        name: "raid",
        writes: Writes::Files { disk: "DEVICES" },
        variables: &[
            "BITMAP",
            "CHUNK",
            "DEVICES",
            "HOMEHOST",
            "LEVEL",
            "METADATA",
            "NAME",
            "ONLY_EMPTY",
            "STOP_USERS",
        ],
        lists: &["DEVICES"],
    },
    Native {
        name: "reboot",
        writes: Writes::Nothing,
        variables: &[],
        lists: &[],
    },
    Native {
        name: "seed",
        writes: Writes::Files { disk: "DEST_DISK" },
        variables: &[
            "DATASOURCE",
            "DEST_DISK",
            "DEST_PATH",
            "FORM",
            "FS_TYPE",
            "INSTANCE_ID",
            "META_DATA",
            "NETWORK_CONFIG",
            "ONLY_EMPTY",
            "USER_DATA",
            "VENDOR_DATA",
        ],
        lists: &[],
    },
    Native {
        name: "wipe",
        writes: Writes::WholeDisk { disk: "DEST_DISK" },
        variables: &["DEST_DISK", "METHOD", "SAMPLES", "STOP_USERS"],
        lists: &[],
    },
    Native {
        name: "writefile",
        writes: Writes::Files { disk: "DEST_DISK" },
        variables: &[
            "CONTENTS",
            "DEST_DISK",
            "DEST_PATH",
            "DIRMODE",
            "FS_TYPE",
            "GID",
            "MODE",
            "UID",
        ],
        lists: &[],
    },
];

/// Folders of repositories in which Tinkerbell and EKS Anywhere publish the actions, in every registry: a mirror keeps them, whatever
/// it puts in front.
const PUBLISHED_IN: [&str; 3] = ["tinkerbell/actions", "tinkerbell-actions", "tinkerbell/hub"];

/// Where Hook's image carries actions, of which no registry knows.
const CARRIED_IN: &str = "127.0.0.1/embedded";

/// The native action that an image means; `None`: it means a container.
///
/// A name alone does (`reboot`, `image2disk:v1.0.0`), and one in a folder where Tinkerbell publishes its actions does, in any
/// registry. `registry.example/x/reboot` is somebody else's.
pub fn native(image: &str) -> Option<&'static Native> {
    named(last_part(published_name(image)?))
}

/// The repository of an image by whose name Tinkerbell's actions are meant.
pub(super) fn published_name(image: &str) -> Option<&str> {
    let repository = repository(image);
    let means = match repository.rsplit_once('/') {
        None => true,
        Some((CARRIED_IN, _)) => true,
        Some((folder, _)) => PUBLISHED_IN.iter().any(|published| {
            let before = folder.strip_suffix(published);
            before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
        }),
    };
    means.then_some(repository)
}

impl Action {
    /// The native action that this is, by what its template says and then by its image; `None`: a container.
    pub fn native(&self) -> Option<&'static Native> {
        native_by(self.runtime, &self.image)
    }
}

pub(super) fn native_by(runtime: Option<Runtime>, image: &str) -> Option<&'static Native> {
    match runtime {
        Some(Runtime::Native) => named(last_part(repository(image))),
        Some(Runtime::Containerd | Runtime::Image | Runtime::Namespaces) => None,
        None => native(image),
    }
}

fn named(name: &str) -> Option<&'static Native> {
    NATIVE.iter().find(|native| native.name == name)
}

/// `quay.io:5000/tinkerbell/actions/image2disk:v1@sha256:…` → `quay.io:5000/tinkerbell/actions/image2disk`.
pub(super) fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        // Else it is the registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// Whether `text` names an image: as it is written, without its tag, or by the last part of its name.
pub(super) fn names_image(text: &str, image: &str) -> bool {
    let repository = repository(image);
    text == image || text == repository || text == last_part(repository)
}

/// Whether a variable of this name says which disk an action writes.
pub(super) fn names_disk(variable: &str) -> bool {
    NATIVE.iter().any(|native| match native.writes {
        Writes::Files { disk } | Writes::WholeDisk { disk } => disk.eq_ignore_ascii_case(variable),
        Writes::Anything { .. } | Writes::Nothing => false,
    })
}

pub(super) fn last_part(repository: &str) -> &str {
    repository.rsplit('/').next().unwrap_or(repository)
}

/// "cexec, image2disk, …"
fn names() -> String {
    NATIVE.map(|native| native.name).join(", ")
}

impl<'a> Check<'a> {
    /// `runtime` of an action: who runs it, where its image alone is not to say so.
    pub(super) fn runtime(&mut self, node: Option<&'a Node>, action: &str, image: &str) -> Option<Runtime> {
        let node = node?;
        let text = self.plain(Some(node), "runtime");
        if text.contains("${{") {
            return None;
        }
        let runtime = Runtime::named(text);
        if runtime.is_none() {
            let message = format!(
                "runtime {text:?} of action {action:?} is neither \"native\", the agent itself, nor \"namespaces\" or \"containerd\", its \
                 image as a container that the agent or the machine's containerd runs: leave it out, and the image says whether the \
                 agent has the action built in"
            );
            self.problem(node.at, Kind::Value, message);
            return None;
        }
        if runtime == Some(Runtime::Native) && !image.contains("${{") && native_by(runtime, image).is_none() {
            let message = format!(
                "action {action:?} has runtime native, and its image {image} ends in the name of no action that is built into \
                 the agent; built in are {}",
                names()
            );
            self.problem(node.at, Kind::Conflict, message);
        }
        runtime
    }

    /// Tells of each action that is pulled, unless its template says so itself. What an expression gives is not known yet.
    pub(super) fn check_images(&mut self, definition: &Definition, ancestors: Option<&Ancestors>) {
        for (task, number, at) in std::mem::take(&mut self.images) {
            let Some(of) = definition.tasks.get(task) else {
                continue;
            };
            let Some(action) = of.actions.get(number) else {
                continue;
            };
            if action.native().is_some() || action.runtime.is_some() {
                continue;
            }
            let mut environment = of.environment.clone();
            environment.extend(action.environment.clone());
            let started = self.check_wrapper(at, action, &environment);
            let image = started.as_ref().unwrap_or(&action.image);
            if started.is_some() && (image.is_empty() || native(image).is_some()) {
                continue;
            }
            if let Some(message) = retired(&action.name, image) {
                self.problem(at, Kind::Image, message);
                continue;
            }
            let written = disk_writer_before(definition, ancestors, task, number);
            self.not_done(at, runs_as_container(&action.name, image, written.as_deref()));
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
        let writes = |action: &&Action| action.native().is_some_and(Native::writes_disk);
        let action = of.actions.iter().take(until).find(writes)?;
        Some(format!("action {:?} of task {:?}", action.name, of.name))
    };
    before.into_iter().find_map(writer)
}

/// What is said of an action that is pulled. `after` is an action that writes a disk and runs before it.
pub(super) fn runs_as_container(action: &str, image: &str, after: Option<&str>) -> String {
    let when = match after {
        Some(after) => format!("; {after} will have written to a disk by then"),
        None => "; nothing before it writes to a disk".to_owned(),
    };
    let cure = match named(last_part(repository(image))) {
        Some(meant) => format!("; for the agent's own write image: {}", meant.name),
        None => String::new(),
    };
    format!(
        "action {action:?} runs as a container: image {image} is not built into the agent, and is pulled from its registry; built in are \
         {}{cure}{when}",
        names()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(image: &str, runtime: Option<Runtime>, want: Option<&str>) {
        let action = Action {
            image: image.to_owned(),
            runtime,
            ..Action::default()
        };
        assert_eq!(action.native().map(|native| native.name), want, "{image}");
    }

    #[test]
    fn a_bare_name_and_a_published_one_are_the_agents_own_in_every_registry() {
        for image in [
            "image2disk",
            "image2disk:v1.0.0",
            "image2disk@sha256:0123",
            "quay.io/tinkerbell/actions/image2disk",
            "quay.io/tinkerbell/actions/image2disk:latest",
            "quay.io/tinkerbell-actions/image2disk:v1.0.0",
            "ghcr.io/tinkerbell/actions/image2disk:v0.1.0@sha256:0123",
            "public.ecr.aws/eks-anywhere/tinkerbell/hub/image2disk:6c0f-eks-a-15",
            "tinkerbell/actions/image2disk",
            "10.0.0.1:5000/tinkerbell/actions/image2disk",
            "192.168.1.1/quay.io/tinkerbell-actions/image2disk:v1.0.0",
            "harbor.example/quay-cache/tinkerbell/actions/image2disk:latest",
            "127.0.0.1/embedded/image2disk",
        ] {
            check(image, None, Some("image2disk"));
        }
    }

    #[test]
    fn somebody_elses_image_is_not_the_agents_own_however_it_ends() {
        for image in [
            "registry.example/x/reboot",
            "registry.example/reboot:v1",
            "localhost:5000/reboot",
            "docker.io/library/reboot",
            "me/reboot",
            "quay.io/not-tinkerbell/actions/reboot",
            "quay.io/tinkerbell/actions/deep/reboot",
            "quay.io/tinkerbellrpardini/actions/image2disk",
            "10.0.0.1/embedded/reboot",
            "quay.io/tinkerbell/actions/third",
            "quay.io/tinkerbell/hub/reboot-action:latest",
            "alpine",
        ] {
            check(image, None, None);
        }
    }

    #[test]
    fn a_template_says_that_an_image_of_any_place_is_the_agents_own() {
        check(
            "registry.example:5000/x/reboot:v1",
            Some(Runtime::Native),
            Some("reboot"),
        );
        check("registry.example/x/third", Some(Runtime::Native), None);
        for runtime in [Runtime::Containerd, Runtime::Image, Runtime::Namespaces] {
            check("reboot", Some(runtime), None);
        }
    }

    #[test]
    fn who_means_the_agents_own_is_told_how_it_is_written() {
        let said = runs_as_container("r", "registry.example/x/reboot:v1", None);
        assert!(
            said.contains("; for the agent's own write image: reboot;"),
            "{said}"
        );
        assert!(!runs_as_container("r", "alpine", None).contains("write image"));
    }
}
