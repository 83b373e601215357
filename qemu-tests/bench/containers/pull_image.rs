//! `pull_image REFERENCE FOLDER [SERVER]`: pulls an image from a registry into a fresh folder, as the agent does; a server of Farrier's
//! is asked first. Prints the seconds that it took and the most memory that it had, in KiB.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use oci::cache::Cache;
use oci::registry::{Progress, Registries};
use oci::{Pull, Reference};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (reference, folder, server) = match args.as_slice() {
        [reference, folder] => (reference, folder, None),
        [reference, folder, server] => (reference, folder, Some(server.as_str())),
        _ => {
            eprintln!("usage: pull_image REFERENCE FOLDER [SERVER]");
            return ExitCode::from(2);
        }
    };
    match pull(reference, Path::new(folder), server).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{reference}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn pull(
    reference: &str,
    folder: &Path,
    server: Option<&str>,
) -> Result<(), Box<dyn std::error::Error>> {
    let reference: Reference = reference.parse()?;
    let mut registries = Registries::default();
    if let Some(server) = server {
        registries.ask_first(server)?;
    }
    let begin = Instant::now();
    let cache = Cache::open(folder, u64::MAX)?;
    let image = Pull::default()
        .run(&cache, &reference, &registries, &Progress::default())
        .await?;
    let took = begin.elapsed();
    drop(image);
    println!("{:.3} {}", took.as_secs_f64(), peak_kib()?);
    Ok(())
}

/// `VmHWM` of proc_pid_status(5).
fn peak_kib() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = found.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok());
    Ok(kib.unwrap_or_default())
}
