//! `farrier login`, `logout` and `whoami`.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use access::Token;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use proto::v1::WhoAmIRequest;

use super::Asking;
use crate::client::Client;
use crate::failure::Failure;
use crate::logins::{Logins, with_port};
use crate::output;
use crate::terminal::say;
use crate::views;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The token is read from standard input; at a terminal it is asked for and not shown. It is kept in
$XDG_CONFIG_HOME/farrier/logins.toml (or ~/.config/farrier/logins.toml), which only you may read.
The server is then the one that commands ask. FARRIER_TOKEN, where it is set, comes before a login.

Examples:
  farrier login 10.77.0.1
  farrier login 10.77.0.1:42115 < my.token
  ssh server sudo cat /var/lib/farrier/admin.token | farrier login 10.77.0.1")]
pub(crate) struct LoginArgs {
    /// The server [default: the one that commands ask]
    // An id of its own: every command that asks a server has an option of this name.
    #[arg(id = "which", value_name = "HOST:PORT")]
    server: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  farrier logout 10.77.0.1")]
pub(crate) struct LogoutArgs {
    /// The server [default: the one that commands ask]
    // An id of its own: every command that asks a server has an option of this name.
    #[arg(id = "which", value_name = "HOST:PORT")]
    server: Option<String>,
}

/// No token of a person is longer.
const MAX_TOKEN_BYTES: u64 = 4096;

pub(crate) async fn login(args: LoginArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let server = args
        .server
        .map_or_else(|| asking.server.clone(), |server| with_port(&server));
    let text = read_token(&server)?;
    let token: Token = text
        .parse()
        .map_err(|error| Failure::Usage(format!("this is no token: {error}")))?;
    let mut client = Client::connect_with(&server, &token, asking.request_timeout).await?;
    let answer = client.control.who_am_i(WhoAmIRequest {}).await;
    let who = views::Token::from(client.answer(answer)?);
    let mut logins = Logins::read()?;
    logins.tokens.insert(server.clone(), token.to_string());
    logins.current = Some(server.clone());
    logins.write()?;
    output::one(asking.out, asking.output, &who, |out| {
        writeln!(out, "logged in to {server} as {}", who.in_words())?;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn logout(args: LogoutArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let server = args
        .server
        .map_or_else(|| asking.server.clone(), |server| with_port(&server));
    let mut logins = Logins::read()?;
    if logins.tokens.remove(&server).is_none() {
        let known: Vec<&str> = logins.tokens.keys().map(String::as_str).collect();
        let known = match known.as_slice() {
            [] => "nowhere".to_owned(),
            known => format!("to {}", known.join(", ")),
        };
        return Err(Failure::NotFound(format!(
            "you are not logged in to {server}: you are {known}"
        )));
    }
    if logins.current.as_ref() == Some(&server) {
        logins.current = None;
    }
    logins.write()?;
    writeln!(
        asking.out,
        "logged out of {server}; the token is good until it is deleted"
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn who_am_i(asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.who_am_i(WhoAmIRequest {}).await;
    let who = views::Token::from(client.answer(answer)?);
    let server = client.server.clone();
    output::one(asking.out, asking.output, &who, |out| {
        writeln!(out, "{} at {server}", who.in_words())?;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Standard input; at a terminal a line that is not shown.
fn read_token(server: &str) -> Result<String, Failure> {
    let unread = |error| Failure::Failed(format!("cannot read the token from standard input: {error}"));
    let stdin = std::io::stdin();
    let mut text = String::new();
    if !stdin.is_terminal() {
        let mut bounded = stdin.lock().take(MAX_TOKEN_BYTES);
        bounded.read_to_string(&mut text).map_err(unread)?;
        return Ok(text);
    }
    say(format_args!("The token for {server} (it is not shown):"));
    let before = tcgetattr(&stdin).map_err(|error| unread(error.into()))?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent).map_err(|error| unread(error.into()))?;
    let read = stdin.lock().read_line(&mut text);
    // Whatever was read: a terminal that stays silent is of no use.
    let restored = tcsetattr(&stdin, SetArg::TCSAFLUSH, &before);
    read.map_err(unread)?;
    restored.map_err(|error| unread(error.into()))?;
    Ok(text)
}
