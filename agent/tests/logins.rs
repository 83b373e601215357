//! Logins for registries, and everything that an action which is root among the machine's processes may try to read one. By the real agent
//! as a process, and a registry of others that wants a password. As root.

mod debian;
mod fake;

// What pushes images uses them.
use ephemeral as _;
use serde_json as _;

use debian::{Registry, USER, password};
use fake::{Agent, FakeServer, Stream};
use proto::v1::report::Outcome;
use proto::v1::{self, RunAction};

struct World {
    folder: tempfile::TempDir,
    _registry: Registry,
    image: String,
    server: FakeServer,
    stream: Stream,
    agent: Agent,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::Builder::new()
            .prefix("runtime.")
            .tempdir()
            .expect("folder");
        let registry = Registry::with_login(folder.path());
        registry.push_image_of("");
        let image = format!("{}/tools/box:v1", registry.host);
        let state = folder.path().join("state");
        std::fs::create_dir(&state).expect("state");
        let mut server = FakeServer::start().await;
        server.data().pull_settings = login(&password());
        let agent = Agent::start(&server, &state);
        let (stream, _) = server.accept().await;
        stream.welcome_of(5).await;
        World {
            folder,
            _registry: registry,
            image,
            server,
            stream,
            agent,
        }
    }

    /// An action with all rights among the machine's processes, which sees the agent's files.
    fn action(&self, attempt_id: &str, script: &str) -> RunAction {
        let state = self.folder.path().join("state");
        RunAction {
            attempt_id: attempt_id.to_owned(),
            workflow_id: "w".to_owned(),
            action: "thief".to_owned(),
            image: self.image.clone(),
            command: vec![script.to_owned()],
            environment: [
                ("CANARY".to_owned(), CANARY.to_owned()),
                ("AGENT".to_owned(), self.agent.child.id().to_string()),
            ]
            .into(),
            volumes: vec![format!("{}:/agent:ro", state.display())],
            pid: "host".to_owned(),
            has_pull_settings: true,
            ..RunAction::default()
        }
    }

    /// Has an action look for the login, and for something that is to be found where it looks: `what` prints all that there is to read.
    async fn look(&mut self, what: &str, canary: &str) -> Looked {
        let script = format!(
            "{{ {what}\n}} 2>/dev/null | tr '\\000-\\037' '\\n' > /tmp/seen\n\
             grep -q -F 'open'' sesame' /tmp/seen && echo the password is there\n\
             grep -q -F 'YWxpOm9wZW4''gc2VzYW1l' /tmp/seen && echo the header is there\n\
             grep -q -F {canary} /tmp/seen && echo the canary is there\n\
             echo looked"
        );
        let action = self.action("w/1", &format!("mkdir -p /tmp; {script}"));
        let ended = self.stream.end_of(&action).await;
        let Outcome::Succeeded(_) = ended else {
            panic!("{ended:?}: {:?}", self.stream.lines)
        };
        assert_eq!(self.server.data().nonces.len(), 1, "it asked for its login");
        let said = |text: &str| self.stream.lines.iter().any(|line| line.ends_with(text));
        assert!(said("looked"), "{:?}", self.stream.lines);
        Looked {
            has_login: said("the password is there") || said("the header is there"),
            has_canary: said("the canary is there"),
        }
    }
}

/// What an action has found.
#[derive(Debug, PartialEq, Eq)]
struct Looked {
    has_login: bool,
    has_canary: bool,
}

/// It looked where there is something to be seen, and the login is not there.
const NOT_STOLEN: Looked = Looked {
    has_login: false,
    has_canary: true,
};

const CANARY: &str = "canary-of-this-action";

fn login(password: &str) -> v1::PullSettings {
    v1::PullSettings {
        user: USER.to_owned(),
        password: password.to_owned(),
        ..v1::PullSettings::default()
    }
}

/// Everything that a process has in memory that it may have written: what was read of a file it has not.
const MEMORY: &str = "while read range rights rest; do
  case $rights in rw*) ;; *) continue;; esac
  from=$((0x${range%-*} / 4096)); to=$((0x${range#*-} / 4096))
  dd if=/proc/$AGENT/mem bs=4096 skip=$from count=$((to - from))
done < /proc/$AGENT/maps";

#[tokio::test]
async fn the_agents_memory_has_no_login_while_an_action_runs() {
    let mut world = World::new().await;
    assert_eq!(world.look(MEMORY, CANARY).await, NOT_STOLEN);
}

#[tokio::test]
async fn no_process_has_the_login_in_its_environment_or_its_command_line() {
    let mut world = World::new().await;
    let what = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline";
    assert_eq!(world.look(what, CANARY).await, NOT_STOLEN);
}

#[tokio::test]
async fn no_descriptor_of_the_agent_leads_to_the_login() {
    let mut world = World::new().await;
    // Files, memory files among them. Its stderr is one, and says which action it runs.
    let what = "for file in /proc/$AGENT/fd/*; do if test -f $file; then cat $file; fi; done";
    assert_eq!(world.look(what, "thief").await, NOT_STOLEN);
}

#[tokio::test]
async fn no_file_of_the_agent_has_the_login() {
    let mut world = World::new().await;
    // Its journal names the attempt; the image's layers lie there, too.
    let what = "find /agent -xdev -type f -exec cat {} +";
    assert_eq!(world.look(what, "w/1").await, NOT_STOLEN);
}

#[tokio::test]
async fn what_the_action_itself_is_given_has_no_login() {
    let mut world = World::new().await;
    let what = "env; find /run /workflow /etc -xdev -type f -exec cat {} +; cat /proc/cmdline";
    assert_eq!(world.look(what, CANARY).await, NOT_STOLEN);
}

#[tokio::test]
async fn an_action_that_is_stopped_while_its_image_comes_leaves_no_login_to_the_next() {
    let mut world = World::new().await;
    // Nobody answers there, and the login is here for as long.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let nobody = silent.local_addr().expect("an address");
    let image = std::mem::replace(&mut world.image, format!("{nobody}/tools/box:v1"));
    let stuck = world.action("w/0", "true");
    world.stream.run(&stuck).await;
    world.stream.report().await;
    let _asked = silent.accept().await.expect("the registry is asked");
    world.stream.stop("w/0").await;
    let stopped = world.stream.report().await.outcome.expect("an outcome");
    assert!(matches!(stopped, Outcome::Stopped(_)), "{stopped:?}");
    world.image = image;
    world.server.data().nonces.clear();
    assert_eq!(world.look(MEMORY, CANARY).await, NOT_STOLEN);
}

#[tokio::test]
async fn a_registry_that_repeats_the_password_is_not_passed_on() {
    let mut world = World::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let echo = silent.local_addr().expect("an address");
    // It wants a password, is given one, and says which.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = silent.accept().await {
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut asked = vec![0; 4096];
                while let Ok(length) = stream.read(&mut asked).await {
                    if length == 0 {
                        break;
                    }
                    let text = String::from_utf8_lossy(&asked[..length]).into_owned();
                    let told = text
                        .lines()
                        .find_map(|line| line.split_once("Basic "))
                        .map(|(_, told)| told.trim().to_owned());
                    let body = format!(
                        "{{\"errors\": [{{\"message\": \"not {} {}\"}}]}}",
                        password(),
                        told.unwrap_or_default()
                    );
                    let answer = format!(
                        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"lab\"\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    world.image = format!("{echo}/tools/box:v1");
    let ended = world.stream.end_of(&world.action("w/1", "true")).await;
    let Outcome::Failed(failed) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(failed.reason, "WrongCredentials", "{}", failed.message);
    assert!(failed.message.contains("not *** ***"), "{}", failed.message);
    let console = std::fs::read_to_string(world.folder.path().join("state/stderr")).expect("what it said");
    assert!(console.contains("WrongCredentials"), "{console}");
    for secret in [password(), "YWxpOm9wZW4gc2VzYW1l".to_owned()] {
        assert!(
            !console.contains(&secret) && !failed.message.contains(&secret),
            "{console}"
        );
    }
}

#[tokio::test]
async fn a_password_that_is_wrong_or_missing_is_said_and_a_server_that_is_away_is_waited_for() {
    let mut world = World::new().await;
    world.server.data().pull_settings = v1::PullSettings::default();
    let ended = world.stream.end_of(&world.action("w/1", "true")).await;
    assert!(
        matches!(&ended, Outcome::Failed(failed) if failed.reason == "LoginWanted"),
        "{ended:?}"
    );
    world.server.data().pull_settings = login("close sesame");
    let ended = world.stream.end_of(&world.action("w/2", "true")).await;
    assert!(
        matches!(&ended, Outcome::Failed(failed) if failed.reason == "WrongCredentials"),
        "{ended:?}"
    );
    world.server.data().pull_settings = login(&password());
    world.server.data().away = 2;
    world.server.data().nonces.clear();
    let ended = world.stream.end_of(&world.action("w/3", "true")).await;
    assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
    let nonce = world.server.data().nonces[0].clone();
    assert_eq!(nonce.len(), 32);
    // Its own for each attempt.
    let ended = world.stream.end_of(&world.action("w/4", "true")).await;
    assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
    assert_ne!(world.server.data().nonces[1], nonce);
    // One that is told of nothing asks for nothing, and has no login.
    let without = RunAction {
        has_pull_settings: false,
        ..world.action("w/5", "true")
    };
    let ended = world.stream.end_of(&without).await;
    assert!(
        matches!(&ended, Outcome::Failed(failed) if failed.reason == "LoginWanted"),
        "{ended:?}"
    );
    assert_eq!(world.server.data().nonces.len(), 2);
}
