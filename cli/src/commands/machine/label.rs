//! `farrier machine label`: labels are a part of the record, which is read, changed and applied as the version that was read.

use std::collections::BTreeMap;
use std::io::Write;

use proto::v1::{self, ApplyMachinesRequest, GetMachineRequest, ListMachinesRequest, MachineFile};
use serde::Serialize;
use serde_json::{Map, Value};
use tonic::Code;
use workflow::labels::{check_one, in_one_line};

use super::super::{Asking, labels, last_of};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::terminal::Out;
use crate::views::{RECORD, dash};

/// Times that a record is read anew, because somebody else has changed it.
const TRIES: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct LabelArgs {
    /// The machines (name, MAC or address), then what changes: KEY=VALUE sets a label, KEY- takes it away
    #[arg(required = true, value_name = "MACHINE|KEY=VALUE|KEY-")]
    words: Vec<String>,
    /// Instead of names: the machines with these labels, as in `farrier machine list -l`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

/// What is to be of labels.
#[derive(Debug, PartialEq)]
struct Changes {
    set: BTreeMap<String, String>,
    gone: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Labelled {
    name: String,
    namespace: String,
    /// `updated` or `unchanged`.
    change: &'static str,
    labels: BTreeMap<String, String>,
}

pub(super) async fn label(args: LabelArgs, asking: Asking<'_>) -> Result<(), Failure> {
    let (mut machines, changes) = told_apart(args.words)?;
    match (&args.selector, machines.is_empty()) {
        (Some(_), false) => {
            return Err(Failure::Usage(
                "-l stands for the names of machines: give one of both".into(),
            ));
        }
        (None, true) => {
            return Err(Failure::Usage(
                "no machine is named: write its name before the labels, or -l SELECTOR".into(),
            ));
        }
        _ => {}
    }
    let mut client = asking.connect().await?;
    if let Some(selector) = &args.selector {
        machines = selected(&mut client, selector, &asking).await?;
    }
    let is_one = machines.len() == 1 && args.selector.is_none();
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for machine in machines {
        match label_one(&mut client, machine, &changes).await {
            Ok(labelled) => done.push(labelled),
            Err(failure) => failed.push(failure),
        }
    }
    match (done.as_slice(), asking.output.is_text()) {
        ([labelled], _) if is_one => {
            output::one(asking.out, asking.output, labelled, |out| said(labelled, out))?;
        }
        (done, true) => done.iter().try_for_each(|labelled| said(labelled, asking.out))?,
        (done, false) => output::values(asking.out, asking.output, done)?,
    }
    last_of(failed)
}

fn said(labelled: &Labelled, out: &mut Out) -> Result<(), Failure> {
    let labels = dash(&in_one_line(&labelled.labels));
    let is = match labelled.change {
        "unchanged" => "is unchanged: it has",
        _ => "has",
    };
    Ok(writeln!(
        out,
        "machine {} {is} the labels {labels}",
        labelled.name
    )?)
}

/// Machines come first: the first word that says a change ends them.
fn told_apart(words: Vec<String>) -> Result<(Vec<String>, Changes), Failure> {
    let is_gone = |word: &String| !word.contains('=') && word.ends_with('-');
    let is_change = |word: &String| word.contains('=') || is_gone(word);
    let at = words.iter().position(is_change).unwrap_or(words.len());
    let mut machines = words;
    let changes = machines.split_off(at);
    if let Some(late) = changes.iter().find(|word| !is_change(word)) {
        return Err(Failure::Usage(format!(
            "{late:?} is no label: expected KEY=VALUE, such as rack=r7, or KEY-; names of machines stand before labels"
        )));
    }
    if changes.is_empty() {
        return Err(Failure::Usage(
            "no label is named: write KEY=VALUE, such as rack=r7, or KEY- to take it away".into(),
        ));
    }
    let (gone, set): (Vec<String>, Vec<String>) = changes.into_iter().partition(is_gone);
    let set = labels(&set)?;
    for (key, value) in &set {
        check_one(key, value).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    let gone: Vec<String> = gone.iter().map(|key| key[..key.len() - 1].to_owned()).collect();
    if let Some(both) = gone.iter().find(|key| set.contains_key(*key)) {
        return Err(Failure::Usage(format!(
            "the label {both:?} is set and taken away: say one of both"
        )));
    }
    Ok((machines, Changes { set, gone }))
}

/// The names of those that a selector means now; at least one.
async fn selected(client: &mut Client, selector: &str, asking: &Asking<'_>) -> Result<Vec<String>, Failure> {
    let request = ListMachinesRequest {
        selector: selector.to_owned(),
        namespace: asking.namespace.clone(),
        ..ListMachinesRequest::default()
    };
    let answer = client.control.list_machines(request).await;
    let machines = client.answer(answer)?.machines;
    if machines.is_empty() {
        return Err(Failure::NotFound(format!(
            "-l {selector:?} means no machine: see `farrier machine list --show-labels`"
        )));
    }
    Ok(machines.into_iter().map(|machine| machine.name).collect())
}

async fn label_one(client: &mut Client, name_or_mac: String, changes: &Changes) -> Result<Labelled, Failure> {
    let mut tries = TRIES;
    loop {
        let request = GetMachineRequest {
            name_or_mac: name_or_mac.clone(),
        };
        let answer = client.control.get_machine(request).await;
        let machine = client.answer(answer)?;
        let mut labelled = Labelled {
            name: machine.name.clone(),
            namespace: machine.namespace.clone(),
            change: "unchanged",
            labels: machine.labels.clone().into_iter().collect(),
        };
        for key in &changes.gone {
            labelled.labels.remove(key);
        }
        labelled.labels.extend(changes.set.clone());
        if labelled.labels.len() == machine.labels.len()
            && labelled
                .labels
                .iter()
                .all(|(key, value)| machine.labels.get(key) == Some(value))
        {
            return Ok(labelled);
        }
        labelled.change = "updated";
        let answer = client
            .control
            .apply_machines(request_of(&machine, changes)?)
            .await;
        match answer {
            Ok(_) => return Ok(labelled),
            // Somebody else was faster: what they did stays.
            Err(status) if status.code() == Code::Aborted && tries > 1 => tries -= 1,
            Err(status) => return Err(client.failure(&status)),
        }
    }
}

/// Its record with the labels changed, to be applied if it is still the one that was read.
fn request_of(machine: &v1::Machine, changes: &Changes) -> Result<ApplyMachinesRequest, Failure> {
    let unread = |why: &str| Failure::Failed(format!("the record of machine {} {why}", machine.name));
    let mut document =
        yaml::value(&machine.spec_yaml, RECORD).map_err(|_| unread("cannot be read: apply it anew"))?;
    change(&mut document, changes)
        .ok_or_else(|| unread("has no map of labels: edit it with `farrier machine edit`"))?;
    Ok(ApplyMachinesRequest {
        files: vec![MachineFile {
            // JSON is YAML (1.2, section 1.3).
            yaml: document.to_string(),
            source: format!("machine {}", machine.name),
        }],
        namespace: machine.namespace.clone(),
        versions: [(machine.name.clone(), machine.version)].into(),
        ..ApplyMachinesRequest::default()
    })
}

/// `None`: where labels stand there is something else.
fn change(document: &mut Value, changes: &Changes) -> Option<()> {
    let is_hardware = document.get("kind").is_some();
    let holder = match is_hardware {
        true => document.get_mut("metadata")?,
        false => document,
    };
    let holder = holder.as_object_mut()?;
    let labels = holder
        .entry("labels")
        .or_insert_with(|| Value::Object(Map::new()));
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    let labels = labels.as_object_mut()?;
    for key in &changes.gone {
        labels.shift_remove(key);
    }
    for (key, value) in &changes.set {
        labels.insert(key.clone(), value.clone().into());
    }
    if labels.is_empty() {
        holder.shift_remove("labels");
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn machines_stand_before_labels() {
        let (machines, changes) = told_apart(words("node1 10.0.0.2 rack=r7 old- note=")).unwrap();
        assert_eq!(machines, ["node1", "10.0.0.2"]);
        assert_eq!(changes.gone, ["old"]);
        let set: Vec<(&str, &str)> = changes
            .set
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(set, [("note", ""), ("rack", "r7")]);
        for (given, said) in [
            ("node1", "no label is named"),
            ("node1 rack=r7 node2", "\"node2\" is no label"),
            ("node1 rack=r7 rack-", "set and taken away"),
            ("node1 a!b=c", "bad key of a label \"a!b\""),
        ] {
            let refused = told_apart(words(given)).unwrap_err().to_string();
            assert!(refused.contains(said), "{given}: {refused}");
        }
    }

    #[test]
    fn labels_stand_where_the_form_of_the_record_has_them() {
        let (_, changes) = told_apart(words("n rack=r7 old-")).unwrap();
        for (before, after) in [
            (r#"{"machine":"n"}"#, r#"{"machine":"n","labels":{"rack":"r7"}}"#),
            (
                r#"{"kind":"Hardware","metadata":{"name":"n","labels":{"old":1,"x":"y"}}}"#,
                r#"{"kind":"Hardware","metadata":{"name":"n","labels":{"x":"y","rack":"r7"}}}"#,
            ),
        ] {
            let mut document: Value = serde_json::from_str(before).unwrap();
            change(&mut document, &changes).unwrap();
            assert_eq!(document.to_string(), after);
        }
        let (_, gone) = told_apart(words("n rack-")).unwrap();
        let mut document = serde_json::json!({"machine": "n", "labels": {"rack": "r7"}});
        change(&mut document, &gone).unwrap();
        assert_eq!(document, serde_json::json!({"machine": "n"}));
        assert_eq!(change(&mut serde_json::json!({"labels": ["a"]}), &gone), None);
    }
}
