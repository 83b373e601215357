//! What tests start; the agent has the same as `farrier-agent container-init`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    container::init::serve()
}
