//! `lvm`: a volume group of disks or partitions and its volumes, made once and activated after each boot.
//!
//! What is there already is left alone, so that the action may be run again at any time. The program is Debian's lvm.

use std::collections::BTreeMap;
use std::path::PathBuf;

use disk::lvm::{self, LvmError, Next, Report, VolumeGroup, VolumeGroupFields};
use disk::{clear, image::WriteError};
use proto::v1;
use serde::Serialize;

use super::environment::Environment;
use super::programs::{Program, load_modules};
use super::target::{self, blocking};
use super::{Done, Failure, Feed, Halt, Place};

pub(super) const VARIABLES: [&str; 5] = ["DEVICES", "NAME", "ONLY_EMPTY", "STOP_USERS", "VOLUMES"];

/// What later actions find in the task's outputs.
#[derive(Serialize)]
struct Outputs {
    name: String,
    uuid: String,
    devices: Vec<String>,
    /// Where each volume is, by its name.
    paths: BTreeMap<String, String>,
    /// Whether the group or one of its volumes was made.
    changed: bool,
}

/// lvm, with what each call of it is given.
struct Lvm<'a> {
    program: Program,
    feed: &'a Feed,
    halt: &'a Halt,
}

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let declared = VolumeGroup::parse(&VolumeGroupFields {
        name: Some(env.required("NAME")?),
        devices: Some(env.required("DEVICES")?),
        volumes: env.optional("VOLUMES"),
    });
    let declared = declared.map_err(Failure::bad_variables)?;
    let mut devices = Vec::new();
    for hint in &declared.devices {
        devices.push(target::resolve(hint).await?);
    }
    let seed = [&action.workflow_id, &action.task, &action.action]
        .map(String::as_str)
        .join("\0");
    let uuids: Vec<String> = devices
        .iter()
        .map(|device| lvm::uuid_of(&format!("{seed}\0{}", target::identity(device))))
        .collect();
    let lvm = Lvm {
        program: Program::named("lvm", place, feed, halt).await?,
        feed,
        halt,
    };
    load_modules(&["dm_mod"]).await;
    let report = lvm.report().await?;
    let mut next = looked(&declared, &devices, &report).await?;
    let is_new = next == Next::Make;
    if is_new {
        let (group, at, ours, only_empty) = (
            declared.clone(),
            devices.clone(),
            uuids.clone(),
            env.is_on("ONLY_EMPTY"),
        );
        blocking(move || lvm::may_be_made(&group, &at, &ours, &report, only_empty).map_err(failure)).await?;
        if halt.is_asked() {
            return Err(Failure::stopped());
        }
        lvm.make(&declared.name, &devices, &uuids).await?;
        next = looked(&declared, &devices, &lvm.report().await?).await?;
    }
    let Next::Complete {
        uuid,
        missing,
        sleeps,
    } = next
    else {
        return Err(not_made("it shows no group of that name"));
    };
    for (volume, extents) in &missing {
        if halt.is_asked() {
            return Err(Failure::stopped());
        }
        let extents = extents.to_string();
        let name = declared.name.as_str();
        // A signature from before is wiped, and the first bytes are zeros.
        lvm.execute(&[
            "lvcreate", "-y", "-W", "y", "-Z", "y", "-n", volume, "-l", &extents, name,
        ])
        .await?;
    }
    if sleeps {
        lvm.execute(&["vgchange", "-ay", &declared.name]).await?;
    }
    let mut paths = BTreeMap::new();
    for volume in &declared.volumes {
        let path = format!("/dev/{}/{}", declared.name, volume.name);
        if !PathBuf::from(&path).exists() {
            return Err(not_made(&format!("{path} is not there")));
        }
        paths.insert(volume.name.clone(), path);
    }
    let shown: Vec<String> = devices
        .iter()
        .map(|device| device.display().to_string())
        .collect();
    let (name, of) = (&declared.name, shown.join(", "));
    let made: Vec<&str> = missing.iter().map(|(volume, _)| volume.as_str()).collect();
    let message = match (is_new, made.is_empty()) {
        (true, true) => format!("{name} is a new volume group of {of}"),
        (true, false) => format!("{name} is a new volume group of {of}, with {}", made.join(", ")),
        (false, false) => format!("the volume group {name} of {of} got {}", made.join(", ")),
        (false, true) => format!("{name} is this volume group of {of} already: nothing was written"),
    };
    feed.line(message.as_str()).await;
    let outputs = Outputs {
        name: name.clone(),
        uuid,
        devices: shown,
        paths,
        changed: is_new || !made.is_empty(),
    };
    Done::with_outputs(message, &outputs)
}

impl Lvm<'_> {
    async fn report(&self) -> Result<Report, Failure> {
        let mut answers = Vec::new();
        for [command, _, fields] in lvm::QUESTIONS {
            let arguments = arguments(&[
                command,
                "--reportformat",
                "json",
                "--units",
                "b",
                "--nosuffix",
                "-o",
                fields,
            ]);
            let answer = self.program.ask(&arguments, b"", self.halt).await?;
            if answer.code != 0 {
                return Err(Failure::new(
                    "ExitCode",
                    format!(
                        "lvm {command} exited with {}: {}; nothing was written",
                        answer.code, answer.errors
                    ),
                ));
            }
            answers.push(answer.output);
        }
        let [physical, groups, logical] =
            [0, 1, 2].map(|at: usize| answers.get(at).map_or(&[][..], Vec::as_slice));
        Report::read([physical, groups, logical]).map_err(failure)
    }

    async fn make(&self, name: &str, devices: &[PathBuf], uuids: &[String]) -> Result<(), Failure> {
        for device in devices {
            let (at, touched) = (device.clone(), self.feed.touched());
            let removed =
                blocking(move || clear::clear(&at, &touched).map_err(|e: WriteError| failure(e.into())));
            target::say_removed(&removed.await?, self.feed).await;
        }
        let mut all = vec!["vgcreate", "-y", "--physicalextentsize", "4m", name];
        let shown: Vec<String> = devices
            .iter()
            .map(|device| device.display().to_string())
            .collect();
        for (device, uuid) in shown.iter().zip(uuids) {
            self.execute(&["pvcreate", "-ff", "-y", "--norestorefile", "--uuid", uuid, device])
                .await?;
        }
        all.extend(shown.iter().map(String::as_str));
        self.execute(&all).await
    }

    async fn execute(&self, words: &[&str]) -> Result<(), Failure> {
        self.feed.line(format!("lvm {}", words.join(" "))).await;
        self.program
            .execute(&arguments(words), b"", self.feed, self.halt)
            .await
    }
}

fn arguments(words: &[&str]) -> Vec<String> {
    let (command, rest) = words.split_first().unwrap_or((&"help", &[]));
    let all = [*command, "--config", lvm::CONFIG]
        .into_iter()
        .chain(rest.iter().copied());
    all.map(str::to_owned).collect()
}

async fn looked(declared: &VolumeGroup, devices: &[PathBuf], report: &Report) -> Result<Next, Failure> {
    let (declared, devices, report) = (declared.clone(), devices.to_vec(), report.clone());
    blocking(move || lvm::next(&declared, &devices, &report).map_err(failure)).await
}

fn not_made(missing: &str) -> Failure {
    failure(LvmError::NotMade {
        missing: missing.to_owned(),
    })
}

fn failure(error: LvmError) -> Failure {
    Failure::new(error.reason(), error.to_string())
}
