//! Workflows that wait until an installed system answers: the server asks it, also after a restart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coordinator::netboot::Next;
use server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::*;

const BANNER: &str = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";

/// What a peer does with each connection: `said` at its first, and so on; the last for all that come then. `None`: it waits until the other
/// side hangs up.
struct Peer {
    at: SocketAddr,
    task: JoinHandle<()>,
    /// Connections so far, those that are open, and the most that were at once.
    all: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Peer {
    async fn new(at: &str, said: Vec<Option<&'static str>>) -> Peer {
        let listener = TcpListener::bind(at).await.expect("bind");
        let at = listener.local_addr().expect("address");
        let (all, open, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let task = tokio::spawn({
            let (all, most) = (all.clone(), most.clone());
            async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("accept");
                    let number = all.fetch_add(1, Ordering::SeqCst);
                    let said = said.get(number).or(said.last()).copied().flatten();
                    most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let open = open.clone();
                    tokio::spawn(async move {
                        serve(stream, said).await;
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Peer { at, task, all, most }
    }

    fn port(&self) -> u16 {
        self.at.port()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, said: Option<&str>) {
    let mut heard = [0; 1024];
    match said {
        Some(said) => {
            // An HTTP server hears the request first.
            if said.starts_with("HTTP") {
                let _ = stream.read(&mut heard).await;
            }
            let _ = stream.write_all(said.as_bytes()).await;
        }
        None => while stream.read(&mut heard).await.is_ok_and(|count| count > 0) {},
    }
}

/// A port on which nobody listens.
async fn nobody() -> u16 {
    Peer::new("127.0.0.1:0", vec![None]).await.port()
}

fn seen(history: &[proto::v1::WorkflowEvent]) -> Vec<String> {
    let unanswered = history.iter().filter(|event| event.kind == "unanswered");
    unanswered.map(|event| event.message.clone()).collect()
}

/// The machine boots its disk while the workflow waits, the server is restarted, and sshd comes up late.
#[tokio::test(flavor = "multi_thread")]
async fn an_installed_system_answers_late_and_to_another_server() {
    let (server, dir) = Server::with_machine().await;
    let port = nobody().await;
    let text = format!(
        "version: '1'\nname: whole\noutputs: {{banner: tasks.up.outputs.banner}}\ntasks:\n- name: install\n  worker: '{MAC}'\n  actions:\n  \
         - {{name: write, image: image2disk, environment: {{IMG_URL: 'http://10.77.0.1/a.raw', DEST_DISK: /dev/vda}}}}\n  \
         - {{name: restart, image: reboot}}\n- name: up\n  worker: '{MAC}'\n  answers: {{by: ssh, address: 127.0.0.1, port: {port}}}\n  timeout: 10m\n"
    );
    let id = server.create_of(&text).await.id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, succeeded()).await;
    let restart = agent.run().await;
    agent.report(&restart.attempt_id, leaving()).await;
    let waits = server
        .until(&id, |workflow| workflow.tasks[1].state == "WAITING")
        .await;
    assert_eq!(waits.tasks[0].state, "SUCCESS");
    // Not the agent: the workflow goes on, and does not need the machine.
    let mac = MAC.parse().expect("MAC");
    assert_eq!(
        server.control.boots_next(mac).await.expect("read").0,
        Next::LocalDisk
    );
    let refused = async |server: &Server| {
        let deadline = std::time::Instant::now() + WITHIN;
        while seen(&server.history(&id).await).is_empty() {
            assert!(std::time::Instant::now() < deadline, "it was not asked");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seen(&server.history(&id).await)
    };
    assert_eq!(refused(&server).await, ["no answer yet: connection refused"]);
    server.stop().await;

    let server = Server::start(&dir, Config::default()).await;
    let peer = Peer::new(&format!("127.0.0.1:{port}"), vec![Some(BANNER)]).await;
    let done = server.reaches(&id, "SUCCESS").await;
    assert_eq!(
        done.outputs_json,
        "{\"banner\":\"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\"}"
    );
    // Asked once, and never again.
    assert_eq!(peer.all.load(Ordering::SeqCst), 1);
    assert_eq!(seen(&server.history(&id).await).len(), 1);
    server.stop().await;
}

fn asks(by: &str, timeout: &str) -> String {
    format!(
        "version: '1'\nname: asks\ntasks:\n- name: up\n  answers: {{address: 127.0.0.1, {by}}}\n  timeout: {timeout}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_are_none() {
    let (server, _dir) = Server::with_machine().await;
    let mail = Peer::new(
        "127.0.0.1:0",
        vec![Some("220 mail ESMTP\r\n"), Some(""), Some(BANNER)],
    )
    .await;
    let web = Peer::new(
        "127.0.0.1:0",
        vec![
            Some("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"),
            Some("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
            Some("HTTP/1.1 204 Empty\r\n\r\n"),
        ],
    )
    .await;
    let ssh = asks(&format!("by: ssh, port: {}", mail.port()), "5m");
    let http = asks(&format!("by: http, port: {}, path: /healthz", web.port()), "5m");
    let (ssh, http) = (server.create_of(&ssh).await.id, server.create_of(&http).await.id);
    server.reaches(&ssh, "SUCCESS").await;
    assert_eq!(
        seen(&server.history(&ssh).await),
        [
            "no answer yet: it is no SSH server: it says \"220 mail ESMTP\"",
            "no answer yet: it hangs up without a word"
        ]
    );
    let done = server.reaches(&http, "SUCCESS").await;
    assert_eq!(
        seen(&server.history(&http).await),
        [
            "no answer yet: it answers with status 503",
            "no answer yet: it answers with status 302"
        ]
    );
    assert_eq!(
        done.tasks[0].outputs_json,
        format!("{{\"address\":\"127.0.0.1:{}\",\"status\":204}}", web.port())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_answers_times_the_task_out_with_what_came_last() {
    let (server, _dir) = Server::with_machine().await;
    let port = nobody().await;
    let id = server
        .create_of(&asks(&format!("by: http, port: {port}"), "3s"))
        .await
        .id;
    assert_eq!(
        server.reaches(&id, "TIMEOUT").await.message,
        format!(
            "task \"up\" timed out: its timeout of 3 s has passed; HTTP at 127.0.0.1:{port}: connection refused"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_systems_that_are_silent_hold_nobody_up() {
    let (server, _dir) = Server::with_machine().await;
    let silent = Peer::new("127.0.0.1:0", vec![None]).await;
    let many = format!(
        "version: '1'\nname: many\ntasks:\n- name: up\n  forEach: '[{}]'\n  answers: {{by: ssh, address: 127.0.0.1, port: {}}}\n  timeout: 10m\n",
        (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(", "),
        silent.port()
    );
    let many = server.create_of(&many).await.id;
    let deadline = std::time::Instant::now() + WITHIN;
    while silent.all.load(Ordering::SeqCst) == 0 {
        assert!(std::time::Instant::now() < deadline, "it was not asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let good = Peer::new("127.0.0.1:0", vec![Some(BANNER)]).await;
    let one = server
        .create_of(&asks(&format!("by: ssh, port: {}", good.port()), "5m"))
        .await
        .id;
    server.reaches(&one, "SUCCESS").await;
    // All are asked, a few at a time.
    while silent.all.load(Ordering::SeqCst) < 40 {
        assert!(std::time::Instant::now() < deadline, "not all were asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(silent.most.load(Ordering::SeqCst), 16);
    let told = seen(&server.history(&many).await);
    assert!(
        !told.is_empty()
            && told
                .iter()
                .all(|told| told == "no answer yet: no answer within 5 s"),
        "{told:?}"
    );
}
