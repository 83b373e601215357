//! `farrier version`.

use std::io::Write;
use std::process::ExitCode;

use proto::v1::GetServerRequest;
use serde::Serialize;

use super::Asking;
use crate::failure::Failure;
use crate::output;
use crate::terminal::say;

const OWN: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VersionArgs {
    /// Only that of this command; no server is asked
    #[arg(long)]
    client: bool,
}

const EXAMPLES: &str = "\
Examples:
  farrier version              this command's, and the server's
  farrier version --client
  farrier version -o json";

#[derive(Serialize)]
struct Versions {
    client: &'static str,
    server: Option<Server>,
}

#[derive(Serialize)]
struct Server {
    version: String,
    address: String,
}

pub(crate) async fn run(args: &VersionArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let mut versions = Versions {
        client: OWN,
        server: None,
    };
    let mut failed = None;
    if !args.client {
        match asked(&asking).await {
            Ok(server) => versions.server = Some(server),
            // This command's is told all the same.
            Err(failure) => failed = Some(failure),
        }
    }
    output::one(asking.out, asking.output, &versions, |out| {
        writeln!(out, "farrier {}", versions.client)?;
        if let Some(server) = &versions.server {
            writeln!(out, "server  {} at {}", server.version, server.address)?;
        }
        Ok(())
    })?;
    if let Some(server) = &versions.server
        && server.version != versions.client
    {
        say(format_args!(
            "warning: this command is farrier {OWN}, and the server {}: use the one of the server's version",
            server.version
        ));
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

async fn asked(asking: &Asking<'_>) -> Result<Server, Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.get_server(GetServerRequest {}).await;
    Ok(Server {
        version: client.answer(answer)?.version,
        address: client.server,
    })
}
