//! `farrier store`: what a server keeps, while no server has it open.

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use coordinator::database::formats;
use coordinator::secrets::KEY_FILE;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use store::offline::{self, Import, OfflineError, Progress, Report, Segment, Summary, Target};
use store::{RedbStore, Store};

use crate::failure::{Failure, chain};
use crate::output::{self, Format};
use crate::terminal::{Out, say};

/// Rows of secrets.
const SECRETS: &[u8] = b"secret/";
/// A bar is shown for what takes longer.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
    /// The server's data directory
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "FARRIER_DATA_DIR",
        hide_env_values = true,
        default_value = "/var/lib/farrier"
    )]
    data_dir: PathBuf,
    /// How answers are printed [default: table]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum StoreCommand {
    /// Read everything and say whether it is sound; changes nothing
    #[command(after_help = "\
Examples:
  farrier store check
  farrier store check --data-dir /srv/farrier -o json

Exit code 1 when something is damaged.")]
    Check,
    /// Write everything to a directory, or as a tar archive to standard output
    #[command(after_help = "\
Examples:
  farrier store export /backup/2026-11-21
  farrier store export - | zstd > farrier.tar.zst

Keys and values are lines of JSON, blobs are files. The server must be stopped.")]
    Export {
        /// An empty or new directory, or - for standard output
        #[arg(value_name = "DIR")]
        target: String,
    },
    /// Make a store out of an export
    #[command(after_help = "\
Examples:
  farrier store import /backup/2026-11-21
  zstd -dc farrier.tar.zst | farrier store import - --data-dir /srv/farrier

A damaged export is refused, and what was there stays.")]
    Import {
        /// The export's directory, or - for an archive on standard input
        #[arg(value_name = "DIR")]
        source: String,
        /// Replace the store that is there
        #[arg(long)]
        force: bool,
    },
    /// Make the token `admin` anew, and keep it in the data directory: when all tokens of role admin are lost
    #[command(after_help = "\
Example:
  farrier store admin-token

The server must be stopped. The token `admin` that there was is good no longer; others are left alone.")]
    AdminToken,
}

pub(crate) fn run(args: StoreArgs, default_output: Format) -> Result<ExitCode, Failure> {
    super::log_to_stderr(super::LogFormat::Text, "warn");
    let format = args.output.unwrap_or(default_output);
    let mut bar = Bar::new();
    match args.command {
        StoreCommand::Check => check(&args.data_dir, format, &mut bar),
        StoreCommand::Export { target } => export(&args.data_dir, &target, format, &mut bar),
        StoreCommand::AdminToken => super::admin_token::run(&args.data_dir, format),
        StoreCommand::Import { source, force } => import(&args.data_dir, &source, force, format, &mut bar),
    }
}

fn check(data: &Path, format: Format, bar: &mut Bar) -> Result<ExitCode, Failure> {
    let report = offline::check(data, &coordinator::archive::named, &mut |at| bar.show(at));
    bar.clear();
    let report = report.map_err(failure)?;
    let mut out = Out::stdout();
    output::one(&mut out, format, &report, |out| table(out, &report))?;
    for problem in &report.problems {
        say(format_args!("farrier: {problem}"));
    }
    if report.problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Failed(format!(
        "{} is damaged: restore it from a backup with `farrier store import`",
        report.file.display()
    )))
}

fn table(out: &mut Out, report: &Report) -> Result<(), Failure> {
    let row = |segment: &Segment| {
        vec![
            segment.name.clone(),
            segment.keys.to_string(),
            (segment.key_bytes + segment.value_bytes).to_string(),
        ]
    };
    let blobs = vec![
        "(blobs)".to_owned(),
        report.blobs.blobs.to_string(),
        report.blobs.bytes.to_string(),
    ];
    let rows = report.segments.iter().map(row).chain([blobs]);
    output::table(out, &["KEYS", "COUNT", "BYTES"], rows)?;
    let state = if report.problems.is_empty() {
        "sound"
    } else {
        "DAMAGED"
    };
    Ok(writeln!(
        out,
        "\n{}: {state}, {} keys, {} B, revision {}, rows of format {}; {} blobs that no key names",
        report.file.display(),
        report.keys,
        report.file_bytes,
        report.revision,
        report.rows.newest,
        report.blobs.unnamed
    )?)
}

fn export(data: &Path, target: &str, format: Format, bar: &mut Bar) -> Result<ExitCode, Failure> {
    let has_secrets = Cell::new(false);
    let named = |row: &store::KeyValue| {
        if row.key.starts_with(SECRETS) {
            has_secrets.set(true);
        }
        coordinator::archive::named(row)
    };
    let done = if target == "-" {
        let mut out = Out::stdout();
        if out.is_terminal() {
            return Err(Failure::Usage(
                "an archive is nothing for a terminal: send it to a file, or name a directory".into(),
            ));
        }
        let mut archive = out.as_it_is()?;
        let done = offline::export(data, &named, Target::Tar(&mut archive), &mut |at| bar.show(at));
        archive.flush()?;
        done
    } else {
        let target = Target::Directory(Path::new(target));
        offline::export(data, &named, target, &mut |at| bar.show(at))
    };
    bar.clear();
    let summary = done.map_err(failure)?;
    if has_secrets.get() {
        say(format_args!(
            "farrier: the secrets in it open with {} alone, which is not in it: keep a copy apart",
            data.join(KEY_FILE).display()
        ));
    }
    if target == "-" {
        say(format_args!("farrier: exported {}", in_words(&summary)));
        return Ok(ExitCode::SUCCESS);
    }
    answer(format, &summary, "exported", "directory", target)
}

fn import(
    data: &Path,
    source: &str,
    force: bool,
    format: Format,
    bar: &mut Bar,
) -> Result<ExitCode, Failure> {
    let mut input;
    let from = if source == "-" {
        input = std::io::stdin().lock();
        Import::Tar(&mut input)
    } else {
        Import::Directory(Path::new(source))
    };
    let done = offline::import(from, data, force, formats::CURRENT.reader(), &mut |at| {
        bar.show(at)
    });
    bar.clear();
    let summary = done.map_err(failure)?;
    say_of_key(data)?;
    answer(
        format,
        &summary,
        "imported",
        "data directory",
        &data.to_string_lossy(),
    )
}

/// An export has secrets sealed, and not what opens them.
fn say_of_key(data: &Path) -> Result<(), Failure> {
    let store = RedbStore::open(data.join(offline::FILE)).map_err(|error| Failure::Failed(chain(&error)))?;
    let after: Vec<u8> = [SECRETS.strip_suffix(b"/").unwrap_or(SECRETS), b"0"].concat();
    let first = store
        .range(SECRETS, &after, 1)
        .map_err(|error| Failure::Failed(chain(&error)))?;
    let file = data.join(KEY_FILE);
    if !first.is_empty() && !file.exists() {
        say(format_args!(
            "farrier: there are secrets in it, and nothing here that opens them: put the {KEY_FILE} of the server that it \
             was exported from to {}",
            file.display()
        ));
    }
    Ok(())
}

fn answer(
    format: Format,
    summary: &Summary,
    done: &str,
    kind: &str,
    place: &str,
) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Answer<'a> {
        place: &'a str,
        #[serde(flatten)]
        summary: &'a Summary,
    }
    let mut out = Out::stdout();
    output::one(&mut out, format, &Answer { place, summary }, |out| {
        Ok(writeln!(out, "{done} {} ({kind} {place})", in_words(summary))?)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(summary: &Summary) -> String {
    format!(
        "{} keys and {} blobs at revision {}",
        summary.keys, summary.blobs, summary.revision
    )
}

fn failure(error: OfflineError) -> Failure {
    match error {
        OfflineError::NotFound { .. } => Failure::NotFound(chain(&error)),
        OfflineError::NotEmpty { .. } | OfflineError::TargetInUse { .. } => Failure::Usage(chain(&error)),
        error => Failure::Failed(chain(&error)),
    }
}

/// Says how far it is, to a person who has waited a while.
struct Bar {
    began: Instant,
    shown: Option<(&'static str, ProgressBar)>,
}

impl Bar {
    fn new() -> Bar {
        Bar {
            began: Instant::now(),
            shown: None,
        }
    }

    fn show(&mut self, at: Progress) {
        if self.began.elapsed() < PROGRESS_AFTER {
            return;
        }
        if self.shown.as_ref().is_none_or(|(what, _)| *what != at.what) {
            self.clear();
            // It draws nothing where standard error is no terminal.
            let bar = ProgressBar::new(at.total);
            let style = ProgressStyle::with_template("{prefix} {bar:30} {human_pos}/{human_len} {eta}");
            bar.set_style(style.expect("a constant template"));
            bar.set_prefix(at.what);
            self.shown = Some((at.what, bar));
        }
        if let Some((_, bar)) = &self.shown {
            bar.set_length(at.total.max(at.done));
            bar.set_position(at.done);
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.shown.take() {
            bar.finish_and_clear();
        }
    }
}
