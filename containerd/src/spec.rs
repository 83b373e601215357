//! A plan as an OCI runtime specification, which runc carries out. Pure.
//!
//! Mounts keep the plan's order. What runc makes of itself (the few devices of a confined action and their links) is left
//! out; texts are files that [`texts`] names, to be written before.
//!
//! Source: OCI runtime specification 1.0.2, config.md and config-linux.md.

use std::path::{Path, PathBuf};

use container::confinement::{self, When};
use container::plan::{Mount, What};
use container::user::User;
use container::{Network, Plan};
use serde_json::{Value, json};

/// The kernel takes an action for it before it takes the agent.
const OOM_SCORE: i32 = 500;
const UMASK: u32 = 0o022;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
/// runc shows no file of ours here (`checkProcMount`), and nobody is to see the boot's token.
const CMDLINE: &str = "/proc/cmdline";

/// The whole of it. `folder` has the texts; `group` is the name of the action's cgroup.
pub fn specification(plan: &Plan, user: &User, folder: &Path, group: &str) -> Value {
    let capabilities = confinement::capabilities(plan.confined);
    // A user that is not root has none, as where a program becomes the user by itself.
    let kept: &[String] = if user.uid == 0 { &capabilities } else { &[] };
    let mut environment = plan.environment.clone();
    if !environment.iter().any(|pair| pair.starts_with("HOME=")) {
        environment.push(format!("HOME={}", user.home));
    }
    let mut linux = json!({
        "cgroupsPath": format!("/farrier/{group}"),
        "maskedPaths": covered(plan, &What::Nothing),
        "namespaces": namespaces(plan),
        "readonlyPaths": covered(plan, &What::Itself),
        "resources": {"devices": [{"allow": !plan.confined, "access": "rwm"}]},
    });
    if plan.confined {
        linux["seccomp"] = seccomp();
    }
    json!({
        "ociVersion": "1.0.2",
        "hostname": plan.hostname,
        "root": {"path": "rootfs", "readonly": false},
        "process": {
            "args": plan.arguments,
            "capabilities": {
                "bounding": capabilities,
                "effective": kept,
                "permitted": kept,
                "inheritable": [],
                "ambient": [],
            },
            "cwd": plan.working_dir,
            "env": environment,
            "noNewPrivileges": plan.confined,
            "oomScoreAdj": OOM_SCORE,
            "terminal": false,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups, "umask": UMASK},
        },
        "mounts": mounts(plan, folder),
        "linux": linux,
    })
}

/// The files that the specification shows in the container, and what they say.
pub fn texts<'p>(plan: &'p Plan, folder: &Path) -> Vec<(PathBuf, &'p str)> {
    let numbered = plan.mounts.iter().enumerate();
    let texts = numbered.filter_map(|(number, mount)| match &mount.what {
        What::Text { text } if mount.at != Path::new(CMDLINE) => {
            Some((text_file(folder, number), text.as_str()))
        }
        _ => None,
    });
    texts.collect()
}

fn text_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("text-{number}"))
}

fn namespaces(plan: &Plan) -> Vec<Value> {
    let mut kinds = vec!["ipc", "mount", "uts"];
    if !plan.host_processes {
        kinds.push("pid");
    }
    if plan.network == Network::None {
        kinds.push("network");
    }
    if plan.group.is_some() {
        kinds.push("cgroup");
    }
    let own = kinds.into_iter().map(|kind| json!({"type": kind}));
    let given = plan.network_namespace.iter();
    own.chain(given.map(|path| json!({"type": "network", "path": path})))
        .collect()
}

/// Where the plan covers something in this way.
fn covered(plan: &Plan, how: &What) -> Vec<PathBuf> {
    let covered = plan.mounts.iter().filter(|mount| {
        mount.what == *how
            || *how == What::Nothing
                && mount.at == Path::new(CMDLINE)
                && matches!(mount.what, What::Text { .. })
    });
    covered.map(|mount| mount.at.clone()).collect()
}

fn mounts(plan: &Plan, folder: &Path) -> Vec<Value> {
    let numbered = plan.mounts.iter().enumerate();
    numbered
        .filter_map(|(number, mount)| {
            let (kind, source, mut options) = how(mount, &text_file(folder, number))?;
            let bind = kind == "bind";
            if mount.read_only {
                options.push("ro".to_owned());
                // All that is mounted in it, too; a runc that does not know the word passes it over.
                if bind {
                    options.push("rro".to_owned());
                }
            }
            if mount.no_devices && mount.at != Path::new("/dev") {
                options.push("nodev".to_owned());
                if bind {
                    options.push("rnodev".to_owned());
                }
            }
            if bind && mount.no_devices {
                options.push("nosuid".to_owned());
            }
            Some(json!({"destination": mount.at, "type": kind, "source": source, "options": options}))
        })
        .collect()
}

/// Kind, source and options; `None` for what is no mount of the specification.
fn how(mount: &Mount, text: &Path) -> Option<(String, PathBuf, Vec<String>)> {
    let bind =
        |source: &Path, option: &str| Some(("bind".to_owned(), source.to_owned(), vec![option.to_owned()]));
    match &mount.what {
        What::Fresh { kind, options } => {
            // By this name runc mounts the hierarchy that there is.
            let kind = if kind == "cgroup2" { "cgroup" } else { kind };
            let mut words = vec!["nosuid".to_owned()];
            if kind != "tmpfs" {
                words.push("noexec".to_owned());
            }
            words.extend(
                options
                    .split(',')
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned),
            );
            Some((kind.to_owned(), PathBuf::from(kind), words))
        }
        What::Volume { source } => bind(source, "rbind"),
        What::Folder { source } | What::Given { source } => bind(source, "bind"),
        What::Text { .. } if mount.at == Path::new(CMDLINE) => None,
        What::Text { .. } => bind(text, "bind"),
        // runc makes those that every container has, and allows no others.
        What::Device { .. } | What::Link { .. } => None,
        What::Itself | What::Nothing => None,
    }
}

fn seccomp() -> Value {
    let mut calls =
        vec![json!({"names": confinement::allowed().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"})];
    calls.extend(confinement::CONDITIONAL.map(|((name, _), when)| {
        let condition = match when {
            When::Without(bits) => {
                json!({"index": 0, "value": bits, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"})
            }
            When::Is(value) => json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"}),
            When::IsNot(value) => json!({"index": 0, "value": value, "op": "SCMP_CMP_NE"}),
        };
        json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]})
    }));
    calls.push(json!({"names": [confinement::NOT_THERE.0], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": [architecture()],
        "syscalls": calls,
    })
}

/// This machine's, in libseccomp's words.
fn architecture() -> String {
    format!("SCMP_ARCH_{}", std::env::consts::ARCH.to_uppercase())
}

#[cfg(test)]
mod tests {
    use container::{Image, Place, Request, Shown, plan};

    use super::*;

    fn planned(request: &Request) -> Plan {
        let image = Image {
            entrypoint: vec!["/bin/sh".to_owned()],
            user: "web".to_owned(),
            ..Image::default()
        };
        let place = Place {
            folder: "/run/c".into(),
            hostname: "m1".to_owned(),
            resolv_conf: "nameserver 10.0.0.1\n".to_owned(),
            cmdline: Some("quiet\n".to_owned()),
            shown: vec![Shown {
                from: "/run/w".into(),
                at: "/workflow".into(),
                read_only: true,
            }],
            group: Some("/sys/fs/cgroup/farrier/c".into()),
            ..Place::default()
        };
        plan(&image, request, &place).expect("plan")
    }

    fn specified(request: &Request) -> Value {
        let user = User {
            uid: 33,
            gid: 34,
            groups: vec![4],
            home: "/srv".to_owned(),
        };
        specification(&planned(request), &user, Path::new("/run/c"), "c")
    }

    fn rendered(specification: &Value) -> String {
        let mounts = specification["mounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .map(|mount| {
                let text = |field: &str| mount[field].as_str().unwrap_or_default().to_owned();
                let options: Vec<&str> = mount["options"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                format!(
                    "{}: {} {} {}",
                    text("destination"),
                    text("type"),
                    text("source"),
                    options.join(",")
                )
            });
        mounts.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_privileged_action_has_the_machines_devices_and_the_plans_order() {
        let specification = specified(&Request {
            volumes: vec!["/srv/data:/data:ro".to_owned()],
            ..Request::default()
        });
        insta::assert_snapshot!(rendered(&specification), @"
        /proc: proc proc nosuid,noexec,nodev
        /sys: sysfs sysfs nosuid,noexec,nodev
        /sys/fs/cgroup: cgroup cgroup nosuid,noexec,nodev
        /dev: bind /dev bind
        /dev/pts: devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5
        /dev/shm: tmpfs tmpfs nosuid,mode=1777,size=64m,nodev
        /etc/resolv.conf: bind /run/c/text-7 bind,nodev,rnodev,nosuid
        /etc/hostname: bind /run/c/text-8 bind,nodev,rnodev,nosuid
        /etc/hosts: bind /run/c/text-9 bind,nodev,rnodev,nosuid
        /workflow: bind /run/w bind,ro,rro,nodev,rnodev,nosuid
        /data: bind /srv/data rbind,ro,rro
        ");
        assert_eq!(specification["linux"]["maskedPaths"], json!([CMDLINE]));
        assert_eq!(specification["linux"].get("seccomp"), None);
        assert_eq!(specification["process"]["noNewPrivileges"], json!(false));
        assert_eq!(
            specification["linux"]["resources"],
            json!({"devices": [{"allow": true, "access": "rwm"}]})
        );
        assert_eq!(specification["linux"]["cgroupsPath"], json!("/farrier/c"));
    }

    #[test]
    fn a_network_that_was_made_is_joined() {
        let plan = Plan {
            network: Network::Given,
            network_namespace: Some(PathBuf::from("/proc/7/fd/9")),
            ..planned(&Request::default())
        };
        let network = namespaces(&plan).pop();
        assert_eq!(network, Some(json!({"type": "network", "path": "/proc/7/fd/9"})));
    }

    #[test]
    fn a_confined_action_has_a_filter_few_capabilities_and_masks() {
        let specification = specified(&Request {
            confined: true,
            network: Network::None,
            ..Request::default()
        });
        insta::assert_snapshot!(rendered(&specification), @"
        /proc: proc proc nosuid,noexec,nodev
        /sys: sysfs sysfs nosuid,noexec,ro,nodev
        /sys/fs/cgroup: cgroup cgroup nosuid,noexec,ro,nodev
        /dev: tmpfs tmpfs nosuid,mode=0755,size=64k,nr_inodes=64
        /dev/mqueue: mqueue mqueue nosuid,noexec,nodev
        /dev/pts: devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5
        /dev/shm: tmpfs tmpfs nosuid,mode=1777,size=64m,nodev
        /etc/resolv.conf: bind /run/c/text-19 bind,nodev,rnodev,nosuid
        /etc/hostname: bind /run/c/text-20 bind,nodev,rnodev,nosuid
        /etc/hosts: bind /run/c/text-21 bind,nodev,rnodev,nosuid
        /workflow: bind /run/w bind,ro,rro,nodev,rnodev,nosuid
        ");
        let process = &specification["process"];
        assert_eq!(process["noNewPrivileges"], json!(true));
        // Not root: what it may get is bounded, what it has is nothing.
        assert_eq!(process["capabilities"]["effective"], json!([]));
        assert_eq!(
            process["capabilities"]["bounding"].as_array().map(Vec::len),
            Some(14)
        );
        assert_eq!(
            process["user"],
            json!({"uid": 33, "gid": 34, "additionalGids": [4], "umask": 18})
        );
        assert!(
            process["env"]
                .as_array()
                .expect("env")
                .contains(&json!("HOME=/srv"))
        );
        let linux = &specification["linux"];
        let kinds: Vec<&str> = linux["namespaces"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["type"].as_str())
            .collect();
        assert_eq!(kinds, ["ipc", "mount", "uts", "pid", "network", "cgroup"]);
        assert_eq!(
            linux["resources"],
            json!({"devices": [{"allow": false, "access": "rwm"}]})
        );
        let calls = linux["seccomp"]["syscalls"].as_array().expect("calls");
        let named = |name: &str| {
            calls
                .iter()
                .filter(|call| {
                    call["names"]
                        .as_array()
                        .is_some_and(|names| names.contains(&json!(name)))
                })
                .count()
        };
        // Mount is in no line; clone, socket and personality in lines with conditions only.
        let counted = ["mount", "read", "clone", "socket", "personality", "clone3"].map(named);
        assert_eq!(counted, [0, 1, 1, 1, 5, 1]);
    }

    #[test]
    fn texts_are_files_but_the_kernels_command_line() {
        let plan = planned(&Request::default());
        let texts = texts(&plan, Path::new("/run/c"));
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts.iter().any(|(_, text)| *text == "nameserver 10.0.0.1\n"));
        assert!(!texts.iter().any(|(_, text)| text.contains("quiet")));
    }
}
