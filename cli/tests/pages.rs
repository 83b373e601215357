//! How-to pages whose commands are typed into a shell, in order, on a host of their own: a folder for `/var/lib/farrier` and `/backup`, and a
//! `systemctl` that starts and stops a real `farrier serve`.

mod servers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use servers::serve;

/// Starts and stops the one service that there is; systemd itself needs a host.
const SYSTEMCTL: &str = "\
#!/bin/sh
set -eu
case \"$1 $2\" in
'start farrier')
    : > log
    @SERVE@ > /dev/null 2> log &
    echo $! > pid
    while ! grep -q '^farrier: ready ' log; do
        kill -0 \"$(cat pid)\" || { cat log >&2; exit 1; }
        sleep 0.05
    done
    sed -n 's/.* api=\\([^ ]*\\).*/\\1/p' log > api;;
'stop farrier')
    kill \"$(cat pid)\"
    while kill -0 \"$(cat pid)\" 2>/dev/null; do sleep 0.05; done;;
*) echo \"systemctl $*: nothing knows this\" >&2; exit 1;;
esac
";

/// Commands of users that this host has not are its own.
const RUNUSER: &str = "#!/bin/sh\nshift 3\nexec \"$@\"\n";

/// Asks the server that was started last.
const FARRIER: &str = "\
#!/bin/sh
FARRIER_SERVER=$(cat api 2>/dev/null || true) FARRIER_DATA_DIR=@DATA@
export FARRIER_SERVER FARRIER_DATA_DIR
exec @REAL@ \"$@\"
";

const MACHINE: &str = "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";

struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            folder: tempfile::TempDir::new().expect("folder"),
        };
        let (bin, data) = (host.at("bin"), host.at("var"));
        fs::create_dir(&bin).expect("bin");
        fs::create_dir(host.at("backup")).expect("backup");
        let data = data.display().to_string();
        for (name, content) in [
            ("systemctl", SYSTEMCTL.replace("@SERVE@", &serve_line(&data))),
            ("runuser", RUNUSER.to_owned()),
            (
                "farrier",
                FARRIER
                    .replace("@DATA@", &data)
                    .replace("@REAL@", env!("CARGO_BIN_EXE_farrier")),
            ),
        ] {
            let path = bin.join(name);
            fs::write(&path, content).expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        }
        fs::write(host.at("machine.yaml"), MACHINE).expect("write");
        host
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Types it; each command must succeed.
    #[track_caller]
    fn types(&self, text: &str) -> String {
        let output = self.tries(text);
        let (said, failed) = (text_of(&output.stdout), text_of(&output.stderr));
        assert!(output.status.success(), "{text}\n{said}\n{failed}");
        said
    }

    fn tries(&self, text: &str) -> Output {
        let here = text
            .replace("/var/lib/farrier", &self.at("var").display().to_string())
            .replace("/backup", &self.at("backup").display().to_string());
        Command::new("/bin/sh")
            .args(["-euc", &here])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.at("bin").display()))
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .output()
            .expect("a shell")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have been stopped.
        let _ = self.tries("systemctl stop farrier");
    }
}

/// What a shell starts a server with.
fn serve_line(data: &str) -> String {
    let command = serve(Path::new(data));
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
    words.join(" ")
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The blocks of this kind of a page, in order.
fn blocks(page: &str, kind: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/how-to")
        .join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut blocks, mut open) = (Vec::new(), None::<String>);
    for line in text.lines().map(str::trim_start) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) if info == kind => open = Some(String::new()),
            // Of another kind: to its end.
            (None, Some(info)) if !info.is_empty() => open = None,
            (None, _) => {}
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    assert!(!blocks.is_empty(), "{page} has no block of {kind}");
    blocks
}

#[test]
fn a_server_is_backed_up_and_restored_on_its_host_and_on_a_new_one() {
    let host = Host::new();
    let blocks = blocks("back-up-and-restore.md", "sh");
    let [back_up, keys, restore, new_host] = <[String; 4]>::try_from(blocks).expect("four steps");
    host.types("systemctl start farrier; farrier machine apply -f machine.yaml; echo hush | farrier secret set login");
    host.types(&back_up);
    host.types(&keys);
    assert!(host.at("backup/keys/secrets.key").exists());
    // What is done after the backup is gone with the restore, and what was there is back.
    host.types("farrier machine delete node1; echo other | farrier secret set second");
    let said = host.types(&restore);
    assert!(said.contains("node1"), "{said}");
    let secrets = host.types("farrier secret list -o name");
    assert_eq!(secrets.trim(), "login");
    // The page's `rm -rf` is what a new host is.
    let said = host.types(&new_host);
    assert!(said.contains("node1"), "{said}");
    assert_eq!(host.types("farrier secret list -o name").trim(), "login");
    assert!(host.at("var/authority.pem").exists());
}

#[test]
fn a_server_is_upgraded_and_the_way_back_is_open() {
    let host = Host::new();
    let blocks = blocks("upgrade.md", "sh");
    host.types("systemctl start farrier; farrier machine apply -f machine.yaml");
    for block in &blocks {
        host.types(block);
    }
    assert_eq!(blocks.len(), 5);
    assert!(host.types("farrier machine list").contains("node1"));
}

/// Two networks at the host, and somebody on each who tries what the page lets in and what it does not.
const TRIES: &str = r#"
mount -t tmpfs none /run
for net in eth0 eth1; do
    ip netns add $net
    ip link add $net type veth peer name far netns $net
    ip link set $net up
    ip -n $net link set far up
done
ip addr add 192.0.2.1/24 dev eth0
ip addr add 10.77.0.1/24 dev eth1
ip link set lo up
ip -n eth0 addr add 192.0.2.2/24 dev far
ip -n eth1 addr add 10.77.0.2/24 dev far
$FARRIER serve --interface eth1 --address 10.77.0.1 --api-listen 0.0.0.0:42115 --no-ra --data-dir $DATA 2> serve.log >/dev/null &
trap "kill $!" EXIT
while ! grep -q '^farrier: ready ' serve.log; do kill -0 $! || { cat serve.log >&2; exit 1; }; sleep 0.05; done
opens() { ip netns exec $1 timeout 3 bash -c "</dev/tcp/$2/$3" 2>/dev/null; }
opens eth1 10.77.0.1 42115 || { echo "without rules the API is not reached"; exit 1; }
nft -f rules
opens eth1 10.77.0.1 7080 || echo "HTTP is not let in"
opens eth1 10.77.0.1 42113 || echo "agents are not let in"
opens eth0 192.0.2.1 42115 || echo "people are not let in"
ip netns exec eth1 curl -sS --max-time 5 -o loader tftp://10.77.0.1/snponly.efi || echo "TFTP is not let in"
cmp -s loader $DATA/boot/snponly.efi || echo "TFTP gave something else"
if opens eth1 10.77.0.1 42115; then echo "machines reach the API"; fi
if opens eth0 192.0.2.1 7080; then echo "people reach HTTP"; fi
if opens eth0 10.77.0.1 42113; then echo "people reach agents' port"; fi
"#;

#[test]
fn the_firewall_lets_in_machines_and_people_each_where_they_belong() {
    let folder = tempfile::TempDir::new().expect("folder");
    let rules = blocks("firewall.md", "nft");
    fs::write(folder.path().join("rules"), &rules[0]).expect("write");
    let data = folder.path().join("data");
    fs::create_dir_all(data.join("boot")).expect("boot");
    for name in [
        "vmlinuz",
        "initramfs.img",
        "undionly.kpxe",
        "local-boot.efi",
        "snponly.efi",
    ] {
        fs::write(
            data.join("boot").join(name),
            "a loader of more than a block".repeat(100),
        )
        .expect("write");
    }
    let output = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--fork",
            "--kill-child",
            "bash",
            "-euc",
            TRIES,
        ])
        .env("FARRIER", env!("CARGO_BIN_EXE_farrier"))
        .env("DATA", &data)
        .current_dir(folder.path())
        .output()
        .expect("unshare");
    assert_eq!(
        (text_of(&output.stdout).as_str(), output.status.code()),
        ("", Some(0)),
        "{}",
        text_of(&output.stderr)
    );
}
