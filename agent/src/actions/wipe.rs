//! `wipe`: a disk is erased by the strongest means that it has, and read back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::Instant;

use disk::probe::{self, Disk, Include, System};
use disk::wipe::{self, Erasure, Method, Step, WipeError, WipeRequest, Wiped};
use serde::Serialize;

use super::environment::Environment;
use super::target::{self, blocking};
use super::{Done, Failure, Feed, Halt};

pub(super) const VARIABLES: [&str; 4] = ["DEST_DISK", "METHOD", "SAMPLES", "STOP_USERS"];

/// What later actions find in the task's outputs: what a record of erasure needs.
#[derive(Serialize)]
struct Outputs<'a> {
    disk: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    method: &'static str,
    /// In the words of NIST SP 800-88.
    standard: &'static str,
    size_bytes: u64,
    seconds: u64,
    samples: u32,
}

pub(super) async fn run(env: &Environment<'_>, feed: &Feed, halt: &Halt) -> Result<Done, Failure> {
    let hint = env.required("DEST_DISK")?;
    let erasure =
        Erasure::parse(env.optional("METHOD"), env.optional("SAMPLES")).map_err(Failure::bad_variables)?;
    let path = target::resolve(hint).await?;
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    let of = disk_of(&path).unwrap_or_default();
    let request = WipeRequest {
        disk: path.clone(),
        transport: of.transport.clone(),
        erasure,
        // Which blocks are looked at, nobody is to know beforehand.
        seed: RandomState::new().build_hasher().finish(),
        touched: feed.touched(),
    };
    let shown = path.display().to_string();
    let known = [of.model.as_deref(), of.serial.as_deref()].map(Option::unwrap_or_default);
    let asked = erasure.method.map_or("auto", Method::name);
    feed.line(format!("{shown} ({}) is erased: {asked}", known.join(" ").trim()))
        .await;
    let began = Instant::now();
    let (token, mut told) = (halt.token(), Teller::new(shown.clone(), feed.clone()));
    let wiped = blocking(move || {
        let done = wipe::wipe(&request, &mut |step| told.tell(step), &|| token.is_cancelled());
        done.map_err(|error| match error {
            WipeError::Stopped { .. } => Failure::stopped(),
            error => Failure::new(error.reason(), error.to_string()),
        })
    })
    .await?;
    let seconds = began.elapsed().as_secs();
    if let Some(note) = &wiped.note {
        feed.line(format!("note: {note}")).await;
    }
    let message = format!(
        "{shown} is erased by {}: {} B in {seconds} s; both ends and {} blocks of 1 MiB were read back",
        wiped.method, wiped.size_bytes, wiped.samples
    );
    feed.line(message.as_str()).await;
    Done::with_outputs(message, &outputs(shown, &of, &wiped, seconds))
}

fn outputs<'a>(disk: String, of: &'a Disk, wiped: &Wiped, seconds: u64) -> Outputs<'a> {
    Outputs {
        disk,
        serial: of.serial.as_deref(),
        model: of.model.as_deref(),
        method: wiped.method.name(),
        standard: wiped.standard.name(),
        size_bytes: wiped.size_bytes,
        seconds,
        samples: wiped.samples,
    }
}

/// The disk that this is, or that this partition is of.
fn disk_of(path: &Path) -> Option<Disk> {
    let disks = probe::list(&System::default(), Include::Everything).unwrap_or_default();
    let mut disks = disks.into_iter();
    disks.find(|disk| disk.path == path || disk.partitions.iter().any(|partition| partition.path == path))
}

/// Says how far it is: progress each time, a line each tenth.
struct Teller {
    disk: String,
    feed: Feed,
    stage: &'static str,
    began: Instant,
    tenths: u64,
}

impl Teller {
    fn new(disk: String, feed: Feed) -> Teller {
        Teller {
            disk,
            feed,
            stage: "",
            began: Instant::now(),
            tenths: 0,
        }
    }

    fn tell(&mut self, step: Step) {
        if step.stage != self.stage {
            (self.stage, self.began, self.tenths) = (step.stage, Instant::now(), 0);
        }
        let millis = self.began.elapsed().as_millis().max(1);
        let rate = u64::try_from(u128::from(step.done) * 1000 / millis).unwrap_or(u64::MAX);
        self.feed.progress(step.done, step.total, rate, step.stage);
        let tenths = step.done.saturating_mul(10) / step.total.max(1);
        if tenths > self.tenths {
            self.tenths = tenths;
            // What is no count of bytes has no rate.
            let rate = match step.stage {
                "sanitize" => String::new(),
                _ => format!(", {} MB/s", rate / 1_000_000),
            };
            self.feed
                .line_if_room(format!("{}: {} {} %{rate}", self.disk, step.stage, 10 * tenths));
        }
    }
}
