//! A host in a folder: `/var/lib/farrier` and `/backup` are there, and a `systemctl` starts and stops a real `farrier serve`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::servers::serve;

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

pub(crate) struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Types it; each command must succeed.
    #[track_caller]
    pub(crate) fn types(&self, text: &str) -> String {
        let output = self.tries(text);
        let (said, failed) = (text_of(&output.stdout), text_of(&output.stderr));
        assert!(output.status.success(), "{text}\n{said}\n{failed}");
        said
    }

    pub(crate) fn tries(&self, text: &str) -> Output {
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

pub(crate) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
