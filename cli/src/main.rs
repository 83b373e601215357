//! `farrier`: the one command, for the server and for people.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod client;
mod commands;
mod duration;
mod ending;
mod failure;
mod following;
mod last;
mod logins;
mod moment;
mod once;
mod output;
mod screen;
mod serve;
mod terminal;
mod views;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use commands::{Cli, Command};
use failure::Failure;
use terminal::Out;

// A server makes and frees many small values: docs/decisions/020-allocator.md has what that costs with glibc's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // TLS code panics where no provider was chosen.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        terminal::say("farrier: another TLS provider was installed first");
    }
    commands::candidates::answer_a_shell();
    let done = run(Cli::parse());
    ending::give_way();
    match done {
        Ok(code) => code,
        Err(failure) => {
            // A reader that went away (`| head`) is no failure.
            if !failure.is_broken_pipe() {
                terminal::say(format_args!("farrier: {failure}"));
            }
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    // An option that would be taken and not obeyed is refused.
    if let (Some(command), true) = (
        cli.command.prints_no_answer(),
        cli.output != output::Format::Table,
    ) {
        return Err(Failure::Usage(format!(
            "--output has no effect on `farrier {command}`: leave it out"
        )));
    }
    let mut namespace = None;
    let (asked, server, timeout, output) = match cli.command {
        // The lab makes namespaces, which must happen before there are threads.
        Command::Lab(args) => return commands::lab::run(args),
        Command::Bench(bench) => return commands::lab::bench(bench),
        Command::Completions(args) => return commands::completions::run(&args),
        Command::Image(args) => return commands::image::run(args),
        Command::Serve(args) => return serve::run(*args),
        Command::Store(args) => return commands::store::run(*args, cli.output),
        Command::Login(one) => (
            Asked::Login(one.args),
            one.server,
            one.request_timeout,
            one.output,
        ),
        Command::Logout(one) => (
            Asked::Logout(one.args),
            one.server,
            one.request_timeout,
            one.output,
        ),
        Command::Whoami(one) => (Asked::WhoAmI, one.server, one.request_timeout, one.output),
        Command::Token(group) => (
            Asked::Token(group.command),
            group.server,
            group.request_timeout,
            group.output,
        ),
        Command::Namespace(group) => (
            Asked::Namespace(group.command),
            group.server,
            group.request_timeout,
            group.output,
        ),
        Command::Registry(group) => (
            Asked::Registry(group.command),
            group.server,
            group.request_timeout,
            group.output,
        ),
        Command::Machine(group) => {
            namespace = group.namespace;
            (
                Asked::Machine(group.command),
                group.server,
                group.request_timeout,
                group.output,
            )
        }
        Command::Template(group) => {
            namespace = group.namespace;
            (
                Asked::Template(group.command),
                group.server,
                group.request_timeout,
                group.output,
            )
        }
        Command::Events(events) => {
            namespace = events.namespace;
            let one = events.one;
            (
                Asked::Events(one.args),
                one.server,
                one.request_timeout,
                one.output,
            )
        }
        Command::Health(health) => {
            namespace = health.namespace;
            let one = health.one;
            (Asked::Health, one.server, one.request_timeout, one.output)
        }
        Command::Version(one) => (
            Asked::Version(one.args),
            one.server,
            one.request_timeout,
            one.output,
        ),
        Command::Run(run) => (Asked::Run(run.args), run.server, run.request_timeout, run.output),
        Command::Secret(group) => {
            namespace = group.namespace;
            (
                Asked::Secret(group.command),
                group.server,
                group.request_timeout,
                group.output,
            )
        }
        Command::Webhook(group) => {
            namespace = group.namespace;
            (
                Asked::Webhook(group.command),
                group.server,
                group.request_timeout,
                group.output,
            )
        }
        Command::Workflow(group) => {
            namespace = group.namespace;
            (
                Asked::Workflow(group.command),
                group.server,
                group.request_timeout,
                group.output,
            )
        }
    };
    commands::log_to_stderr(commands::LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)?;
    let mut out = Out::stdout();
    let done = runtime.block_on(async {
        let asking = commands::Asking {
            server: logins::server(server.or(cli.server).as_deref())?,
            request_timeout: timeout.unwrap_or(cli.request_timeout),
            output: output.unwrap_or(cli.output),
            namespace: namespace.or(cli.namespace).unwrap_or_default(),
            out: &mut out,
        };
        match asked {
            Asked::Events(args) => commands::events::run(args, asking).await,
            Asked::Health => commands::health::run(asking).await,
            Asked::Version(args) => commands::version::run(&args, asking).await,
            Asked::Login(args) => commands::login::login(args, asking).await,
            Asked::Logout(args) => commands::login::logout(args, asking),
            Asked::WhoAmI => commands::login::who_am_i(asking).await,
            Asked::Token(command) => commands::token::run(command, asking).await,
            Asked::Machine(command) => commands::machine::run(command, asking).await,
            Asked::Namespace(command) => commands::namespace::run(command, asking).await,
            Asked::Registry(command) => commands::registry::run(command, asking).await,
            Asked::Run(args) => commands::workflow::run::run(args, asking).await,
            Asked::Secret(command) => commands::secret::run(command, asking).await,
            Asked::Template(command) => commands::template::run(command, asking).await,
            Asked::Webhook(command) => commands::webhook::run(command, asking).await,
            Asked::Workflow(command) => commands::workflow::run(command, asking).await,
        }
    });
    out.flush()?;
    done
}

/// The commands that ask a server.
enum Asked {
    Events(commands::events::EventsArgs),
    Health,
    Version(commands::version::VersionArgs),
    Login(commands::login::LoginArgs),
    Logout(commands::login::LogoutArgs),
    Token(commands::token::TokenCommand),
    WhoAmI,
    Machine(commands::machine::MachineCommand),
    Namespace(commands::namespace::NamespaceCommand),
    Registry(commands::registry::RegistryCommand),
    Run(commands::workflow::run::RunArgs),
    Secret(commands::secret::SecretCommand),
    Template(commands::template::TemplateCommand),
    Webhook(commands::webhook::WebhookCommand),
    Workflow(commands::workflow::WorkflowCommand),
}
