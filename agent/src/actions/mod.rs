//! Native actions: what the agent does itself, without pulling an image.
//!
//! Each is known by the base name of its Tinkerbell image, whatever registry and tag stand around it. Here are the
//! choice, the timeout and the stopping; each action has a file of its own.

mod cexec;
mod chroot;
mod command_line;
mod environment;
mod halt;
mod image2disk;
mod image_root;
mod mount_points;
mod output;
mod reboot;
mod scratch;
mod surroundings;
mod target;
mod writefile;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use chroot::serve as serve_chroot_exec;
use environment::Environment;
pub use halt::Halt;
use proto::v1;
use proto::v1::report::Outcome;
use redaction::Secrets;
use scratch::Gives;
pub use surroundings::Surroundings;
pub use target::clear_mounts;
use tokio::sync::mpsc;

use crate::data::DataServer;
use crate::worker::Setting;
use crate::worker::core::{Event, GRACE};

/// Names of the native actions, sorted.
pub const NATIVE: [&str; 5] = ["cexec", "image2disk", "poweroff", "reboot", "writefile"];
/// A message travels in a report, and reports are kept: what is longer is cut.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// Where actions run.
#[derive(Clone, Debug)]
pub struct Place {
    pub setting: Setting,
    /// Filesystems are mounted on folders in here, and nothing else is.
    pub mounts: PathBuf,
    pub data: DataServer,
    pub surroundings: Surroundings,
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
}

/// Where an action's lines and progress go. Sending waits when the worker is busy: back-pressure, not loss.
#[derive(Clone)]
pub struct Feed {
    attempt_id: String,
    events: mpsc::Sender<Event>,
    touched: Arc<AtomicBool>,
    secrets: Arc<Secrets>,
}

impl Feed {
    /// Values of `secrets` leave the machine by no line and no message of the action.
    pub fn new(attempt_id: String, events: mpsc::Sender<Event>, secrets: Arc<Secrets>) -> Feed {
        Feed {
            attempt_id,
            events,
            touched: Arc::default(),
            secrets,
        }
    }

    /// From here on the action may change what is on a disk. One that fails before that leaves the machine as good as it
    /// was, and the server is told so.
    fn touches_disk(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    /// The same, for whoever knows the moment better.
    fn touched(&self) -> Arc<AtomicBool> {
        self.touched.clone()
    }

    fn disks_untouched(&self) -> bool {
        !self.touched.load(Ordering::Relaxed)
    }

    async fn line(&self, line: impl Into<String>) {
        let line = self.secrets.hidden(&line.into()).into_owned();
        let _ = self.events.send(Event::Line(line)).await;
    }

    /// Room for one event; `None` when the worker is gone. Cancel safe.
    async fn room(&self) -> Option<mpsc::Permit<'_, Event>> {
        self.events.reserve().await.ok()
    }

    /// Tells how far it is; left out when the worker is busy, as the next one says more.
    fn progress(&self, done_bytes: u64, total_bytes: u64, rate_bytes_per_s: u64, stage: &str) {
        let progress = v1::Progress {
            attempt_id: self.attempt_id.clone(),
            done_bytes,
            total_bytes,
            rate_bytes_per_s,
            stage: stage.to_owned(),
        };
        let _ = self.events.try_send(Event::Progress(progress));
    }
}

/// Runs one action to its end. After a timeout or a stop it returns only when the action really has stopped.
pub async fn run(run: Arc<v1::RunAction>, place: Place, feed: Feed, halt: Halt) -> Outcome {
    let work = dispatch(&run, &place, &feed, &halt);
    tokio::pin!(work);
    let over = async {
        match run.timeout_s {
            0 => std::future::pending().await,
            seconds => tokio::time::sleep(Duration::from_secs(seconds)).await,
        }
    };
    let (end, cut_short) = tokio::select! {
        end = &mut work => (end, None),
        () = over => {
            let message = format!("action {} took longer than its timeout of {} s", run.action, run.timeout_s);
            halt.ask(GRACE, &message);
            (work.await, Some(Outcome::TimedOut(v1::TimedOut {
                message,
                disks_untouched: false,
            })))
        }
        () = halt.asked() => {
            let message = format!("action {} was stopped: {}", run.action, halt.reason());
            (work.await, Some(Outcome::Stopped(v1::Stopped {
                message: cut(message, &feed.secrets),
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
            message: cut(message, &feed.secrets),
            bytes,
            outputs_json: output::hidden(gives.outputs_json, &feed.secrets),
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
            reason: feed.secrets.hidden(&reason).into_owned(),
            message: cut(message, &feed.secrets),
            exit_code,
            disks_untouched: false,
        }),
    };
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

async fn dispatch(run: &v1::RunAction, place: &Place, feed: &Feed, halt: &Halt) -> Result<Done, Failure> {
    let env = Environment::of(&run.environment);
    let image = base_name(&run.image);
    if let Some(known) = known_variables(image) {
        say_unknown(run, image, known, feed).await;
    }
    match image {
        "cexec" => cexec::run(run, &env, place, feed, halt).await,
        "image2disk" => image2disk::run(&env, place, feed, halt.token()).await,
        "poweroff" => Ok(reboot::power_off()),
        "reboot" => Ok(reboot::reboot()),
        "writefile" => writefile::run(run, &env, place, feed, halt).await,
        _ => Err(Failure::new(
            "UnknownImage",
            format!(
                "image {} is not built into this agent; built in are: {}. Pulling OCI images comes later",
                run.image,
                NATIVE.join(", ")
            ),
        )),
    }
}

/// The variables that have an effect; `None`: all, as the command sees them, or the image is not known.
fn known_variables(image: &str) -> Option<&'static [&'static str]> {
    match image {
        "image2disk" => Some(&image2disk::VARIABLES),
        "poweroff" | "reboot" => Some(&[]),
        "writefile" => Some(&writefile::VARIABLES),
        _ => None,
    }
}

/// One line: what others' actions know and this one does not is never dropped in silence.
async fn say_unknown(run: &v1::RunAction, image: &str, known: &[&str], feed: &Feed) {
    let is_known = |name: &str| known.contains(&name) || known.contains(&name.to_uppercase().as_str());
    let mut unknown: Vec<&str> = run
        .environment
        .keys()
        .map(String::as_str)
        .filter(|name| !is_known(name))
        .collect();
    unknown.sort_unstable();
    if !unknown.is_empty() {
        feed.line(format!("note: without effect on {image}: {}", unknown.join(", ")))
            .await;
    }
}

/// `quay.io:5000/tinkerbell/actions/image2disk:v1@sha256:…` → `image2disk`.
pub fn base_name(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let base = image.rsplit('/').next().unwrap_or(image);
    base.split_once(':').map_or(base, |(name, _)| name)
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

    use super::*;

    fn feed() -> (Feed, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(256);
        let secrets = Arc::new(Secrets::new(["hunter22"]));
        (Feed::new("w/0/0/1".to_owned(), sender, secrets), receiver)
    }

    async fn run_image(image: &str) -> Outcome {
        let action = v1::RunAction {
            image: image.to_owned(),
            environment: HashMap::new(),
            ..Default::default()
        };
        let place = Place {
            setting: Setting::Host,
            mounts: std::env::temp_dir(),
            data: DataServer::default(),
            surroundings: Surroundings::default(),
        };
        run(Arc::new(action), place, feed().0, Halt::default()).await
    }

    #[test]
    fn an_image_is_known_by_its_base_name() {
        for image in [
            "image2disk",
            "image2disk:latest",
            "quay.io/tinkerbell/actions/image2disk",
            "localhost:5000/a/image2disk:v1.0@sha256:0123",
        ] {
            assert_eq!(base_name(image), "image2disk", "{image}");
        }
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
        let (feed, mut lines) = feed();
        feed.line("say hunter22").await;
        assert!(matches!(lines.recv().await, Some(Event::Line(line)) if line == "say ***"));
    }

    #[tokio::test]
    async fn an_unknown_image_fails_and_says_what_there_is() {
        let Outcome::Failed(failed) = run_image("alpine:3").await else {
            panic!("no failure")
        };
        assert_eq!(failed.reason, "UnknownImage");
        assert!(failed.disks_untouched);
        assert!(
            failed.message.contains("alpine:3") && failed.message.contains("writefile"),
            "{}",
            failed.message
        );
    }

    #[tokio::test]
    async fn a_missing_variable_fails_and_is_named() {
        let Outcome::Failed(failed) = run_image("image2disk").await else {
            panic!("no failure")
        };
        assert_eq!(failed.reason, "MissingVariable");
        assert!(failed.message.contains("IMG_URL"), "{}", failed.message);
    }

    #[tokio::test]
    async fn reboot_and_poweroff_leave() {
        let leaving = |how: &str| Outcome::Leaving(v1::Leaving { how: how.to_owned() });
        assert_eq!(run_image("x/reboot:v1").await, leaving("reboot"));
        assert_eq!(run_image("poweroff").await, leaving("poweroff"));
    }
}
