//! Developer chores: `cargo xtask lab`, `test`, `fuzz`, `simulate`, `bench`.
//!
//! A launcher: it has no dependencies, compiles in seconds, builds what a chore needs and hands over to it.

#![forbid(unsafe_code)]

mod build;
// These lie with the other benches, and need this launcher only.
#[path = "../../qemu-tests/bench/containers.rs"]
mod containers_bench;
#[path = "../../qemu-tests/bench/disk.rs"]
mod disk_bench;
mod fuzz;
mod lab;
#[path = "../../qemu-tests/bench/measure.rs"]
mod measure;
mod packages;
mod simulate;
mod test;

use std::process::ExitCode;

/// What went wrong, in words.
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["help" | "--help" | "-h", ..] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        ["lab", rest @ ..] => lab::run(rest),
        ["test", rest @ ..] => test::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["simulate", rest @ ..] => simulate::run(rest),
        ["bench", "boot", rest @ ..] => lab::bench_boot(rest),
        ["bench", "containers", rest @ ..] => containers_bench::run(rest),
        ["bench", "disk", rest @ ..] => disk_bench::run(rest),
        ["bench", "image", rest @ ..] => lab::bench_image(rest),
        ["bench", "lists", rest @ ..] => lab::bench_lists(rest),
        ["bench", "workflows", rest @ ..] => lab::bench_workflows(rest),
        ["bench", ..] => Err(
            "say which bench: cargo xtask bench boot | containers | disk | image | lists | workflows"
                .to_owned(),
        ),
        [other, ..] => Err(format!("no chore is called {other:?}; see cargo xtask help")),
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("xtask: {message}");
        ExitCode::FAILURE
    })
}

const HELP: &str = "\
Developer chores of Farrier

  cargo xtask lab [OPTIONS]     netboot a virtual machine and install Debian on it (see: cargo xtask lab --help)
  cargo xtask lab enter         a shell in the network of a lab that runs
  cargo xtask test [OPTIONS]    formatting, clippy, documentation, tests, fuzz targets, end-to-end tests in QEMU
      --only PART               one part of it (see: cargo xtask test --help)
      --all                     everything, in three hours, of parts that can be run alone and resumed
      --yes                     install missing packages without asking
  cargo xtask fuzz TARGET       one parser of outside bytes, until it breaks (see: cargo xtask fuzz --help)
  cargo xtask simulate          the coordinator and agents in simulated worlds, where everything goes wrong
      --seeds N [--seed S]      this many worlds, from this seed on (see: cargo xtask simulate --help)
  cargo xtask bench boot        how long a netboot takes, stage by stage, beside a plain boot of the same kernel
      --boots N --firmware F    so many boots of each firmware, or of one (see: cargo xtask bench boot --help)
  cargo xtask bench containers  how long an image takes to come and to start, beside containerd and runc
      --mib N --rounds N        an image of so many MiB, pulled so often by each
  cargo xtask bench disk        how long an image write takes, beside curl | zstd | dd
      --mib N --rounds N        an image of so many MiB, written so often by each
  cargo xtask bench image       what boot images cost: bytes on the wire, packing a changed agent, memory
      --profile NAME --boots N  of one profile, with so many boots (see: cargo xtask bench image --help)
  cargo xtask bench lists       how long a person waits for a list of 5,000 machines or workflows
  cargo xtask bench workflows   how many reports of agents a server takes, and how fast it answers
";
