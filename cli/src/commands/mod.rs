//! The command line: one file a command.

pub(crate) mod admin_token;
pub(crate) mod candidates;
pub(crate) mod completions;
mod difference;
pub(crate) mod events;
mod given;
pub(crate) mod health;
pub(crate) mod image;
pub(crate) mod lab;
pub(crate) mod login;
pub(crate) mod machine;
pub(crate) mod namespace;
mod progress;
pub(crate) mod registry;
pub(crate) mod secret;
pub(crate) mod store;
pub(crate) mod template;
pub(crate) mod token;
pub(crate) mod version;
pub(crate) mod webhook;
pub(crate) mod workflow;

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::client::Client;
use crate::duration::duration;
use crate::failure::Failure;
use crate::logins;
use crate::output::{Columns, Format};
use crate::terminal::{LogWriter, Out, is_shown_to_a_person, say};

/// Netboots bare metal into a small agent and drives it through durable workflows.
#[derive(Debug, Parser)]
#[command(name = "farrier", version, max_term_width = 110, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The server that machine, template, workflow and token commands ask [default: the one of `farrier login`, or 127.0.0.1:42115]
    // Ids of their own: commands have options of these names, with other meanings, too.
    #[arg(
        id = "any_server",
        long = "server",
        env = "FARRIER_SERVER",
        hide_env_values = true,
        value_name = "HOST:PORT"
    )]
    pub(crate) server: Option<String>,
    /// How long it may take for one answer; 0: for ever. Waiting and following end by themselves
    #[arg(
        id = "any_request_timeout",
        long = "request-timeout",
        env = "FARRIER_REQUEST_TIMEOUT",
        hide_env_values = true,
        default_value = "30s",
        value_name = "TIME"
    )]
    pub(crate) request_timeout: RequestTimeout,
    /// How their answers are printed
    #[arg(
        id = "any_output",
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// The namespace of machines, templates, secrets and new workflows [default: default]
    #[arg(
        id = "any_namespace",
        short = 'n',
        long = "namespace",
        env = "FARRIER_NAMESPACE",
        hide_env_values = true,
        value_name = "NAMESPACE"
    )]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server: netboot services and control plane
    Serve(Box<crate::serve::ServeArgs>),
    /// Machines: add, show, delete, and see how they boot
    Machine(Group<machine::MachineCommand>),
    /// Templates that workflows are made from
    Template(Group<template::TemplateCommand>),
    /// Workflows: what is done to machines
    Workflow(Group<workflow::WorkflowCommand>),
    /// What happens to all workflows, as it happens
    Events(Box<OneInNamespace<events::EventsArgs>>),
    /// Secrets that actions are handed
    Secret(Group<secret::SecretCommand>),
    /// Webhooks: addresses that are told of ends, of waits for approval, of silent machines
    Webhook(Group<webhook::WebhookCommand>),
    /// The server's own registry: images of containers that machines are given without asking outside
    Registry(GroupOfAdmins<registry::RegistryCommand>),
    /// Run one action on one machine, now
    Run(Box<GroupOfOne<workflow::run::RunArgs>>),
    /// Log in to a server: keep the token that it is asked with
    Login(Box<GroupOfOne<login::LoginArgs>>),
    /// Forget the token of a server
    Logout(Box<GroupOfOne<login::LogoutArgs>>),
    /// Say who the server takes you for, and what you may do
    #[command(after_help = "Example:\n  farrier whoami")]
    Whoami(Box<GroupOfOne<Nothing>>),
    /// Say whether all is well: server, folders, clock, machines, what waits
    Health(Box<OneInNamespace<health::HealthArgs>>),
    /// Print the version of this command, and the server's
    Version(Box<GroupOfOne<version::VersionArgs>>),
    /// Tokens: who may ask the server, and for what
    Token(GroupOfAdmins<token::TokenCommand>),
    /// Namespaces: parts of a server that do not see each other
    Namespace(GroupOfAdmins<namespace::NamespaceCommand>),
    /// Build what machines netboot
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Check, export or import what a server keeps, while it is stopped
    Store(Box<store::StoreArgs>),
    /// Try it all in a virtual machine: netboot, install, log in
    Lab(qemu_tests::lab::LabArgs),
    /// Measure how long things take, for those who work on Farrier
    #[command(subcommand, hide = true)]
    Bench(qemu_tests::bench::Bench),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// The name of one that has no answer in a format.
    pub(crate) fn prints_no_answer(&self) -> Option<&'static str> {
        match self {
            Command::Bench(_) => Some("bench"),
            Command::Completions(_) => Some("completions"),
            Command::Image(_) => Some("image build"),
            Command::Lab(_) => Some("lab"),
            Command::Serve(_) => Some("serve"),
            Command::Events(_)
            | Command::Health(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Machine(_)
            | Command::Namespace(_)
            | Command::Registry(_)
            | Command::Run(_)
            | Command::Secret(_)
            | Command::Store(_)
            | Command::Template(_)
            | Command::Token(_)
            | Command::Version(_)
            | Command::Webhook(_)
            | Command::Whoami(_)
            | Command::Workflow(_) => None,
        }
    }
}

/// Commands that ask a server, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Group<C: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: C,
    /// The server that it asks [env: FARRIER_SERVER] [default: that of `farrier login`, or 127.0.0.1:42115]
    #[arg(long, global = true, value_name = "HOST:PORT", help_heading = ANSWERS)]
    pub(crate) server: Option<String>,
    /// How long it may take for one answer; 0: for ever [env: FARRIER_REQUEST_TIMEOUT] [default: 30s]
    #[arg(long, global = true, value_name = "TIME", help_heading = ANSWERS)]
    pub(crate) request_timeout: Option<RequestTimeout>,
    /// How answers are printed [default: table]
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        help_heading = ANSWERS
    )]
    pub(crate) output: Option<Format>,
    /// The namespace that it is about [env: FARRIER_NAMESPACE] [default: default]
    #[arg(short, long, global = true, value_name = "NAMESPACE", help_heading = ANSWERS)]
    pub(crate) namespace: Option<String>,
}

/// Commands that ask a server about what is in no namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupOfAdmins<C: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: C,
    /// The server that it asks [env: FARRIER_SERVER] [default: that of `farrier login`, or 127.0.0.1:42115]
    #[arg(long, global = true, value_name = "HOST:PORT", help_heading = ANSWERS)]
    pub(crate) server: Option<String>,
    /// How long it may take for one answer; 0: for ever [env: FARRIER_REQUEST_TIMEOUT] [default: 30s]
    #[arg(long, global = true, value_name = "TIME", help_heading = ANSWERS)]
    pub(crate) request_timeout: Option<RequestTimeout>,
    /// How answers are printed [default: table]
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        help_heading = ANSWERS
    )]
    pub(crate) output: Option<Format>,
}

/// Over what a list is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Listing {
    /// Those of all namespaces that your token reaches
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
}

/// Which of a list are meant, by their labels.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Selecting {
    /// Only those with these labels, such as rack=r7,disk!=hdd,'zone in (a,b)',gpu,!old; or an expression, as in machines(…)
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) selector: String,
    /// A column more, with the labels of each
    #[arg(long)]
    pub(crate) show_labels: bool,
}

impl Selecting {
    pub(crate) fn columns(&self, listing: Listing) -> Columns {
        Columns {
            namespace: listing.all_namespaces,
            labels: self.show_labels,
        }
    }
}

/// So much of a list, and those whose names begin so.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Cut {
    /// Only those whose names begin with this
    #[arg(long, value_name = "BEGINNING", default_value = "", hide_default_value = true)]
    name: String,
    /// How many at most, the first of them; 0: all [default: all]
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    limit: usize,
}

impl Cut {
    fn is_named(&self, name: &str) -> bool {
        name.starts_with(&self.name)
    }
}

/// Whether a list was cut, and where.
struct More {
    listed: usize,
    all: usize,
}

impl More {
    fn say(&self) {
        if self.all > self.listed {
            say(format_args!(
                "the first {} are listed, of {}: --limit NUMBER has so many, --limit 0 all",
                self.listed, self.all
            ));
        }
    }
}

fn cut<T>(mut items: Vec<T>, by: &Cut) -> (Vec<T>, More) {
    let all = items.len();
    if by.limit > 0 {
        items.truncate(by.limit);
    }
    let listed = items.len();
    (items, More { listed, all })
}

/// Of a command that has no options of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Nothing {}

/// A command without commands of its own that asks a server.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupOfOne<A: clap::Args> {
    #[command(flatten)]
    pub(crate) args: A,
    /// The server that it asks [env: FARRIER_SERVER] [default: that of `farrier login`, or 127.0.0.1:42115]
    #[arg(long, value_name = "HOST:PORT", help_heading = ANSWERS)]
    pub(crate) server: Option<String>,
    /// How long it may take for one answer; 0: for ever [env: FARRIER_REQUEST_TIMEOUT] [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = ANSWERS)]
    pub(crate) request_timeout: Option<RequestTimeout>,
    /// How the answer is printed [default: table]
    #[arg(short, long, value_enum, value_name = "FORMAT", help_heading = ANSWERS)]
    pub(crate) output: Option<Format>,
}

/// As [`GroupOfOne`], of one that is about a namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct OneInNamespace<A: clap::Args> {
    #[command(flatten)]
    pub(crate) one: GroupOfOne<A>,
    /// The namespace that it is about [env: FARRIER_NAMESPACE] [default: default]
    #[arg(short, long, value_name = "NAMESPACE", help_heading = ANSWERS)]
    pub(crate) namespace: Option<String>,
}

const ANSWERS: &str = "Server and answers";

const EXAMPLES: &str = "\
Examples:
  farrier lab                                        see it work, in a virtual machine
  farrier image build --boot-dir /var/lib/farrier/boot
  farrier serve --interface br0 --address 10.77.0.1  run the server on that network
  farrier machine apply -f machines.yaml             tell it which machines there are
  farrier template create -f debian.yaml
  farrier workflow create -t debian -r device_1=52:54:00:77:00:0b
  farrier workflow wait ID --timeout 30m
  farrier run node1 reboot                           one action, now

Exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found, 4 no server answers, 5 not allowed.";

/// What every command that asks a server has.
pub(crate) struct Asking<'a> {
    pub(crate) server: String,
    /// For each answer.
    pub(crate) request_timeout: RequestTimeout,
    pub(crate) output: Format,
    /// Empty: the server's `default`.
    pub(crate) namespace: String,
    pub(crate) out: &'a mut Out,
}

impl Asking<'_> {
    async fn connect(&self) -> Result<Client, Failure> {
        let token = logins::token(&self.server)?;
        Client::connect_with(&self.server, &token, self.request_timeout).await
    }
}

/// How long a server may take for one answer; none: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestTimeout(pub(crate) Option<Duration>);

impl std::str::FromStr for RequestTimeout {
    type Err = String;

    /// A time, or 0 for none.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(Some(duration(text)?).filter(|time| !time.is_zero())))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Json,
    #[default]
    Text,
}

/// What we say of ourselves goes to stderr; `RUST_LOG` chooses, `default` where it is not set.
pub(crate) fn log_to_stderr(format: LogFormat, default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let is_json = format == LogFormat::Json;
    let has_colours = !is_json && is_shown_to_a_person();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || LogWriter { is_json, has_colours })
        .with_target(false)
        .with_ansi(has_colours);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
}

/// A file's text, or standard input for `-`, and its name for messages.
fn read_file(path: &str) -> Result<(String, String), Failure> {
    if path == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::Failed(format!("cannot read standard input: {error}")))?;
        return Ok((text, "<stdin>".into()));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("cannot read {path}: {error}")))?;
    Ok((text, path.to_owned()))
}

/// Says where a text that is given to a server has the mark of a credential that was hidden when it was shown.
fn warn_of_hidden(text: &str, source: &str) {
    let marks = ["://***@", "=***"];
    for (index, line) in text.lines().enumerate() {
        if marks.iter().any(|mark| line.contains(mark)) {
            say(format_args!(
                "warning: {source}: line {}: *** stands where a credential was hidden when this was shown: write it anew",
                index + 1
            ));
        }
    }
}

/// The labels of `-l`, each KEY=VALUE; the last one of a key wins.
fn labels(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let label = |one: &String| {
        let (key, value) = one.split_once('=').ok_or_else(|| {
            Failure::Usage(format!("bad label {one:?}: expected KEY=VALUE, such as rack=r7"))
        })?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    given.iter().map(label).collect()
}

/// The devices of `-r`: each a JSON object of text, or NAME=VALUE.
fn devices(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for one in given {
        match one.split_once('=') {
            Some((name, value)) if !one.trim_start().starts_with('{') => {
                all.insert(name.trim().to_owned(), value.to_owned());
            }
            _ => all.extend(json_devices(one)?),
        }
    }
    Ok(all)
}

fn json_devices(json: &str) -> Result<BTreeMap<String, String>, Failure> {
    let bad = |why: String| {
        Failure::Usage(format!(
            "bad devices {json:?}: {why}; expected device_1=52:54:00:77:00:0b, or JSON such as \
             '{{\"device_1\": \"52:54:00:77:00:0b\"}}'"
        ))
    };
    let values = yaml::json_object(json).map_err(|found| bad(found.message))?;
    let text = |(key, value): (String, serde_json::Value)| match value {
        serde_json::Value::String(text) => Ok((key, text)),
        serde_json::Value::Number(number) => Ok((key, number.to_string())),
        serde_json::Value::Bool(flag) => Ok((key, flag.to_string())),
        other => Err(bad(format!("{key} is {other}, not text"))),
    };
    values.into_iter().map(text).collect()
}

/// Says why things could not be done; the last one is the command's own failure.
fn last_of(mut failed: Vec<Failure>) -> Result<(), Failure> {
    let last = failed.pop();
    for failure in failed {
        say(format_args!("farrier: {failure}"));
    }
    last.map_or(Ok(()), Err)
}

/// Warnings go to stderr, so that output stays what it is.
fn warn(warnings: &[String]) {
    for warning in warnings {
        say(format_args!("warning: {warning}"));
    }
}
