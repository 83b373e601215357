//! What a workflow would do to which disk, before there is one: from its definition, its inputs, and what its machines have told of
//! themselves. Pure, and honest: what is not known before it runs is said to be so.

use serde_json::{Map, Value};
use workflow::engine::{is_switched_on, listed};
use workflow::language::{Action, Control, Definition, Task, Writes};

/// Tasks and actions that may write a disk, in the order of the template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskWrite {
    pub task: String,
    /// Empty: the whole task, which runs another template.
    pub action: String,
    /// Its name; empty: it is not known before it runs.
    pub machine: String,
    /// As the template says it, with inputs filled in; empty: it says none.
    pub disk: String,
    /// What is done, and what is lost by it, for people.
    pub effect: String,
    /// On what it depends whether it is done at all, for people; empty: on nothing but what is before it.
    pub provided: String,
    /// The disk that is meant, as its machine told it: an object as in its inventory.
    pub device: Option<Map<String, Value>>,
    /// Of the device, when only that is written.
    pub partition: Option<u64>,
    /// Why it is not known which disk it is, for people; empty: it is known.
    pub unknown: String,
}

/// A machine that a worker names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub name: String,
    /// The disks of its inventory; `None`: it has told of none yet.
    pub disks: Option<Vec<Map<String, Value>>>,
}

/// What it would write. `machine` knows machines by their workers, as the definition has them.
pub fn disk_writes(
    definition: &Definition,
    inputs: &Map<String, Value>,
    machine: impl Fn(&str) -> Option<Told>,
) -> Vec<DiskWrite> {
    let mut writes = Vec::new();
    for task in &definition.tasks {
        if let Some(Control::Workflow { template, .. }) = &task.control {
            writes.push(DiskWrite {
                task: task.name.clone(),
                effect: format!("template {template:?} is run as a workflow of its own"),
                provided: provided(task),
                unknown: "what that does is not looked at: ask for it with that template".to_owned(),
                ..DiskWrite::default()
            });
            continue;
        }
        let worker = filled(&task.worker, inputs);
        let told = Some(&worker).filter(|worker| !is_open(worker));
        let told = told.and_then(|worker| machine(worker));
        for action in &task.actions {
            let Some((said, effect)) = effect(task, action, inputs) else {
                continue;
            };
            let is_list = action.native().is_some_and(|native| native.lists_disks());
            let disks = match is_list {
                true => listed(&said),
                false => vec![said],
            };
            for disk in disks {
                let found = found(&disk, told.as_ref());
                let (device, partition, unknown) = match found {
                    Ok((device, partition)) => (Some(device), partition, String::new()),
                    Err(why) => (None, None, why),
                };
                writes.push(DiskWrite {
                    task: task.name.clone(),
                    action: action.name.clone(),
                    machine: told.as_ref().map(|told| told.name.clone()).unwrap_or_default(),
                    disk,
                    effect: effect.clone(),
                    provided: provided(task),
                    device,
                    partition,
                    unknown,
                });
            }
        }
    }
    writes
}

/// The disk that an action names, and what it does there; `None`: it writes none.
fn effect(task: &Task, action: &Action, inputs: &Map<String, Value>) -> Option<(String, String)> {
    let variable = |name: &str| {
        let value = action.variable(&task.environment, name);
        value
            .map(|value| filled(&value, inputs))
            .filter(|value| !value.is_empty())
    };
    let Some(native) = action.native() else {
        let said = variable("DEST_DISK").unwrap_or_default();
        let image = filled(&action.image, inputs);
        let effect = format!("image {image} runs as a container: what it writes is not known");
        return Some((said, effect));
    };
    let is_on = |name: &str| variable(name).is_some_and(|value| is_switched_on(&value));
    let from = |name: &str| {
        variable(name)
            .map(|url| format!(" with {url}"))
            .unwrap_or_default()
    };
    let only_empty = match is_on("ONLY_EMPTY") {
        true => "; it is refused when something is there",
        false => "",
    };
    let effect = match native.writes {
        Writes::Nothing => None,
        Writes::Anything { switch } => match variable(switch) {
            Some(value) if is_open(&value) => Some((
                String::new(),
                format!(
                    "a command may write whatever it likes, if {switch} is on: {value} is known when it begins"
                ),
            )),
            Some(value) if is_switched_on(&value) => Some((
                String::new(),
                "a command may write whatever it likes: what is not known".to_owned(),
            )),
            _ => None,
        },
        Writes::WholeDisk { disk } => {
            let effect = match native.name {
                "partition" => format!(
                    "the disk is given another partition table, unless it has that one already: what was on it is lost then{only_empty}"
                ),
                "wipe" => "the disk is erased: all that is on it is lost".to_owned(),
                _ => format!(
                    "the disk is overwritten{}: all that is on it is lost",
                    from("IMG_URL")
                ),
            };
            Some((variable(disk)?, effect))
        }
        Writes::Files { disk } => {
            let effect = match native.name {
                "mkfs" => format!(
                    "a filesystem {} is made, unless this action has made it there before: what was there is lost then{only_empty}",
                    variable("FS_TYPE").unwrap_or_default()
                ),
                "archive2disk" => format!(
                    "files are unpacked into the filesystem{}; others stay",
                    from("ARCHIVE_URL")
                ),
                "download" | "writefile" => format!(
                    "the file {} is written into the filesystem; others stay",
                    variable("DEST_PATH").unwrap_or_default()
                ),
                "growpart" => {
                    "the partition grows into the room behind it, and its filesystem with it: nothing is lost"
                        .to_owned()
                }
                "luks" => format!(
                    "it is encrypted, unless the key opens what is there: what was there is lost then{only_empty}"
                ),
                "lvm" => format!(
                    "it becomes a part of the volume group {}, unless it is one already: what was there is lost then{only_empty}",
                    variable("NAME").unwrap_or_default()
                ),
                "raid" => format!(
                    "it becomes a member of an array of level {}, unless it is one already: what was there is lost then{only_empty}",
                    variable("LEVEL").unwrap_or_default()
                ),
                "seed" => match variable("FORM").as_deref() {
                    Some("iso9660") => format!(
                        "it becomes a seed for the first boot, unless it is that seed already: what was there is lost then{only_empty}"
                    ),
                    _ => "a seed for the first boot is written into the filesystem; other files stay"
                        .to_owned(),
                },
                _ => "a command runs in the filesystem: which files it writes is not known".to_owned(),
            };
            Some((variable(disk)?, effect))
        }
    };
    effect.map(|(disk, what)| match is_on("STOP_USERS") {
        true => (disk, format!("{what}; what uses it is stopped first")),
        false => (disk, what),
    })
}

/// On what it depends whether a task is done, and how often.
fn provided(task: &Task) -> String {
    let mut all = Vec::new();
    if let Some(when) = &task.when {
        all.push(format!("when {when}"));
    }
    if let Some(each) = &task.for_each {
        all.push(format!("for each of {}", each.list));
    }
    if task.approve.is_some() {
        all.push("after somebody approves".to_owned());
    }
    all.join(", ")
}

/// The device that a machine has told of, and the number of a partition of it, or why it cannot be known.
fn found(disk: &str, told: Option<&Told>) -> Result<(Map<String, Value>, Option<u64>), String> {
    if disk.is_empty() {
        return Err("it names no disk: it may be any".to_owned());
    }
    if is_open(disk) {
        return Err(format!("{disk} is known when its task begins"));
    }
    let Some(told) = told else {
        return Err("which machine it is, is known when it runs".to_owned());
    };
    let Some(disks) = &told.disks else {
        return Err(format!(
            "no agent of machine {} has told of its disks yet",
            told.name
        ));
    };
    let is_path =
        disk.starts_with("/dev/") && !disk.starts_with("/dev/disk/") && !disk.starts_with("/dev/mapper/");
    let field = disk
        .split_once('=')
        .filter(|(field, value)| ["serial", "wwn"].contains(field) && !value.contains(',') && !is_path);
    if !is_path && field.is_none() {
        return Err(format!(
            "{disk} is looked for when it runs, among the disks that are there then: machine {} has told of {}",
            told.name,
            names(disks)
        ));
    }
    let is_meant = |device: &Map<String, Value>| match field {
        None => named(device, disk),
        Some((field, value)) => {
            let known = device.get(field).and_then(Value::as_str).unwrap_or_default();
            (!known.is_empty() && known.eq_ignore_ascii_case(value.trim())).then_some(None)
        }
    };
    let mut found = disks
        .iter()
        .filter_map(|device| Some((device, is_meant(device)?)));
    match (found.next(), found.next()) {
        (Some((device, partition)), None) => Ok((device.clone(), partition)),
        (None, _) => Err(format!(
            "machine {} has told of no disk {disk}, but of {}: it fails, if that is so when it runs",
            told.name,
            names(disks)
        )),
        (Some(_), Some(_)) => Err(format!("machine {} has several disks {disk}", told.name)),
    }
}

/// Whether a path names a device, or a partition of it.
fn named(device: &Map<String, Value>, path: &str) -> Option<Option<u64>> {
    let name = device.get("name").and_then(Value::as_str).unwrap_or_default();
    let others = device.get("other_names").and_then(Value::as_array);
    let others = others.into_iter().flatten().filter_map(Value::as_str);
    others
        .chain([name])
        .filter(|name| !name.is_empty())
        .find_map(|name| {
            let rest = path.strip_prefix(name)?;
            if rest.is_empty() {
                return Some(None);
            }
            // `/dev/sda1`, `/dev/nvme0n1p1`: a `p` where the name ends in a digit.
            let number = match name.ends_with(|letter: char| letter.is_ascii_digit()) {
                true => rest.strip_prefix('p')?,
                false => rest,
            };
            let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse().ok().filter(|_| is_plain).map(Some)
        })
}

fn names(disks: &[Map<String, Value>]) -> String {
    const MOST: usize = 8;
    let names: Vec<&str> = disks
        .iter()
        .filter_map(|device| device.get("name").and_then(Value::as_str))
        .collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > MOST => format!("{} and {} more", names[..MOST].join(", "), count - MOST),
        _ => names.join(", "),
    }
}

/// Whether something in it is filled in only when it runs.
fn is_open(text: &str) -> bool {
    text.contains("${{")
}

/// With inputs for `${{ inputs.NAME }}`; other expressions stay.
pub fn filled(text: &str, inputs: &Map<String, Value>) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("${{") {
        let Some((expression, after)) = from.split_once("}}") else {
            break;
        };
        done.push_str(before);
        let input = expression
            .trim()
            .strip_prefix("inputs.")
            .and_then(|name| inputs.get(name));
        match input {
            Some(Value::String(value)) => done.push_str(value),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => done.push_str(&value.to_string()),
            _ => done.push_str(&format!("${{{{{expression}}}}}")),
        }
        rest = after;
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use workflow::language::render;

    use super::*;

    fn definition(tasks: &str) -> Definition {
        let text = format!(
            "version: '1'\nname: w\ninputs: {{disk: {{type: string, default: /dev/sda}}}}\ntasks:\n{tasks}"
        );
        render(&text, &Default::default())
            .expect("a good template")
            .definition
    }

    fn told(worker: &str) -> Option<Told> {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let disks = vec![
            object(json!({"name": "/dev/sda", "serial": "S1", "other_names": ["/dev/sdc"]})),
            object(json!({"name": "/dev/nvme0n1", "serial": "S2"})),
        ];
        match worker {
            "52:54:00:77:00:0b" => Some(Told {
                name: "node1".into(),
                disks: Some(disks),
            }),
            "52:54:00:77:00:0c" => Some(Told {
                name: "node2".into(),
                disks: None,
            }),
            _ => None,
        }
    }

    /// Of one action on `node1`: the device, the partition, and what is said.
    fn of(action: &str) -> Option<(Option<String>, Option<u64>, DiskWrite)> {
        let tasks = format!("- {{name: t, worker: '52:54:00:77:00:0b', actions: [{action}]}}\n");
        let inputs = json!({"disk": "/dev/nvme0n1"})
            .as_object()
            .cloned()
            .unwrap_or_default();
        let mut writes = disk_writes(&definition(&tasks), &inputs, told);
        let write = writes.pop()?;
        let device = write
            .device
            .as_ref()
            .map(|device| device["name"].as_str().unwrap_or_default().to_owned());
        Some((device, write.partition, write))
    }

    #[test]
    fn a_disk_is_found_by_its_names_its_partitions_and_its_serial_number() {
        let image = |disk: &str| {
            of(&format!(
                "{{name: a, image: image2disk, environment: {{IMG_URL: 'http://h/i', DEST_DISK: '{disk}'}}}}"
            ))
            .map(|(device, partition, _)| (device.unwrap_or_default(), partition))
        };
        let is = |name: &str, partition| Some((name.to_owned(), partition));
        for (disk, want) in [
            ("/dev/sda", is("/dev/sda", None)),
            ("/dev/sdc", is("/dev/sda", None)),
            ("/dev/sda2", is("/dev/sda", Some(2))),
            ("/dev/nvme0n1", is("/dev/nvme0n1", None)),
            ("/dev/nvme0n1p12", is("/dev/nvme0n1", Some(12))),
            ("serial=s2", is("/dev/nvme0n1", None)),
            ("${{ inputs.disk }}", is("/dev/nvme0n1", None)),
            // None of these is one that is known.
            ("/dev/sdaa", is("", None)),
            ("/dev/nvme0n12", is("", None)),
            ("/dev/sda+1", is("", None)),
            ("serial=s", is("", None)),
            ("pick=smallest", is("", None)),
        ] {
            assert_eq!(image(disk), want, "{disk}");
        }
    }

    #[test]
    fn what_is_lost_is_said_and_what_is_not_known() {
        let said = |action: &str| {
            of(action)
                .map(|(_, _, write)| (write.effect, write.unknown))
                .unwrap_or_default()
        };
        let (effect, unknown) =
            said("{name: a, image: image2disk, input: {img_url: 'http://h/i', dest_disk: /dev/sda}}");
        assert_eq!(
            (effect.as_str(), unknown.as_str()),
            (
                "the disk is overwritten with http://h/i: all that is on it is lost",
                ""
            )
        );
        let (_, unknown) = said("{name: a, image: wipe, input: {dest_disk: /dev/vda}}");
        assert_eq!(
            unknown,
            "machine node1 has told of no disk /dev/vda, but of /dev/sda, /dev/nvme0n1: it fails, if that is so when it runs"
        );
        let (_, unknown) = said("{name: a, image: wipe, input: {dest_disk: 'transport=nvme,pick=smallest'}}");
        assert!(
            unknown.contains("is looked for when it runs, among the disks that are there then"),
            "{unknown}"
        );
        let (_, unknown) = said("{name: a, image: wipe, input: {dest_disk: '/dev/${{ workflow.name }}'}}");
        assert_eq!(unknown, "/dev/${{ workflow.name }} is known when its task begins");
        let (effect, unknown) = said("{name: a, image: alpine, runtime: namespaces}");
        assert!(effect.ends_with("what it writes is not known"), "{effect}");
        assert_eq!(unknown, "it names no disk: it may be any");
        let (effect, _) = said("{name: a, image: exec, input: {cmd_line: x, write: true}}");
        assert!(
            effect.starts_with("a command may write whatever it likes"),
            "{effect}"
        );
        let (_, _, write) =
            of("{name: a, image: wipe, input: {dest_disk: /dev/sda, stop_users: true}}").unwrap();
        assert_eq!(
            write.effect,
            "the disk is erased: all that is on it is lost; what uses it is stopped first"
        );
        for nothing in [
            "{name: a, image: reboot}",
            "{name: a, image: exec, input: {cmd_line: lsblk}}",
        ] {
            assert!(of(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn each_built_in_action_says_what_it_does_to_each_of_its_disks() {
        for native in workflow::language::NATIVE {
            let (Writes::Files { disk } | Writes::WholeDisk { disk }) = native.writes else {
                continue;
            };
            let (value, count) = match native.lists_disks() {
                true => (r#"'["/dev/sda1", "/dev/nvme0n1p1"]'"#, 2),
                false => ("/dev/sda1", 1),
            };
            let needs = r#"FS_TYPE: ext4, LEVEL: '1', NAME: x, PASSPHRASE: p, PARTITIONS: '[{"size": "rest", "type": "linux"}]'"#;
            let tasks = format!(
                "- {{name: t, worker: '52:54:00:77:00:0b', actions: [{{name: a, image: {}, environment: {{{disk}: {value}, {needs}}}}}]}}\n",
                native.name
            );
            let writes = disk_writes(&definition(&tasks), &Map::new(), told);
            assert_eq!(writes.len(), count, "{}: {writes:?}", native.name);
            let devices: Vec<&Value> = writes
                .iter()
                .filter_map(|write| write.device.as_ref()?.get("name"))
                .collect();
            assert_eq!(devices.len(), count, "{}: {writes:?}", native.name);
            let is_command = writes[0].effect.starts_with("a command");
            assert_eq!(is_command, native.name == "cexec", "{}: {writes:?}", native.name);
        }
    }

    #[test]
    fn a_machine_that_has_told_nothing_a_condition_and_another_template_are_said() {
        let tasks = "- {name: t, worker: '52:54:00:77:00:0c', when: 'inputs.disk != \"\"', actions: [{name: a, image: wipe, input: \
                     {dest_disk: /dev/sda}}]}\n- {name: sub, workflow: debian}\n";
        let writes = disk_writes(&definition(tasks), &Map::new(), told);
        assert_eq!(writes.len(), 2, "{writes:?}");
        assert_eq!(writes[0].machine, "node2");
        assert_eq!(
            writes[0].unknown,
            "no agent of machine node2 has told of its disks yet"
        );
        assert!(writes[0].provided.starts_with("when "), "{}", writes[0].provided);
        assert!(writes[1].effect.contains("\"debian\""), "{writes:?}");
        assert!(!writes[1].unknown.is_empty());
    }
}
