//! From an image and an action to what is to be done: mounts in their order, and the process. Pure.
//!
//! Everything that a template or an image can get wrong and that needs no look at the image's files is refused here.
//!
//! Source: what Docker 20 and later give a container (oci/defaults.go, daemon/oci_linux.go of moby), as facts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::confinement;
use crate::volume::{self, Volume};

/// Where programs are looked for where neither image nor action says so; Docker's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The most layers of an overlay: `OVL_MAX_STACK` of the kernel.
const MAX_LAYERS: usize = 500;
/// The kernel's bound on what a program may be started with is far above it (`_STRINGS`, 128 KiB for one text).
const MAX_TEXT_BYTES: usize = 128 << 10;
/// Volumes of one action.
const MAX_VOLUMES: usize = 256;
const SIGTERM: i32 = 15;
/// The highest signal that Linux has.
const SIGRTMAX: i32 = 64;
/// glibc's and musl's first one; systemd's images stop at the third after it.
const SIGRTMIN: i32 = 34;

/// What is taken of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Folders in overlayfs's form, the lowest first.
    pub layers: Vec<PathBuf>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    pub stop_signal: Option<String>,
}

/// What an action asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Goes in place of the image's `cmd`, never of its entrypoint.
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// In bind syntax.
    pub volumes: Vec<String>,
    /// The machine's processes are seen (`pid: host`).
    pub host_processes: bool,
    pub network: Network,
    /// Docker's default confinement, instead of all that root may do.
    pub confined: bool,
}

/// Which network an action has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The machine's.
    #[default]
    Host,
    /// A loopback interface and nothing else.
    None,
    /// One that was made for it: [`Place::network`].
    Given,
}

/// What the machine gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// An empty folder. The root is put together there, in a mount namespace of its own.
    pub folder: PathBuf,
    /// Where the keeper leaves how the action ended ([`crate::read_status`]).
    pub status: PathBuf,
    /// What the action may write beside its volumes, in memory.
    pub writable_bytes: u64,
    pub hostname: String,
    pub resolv_conf: String,
    /// Lines of the machine's own /etc/hosts.
    pub hosts: String,
    /// Seen as /proc/cmdline, in place of the real one.
    pub cmdline: Option<String>,
    /// Folders that every action sees: the workflow's data, input and output. No volume may cover them.
    pub shown: Vec<Shown>,
    /// The network namespace of an action that has one of its own.
    pub network: Option<PathBuf>,
    /// The group that the action's processes join; it has a cgroup namespace of its own then.
    pub group: Option<PathBuf>,
    /// The machine mounts the variables of UEFI firmware there.
    pub has_efivars: bool,
}

/// A folder of whoever runs the action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub from: PathBuf,
    pub at: PathBuf,
    pub read_only: bool,
}

/// What is done to run an action: the whole of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub folder: PathBuf,
    pub status: PathBuf,
    pub layers: Vec<PathBuf>,
    pub writable_bytes: u64,
    pub hostname: String,
    pub host_processes: bool,
    pub network: Network,
    /// What is opened to join the network that is given.
    pub network_namespace: Option<PathBuf>,
    pub confined: bool,
    pub group: Option<PathBuf>,
    /// In this order, each in the container's root.
    pub mounts: Vec<Mount>,
    pub arguments: Vec<String>,
    /// `NAME=VALUE`; HOME is added where there is none.
    pub environment: Vec<String>,
    pub working_dir: PathBuf,
    /// As the image says it: its own files tell who that is.
    pub user: String,
    pub stop_signal: i32,
}

/// Something that is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute, in the container.
    pub at: PathBuf,
    pub what: What,
    pub read_only: bool,
    /// No device in it is one.
    pub no_devices: bool,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A fresh file system: its kind and its options. Never set-user-id.
    Fresh { kind: String, options: String },
    /// Another folder or file of the machine, with all that is mounted in it. A folder is made where there is none.
    Volume { source: PathBuf },
    /// A folder of the machine without what is mounted in it.
    Folder { source: PathBuf },
    /// The same, of whoever runs the action; a user that is not root is given all that is in it.
    Given { source: PathBuf },
    /// One device of the machine.
    Device { source: PathBuf },
    /// A file with this text, which the action may change.
    Text { text: String },
    /// A link that leads there, no mount.
    Link { to: PathBuf },
    /// What is there, read-only. Passed over where it is missing.
    Itself,
    /// Nothing can be seen of what is there. Passed over where it is missing.
    Nothing,
}

/// Why an action of this image cannot be run.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    #[error(
        "the image says neither what to run nor has the action a command: write command: with a program of the image"
    )]
    NoCommand,
    #[error("the image has {0} layers: {MAX_LAYERS} are the most that an overlay of Linux takes")]
    Layers(usize),
    #[error("stop signal {0:?} of the image is no signal: write one like SIGTERM, TERM, SIGRTMIN+3 or 15")]
    StopSignal(String),
    #[error(
        "volume {volume:?} cannot be shown: its target lies on {taken}, where every action sees its workflow's data, input and output"
    )]
    Taken { volume: String, taken: PathBuf },
    #[error(
        "{whose} has a text with a zero byte, or longer than {MAX_TEXT_BYTES} B: no program can be started with it"
    )]
    Text { whose: String },
    #[error("the action has {0} volumes: {MAX_VOLUMES} are the most")]
    Volumes(usize),
    #[error("volume {volume:?} cannot be shown: {why}")]
    Volume { volume: String, why: String },
    #[error("working folder {0:?} of the image is no absolute path")]
    WorkingDir(String),
}

/// What is to be done to run the action in the image.
///
/// # Errors
/// [`PlanError`]: nothing can come of it.
pub fn plan(image: &Image, request: &Request, place: &Place) -> Result<Plan, PlanError> {
    if image.layers.len() > MAX_LAYERS {
        return Err(PlanError::Layers(image.layers.len()));
    }
    let arguments = arguments(image, request)?;
    let environment = environment(image, request, place)?;
    Ok(Plan {
        folder: place.folder.clone(),
        status: place.status.clone(),
        layers: image.layers.clone(),
        writable_bytes: place.writable_bytes,
        hostname: place.hostname.clone(),
        host_processes: request.host_processes,
        network: request.network,
        network_namespace: place
            .network
            .clone()
            .filter(|_| request.network == Network::Given),
        confined: request.confined,
        group: place.group.clone(),
        mounts: mounts(request, place)?,
        arguments,
        environment,
        working_dir: working_dir(image)?,
        user: image.user.trim().to_owned(),
        stop_signal: match image.stop_signal.as_deref() {
            None | Some("") => SIGTERM,
            Some(text) => signal(text).ok_or_else(|| PlanError::StopSignal(text.to_owned()))?,
        },
    })
}

/// As Docker: a command of the action's goes in place of the image's, and both come after the entrypoint.
fn arguments(image: &Image, request: &Request) -> Result<Vec<String>, PlanError> {
    let command = match request.command.is_empty() {
        true => &image.cmd,
        false => &request.command,
    };
    let arguments: Vec<String> = image.entrypoint.iter().chain(command).cloned().collect();
    if arguments.first().is_none_or(String::is_empty) {
        return Err(PlanError::NoCommand);
    }
    match arguments.iter().all(|text| is_fit(text)) {
        true => Ok(arguments),
        false => Err(PlanError::Text {
            whose: "the command".to_owned(),
        }),
    }
}

/// Docker's own variables, over them the image's, over them the action's.
fn environment(image: &Image, request: &Request, place: &Place) -> Result<Vec<String>, PlanError> {
    let mut variables: BTreeMap<&str, &str> =
        BTreeMap::from([("HOSTNAME", place.hostname.as_str()), ("PATH", PATH)]);
    // A name without a value is none, as for Docker.
    variables.extend(image.env.iter().filter_map(|pair| pair.split_once('=')));
    variables.extend(
        request
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    let pairs: Vec<String> = variables
        .into_iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    match pairs.iter().find(|pair| !is_fit(pair)) {
        None => Ok(pairs),
        Some(pair) => Err(PlanError::Text {
            whose: format!(
                "environment variable {}",
                pair.split('=').next().unwrap_or_default()
            ),
        }),
    }
}

fn is_fit(text: &str) -> bool {
    text.len() < MAX_TEXT_BYTES && !text.contains('\0')
}

fn working_dir(image: &Image) -> Result<PathBuf, PlanError> {
    match image.working_dir.as_str() {
        "" | "/" => Ok(PathBuf::from("/")),
        folder if folder.starts_with('/') && is_fit(folder) => Ok(PathBuf::from(folder)),
        folder => Err(PlanError::WorkingDir(folder.to_owned())),
    }
}

/// `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(|number| (1..=SIGRTMAX).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let counted = |rest: &str, sign: char, from: i32| {
        let count: i32 = rest.strip_prefix(sign)?.parse().ok()?;
        let number = if sign == '+' {
            from.checked_add(count)?
        } else {
            from.checked_sub(count)?
        };
        Some(number).filter(|number| (SIGRTMIN..=SIGRTMAX).contains(number))
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(SIGRTMIN),
        (_, Some("")) => Some(SIGRTMAX),
        (Some(rest), _) => counted(rest, '+', SIGRTMIN),
        (_, Some(rest)) => counted(rest, '-', SIGRTMAX),
        (None, None) => format!("SIG{name}")
            .parse::<nix::sys::signal::Signal>()
            .ok()
            .map(|signal| signal as i32),
    }
}

/// All mounts in their order: the system's, the machine's files, volumes, and what covers them.
fn mounts(request: &Request, place: &Place) -> Result<Vec<Mount>, PlanError> {
    let volumes = volumes(request, place)?;
    let covers = |at: &Path| volumes.iter().any(|volume| at.starts_with(&volume.target));
    let mut mounts: Vec<Mount> = system(request, place)
        .into_iter()
        // As Docker: a volume goes before what would be there, and in it is what it brings.
        .filter(|mount| !covers(&mount.at))
        .collect();
    mounts.extend(place.shown.iter().map(|shown| Mount {
        at: shown.at.clone(),
        what: What::Given {
            source: shown.from.clone(),
        },
        read_only: shown.read_only,
        no_devices: true,
    }));
    let confined = request.confined;
    mounts.extend(volumes.into_iter().map(|volume| Mount {
        at: volume.target,
        what: What::Volume {
            source: volume.source,
        },
        read_only: volume.read_only,
        no_devices: confined,
    }));
    if confined {
        mounts.extend(covered(&confinement::READ_ONLY, &What::Itself));
        mounts.extend(covered(&confinement::MASKED, &What::Nothing));
    }
    Ok(mounts)
}

fn covered(paths: &'static [&'static str], what: &What) -> impl Iterator<Item = Mount> {
    let what = what.clone();
    paths.iter().map(move |path| Mount {
        at: PathBuf::from(path),
        what: what.clone(),
        read_only: true,
        no_devices: false,
    })
}

/// Sorted, so that one that lies in another comes after it.
fn volumes(request: &Request, place: &Place) -> Result<Vec<Volume>, PlanError> {
    if request.volumes.len() > MAX_VOLUMES {
        return Err(PlanError::Volumes(request.volumes.len()));
    }
    let mut volumes: Vec<Volume> = Vec::new();
    for text in &request.volumes {
        let volume = volume::parse(text)?;
        let taken = place
            .shown
            .iter()
            .find(|shown| volume.target.starts_with(&shown.at) || shown.at.starts_with(&volume.target));
        if let Some(shown) = taken {
            return Err(PlanError::Taken {
                volume: text.clone(),
                taken: shown.at.clone(),
            });
        }
        // An action's own comes after its task's: the last one counts.
        volumes.retain(|earlier| earlier.target != volume.target);
        volumes.push(volume);
    }
    volumes.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(volumes)
}

/// What every container has.
fn system(request: &Request, place: &Place) -> Vec<Mount> {
    let confined = request.confined;
    let fresh = |at: &str, kind: &str, options: &str, read_only: bool| Mount {
        at: PathBuf::from(at),
        what: What::Fresh {
            kind: kind.to_owned(),
            options: options.to_owned(),
        },
        read_only,
        no_devices: kind != "devpts",
    };
    let text = |at: &str, text: &str| Mount {
        at: PathBuf::from(at),
        what: What::Text {
            text: text.to_owned(),
        },
        read_only: false,
        no_devices: true,
    };
    let mut mounts = vec![fresh("/proc", "proc", "", false)];
    mounts.extend(place.cmdline.as_deref().map(|cmdline| Mount {
        read_only: true,
        ..text("/proc/cmdline", cmdline)
    }));
    mounts.push(fresh("/sys", "sysfs", "", confined));
    if place.group.is_some() {
        mounts.push(fresh("/sys/fs/cgroup", "cgroup2", "", confined));
    }
    if place.has_efivars && !confined {
        mounts.push(Mount {
            at: PathBuf::from("/sys/firmware/efi/efivars"),
            what: What::Folder {
                source: PathBuf::from("/sys/firmware/efi/efivars"),
            },
            read_only: false,
            no_devices: true,
        });
    }
    if confined {
        mounts.push(fresh("/dev", "tmpfs", "mode=0755,size=64k,nr_inodes=64", false));
        mounts.extend(confinement::DEVICES.map(|device| Mount {
            at: PathBuf::from(device),
            what: What::Device {
                source: PathBuf::from(device),
            },
            read_only: false,
            no_devices: false,
        }));
        mounts.extend(confinement::DEVICE_LINKS.map(|(link, to)| Mount {
            at: PathBuf::from(link),
            what: What::Link {
                to: PathBuf::from(to),
            },
            read_only: false,
            no_devices: false,
        }));
        mounts.push(fresh("/dev/mqueue", "mqueue", "", false));
    } else {
        // The machine's own, so that what a new partition table brings is there at once.
        mounts.push(Mount {
            at: PathBuf::from("/dev"),
            what: What::Folder {
                source: PathBuf::from("/dev"),
            },
            read_only: false,
            no_devices: false,
        });
    }
    mounts.push(fresh(
        "/dev/pts",
        "devpts",
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
        false,
    ));
    mounts.push(fresh("/dev/shm", "tmpfs", "mode=1777,size=64m", false));
    mounts.push(text("/etc/resolv.conf", &place.resolv_conf));
    mounts.push(text("/etc/hostname", &format!("{}\n", place.hostname)));
    mounts.push(text("/etc/hosts", &hosts(place)));
    mounts
}

fn hosts(place: &Place) -> String {
    format!(
        "127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback\n{more}",
        name = place.hostname,
        more = place.hosts
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn place() -> Place {
        Place {
            folder: "/run/x".into(),
            status: "/run/x.status".into(),
            writable_bytes: 1 << 20,
            hostname: "m1".into(),
            resolv_conf: "nameserver 10.0.0.1\n".into(),
            shown: vec![Shown {
                from: "/run/w".into(),
                at: "/workflow".into(),
                read_only: false,
            }],
            ..Place::default()
        }
    }

    fn shell() -> Image {
        Image {
            entrypoint: words("/bin/sh -c"),
            ..Image::default()
        }
    }

    /// One line for each mount.
    fn render(plan: &Plan) -> String {
        let line = |mount: &Mount| {
            let what = match &mount.what {
                What::Fresh { kind, options } => format!("fresh {kind} {options}"),
                What::Volume { source } => format!("volume {}", source.display()),
                What::Folder { source } => format!("folder {}", source.display()),
                What::Given { source } => format!("given {}", source.display()),
                What::Device { source } => format!("device {}", source.display()),
                What::Text { text } => format!("text {text:?}"),
                What::Link { to } => format!("link {}", to.display()),
                What::Itself => "itself".to_owned(),
                What::Nothing => "nothing".to_owned(),
            };
            let flag = |is_on: bool, word: &'static str| if is_on { word } else { "" };
            let flags = format!(
                "{}{}",
                flag(mount.read_only, " ro"),
                flag(mount.no_devices, " nodev")
            );
            format!("{}: {}{flags}", mount.at.display(), what.trim())
        };
        plan.mounts.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn planned(request: &Request) -> Plan {
        plan(
            &shell(),
            &Request {
                command: words("true"),
                ..request.clone()
            },
            &place(),
        )
        .expect("plan")
    }

    #[test]
    fn a_privileged_action_sees_the_machines_devices() {
        insta::assert_snapshot!(render(&planned(&Request::default())), @r#"
        /proc: fresh proc nodev
        /sys: fresh sysfs nodev
        /dev: folder /dev
        /dev/pts: fresh devpts newinstance,ptmxmode=0666,mode=0620,gid=5
        /dev/shm: fresh tmpfs mode=1777,size=64m nodev
        /etc/resolv.conf: text "nameserver 10.0.0.1\n" nodev
        /etc/hostname: text "m1\n" nodev
        /etc/hosts: text "127.0.0.1\tlocalhost m1\n::1\tlocalhost ip6-localhost ip6-loopback\n" nodev
        /workflow: given /run/w nodev
        "#);
    }

    #[test]
    fn a_confined_action_sees_a_few_devices_and_masks() {
        let request = Request {
            confined: true,
            volumes: words("/srv/data:/data:ro"),
            ..Request::default()
        };
        insta::assert_snapshot!(render(&planned(&request)), @r#"
        /proc: fresh proc nodev
        /sys: fresh sysfs ro nodev
        /dev: fresh tmpfs mode=0755,size=64k,nr_inodes=64 nodev
        /dev/full: device /dev/full
        /dev/null: device /dev/null
        /dev/random: device /dev/random
        /dev/tty: device /dev/tty
        /dev/urandom: device /dev/urandom
        /dev/zero: device /dev/zero
        /dev/fd: link /proc/self/fd
        /dev/ptmx: link pts/ptmx
        /dev/stderr: link /proc/self/fd/2
        /dev/stdin: link /proc/self/fd/0
        /dev/stdout: link /proc/self/fd/1
        /dev/mqueue: fresh mqueue nodev
        /dev/pts: fresh devpts newinstance,ptmxmode=0666,mode=0620,gid=5
        /dev/shm: fresh tmpfs mode=1777,size=64m nodev
        /etc/resolv.conf: text "nameserver 10.0.0.1\n" nodev
        /etc/hostname: text "m1\n" nodev
        /etc/hosts: text "127.0.0.1\tlocalhost m1\n::1\tlocalhost ip6-localhost ip6-loopback\n" nodev
        /workflow: given /run/w nodev
        /data: volume /srv/data ro nodev
        /proc/bus: itself ro
        /proc/fs: itself ro
        /proc/irq: itself ro
        /proc/sys: itself ro
        /proc/sysrq-trigger: itself ro
        /proc/acpi: nothing ro
        /proc/asound: nothing ro
        /proc/interrupts: nothing ro
        /proc/kcore: nothing ro
        /proc/keys: nothing ro
        /proc/latency_stats: nothing ro
        /proc/sched_debug: nothing ro
        /proc/scsi: nothing ro
        /proc/timer_list: nothing ro
        /proc/timer_stats: nothing ro
        /sys/devices/virtual/powercap: nothing ro
        /sys/firmware: nothing ro
        "#);
    }

    #[test]
    fn a_volume_goes_before_what_would_be_there_and_the_last_of_two_counts() {
        let request = Request {
            volumes: words("/dev:/dev /b:/data/b /task:/data /etc/hosts:/etc/hosts:ro /action:/data"),
            ..Request::default()
        };
        let rendered = render(&planned(&request));
        let of_interest: Vec<&str> = rendered
            .lines()
            .filter(|line| {
                ["/dev", "/data", "/etc/hosts"]
                    .iter()
                    .any(|at| line.starts_with(at))
            })
            .collect();
        assert_eq!(
            of_interest,
            [
                "/data: volume /action",
                "/data/b: volume /b",
                "/dev: volume /dev",
                "/etc/hosts: volume /etc/hosts ro"
            ]
        );
    }

    #[track_caller]
    fn check_arguments(entrypoint: &str, cmd: &str, command: &str, want: &str) {
        let image = Image {
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            ..Image::default()
        };
        let request = Request {
            command: words(command),
            ..Request::default()
        };
        let planned = plan(&image, &request, &place());
        match want {
            "" => assert_eq!(planned, Err(PlanError::NoCommand)),
            want => assert_eq!(planned.expect("plan").arguments, words(want)),
        }
    }

    #[test]
    fn a_command_goes_in_place_of_the_images_and_never_of_its_entrypoint() {
        check_arguments("", "/hello", "", "/hello");
        check_arguments("", "sh", "echo a", "echo a");
        check_arguments("/init", "start", "", "/init start");
        check_arguments("/init", "start", "stop now", "/init stop now");
        check_arguments("/init", "", "", "/init");
        check_arguments("", "", "", "");
    }

    #[test]
    fn variables_of_the_action_go_before_the_images_and_those_before_dockers() {
        let image = Image {
            env: words("PATH=/opt/bin A=image B=image nothing =x C=a=b"),
            ..shell()
        };
        let environment = BTreeMap::from([("B".to_owned(), "action".to_owned())]);
        let request = Request {
            environment,
            ..Request::default()
        };
        let plan = plan(&image, &request, &place()).expect("plan");
        assert_eq!(
            plan.environment,
            words("A=image B=action C=a=b HOSTNAME=m1 PATH=/opt/bin")
        );
        assert_eq!(
            planned(&Request::default()).environment,
            words(&format!("HOSTNAME=m1 PATH={PATH}"))
        );
    }

    #[track_caller]
    fn check_signal(text: &str, want: Option<i32>) {
        let image = Image {
            stop_signal: Some(text.to_owned()),
            ..shell()
        };
        let planned = plan(&image, &Request::default(), &place());
        match want {
            Some(number) => assert_eq!(planned.expect("plan").stop_signal, number, "{text}"),
            None => assert_eq!(planned, Err(PlanError::StopSignal(text.to_owned()))),
        }
    }

    #[test]
    fn stop_signals_are_dockers() {
        for (text, want) in [
            ("SIGTERM", 15),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("SIGRTMAX-1", 63),
        ] {
            check_signal(text, Some(want));
        }
        for text in [
            "0",
            "65",
            "-1",
            "SIGNOTHING",
            "SIGRTMIN+31",
            "SIGRTMIN-1",
            "SIGRTMAX-40",
            "99999999999",
        ] {
            check_signal(text, None);
        }
        check_signal("", Some(15));
    }

    #[test]
    fn what_cannot_be_run_is_refused_in_words() {
        let refused = |image: Image, request: Request| plan(&image, &request, &place()).expect_err("refused");
        let volume = |text: &str| Request {
            volumes: words(text),
            ..Request::default()
        };
        for text in ["/a:/workflow", "/a:/workflow/x"] {
            assert!(
                matches!(refused(shell(), volume(text)), PlanError::Taken { .. }),
                "{text}"
            );
        }
        let many = Request {
            volumes: vec!["/a:/b".to_owned(); MAX_VOLUMES + 1],
            ..Request::default()
        };
        assert_eq!(refused(shell(), many), PlanError::Volumes(MAX_VOLUMES + 1));
        let zero = Request {
            environment: BTreeMap::from([("A".to_owned(), "b\0".to_owned())]),
            ..Request::default()
        };
        assert!(
            refused(shell(), zero)
                .to_string()
                .contains("environment variable A has")
        );
        let high = Image {
            layers: vec!["/l".into(); MAX_LAYERS + 1],
            ..shell()
        };
        assert_eq!(
            refused(high, Request::default()),
            PlanError::Layers(MAX_LAYERS + 1)
        );
        let lost = Image {
            working_dir: "srv".into(),
            ..shell()
        };
        assert_eq!(
            refused(lost, Request::default()),
            PlanError::WorkingDir("srv".into())
        );
    }

    #[test]
    fn a_plan_travels_as_json() {
        let plan = planned(&Request {
            confined: true,
            ..Request::default()
        });
        let text = serde_json::to_string(&plan).expect("written");
        assert_eq!(serde_json::from_str::<Plan>(&text).expect("read"), plan);
    }
}
