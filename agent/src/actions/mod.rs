//! Native actions: what the agent does itself, without pulling an image.
//!
//! The server says which one an action is ([`v1::RunAction::native`]); no image's name is looked at here. Here are the
//! choice, the timeout and the stopping; each action has a file of its own. Never knows the [worker](crate::worker),
//! which runs them.

mod archive2disk;
mod bootentry;
#[cfg(feature = "containerd")]
mod by_containerd;
mod cexec;
mod chroot;
pub mod command_line;
mod container;
mod download;
mod environment;
mod exec;
mod feed;
mod growpart;
mod halt;
mod image2disk;
mod image_root;
mod inside;
mod kexec;
mod last;
mod left_devices;
mod lines;
mod luks;
mod lvm;
mod mkfs;
mod mount_points;
mod oci2disk;
mod output;
mod partition;
mod process;
mod programs;
mod qemuimg2disk;
mod raid;
mod read_only;
mod reboot;
mod remote;
mod scratch;
mod seed;
mod stop_users;
mod surroundings;
mod tar_checksum;
mod target;
mod wipe;
mod writefile;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use chroot::serve as serve_chroot_exec;
pub(crate) use container::CONTAINERD;
pub(crate) use container::NAMESPACES;
pub use container::{Held, Images, NoImage, Runtime, Runtimes, SharedImages, serve as serve_container};
use environment::Environment;
pub use feed::{Feed, Told};
pub use halt::{GRACE, Halt};
use last::LAST;
pub use last::{Last, Waiting};
#[cfg(feature = "containerd")]
pub(crate) use programs::bring;
use proto::v1;
use proto::v1::report::Outcome;
use redaction::Secrets;
use scratch::Gives;
pub use surroundings::Surroundings;
pub use target::clear_mounts;

use crate::cmdline::RegistryParameters;
use crate::data::DataServer;
use crate::setting::Setting;
use crate::tools::Tools;

/// Names of the native actions, sorted.
pub const NATIVE: [&str; 20] = [
    "archive2disk",
    "bootentry",
    "cexec",
    "download",
    "exec",
    "growpart",
    "image2disk",
    "kexec",
    "luks",
    "lvm",
    "mkfs",
    "oci2disk",
    "partition",
    "poweroff",
    "qemuimg2disk",
    "raid",
    "reboot",
    "seed",
    "wipe",
    "writefile",
];
/// A message travels in a report, and reports are kept: what is longer is cut.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// Where actions run.
#[derive(Clone)]
pub struct Place {
    pub setting: Setting,
    /// Filesystems are mounted on folders in here, and nothing else is.
    pub mounts: PathBuf,
    pub data: DataServer,
    pub surroundings: Surroundings,
    /// How registries are reached, as the kernel command line says.
    pub registries: RegistryParameters,
    pub runtimes: Runtimes,
    /// Programs of the boot image, for actions that run some in the agent's own world.
    pub tools: Tools,
    /// The agent's own binary, which is started again for what runs outside of this process.
    pub own: PathBuf,
    pub last: Last,
}

/// How an action ended well.
#[derive(Debug, PartialEq)]
enum Done {
    /// The machine is to leave: `reboot` or `poweroff`.
    Leaving(&'static str),
    Succeeded {
        message: String,
        bytes: u64,
        gives: Gives,
    },
}

impl Done {
    /// With what later actions find in the task's outputs.
    fn with_outputs(message: String, outputs: &impl serde::Serialize) -> Result<Done, Failure> {
        let outputs_json = serde_json::to_string(outputs)
            .map_err(|e| Failure::new("AgentFault", format!("the agent itself failed: {e}")))?;
        Ok(Done::Succeeded {
            message,
            bytes: 0,
            gives: Gives {
                outputs_json,
                ..Gives::default()
            },
        })
    }
}

/// How an action failed: a word for programs, words for people.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    reason: String,
    message: String,
    exit_code: i32,
}

impl Failure {
    fn new(reason: &str, message: impl Into<String>) -> Failure {
        Failure {
            reason: reason.to_owned(),
            message: message.into(),
            exit_code: 0,
        }
    }

    /// Of variables that may not have the values that they have.
    fn bad_variables<P: ToString>(problems: Vec<P>) -> Failure {
        let words: Vec<String> = problems.iter().map(P::to_string).collect();
        Failure::new("BadVariable", words.join("; "))
    }

    /// Of what ends because it was asked to: [`run`] says so in its own words.
    fn stopped() -> Failure {
        Failure::new("Stopped", "it was stopped")
    }
}

/// Runs one action to its end. After a timeout or a stop it returns only when the action really has stopped.
pub async fn run(run: Arc<v1::RunAction>, place: Place, feed: Feed, halt: Halt) -> Outcome {
    // Pulling has a time limit of its own: the action's begins when its image is here.
    let image = container::image(&run, &place, &feed, &halt).await;
    let work = async { dispatch(&run, image?, &place, &feed, &halt).await };
    tokio::pin!(work);
    let over = async {
        match run.timeout_s {
            0 => std::future::pending().await,
            seconds => tokio::time::sleep(Duration::from_secs(seconds)).await,
        }
    };
    let (end, cut_short) = tokio::select! {
        // One that was stopped while its image came is told as such.
        biased;
        () = halt.asked() => {
            let message = format!("action {} was stopped: {}", run.action, halt.reason());
            (work.await, Some(Outcome::Stopped(v1::Stopped {
                message: cut(message, feed.secrets()),
                disks_untouched: false,
            })))
        }
        end = &mut work => (end, None),
        () = over => {
            let message = format!("action {} took longer than its timeout of {} s", run.action, run.timeout_s);
            halt.ask(GRACE, &message);
            (work.await, Some(Outcome::TimedOut(v1::TimedOut {
                message,
                disks_untouched: false,
            })))
        }
    };
    let mut outcome = match (end, cut_short) {
        // The machine is to be another one after it.
        (Ok(Done::Succeeded { .. }), None) if run.reboots => leaving("reboot"),
        // It may have been done before it noticed.
        (
            Ok(Done::Succeeded {
                message,
                bytes,
                gives,
            }),
            _,
        ) => Outcome::Succeeded(v1::Succeeded {
            message: cut(message, feed.secrets()),
            bytes,
            outputs_json: output::hidden(gives.outputs_json, feed.secrets()),
            data_changes: gives.data_changes,
        }),
        (_, Some(outcome)) => outcome,
        (Ok(Done::Leaving(how)), None) => leaving(how),
        (
            Err(Failure {
                reason,
                message,
                exit_code,
            }),
            None,
        ) => Outcome::Failed(v1::Failed {
            reason: feed.secrets().hidden(&reason).into_owned(),
            message: cut(message, feed.secrets()),
            exit_code,
            disks_untouched: false,
        }),
    };
    if !matches!(outcome, Outcome::Leaving(_)) {
        // Stopped when it was ready: it is not run any more.
        drop(place.last.take());
    }
    match &mut outcome {
        Outcome::Failed(failed) => failed.disks_untouched = feed.disks_untouched(),
        Outcome::Stopped(stopped) => stopped.disks_untouched = feed.disks_untouched(),
        Outcome::TimedOut(late) => late.disks_untouched = feed.disks_untouched(),
        _ => {}
    }
    outcome
}

fn leaving(how: &str) -> Outcome {
    Outcome::Leaving(v1::Leaving { how: how.to_owned() })
}

/// Runs it; where the disk is in use and STOP_USERS is on, stops what uses it, and runs it once more. Every action looks whether its disk
/// is free before its first write.
async fn dispatch(
    run: &Arc<v1::RunAction>,
    image: Option<Held>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let outcome = once(run, image, place, feed, halt).await;
    let env = Environment::of(&run.environment);
    let stops = env.is_on(stop_users::VARIABLE)
        && known_variables(&run.native).is_some_and(|known| known.contains(&stop_users::VARIABLE));
    match outcome {
        Err(failure) if stops && failure.reason == "DiskBusy" && feed.disks_untouched() => {
            stop_users::stop(&env, feed, halt).await?;
            once(run, None, place, feed, halt).await
        }
        outcome => outcome,
    }
}

async fn once(
    run: &Arc<v1::RunAction>,
    image: Option<Held>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let env = Environment::of(&run.environment);
    let native = run.native.as_str();
    if let Some(known) = known_variables(native) {
        say_unknown(run, native, known, feed).await;
    }
    if let Some(image) = image {
        let ready = container::prepare(run, &env, image, place, halt).await?;
        return match run.last {
            Some(_) => {
                place.last.put(ready, feed);
                Ok(Done::Leaving(LAST))
            }
            None => ready.run(feed, halt).await,
        };
    }
    match native {
        "archive2disk" => archive2disk::run(&env, place, feed, halt).await,
        "bootentry" => bootentry::run(&env, place, feed, halt).await,
        "cexec" => cexec::run(run, &env, place, feed, halt).await,
        "download" => download::run(run, &env, place, feed, halt).await,
        "exec" => exec::run(run, &env, place, feed, halt).await,
        "growpart" => growpart::run(&env, feed, halt).await,
        "image2disk" => image2disk::run(run, &env, place, feed, halt.token()).await,
        "kexec" => kexec::run(&env, place, feed, halt).await,
        "luks" => luks::run(run, &env, place, feed, halt).await,
        "lvm" => lvm::run(run, &env, place, feed, halt).await,
        "mkfs" => mkfs::run(run, &env, place, feed, halt).await,
        "oci2disk" => oci2disk::run(run, &env, place, feed, halt).await,
        "partition" => partition::run(run, &env, feed, halt).await,
        "poweroff" => Ok(reboot::power_off()),
        "qemuimg2disk" => qemuimg2disk::run(run, &env, place, feed, halt.token()).await,
        "raid" => raid::run(run, &env, place, feed, halt).await,
        "reboot" => Ok(reboot::reboot()),
        "seed" => seed::run(run, &env, place, feed, halt).await,
        "wipe" => wipe::run(&env, feed, halt).await,
        "writefile" => writefile::run(run, &env, place, feed, halt).await,
        _ => Err(Failure::new("UnknownImage", none_of_ours(run))),
    }
}

/// Why this action cannot run, and what would.
fn none_of_ours(run: &v1::RunAction) -> String {
    let (image, built_in) = (&run.image, NATIVE.join(", "));
    match run.native.as_str() {
        "" => format!(
            "image {image} is none of the built-in actions, and this agent runs no containers, as its console said when it \
             started; built in are: {built_in}. A template means them by their bare names (image: reboot), by the names under \
             which Tinkerbell publishes them, in any registry (…/tinkerbell/actions/image2disk), or, in version 1, with runtime: \
             native"
        ),
        native => format!(
            "image {image} means the built-in action {native}, which this agent does not have: netboot the machine with an agent as \
             new as the server; built in are: {built_in}"
        ),
    }
}

/// The variables that have an effect; `None`: all, as the command sees them, or the action is none of ours.
fn known_variables(native: &str) -> Option<&'static [&'static str]> {
    match native {
        "archive2disk" => Some(&archive2disk::VARIABLES),
        "bootentry" => Some(&bootentry::VARIABLES),
        "download" => Some(&download::VARIABLES),
        "growpart" => Some(&growpart::VARIABLES),
        "image2disk" => Some(&image2disk::VARIABLES),
        "kexec" => Some(&kexec::VARIABLES),
        "luks" => Some(&luks::VARIABLES),
        "lvm" => Some(&lvm::VARIABLES),
        "mkfs" => Some(&mkfs::VARIABLES),
        "oci2disk" => Some(&oci2disk::VARIABLES),
        "partition" => Some(&partition::VARIABLES),
        "poweroff" | "reboot" => Some(&[]),
        "qemuimg2disk" => Some(&qemuimg2disk::VARIABLES),
        "raid" => Some(&raid::VARIABLES),
        "seed" => Some(&seed::VARIABLES),
        "wipe" => Some(&wipe::VARIABLES),
        "writefile" => Some(&writefile::VARIABLES),
        _ => None,
    }
}

/// The variables that a native action reads itself, sorted.
pub fn variables(native: &str) -> &'static [&'static str] {
    match native {
        "cexec" => &cexec::VARIABLES,
        "exec" => &exec::VARIABLES,
        native => known_variables(native).unwrap_or_default(),
    }
}

/// One line: what others' actions know and this one does not is never dropped in silence.
async fn say_unknown(run: &v1::RunAction, native: &str, known: &[&str], feed: &Feed) {
    let is_known = |name: &str| known.contains(&name) || known.contains(&name.to_uppercase().as_str());
    let mut unknown: Vec<&str> = run
        .environment
        .keys()
        .map(String::as_str)
        .filter(|name| !is_known(name))
        .collect();
    unknown.sort_unstable();
    if !unknown.is_empty() {
        feed.line(format!(
            "note: without effect on {native}: {}",
            unknown.join(", ")
        ))
        .await;
    }
}

/// The outcome of an attempt whose task broke down: a fault of the agent, not of the action.
pub fn fault(what: &str, secrets: &Secrets) -> Outcome {
    let message = cut(format!("the agent itself failed: {what}"), secrets);
    Outcome::Failed(v1::Failed {
        reason: "AgentFault".to_owned(),
        message,
        exit_code: 0,
        disks_untouched: false,
    })
}

/// A word and the words of an outcome, for the console.
pub fn describe(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Failed(failed) => ("failed", format!("{}: {}", failed.reason, failed.message)),
        Outcome::Leaving(leaving) => ("leaving", leaving.how.clone()),
        Outcome::Started(_) => ("started", String::new()),
        Outcome::Stopped(stopped) => ("stopped", stopped.message.clone()),
        Outcome::Succeeded(succeeded) => ("succeeded", succeeded.message.clone()),
        Outcome::TimedOut(timed_out) => ("timed-out", timed_out.message.clone()),
    }
}

/// Fit for a report: without secrets, without credentials of URLs, which stand in errors of libraries too, and not too
/// long.
fn cut(message: String, secrets: &Secrets) -> String {
    // Both before it is cut: half of one is not known for it.
    let mut message = redaction::redacted(&secrets.hidden(&message)).into_owned();
    if message.len() > MAX_MESSAGE_BYTES {
        let mut end = MAX_MESSAGE_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::sync::mpsc;

    use super::*;

    pub(super) fn feed() -> (Feed, mpsc::Receiver<Told>) {
        let (sender, receiver) = mpsc::channel(256);
        let secrets = Arc::new(Secrets::new(["hunter22"]));
        (Feed::new("w/0/0/1".to_owned(), sender, secrets), receiver)
    }

    pub(super) fn place() -> Place {
        Place {
            setting: Setting::Host,
            mounts: std::env::temp_dir(),
            data: DataServer::default(),
            surroundings: Surroundings::default(),
            registries: RegistryParameters::default(),
            runtimes: Runtimes::default(),
            tools: Tools::default(),
            own: PathBuf::from("/proc/self/exe"),
            last: Last::default(),
        }
    }

    async fn run_action(image: &str, native: &str) -> Outcome {
        let action = v1::RunAction {
            image: image.to_owned(),
            native: native.to_owned(),
            environment: HashMap::new(),
            ..Default::default()
        };
        run(Arc::new(action), place(), feed().0, Halt::default()).await
    }

    #[test]
    fn messages_have_no_credentials_and_a_bound() {
        let message = format!(
            "error for url (http://user:secret@h/i?sig=0a&a=hunter22): {}",
            "x".repeat(2 * MAX_MESSAGE_BYTES)
        );
        let message = cut(message, &Secrets::new(["hunter22"]));
        assert!(
            message.starts_with("error for url (http://***@h/i?sig=***&a=***): xx"),
            "{message}"
        );
        assert_eq!(message.len(), MAX_MESSAGE_BYTES + "…".len());
    }

    #[tokio::test]
    async fn a_line_has_no_secrets() {
        let (feed, mut told) = feed();
        feed.line("say hunter22").await;
        assert!(matches!(told.recv().await, Some(Told::Line(line)) if line == "say ***"));
    }

    #[track_caller]
    fn check_unknown(outcome: Outcome, words: &[&str]) {
        let Outcome::Failed(failed) = outcome else {
            panic!("no failure: {outcome:?}")
        };
        assert_eq!(failed.reason, "UnknownImage");
        assert!(failed.disks_untouched);
        for word in words {
            assert!(failed.message.contains(word), "{}", failed.message);
        }
    }

    #[tokio::test]
    async fn an_image_that_is_none_of_ours_fails_and_says_what_there_is() {
        check_unknown(
            run_action("alpine:3", "").await,
            &["alpine:3", "writefile", "runtime: native"],
        );
    }

    #[tokio::test]
    async fn no_image_is_ours_by_its_name_alone() {
        for image in [
            "reboot",
            "registry.example/x/reboot",
            "quay.io/tinkerbell/actions/poweroff",
        ] {
            check_unknown(run_action(image, "").await, &[image]);
        }
    }

    #[tokio::test]
    async fn an_action_of_a_newer_server_is_named() {
        check_unknown(
            run_action("zfs", "zfs").await,
            &["built-in action zfs", "as new as the server"],
        );
    }

    #[tokio::test]
    async fn a_missing_variable_fails_and_is_named() {
        let Outcome::Failed(failed) = run_action("image2disk", "image2disk").await else {
            panic!("no failure")
        };
        assert_eq!(failed.reason, "MissingVariable");
        assert!(failed.message.contains("IMG_URL"), "{}", failed.message);
    }

    #[tokio::test]
    async fn reboot_and_poweroff_leave() {
        let leaving = |how: &str| Outcome::Leaving(v1::Leaving { how: how.to_owned() });
        assert_eq!(run_action("x/reboot:v1", "reboot").await, leaving("reboot"));
        assert_eq!(run_action("poweroff", "poweroff").await, leaving("poweroff"));
    }
}
