//! Who asks: the first token, logging in and out, tokens for others, and what is said to those who may not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod servers;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use servers::Serve;
use tempfile::TempDir;

/// Somebody who has a home of their own, on a host that is not the server's.
struct Person {
    home: TempDir,
}

impl Person {
    fn new() -> Self {
        Self {
            home: TempDir::new().unwrap(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            // Another's: there is no server of this host.
            .env("FARRIER_DATA_DIR", self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn login(&self, server: &str, token: &str) -> Output {
        let mut child = self
            .command(&["login", server])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn logins(&self) -> std::path::PathBuf {
        self.home.path().join(".config/farrier/logins.toml")
    }
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn first_token(data: &Path) -> String {
    fs::read_to_string(data.join("admin.token")).unwrap()
}

#[test]
fn the_first_token_is_made_once_for_whoever_may_read_the_data_directory() {
    let dir = TempDir::new().unwrap();
    let serve = Serve::start(dir.path());
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["admin.token", "authority.pem", "farrier.redb"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(mode("blobs"), 0o700);
    // On the host itself nothing is to be done.
    assert_eq!(
        serve.run(&["whoami"]),
        format!("admin (admin) at {}\n", serve.api)
    );
    let token = first_token(dir.path());
    let (_, log) = serve.signal(Signal::SIGTERM);
    assert!(log.contains("the first token, of role admin, is in "), "{log}");
    assert!(!log.contains(token.trim()), "{log}");
    // A later start leaves it as it is, and does not make another when it was taken away.
    let serve = Serve::start(dir.path());
    assert_eq!(first_token(dir.path()), token);
    serve.run(&["machine", "list"]);
    let _ = serve.signal(Signal::SIGTERM);
    fs::remove_file(dir.path().join("admin.token")).unwrap();
    let serve = Serve::start(dir.path());
    assert!(!dir.path().join("admin.token").exists());
    let output = serve.command(&["machine", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let words = said(&output);
    assert!(
        words.starts_with(&format!("farrier: no token for the server at {} (", serve.api))
            && words.contains(&format!("farrier login {}", serve.api)),
        "{words}"
    );
    // Whoever may write the data directory gets in again, while the server is stopped.
    let store = |data: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
        command
            .args(["store", "admin-token", "--data-dir"])
            .arg(data)
            .env_clear();
        command.output().unwrap()
    };
    let refused = store(dir.path());
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("is in use by another process"),
        "{}",
        said(&refused)
    );
    let _ = serve.signal(Signal::SIGTERM);
    assert!(ok(&store(dir.path())).contains("admin.token"));
    assert_ne!(first_token(dir.path()), token);
    let serve = Serve::start(dir.path());
    serve.run(&["machine", "list"]);
    let stale = serve
        .command(&["machine", "list"])
        .env("FARRIER_TOKEN", token.trim())
        .output()
        .unwrap();
    assert_eq!(stale.status.code(), Some(5));
    let nowhere = store(&dir.path().join("nothing"));
    assert_eq!(nowhere.status.code(), Some(3));
}

#[test]
fn a_person_logs_in_is_known_by_name_and_logs_out() {
    let dir = TempDir::new().unwrap();
    let serve = Serve::start(dir.path());
    let made = serve
        .command(&["token", "create", "alice", "--group", "ops", "--group", "net"])
        .output()
        .unwrap();
    let token = ok(&made);
    assert!(said(&made).starts_with("made for alice (operator; groups ops, net): it is shown this once;"));
    let alice = Person::new();
    let output = alice.run(&["machine", "list", "--server", &serve.api]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));

    let words = ok(&alice.login(&serve.api, &token));
    assert_eq!(
        words,
        format!(
            "logged in to {} as alice (operator; groups ops, net)\n",
            serve.api
        )
    );
    let mode = fs::metadata(alice.logins()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The server is known from then on.
    assert_eq!(
        ok(&alice.run(&["whoami"])),
        format!("alice (operator; groups ops, net) at {}\n", serve.api)
    );
    let listed = alice.run(&["token", "list"]);
    assert_eq!(listed.status.code(), Some(5));
    assert!(
        said(&listed).contains("ListTokens is for tokens of role admin"),
        "{}",
        said(&listed)
    );
    let tokens = serve.run(&["token", "list"]);
    assert!(tokens.contains("alice  operator  ops,net"), "{tokens}");
    assert!(!tokens.contains(token.trim()), "{tokens}");

    // Another token for one command.
    let viewer = serve.run(&["token", "create", "vic", "--role", "viewer", "-o", "json"]);
    let viewer: serde_json::Value = serde_json::from_str(&viewer).unwrap();
    assert_eq!(
        (&viewer["role"], &viewer["created_by"]),
        (&"viewer".into(), &"admin".into())
    );
    let vic = alice
        .command(&["whoami"])
        .env("FARRIER_TOKEN", viewer["text"].as_str().unwrap())
        .output()
        .unwrap();
    assert!(ok(&vic).starts_with("vic (viewer) at "));

    serve.run(&["token", "delete", "alice"]);
    let output = alice.run(&["machine", "list"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(
        said(&output).contains("does not know the token"),
        "{}",
        said(&output)
    );
    assert_eq!(
        ok(&alice.run(&["logout"])),
        format!(
            "logged out of {}; the token is good until it is deleted\n",
            serve.api
        )
    );
    let again = alice.run(&["logout", &serve.api]);
    assert_eq!(again.status.code(), Some(3));
    assert!(!fs::read_to_string(alice.logins()).unwrap().contains("farrier1-"));
}

#[test]
fn a_token_leads_to_its_own_server_and_no_other() {
    let (ours, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (serve, impostor) = (Serve::start(ours.path()), Serve::start(other.path()));
    let person = Person::new();
    let output = person.login(&impostor.api, &first_token(ours.path()));
    assert_eq!(output.status.code(), Some(4));
    let words = said(&output);
    assert!(
        words.starts_with(&format!(
            "farrier: what answers at {} is not asked: it is a server of the authority ",
            impostor.api
        )) && words.contains("the token is for those of "),
        "{words}"
    );
    assert!(!person.logins().exists());
    // The socket of agents is none for people.
    let output = person.login(&serve.grpc, &first_token(ours.path()));
    assert_eq!(output.status.code(), Some(4));
    assert!(
        said(&output).contains("it speaks no TLS: a server's port for people is 42115"),
        "{}",
        said(&output)
    );

    for (text, why) in [
        ("hunter2", "a token begins with farrier1-"),
        (&first_token(ours.path())[..40], "cut or mistyped"),
        ("", "a token begins with farrier1-"),
    ] {
        let output = person.login(&serve.api, text);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(said(&output).contains(why), "{}", said(&output));
    }
}

#[test]
fn a_data_directory_whose_keys_others_may_read_is_refused() {
    let dir = TempDir::new().unwrap();
    let _ = Serve::start(dir.path()).signal(Signal::SIGTERM);
    let authority = dir.path().join("authority.pem");
    fs::set_permissions(&authority, fs::Permissions::from_mode(0o644)).unwrap();
    let output = servers::serve(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("may be read by others (mode 644)"),
        "{}",
        said(&output)
    );
}
