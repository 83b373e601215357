//! `farrier lab` for who is not root: in user namespaces; and where these are off, a refusal in words.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::unistd::Uid;

use crate::lab_command::{Lab, MARK, wait_until_gone};
use crate::scene::path_from;
use crate::terminal::Terminal;

/// Debian's nobody and nogroup.
const NOBODY: u32 = 65534;

#[test]
fn without_root_the_lab_runs_and_ctrl_bracket_ends_it_and_gives_the_terminal_back() {
    let room = Room::furnish();
    if let Err(refused) = room.user_namespaces() {
        // Nothing to run here. What is left to test is that the lab says so, before it builds or fetches anything.
        println!("user namespaces are refused on this machine ({refused}): the lab cannot run without root");
        let said = room.lab(&[]).output().unwrap();
        let complained = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{complained}");
        assert!(
            complained.contains("user namespaces") && complained.contains("sudo"),
            "{complained}"
        );
        assert_eq!(fs::read_dir(&room.folder).unwrap().count(), 0, "{complained}");
        return;
    }

    let mark = uuid::Uuid::new_v4().to_string();
    fs::write(room.folder.join("template.yaml"), TEMPLATE).unwrap();
    let template = room.place("lab/template.yaml");
    let options = ["--workflow", &template, "--memory", "512", "--disk-size", "1"];
    let mut command = room.lab(&[&options[..], &["--keep", "--console"]].concat());
    let (mut terminal, lab) = Terminal::start(command.env(MARK, &mark), true);
    let mut lab = Lab(lab);
    let before = terminal.modes();
    let said = terminal.wait_for("Left running until Ctrl-]", Duration::from_secs(600));
    assert!(
        said.contains("The machine netbooted (BIOS) and ran the workflow to SUCCESS."),
        "{said}"
    );
    assert!(said.contains("farrier: stage=attached"), "{said}");

    // Found without --pid, by the user whose it is.
    let entered = room.enter(&lab, &["ip", "-brief", "address", "show", "br0"]);
    let addresses = String::from_utf8_lossy(&entered.stdout);
    assert!(addresses.contains("10.77.0.1/24"), "{entered:?}");

    assert!(terminal.is_raw(), "{:?}", terminal.modes());
    terminal.type_keys("\u{1d}");
    assert_eq!(lab.0.wait().unwrap().code(), Some(130));
    assert_eq!(terminal.modes(), before, "the terminal is as it was");
    wait_until_gone(&mark);
    fs::remove_dir_all(&room.folder).unwrap();
}

const TEMPLATE: &str = "\
version: \"0.1\"
name: without-root
global_timeout: 600
tasks:
  - name: test
    worker: \"{{.device_1}}\"
    actions:
      - name: reboot
        image: reboot
        timeout: 60
";

/// What a user needs that only root may give a test: /dev/net/tun for everybody, as udev makes it, and the binaries
/// where everybody can read them. It is in a mount namespace of the lab's own, over /mnt, and goes with it. Where the
/// tests are run without root, everything is at its own place already.
struct Room {
    folder: PathBuf,
    root: bool,
}

impl Room {
    fn furnish() -> Room {
        // Its artifacts are evidence when the test fails.
        let folder = path_from("FARRIER_LAB_DIR").join("artifacts/without-root");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let root = Uid::effective().is_root();
        if root {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Room { folder, root }
    }

    /// Where the user finds `farrier`, `agent`, `boot` and `lab`.
    fn place(&self, name: &str) -> String {
        let place = match name {
            _ if self.root => Path::new("/mnt").join(name),
            "farrier" => path_from("FARRIER_BIN"),
            "agent" => path_from("FARRIER_AGENT"),
            "boot" => path_from("FARRIER_LAB_DIR").join("boot"),
            name => self
                .folder
                .join(name.trim_start_matches("lab").trim_start_matches('/')),
        };
        place.display().to_string()
    }

    /// `farrier lab` as the user.
    fn lab(&self, options: &[&str]) -> Command {
        let mut command = self.inside(&[&self.place("farrier"), "lab", "--yes"]);
        command.args(options);
        command
    }

    /// Whether the kernel gives a user the namespaces of the lab; what it says when not.
    fn user_namespaces(&self) -> Result<(), String> {
        let unshare = [
            "unshare",
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--pid",
        ];
        let words = [&unshare[..], &["--fork", "--mount-proc", "true"]].concat();
        let output = self.inside(&words).output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    /// `farrier lab enter`, as the same user and with the same /mnt as the lab.
    fn enter(&self, lab: &Lab, words: &[&str]) -> Output {
        let pid = lab.0.id().to_string();
        let farrier = self.place("farrier");
        let nsenter = ["nsenter", "--target", &pid, "--mount", "--"];
        let enter = [farrier.as_str(), "lab", "enter", "--"];
        let line = match self.root {
            true => [&nsenter[..], &AS_NOBODY, &enter, words].concat(),
            false => [&enter, words].concat(),
        };
        Command::new(line[0]).args(&line[1..]).output().unwrap()
    }

    fn inside(&self, words: &[&str]) -> Command {
        let sources = [
            path_from("FARRIER_BIN"),
            path_from("FARRIER_AGENT"),
            path_from("FARRIER_LAB_DIR").join("boot"),
            self.folder.clone(),
        ];
        let mut command = match self.root {
            true => Command::new("unshare"),
            false => Command::new(words[0]),
        };
        match self.root {
            true => command
                .args(["--mount", "--propagation", "private", "--"])
                .args(["sh", "-ec", FURNISH, "sh"])
                .args(sources)
                .args(AS_NOBODY)
                .args(words),
            false => command.args(&words[1..]),
        };
        command
            .env("FARRIER_AGENT", self.place("agent"))
            .env("FARRIER_LAB_BOOT_DIR", self.place("boot"))
            .env("FARRIER_LAB_DIR", self.place("lab"));
        command
    }
}

const AS_NOBODY: [&str; 5] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--",
];

/// Arguments: farrier, agent, boot image, work directory, and what is run then.
const FURNISH: &str = "
mount -t tmpfs -o mode=0755 farrier-test /mnt
touch /mnt/farrier /mnt/agent
mkdir /mnt/boot /mnt/lab
mount --bind \"$1\" /mnt/farrier
mount --bind \"$2\" /mnt/agent
mount --bind \"$3\" /mnt/boot
mount --bind \"$4\" /mnt/lab
if [ \"$(stat -c %a /dev/net/tun)\" != 666 ]; then
    mknod -m 0666 /mnt/tun c 10 200
    mount --bind /mnt/tun /dev/net/tun
fi
shift 4
exec \"$@\"
";
