//! `farrier namespace`.

use std::io::Write;
use std::process::ExitCode;

use proto::v1::{CreateNamespaceRequest, DeleteNamespaceRequest, ListNamespacesRequest};

use super::Asking;
use crate::failure::Failure;
use crate::once::{Key, ask_once};
use crate::output;
use crate::views;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum NamespaceCommand {
    /// Make a namespace
    #[command(after_help = "\
Templates and secrets have their names in a namespace, machines and workflows belong to one, and a workflow sees its own only.
Commands are about `default`, unless they are told another with -n, or by FARRIER_NAMESPACE.

Examples:
  farrier namespace create team-a
  farrier machine apply -n team-a -f machines.yaml
  farrier token create alice --namespace team-a")]
    Create {
        /// Letters a to z, digits and -, 63 at most
        name: String,
        #[command(flatten)]
        key: Key,
    },
    /// List namespaces
    #[command(after_help = "Example:\n  farrier namespace list")]
    List,
    /// Delete a namespace that nothing is in
    #[command(after_help = "Example:\n  farrier namespace delete team-a")]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        key: Key,
    },
}

pub(crate) async fn run(command: NamespaceCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        NamespaceCommand::Create { name, key } => create(name, key, asking).await?,
        NamespaceCommand::List => list(asking).await?,
        NamespaceCommand::Delete { name, key } => delete(name, key, asking).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(name: String, key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = CreateNamespaceRequest {
        name,
        idempotency_key: key.text(),
    };
    let made = views::Namespace::from(ask_once!(client, create_namespace(request))?);
    output::one(asking.out, asking.output, &made, |out| {
        Ok(writeln!(out, "namespace {} created", made.name)?)
    })
}

async fn list(asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.list_namespaces(ListNamespacesRequest {}).await;
    let all = client.answer(answer)?.namespaces;
    let all: Vec<_> = all.into_iter().map(views::Namespace::from).collect();
    output::list(asking.out, asking.output, &all)
}

async fn delete(name: String, key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = DeleteNamespaceRequest {
        name: name.clone(),
        idempotency_key: key.text(),
    };
    ask_once!(client, delete_namespace(request))?;
    output::deleted(asking.out, asking.output, "namespace", &name)
}
