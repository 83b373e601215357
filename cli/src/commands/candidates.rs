//! What a shell completes a word with: ids and names that the server has, within a second or not at all.
//!
//! See docs/decisions/040-completion-asks-the-server.md.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory};
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate};
use proto::v1::{
    ListMachinesRequest, ListNamespacesRequest, ListSecretsRequest, ListTemplatesRequest,
    ListWebhooksRequest, ListWorkflowsRequest, Machine,
};

use super::{Cli, RequestTimeout};
use crate::client::Client;
use crate::last::LAST;
use crate::logins;
use crate::views::short::ShortIds;

/// The scripts of `farrier completions` set it, to the shell's name.
pub(crate) const ASKED_BY: &str = "FARRIER_COMPLETE";
/// A person who has pressed the key waits no longer.
const WITHIN: Duration = Duration::from_millis(800);
/// Workflows that are offered.
const OFFERED: u32 = 50;
/// Workflows whose names and labels are looked at.
const LOOKED_AT: u32 = 500;
const STATES: [&str; 10] = [
    "pending",
    "running",
    "pausing",
    "paused",
    "ending",
    "cancelling",
    "success",
    "failed",
    "timeout",
    "cancelled",
];

/// Answers a shell that asks for the end of a word, and ends the process then. Nobody else is answered.
pub(crate) fn answer_a_shell() {
    CompleteEnv::with_factory(|| with_candidates(Cli::command()))
        .var(ASKED_BY)
        .complete();
}

fn with_candidates(command: Command) -> Command {
    let command = command.mut_arg("any_namespace", |arg| arg.add(ArgValueCompleter::new(namespaces)));
    command.mut_subcommands(|group| {
        let name = group.get_name().to_owned();
        let group = group.mut_args(|arg| with_candidates_of(&name, arg));
        group.mut_subcommands(|one| one.mut_args(|arg| with_candidates_of(&name, arg)))
    })
}

fn with_candidates_of(group: &str, arg: Arg) -> Arg {
    let id = arg.get_id().as_str().to_owned();
    let of: fn(&OsStr) -> Vec<CompletionCandidate> = match (group, id.as_str()) {
        ("workflow", "id" | "ids") | ("events", "workflow") => workflows,
        (_, "machine" | "machines") | ("machine", "words") => machines,
        ("workflow" | "template", "template" | "templates") => templates,
        ("machine", "selector") => labels_of_machines,
        (_, "selector") => labels_of_workflows,
        ("workflow", "state") => states,
        ("secret", "name") => secrets,
        ("webhook", "name") => webhooks,
        ("namespace", "name") | (_, "namespace") => namespaces,
        _ => return arg,
    };
    arg.add(ArgValueCompleter::new(of))
}

/// What `ask` gets of the server that the command would ask; nothing where that takes too long, or fails.
fn asked<T: Default>(ask: impl AsyncFnOnce(Client, String) -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return T::default();
    };
    let answer = async {
        let server = logins::server(said(&["--server"], "FARRIER_SERVER").as_deref()).ok()?;
        let token = logins::token(&server).ok()?;
        let client = Client::connect_with(&server, &token, RequestTimeout(Some(WITHIN))).await;
        let namespace = said(&["-n", "--namespace"], "FARRIER_NAMESPACE");
        ask(client.ok()?, namespace.unwrap_or_default()).await
    };
    let answer = runtime.block_on(async { tokio::time::timeout(WITHIN, answer).await });
    answer.ok().flatten().unwrap_or_default()
}

/// What the line that is completed says behind one of these flags, or else the environment.
fn said(flags: &[&str], variable: &str) -> Option<String> {
    let line: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let on_the_line = flags.iter().find_map(|flag| value_of(flag, &line));
    on_the_line
        .or_else(|| std::env::var(variable).ok())
        .filter(|value| !value.is_empty())
}

/// `--flag VALUE`, `--flag=VALUE`, `-f VALUE`, `-fVALUE`: the last one.
fn value_of(flag: &str, line: &[String]) -> Option<String> {
    line.iter().enumerate().rev().find_map(|(at, word)| {
        let rest = word.strip_prefix(flag)?;
        match (rest, flag.starts_with("--")) {
            ("", _) => line.get(at + 1).cloned(),
            (rest, true) => rest.strip_prefix('=').map(str::to_owned),
            (rest, false) => Some(rest.to_owned()),
        }
    })
}

/// The candidates of a list that begin as the word does. What stands before its last comma stays.
fn beginning(
    current: &OsStr,
    all: impl IntoIterator<Item = String>,
    is_list: bool,
) -> Vec<CompletionCandidate> {
    let Some(typed) = current.to_str() else {
        return Vec::new();
    };
    let (before, typed) = match typed.rfind(',').filter(|_| is_list) {
        Some(comma) => typed.split_at(comma + 1),
        None => ("", typed),
    };
    let all: BTreeSet<String> = all.into_iter().filter(|one| one.starts_with(typed)).collect();
    all.into_iter()
        .map(|one| CompletionCandidate::new(format!("{before}{one}")))
        .collect()
}

/// The newest whose ids begin so, by their short ids; and names that begin so, where something was typed.
fn workflows(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = current.to_str() else {
        return Vec::new();
    };
    let (of_id, of_name) = asked(async |mut client: Client, namespace| {
        let by_id = ListWorkflowsRequest {
            id_prefix: typed.to_owned(),
            all_namespaces: true,
            newest_first: true,
            limit: OFFERED,
            ..ListWorkflowsRequest::default()
        };
        let by_name = ListWorkflowsRequest {
            namespace,
            newest_first: true,
            limit: LOOKED_AT,
            ..ListWorkflowsRequest::default()
        };
        // What cannot begin an id is refused.
        let of_id = client.control.list_workflows(by_id).await;
        let of_id = of_id
            .map(|answer| answer.into_inner().workflows)
            .unwrap_or_default();
        let of_name = match typed {
            "" => Vec::new(),
            _ => {
                client
                    .control
                    .list_workflows(by_name)
                    .await
                    .ok()?
                    .into_inner()
                    .workflows
            }
        };
        Some((of_id, of_name))
    });
    let short = ShortIds::of(of_id.iter().map(|workflow| workflow.id.as_str()));
    let of_id = of_id.iter().map(|workflow| {
        let id = match short.short(&workflow.id) {
            short if short.len() >= typed.len() => short,
            _ => workflow.id.as_str(),
        };
        let help = format!("{} {}", workflow.name, workflow.state);
        CompletionCandidate::new(id).help(Some(help.into()))
    });
    let names = of_name.into_iter().map(|workflow| workflow.name);
    let last = LAST.to_owned();
    of_id
        .chain(beginning(current, names.chain([last]), false))
        .collect()
}

fn all_machines() -> Vec<Machine> {
    asked(async |mut client: Client, namespace| {
        let request = ListMachinesRequest {
            namespace,
            ..ListMachinesRequest::default()
        };
        Some(
            client
                .control
                .list_machines(request)
                .await
                .ok()?
                .into_inner()
                .machines,
        )
    })
}

fn machines(current: &OsStr) -> Vec<CompletionCandidate> {
    beginning(
        current,
        all_machines().into_iter().map(|machine| machine.name),
        false,
    )
}

fn templates(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = asked(async |mut client: Client, namespace| {
        let request = ListTemplatesRequest {
            namespace,
            ..ListTemplatesRequest::default()
        };
        Some(
            client
                .control
                .list_templates(request)
                .await
                .ok()?
                .into_inner()
                .templates,
        )
    });
    beginning(current, all.into_iter().map(|template| template.name), false)
}

fn secrets(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = asked(async |mut client: Client, namespace| {
        let request = ListSecretsRequest {
            namespace,
            ..ListSecretsRequest::default()
        };
        Some(
            client
                .control
                .list_secrets(request)
                .await
                .ok()?
                .into_inner()
                .secrets,
        )
    });
    beginning(current, all.into_iter().map(|secret| secret.name), false)
}

fn webhooks(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = asked(async |mut client: Client, namespace| {
        let request = ListWebhooksRequest {
            namespace,
            ..ListWebhooksRequest::default()
        };
        Some(
            client
                .control
                .list_webhooks(request)
                .await
                .ok()?
                .into_inner()
                .webhooks,
        )
    });
    beginning(current, all.into_iter().map(|webhook| webhook.name), false)
}

fn namespaces(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = asked(async |mut client: Client, _| {
        let request = ListNamespacesRequest::default();
        Some(
            client
                .control
                .list_namespaces(request)
                .await
                .ok()?
                .into_inner()
                .namespaces,
        )
    });
    beginning(current, all.into_iter().map(|namespace| namespace.name), false)
}

fn labels_of_machines(current: &OsStr) -> Vec<CompletionCandidate> {
    labels(
        current,
        all_machines().into_iter().flat_map(|machine| machine.labels),
    )
}

fn labels_of_workflows(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = asked(async |mut client: Client, namespace| {
        let request = ListWorkflowsRequest {
            namespace,
            newest_first: true,
            limit: LOOKED_AT,
            ..ListWorkflowsRequest::default()
        };
        Some(
            client
                .control
                .list_workflows(request)
                .await
                .ok()?
                .into_inner()
                .workflows,
        )
    });
    labels(current, all.into_iter().flat_map(|workflow| workflow.labels))
}

fn labels(current: &OsStr, all: impl Iterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    beginning(current, all.map(|(key, value)| format!("{key}={value}")), true)
}

fn states(current: &OsStr) -> Vec<CompletionCandidate> {
    beginning(current, STATES.map(str::to_owned), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_of_the_line_is_found_in_each_form() {
        let line = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (text, flag, value) in [
            ("farrier -- farrier -n lab machine get", "-n", Some("lab")),
            ("farrier -- farrier -nlab machine get", "-n", Some("lab")),
            (
                "farrier -- farrier --namespace=lab machine",
                "--namespace",
                Some("lab"),
            ),
            (
                "farrier -- farrier --server a:1 --server b:2 x",
                "--server",
                Some("b:2"),
            ),
            ("farrier -- farrier --servers a:1", "--server", None),
            ("farrier -- farrier machine get --server", "--server", None),
        ] {
            assert_eq!(value_of(flag, &line(text)).as_deref(), value, "{text}");
        }
    }

    #[test]
    fn what_stands_before_the_last_comma_stays() {
        let found = |typed: &str, is_list| {
            let found = beginning(OsStr::new(typed), ["a=1".to_owned(), "b=2".to_owned()], is_list);
            let values = found
                .iter()
                .map(|one| one.get_value().to_string_lossy().into_owned());
            values.collect::<Vec<_>>()
        };
        assert_eq!(found("", true), ["a=1", "b=2"]);
        assert_eq!(found("b", true), ["b=2"]);
        assert_eq!(found("x=1,b", true), ["x=1,b=2"]);
        assert!(found("x=1,b", false).is_empty());
    }
}
