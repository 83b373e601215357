//! Twenty machines that pull one image through the server's registry at the same time: what goes over the wire outside, how long the last
//! takes over a link of a known rate, and what memory an agent has that waits.
//!
//! Machines and the registry outside are in network namespaces of their own, which go with this process; the server is not.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{make, remove, wait_for};
use crate::Outcome;
use crate::measure::{Running, output};

const MACHINES: usize = 20;
/// Of the link between the server and the machines.
const MBIT_PER_S: u64 = 100;
/// Headers of Ethernet, IP and TCP, acknowledgements that ride along, and answers beside the image.
const MOST_OUTSIDE_PERCENT: u64 = 110;
const SERVER: &str = "10.78.0.1";
const OUTSIDE: &str = "10.78.1.2";
/// As templates name the registry.
const NAME: &str = "bench.example";
const MAC: &str = "52:54:00:78:00:01";
/// For an agent that has attached to have nothing to do any more.
const SETTLED: Duration = Duration::from_secs(10);

/// What is run.
pub(super) struct Programs {
    pub(super) farrier: PathBuf,
    pub(super) agent: PathBuf,
    pub(super) pull_image: PathBuf,
}

/// `image` is REPOSITORY:TAG in the store of the registry at `folder`.
pub(super) fn run(folder: &Path, image: &str, programs: &Programs) -> Outcome<()> {
    let (machines, outside) = (Namespace::make("machines")?, Namespace::make("outside")?);
    machines.link("farrier-bm", SERVER, "10.78.0.2", 24)?;
    outside.link("farrier-bo", "10.78.1.1", OUTSIDE, 30)?;
    let rate = format!("{MBIT_PER_S}mbit");
    output(
        Command::new("tc")
            .args(["qdisc", "add", "dev", "farrier-bm", "root", "tbf", "rate"])
            .args([&rate, "burst", "256kb", "latency", "200ms"]),
    )?;
    let registry = registry(folder, &outside)?;
    let server = Server::start(&folder.join("fleet"), &programs.farrier)?;
    let bytes = image_bytes(&outside, image)?;

    let before = outside_bytes()?;
    let began = Instant::now();
    let reference = format!("{NAME}/{image}");
    let pulls: Vec<Child> = (0..MACHINES)
        .map(|number| {
            let cache = folder.join(format!("fleet/cache-{number}"));
            make(&cache)?;
            let mut command = machines.command(&programs.pull_image);
            command
                .arg(&reference)
                .arg(cache)
                .arg(format!("http://{}", server.http));
            let child = command.stdout(Stdio::null()).spawn();
            child.map_err(|error| format!("running pull_image: {error}"))
        })
        .collect::<Outcome<_>>()?;
    for mut pull in pulls {
        let status = pull.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("a machine did not get the image: {status}"));
        }
    }
    let last = began.elapsed().as_secs_f64();
    let fetched = outside_bytes()?.saturating_sub(before);
    let limit = (bytes * MACHINES as u64 * 8) as f64 / (MBIT_PER_S * 1_000_000) as f64;
    println!(
        "{MACHINES} machines pull {:.1} MB each through the server, over {MBIT_PER_S} Mbit/s",
        bytes as f64 / 1e6
    );
    println!("{:<40} {:>12}", "outside, bytes of the image", bytes);
    println!("{:<40} {:>12}", "outside, bytes that came", fetched);
    println!("{:<40} {last:>10.1} s", "the last machine has it after");
    println!("{:<40} {limit:>10.1} s", "the link takes at least");
    println!("{:<40} {:>12.2}", "ratio", last / limit);
    if fetched < bytes || fetched * 100 > bytes * MOST_OUTSIDE_PERCENT {
        return Err(format!(
            "the image has {bytes} B, and {fetched} B came from outside: it is to be fetched once for all machines"
        ));
    }
    drop(registry);
    idle(folder, &machines, &server, programs)?;
    drop(server);
    remove(&folder.join("fleet"))
}

/// An agent that has attached and waits.
fn idle(folder: &Path, machines: &Namespace, server: &Server, programs: &Programs) -> Outcome<()> {
    let record = folder.join("fleet/record.yaml");
    fs::write(&record, format!("machine: idle\nmac: {MAC}\nnetboot: never\n"))
        .map_err(|error| error.to_string())?;
    output(
        server
            .farrier(&programs.farrier)
            .args(["machine", "apply", "-f"])
            .arg(&record),
    )?;
    let log = folder.join("fleet/agent.log");
    let mut command = machines.command(&programs.agent);
    command
        .args(["--mac", MAC, "--server", &server.grpc, "--state-dir"])
        .arg(folder.join("fleet/agent"))
        .stdout(Stdio::null())
        // As a process on a host it says there what it does.
        .stderr(Stdio::from(
            File::create(&log).map_err(|error| error.to_string())?,
        ));
    // `ip netns exec` becomes the agent.
    let agent = Running(
        command
            .spawn()
            .map_err(|error| format!("running the agent: {error}"))?,
    );
    wait_for("an agent", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("attached to "))
    })?;
    std::thread::sleep(SETTLED);
    let path = format!("/proc/{}/smaps_rollup", agent.0.id());
    let rollup = fs::read_to_string(&path).map_err(|error| format!("reading {path}: {error}"))?;
    println!("\nan agent that waits, KiB (smaps_rollup)");
    for name in ["Rss", "Pss", "Private_Dirty", "Anonymous"] {
        let found = rollup
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = found.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        println!(
            "{name:<40} {:>12}",
            kib.ok_or_else(|| format!("{path} has no {name}"))?
        );
    }
    Ok(())
}

/// A network namespace; it goes with this value.
struct Namespace(String);

impl Namespace {
    fn make(what: &str) -> Outcome<Self> {
        let name = format!("farrier-bench-{what}-{}", std::process::id());
        output(Command::new("ip").args(["netns", "add", &name]))?;
        Ok(Self(name))
    }

    /// A cable between here and there.
    fn link(&self, here: &str, own: &str, theirs: &str, prefix: u8) -> Outcome<()> {
        let (own, theirs) = (format!("{own}/{prefix}"), format!("{theirs}/{prefix}"));
        let words = [
            vec![
                "link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", &self.0,
            ],
            vec!["address", "add", &own, "dev", here],
            vec!["link", "set", here, "up"],
            vec!["-n", &self.0, "address", "add", &theirs, "dev", "eth0"],
            vec!["-n", &self.0, "link", "set", "eth0", "up"],
            vec!["-n", &self.0, "link", "set", "lo", "up"],
        ];
        words
            .into_iter()
            .try_for_each(|words| output(Command::new("ip").args(words)).map(drop))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its end of each cable goes with it, and so does the other.
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

/// The registry of the bench once more, outside.
fn registry(folder: &Path, outside: &Namespace) -> Outcome<Running> {
    let config = folder.join("outside.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}/store}}\n\
         http:\n  addr: {OUTSIDE}:5000\n",
        folder.display()
    );
    fs::write(&config, text).map_err(|error| format!("writing {}: {error}", config.display()))?;
    let child = outside
        .command(Path::new("docker-registry"))
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("running docker-registry: {error}"))?;
    let registry = Running(child);
    let address = format!("{OUTSIDE}:5000");
    wait_for("docker-registry", || {
        std::net::TcpStream::connect(&address).is_ok()
    })?;
    Ok(registry)
}

/// Of all that an image's manifest names.
fn image_bytes(outside: &Namespace, image: &str) -> Outcome<u64> {
    let (repository, tag) = image.split_once(':').ok_or("an image has no tag")?;
    let url = format!("http://{OUTSIDE}:5000/v2/{repository}/manifests/{tag}");
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    let mut command = outside.command(Path::new("curl"));
    let manifest = output(command.args(["-sS", "--fail", "-H", accept, &url]))?;
    let sizes = manifest.split("\"size\":").skip(1).map(|rest| {
        let digits: String = rest
            .trim_start()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits
            .parse::<u64>()
            .map_err(|_| format!("the manifest is {manifest}"))
    });
    sizes.sum()
}

/// What has come from outside, with its headers.
fn outside_bytes() -> Outcome<u64> {
    let path = "/sys/class/net/farrier-bo/statistics/rx_bytes";
    let text = fs::read_to_string(path).map_err(|error| format!("reading {path}: {error}"))?;
    text.trim().parse().map_err(|_| format!("{path} says {text:?}"))
}

/// `farrier serve`, on ports of the kernel's choice.
struct Server {
    _process: Running,
    data: PathBuf,
    grpc: String,
    api: String,
    http: String,
}

impl Server {
    fn start(data: &Path, farrier: &Path) -> Outcome<Self> {
        remove(data)?;
        let boot = data.join("boot");
        make(&boot)?;
        // What the netboot services look for; nothing is booted here.
        for file in [
            "vmlinuz",
            "initramfs.img",
            "snponly.efi",
            "undionly.kpxe",
            "local-boot.efi",
        ] {
            fs::write(boot.join(file), file).map_err(|error| error.to_string())?;
        }
        let mut child = Command::new(farrier)
            .args([
                "serve",
                "--interface",
                "farrier-bm",
                "--address",
                SERVER,
                "--listen",
                SERVER,
            ])
            .args([
                "--no-dhcp",
                "--no-ra",
                "--http-port",
                "0",
                "--tftp-port",
                "0",
                "--grpc-port",
                "0",
            ])
            .args([
                "--api-listen",
                "127.0.0.1:0",
                "--registry",
                &format!("{NAME}=http://{OUTSIDE}:5000"),
                "--data-dir",
            ])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("running farrier serve: {error}"))?;
        let stderr = child.stderr.take().ok_or("farrier serve has no log")?;
        let process = Running(child);
        let mut lines = BufReader::new(stderr).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.starts_with("farrier: ready "))
            .ok_or("farrier serve ended before it was ready")?;
        // Its pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let word = |name: &str| {
            let mut words = ready.split(' ');
            let found = words.find_map(|word| word.strip_prefix(name)).map(str::to_owned);
            found.ok_or_else(|| format!("farrier serve says {ready:?}"))
        };
        Ok(Self {
            _process: process,
            data: data.to_owned(),
            grpc: word("grpc=")?,
            api: word("api=")?,
            http: word("http=")?,
        })
    }

    /// A command that asks it.
    fn farrier(&self, farrier: &Path) -> Command {
        let mut command = Command::new(farrier);
        command
            .env("FARRIER_SERVER", &self.api)
            .env("FARRIER_DATA_DIR", &self.data);
        command
    }
}
