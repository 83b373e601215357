//! `cargo xtask test`: every check there is, part by part, and one line that counts them.

mod choice;
mod long;
mod ordinary;
mod parts;
mod tally;

use std::process::ExitCode;

use crate::{Outcome, packages};
use choice::Choice;
use parts::Length;
use tally::Tally;

/// Runs the parts that were asked for. The last line printed is `N passed, N failed`.
pub(crate) fn run(args: &[&str]) -> Outcome<ExitCode> {
    if args.iter().any(|arg| matches!(*arg, "--help" | "-h")) {
        print!("{}", choice::help());
        return Ok(ExitCode::SUCCESS);
    }
    let choice = Choice::parse(args)?;
    packages::install(packages::TEST, choice.assume_yes)?;
    let mut tally = Tally::default();
    for part in choice.parts() {
        tally.part(part.name, part.share(choice.length), |tally| {
            (part.run)(&choice, tally);
        });
    }
    Ok(tally.close(choice.length == Length::All))
}
