//! `mkfs`: the filesystem that a template declares, on a disk or partition that has another one or none.
//!
//! One that the same action has made is left as it is, so that the action may be run again at any time. The program that makes it is
//! Debian's, of the boot image, or the one that the host has.

use disk::mkfs::{self, Filesystem, Made, MkfsError, MkfsRequest};
use proto::v1;
use serde::Serialize;

use super::environment::Environment;
use super::programs::Program;
use super::target::{self, blocking};
use super::{Done, Failure, Feed, Halt, Place};

pub(super) const VARIABLES: [&str; 7] = [
    "DEST_DISK",
    "FS_TYPE",
    "LABEL",
    "ONLY_EMPTY",
    "OPTIONS",
    "STOP_USERS",
    "UUID",
];

/// What later actions find in the task's outputs.
#[derive(Serialize)]
struct Outputs<'a> {
    path: String,
    fs_type: &'static str,
    uuid: &'a str,
    label: Option<&'a str>,
    size_bytes: u64,
    /// Whether anything was written.
    changed: bool,
}

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let hint = env.required("DEST_DISK")?;
    let filesystem = declared(env)?;
    let of = filesystem.fs_type;
    let device = target::resolve(hint).await?;
    let seed = [
        action.workflow_id.as_str(),
        action.task.as_str(),
        action.action.as_str(),
        &target::identity(&device),
    ];
    let request = MkfsRequest {
        device,
        filesystem,
        seed: seed.join("\0"),
        only_empty: env.is_on("ONLY_EMPTY"),
        touched: feed.touched(),
    };
    let shown = request.device.display().to_string();
    if let Some(made) = step(&request, mkfs::look).await? {
        let message = format!(
            "{shown} has this {of} already: nothing was written",
            of = of.name()
        );
        return succeeded(&request, &made, false, message, feed).await;
    }
    let program = Program::named(of.program(), place, feed, halt).await?;
    if let Some(arguments) = request.filesystem.trial(request.id_in_making(), &shown) {
        let tried = program.execute(&arguments, b"", feed, halt).await;
        tried.map_err(|failure| {
            let message = format!("{}; nothing was written", failure.message);
            Failure { message, ..failure }
        })?;
    }
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    target::say_removed(&step(&request, mkfs::clear).await?, feed).await;
    let arguments = request.filesystem.arguments(request.id_in_making(), &shown);
    feed.line(format!("{} {}", of.program(), arguments.join(" ")))
        .await;
    program.execute(&arguments, b"", feed, halt).await?;
    let made = step(&request, mkfs::finish).await?;
    let message = format!(
        "{shown} has a new {} of {} B now, UUID {}",
        of.name(),
        made.size_bytes,
        made.uuid
    );
    succeeded(&request, &made, true, message, feed).await
}

fn declared(env: &Environment<'_>) -> Result<Filesystem, Failure> {
    let of = |name| env.optional(name);
    let parsed = Filesystem::parse(env.required("FS_TYPE")?, of("LABEL"), of("UUID"), of("OPTIONS"));
    parsed.map_err(Failure::bad_variables)
}

async fn step<T: Send + 'static>(
    request: &MkfsRequest,
    step: fn(&MkfsRequest) -> Result<T, MkfsError>,
) -> Result<T, Failure> {
    let request = request.clone();
    blocking(move || step(&request).map_err(|e| Failure::new(e.reason(), e.to_string()))).await
}

async fn succeeded(
    request: &MkfsRequest,
    made: &Made,
    changed: bool,
    message: String,
    feed: &Feed,
) -> Result<Done, Failure> {
    feed.line(message.as_str()).await;
    let outputs = Outputs {
        path: request.device.display().to_string(),
        fs_type: request.filesystem.fs_type.name(),
        uuid: &made.uuid,
        label: made.label.as_deref(),
        size_bytes: made.size_bytes,
        changed,
    };
    Done::with_outputs(message, &outputs)
}
