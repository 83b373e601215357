//! The one binary of the agent; see the library's first page for its faces.

use std::process::ExitCode;

use farrier_agent::Wiping;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    farrier_agent::run(&arguments)
}
