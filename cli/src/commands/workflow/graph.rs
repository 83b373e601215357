//! A workflow's tasks as a Mermaid flowchart.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::super::Asking;
use super::fetch_once;
use crate::failure::Failure;
use crate::output;
use crate::views::{Task, Workflow};

#[derive(Serialize)]
struct Graph {
    mermaid: String,
}

pub(super) async fn graph(id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let workflow = fetch_once(&mut asking.connect().await?, id).await?;
    let graph = Graph {
        mermaid: mermaid(&workflow),
    };
    output::one(asking.out, asking.output, &graph, |out| {
        write!(out, "{}", graph.mermaid)?;
        Ok(())
    })
}

/// Ids are numbers, so that no name can break the text; names stand in quotes.
fn mermaid(workflow: &Workflow) -> String {
    let numbers: BTreeMap<&str, usize> = workflow
        .tasks
        .iter()
        .enumerate()
        .map(|(number, task)| (task.name.as_str(), number))
        .collect();
    let mut text = String::from("flowchart TD\n");
    for (number, task) in workflow.tasks.iter().enumerate() {
        text.push_str(&format!(
            "  t{number}[\"{}\"]:::{}\n",
            label(task),
            task.state.to_lowercase()
        ));
        for (names, arrow) in [(&task.needs, "-->"), (&task.recovers, "-. recovers .->")] {
            for other in names.iter().filter_map(|name| numbers.get(name.as_str())) {
                let (from, to) = if arrow == "-->" {
                    (*other, number)
                } else {
                    (number, *other)
                };
                text.push_str(&format!("  t{from} {arrow} t{to}\n"));
            }
        }
    }
    for (class, colour) in COLOURS {
        text.push_str(&format!("  classDef {class} fill:{colour}\n"));
    }
    text
}

const COLOURS: [(&str, &str); 9] = [
    ("idle", "#eee"),
    ("waiting", "#ffd"),
    ("delayed", "#ffd"),
    ("running", "#cdf"),
    ("skipped", "#ddd"),
    ("success", "#cfc"),
    ("failed", "#fbb"),
    ("timeout", "#fbb"),
    ("cancelled", "#fdb"),
];

fn label(task: &Task) -> String {
    let mut label = quoted(&task.name);
    if task.items > 1 {
        label.push_str(&format!(" ({} of {})", task.ended, task.items));
    }
    label.push_str(&format!("<br>{}", task.state));
    if let Some(when) = &task.when {
        label.push_str(&format!("<br>when {}", quoted(when)));
    }
    label
}

/// Mermaid's own escapes: its parser knows no backslash.
fn quoted(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '"' => "#quot;".to_owned(),
            '#' => "#35;".to_owned(),
            '<' => "#lt;".to_owned(),
            '>' => "#gt;".to_owned(),
            '\n' => " ".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1;

    #[test]
    fn tasks_are_boxes_and_needs_are_arrows() {
        let task = |name: &str, state: &str, needs: &[&str]| v1::TaskState {
            name: name.into(),
            state: state.into(),
            needs: needs.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let mut clean = task("clean", "IDLE", &["write"]);
        clean.recovers = vec!["write".into()];
        clean.when = "inputs.x > \"a\"".into();
        let workflow = v1::Workflow {
            tasks: vec![
                task("wipe", "SUCCESS", &[]),
                task("write", "FAILED", &["wipe"]),
                clean,
            ],
            ..Default::default()
        };
        let drawn = mermaid(&workflow.into());
        let want = "flowchart TD\n  t0[\"wipe<br>SUCCESS\"]:::success\n  t1[\"write<br>FAILED\"]:::failed\n  t0 --> t1\n  \
                    t2[\"clean<br>IDLE<br>when inputs.x #gt; #quot;a#quot;\"]:::idle\n  t1 --> t2\n  t2 -. recovers .-> t1\n";
        assert!(drawn.starts_with(want), "{drawn}");
    }
}
