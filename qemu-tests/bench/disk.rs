//! `cargo xtask bench disk`: Farrier's image write beside `curl | zstd -dc | dd`, onto the same loop device.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::measure::{Running, median, next, output, text, timed};
use crate::{Outcome, build, packages};

const NEEDS: &[packages::Need] = &[
    packages::need("curl", "curl", "downloads, to compare with"),
    packages::need("zstd", "zstd", "unpacks, to compare with"),
    packages::need("losetup", "mount", "makes the loop device"),
    packages::need("dd", "coreutils", "writes, to compare with"),
    packages::need("sha256sum", "coreutils", "gives the image's digest"),
];

const MIB: usize = 1 << 20;

/// Runs both, in turn, and prints each wall time, the medians and their ratio.
pub(crate) fn run(args: &[&str]) -> Outcome<ExitCode> {
    let Options {
        mib,
        rounds,
        debug,
        yes,
    } = parse(args)?;
    packages::install(NEEDS, yes)?;
    // What machines run is compiled for size.
    let profile = if debug { "dev" } else { "agent" };
    build::cargo(
        &["build", "--profile", profile, "--package", "disk", "--examples"],
        &[],
    )?;
    let built = if debug { "debug/examples" } else { "agent/examples" };
    let examples = build::target_directory().join(built);

    let folder = build::lab_directory().join("bench");
    std::fs::create_dir_all(&folder).map_err(|error| format!("making {}: {error}", folder.display()))?;
    let image = folder.join(format!("mixed-{mib}.raw.zst"));
    if !image.exists() {
        println!("Making an image of {mib} MiB: 40 % zero, 30 % text, 30 % random …");
        make_image(&image, mib)?;
    }
    let sha256 = output(Command::new("sha256sum").arg(&image))?;
    let sha256 = sha256.split(' ').next().unwrap_or_default().to_owned();

    let server = Server::start(&examples.join("serve_directory"), &folder)?;
    let url = format!("http://{}/mixed-{mib}.raw.zst", server.address);
    let disk = LoopDevice::attach(&folder.join("target.raw"), (mib + 64) * MIB)?;

    let mut ours = Vec::new();
    let mut peers = Vec::new();
    for round in 1..=rounds {
        let mut pipe = Command::new("sh");
        pipe.arg("-c").arg(format!(
            "curl -sf {url} | zstd -dcq | dd of={} oflag=direct bs=4M iflag=fullblock status=none",
            disk.path
        ));
        peers.push(timed(&mut pipe)?);
        let mut farrier = Command::new(examples.join("write_image"));
        farrier
            .args([&url, &disk.path, &sha256])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        ours.push(timed(&mut farrier)?);
        let last = |times: &[Duration]| times.last().map_or(0.0, Duration::as_secs_f64);
        println!(
            "round {round}: curl | zstd | dd {:.2} s, farrier {:.2} s",
            last(&peers),
            last(&ours)
        );
    }
    let (peer, own) = (median(peers), median(ours));
    let packed = std::fs::metadata(&image)
        .map_err(|error| error.to_string())?
        .len();
    println!("\nimage: {mib} MiB, {packed} B as zstd -3; farrier checks its SHA-256, the pipe does not");
    println!("{:<24} {:>8} {:>12}", "median of wall time", "s", "MiB/s");
    for (name, time) in [("curl | zstd -dc | dd", peer), ("farrier", own)] {
        println!(
            "{name:<24} {:>8.2} {:>12.0}",
            time.as_secs_f64(),
            mib as f64 / time.as_secs_f64()
        );
    }
    println!(
        "ratio farrier / pipe: {:.2}",
        own.as_secs_f64() / peer.as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    mib: usize,
    rounds: usize,
    debug: bool,
    yes: bool,
}

fn parse(args: &[&str]) -> Outcome<Options> {
    let mut options = Options {
        mib: 1024,
        rounds: 5,
        debug: false,
        yes: false,
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse().ok());
            value
                .filter(|&number| number > 0)
                .ok_or_else(|| format!("{word} takes a number from 1"))
        };
        match *word {
            "--mib" => options.mib = number()?,
            "--rounds" => options.rounds = number()?,
            "--debug" => options.debug = true,
            "--yes" => options.yes = true,
            other => {
                return Err(format!(
                    "bench disk has no option {other:?}; it has --mib N, --rounds N, --debug, --yes"
                ));
            }
        }
    }
    Ok(options)
}

fn make_image(path: &Path, mib: usize) -> Outcome<()> {
    let mut zstd = Command::new("zstd")
        .args(["-q", "-3", "-f", "-o"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("running zstd: {error}"))?;
    let mut pipe = BufWriter::new(zstd.stdin.take().ok_or("zstd has no input")?);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0_u8; MIB];
    for number in 0..mib {
        match number % 10 {
            0..4 => block.fill(0),
            4..7 => text(&mut block, &mut random),
            _ => block
                .chunks_exact_mut(8)
                .for_each(|chunk| chunk.copy_from_slice(&next(&mut random).to_le_bytes())),
        }
        pipe.write_all(&block)
            .map_err(|error| format!("writing to zstd: {error}"))?;
    }
    drop(
        pipe.into_inner()
            .map_err(|error| format!("writing to zstd: {error}"))?,
    );
    match zstd.wait() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("zstd failed: {other:?}")),
    }
}

/// An HTTP server on loopback, ended with this value.
struct Server {
    _process: Running,
    address: String,
}

impl Server {
    fn start(program: &Path, folder: &Path) -> Outcome<Self> {
        let mut child = Command::new(program)
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("running {}: {error}", program.display()))?;
        let mut address = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut address);
        }
        Ok(Self {
            _process: Running(child),
            address: address.trim().to_owned(),
        })
    }
}

/// A loop device over a sparse file, detached and removed with this value.
struct LoopDevice {
    path: String,
    file: PathBuf,
}

impl LoopDevice {
    fn attach(file: &Path, len_bytes: usize) -> Outcome<Self> {
        File::create(file)
            .and_then(|backing| backing.set_len(len_bytes as u64))
            .map_err(|error| format!("making {}: {error}", file.display()))?;
        let path = output(Command::new("losetup").args(["--find", "--show"]).arg(file))
            .map_err(|message| format!("{message} (loop devices need root)"))?;
        Ok(Self {
            path,
            file: file.to_owned(),
        })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = output(Command::new("losetup").args(["--detach", &self.path]));
        let _ = std::fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_numbers_and_switches() {
        let given =
            parse(&["--mib", "20", "--rounds", "1", "--debug"]).unwrap_or_else(|error| panic!("{error}"));
        let wanted = Options {
            mib: 20,
            rounds: 1,
            debug: true,
            yes: false,
        };
        assert_eq!(given, wanted);
        for (args, words) in [
            (&["--mib"][..], "--mib takes a number"),
            (&["--rounds", "0"], "--rounds takes a number from 1"),
            (&["--mib", "big"], "--mib takes a number"),
            (&["--size", "1"], "no option \"--size\"; it has --mib N"),
        ] {
            let error = parse(args).err().unwrap_or_default();
            assert!(error.contains(words), "{error}");
        }
    }
}
