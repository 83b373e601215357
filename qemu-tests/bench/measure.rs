//! What the benches of xtask share: times, medians, and bytes that pack as those of people do.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::Outcome;

/// Words out of a small vocabulary, with numbers between them: packs about as well as logs do.
pub(crate) fn text(block: &mut [u8], random: &mut u64) {
    const WORDS: [&str; 8] = [
        "machine", "attached", "disk", "written", "kernel", "error", "address", "workflow",
    ];
    let mut line = String::with_capacity(block.len() + 64);
    while line.len() < block.len() {
        let value = next(random);
        line.push_str(WORDS.get((value % 8) as usize).copied().unwrap_or_default());
        line.push_str(&format!(" {:x}\n", value >> 40));
    }
    block.copy_from_slice(line.as_bytes().get(..block.len()).unwrap_or_default());
}

/// The next of a row of random numbers: xorshift64.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// How long a command takes.
pub(crate) fn timed(command: &mut Command) -> Outcome<Duration> {
    let started = Instant::now();
    let status = command
        .status()
        .map_err(|error| format!("running {command:?}: {error}"))?;
    match status.success() {
        true => Ok(started.elapsed()),
        false => Err(format!("{command:?} failed ({status})")),
    }
}

/// The one in the middle.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let output = command
        .output()
        .map_err(|error| format!("running {command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// A process that ends with this value.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
