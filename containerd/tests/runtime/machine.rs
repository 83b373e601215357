//! A containerd and a registry of a test's own, Debian's both, in a folder. They end with the process that started them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(60);

/// Whatever becomes of who started it: when its standard input ends, its processes do, and the folder goes.
const KEEPER: &str = r#"
cd "$1" || exit 1
containerd -c containerd.toml >>containerd.log 2>&1 & containerd=$!
docker-registry serve registry.yml >registry.log 2>&1 & registry=$!
while read -r word; do
    case "$word" in
        stop) kill $containerd; wait $containerd; echo stopped;;
        no-registry) kill $registry; wait $registry; echo stopped;;
        start) containerd -c containerd.toml >>containerd.log 2>&1 & containerd=$!; echo started;;
    esac
done
kill $containerd $registry
wait
cd /
umount "$1/root" 2>/dev/null
rm -rf "$1"
"#;

pub(crate) struct Machine {
    folder: PathBuf,
    pub(crate) registry: String,
    keeper: Child,
    words: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
}

impl Machine {
    pub(crate) fn start() -> Machine {
        Machine::with_room(None)
    }

    /// With stores of so many MiB, if any.
    pub(crate) fn with_room(mib: Option<u32>) -> Machine {
        let folder = tempfile::Builder::new()
            .prefix("containerd.")
            .tempdir()
            .expect("folder")
            .keep();
        let at = folder.display();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
        let registry = listener.local_addr().expect("address").to_string();
        drop(listener);
        fs::create_dir(folder.join("root")).expect("root");
        if let Some(mib) = mib {
            let size = format!("size={mib}m");
            nix::mount::mount(
                Some("tmpfs"),
                &folder.join("root"),
                Some("tmpfs"),
                nix::mount::MsFlags::empty(),
                Some(size.as_str()),
            )
            .expect("stores");
        }
        let containerd = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\", \"io.containerd.internal.v1.tracing\"]\n\
             [grpc]\naddress = \"{at}/c.sock\"\n[ttrpc]\naddress = \"{at}/c.sock.ttrpc\"\n"
        );
        fs::write(folder.join("containerd.toml"), containerd).expect("config");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {at}/registry}}\n\
             http:\n  addr: {registry}\n"
        );
        fs::write(folder.join("registry.yml"), config).expect("config");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("keeper");
        let machine = Machine {
            words: keeper.stdin.take(),
            answers: BufReader::new(keeper.stdout.take().expect("answers")),
            folder,
            registry,
            keeper,
        };
        machine.until_it_answers();
        machine
    }

    /// A line for each answer, in Apache's form.
    pub(crate) fn registry_log(&self) -> String {
        fs::read_to_string(self.folder.join("registry.log")).unwrap_or_default()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("c.sock")
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("containerd.log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    /// Says a word to the keeper, and waits until it has done it.
    pub(crate) fn tell(&mut self, word: &str) {
        use std::io::Write;
        let words = self.words.as_mut().expect("words");
        writeln!(words, "{word}").expect("told");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("answer");
        assert!(!answer.is_empty(), "the keeper is gone");
        if word == "start" {
            self.until_it_answers();
        }
    }

    fn until_it_answers(&self) {
        let deadline = Instant::now() + WITHIN;
        while TcpStream::connect(&self.registry).is_err() || UnixStream::connect(self.socket()).is_err() {
            assert!(
                Instant::now() < deadline,
                "Debian's containerd and docker-registry do not answer; `cargo xtask test` installs them: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.words.take();
        let _ = self.keeper.wait();
    }
}
