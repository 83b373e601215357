//! `cargo xtask bench disk`: Farrier's image write beside `curl | zstd -dc | dd` and its like, onto the same loop device.

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
    packages::need("gzip", "gzip", "unpacks, to compare with"),
    packages::need("xz", "xz-utils", "unpacks, to compare with"),
    packages::need("bzip2", "bzip2", "unpacks, to compare with"),
    packages::need("qemu-img", "qemu-utils", "converts, to compare with"),
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
    let plain = folder.join(format!("mixed-{mib}.raw"));
    if !plain.exists() {
        println!("Making an image of {mib} MiB: 40 % zero, 30 % text, 30 % random …");
        make_image(&plain, mib)?;
    }
    let server = Server::start(&examples.join("serve_directory"), &folder)?;
    let disk = LoopDevice::attach(&folder.join("target.raw"), (mib + 64) * MIB)?;
    let bench = Bench {
        write_image: examples.join("write_image"),
        folder: &folder,
        plain: &plain,
        address: &server.address,
        disk: &disk.path,
        rounds,
    };
    let rows = CASES
        .iter()
        .map(|case| bench.case(case))
        .collect::<Outcome<Vec<Row>>>()?;

    println!(
        "\nimage: {mib} MiB; median of {rounds} rounds; farrier checks the SHA-256 of the download, the others check nothing"
    );
    println!(
        "{:<8} {:>12} {:>9} {:>11} {:>13} {:>7}",
        "packing", "packed B", "peer s", "farrier s", "farrier MiB/s", "ratio"
    );
    for row in &rows {
        println!(
            "{:<8} {:>12} {:>9.2} {:>11.2} {:>13.0} {:>7.2}",
            row.packing,
            row.packed_bytes,
            row.peer.as_secs_f64(),
            row.farrier.as_secs_f64(),
            mib as f64 / row.farrier.as_secs_f64(),
            row.farrier.as_secs_f64() / row.peer.as_secs_f64()
        );
    }
    bench.read_back(mib)?;
    Ok(ExitCode::SUCCESS)
}

/// One packing, and what people do with it.
struct Case {
    packing: &'static str,
    extension: &'static str,
    /// Makes it of `$1`, as `$2`.
    pack: &'static str,
    /// Brings it from `$1` to the disk `$2`.
    peer: &'static str,
}

const CASES: [Case; 6] = [
    Case {
        packing: "raw",
        extension: "raw",
        pack: "true",
        peer: "curl -sf $1 | dd of=$2 oflag=direct bs=4M iflag=fullblock status=none",
    },
    Case {
        packing: "zstd",
        extension: "raw.zst",
        pack: "zstd -q -3 -f -o $2 $1",
        peer: "curl -sf $1 | zstd -dcq | dd of=$2 oflag=direct bs=4M iflag=fullblock status=none",
    },
    Case {
        packing: "gzip",
        extension: "raw.gz",
        pack: "gzip -1 -c $1 > $2",
        peer: "curl -sf $1 | gzip -dc | dd of=$2 oflag=direct bs=4M iflag=fullblock status=none",
    },
    Case {
        packing: "xz",
        extension: "raw.xz",
        pack: "xz -1 -T1 -c $1 > $2",
        peer: "curl -sf $1 | xz -dc | dd of=$2 oflag=direct bs=4M iflag=fullblock status=none",
    },
    Case {
        packing: "bzip2",
        extension: "raw.bz2",
        pack: "bzip2 -1 -c $1 > $2",
        peer: "curl -sf $1 | bzip2 -dc | dd of=$2 oflag=direct bs=4M iflag=fullblock status=none",
    },
    Case {
        packing: "qcow2",
        extension: "qcow2",
        pack: "qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd $1 $2",
        // It reads what it converts in the order of the disk: from a file.
        peer: "curl -sf -o $2.part $1 && qemu-img convert -n -t none -f qcow2 -O raw $2.part $2 && rm $2.part",
    },
];

struct Row {
    packing: &'static str,
    packed_bytes: u64,
    peer: Duration,
    farrier: Duration,
}

struct Bench<'a> {
    write_image: PathBuf,
    folder: &'a Path,
    plain: &'a Path,
    address: &'a str,
    disk: &'a str,
    rounds: usize,
}

impl Bench<'_> {
    fn case(&self, case: &Case) -> Outcome<Row> {
        let image = self.plain.with_extension(case.extension);
        if !image.exists() {
            println!("Packing it: {} …", case.packing);
            let packed = output(
                Command::new("sh")
                    .args(["-c", case.pack, "sh"])
                    .arg(self.plain)
                    .arg(&image),
            );
            if packed.is_err() {
                let _ = std::fs::remove_file(&image);
            }
            packed?;
        }
        let name = image.strip_prefix(self.folder).unwrap_or(&image);
        let url = format!("http://{}/{}", self.address, name.display());
        let sha256 = digest(&image)?;
        // `qemu-img` has its copy beside the others, not in /dev.
        let link = self.folder.join("disk");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(self.disk, &link)
            .map_err(|error| format!("{}: {error}", link.display()))?;
        let (mut peers, mut ours) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            peers.push(timed(
                Command::new("sh").args(["-c", case.peer, "sh", &url]).arg(&link),
            )?);
            ours.push(timed(&mut self.write(&url, &sha256, &[]))?);
            let last = |times: &[Duration]| times.last().map_or(0.0, Duration::as_secs_f64);
            println!(
                "{} round {round}: peer {:.2} s, farrier {:.2} s",
                case.packing,
                last(&peers),
                last(&ours)
            );
        }
        let _ = std::fs::remove_file(&link);
        let packed = std::fs::metadata(&image).map_err(|error| error.to_string())?;
        Ok(Row {
            packing: case.packing,
            packed_bytes: packed.len(),
            peer: median(peers),
            farrier: median(ours),
        })
    }

    /// What reading back adds, beside the disk's own reading.
    fn read_back(&self, mib: usize) -> Outcome<()> {
        let image = self.plain.with_extension("raw.zst");
        let url = format!("http://{}/mixed-{mib}.raw.zst", self.address);
        let sha256 = digest(&image)?;
        let (mut with, mut without, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            without.push(timed(&mut self.write(&url, &sha256, &[]))?);
            with.push(timed(&mut self.write(&url, &sha256, &["read-back"]))?);
            let mut read = Command::new("dd");
            read.args(["of=/dev/null", "iflag=direct", "bs=4M", "status=none"])
                .args([format!("if={}", self.disk), format!("count={}", mib.div_ceil(4))]);
            reads.push(timed(&mut read)?);
        }
        let (with, without, read) = (median(with), median(without), median(reads));
        let added = with.saturating_sub(without).as_secs_f64();
        println!(
            "read back: adds {added:.2} s to {:.2} s; dd reads as much in {:.2} s: ratio {:.2}",
            without.as_secs_f64(),
            read.as_secs_f64(),
            added / read.as_secs_f64()
        );
        Ok(())
    }

    fn write(&self, url: &str, sha256: &str, more: &[&str]) -> Command {
        let mut command = Command::new(&self.write_image);
        command
            .args([url, self.disk, sha256])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

fn digest(file: &Path) -> Outcome<String> {
    let line = output(Command::new("sha256sum").arg(file))?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
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
    let failed = |error: std::io::Error| format!("making {}: {error}", path.display());
    // Under its name only when it is whole.
    let part = path.with_extension("part");
    let mut file = BufWriter::new(File::create(&part).map_err(failed)?);
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
        file.write_all(&block).map_err(failed)?;
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?;
    std::fs::rename(&part, path).map_err(failed)
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
