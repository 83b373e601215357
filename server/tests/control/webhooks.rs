//! Webhooks, with receivers that take what they are sent and with such as do not.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use proto::v1::{
    CreateWebhookRequest, CreateWorkflowRequest, DeleteWebhookRequest, GetWebhookRequest,
    ListWebhooksRequest, TestWebhookRequest, Webhook, WebhookDeliveriesRequest, WebhookDelivery,
};
use server::Config;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::harness::*;

const SHORT: &str = "version: '1'\nname: short\nlabels: {rack: r7}\ntasks: [{name: only, succeed: {}}]\n";
const ASKS: &str = "version: '1'\nname: asks\ntasks: [{name: go, approve: {message: go on?}}]\n";

/// What a receiver does with a request.
#[derive(Clone, Debug)]
enum Does {
    Answers(u16),
    /// With these header lines.
    AnswersWith(u16, String),
    /// Well, with a body that has no end.
    Floods,
    /// Says nothing.
    Hangs,
    HangsUp,
}

/// A request as it came.
#[derive(Clone, Debug)]
struct Got {
    at: Instant,
    head: String,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> String {
        let line = self.head.lines().find_map(|line| {
            let (called, value) = line.split_once(':')?;
            called.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        });
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn id(&self) -> String {
        self.header("webhook-id")
    }
}

/// A receiver: does what it is told to, then answers 200 for ever.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    will: Arc<Mutex<VecDeque<Does>>>,
}

impl Receiver {
    async fn that(will: impl IntoIterator<Item = Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        Self::on(listener, will)
    }

    fn on(listener: TcpListener, will: impl IntoIterator<Item = Does>) -> Self {
        let receiver = Self {
            address: listener.local_addr().expect("an address"),
            got: Arc::default(),
            will: Arc::new(Mutex::new(will.into_iter().collect())),
        };
        let served = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(stream));
            }
        });
        receiver
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let (head, body) = loop {
            let mut more = [0; 4096];
            let Ok(read @ 1..) = stream.read(&mut more).await else {
                return;
            };
            bytes.extend_from_slice(&more[..read]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                break (head.to_owned(), body.to_owned());
            }
        };
        let at = Instant::now();
        self.got
            .lock()
            .expect("not poisoned")
            .push(Got { at, head, body });
        let does = self.will.lock().expect("not poisoned").pop_front();
        let (code, headers) = match does.unwrap_or(Does::Answers(200)) {
            Does::Answers(code) => (code, String::new()),
            Does::AnswersWith(code, headers) => (code, headers),
            Does::HangsUp => return,
            Does::Hangs => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                return;
            }
            Does::Floods => {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await;
                while stream.write_all(b"1000\r\n").await.is_ok() {
                    if stream.write_all(&[b'x'; 0x1000]).await.is_err()
                        || stream.write_all(b"\r\n").await.is_err()
                    {
                        return;
                    }
                }
                return;
            }
        };
        let answer =
            format!("HTTP/1.1 {code} Said\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().expect("not poisoned").clone()
    }

    async fn has(&self, requests: usize) -> Vec<Got> {
        until("requests", || self.got().len() >= requests).await;
        self.got()
    }
}

fn asked(name: &str, url: String, on: &[&str]) -> CreateWebhookRequest {
    CreateWebhookRequest {
        name: name.into(),
        url,
        on: on.iter().map(|on| (*on).to_owned()).collect(),
        ..CreateWebhookRequest::default()
    }
}

/// Gives the key that messages are signed with.
async fn made(server: &Server, request: CreateWebhookRequest) -> String {
    let made = server.client().await.create_webhook(request).await;
    made.expect("a webhook").into_inner().signing_key
}

async fn webhook(server: &Server, name: &str) -> Webhook {
    let request = GetWebhookRequest {
        name: name.into(),
        ..GetWebhookRequest::default()
    };
    server
        .client()
        .await
        .get_webhook(request)
        .await
        .expect("a webhook")
        .into_inner()
}

async fn deliveries(server: &Server, name: &str) -> Vec<WebhookDelivery> {
    let request = WebhookDeliveriesRequest {
        name: name.into(),
        ..WebhookDeliveriesRequest::default()
    };
    let answer = server.client().await.webhook_deliveries(request).await;
    answer.expect("deliveries").into_inner().deliveries
}

/// Waits until the newest delivery is as wanted.
async fn newest(server: &Server, name: &str, wanted: impl Fn(&WebhookDelivery) -> bool) -> WebhookDelivery {
    let deadline = Instant::now() + WITHIN;
    loop {
        let listed = deliveries(server, name).await;
        if let Some(first) = listed.first().filter(|first| wanted(first)) {
            return first.clone();
        }
        assert!(Instant::now() < deadline, "not yet: {listed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// HMAC-SHA256 (RFC 2104), written here anew.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    assert!(key.len() <= 64);
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::digest([&padded(0x36)[..], text].concat());
    Sha256::digest([&padded(0x5c)[..], &inner].concat()).to_vec()
}

#[track_caller]
fn is_signed(got: &Got, key: &str) {
    let key = BASE64
        .decode(key.strip_prefix("whsec_").expect("a key").as_bytes())
        .expect("base64");
    let at = got.header("webhook-timestamp");
    let text = format!("{}.{at}.{}", got.id(), got.body);
    let want = format!("v1,{}", BASE64.encode(&hmac(&key, text.as_bytes())));
    assert_eq!(got.header("webhook-signature"), want);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    assert!(now.as_secs().abs_diff(at.parse().expect("a number")) < 60, "{at}");
}

#[test]
fn our_own_check_of_signatures_is_that_of_the_standard() {
    let key = BASE64
        .decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .expect("base64");
    let text = br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
    assert_eq!(
        BASE64.encode(&hmac(&key, text)),
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_waits_for_approval_and_silent_machines_are_told_and_signed() {
    let config = Config {
        lost_after: Duration::from_millis(500),
        ..Config::default()
    };
    let (server, _dir) = Server::with_machine_and(config).await;
    // Of before it was made nothing is told.
    let before = server.create_of(SHORT).await.id;
    server.reaches(&before, "SUCCESS").await;
    let receiver = Receiver::that([]).await;
    let key = made(
        &server,
        asked("ops", receiver.url(), &["ended", "approval", "silent"]),
    )
    .await;
    let parent = "version: '1'\nname: parent\ntasks: [{name: inner, workflow: short}]\n";
    server.put(SHORT).await.expect("template");
    let ended = server.create_of(parent).await.id;
    server.reaches(&ended, "SUCCESS").await;
    let waits = server.create_of(ASKS).await.id;
    receiver.has(2).await;
    let lost = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    agent.report(&run.attempt_id, started()).await;
    agent.acknowledged().await;
    drop(agent);
    let got = receiver.has(3).await;
    let told: Vec<(String, String)> = got
        .iter()
        .map(|got| {
            let json = got.json();
            let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
            (text(&json["type"]), text(&json["data"]["workflow"]))
        })
        .collect();
    let want = [
        ("workflow.ended", &ended),
        ("workflow.waits_for_approval", &waits),
        ("machine.silent", &lost),
    ];
    assert_eq!(told, want.map(|(kind, id)| (kind.to_owned(), id.clone())));
    for got in &got {
        is_signed(got, &key);
        assert!(got.head.starts_with("POST /hook HTTP/1.1"), "{}", got.head);
        assert_eq!(got.header("content-type"), "application/json");
        let event = got.json()["data"]["event"].as_u64().expect("a number");
        let workflow = got.json()["data"]["workflow"].as_str().expect("an id").to_owned();
        assert_eq!(got.id(), format!("evt_{workflow}_{event}"));
    }
    let first = got[0].json();
    assert_eq!(
        (first["data"]["state"].as_str(), first["data"]["name"].as_str()),
        (Some("SUCCESS"), Some("parent"))
    );
    assert_eq!(got[1].json()["data"]["task"].as_str(), Some("go"));
    assert_eq!(got[2].json()["data"]["machine"].as_str(), Some(MAC));
    let listed = newest(&server, "ops", |newest| {
        newest.state == "DELIVERED" && newest.number == 3
    })
    .await;
    assert_eq!(
        (listed.tries, listed.status, listed.id),
        (1, Some(200), got[2].id())
    );
    assert_eq!(webhook(&server, "ops").await.state, "ACTIVE");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_comes_again_and_those_behind_it_wait() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    let receiver = Receiver::that([
        Does::Answers(500),
        Does::HangsUp,
        Does::AnswersWith(503, "retry-after: 1\r\n".into()),
    ])
    .await;
    let key = made(&server, asked("ops", receiver.url(), &["ended"])).await;
    for _ in 0..2 {
        let id = server.create_of(SHORT).await.id;
        server.reaches(&id, "SUCCESS").await;
    }
    let failing = newest(&server, "ops", |newest| newest.tries >= 1).await;
    assert_eq!((failing.state.as_str(), failing.status), ("PENDING", Some(500)));
    assert_eq!(failing.message, "it answered 500");
    let shown = webhook(&server, "ops").await;
    assert_eq!(shown.state, "FAILING");
    assert!(shown.failures >= 1 && shown.next_try.is_some(), "{shown:?}");
    let got = receiver.has(5).await;
    let ids: Vec<String> = got.iter().map(Got::id).collect();
    assert_eq!(ids[..4], [&ids[0], &ids[0], &ids[0], &ids[0]].map(String::clone));
    assert_ne!(ids[4], ids[0]);
    got.iter().for_each(|got| is_signed(got, &key));
    // After pauses of one, two and four seconds, less a fifth at most; the pure core's tests have the other bound.
    let pauses: Vec<Duration> = got.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (pause, seconds) in pauses.iter().zip([1.0, 2.0, 4.0]) {
        assert!(pause.as_secs_f64() >= seconds * 0.79, "{pauses:?}");
    }
    newest(&server, "ops", |newest| {
        newest.number == 2 && newest.state == "DELIVERED"
    })
    .await;
    let first = deliveries(&server, "ops").await.pop().expect("two");
    assert_eq!(
        (first.state.as_str(), first.tries, first.message.as_str()),
        ("DELIVERED", 4, "")
    );
    assert_eq!(webhook(&server, "ops").await.state, "ACTIVE");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_delays_nobody() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    let dead = Receiver::that(std::iter::repeat_n(Does::Hangs, 100)).await;
    let well = Receiver::that([]).await;
    for n in 0..3 {
        made(&server, asked(&format!("dead{n}"), dead.url(), &["ended"])).await;
    }
    made(&server, asked("well", well.url(), &["ended"])).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        let id = server.create_of(SHORT).await.id;
        server.reaches(&id, "SUCCESS").await;
        ids.push(id);
    }
    let got = well.has(8).await;
    let told: Vec<String> = got
        .iter()
        .map(|got| got.json()["data"]["workflow"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(told, ids);
    // Each of the dead still has the first that it says nothing to: nobody waited until that was given up.
    assert_eq!(dead.got().len(), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_is_the_end_of_it() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    let receiver = Receiver::that([Does::Answers(410)]).await;
    made(&server, asked("ops", receiver.url(), &["ended"])).await;
    server.create_of(SHORT).await;
    receiver.has(1).await;
    let deadline = Instant::now() + WITHIN;
    let shown = loop {
        let shown = webhook(&server, "ops").await;
        if shown.state == "STOPPED" {
            break shown;
        }
        assert!(Instant::now() < deadline, "{shown:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(shown.reason.contains("410 Gone"), "{}", shown.reason);
    let id = server.create_of(SHORT).await.id;
    server.reaches(&id, "SUCCESS").await;
    server.stop().await;
    // Also after a restart, and until it is made anew.
    let server = Server::start(&dir, Config::default()).await;
    let id = server.create_of(SHORT).await.id;
    server.reaches(&id, "SUCCESS").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(receiver.got().len(), 1);
    let request = DeleteWebhookRequest {
        name: "ops".into(),
        ..DeleteWebhookRequest::default()
    };
    server
        .client()
        .await
        .delete_webhook(request)
        .await
        .expect("deleted");
    made(&server, asked("ops", receiver.url(), &["ended"])).await;
    let id = server.create_of(SHORT).await.id;
    let got = receiver.has(2).await;
    assert_eq!(got[1].json()["data"]["workflow"].as_str(), Some(id.as_str()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed_and_bodies_are_not_read() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    let elsewhere = Receiver::that([]).await;
    let location = format!("location: {}\r\n", elsewhere.url());
    let leads_away = Receiver::that([Does::AnswersWith(307, location)]).await;
    let floods = Receiver::that([Does::Floods]).await;
    made(&server, asked("away", leads_away.url(), &["ended"])).await;
    made(&server, asked("floods", floods.url(), &["ended"])).await;
    server.create_of(SHORT).await;
    let away = newest(&server, "away", |newest| newest.tries == 1).await;
    assert_eq!((away.state.as_str(), away.status), ("PENDING", Some(307)));
    assert!(
        away.message.contains("redirects are not followed"),
        "{}",
        away.message
    );
    let flooded = newest(&server, "floods", |newest| newest.state == "DELIVERED").await;
    assert_eq!(flooded.tries, 1);
    assert!(elsewhere.got().is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_taken_is_told_after_a_restart() {
    let dir = TempDir::new().expect("directory");
    // What it is sealed with outlives the server.
    let config = || Config {
        secrets_key: Some(dir.path().join("secrets.key")),
        ..Config::default()
    };
    let server = Server::start(&dir, config()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("http://u:hidden@{address}/hook?token=hidden");
    made(&server, asked("ops", url, &["ended"])).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = server.create_of(SHORT).await.id;
        server.reaches(&id, "SUCCESS").await;
        ids.push(id);
    }
    let failing = newest(&server, "ops", |newest| newest.tries >= 1).await;
    assert!(failing.message.contains("no connection"), "{}", failing.message);
    let shown = format!("{failing:?} {:?}", webhook(&server, "ops").await);
    assert!(!shown.contains("hidden"), "{shown}");
    server.stop().await;
    let server = Server::start(&dir, config()).await;
    let receiver = Receiver::on(TcpListener::bind(address).await.expect("bind"), []);
    let got = receiver.has(3).await;
    let told: Vec<String> = got
        .iter()
        .map(|got| got.json()["data"]["workflow"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(told, ids);
    assert!(
        got[0].head.starts_with("POST /hook?token=hidden "),
        "{}",
        got[0].head
    );
    // And not again by the next one.
    newest(&server, "ops", |newest| {
        newest.number == 3 && newest.state == "DELIVERED"
    })
    .await;
    server.stop().await;
    let server = Server::start(&dir, config()).await;
    let last = server.create_of(SHORT).await.id;
    let got = receiver.has(4).await;
    assert_eq!(got[3].json()["data"]["workflow"].as_str(), Some(last.as_str()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_it_is_for_is_told() {
    let (server, _dir) = Server::with_machine().await;
    server.namespace("blue").await;
    let receiver = Receiver::that([]).await;
    let rack = CreateWebhookRequest {
        selector: "rack=r7".into(),
        ..asked("rack", receiver.url(), &["ended"])
    };
    made(&server, rack).await;
    let blue = Receiver::that([]).await;
    let of_blue = CreateWebhookRequest {
        namespace: "blue".into(),
        ..asked("rack", blue.url(), &["ended"])
    };
    made(&server, of_blue).await;
    let mut of_default = BTreeSet::new();
    for text in [SHORT, &SHORT.replace("r7", "r8"), SHORT] {
        let id = server.create_of(text).await.id;
        server.reaches(&id, "SUCCESS").await;
        if text == SHORT {
            of_default.insert(id);
        }
    }
    let request = CreateWorkflowRequest {
        text: SHORT.into(),
        namespace: "blue".into(),
        ..CreateWorkflowRequest::default()
    };
    let theirs = server.make(request).await.expect("workflow").id;
    let told = |got: Vec<Got>| -> BTreeSet<String> {
        got.iter()
            .map(|got| got.json()["data"]["workflow"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(told(blue.has(1).await), BTreeSet::from([theirs]));
    assert_eq!(told(receiver.has(2).await), of_default);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_make_them_and_what_is_wrong_is_said() {
    let (server, _dir) = Server::with_machine().await;
    let receiver = Receiver::that([Does::Answers(204), Does::Answers(500)]).await;
    let mut olga = server.person("olga", &[], "operator").await;
    let denied = olga
        .create_webhook(asked("ops", receiver.url(), &["ended"]))
        .await;
    assert_eq!(denied.expect_err("refused").code(), Code::PermissionDenied);
    let mut admin = server.client().await;
    for (request, code, said) in [
        (
            asked("Ops", receiver.url(), &["ended"]),
            Code::InvalidArgument,
            "bad name of a webhook",
        ),
        (
            asked("ops", "file:///etc/passwd".into(), &["ended"]),
            Code::InvalidArgument,
            "its scheme is \"file\"",
        ),
        (
            asked("ops", receiver.url(), &[]),
            Code::InvalidArgument,
            "--on ended",
        ),
        (
            asked("ops", receiver.url(), &["endet"]),
            Code::InvalidArgument,
            "approval, ended or silent",
        ),
        (
            CreateWebhookRequest {
                machine: "node9".into(),
                ..asked("ops", receiver.url(), &["ended"])
            },
            Code::NotFound,
            "node9",
        ),
        (
            CreateWebhookRequest {
                selector: "rack in".into(),
                ..asked("ops", receiver.url(), &["ended"])
            },
            Code::InvalidArgument,
            "a selector is labels",
        ),
        (
            CreateWebhookRequest {
                namespace: "nowhere".into(),
                ..asked("ops", receiver.url(), &["ended"])
            },
            Code::NotFound,
            "nowhere",
        ),
    ] {
        let status = admin.create_webhook(request).await.expect_err("refused");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(said), "{status}");
    }
    let key = made(&server, asked("ops", receiver.url(), &["ended"])).await;
    let again = admin
        .create_webhook(asked("ops", receiver.url(), &["ended"]))
        .await;
    assert_eq!(again.expect_err("refused").code(), Code::AlreadyExists);
    // Nobody is shown the key again.
    let listed = olga
        .list_webhooks(ListWebhooksRequest::default())
        .await
        .expect("webhooks")
        .into_inner();
    assert_eq!(listed.webhooks.len(), 1);
    assert!(!format!("{listed:?}").contains(&key["whsec_".len()..]));
    for (taken, status) in [(true, 204), (false, 500)] {
        let request = TestWebhookRequest {
            name: "ops".into(),
            ..TestWebhookRequest::default()
        };
        let tested = admin.test_webhook(request).await.expect("an answer").into_inner();
        assert_eq!((tested.taken, tested.status), (taken, Some(status)));
    }
    let got = receiver.got();
    is_signed(&got[0], &key);
    assert_eq!(got[0].json()["type"].as_str(), Some("webhook.test"));
    // It is about nothing, so nothing is listed.
    assert!(deliveries(&server, "ops").await.is_empty());
    server.stop().await;
}
