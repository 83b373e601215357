//! `farrier token`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use proto::v1::{CreateTokenRequest, DeleteTokenRequest, ListTokensRequest};

use super::Asking;
use crate::duration::duration;
use crate::failure::Failure;
use crate::once::{Key, ask_once};
use crate::output;
use crate::terminal::say;
use crate::views;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Give a person, or a program, access; prints what its owner logs in with
    #[command(after_help = "\
A token's name stands in events and logs as who did it; its groups decide for approvals. Each role may do what those before it
may: viewer looks, operator drives machines, templates and workflows, admin makes tokens.
The text is printed once: the server does not keep it.

Examples:
  farrier token create alice --group ops
  farrier token create monitoring --role viewer
  farrier token create bob --namespace team-a
  farrier token create guest --expires 8h > guest.token")]
    Create {
        /// Its owner's name: letters, digits, . _ @ -
        name: String,
        /// A group that its owner is in; may be given more than once
        #[arg(long = "group", value_name = "NAME")]
        groups: Vec<String>,
        /// A namespace that it is for; may be given more than once [default: all, also those that are made later]
        #[arg(long = "namespace", value_name = "NAMESPACE")]
        namespaces: Vec<String>,
        /// What it is good for
        #[arg(long, value_enum, default_value_t, value_name = "ROLE")]
        role: Role,
        /// How long it is good [default: until it is deleted]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
    },
    /// List tokens
    #[command(after_help = "Example:\n  farrier token list")]
    List,
    /// Delete a token: it is good no longer
    #[command(after_help = "Example:\n  farrier token delete alice")]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        key: Key,
    },
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum Role {
    Viewer,
    #[default]
    Operator,
    Admin,
}

pub(crate) async fn run(command: TokenCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create {
            name,
            groups,
            namespaces,
            role,
            expires,
        } => create(name, groups, namespaces, role, expires, asking).await?,
        TokenCommand::List => list(asking).await?,
        TokenCommand::Delete { name, key } => delete(name, key, asking).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(
    name: String,
    groups: Vec<String>,
    namespaces: Vec<String>,
    role: Role,
    expires: Option<Duration>,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let role = match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    };
    if expires.is_some_and(|time| time.as_secs() == 0) {
        return Err(Failure::Usage(
            "bad --expires: write 1s or more, or leave it out".into(),
        ));
    }
    output::refuse_name(asking.output)?;
    let mut client = asking.connect().await?;
    let request = CreateTokenRequest {
        name,
        groups,
        namespaces,
        role: role.to_owned(),
        expires_in_s: expires.map_or(0, |time| time.as_secs()),
    };
    let answer = client.control.create_token(request).await;
    let answer = client.answer(answer)?;
    let created = views::CreatedToken {
        token: views::Token::from(answer.token.unwrap_or_default()),
        text: answer.text,
    };
    output::one(asking.out, asking.output, &created, |out| {
        // Nothing else on this output, so that it can be kept in a file.
        writeln!(out, "{}", created.text)?;
        say(format_args!(
            "made for {}: it is shown this once; its owner gives it to `farrier login {}`",
            created.token.in_words(),
            client.server
        ));
        Ok(())
    })
}

async fn list(asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.list_tokens(ListTokensRequest {}).await;
    let tokens = client.answer(answer)?.tokens;
    let tokens: Vec<_> = tokens.into_iter().map(views::Token::from).collect();
    output::list(asking.out, asking.output, &tokens)
}

async fn delete(name: String, key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = DeleteTokenRequest {
        name: name.clone(),
        idempotency_key: key.text(),
    };
    ask_once!(client, delete_token(request))?;
    output::deleted(asking.out, asking.output, "token", &name)
}
