//! What registries outside have: fetched once for all who ask, kept, and given when they are away.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use fixture::names::Names;
use fixture::{Image, MANIFEST, named, of};
use oci::registry::{Endpoint, Patience, Registries, Registry};
use registry::{Outside, Shelf, router};
use serde_json::json;
use store::blobs::{Blobs, Digest, file_of};
use tempfile::TempDir;
use tower::ServiceExt;

/// What images say that the registry has; where it really is, the settings say.
const NAME: &str = "registry.example.com";

/// What a registry does instead of answering.
#[derive(Clone, Copy)]
enum Misdeed {
    Status(StatusCode, &'static str),
    Other,
}

/// A registry outside.
struct Upstream {
    host: String,
    _dir: TempDir,
    names: Arc<Names>,
    asked: Arc<Mutex<Vec<String>>>,
    misdeed: Arc<Mutex<Option<(Misdeed, u32)>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Upstream {
    async fn with(images: &[(&str, &Image)]) -> Upstream {
        let dir = TempDir::new().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        for content in images.iter().flat_map(|(_, image)| &image.contents) {
            blobs.put(content.clone()).await.unwrap();
        }
        let names = images
            .iter()
            .map(|(tag, image)| (format!("docker.io/tools/box:{tag}"), image.digest()));
        let names = Arc::new(Names::of(names));
        let (asked, misdeed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
        let (note, misbehave) = (asked.clone(), misdeed.clone());
        let watched = from_fn(move |request: Request, next: Next| {
            let (note, misbehave) = (note.clone(), misbehave.clone());
            async move {
                note.lock().unwrap().push(request.uri().path().to_owned());
                let misdeed = match &mut *misbehave.lock().unwrap() {
                    Some((misdeed, times)) if *times > 0 => {
                        *times -= 1;
                        Some(*misdeed)
                    }
                    _ => None,
                };
                answer(misdeed, request, next).await
            }
        });
        let router = router(Shelf::new(blobs), names.clone(), Outside::nobody()).layer(watched);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Upstream {
            host,
            _dir: dir,
            names,
            asked,
            misdeed,
            serving,
        }
    }

    fn misbehave(&self, misdeed: Misdeed, times: u32) {
        *self.misdeed.lock().unwrap() = Some((misdeed, times));
    }

    fn asked_for(&self, what: &str) -> usize {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|path| path.contains(what))
            .count()
    }

    async fn stop(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }
}

async fn answer(misdeed: Option<Misdeed>, request: Request, next: Next) -> Response {
    match misdeed {
        None => next.run(request).await,
        Some(Misdeed::Status(status, retry_after)) => {
            (status, [("retry-after", retry_after)]).into_response()
        }
        Some(Misdeed::Other) => {
            let (parts, body) = next.run(request).await.into_parts();
            let mut bytes = to_bytes(body, usize::MAX).await.unwrap().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            Response::from_parts(parts, Body::from(bytes))
        }
    }
}

/// Our server, in between.
struct Here {
    router: Router,
    dir: TempDir,
}

type Answer = (StatusCode, HeaderMap, Result<Vec<u8>, String>);

impl Here {
    /// A tag is asked again after so long.
    fn new(upstream: &Upstream, fresh_for: Duration) -> Here {
        Here::with(upstream, fresh_for, Names::default())
    }

    fn with(upstream: &Upstream, fresh_for: Duration, names: Names) -> Here {
        let dir = TempDir::new().unwrap();
        let mut registries = Registries::default();
        let known = Registry {
            mirrors: vec![],
            own: Some(Endpoint::of(&upstream.host)),
        };
        registries.by_name.insert(NAME.to_owned(), known);
        let patience = Patience {
            answer: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            give_up_after: Duration::from_millis(300),
            first_pause: Duration::from_millis(10),
        };
        let outside = Outside::new(BTreeSet::from([NAME.to_owned()]), registries);
        let shelf = Shelf::new(Blobs::open(dir.path()).unwrap());
        let router = router(shelf, Arc::new(names), outside.with_times(patience, fresh_for));
        Here { router, dir }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::builder()
            .uri(format!("/v2/{NAME}/tools/box/{path}"))
            .body(Body::empty());
        let response = self.router.clone().oneshot(request.unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.map(|bytes| bytes.to_vec());
        (
            parts.status,
            parts.headers,
            body.map_err(|error| error.to_string()),
        )
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.dir.path().join(file_of(&Digest::of(bytes))).exists()
    }

    fn said(answer: &Answer) -> String {
        let body: serde_json::Value = serde_json::from_slice(answer.2.as_ref().unwrap()).unwrap();
        body["errors"][0]["message"].as_str().unwrap().to_owned()
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn image(word: &str) -> Image {
    Image::with(&[word.repeat(500_000).as_bytes(), b"a small layer"])
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_are_given_what_is_fetched_once() {
    let image = image("layer one");
    let upstream = Upstream::with(&[("v1", &image)]).await;
    let here = Arc::new(Here::new(&upstream, LONG));
    let pull = |here: Arc<Here>, image: Image| async move {
        let (status, headers, manifest) = here.get("manifests/v1").await;
        assert_eq!(
            (status, manifest.unwrap() == image.manifest()),
            (StatusCode::OK, true)
        );
        assert_eq!(headers["content-type"], MANIFEST);
        for content in &image.contents[..image.contents.len() - 1] {
            let (status, headers, body) = here.get(&format!("blobs/{}", of(content))).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(headers["content-length"], content.len().to_string().as_str());
            assert!(body.unwrap() == *content);
        }
    };
    let all = (0..8).map(|_| tokio::spawn(pull(here.clone(), image.clone())));
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(upstream.asked_for("/manifests/"), 1);
    for content in &image.contents[..3] {
        assert_eq!(upstream.asked_for(&of(content)), 1);
        assert!(here.has(content));
    }
    // From then on nobody outside is needed.
    upstream.stop().await;
    pull(here.clone(), image).await;
}

#[tokio::test]
async fn a_tag_is_asked_again_and_what_was_kept_is_given_while_its_registry_is_away() {
    let (first, second) = (image("first"), image("second"));
    let upstream = Upstream::with(&[("v1", &first), ("v2", &second)]).await;
    let (kept, asking) = (Here::new(&upstream, LONG), Here::new(&upstream, Duration::ZERO));
    for here in [&kept, &asking] {
        assert!(here.get("manifests/v1").await.2.unwrap() == first.manifest());
    }
    let moved = *upstream
        .names
        .0
        .lock()
        .unwrap()
        .get("docker.io/tools/box:v2")
        .unwrap();
    upstream
        .names
        .0
        .lock()
        .unwrap()
        .insert("docker.io/tools/box:v1".to_owned(), moved);
    let (_, headers, body) = kept.get("manifests/v1").await;
    assert!(body.unwrap() == first.manifest() && !headers.contains_key("warning"));
    let (_, headers, body) = asking.get("manifests/v1").await;
    assert!(body.unwrap() == second.manifest() && !headers.contains_key("warning"));
    upstream.stop().await;
    let (status, headers, body) = asking.get("manifests/v1").await;
    assert_eq!(
        (status, body.unwrap() == second.manifest()),
        (StatusCode::OK, true)
    );
    // RFC 7234 section 5.5.1.
    assert_eq!(headers["warning"], "110 farrier \"Response is Stale\"");
}

#[tokio::test]
async fn why_there_is_nothing_is_told_in_different_words() {
    let image = image("layer");
    let upstream = Upstream::with(&[("v1", &image)]).await;
    let here = Here::new(&upstream, Duration::ZERO);
    let answer = here.get("manifests/v9").await;
    assert_eq!(answer.0, StatusCode::NOT_FOUND);
    assert!(
        Here::said(&answer).contains("see whether the name and the tag are right"),
        "{}",
        Here::said(&answer)
    );
    upstream.misbehave(Misdeed::Status(StatusCode::FORBIDDEN, ""), 9);
    let answer = here.get("manifests/v1").await;
    assert!(
        Here::said(&answer).contains("to nobody without a login"),
        "{}",
        Here::said(&answer)
    );
    upstream.misbehave(Misdeed::Status(StatusCode::TOO_MANY_REQUESTS, "3600"), 1_000);
    let answer = here.get("manifests/v1").await;
    assert!(Here::said(&answer).contains("429"), "{}", Here::said(&answer));
    // One that wants to be asked a moment later is.
    upstream.misbehave(Misdeed::Status(StatusCode::TOO_MANY_REQUESTS, "0"), 2);
    assert_eq!(here.get("manifests/v1").await.0, StatusCode::OK);
    let host = upstream.host.clone();
    upstream.stop().await;
    let answer = here.get("manifests/v2").await;
    assert!(
        Here::said(&answer).contains(&format!("registry {host} is away")),
        "{}",
        Here::said(&answer)
    );
}

#[tokio::test]
async fn other_bytes_than_were_named_never_come_to_their_end_and_are_not_kept() {
    let image = image("layer");
    let upstream = Upstream::with(&[("v1", &image)]).await;
    let here = Here::new(&upstream, LONG);
    here.get("manifests/v1").await.2.unwrap();
    upstream.misbehave(Misdeed::Other, 1);
    let layer = &image.contents[0];
    let path = format!("blobs/{}", of(layer));
    let (status, _, body) = here.get(&path).await;
    // It may be known before anything is sent.
    assert!(status == StatusCode::NOT_FOUND || body.is_err(), "all of it came");
    assert!(!here.has(layer));
    assert!(here.get(&path).await.2.unwrap() == *layer);
    assert!(here.has(layer));
}

#[tokio::test]
async fn nothing_is_fetched_that_no_image_names_and_no_name_that_a_person_gave() {
    let (image, brought) = (image("outside"), image("brought"));
    let upstream = Upstream::with(&[("v1", &image)]).await;
    let names = Names::of([(format!("{NAME}/tools/box:v1"), brought.digest())]);
    let here = Here::with(&upstream, Duration::ZERO, names);
    let blobs = Blobs::open(here.dir.path()).unwrap();
    blobs.put(brought.manifest().to_vec()).await.unwrap();
    assert!(here.get("manifests/v1").await.2.unwrap() == brought.manifest());
    // No name leads to it.
    let (status, ..) = here.get(&format!("blobs/{}", of(&image.contents[0]))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(upstream.asked.lock().unwrap().len(), 0);
    // By its digest, a manifest of any image may be asked for, and its layers then.
    let manifest = format!("manifests/sha256:{}", image.digest());
    assert!(here.get(&manifest).await.2.unwrap() == image.manifest());
    assert!(
        here.get(&format!("blobs/{}", of(&image.contents[0])))
            .await
            .2
            .unwrap()
            == image.contents[0]
    );
}

#[tokio::test]
async fn an_index_brings_the_platform_that_is_asked_for() {
    let (mine, other) = (image("mine"), image("other"));
    let index = json!({"schemaVersion": 2, "mediaType": fixture::INDEX,
        "manifests": [named(MANIFEST, mine.manifest()), named(MANIFEST, other.manifest())]});
    let index = Image {
        contents: vec![index.to_string().into_bytes()],
    };
    let upstream = Upstream::with(&[("v1", &index), ("mine", &mine), ("other", &other)]).await;
    let here = Here::new(&upstream, LONG);
    assert!(here.get("manifests/v1").await.2.unwrap() == index.manifest());
    let manifest = format!("manifests/sha256:{}", mine.digest());
    assert!(here.get(&manifest).await.2.unwrap() == mine.manifest());
    assert!(
        here.get(&format!("blobs/{}", of(&mine.contents[0])))
            .await
            .2
            .unwrap()
            == mine.contents[0]
    );
    assert_eq!(upstream.asked_for(&other.digest().to_string()), 0);
}

/// As the agent pulls: in memory, and the server is asked first.
async fn pulled(server: &str, image: &str) -> Result<oci::Image, oci::registry::PullError> {
    pull(
        &mut |registries| registries.ask_first(&format!("http://{server}")),
        image,
    )
    .await
}

/// The same of `tools/box`, with other settings.
async fn pulled_from<E: std::fmt::Debug>(
    set: &mut dyn FnMut(&mut Registries) -> Result<(), E>,
    tag: &str,
) -> Result<oci::Image, oci::registry::PullError> {
    pull(set, &format!("{NAME}/tools/box:{tag}")).await
}

async fn pull<E: std::fmt::Debug>(
    set: &mut dyn FnMut(&mut Registries) -> Result<(), E>,
    image: &str,
) -> Result<oci::Image, oci::registry::PullError> {
    let folder = TempDir::new_in("/dev/shm").unwrap();
    let cache = oci::cache::Cache::open(folder.path(), 64 << 20).unwrap();
    let mut registries = Registries::default();
    set(&mut registries).unwrap();
    let pull = oci::Pull {
        patience: Patience {
            answer: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            give_up_after: Duration::from_millis(300),
            first_pause: Duration::from_millis(10),
        },
        ..oci::Pull::default()
    };
    let progress = oci::registry::Progress::default();
    pull.run(&cache, &image.parse().unwrap(), &registries, &progress)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_other_machines_is_told_as_such_also_when_the_registry_is_gone() {
    let other = image("other");
    let entry = |platform: &str| {
        let mut entry = named(MANIFEST, other.manifest());
        entry["platform"] = json!({"os": "linux", "architecture": platform});
        entry
    };
    let index = json!({"schemaVersion": 2, "mediaType": fixture::INDEX, "manifests": [entry("s390x"), entry("riscv64")]});
    let index = Image {
        contents: vec![index.to_string().into_bytes()],
    };
    let upstream = Upstream::with(&[("v1", &index), ("other", &other)]).await;
    // Without the server.
    let direct = pulled_from(
        &mut |registries| registries.be_at(NAME, &format!("http://{}", upstream.host)),
        "v1",
    )
    .await;
    let direct = direct.unwrap_err().to_string();
    assert!(
        direct.contains("it is for linux/s390x, linux/riscv64"),
        "{direct}"
    );
    let here = Here::new(&upstream, Duration::ZERO);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let router = here.router.clone();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    for is_gone in [false, true] {
        // The registry itself is reached by nobody but the server.
        let error = pulled_from(&mut |registries| registries.ask_first(&server), "v1")
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "NoSuchPlatform", "gone: {is_gone}");
        assert_eq!(error.to_string(), direct, "gone: {is_gone}");
        upstream.serving.abort();
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_pull_through_the_server_also_when_the_registry_is_gone() {
    let layer = fixture::tar(&[("etc/hello".to_owned(), b"hello".repeat(100_000))]);
    let upstream = Upstream::with(&[("v1", &Image::with(&[&layer]))]).await;
    let here = Here::new(&upstream, Duration::ZERO);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let router = here.router.clone();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let image = format!("{NAME}/tools/box:v1");
    let digest = pulled(&server, &image).await.unwrap().digest;
    let asked = upstream.asked.lock().unwrap().len();
    assert_eq!(asked, 3, "the manifest, the configuration, the layer");
    upstream.stop().await;
    assert_eq!(pulled(&server, &image).await.unwrap().digest, digest);
    // What neither has is told in the words of both.
    let error = pulled(&server, &format!("{NAME}/tools/other:v1"))
        .await
        .unwrap_err();
    let said = error.to_string();
    assert_eq!(error.reason(), "RegistryAway");
    assert!(
        said.contains(&format!("registry {NAME} is away")) && said.contains("has no copy of the image: "),
        "{said}"
    );
    serving.abort();
}
