//! `farrier machine edit`: the record in an editor, applied if nobody else has changed it meanwhile.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

use coordinator::machines::{File, names_in};
use proto::v1::{ApplyMachinesRequest, GetMachineRequest, MachineFile};
use tonic::Code;
use uuid::Uuid;

use super::super::{Asking, warn};
use crate::failure::Failure;
use crate::output;
use crate::terminal::{safe, say};
use crate::views;

/// Where none is named in the environment.
const EDITOR: &str = "vi";

pub(super) async fn edit(name_or_mac: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .get_machine(GetMachineRequest { name_or_mac })
        .await;
    let machine = client.answer(answer)?;
    let (name, version, namespace) = (machine.name.clone(), machine.version, machine.namespace.clone());
    let shown = output::given_back(&views::Machine::from(machine).document.value())?;
    let draft = Draft::new(&name)?;
    let mut text = shown.clone();
    let mut wrong: Option<String> = None;
    loop {
        draft.write(&name, &text, wrong.as_deref())?;
        let edited = draft.edited()?;
        let is_as_before = edited == text;
        if edited == shown || edited.is_empty() {
            return unchanged(&name, asking);
        }
        // Who leaves a text as it was refused gives up.
        if let Some(wrong) = wrong.filter(|_| is_as_before) {
            return Err(draft.kept(&format!("machine {name} was not changed:\n{wrong}")));
        }
        text = edited;
        if let Some(why) = other_machine(&text, &name) {
            wrong = Some(why);
            continue;
        }
        let request = ApplyMachinesRequest {
            files: vec![MachineFile {
                yaml: text.clone(),
                source: name.clone(),
            }],
            namespace: namespace.clone(),
            versions: [(name.clone(), version)].into(),
            ..ApplyMachinesRequest::default()
        };
        match client.control.apply_machines(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                warn(&answer.warnings);
                if answer.updated.is_empty() {
                    return unchanged(&name, asking);
                }
                return said(&name, "updated", asking);
            }
            Err(status) if status.code() == Code::InvalidArgument => {
                wrong = Some(client.failure(&status).to_string());
            }
            Err(status) => return Err(draft.kept(&client.failure(&status).to_string())),
        }
    }
}

fn unchanged(name: &str, asking: Asking<'_>) -> Result<(), Failure> {
    said(name, "unchanged", asking)
}

fn said(name: &str, change: &str, asking: Asking<'_>) -> Result<(), Failure> {
    let edited = serde_json::json!({"name": name, "change": change});
    output::one(asking.out, asking.output, &edited, |out| {
        Ok(writeln!(out, "machine {name} {change}")?)
    })
}

/// Why a text is not the record of this one machine. What else is wrong with it the server says.
fn other_machine(text: &str, name: &str) -> Option<String> {
    let file = File {
        text: text.to_owned(),
        ..File::default()
    };
    let names = names_in(&[file]).ok()?;
    if names.iter().any(|other| other == name) && names.len() == 1 {
        return None;
    }
    Some(format!(
        "this is the record of {}, and {name} is edited: a machine keeps its name; `farrier machine apply -f FILE` adds others",
        names.join(", ")
    ))
}

/// The file that is edited: its owner's alone, and gone when it is not needed any more.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(name: &str) -> Result<Self, Failure> {
        // A name from before names had an alphabet may have a slash.
        let name = name.replace('/', "-");
        let path = std::env::temp_dir().join(format!("farrier-{name}-{}.yaml", Uuid::new_v4()));
        let mut options = fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(Self { path })
    }

    fn write(&self, name: &str, text: &str, wrong: Option<&str>) -> Result<(), Failure> {
        let mut all = format!(
            "# The record of machine {name}. Save it and leave the editor: it is applied. Left as it is, or empty: nothing is.\n\
             # *** stands for a credential that stays as it is stored.\n"
        );
        if let Some(wrong) = wrong {
            all.push_str(
                "#\n# It was not applied (lines are counted from the first one that is no comment):\n",
            );
            for line in safe(wrong).lines() {
                all.push_str(&format!("#   {line}\n"));
            }
        }
        all.push_str(text);
        fs::write(&self.path, all)
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", self.path.display())))
    }

    /// What is in it when the editor has ended, without the comments above it.
    fn edited(&self) -> Result<String, Failure> {
        let editor = editor();
        // As git and kubectl run it: the variable may have arguments.
        let status = Command::new("sh")
            .args(["-c", &format!("{editor} \"$1\""), "sh"])
            .arg(&self.path)
            .status();
        let failed = |why: String| {
            Failure::Failed(format!(
                "the editor {editor:?} {why}: nothing was changed; name another in VISUAL or EDITOR"
            ))
        };
        let status = status.map_err(|error| failed(format!("cannot be started: {error}")))?;
        if !status.success() {
            return Err(failed(format!("failed ({status})")));
        }
        let all = fs::read_to_string(&self.path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => failed("left no file".into()),
            _ => Failure::Failed(format!("cannot read {}: {error}", self.path.display())),
        })?;
        Ok(without_comments(&all).to_owned())
    }

    /// A failure after which the text is still there.
    fn kept(&self, why: &str) -> Failure {
        let kept = self.path.with_extension("kept.yaml");
        match fs::rename(&self.path, &kept) {
            Ok(()) => Failure::Failed(format!("{why}\nyour text is in {}", kept.display())),
            Err(error) => {
                say(format_args!("farrier: your text could not be kept: {error}"));
                Failure::Failed(why.to_owned())
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It may have been kept, under another name.
        let _ = fs::remove_file(&self.path);
    }
}

fn editor() -> String {
    let named = |name| {
        std::env::var(name)
            .ok()
            .filter(|editor| !editor.trim().is_empty())
    };
    named("VISUAL")
        .or_else(|| named("EDITOR"))
        .unwrap_or_else(|| EDITOR.to_owned())
}

/// From the first line on that is no comment.
fn without_comments(text: &str) -> &str {
    let mut rest = text;
    while let Some(line) = rest.split_inclusive('\n').next() {
        if !line.trim_start().starts_with('#') && !line.trim().is_empty() {
            break;
        }
        rest = &rest[line.len()..];
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_above_the_record_are_no_part_of_it() {
        assert_eq!(
            without_comments("# a\n\n  # b\nmachine: n # c\n# d\n"),
            "machine: n # c\n# d\n"
        );
        for nothing in ["", "\n", "# a", "# a\n \n"] {
            assert_eq!(without_comments(nothing), "");
        }
    }

    #[test]
    fn one_machine_is_edited_and_keeps_its_name() {
        let record = |name: &str| format!("machine: {name}\nmac: 52:54:00:77:00:0b\n");
        assert_eq!(other_machine(&record("a"), "a"), None);
        // What is wrong otherwise is the server's to say.
        assert_eq!(other_machine("machine: [", "a"), None);
        let said = other_machine(&record("b"), "a").unwrap();
        assert!(
            said.starts_with("this is the record of b, and a is edited"),
            "{said}"
        );
        let two = format!("{}---\nmachine: c\nmac: 52:54:00:77:00:0c\n", record("a"));
        assert!(other_machine(&two, "a").is_some());
    }
}
