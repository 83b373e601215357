//! An action that is an image: run in namespaces of its own, with what every action is given.
//!
//! The crate `container` knows how; here it meets the workflow's data, the feed and the halt. Whoever pulls images is behind
//! [`Images`]. The keeper is this same binary, started again as `container-init`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use container::group::{GroupError, Limits};
use container::{Ended, Group, Network, Plan, Request, Shown};
use proto::v1;
use tokio::process::Command;

#[cfg(feature = "containerd")]
use super::by_containerd;
use super::environment::Environment;
use super::left_devices::Devices;
use super::process::{self, Force, How};
use super::scratch::{self, Scratch};
use super::target::blocking;
use super::{Done, Failure, Feed, Gives, Halt, Place};
use crate::cmdline::Cmdline;
use crate::data::DataServer;
use crate::device_links;
use crate::entropy;
use crate::hardware;
use crate::memory::Memory;
use crate::net::isolated::{Isolated, IsolatedError};
use crate::setting::Setting;

/// Folders and groups of containers begin with it.
const NAME: &str = "container-";
/// What a template calls a network of the action's own.
const BRIDGE: &str = "bridge";
/// What a container may write where little memory is left.
const MIN_WRITABLE_BYTES: u64 = 32 << 20;
/// Lines of this machine's /etc/hosts that are taken along.
const MAX_HOSTS: usize = 1024;

/// Where images come from.
#[tonic::async_trait]
pub trait Images: Send + Sync {
    /// The image of an action, unpacked, for as long as the answer is held. Returns soon when the action is to be stopped. `server` is who
    /// says how its registry is reached, where the action says that there is something to be asked for.
    ///
    /// # Errors
    /// In words, with a reason for programs.
    async fn image(
        &self,
        action: &v1::RunAction,
        server: &DataServer,
        feed: &Feed,
        halt: &Halt,
    ) -> Result<Held, NoImage>;

    /// What is here; `None` where somebody else keeps it.
    fn store(&self) -> Option<v1::ImageStore> {
        None
    }
}

/// An image that is not taken away while this is held.
pub struct Held {
    pub image: container::Image,
    pub by: Runtime,
}

/// Who runs actions of an image.
pub enum Runtime {
    /// A containerd of the machine's, which has the image.
    #[cfg(feature = "containerd")]
    Containerd {
        containerd: containerd::Containerd,
        image: Box<containerd::Image>,
    },
    /// This agent, as long as it holds on to what keeps the layers.
    Namespaces { keeps: Box<dyn Send + Sync> },
}

/// Where this machine's actions get their images, and so who runs them.
#[derive(Clone, Default)]
pub struct Runtimes {
    /// `None`: this agent runs no containers by itself.
    pub namespaces: Option<SharedImages>,
    /// `None`: it knows of no containerd.
    pub containerd: Option<SharedImages>,
    /// Actions whose template does not say who runs them are containerd's.
    pub prefers_containerd: bool,
}

/// What a template says for it.
pub(crate) const CONTAINERD: &str = "containerd";
pub(crate) const NAMESPACES: &str = "namespaces";

impl Runtimes {
    /// What images are here.
    pub(crate) fn store(&self) -> Option<v1::ImageStore> {
        self.namespaces.as_ref().and_then(|images| images.store())
    }

    /// Whether an action of which the template says this is containerd's to run.
    fn wants_containerd(&self, runtime: &str) -> bool {
        match runtime {
            CONTAINERD => true,
            NAMESPACES => false,
            _ => self.prefers_containerd,
        }
    }
}

/// Why there is no image.
#[derive(Debug, PartialEq, Eq)]
pub struct NoImage {
    pub reason: String,
    pub message: String,
}

impl NoImage {
    /// Of a pull that ends because it was asked to: the action says so in its own words.
    pub(crate) fn stopped() -> NoImage {
        let Failure { reason, message, .. } = Failure::stopped();
        NoImage { reason, message }
    }
}

/// `farrier-agent container-init`.
pub fn serve() -> ExitCode {
    container::init::serve()
}

/// The image of an action that is one; `None`: it is built in, or this agent runs no containers.
pub(super) async fn image(
    action: &v1::RunAction,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Option<Held>, Failure> {
    if !action.native.is_empty() {
        return Ok(None);
    }
    let runtimes = &place.runtimes;
    let images = match (runtimes.wants_containerd(&action.runtime), &runtimes.containerd) {
        (true, Some(containerd)) => containerd,
        (true, None) => {
            return Err(Failure::new(
                "ContainerdAway",
                "this machine has no containerd that its agent can ask: build its boot image with `farrier image build --profile \
                 containerd` and start it again (an agent on a host: build it without --no-default-features), or leave runtime: \
                 containerd out of the template and farrier.runtime=containerd out of the kernel parameters",
            ));
        }
        (false, _) => match &runtimes.namespaces {
            Some(namespaces) => namespaces,
            None => return Ok(None),
        },
    };
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    // Not dropped when it is to be stopped: it ends by itself, and what it had in memory is wiped then.
    let pulled = images.image(action, &place.data, feed, halt).await;
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    pulled
        .map(Some)
        .map_err(|why| Failure::new(&why.reason, why.message))
}

/// An action that is an image, with all that it is given: it can be started.
pub(crate) struct Ready {
    action: Arc<v1::RunAction>,
    held: Held,
    scratch: Scratch,
    limits: Limits,
    folder: Folder,
    isolated: Option<Isolated>,
    plan: Plan,
    setting: Setting,
    own: PathBuf,
}

/// Puts together what the action is given. Nothing of it runs yet.
pub(super) async fn prepare(
    action: &Arc<v1::RunAction>,
    env: &Environment<'_>,
    held: Held,
    place: &Place,
    halt: &Halt,
) -> Result<Ready, Failure> {
    let scratch = Scratch::make(action, place, halt).await?;
    let limits = limits(action);
    let folder = Folder::make(&place.mounts, limits).await?;
    let isolated = match action.network == BRIDGE {
        true => Some(
            Isolated::make(&entropy::name())
                .await
                .map_err(|e| no_network(&e))?,
        ),
        false => None,
    };
    let request = request(action, env, place);
    let mut machine = machine(action, &scratch, &folder, place);
    machine.network = isolated.as_ref().map(Isolated::path);
    let plan = container::plan(&held.image, &request, &machine)
        .map_err(|e| Failure::new("BadAction", e.to_string()))?;
    Ok(Ready {
        action: action.clone(),
        held,
        scratch,
        limits,
        folder,
        isolated,
        plan,
        setting: place.setting,
        own: place.own.clone(),
    })
}

impl Ready {
    pub(super) fn action(&self) -> &Arc<v1::RunAction> {
        &self.action
    }

    pub(super) async fn run(self, feed: &Feed, halt: &Halt) -> Result<Done, Failure> {
        let Ready {
            action,
            held,
            scratch,
            limits,
            folder,
            isolated,
            plan,
            setting,
            own,
        } = self;
        if !(action.confined && action.volumes.is_empty()) {
            // Nobody knows what it does with what it sees.
            feed.touches_disk();
        }
        if setting == Setting::Netboot {
            if !action.confined {
                // It may be for a device whose driver is on its way.
                tokio::select! {
                    () = hardware::is_settled() => {}
                    () = halt.asked() => return Err(Failure::stopped()),
                }
            }
            let refreshed = blocking(|| Ok(device_links::refresh())).await?;
            if let Err(e) = refreshed {
                feed.line(format!("farrier: /dev/disk is not as the disks are: {e}"))
                    .await;
            }
        }
        let before = Devices::now();
        let (ran, status, out_of) = match &held.by {
            #[cfg(feature = "containerd")]
            Runtime::Containerd { containerd, image } => {
                let name = folder.name();
                let ran = by_containerd::start(containerd, image, &plan, &name, feed, halt).await;
                let (_, out_of) = folder.end(limits).await?;
                let (printed, status) = ran.remove(feed).await;
                (printed, status, out_of)
            }
            Runtime::Namespaces { .. } => {
                let ran = keep(&own, &plan, feed, halt).await;
                let (status, out_of) = folder.end(limits).await?;
                (ran.map(process::Ended::printed), status, out_of)
            }
        };
        if let Some(isolated) = isolated {
            isolated.end().await;
        }
        for line in before.clear(setting) {
            feed.line(line).await;
        }
        drop(held);
        let ended = ran.and_then(|printed| match status {
            Some(Ended::Exited { code }) => printed.message_of(How::Exited(code)),
            Some(Ended::Killed { signal }) => printed.message_of(How::Killed(signal)),
            Some(Ended::NotStarted { code, message }) => Err(Failure {
                reason: "StartFailed".to_owned(),
                message: format!("image {} could not be started: {message}", action.image),
                exit_code: code,
            }),
            None => Err(Failure::new(
                "StartFailed",
                "what kept the action was killed, and with it the action: nobody knows how it ended",
            )),
        });
        let message = match (ended, out_of) {
            (Ok(message), _) => message,
            (Err(failure), Some(out_of)) if failure.reason == "ExitCode" => {
                return Err(out_of.explain(failure));
            }
            (Err(failure), _) => return Err(scratch.explain(failure).await),
        };
        let gives = if action.reboots {
            Gives::default()
        } else {
            scratch.take(halt).await?
        };
        Ok(Done::Succeeded {
            message,
            bytes: 0,
            gives,
        })
    }
}

fn no_network(e: &IsolatedError) -> Failure {
    let cause = std::error::Error::source(e)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    Failure::new(
        "NoNetwork",
        format!("no network of the action's own could be made: {e}{cause}"),
    )
}

async fn keep(own: &Path, plan: &Plan, feed: &Feed, halt: &Halt) -> Result<process::Ended, Failure> {
    let text = serde_json::to_vec(plan)
        .map_err(|e| Failure::new("StartFailed", format!("describing the action failed: {e}")))?;
    let mut command = Command::new(own);
    command.arg("container-init").env_clear();
    process::run(command, &text, feed, halt, Force::Keeper(container::init::FORCE)).await
}

/// What an action came up against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutOf {
    Memory { bytes: u64 },
    Pids { count: u64 },
}

impl OutOf {
    fn explain(self, failure: Failure) -> Failure {
        match self {
            OutOf::Memory { bytes } => Failure {
                reason: "OutOfMemory".to_owned(),
                message: format!(
                    "the kernel ended it because it had used up its memory of {} MiB (resources.memory); {}",
                    bytes >> 20,
                    failure.message
                ),
                ..failure
            },
            OutOf::Pids { count } => Failure {
                message: format!(
                    "it was refused a process more than its {count} (resources.pids); {}",
                    failure.message
                ),
                ..failure
            },
        }
    }
}

/// The folder that the root is put together in, the keeper's word, and the group. All are gone when it is dropped.
struct Folder {
    path: PathBuf,
    status: PathBuf,
    group: Option<Group>,
}

impl Folder {
    async fn make(mounts: &Path, limits: Limits) -> Result<Folder, Failure> {
        let name = format!("{NAME}{}", entropy::name());
        let mounts = mounts.to_owned();
        blocking(move || {
            let failed = |e: std::io::Error| {
                Failure::new(
                    "MountFailed",
                    format!("no folder in {} for a container: {e}", mounts.display()),
                )
            };
            std::fs::create_dir_all(&mounts).map_err(failed)?;
            let group = Group::make(&name, &limits).map_err(refused)?;
            let path = mounts.join(&name);
            std::fs::create_dir(&path).map_err(failed)?;
            Ok(Folder {
                status: mounts.join(format!("{name}.status")),
                path,
                group,
            })
        })
        .await
    }

    /// As nobody else's is called.
    #[cfg(feature = "containerd")]
    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Ends what is left, and gives how it ended.
    async fn end(mut self, limits: Limits) -> Result<(Option<Ended>, Option<OutOf>), Failure> {
        blocking(move || {
            let status = container::read_status(&self.status).ok();
            let Some(group) = self.group.take() else {
                return Ok((status, None));
            };
            let out_of = if group.ran_out_of_memory() {
                Some(OutOf::Memory {
                    bytes: limits.memory_bytes,
                })
            } else if group.ran_out_of_pids() {
                Some(OutOf::Pids { count: limits.pids })
            } else {
                None
            };
            group.end().map_err(|e| {
                Failure::new(
                    "NotEnded",
                    format!("{e}; reboot the machine before it runs another action"),
                )
            })?;
            Ok((status, out_of))
        })
        .await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.group.take());
        let _ = std::fs::remove_file(&self.status);
        clear(&self.path);
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// What a containerd was shown of a folder; whoever has it open has it still.
fn clear(folder: &Path) {
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(file.path());
    }
}

/// Ends what a worker that was killed left in `entry` of the folder for mounts.
pub(super) fn end_left(entry: &Path) {
    let name = entry.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix(".status") {
        Some(_) => drop(std::fs::remove_file(entry)),
        None if name.starts_with(NAME) => {
            drop(container::group::end_left(&name));
            clear(entry);
        }
        None => {}
    }
}

fn refused(e: GroupError) -> Failure {
    let cause = std::error::Error::source(&e)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    Failure::new("NoLimits", format!("{e}{cause}"))
}

fn limits(action: &v1::RunAction) -> Limits {
    let resources = action.resources.unwrap_or_default();
    Limits {
        memory_bytes: resources.memory_bytes,
        cpu_millis: resources.cpu_millis,
        pids: resources.pids,
    }
}

fn request(action: &v1::RunAction, env: &Environment<'_>, place: &Place) -> Request {
    let mut environment: BTreeMap<String, String> = place.surroundings.variables(env).into_iter().collect();
    environment.extend(action.environment.clone());
    environment.extend(scratch::variables(
        action,
        Path::new(scratch::WORKFLOW),
        Path::new(scratch::RUN),
    ));
    environment.insert("FARRIER_LABELS".to_owned(), scratch::labels(action));
    Request {
        command: action.command.clone(),
        environment,
        volumes: action.volumes.clone(),
        host_processes: action.pid == "host",
        network: match action.network.as_str() {
            "none" => Network::None,
            BRIDGE => Network::Given,
            _ => Network::Host,
        },
        confined: action.confined,
    }
}

fn machine(action: &v1::RunAction, scratch: &Scratch, folder: &Folder, place: &Place) -> container::Place {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let hostname = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    container::Place {
        folder: folder.path.clone(),
        status: folder.status.clone(),
        writable_bytes: (Memory::now().available_bytes() / 2).max(MIN_WRITABLE_BYTES),
        hostname: hostname
            .filter(|name| !matches!(name.as_str(), "" | "(none)"))
            .unwrap_or_else(|| "farrier".to_owned()),
        resolv_conf: text("/etc/resolv.conf"),
        hosts: hosts(&text("/etc/hosts")),
        cmdline: (place.setting == Setting::Netboot).then(|| Cmdline::of_this_boot().masked()),
        shown: vec![
            Shown {
                from: scratch.workflow(),
                at: PathBuf::from(scratch::WORKFLOW),
                read_only: action.reboots,
            },
            Shown {
                from: scratch.run(),
                at: PathBuf::from(scratch::RUN),
                read_only: action.reboots,
            },
        ],
        network: None,
        group: folder.group.as_ref().map(|group| group.path().to_owned()),
        has_efivars: text("/proc/self/mounts").contains(" /sys/firmware/efi/efivars efivarfs "),
    }
}

/// What somebody wrote there; the container has lines for itself.
fn hosts(text: &str) -> String {
    let is_anothers = |line: &&str| {
        let address = line.split_whitespace().next().unwrap_or("#");
        !address.starts_with('#') && !address.starts_with("127.") && address != "::1"
    };
    text.lines()
        .filter(is_anothers)
        .take(MAX_HOSTS)
        .fold(String::new(), |text, line| text + line + "\n")
}

/// The same one for every action of a boot.
pub type SharedImages = Arc<dyn Images>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_others_are_taken_along() {
        let text =
            "# all\n127.0.0.1 localhost\n127.0.1.1 me\n::1 localhost\n\n10.0.0.1 server\nfe80::1 router\n";
        assert_eq!(hosts(text), "10.0.0.1 server\nfe80::1 router\n");
    }

    #[test]
    fn what_an_action_came_up_against_is_told() {
        let failure = || Failure {
            reason: "ExitCode".to_owned(),
            message: "the command was killed by signal 9; it printed nothing".to_owned(),
            exit_code: 137,
        };
        let explained = OutOf::Memory { bytes: 64 << 20 }.explain(failure());
        assert_eq!(
            (explained.reason.as_str(), explained.exit_code),
            ("OutOfMemory", 137)
        );
        assert!(
            explained
                .message
                .contains("its memory of 64 MiB (resources.memory); the command was killed")
        );
        let explained = OutOf::Pids { count: 8 }.explain(failure());
        assert_eq!(explained.reason, "ExitCode");
        assert!(explained.message.contains("more than its 8 (resources.pids)"));
    }
}
