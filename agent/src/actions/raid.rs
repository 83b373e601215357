//! `raid`: Linux software RAID of disks or partitions, made once and put together after each boot.
//!
//! One that is as declared is left alone, so that the action may be run again at any time. The program is Debian's mdadm.

use std::path::PathBuf;

use disk::probe::System;
use disk::raid::{self, Array, ArrayFields, Next, RaidError};
use disk::{clear, image::WriteError};
use proto::v1;
use serde::Serialize;

use super::environment::Environment;
use super::programs::{Program, load_modules};
use super::target::{self, blocking};
use super::{Done, Failure, Feed, Halt, Place};

pub(super) const VARIABLES: [&str; 9] = [
    "BITMAP",
    "CHUNK",
    "DEVICES",
    "HOMEHOST",
    "LEVEL",
    "METADATA",
    "NAME",
    "ONLY_EMPTY",
    "STOP_USERS",
];

/// What later actions find in the task's outputs.
#[derive(Serialize)]
struct Outputs {
    /// As the kernel calls it, in /dev.
    path: String,
    level: u32,
    /// As mdadm writes it, for `mdadm.conf`.
    uuid: String,
    devices: Vec<String>,
    /// Whether it was made.
    changed: bool,
}

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let of = |name| env.optional(name);
    let declared = Array::parse(&ArrayFields {
        level: Some(env.required("LEVEL")?),
        devices: Some(env.required("DEVICES")?),
        name: Some(env.required("NAME")?),
        homehost: of("HOMEHOST"),
        metadata: of("METADATA"),
        bitmap: of("BITMAP"),
        chunk: of("CHUNK"),
    });
    let declared = declared.map_err(Failure::bad_variables)?;
    let mut members = Vec::new();
    for hint in &declared.devices {
        members.push(target::resolve(hint).await?);
    }
    let mut seed = vec![
        action.workflow_id.clone(),
        action.task.clone(),
        action.action.clone(),
    ];
    seed.extend(members.iter().map(|member| target::identity(member)));
    let uuid = raid::uuid_of(&seed.join("\0"));
    let there = looked(&declared, &members).await?;
    let running = raid::running(&System::default(), &members);
    let next = raid::next(&declared, &there, running.as_deref());
    let shown: Vec<String> = members
        .iter()
        .map(|member| member.display().to_string())
        .collect();
    let is_new = next == Next::Make;
    let (uuid, path) = match next {
        Next::Leave { uuid, running } => (uuid, running),
        Next::Assemble { uuid } => {
            let program = mdadm(&declared, place, feed, halt).await?;
            let arguments = declared.assemble_arguments(&uuid, &shown);
            execute(&program, &arguments, feed, halt).await?;
            (uuid, now_running(&members)?)
        }
        Next::Make => {
            let (at, only_empty, ours) = (members.clone(), env.is_on("ONLY_EMPTY"), uuid.clone());
            blocking(move || raid::may_be_made(&at, &there, &ours, only_empty).map_err(failure)).await?;
            let program = mdadm(&declared, place, feed, halt).await?;
            if halt.is_asked() {
                return Err(Failure::stopped());
            }
            for member in &members {
                let (at, touched) = (member.clone(), feed.touched());
                let removed =
                    blocking(move || clear::clear(&at, &touched).map_err(|e: WriteError| failure(e.into())));
                target::say_removed(&removed.await?, feed).await;
            }
            let arguments = declared.create_arguments(&uuid, &shown);
            execute(&program, &arguments, feed, halt).await?;
            let there = looked(&declared, &members).await?;
            if raid::next(&declared, &there, None) != (Next::Assemble { uuid: uuid.clone() }) {
                let missing = "not every member has a superblock of the declared array".to_owned();
                return Err(failure(RaidError::NotMade { missing }));
            }
            (uuid, now_running(&members)?)
        }
    };
    let (path, level) = (path.display().to_string(), declared.level.number());
    let message = match is_new {
        true => format!(
            "{path} is a new RAID {level} of {}, UUID {uuid}",
            shown.join(", ")
        ),
        false => format!(
            "{path} is this RAID {level} of {} already: nothing was written",
            shown.join(", ")
        ),
    };
    feed.line(message.as_str()).await;
    let outputs = Outputs {
        path,
        level,
        uuid,
        devices: shown,
        changed: is_new,
    };
    Done::with_outputs(message, &outputs)
}

async fn mdadm(declared: &Array, place: &Place, feed: &Feed, halt: &Halt) -> Result<Program, Failure> {
    let program = Program::named("mdadm", place, feed, halt).await?;
    load_modules(&["md_mod", declared.level.module()]).await;
    Ok(program)
}

async fn execute(program: &Program, arguments: &[String], feed: &Feed, halt: &Halt) -> Result<(), Failure> {
    feed.line(format!("mdadm {}", arguments.join(" "))).await;
    program.execute(arguments, b"", feed, halt).await
}

async fn looked(declared: &Array, members: &[PathBuf]) -> Result<Vec<Option<raid::Superblock>>, Failure> {
    let (declared, members) = (declared.clone(), members.to_vec());
    blocking(move || raid::look(&declared, &members).map_err(failure)).await
}

/// Where the array is that was started a moment ago.
fn now_running(members: &[PathBuf]) -> Result<PathBuf, Failure> {
    raid::running(&System::default(), members).ok_or_else(|| {
        let missing = "the kernel shows no array that all members are in".to_owned();
        failure(RaidError::NotMade { missing })
    })
}

fn failure(error: RaidError) -> Failure {
    Failure::new(error.reason(), error.to_string())
}
