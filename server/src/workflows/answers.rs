//! Systems that workflows wait for: each is asked again and again by the server, until it answers or nobody waits any more.
//!
//! Whom to ask follows from a workflow's state ([`engine::questions`]), so that nothing of this is kept: after a restart the
//! workflows that have a timer are looked at again. What is asked costs nobody anything: an SSH server is hung up on when it has
//! introduced itself, an HTTP server gets one request, whose answer's body is not read.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coordinator::answers::{Banner, MAX_BANNER_BYTES, ssh_banner};
use coordinator::{Error, Input};
use futures_util::{StreamExt, stream};
use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::{Map, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use workflow::engine::{self, Command, Question, Seen};
use workflow::language::AnswersBy;

use crate::control::{ControlPlane, Inner};
use crate::tasks::caught;

/// Between two looks at a workflow.
const EVERY: Duration = Duration::from_secs(5);
/// From the first packet to the answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Systems that are asked at the same time.
const AT_ONCE: usize = 64;
/// Of one workflow.
const AT_ONCE_OF_ONE: usize = 16;
/// Of what is said of a failure.
const MAX_WHY_BYTES: usize = 300;

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(
    control: Weak<Inner>,
    mut wanted: mpsc::UnboundedReceiver<String>,
    stopped: impl Future<Output = ()>,
) {
    let asker = Arc::new(Asker {
        places: Semaphore::new(AT_ONCE),
        http: http(),
    });
    let mut asking: BTreeSet<String> = BTreeSet::new();
    // What a workflow wants while it is asked for may come after the last look at it.
    let mut again: BTreeSet<String> = BTreeSet::new();
    let mut tasks: JoinSet<String> = JoinSet::new();
    tokio::pin!(stopped);
    loop {
        let next = tokio::select! {
            () = &mut stopped => break,
            workflow = wanted.recv() => match workflow {
                Some(workflow) if asking.contains(&workflow) => {
                    again.insert(workflow);
                    continue;
                }
                Some(workflow) => workflow,
                None => break,
            },
            Some(done) = tasks.join_next() => {
                let Ok(workflow) = done else { continue };
                asking.remove(&workflow);
                match again.take(&workflow) {
                    Some(workflow) => workflow,
                    None => continue,
                }
            }
        };
        asking.insert(next.clone());
        let (control, asker) = (control.clone(), asker.clone());
        tasks.spawn(async move {
            while caught("asking for answers", asker.ask_for(control.clone(), &next))
                .await
                .is_none()
            {
                tokio::time::sleep(EVERY).await;
            }
            next
        });
    }
    // Steps go on to their end by themselves.
    tasks.abort_all();
}

struct Asker {
    places: Semaphore,
    /// Or why there is none.
    http: Result<Client, String>,
}

impl Asker {
    /// Asks for one workflow, as long as it waits for an answer.
    async fn ask_for(&self, control: Weak<Inner>, id: &str) {
        loop {
            let Some(inner) = control.upgrade() else { return };
            let held = ControlPlane { inner };
            let wanted = id.to_owned();
            let found = held.ask_coordinator(move |coordinator| coordinator.workflow(&wanted));
            match found.await {
                Ok(Some(workflow)) if engine::waits_for_answers(&workflow) => {
                    let asked = stream::iter(engine::questions(&workflow));
                    let (held, workflow) = (&held, &workflow.head.id);
                    asked
                        .for_each_concurrent(AT_ONCE_OF_ONE, |question| self.ask(held, workflow, question))
                        .await;
                }
                Ok(_) | Err(Error::Archived(_)) => return,
                Err(error) => tracing::error!(
                    workflow = id,
                    error = &error as &dyn std::error::Error,
                    "systems that a workflow waits for are not asked, tried again in {} s",
                    EVERY.as_secs()
                ),
            }
            drop(held);
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn ask(&self, control: &ControlPlane, workflow: &str, question: Question) {
        let Ok(_place) = self.places.acquire().await else {
            return;
        };
        let seen = self.seen(&question).await;
        if let Seen::Else(seen) = &seen
            && (*seen == question.seen || !question.is_noted)
        {
            return;
        }
        let input = Input::Command {
            workflow: workflow.to_owned(),
            command: Command::Answered {
                execution: question.execution,
                seen,
            },
        };
        if let Err(error) = control.step_to_its_end(input).await {
            tracing::error!(
                workflow,
                error = &error as &dyn std::error::Error,
                "what a system answered is not taken, it is asked again in {} s",
                EVERY.as_secs()
            );
        }
    }

    async fn seen(&self, question: &Question) -> Seen {
        let asked = async {
            match question.by {
                AnswersBy::Http => self.ask_http(question).await,
                AnswersBy::Ssh => ask_ssh(question).await,
            }
        };
        match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
            Ok(Ok(outputs)) => Seen::Answer(outputs),
            Ok(Err(mut why)) => {
                crate::bounds::cut(&mut why, MAX_WHY_BYTES, "…");
                Seen::Else(why)
            }
            Err(_) => Seen::Else(format!("no answer within {} s", ANSWERS_WITHIN.as_secs())),
        }
    }

    async fn ask_http(&self, question: &Question) -> Result<Map<String, serde_json::Value>, String> {
        let client = self.http.as_ref().map_err(Clone::clone)?;
        let url = format!("http://{}{}", at(question), question.path);
        let answer = client.get(url).send().await.map_err(of_request)?;
        let status = answer.status().as_u16();
        let is_it = match question.status {
            0 => answer.status().is_success(),
            wanted => status == wanted,
        };
        match is_it {
            true => Ok(outputs(question, "status", json!(status))),
            false => Err(format!("it answers with status {status}")),
        }
    }
}

async fn ask_ssh(question: &Question) -> Result<Map<String, serde_json::Value>, String> {
    let connected = TcpStream::connect((question.address.as_str(), question.port)).await;
    let mut stream = connected.map_err(|error| of_io(&error))?;
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 512];
        let room = (MAX_BANNER_BYTES - bytes.len()).min(piece.len());
        let count = match stream.read(&mut piece[..room]).await {
            Ok(count) => count,
            // Hanging up hard is hanging up.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(of_io(&error)),
        };
        bytes.extend_from_slice(&piece[..count]);
        match ssh_banner(&bytes, count == 0) {
            Banner::Is(line) => return Ok(outputs(question, "banner", json!(line))),
            Banner::Not(why) => return Err(why),
            Banner::Open => {}
        }
    }
}

/// Host and port, as they stand in a URL.
fn at(question: &Question) -> String {
    let Question { address, port, .. } = question;
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

fn outputs(question: &Question, what: &str, value: serde_json::Value) -> Map<String, serde_json::Value> {
    Map::from_iter([
        ("address".to_owned(), json!(at(question))),
        (what.to_owned(), value),
    ])
}

fn of_io(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "there is no way to it".to_owned(),
        ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    }
}

/// Words that are the same each time: who waits is told of what changes.
fn of_request(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    let mut last = String::new();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return of_io(error);
        }
        last = error.to_string();
        cause = error.source();
    }
    match () {
        () if error.is_connect() => format!("no connection: {last}"),
        () => format!("it does not answer as HTTP: {last}"),
    }
}

fn http() -> Result<Client, String> {
    // reqwest panics when no provider is installed; an error means that one already is.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .http1_only()
        .tls_certs_only([])
        .pool_max_idle_per_host(0)
        .redirect(Policy::none())
        .user_agent(concat!("farrier/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the server has no HTTP client: {error}"))
}
