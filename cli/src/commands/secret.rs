//! `farrier secret`.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use coordinator::secrets::MAX_VALUE_BYTES;
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use proto::v1::{DeleteSecretRequest, ListSecretsRequest, SetSecretRequest};

use super::{Asking, Listing, warn};
use crate::failure::Failure;
use crate::once::{Key, ask_once};
use crate::output;
use crate::terminal::say;
use crate::views;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SecretCommand {
    /// Set or replace a secret; its value is read from standard input
    #[command(after_help = "\
Examples:
  farrier secret set ROOT_PASSWORD               asks for it, and shows nothing of it
  farrier secret set REGISTRY_TOKEN < token.txt
  pass show deploy-key | farrier secret set DEPLOY_KEY

The newline at the end of a value of one line is no part of it. An action has it where its template says
${{ secrets.ROOT_PASSWORD }}, in its command or environment (version \"1\").")]
    Set {
        /// Letters, digits and _
        name: String,
    },
    /// List secrets; nothing shows a value
    #[command(after_help = "Example:\n  farrier secret list")]
    List(Listing),
    /// Delete a secret; actions that need it fail from then on
    #[command(after_help = "Example:\n  farrier secret delete ROOT_PASSWORD")]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        key: Key,
    },
}

pub(crate) async fn run(command: SecretCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        SecretCommand::Set { name } => set(name, asking).await?,
        SecretCommand::List(listing) => list(listing, asking).await?,
        SecretCommand::Delete { name, key } => delete(name, key, asking).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(name: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let value = value(&name)?;
    let namespace = asking.namespace.clone();
    let request = SetSecretRequest {
        name,
        value,
        namespace,
    };
    let answer = client.control.set_secret(request).await;
    let secret = views::Secret::from(client.answer(answer)?);
    output::one(asking.out, asking.output, &secret, |out| {
        Ok(writeln!(
            out,
            "secret {} is set, version {}",
            secret.name, secret.version
        )?)
    })
}

async fn list(listing: Listing, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let request = ListSecretsRequest {
        namespace: asking.namespace.clone(),
        all_namespaces: listing.all_namespaces,
    };
    let answer = client.control.list_secrets(request).await;
    let secrets: Vec<_> = client
        .answer(answer)?
        .secrets
        .into_iter()
        .map(views::Secret::from)
        .collect();
    match listing.all_namespaces {
        true => output::list_of_all(asking.out, asking.output, &secrets),
        false => output::list(asking.out, asking.output, &secrets),
    }
}

async fn delete(name: String, key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = DeleteSecretRequest {
        name: name.clone(),
        namespace: asking.namespace.clone(),
        idempotency_key: key.text(),
    };
    warn(&ask_once!(client, delete_secret(request))?.warnings);
    output::deleted(asking.out, asking.output, "secret", &name)
}

/// What stands in standard input; a person is asked for a line, which the terminal does not show.
fn value(name: &str) -> Result<Vec<u8>, Failure> {
    let unread =
        |error: &dyn std::fmt::Display| Failure::Failed(format!("cannot read standard input: {error}"));
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        say(format_args!("value of {name} (it is not shown):"));
        let _hidden = Unechoed::begin().map_err(|error| unread(&error))?;
        let mut line = String::new();
        stdin.read_line(&mut line).map_err(|error| unread(&error))?;
        return Ok(without_newline(line.into_bytes()));
    }
    let mut value = Vec::new();
    // A newline, and one byte by which the server sees that it is too long.
    let most = MAX_VALUE_BYTES as u64 + 3;
    stdin
        .take(most)
        .read_to_end(&mut value)
        .map_err(|error| unread(&error))?;
    Ok(without_newline(value))
}

/// A line is what stands before its end. A text of several, such as a key, is given as it is.
fn without_newline(mut value: Vec<u8>) -> Vec<u8> {
    let is_line = value.iter().position(|byte| *byte == b'\n') == value.len().checked_sub(1);
    if is_line && value.pop().is_some() && value.last() == Some(&b'\r') {
        value.pop();
    }
    value
}

/// The terminal shows nothing of what is typed until this is dropped.
struct Unechoed(Termios);

impl Unechoed {
    fn begin() -> nix::Result<Unechoed> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut without = before.clone();
        without.local_flags.remove(LocalFlags::ECHO);
        // What is typed already, and shown, is no part of a secret.
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &without)?;
        Ok(Unechoed(before))
    }
}

impl Drop for Unechoed {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_line_is_no_part_of_it() {
        for (given, want) in [
            ("word\n", "word"),
            ("word\r\n", "word"),
            ("word", "word"),
            ("word\r", "word\r"),
            ("two\nlines\n", "two\nlines\n"),
            ("two\nlines", "two\nlines"),
            ("word\n\n", "word\n\n"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(without_newline(given.into()), want.as_bytes(), "{given:?}");
        }
    }
}
