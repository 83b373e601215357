//! `farrier image diff` and `farrier image verify`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::Difference;

use super::directory;
use crate::failure::{Failure, chain};
use crate::terminal::{Out, is_shown_to_a_person, say};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier image diff boot-old boot

Says which packages have another version, which modules, firmware and other
files of the archives, and which files beside them, are not the same, and from
which byte on (counted from 0). Exits with 1 when there is a difference.")]
pub(crate) struct DiffArgs {
    /// Directory of the one boot image
    #[arg(value_name = "A", value_parser = directory)]
    one: PathBuf,
    /// Directory of the other one
    #[arg(value_name = "B", value_parser = directory)]
    other: PathBuf,
}

pub(super) fn diff(args: &DiffArgs) -> Result<ExitCode, Failure> {
    let differences = image::diff(&args.one, &args.other).map_err(|error| Failure::Failed(chain(&error)))?;
    if differences.is_empty() {
        if is_shown_to_a_person() {
            say("The two are the same.");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = differences.into_iter().map(row);
    crate::output::table(&mut Out::stdout(), &["WHAT", "NAME", "A", "B", "FROM BYTE"], rows)?;
    Ok(ExitCode::FAILURE)
}

fn row(difference: Difference) -> Vec<String> {
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    vec![
        difference.kind.to_owned(),
        difference.name,
        or_none(difference.from),
        or_none(difference.to),
        difference
            .at_byte
            .map_or_else(String::new, |byte| byte.to_string()),
    ]
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier image verify /var/lib/farrier/boot

Holds every file against manifest.json, by size and SHA-256, those in the
initramfs and the other archives too. Exits with 1 when something is damaged. `farrier serve` looks at
the files beside the manifest when it starts, and does not serve damaged ones.")]
pub(crate) struct VerifyArgs {
    /// Directory of the boot image
    #[arg(value_name = "DIR", value_parser = directory)]
    boot_dir: PathBuf,
}

pub(super) fn verify(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let boot_dir = &args.boot_dir;
    let verified = image::verify(boot_dir).map_err(|error| Failure::Failed(chain(&error)))?;
    let mut faults = verified.faults.clone();
    if faults.is_empty() {
        let inside = image::contents(boot_dir, &verified.manifest);
        faults = inside.map_err(|error| Failure::Failed(chain(&error)))?;
    }
    for other in &verified.others {
        say(format_args!(
            "no build made {}: it is left alone",
            boot_dir.join(other).display()
        ));
    }
    if faults.is_empty() {
        let manifest = &verified.manifest;
        let inside = match manifest.archives().len() {
            1 => "the initramfs".to_owned(),
            archives => format!("{archives} archives"),
        };
        writeln!(
            Out::stdout(),
            "{} is whole: {} files, {} more in {inside}, kernel {}",
            boot_dir.display(),
            manifest.files.len(),
            manifest.contents.len(),
            manifest.kernel
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    for fault in &faults {
        say(fault);
    }
    Err(damaged(
        boot_dir,
        &format!("{} of its files are not as they were built", faults.len()),
    ))
}

/// What is said of a damaged boot image, with the cure.
pub(crate) fn damaged(boot_dir: &Path, what: &str) -> Failure {
    Failure::Failed(format!(
        "the boot image in {directory} is damaged: {what}; build it again with `farrier image build --boot-dir {directory}`",
        directory = boot_dir.display()
    ))
}
