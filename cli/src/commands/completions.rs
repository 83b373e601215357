//! `farrier completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::failure::Failure;
use crate::terminal::Out;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  farrier completions bash > /etc/bash_completion.d/farrier")]
pub(crate) struct CompletionsArgs {
    /// The shell to print it for
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    // Into memory first: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "farrier", &mut script);
    std::io::Write::write_all(Out::stdout().as_it_is()?, &script)?;
    Ok(ExitCode::SUCCESS)
}
