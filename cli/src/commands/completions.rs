//! `farrier completions`: a script by which a shell asks this program for the end of a word.

use std::process::ExitCode;

use clap_complete::Shell;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use super::candidates::ASKED_BY;
use crate::failure::Failure;
use crate::terminal::Out;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell to print it for
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  farrier completions bash > /etc/bash_completion.d/farrier
  farrier completions zsh > /usr/local/share/zsh/site-functions/_farrier
  farrier completions fish > ~/.config/fish/completions/farrier.fish

Ids, names and labels come from the server that the command would ask, within a second or not at all.
";

/// zsh reads a file of its function path when the function is first called: this call is answered, too.
const FIRST_CALL: &str = "\
if [ \"$funcstack[1]\" = _farrier ]; then
    _clap_dynamic_completer_farrier \"$@\"
fi
";

pub(crate) fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Elvish => &Elvish,
        Shell::Fish => &Fish,
        Shell::PowerShell => &Powershell,
        Shell::Zsh => &Zsh,
        other => {
            return Err(Failure::Usage(format!(
                "no completion script for {other} is known"
            )));
        }
    };
    let mut script = Vec::new();
    shell.write_registration(ASKED_BY, "farrier", "farrier", "farrier", &mut script)?;
    if args.shell == Shell::Zsh {
        script.extend_from_slice(FIRST_CALL.as_bytes());
    }
    std::io::Write::write_all(Out::stdout().as_it_is()?, &script)?;
    Ok(ExitCode::SUCCESS)
}
