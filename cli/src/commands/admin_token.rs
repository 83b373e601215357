//! `farrier store admin-token`: a way in for whoever may read and write the data directory.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use access::{Authority, Secret, Token, private_file};
use coordinator::database::{self, formats};
use coordinator::people;
use serde::Serialize;
use store::{RedbStore, Store};

use crate::failure::{Failure, chain};
use crate::logins::{AUTHORITY, FIRST_TOKEN};
use crate::output::{self, Format};
use crate::terminal::Out;

#[derive(Serialize)]
struct Made {
    file: String,
}

pub(super) fn run(data_dir: &Path, format: Format) -> Result<ExitCode, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Failed(chain(error));
    let file = data_dir.join("farrier.redb");
    if !file.is_file() {
        return Err(Failure::NotFound(format!(
            "there is no store in {}: name the server's data directory with --data-dir",
            data_dir.display()
        )));
    }
    let store = RedbStore::open(file).map_err(|error| failed(&error))?;
    // A store of a later version is left alone, and an older one is what a server makes of it.
    formats::CURRENT.prepare(&store).map_err(|error| failed(&error))?;
    let authority = Authority::open(&data_dir.join(AUTHORITY)).map_err(|error| failed(&error))?;
    let secret = Secret::random().map_err(|error| failed(&error))?;
    let token = Token {
        pin: authority.pin(),
        secret,
    };
    // In the file first: there is never a token that nobody has.
    let path = data_dir.join(FIRST_TOKEN);
    keep(&path, &token)?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let first = people::Token::first(token.secret.digest(), now);
    let batch = database::read(&store, |view| people::replace(view, &first));
    let batch = batch.map_err(|error| failed(&error))?;
    store
        .commit(&batch.into_commit())
        .map_err(|error| failed(&error))?;
    let made = Made {
        file: path.display().to_string(),
    };
    output::one(&mut Out::stdout(), format, &made, |out| {
        writeln!(out, "the token admin is in {}", made.file)?;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps a token in a file for its owner alone, in the place of the one that is there.
pub(crate) fn keep(path: &Path, token: &Token) -> Result<(), Failure> {
    let unwritten = |error: std::io::Error| {
        Failure::Failed(format!("the token cannot be kept in {}: {error}", path.display()))
    };
    private_file::replace(path, &format!("{token}\n")).map_err(unwritten)
}
