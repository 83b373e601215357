//! `cargo xtask bench containers`: images that are pulled and started by Farrier, beside containerd and runc, on the same machine in the
//! same run; a virtual machine that starts them beside crun; and a fleet that pulls through the server.

#[path = "containers/fleet.rs"]
mod fleet;
#[path = "containers/guest.rs"]
mod guest;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{Running, median, next, output, text, timed};
use crate::{Outcome, build, packages};

const NEEDS: &[packages::Need] = &[
    packages::need("containerd", "containerd", "pulls and starts, to compare with"),
    packages::need("runc", "runc", "starts, to compare with"),
    packages::need("crun", "crun", "starts in a guest, to compare with"),
    packages::need("qemu-system-x86_64", "qemu-system-x86", "runs the guest"),
    packages::need("cpio", "cpio", "packs the root of the guest"),
    packages::need("xz", "xz-utils", "unpacks a module for the guest"),
    packages::need("docker-registry", "docker-registry", "has the images"),
    packages::need("ip", "iproute2", "makes networks of the fleet's own"),
    packages::need("tc", "iproute2", "bounds the link of the fleet"),
    packages::need("curl", "curl", "gives images to the registry"),
    packages::need("tar", "tar", "makes layers"),
    packages::need("gzip", "gzip", "packs layers"),
    packages::need("zstd", "zstd", "packs layers"),
    packages::need("sha256sum", "coreutils", "gives the layers' digests"),
    packages::need(
        "/usr/share/doc/busybox-static",
        "busybox-static",
        "the program that is started",
    ),
];

const LAYERS: usize = 8;
/// Of the image that twenty machines pull.
const FLEET_MIB: usize = 16;
/// Of a file of the big image.
const FILE_BYTES: usize = 256 << 10;
/// For a process to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs them in turn, and prints medians and ratios.
pub(crate) fn run(args: &[&str]) -> Outcome<ExitCode> {
    let options = parse(args)?;
    packages::install(NEEDS, options.yes)?;
    build::cargo(
        &[
            "build",
            "--release",
            "--package",
            "oci",
            "--example",
            "pull_image",
        ],
        &[],
    )?;
    build::cargo(
        &[
            "build",
            "--release",
            "--package",
            "container",
            "--example",
            "start_image",
        ],
        &[],
    )?;
    let build::Binaries { farrier, agent } = build::binaries(build::Profile::Release)?;
    let examples = build::target_directory().join("release/examples");
    let folder = build::lab_directory().join("bench/containers");
    make(&folder)?;

    println!(
        "image: {LAYERS} layers, {} MiB in files of {} KiB\n",
        options.mib,
        FILE_BYTES >> 10
    );
    let registry = Registry::start(&folder)?;
    for packing in [Packing::Gzip, Packing::Zstd] {
        let reference = registry.image_of(&folder, options.mib, packing)?;
        pulls(
            &folder,
            &examples.join("pull_image"),
            &reference,
            packing,
            &options,
        )?;
    }
    let small = registry.busybox(&folder)?;
    let start_image = examples.join("start_image");
    starts(&folder, &start_image, &agent, &small, &options)?;
    let mut prepare = Command::new(&farrier);
    prepare
        .args(["lab", "prepare", "--profile", "lab"])
        .args(options.yes.then_some("--yes"))
        .env("FARRIER_AGENT", &agent)
        .env("FARRIER_LAB_DIR", build::lab_directory());
    timed(&mut prepare)?;
    guest::run(
        &folder,
        &guest::Guest {
            start_image: &start_image,
            agent: &agent,
            boot: &build::lab_directory().join("boot"),
            bundle: &folder.join("bundle"),
            starts: options.starts,
        },
    )?;
    println!();
    let reference = registry.image_of(&folder, FLEET_MIB, Packing::Gzip)?;
    let image = reference
        .split_once('/')
        .map(|(_, image)| image)
        .ok_or("an image has no registry")?;
    let programs = fleet::Programs {
        farrier,
        agent,
        pull_image: examples.join("pull_image"),
    };
    fleet::run(&folder, image, &programs)?;
    Ok(ExitCode::SUCCESS)
}

/// Each into an empty folder on the same file system; what was started before it and is thrown away after it is not counted.
fn pulls(folder: &Path, example: &Path, reference: &str, packing: Packing, options: &Options) -> Outcome<()> {
    let (mut ours, mut peers, mut peak_kib) = (Vec::new(), Vec::new(), 0);
    for round in 1..=options.rounds {
        let containerd = Containerd::start(folder)?;
        let peer = timed(
            containerd
                .ctr(&["image", "pull", "--plain-http", reference])
                .stdout(Stdio::null()),
        )?;
        containerd.end()?;
        let cache = folder.join("cache");
        remove(&cache)?;
        make(&cache)?;
        let said = output(Command::new(example).arg(reference).arg(&cache))?;
        remove(&cache)?;
        let (seconds, kib) = said.split_once(' ').ok_or("pull_image says nothing")?;
        let seconds: f64 = seconds.parse().map_err(|_| format!("pull_image says {said:?}"))?;
        peak_kib = peak_kib.max(kib.parse::<u64>().unwrap_or_default());
        println!(
            "{packing} round {round}: ctr image pull {:.2} s, farrier {seconds:.2} s",
            peer.as_secs_f64()
        );
        peers.push(peer);
        ours.push(Duration::from_secs_f64(seconds));
    }
    let (peer, own) = (median(peers), median(ours));
    println!(
        "{packing}: medians ctr image pull {:.2} s, farrier {:.2} s; ratio {:.2}; farrier had {} MiB of memory at most\n",
        peer.as_secs_f64(),
        own.as_secs_f64(),
        own.as_secs_f64() / peer.as_secs_f64(),
        peak_kib >> 10,
    );
    Ok(())
}

/// From the call to the first line of output, of an image that is here.
fn starts(folder: &Path, example: &Path, agent: &Path, small: &Small, options: &Options) -> Outcome<()> {
    let containerd = Containerd::start(folder)?;
    output(&mut containerd.ctr(&["image", "pull", "--plain-http", &small.reference]))?;
    let bundle = bundle(folder, &small.layer)?;
    let (mut ours, mut runcs, mut ctrs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.starts {
        let mut farrier = Command::new(example);
        farrier
            .arg(agent)
            .arg(&small.layer)
            .args(["1", "/bin/busybox", "echo", "started"]);
        let said = output(&mut farrier)?;
        let first = said.split_once(' ').and_then(|(first, _)| first.parse().ok());
        ours.push(Duration::from_micros(first.ok_or("start_image says nothing")?));
        let name = format!("farrier-bench-{}-{round}", std::process::id());
        let mut runc = Command::new("runc");
        runc.args(["run", "--bundle"]).arg(&bundle).arg(&name);
        runcs.push(to_first_line(&mut runc)?);
        let mut ctr = containerd.ctr(&[
            "run",
            "--rm",
            &small.reference,
            &name,
            "/bin/busybox",
            "echo",
            "started",
        ]);
        ctrs.push(to_first_line(&mut ctr)?);
    }
    containerd.end()?;
    let own = median(ours);
    println!(
        "{:<24} {:>8} {:>16}",
        "start to first line", "ms", "farrier's ratio"
    );
    println!("{:<24} {:>8.1}", "farrier", own.as_secs_f64() * 1e3);
    for (name, times) in [("runc run", runcs), ("ctr run", ctrs)] {
        let peer = median(times);
        println!(
            "{name:<24} {:>8.1} {:>16.2}",
            peer.as_secs_f64() * 1e3,
            own.as_secs_f64() / peer.as_secs_f64()
        );
    }
    Ok(())
}

fn to_first_line(command: &mut Command) -> Outcome<Duration> {
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("running it: {error}"))?;
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().ok_or("it has no output")?);
    stdout.read_line(&mut line).map_err(|error| error.to_string())?;
    let first = begin.elapsed();
    drop(stdout);
    let status = child.wait().map_err(|error| error.to_string())?;
    match status.success() && line == "started\n" {
        true => Ok(first),
        false => Err(format!("{command:?} ended with {status} and printed {line:?}")),
    }
}

/// What runc runs: its own example of a configuration, with our program, over a copy of the layer.
fn bundle(folder: &Path, layer: &Path) -> Outcome<PathBuf> {
    let bundle = folder.join("bundle");
    remove(&bundle)?;
    make(&bundle)?;
    output(Command::new("cp").arg("-a").arg(layer).arg(bundle.join("rootfs")))?;
    output(Command::new("runc").arg("spec").arg("--bundle").arg(&bundle))?;
    let path = bundle.join("config.json");
    let config = fs::read_to_string(&path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    let config = config
        .replace("\"terminal\": true", "\"terminal\": false")
        .replace("\"sh\"", "\"/bin/busybox\", \"echo\", \"started\"");
    fs::write(&path, config).map_err(|error| format!("writing {}: {error}", path.display()))?;
    Ok(bundle)
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    mib: usize,
    rounds: usize,
    starts: usize,
    yes: bool,
}

fn parse(args: &[&str]) -> Outcome<Options> {
    let mut options = Options {
        mib: 500,
        rounds: 5,
        starts: 21,
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
            "--starts" => options.starts = number()?,
            "--yes" => options.yes = true,
            other => {
                return Err(format!(
                    "bench containers has no option {other:?}; it has --mib N, --rounds N, --starts N, --yes"
                ));
            }
        }
    }
    Ok(options)
}

/// How layers are packed.
#[derive(Clone, Copy)]
enum Packing {
    Gzip,
    Zstd,
}

impl std::fmt::Display for Packing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        })
    }
}

/// Debian's registry on loopback, ended with this value. What it was given stays for the next run.
struct Registry {
    _process: Running,
    host: String,
}

/// An image of one layer, as a folder and in the registry.
struct Small {
    layer: PathBuf,
    reference: String,
}

impl Registry {
    fn start(folder: &Path) -> Outcome<Self> {
        // It tells nobody which port it took: one is found free, and given to it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let host = listener
            .local_addr()
            .map_err(|error| error.to_string())?
            .to_string();
        drop(listener);
        let config = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}/store}}\n\
             http:\n  addr: {host}\n",
            folder.display()
        );
        fs::write(&config, text).map_err(|error| format!("writing {}: {error}", config.display()))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("running docker-registry: {error}"))?;
        let registry = Self {
            _process: Running(child),
            host,
        };
        wait_for("docker-registry", || {
            std::net::TcpStream::connect(&registry.host).is_ok()
        })?;
        Ok(registry)
    }

    /// The big image.
    fn image_of(&self, folder: &Path, mib: usize, packing: Packing) -> Outcome<String> {
        let name = format!("bench/{mib}-mib:{packing}");
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in 0..LAYERS {
            let tar = folder.join(format!("layer-{mib}-{layer}.tar"));
            if !tar.exists() {
                println!("Making layer {} of {LAYERS} …", layer + 1);
                let files = folder.join("files");
                make_files(&files.join(format!("usr/share/layer-{layer}")), mib, layer)?;
                archive(&files, &tar)?;
                remove(&files)?;
            }
            diff_ids.push(format!("{:?}", digest(&tar)?));
            layers.push(self.push(&name, &packed(&tar, packing)?, &layer_type(packing))?);
        }
        self.push_image(folder, &name, &layers, &diff_ids)
    }

    fn busybox(&self, folder: &Path) -> Outcome<Small> {
        let layer = folder.join("busybox");
        remove(&layer)?;
        make(&layer.join("bin"))?;
        fs::copy("/bin/busybox", layer.join("bin/busybox"))
            .map_err(|error| format!("copying /bin/busybox: {error}"))?;
        let tar = folder.join("busybox.tar");
        archive(&layer, &tar)?;
        let diff_id = format!("{:?}", digest(&tar)?);
        let packed = packed(&tar, Packing::Gzip)?;
        let pushed = self.push("bench/busybox:1", &packed, &layer_type(Packing::Gzip))?;
        let reference = self.push_image(folder, "bench/busybox:1", &[pushed], &[diff_id])?;
        Ok(Small { layer, reference })
    }

    /// Stores a file, and says of it what a manifest does.
    fn push(&self, name: &str, file: &Path, media_type: &str) -> Outcome<String> {
        let repository = name.split(':').next().unwrap_or(name);
        let digest = digest(file)?;
        let begun = output(
            Command::new("curl")
                .args(["-sS", "--fail", "-D", "-", "-X", "POST"])
                .arg(format!("http://{}/v2/{repository}/blobs/uploads/", self.host)),
        )?;
        let location = begun.lines().find_map(|line| line.strip_prefix("Location: "));
        let location = location.ok_or("the registry names no place for a layer")?.trim();
        output(
            Command::new("curl")
                .args([
                    "-sS",
                    "--fail",
                    "-X",
                    "PUT",
                    "-H",
                    "Content-Type: application/octet-stream",
                ])
                .arg("--upload-file")
                .arg(file)
                .arg(format!("{location}&digest={digest}")),
        )?;
        let bytes = fs::metadata(file).map_err(|error| error.to_string())?.len();
        Ok(format!(
            "{{\"mediaType\": {media_type:?}, \"digest\": {digest:?}, \"size\": {bytes}}}"
        ))
    }

    fn push_image(
        &self,
        folder: &Path,
        name: &str,
        layers: &[String],
        diff_ids: &[String],
    ) -> Outcome<String> {
        let write = |file: &str, text: String| {
            let path = folder.join(file);
            match fs::write(&path, text) {
                Ok(()) => Ok(path),
                Err(error) => Err(format!("writing {}: {error}", path.display())),
            }
        };
        let config = write(
            "config.json",
            format!(
                "{{\"os\": \"linux\", \"architecture\": \"amd64\", \"config\": {{}}, \"rootfs\": {{\"type\": \"layers\", \"diff_ids\": [{}]}}}}",
                diff_ids.join(", ")
            ),
        )?;
        let config = self.push(name, &config, "application/vnd.oci.image.config.v1+json")?;
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = write(
            "manifest.json",
            format!(
                "{{\"schemaVersion\": 2, \"mediaType\": {manifest_type:?}, \"config\": {config}, \"layers\": [{}]}}",
                layers.join(", ")
            ),
        )?;
        let (repository, tag) = name.split_once(':').ok_or("an image has no tag")?;
        output(
            Command::new("curl")
                .args(["-sS", "--fail", "-X", "PUT", "-H"])
                .arg(format!("Content-Type: {manifest_type}"))
                .arg("--upload-file")
                .arg(manifest)
                .arg(format!("http://{}/v2/{repository}/manifests/{tag}", self.host)),
        )?;
        Ok(format!("{}/{name}", self.host))
    }
}

/// A containerd of its own, with nothing in it.
struct Containerd {
    process: Running,
    folder: PathBuf,
}

impl Containerd {
    fn start(folder: &Path) -> Outcome<Self> {
        let folder = folder.join("containerd");
        remove(&folder)?;
        make(&folder)?;
        let config = folder.join("config.toml");
        let text = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(&config, text).map_err(|error| format!("writing {}: {error}", config.display()))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(folder.join("root"))
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--address")
            .arg(folder.join("socket"))
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log")).map_err(|error| error.to_string())?)
            .spawn()
            .map_err(|error| format!("running containerd: {error}"))?;
        let containerd = Self {
            process: Running(child),
            folder,
        };
        wait_for("containerd", || {
            output(containerd.ctr(&["version"]).stderr(Stdio::null())).is_ok()
        })?;
        Ok(containerd)
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.folder.join("socket"))
            .args(args);
        command
    }

    fn end(mut self) -> Outcome<()> {
        let pid = self.process.0.id().to_string();
        output(Command::new("kill").arg(pid))?;
        self.process.0.wait().map_err(|error| error.to_string())?;
        remove(&self.folder)
    }
}

fn wait_for(name: &str, mut is_there: impl FnMut() -> bool) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > deadline {
            return Err(format!("{name} did not listen within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Files of a layer: two thirds of them text, the others random.
fn make_files(folder: &Path, mib: usize, layer: usize) -> Outcome<()> {
    make(folder)?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_add(layer as u64);
    let mut block = vec![0_u8; FILE_BYTES];
    for number in 0..(mib << 20).div_ceil(LAYERS * FILE_BYTES) {
        match number % 3 {
            0 => block
                .chunks_exact_mut(8)
                .for_each(|chunk| chunk.copy_from_slice(&next(&mut random).to_le_bytes())),
            _ => text(&mut block, &mut random),
        }
        let path = folder.join(format!("file-{number}"));
        let written = File::create(&path).and_then(|file| {
            let mut file = BufWriter::new(file);
            file.write_all(&block)?;
            file.flush()
        });
        written.map_err(|error| format!("writing {}: {error}", path.display()))?;
    }
    Ok(())
}

/// The same files are the same bytes.
fn archive(folder: &Path, tar: &Path) -> Outcome<()> {
    let mut command = Command::new("tar");
    command
        .args([
            "--sort=name",
            "--mtime=@0",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "-cf",
        ])
        .arg(tar)
        .arg("-C")
        .arg(folder)
        .arg(".");
    output(&mut command).map(drop)
}

fn packed(tar: &Path, packing: Packing) -> Outcome<PathBuf> {
    let packed = tar.with_extension(format!("tar.{packing}"));
    if !packed.exists() {
        let mut command = match packing {
            Packing::Gzip => Command::new("gzip"),
            Packing::Zstd => Command::new("zstd"),
        };
        match packing {
            Packing::Gzip => command.args(["-n", "-c"]),
            Packing::Zstd => command.args(["-q", "-3", "-c"]),
        };
        let half = packed.with_extension("half");
        let file = File::create(&half).map_err(|error| format!("making {}: {error}", half.display()))?;
        timed(command.arg(tar).stdout(file))?;
        fs::rename(&half, &packed).map_err(|error| format!("naming {}: {error}", packed.display()))?;
    }
    Ok(packed)
}

fn layer_type(packing: Packing) -> String {
    format!("application/vnd.oci.image.layer.v1.tar+{packing}")
}

fn digest(file: &Path) -> Outcome<String> {
    let said = output(Command::new("sha256sum").arg(file))?;
    Ok(format!("sha256:{}", said.split(' ').next().unwrap_or_default()))
}

fn make(folder: &Path) -> Outcome<()> {
    fs::create_dir_all(folder).map_err(|error| format!("making {}: {error}", folder.display()))
}

fn remove(folder: &Path) -> Outcome<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("removing {}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_numbers_and_a_switch() {
        let given = parse(&["--mib", "20", "--rounds", "1", "--starts", "3"])
            .unwrap_or_else(|error| panic!("{error}"));
        let wanted = Options {
            mib: 20,
            rounds: 1,
            starts: 3,
            yes: false,
        };
        assert_eq!(given, wanted);
        let error = parse(&["--size", "1"]).err().unwrap_or_default();
        assert!(error.contains("no option \"--size\"; it has --mib N"), "{error}");
    }
}
