//! A root of a test's own: a mount namespace in which whatever is written to `/etc`, `/usr`, `/var` and `/root` goes with the
//! test, and a network namespace with nothing in it. So a page is typed as it stands, with its paths, ports and addresses.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const WITHIN: Duration = Duration::from_secs(20);
/// For what is typed at once, seconds: a page's own limits are for machines.
const TYPED_WITHIN: &str = "120";

/// The part of systemctl that pages use: it runs what `ExecStart` of a unit says, as the unit's user, with its folder and its
/// capabilities, until it is ready. systemd itself needs a host.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
command=$1
shift
if [ "${1:-}" = --now ]; then shift; fi
if [ "$command" = daemon-reload ]; then exit; fi
for unit; do
    unit=${unit%.service}
    file=/etc/systemd/system/$unit.service
    log=/var/log/$unit pid=/run/$unit.pid
    setting() { sed -n "s/^$1=//p" "$file"; }
    case $command in
    start | enable | restart | stop) ;;
    *) echo "systemctl $command: nothing knows this" >&2; exit 1 ;;
    esac
    if [ "$command" = restart ] || [ "$command" = stop ]; then
        kill "$(cat "$pid")"
        while kill -0 "$(cat "$pid")" 2> /dev/null; do sleep 0.02; done
        rm "$pid"
    fi
    if [ "$command" = stop ]; then continue; fi
    user=$(setting User)
    install -d -m 755 -o "$user" /var/lib/"$(setting StateDirectory)"
    set=
    for name in $(setting AmbientCapabilities | tr A-Z a-z); do set=$set,+${name#cap_}; done
    : > "$log"
    setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs \
        --inh-caps=-all"$set" --bounding-set=-all"$set" --ambient-caps=-all"$set" \
        $(setting ExecStart) > /dev/null 2> "$log" &
    echo $! > "$pid"
    while ! grep -q '^farrier: ready ' "$log"; do
        kill -0 "$(cat "$pid")" || { cat "$log" >&2; exit 1; }
        sleep 0.02
    done
done
"#;

/// What `farrier image build` makes, for who boots nothing.
const BOOT_FILES: [&str; 5] = [
    "vmlinuz",
    "initramfs.img",
    "undionly.kpxe",
    "local-boot.efi",
    "snponly.efi",
];

pub(crate) struct World {
    /// Where somebody sits and types.
    home: tempfile::TempDir,
}

/// Runs a test in a root of its own.
pub(crate) fn in_a_world(test: fn(&World)) {
    // Namespaces are the thread's, and of whatever it starts.
    let ran = std::thread::spawn(move || test(&World::begin())).join();
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    fn begin() -> Self {
        let home = tempfile::TempDir::new().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("root, for namespaces");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        for top in ["etc", "usr", "var", "root"] {
            let layer = home.path().join("layers").join(top);
            let (upper, work) = (layer.join("upper"), layer.join("work"));
            fs::create_dir_all(&upper).unwrap();
            fs::create_dir_all(&work).unwrap();
            let options = format!(
                "lowerdir=/{top},upperdir={},workdir={}",
                upper.display(),
                work.display()
            );
            let at = format!("/{top}");
            mount(
                Some("none"),
                at.as_str(),
                Some("overlay"),
                MsFlags::empty(),
                Some(options.as_str()),
            )
            .unwrap();
        }
        // What a server commits is on no disk, which others use.
        fs::create_dir_all("/var/lib/farrier").unwrap();
        mount(
            Some("none"),
            "/var/lib/farrier",
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .unwrap();
        let world = Self { home };
        world.program("systemctl", SYSTEMCTL);
        world.types("ip link set lo up");
        world
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn writes(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// A script in the path, before the host's own programs.
    pub(crate) fn program(&self, name: &str, text: &str) {
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o755);
        let path = Path::new("/usr/local/bin").join(name);
        std::io::Write::write_all(&mut options.open(path).unwrap(), text.as_bytes()).unwrap();
    }

    /// `eth1` with 10.77.0.1, and on the same network a host of each name, with a card `card` of this MAC.
    pub(crate) fn network(&self, hosts: &[(&str, &str)]) {
        self.types(
            "ip link add eth1 type bridge forward_delay 0; ip link set eth1 up; ip addr add 10.77.0.1/24 dev eth1",
        );
        for (name, mac) in hosts {
            self.types(&format!(
                "ip netns add {name}
                 ip link add card address {mac} netns {name} type veth peer name {name}
                 ip link set {name} master eth1 up
                 ip -n {name} link set lo up
                 ip -n {name} link set card up"
            ));
        }
    }

    /// As docs/how-to/install.md leaves a server, with more settings.
    pub(crate) fn server(&self, settings: &str) {
        self.boot_files();
        fs::write("/usr/local/bin/farrier", "").unwrap();
        mount(
            Some(env!("CARGO_BIN_EXE_farrier")),
            "/usr/local/bin/farrier",
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
        fs::write("/etc/farrier.toml", format!("interface = \"eth1\"\n{settings}")).unwrap();
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        fs::create_dir_all("/etc/systemd/system").unwrap();
        fs::copy(
            packaging.join("farrier.service"),
            "/etc/systemd/system/farrier.service",
        )
        .unwrap();
        self.types("grep -q ^farrier: /etc/passwd || useradd --system --user-group farrier");
        self.types("systemctl start farrier");
    }

    /// A boot image in place of one that takes minutes to build.
    pub(crate) fn boot_files(&self) {
        let folder = Path::new("/var/lib/farrier/boot");
        fs::create_dir_all(folder).unwrap();
        for file in BOOT_FILES {
            fs::write(
                folder.join(file),
                format!("{file} in more than a block\n").repeat(50),
            )
            .unwrap();
        }
    }

    /// Types it; each command must succeed. What it printed.
    #[track_caller]
    pub(crate) fn types(&self, text: &str) -> String {
        let output = self.tries(text);
        let (said, failed) = (text_of(&output.stdout), text_of(&output.stderr));
        assert!(
            output.status.success(),
            "{text}\n{}\n{said}\n{failed}",
            output.status
        );
        said
    }

    pub(crate) fn tries(&self, text: &str) -> Output {
        self.shell(text).output().unwrap()
    }

    /// A shell that types this, and nothing else of the environment of the test.
    pub(crate) fn shell(&self, text: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("timeout");
        command
            .args([TYPED_WITHIN, "/bin/sh", "-euc"])
            .arg(text)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .current_dir(self.home.path());
        command
    }

    /// Types it until what it prints is so.
    #[track_caller]
    pub(crate) fn until(&self, text: &str, is: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + WITHIN;
        loop {
            let output = self.tries(text);
            let said = text_of(&output.stdout);
            if is(&said) {
                return said;
            }
            let failed = text_of(&output.stderr);
            assert!(
                Instant::now() < deadline,
                "{text} says at last:\n{said}\n{failed}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What was started; mounts and networks go with their last process.
        let _ = self.tries("for pid in /run/*.pid; do kill \"$(cat $pid)\" || true; done 2> /dev/null");
    }
}

pub(crate) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
