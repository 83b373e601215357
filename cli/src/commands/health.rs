//! `farrier health`: what somebody looks at first in the morning.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;
use proto::v1::{GetServerRequest, ListMachinesRequest, ListWorkflowsRequest};
use serde::Serialize;

use super::Asking;
use crate::failure::Failure;
use crate::output;
use crate::views;
use crate::views::progress::{bytes, span};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HealthArgs {}

const EXAMPLES: &str = "\
Examples:
  farrier health
  farrier health -o json | jq .problems

Exit code 1 says that something needs somebody: it is in the last lines. What waits for an approval is no problem.";

/// Less is the time that the answer took.
const CLOCK_STEP_S: i64 = 2;
/// Names that are told.
const TOLD: usize = 10;
/// A filesystem with less than both of these is nearly full.
const LEAST_FREE_BYTES: u64 = 2 << 30;
const LEAST_FREE_PERCENT: u64 = 5;

#[derive(Serialize)]
struct Health {
    server: Server,
    folders: Vec<Folder>,
    machines: BTreeMap<String, u64>,
    /// That have not ended, by their states.
    workflows: BTreeMap<String, u64>,
    /// Workflows that wait for an approval of whoever asks.
    waiting: Vec<String>,
    /// Machines with something to run that are not heard.
    silent: Vec<String>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Server {
    address: String,
    version: String,
    started_at: Option<String>,
    up_s: u64,
    /// Its clock, less that of this host.
    clock_ahead_s: i64,
}

#[derive(Serialize)]
struct Folder {
    name: String,
    path: String,
    holds: String,
    free_bytes: u64,
    total_bytes: u64,
}

pub(crate) async fn run(asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let health = look(&asking).await?;
    output::one(asking.out, asking.output, &health, |out| {
        for (what, line) in lines(&health) {
            output::field(out, 12, what, &line)?;
        }
        Ok(())
    })?;
    Ok(match health.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn look(asking: &Asking<'_>) -> Result<Health, Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.get_server(GetServerRequest {}).await;
    let here = Timestamp::now();
    let told = client.answer(answer)?;
    let seconds = |at: &Option<prost_types::Timestamp>| at.as_ref().map_or(0, |at| at.seconds);
    let (now, started) = (seconds(&told.now), seconds(&told.started_at));
    let mut problems = Vec::new();
    if !told.unready.is_empty() {
        problems.push(format!("the server cannot do what it is asked: {}", told.unready));
    }
    let server = Server {
        address: client.server.clone(),
        version: told.version,
        started_at: views::time(told.started_at),
        up_s: u64::try_from(now - started).unwrap_or(0),
        clock_ahead_s: now - here.as_second(),
    };
    problems.extend(clock_problem(server.clock_ahead_s));
    for folder in &told.folders {
        problems.extend(folder_problems(folder));
    }
    let machines = ListMachinesRequest {
        namespace: asking.namespace.clone(),
        all_namespaces: asking.namespace.is_empty(),
        ..ListMachinesRequest::default()
    };
    let answer = client.control.list_machines(machines).await;
    let machines = client.answer(answer)?.machines;
    let machines: Vec<views::Machine> = machines.into_iter().map(views::Machine::from).collect();
    let mut silent: Vec<String> = machines
        .iter()
        .filter(|one| one.silent)
        .map(|one| one.name.clone())
        .collect();
    silent.sort();
    problems.extend(silent_problem(&silent));
    let unfinished = ListWorkflowsRequest {
        namespace: asking.namespace.clone(),
        all_namespaces: asking.namespace.is_empty(),
        unfinished: true,
        newest_first: true,
        ..ListWorkflowsRequest::default()
    };
    let waiting = ListWorkflowsRequest {
        waiting: true,
        ..unfinished.clone()
    };
    let answer = client.control.list_workflows(unfinished).await;
    let workflows = client.answer(answer)?.workflows;
    let answer = client.control.list_workflows(waiting).await;
    let waiting = client.answer(answer)?.workflows;
    Ok(Health {
        server,
        folders: told.folders.into_iter().map(Folder::from).collect(),
        machines: tally(machines.iter().map(|machine| presence(machine).to_owned())),
        workflows: tally(workflows.into_iter().map(|workflow| workflow.state)),
        waiting: waiting.into_iter().map(|workflow| workflow.id).collect(),
        silent,
        problems,
    })
}

impl From<proto::v1::ServerFolder> for Folder {
    fn from(folder: proto::v1::ServerFolder) -> Self {
        Self {
            name: folder.name,
            path: folder.path,
            holds: folder.holds,
            free_bytes: folder.free_bytes,
            total_bytes: folder.total_bytes,
        }
    }
}

fn silent_problem(silent: &[String]) -> Option<String> {
    (!silent.is_empty()).then(|| {
        format!(
            "{} with something to run {} not heard: {}; see `farrier machine get` and `farrier machine boot-log`",
            counted(silent.len(), "machine"),
            if silent.len() == 1 { "is" } else { "are" },
            some(silent)
        )
    })
}

fn clock_problem(ahead_s: i64) -> Option<String> {
    (ahead_s.abs() > CLOCK_STEP_S).then(|| {
        let by = span(ahead_s.unsigned_abs());
        let side = if ahead_s > 0 { "ahead of" } else { "behind" };
        format!("the server's clock is {by} {side} this host's: one of them is wrong; times of waits and of certificates go by it")
    })
}

fn folder_problems(folder: &proto::v1::ServerFolder) -> Vec<String> {
    let mut problems = Vec::new();
    let at = format!("{} folder {}", folder.name, folder.path);
    if !folder.problem.is_empty() {
        problems.push(format!("{at}: {}", folder.problem));
    }
    let percent = percent(folder.free_bytes, folder.total_bytes);
    if folder.total_bytes > 0 && folder.free_bytes < LEAST_FREE_BYTES && percent < LEAST_FREE_PERCENT {
        problems.push(format!(
            "{at}: {} are free ({percent} %): make room, or nothing can be written soon",
            bytes(folder.free_bytes)
        ));
    }
    problems
}

fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(100)
}

fn tally(states: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut tally = BTreeMap::new();
    for state in states {
        *tally.entry(state).or_default() += 1;
    }
    tally
}

fn presence(machine: &views::Machine) -> &'static str {
    match machine.agent() {
        "-" => "away",
        agent => agent,
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn some(names: &[String]) -> String {
    let told = names.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// `12: 8 attached, 4 off`
fn of(tally: &BTreeMap<String, u64>) -> String {
    let all: u64 = tally.values().sum();
    let parts: Vec<String> = tally
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    match all {
        0 => "none".to_owned(),
        all => format!("{all}: {}", parts.join(", ")),
    }
}

fn lines(health: &Health) -> Vec<(&'static str, String)> {
    let server = &health.server;
    let up = span(server.up_s);
    let mut lines = vec![(
        "Server",
        format!("farrier {} at {}, up {up}", server.version, server.address),
    )];
    lines.push((
        "Clock",
        match clock_problem(server.clock_ahead_s) {
            None => "as this host's".to_owned(),
            Some(_) => format!("{} s from this host's", server.clock_ahead_s),
        },
    ));
    for folder in &health.folders {
        let what = if folder.name == "data" { "Data" } else { "Boot" };
        let mut says = Vec::new();
        if !folder.holds.is_empty() {
            says.push(folder.holds.clone());
        }
        if folder.total_bytes > 0 {
            says.push(format!(
                "{} of {} free ({} %)",
                bytes(folder.free_bytes),
                bytes(folder.total_bytes),
                percent(folder.free_bytes, folder.total_bytes)
            ));
        }
        if says.is_empty() {
            says.push("not there, or not to be read".to_owned());
        }
        lines.push((what, format!("{}: {}", folder.path, says.join(", "))));
    }
    lines.push(("Machines", of(&health.machines)));
    lines.push(("Workflows", of(&health.workflows)));
    if !health.waiting.is_empty() {
        lines.push((
            "For you",
            format!(
                "{} for your approval: `farrier workflow list --waiting`",
                match health.waiting.len() {
                    1 => "1 waits".to_owned(),
                    count => format!("{count} wait"),
                }
            ),
        ));
    }
    match health.problems.as_slice() {
        [] => lines.push(("Problems", "none".to_owned())),
        problems => lines.extend(problems.iter().map(|problem| ("Problem", problem.clone()))),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_and_a_filesystem_are_judged() {
        for (ahead_s, wrong) in [(0, false), (2, false), (-2, false), (3, true), (-90, true)] {
            assert_eq!(clock_problem(ahead_s).is_some(), wrong, "{ahead_s}");
        }
        assert!(
            clock_problem(-90)
                .unwrap()
                .starts_with("the server's clock is 1 min 30 s behind this host's")
        );
        let folder = |free_bytes, total_bytes| {
            folder_problems(&proto::v1::ServerFolder {
                name: "data".into(),
                path: "/d".into(),
                free_bytes,
                total_bytes,
                ..proto::v1::ServerFolder::default()
            })
        };
        // A small filesystem that is empty, a large one with room, one that is nearly full, and one that could not be asked.
        assert!(folder(1 << 30, 1 << 30).is_empty());
        assert!(folder(40 << 30, 1 << 40).is_empty());
        assert!(folder(0, 0).is_empty());
        assert_eq!(
            folder(1 << 30, 100 << 30),
            ["data folder /d: 1.0 GiB are free (1 %): make room, or nothing can be written soon"]
        );
    }

    #[test]
    fn names_are_told_up_to_a_number() {
        let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
        assert_eq!(some(&names[..2]), "n0, n1");
        assert!(some(&names).ends_with("n9 and 2 more"), "{}", some(&names));
        assert_eq!(
            of(&tally(["a", "b", "a"].into_iter().map(str::to_owned))),
            "3: 2 a, 1 b"
        );
        assert_eq!(of(&BTreeMap::new()), "none");
        assert_eq!(silent_problem(&[]), None);
        assert_eq!(
            silent_problem(&names[..1]).unwrap(),
            "1 machine with something to run is not heard: n0; see `farrier machine get` and `farrier machine boot-log`"
        );
    }
}
