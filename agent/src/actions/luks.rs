//! `luks`: a disk or partition is encrypted, and opened under a name.
//!
//! One that its key opens already is left alone, so that the action may be run again at any time. The key goes to cryptsetup's standard
//! input, and into no argument, variable or file.

use disk::luks::{self, Luks, LuksError, Next};
use disk::probe::System;
use disk::{clear, image::WriteError};
use proto::v1;
use serde::Serialize;

use super::environment::Environment;
use super::programs::{Program, load_modules};
use super::target::{self, blocking};
use super::{Done, Failure, Feed, Halt, Place};

pub(super) const VARIABLES: [&str; 9] = [
    "DEST_DISK",
    "KEY",
    "LABEL",
    "NAME",
    "ONLY_EMPTY",
    "OPTIONS",
    "PASSPHRASE",
    "STOP_USERS",
    "UUID",
];

/// What cryptsetup exits with when the key opens nothing. Source: cryptsetup(8), "RETURN CODES".
const BAD_KEY: i32 = 2;
/// … and when there is no key slot that it could open.
const NO_KEY_SLOT: i32 = 1;

/// What later actions find in the task's outputs.
#[derive(Serialize)]
struct Outputs {
    device: String,
    /// Where what is deciphered is.
    path: String,
    uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// Whether a header was written.
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
    let of = |name| env.optional(name);
    let declared = Luks::parse(
        Some(env.required("NAME")?),
        of("LABEL"),
        of("UUID"),
        of("OPTIONS"),
    );
    let declared = declared.map_err(Failure::bad_variables)?;
    let key = key(env)?;
    let device = target::resolve(hint).await?;
    let seed = [
        action.workflow_id.as_str(),
        action.task.as_str(),
        action.action.as_str(),
        &target::identity(&device),
    ]
    .join("\0");
    let (shown, uuid) = (device.display().to_string(), luks::uuid_of(&declared, &seed));
    let program = Program::named("cryptsetup", place, feed, halt).await?;
    load_modules(&["dm_mod", "dm_crypt"]).await;

    let there = luks::header(&device).map_err(failure)?;
    let is_there = match luks::next(&declared, uuid, there.as_ref()) {
        Next::Make => None,
        Next::TryKey { uuid, is_ours } => {
            let arguments = Luks::trial_arguments(&shown);
            let answer = program.ask(&arguments, &key, halt).await?;
            match answer.code {
                0 => Some(uuid),
                BAD_KEY if is_ours => {
                    return Err(Failure::new(
                        "OtherKey",
                        format!(
                            "{shown} has the LUKS header {uuid}, and this key does not open it: give the key that it was made with, or another UUID \
                             to have it overwritten; nothing was written"
                        ),
                    ));
                }
                BAD_KEY => None,
                NO_KEY_SLOT if is_ours => None,
                // Too little memory for its key, perhaps: whether this is the declared one is not known then.
                code => {
                    return Err(Failure::new(
                        "KeyNotTried",
                        format!(
                            "cryptsetup could not try the key on {shown} (exit code {code}: {}); nothing was written",
                            answer.errors
                        ),
                    ));
                }
            }
        }
    };
    let opened = luks::opened(&System::default(), &declared.name);
    let uuid_there = is_there.clone().unwrap_or_else(|| uuid.to_string());
    let is_open = luks::is_open(&declared, &device, &uuid_there, opened.as_ref()).map_err(failure)?;
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    if is_there.is_none() {
        let (only_empty, touched) = (env.is_on("ONLY_EMPTY"), feed.touched());
        let at = device.clone();
        let removed = blocking(move || {
            luks::may_be_made(&at, uuid, only_empty).map_err(failure)?;
            clear::clear(&at, &touched).map_err(|e: WriteError| failure(e.into()))
        })
        .await?;
        target::say_removed(&removed, feed).await;
        let arguments = declared.format_arguments(uuid, &shown);
        feed.line(format!("cryptsetup {}", arguments.join(" "))).await;
        program.execute(&arguments, &key, feed, halt).await?;
        let trial = program.ask(&Luks::trial_arguments(&shown), &key, halt).await?;
        if trial.code != 0 {
            return Err(Failure::new(
                "NotMade",
                format!(
                    "cryptsetup ended well, and its key does not open {shown}: {}",
                    trial.errors
                ),
            ));
        }
    }
    if !is_open {
        let arguments = declared.open_arguments(&shown);
        program.execute(&arguments, &key, feed, halt).await?;
    }
    let path = format!("/dev/mapper/{}", declared.name);
    let message = match &is_there {
        Some(uuid) => {
            format!("{shown} has the LUKS header {uuid} already, and is open as {path}: nothing was written")
        }
        None => format!("{shown} has a new LUKS header, UUID {uuid}, and is open as {path}"),
    };
    feed.line(message.as_str()).await;
    let outputs = Outputs {
        device: shown,
        path,
        uuid: uuid_there,
        label: match is_there {
            Some(_) => there.and_then(|header| header.label),
            None => declared.label,
        },
        changed: is_there.is_none(),
    };
    Done::with_outputs(message, &outputs)
}

fn failure(error: LuksError) -> Failure {
    Failure::new(error.reason(), error.to_string())
}

/// The bytes of the key: those of the passphrase, as one that types it gives them, or what is given as base64.
fn key(env: &Environment<'_>) -> Result<Vec<u8>, Failure> {
    let bad = |words: &str| Failure::new("BadVariable", words);
    match (env.optional("PASSPHRASE"), env.optional("KEY")) {
        (Some(_), Some(_)) => Err(bad("PASSPHRASE and KEY are both set: leave one out")),
        (None, None) => Err(Failure::new(
            "MissingVariable",
            "neither environment variable PASSPHRASE nor KEY is set; this action needs one of them",
        )),
        (Some(text), None) if text.contains(['\n', '\r', '\0']) => Err(bad(
            "PASSPHRASE has a line break, which nobody can type: leave it out of the secret, or give KEY, as base64",
        )),
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(text)) => luks::key_of_base64(text)
            .ok_or_else(|| bad("KEY is no base64 of 1 B to 8 MiB: write the key file as `base64` prints it")),
    }
}
