//! Secrets from one end to the other: a real server, the real agent, an action that prints what it was handed in every way
//! it can. Then everything that there is is looked through for the values: all files of the data directory, archives
//! unpacked, exports, what every command prints in every format, what server and agent say.
//!
//! Has a `main` of its own: this program is the agent, too, as the command of an action is run by the agent's binary.

#![allow(clippy::unwrap_used, reason = "tests")]

mod servers;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use servers::Serve;

const NAME: &str = "no_secret_is_anywhere_but_in_the_action";
const WITHIN: Duration = Duration::from_secs(60);

/// Of one line, with characters that JSON, YAML and shells write otherwise.
const PASSWORD: &str = "q7-correct \"horse\" 'battery' \\staple";
/// Of several lines.
const KEY: &str =
    "-----BEGIN TEST KEY-----\nMIIEpAIBAAKCAQEAx7\nq9Zt5vB2nM8kLp0WeR==\n-----END TEST KEY-----\n";
/// Comes by the machine's record.
const OF_RECORD: &str = "rec0rd-passphrase-77";
/// Part of a URL and of a command line.
const TOKEN: &str = "tok3n_5f1c9b77aa";

const MACHINE: &str = "\
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: node1}
spec:
  userData: \"password: ${{ secrets.OF_RECORD }}\"
  interfaces:
    - dhcp: {mac: \"52:54:00:77:00:0b\", hostname: node1}
      netboot: {allowPXE: false, allowWorkflow: true}
";

const TEMPLATE: &str = r#"
version: "1"
name: login
inputs: {fails: {type: bool, default: false}}
outputs: {said: tasks.login.outputs.said}
tasks:
  - name: login
    worker: "52:54:00:77:00:0b"
    environment:
      BLOCK_DEVICE: /dev/null
      FS_TYPE: tmpfs
      DEFAULT_INTERPRETER: /bin/sh -c
      PASSWORD: "${{ secrets.PASSWORD }}"
      KEY: "${{ secrets.KEY }}"
      TOKEN: "${{ secrets.TOKEN }}"
      USER_DATA: "{{ .hardware.spec.userData }}"
    actions:
      - name: say it all
        image: cexec
        environment:
          FAILS: "${{ inputs.fails }}"
          CMD_LINE: |
            printf %s "$PASSWORD" > SEEN/password
            printf %s "$KEY" > SEEN/key
            printf %s "$USER_DATA" > SEEN/user_data
            echo "password is $PASSWORD"
            echo "$KEY" >&2
            echo "$USER_DATA" and ${{ secrets.TOKEN }}
            printf 'in two pieces: '; printf %s "$TOKEN" | head -c 7; sleep 0.2; printf %s "$TOKEN" | tail -c +8; echo
            head -c 16376 /dev/zero | tr '\0' 'y'; echo "$PASSWORD"
            escaped=$(printf %s "$TOKEN" | sed 's/o/\\u006f/')
            printf '{"said": ["%s", "%s"]}' "${USER_DATA#password: }" "$escaped" > "$FARRIER_OUTPUT"
            env
            if [ "$FAILS" = true ]; then
              printf '{"reason": "Bad", "message": "wrong: %s"}' "${USER_DATA#password: }" > "$FARRIER_OUTPUT"
              exit 3
            fi
            echo "$PASSWORD"
      - name: fetch
        image: image2disk
        environment:
          IMG_URL: "http://127.0.0.1:1/${{ secrets.TOKEN }}/image.raw"
          DEST_DISK: /dev/no-such-disk-${{ inputs.fails }}
"#;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("chroot-exec" | "--server") => std::process::exit(match agent::run(&arguments) {
            code if code == std::process::ExitCode::SUCCESS => 0,
            _ => 1,
        }),
        // As the tests' own harness takes names.
        Some("--list") => println!("{NAME}: test"),
        Some(filter) if !filter.starts_with('-') && !NAME.contains(filter) => {}
        _ => {
            no_secret_is_anywhere_but_in_the_action();
            println!("test {NAME} ... ok");
        }
    }
}

fn no_secret_is_anywhere_but_in_the_action() {
    let world = World::begin();
    for (name, value) in [
        ("PASSWORD", format!("{PASSWORD}\n")),
        ("KEY", KEY.to_owned()),
        ("OF_RECORD", OF_RECORD.to_owned()),
        ("TOKEN", TOKEN.to_owned()),
    ] {
        let said = world.with_input(&["secret", "set", name], &value);
        assert_eq!(text(&said), format!("secret {name} is set, version 1\n"));
    }
    world.ok(&["machine", "apply", "-f", &world.file("machine.yaml", MACHINE)]);
    let seen = world.folder.path().join("seen");
    fs::create_dir(&seen).unwrap();
    let template = TEMPLATE.replace("SEEN", seen.to_str().unwrap());
    world.ok(&["template", "create", "-f", &world.file("login.yaml", &template)]);
    let create = [
        "workflow",
        "create",
        "-t",
        "login",
        "-q",
        "-r",
        "device_1=52:54:00:77:00:0b",
    ];
    let first = world.ok(&create);
    let first = first.trim();
    world.wait(first);

    // The road leads there.
    let seen = |name: &str| fs::read_to_string(seen.join(name)).unwrap();
    assert_eq!(seen("password"), PASSWORD);
    assert_eq!(seen("key"), KEY);
    assert_eq!(seen("user_data"), format!("password: {OF_RECORD}"));
    let log = world.ok(&["workflow", "logs", first]);
    assert!(
        log.contains("password is ***") && log.contains("in two pieces: ***"),
        "{log}"
    );

    let failing = world.ok(&[&create[..], &["-i", "fails=true"]].concat());
    let failing = failing.trim();
    world.wait(failing);
    let ended = world.ok(&["workflow", "get", failing, "-o", "json"]);
    assert!(ended.contains("wrong: ***"), "{ended}");
    // One whose rows are in the store, all others being archived.
    let open = world.ok(&[&create[..], &["-i", "fails=false", "--name", "waits"]].concat());
    let open = open.trim();
    world.ok(&["workflow", "pause", open]);
    world.archived(2);

    let mut outputs = world.every_output(&[first, failing, open]);
    assert!(
        outputs
            .iter()
            .any(|(_, said)| said.contains("${{ secrets.PASSWORD }}")),
        "the hole is shown"
    );
    let (folder, said) = world.end();
    assert!(said.contains("action pushed"), "the server's log is there");
    outputs.push(("the log of the server".into(), said));
    outputs.extend(offline(folder.path()));
    let mut places = outputs.len();
    for (what, said) in &outputs {
        check(what, said.as_bytes());
    }
    for file in files(folder.path()) {
        if file.starts_with(folder.path().join("seen")) {
            continue;
        }
        let bytes = fs::read(&file).unwrap();
        check(&file.display().to_string(), &bytes);
        if let Ok(unpacked) = zstd::decode_all(&bytes[..]) {
            check(&format!("{} unpacked", file.display()), &unpacked);
            places += 1;
        }
        places += 1;
    }
    assert!(places > 80, "{places} places are too few to be all");
}

/// No value and no telling part of one is in it, in no form in which something of ours might write it.
#[track_caller]
fn check(what: &str, bytes: &[u8]) {
    let lines = KEY.lines().filter(|line| !line.is_empty());
    let parts = [PASSWORD, OF_RECORD, TOKEN].into_iter().chain(lines);
    for part in parts.chain([
        "horse",
        "battery",
        "staple",
        "passphrase",
        "tok3n_5f",
        "1c9b77aa",
        "rec0rd",
    ]) {
        let hex: String = part.bytes().map(|byte| format!("{byte:02x}")).collect();
        let numbers: Vec<String> = part.bytes().map(|byte| byte.to_string()).collect();
        for form in [part.to_owned(), hex, numbers.join(", "), numbers.join(",")] {
            let is_there = bytes.windows(form.len()).any(|window| window == form.as_bytes());
            assert!(!is_there, "{what} has {part:?} as {form}");
        }
    }
}

struct World {
    folder: tempfile::TempDir,
    server: Serve,
    agent: Agent,
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    fn begin() -> World {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut command = servers::serve(&data);
        // All that it can say.
        command.args(["--archive-after", "0"]).env("RUST_LOG", "trace");
        let server = Serve::started(command, &data);
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        let agent = Command::new(std::env::current_exe().unwrap())
            .args([
                "--server",
                &server.grpc,
                "--mac",
                "52:54:00:77:00:0b",
                "--state-dir",
            ])
            .arg(&state)
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("agent.out")).unwrap())
            .stderr(File::create(folder.path().join("agent.err")).unwrap())
            .spawn()
            .unwrap();
        World {
            folder,
            server,
            agent: Agent(agent),
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn ask(&self, args: &[&str]) -> Command {
        self.server.command(args)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        text(&self.ask(args).output().unwrap())
    }

    fn with_input(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.ask(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn wait(&self, id: &str) {
        let ended = self
            .ask(&["workflow", "wait", id, "--timeout", "60s"])
            .output()
            .unwrap();
        // A failed workflow is an end as well.
        assert!(ended.status.code().is_some_and(|code| code <= 1), "{ended:?}");
    }

    /// Waits until so many workflows are archived.
    fn archived(&self, wanted: usize) {
        let deadline = Instant::now() + WITHIN;
        let blobs = self.folder.path().join("data/blobs");
        while files(&blobs).len() < wanted {
            assert!(Instant::now() < deadline, "they are not archived");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What each command prints in each format.
    fn every_output(&self, workflows: &[&str]) -> Vec<(String, String)> {
        let mut commands: Vec<Vec<&str>> = [
            "machine list",
            "machine get node1",
            "machine boot-log node1",
            "template list",
            "template get login",
            "template render login -r device_1=52:54:00:77:00:0b",
            "workflow list",
            "secret list",
            "token list",
            "whoami",
        ]
        .iter()
        .map(|command| command.split(' ').collect())
        .collect();
        for id in workflows {
            for command in ["get", "events", "logs", "state", "explain", "graph"] {
                commands.push(vec!["workflow", command, id]);
            }
        }
        let mut outputs = Vec::new();
        for command in &commands {
            for format in ["table", "json", "yaml"] {
                let said = self
                    .ask(&[&command[..], &["-o", format]].concat())
                    .output()
                    .unwrap();
                let (out, err) = (
                    String::from_utf8_lossy(&said.stdout),
                    String::from_utf8_lossy(&said.stderr),
                );
                // A command without formats says so.
                assert!(
                    said.status.success() || said.status.code() == Some(2),
                    "{command:?}: {err}"
                );
                outputs.push((format!("{command:?} -o {format}"), format!("{out}{err}")));
            }
        }
        outputs
    }

    /// Ends both as their operators do; with what the server has said.
    fn end(mut self) -> (tempfile::TempDir, String) {
        let id = Pid::from_raw(i32::try_from(self.agent.0.id()).unwrap());
        kill(id, Signal::SIGTERM).unwrap();
        self.agent.0.wait().unwrap();
        let (code, said) = self.server.signal(Signal::SIGTERM);
        assert_eq!(code, Some(0), "{said}");
        (self.folder, said)
    }
}

/// Exports, an import without the key file, and what the commands say.
fn offline(folder: &Path) -> Vec<(String, String)> {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (data, export, copy) = (path("data"), path("export"), path("copy"));
    let mut outputs = Vec::new();
    for (args, words) in [
        (["store", "check", "--data-dir", &data, "-o", "json"].to_vec(), ""),
        (
            ["store", "export", &export, "--data-dir", &data].to_vec(),
            "secrets.key alone, which is not in it",
        ),
        (
            ["store", "import", &export, "--data-dir", &copy].to_vec(),
            "put the secrets.key of the server",
        ),
    ] {
        let said = farrier(&args).stdout(Stdio::piped()).output().unwrap();
        let err = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success() && err.contains(words), "{args:?}: {err}");
        outputs.push((format!("{args:?}"), text(&said) + &err));
    }
    let tar = farrier(&["store", "export", "-", "--data-dir", &data])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    outputs.push((
        "an export as an archive".into(),
        String::from_utf8_lossy(&tar.stdout).into_owned(),
    ));
    assert!(
        !files(Path::new(&export))
            .iter()
            .any(|file| file.ends_with("secrets.key"))
    );
    outputs
}

fn files(below: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(below) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn farrier(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command
        .args(args)
        .env_clear()
        .env("TZ", "UTC")
        .stderr(Stdio::piped());
    command
}

#[track_caller]
fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
