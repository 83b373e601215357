//! Images from a registry of the tests' own: what is right comes, and what goes wrong is mended or told.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use std::time::Duration;

use fixture::fake::{Fake, Misdeed};
use fixture::{Built, INDEX, Layer, Machine, Packed, content, index};
use oci::registry::{Endpoint, Login, PullError, Registry};
use oci::{Digest, Platform};

fn platform(text: &str) -> Platform {
    let mut parts = text.split('/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Platform {
        os: part(),
        architecture: part(),
        variant: part(),
    }
}

/// Three layers, packed in three ways.
fn three() -> Built {
    Built::of(&[
        Layer::of(
            Packed::Gzip,
            &[("etc/", "755"), ("etc/name", "lowest"), ("tmp/", "1777")],
        ),
        Layer::of(Packed::Zstd, &[("etc/name", "middle"), ("tmp/x", "")]),
        Layer::of(Packed::Plain, &[("hello", "world")]),
    ])
}

/// One layer of 200 kB that is as long packed.
fn long() -> Built {
    Built::of(&[Layer::of_noise(Packed::Gzip, "noise", 200_000)])
}

fn login(user: &str, password: &str) -> Login {
    Login {
        user: user.to_owned(),
        password: password.to_owned().into(),
    }
}

#[tokio::test]
async fn an_image_comes_with_its_layers_its_process_and_its_progress() {
    let built = three();
    let fake = Fake::with(&built, "a/b", "v1").await;
    let machine = Machine::new();
    let image = machine.pull(&fake.image("a/b:v1")).await.unwrap();
    assert_eq!(image.digest, built.digest());
    assert_eq!(image.config.entrypoint, ["/hello"]);
    assert_eq!(image.config.cmd, ["world"]);
    assert_eq!(content(&image, "etc/name").as_deref(), Some("middle"));
    assert_eq!(content(&image, "hello").as_deref(), Some("world"));
    let seen = machine.progress.seen();
    let bytes: u64 = built
        .layers
        .iter()
        .map(|layer| built.blobs[layer].len() as u64)
        .sum();
    assert_eq!((seen.bytes, seen.total_bytes), (bytes, bytes));
    assert_eq!((seen.layers, seen.total_layers, seen.resumes), (3, 3, 0));
    assert_eq!(machine.incoming(), 0);
    // Nobody is asked who it is when nobody wants to know.
    assert!(fake.asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn dockers_words_and_an_index_lead_to_the_same() {
    let here = Platform::here();
    let built = three().in_dockers_words();
    let other = Built::for_platform(
        &[Layer::of(Packed::Plain, &[("other", "")])],
        &platform("linux/s390x"),
    );
    let fake = Fake::with(&built, "a", "docker").await;
    fake.put(&other, "a", "other");
    let both = index(&[(&other, platform("linux/s390x")), (&built, here)]);
    fake.put_manifest("a", "both", INDEX, &both);
    let machine = Machine::new();
    for name in ["a:docker", "a:both"] {
        let image = machine.pull(&fake.image(name)).await.unwrap();
        assert_eq!(image.digest, built.digest());
    }
    // By the index's own digest, with a tag that says something else.
    let digest = Digest::of(&both);
    fake.put_manifest("a", &digest.to_string(), INDEX, &both);
    let image = machine
        .pull(&fake.image(&format!("a:other@{digest}")))
        .await
        .unwrap();
    assert_eq!(image.digest, built.digest());
}

#[tokio::test]
async fn four_causes_have_four_messages() {
    let built = three();
    let fake = Fake::with(&built, "a", "v1").await;
    let machine = Machine::new();

    let error = machine.pull(&fake.image("a:v2")).await.unwrap_err();
    assert_eq!(error.reason(), "NoSuchImage");
    assert!(
        error.to_string().contains(&format!("has no {}/a:v2", fake.host)),
        "{error}"
    );

    let s390x = Built::for_platform(
        &[Layer::of(Packed::Plain, &[("a", "")])],
        &platform("linux/s390x"),
    );
    fake.put(&s390x, "a", "s390x");
    let entries = [
        (&s390x, platform("linux/s390x")),
        (&s390x, platform("linux/arm/v7")),
    ];
    fake.put_manifest("a", "index", INDEX, &index(&entries));
    for (tag, there) in [("s390x", "linux/s390x"), ("index", "linux/s390x, linux/arm/v7")] {
        let error = machine.pull(&fake.image(&format!("a:{tag}"))).await.unwrap_err();
        assert_eq!(error.reason(), "NoSuchPlatform");
        let words = format!("not for {}; it is for {there}", Platform::here());
        assert!(error.to_string().contains(&words), "{error}");
    }

    let challenge = r#"Basic realm="x""#.to_owned();
    let authorization = "Basic dTpyaWdodA==".to_owned();
    fake.misbehave(
        "/v2/a/",
        100,
        Misdeed::Wants {
            authorization,
            challenge,
        },
    );
    let error = machine.pull(&fake.image("a:v1")).await.unwrap_err();
    assert_eq!(error.reason(), "LoginWanted");
    let mut wrong = Machine::new();
    wrong.registries.log_in(&fake.host, login("u", "wrong"));
    let error = wrong.pull(&fake.image("a:v1")).await.unwrap_err();
    assert_eq!(error.reason(), "WrongCredentials");
    let words = error.to_string();
    assert!(
        words.contains("user \"u\"") && !words.contains("wrong;"),
        "{words}"
    );
    let mut right = Machine::new();
    right.registries.log_in(&fake.host, login("u", "right"));
    right.pull(&fake.image("a:v1")).await.unwrap();

    let gone = fake.image("a:v1");
    fake.stop().await;
    let error = Machine::new().pull(&gone).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAway");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_and_renewed_when_it_is_not_taken_any_more() {
    let built = three();
    let fake = Fake::with(&built, "a", "v1").await;
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="s",scope="repository:a:pull""#,
        fake.host
    );
    let password = "Basic dTpyaWdodA==".to_owned();
    for (token, path) in [("first", "/manifests/"), ("second", "/blobs/")] {
        let wants = Misdeed::Wants {
            authorization: format!("Bearer {token}"),
            challenge: challenge.clone(),
        };
        fake.misbehave(path, 100, wants);
        let gives = Misdeed::Token {
            authorization: Some(password.clone()),
            token: token.to_owned(),
        };
        fake.misbehave("/token", 1, gives);
    }
    let gives = Misdeed::Token {
        authorization: Some(password.clone()),
        token: "second".to_owned(),
    };
    fake.misbehave("/token", 100, gives);
    let mut machine = Machine::new();
    machine.registries.log_in(&fake.host, login("u", "right"));
    machine.pull(&fake.image("a:v1")).await.unwrap();
    let tokens = fake.asked_for("/token");
    assert!(tokens.len() >= 2);
    assert!(tokens[0].query.contains("service=s") && tokens[0].query.contains("scope=repository%3Aa%3Apull"));

    let mut wrong = Machine::new();
    wrong.registries.log_in(&fake.host, login("u", "wrong"));
    let error = wrong.pull(&fake.image("a:v1")).await.unwrap_err();
    assert_eq!(error.reason(), "WrongCredentials");
}

#[tokio::test]
async fn credentials_follow_no_redirect_to_another_host() {
    let built = three();
    let fake = Fake::with(&built, "a", "v1").await;
    let other = Fake::with(&built, "a", "v1").await;
    let challenge = r#"Basic realm="x""#.to_owned();
    let authorization = "Basic dTpyaWdodA==".to_owned();
    fake.misbehave(
        "/v2/a/",
        1,
        Misdeed::Wants {
            authorization,
            challenge,
        },
    );
    fake.misbehave(
        "/blobs/",
        100,
        Misdeed::Lead(format!("http://x:y@{}PATH", other.host)),
    );
    let mut machine = Machine::new();
    machine.registries.log_in(&fake.host, login("u", "right"));
    machine.pull(&fake.image("a:v1")).await.unwrap();
    assert!(
        fake.asked_for("/blobs/")
            .iter()
            .all(|asked| asked.authorization.is_some())
    );
    let there = other.asked_for("/blobs/");
    assert_eq!(there.len(), 4);
    assert!(
        there.iter().all(|asked| asked.authorization.is_none()),
        "{there:?}"
    );
    // Who asks there who it is gets no answer either: it is asked again from the beginning, and then given up.
    let challenge = r#"Basic realm="x""#.to_owned();
    let wants = Misdeed::Wants {
        authorization: "never".to_owned(),
        challenge,
    };
    other.misbehave("/blobs/", 1000, wants);
    let mut machine = Machine::new();
    machine.registries.log_in(&fake.host, login("u", "right"));
    let error = machine.pull(&fake.image("a:v1")).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAway", "{error}");
    assert!(other.asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn redirects_that_lead_nowhere_end_in_words() {
    let fake = Fake::with(&three(), "a", "v1").await;
    for (to, words) in [
        (format!("http://{}PATH", fake.host), "leads on more than 10 times"),
        ("file:///etc/passwd".to_owned(), "scheme file"),
        ("http://[".to_owned(), "no URL"),
    ] {
        fake.misbehave("/manifests/", 11, Misdeed::Lead(to));
        let error = Machine::new().pull(&fake.image("a:v1")).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        while Machine::new().pull(&fake.image("a:v1")).await.is_err() {}
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_or_stalls_goes_on_where_it_was() {
    let built = long();
    let fake = Fake::with(&built, "a", "v1").await;
    let layer = built.layers[0].to_string();
    fake.misbehave(&layer, 1, Misdeed::Cut(50_000));
    fake.misbehave(&layer, 1, Misdeed::Stall(10_000));
    fake.misbehave(&layer, 1, Misdeed::Status(503, vec![]));
    fake.misbehave(&layer, 1, Misdeed::NoRange(120_000));
    let machine = Machine::new();
    let image = machine.pull(&fake.image("a:v1")).await.unwrap();
    assert_eq!(content(&image, "noise").unwrap().len(), 200_000);
    let ranges: Vec<_> = fake
        .asked_for(&layer)
        .into_iter()
        .map(|asked| asked.range)
        .collect();
    let range = |from: u32| Some(format!("bytes={from}-"));
    assert_eq!(
        ranges,
        [None, range(50_000), range(60_000), range(60_000), range(120_000)]
    );
    assert_eq!(machine.progress.seen().resumes, 3);
    assert_eq!(
        machine.progress.seen().bytes,
        built.blobs[&built.layers[0]].len() as u64
    );
}

#[tokio::test]
async fn a_registry_that_is_too_busy_is_asked_again_when_it_wants() {
    let built = three();
    let fake = Fake::with(&built, "a", "v1").await;
    let later = |seconds: &str| vec![("retry-after", seconds.to_owned())];
    fake.misbehave("/manifests/", 2, Misdeed::Status(429, later("0")));
    fake.misbehave("/blobs/", 3, Misdeed::Status(503, later("1")));
    fake.misbehave("/blobs/", 2, Misdeed::Status(500, vec![]));
    let machine = Machine::new();
    let start = std::time::Instant::now();
    machine.pull(&fake.image("a:v1")).await.unwrap();
    // It was not asked before the second that it wanted was over.
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(fake.asked_for("/manifests/").len(), 3);
    assert_eq!(fake.asked_for("/blobs/").len(), 4 + 5);

    fake.misbehave("/manifests/", 1, Misdeed::Status(429, later("301")));
    let error = Machine::new().pull(&fake.image("a:v1")).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAway");
    assert!(error.to_string().contains("429 Too Many Requests"), "{error}");
    fake.misbehave("/manifests/", 1000, Misdeed::Status(500, vec![]));
    let error = Machine::new().pull(&fake.image("a:v1")).await.unwrap_err();
    assert!(error.to_string().contains("500 Internal Server Error"), "{error}");
}

#[tokio::test]
async fn other_bytes_are_never_taken() {
    let built = three();
    let fake = Fake::with(&built, "a", "v1").await;
    for layer in &built.layers {
        fake.misbehave(&layer.to_string(), 1, Misdeed::Other);
        let machine = Machine::new();
        let error = machine.pull(&fake.image("a:v1")).await.unwrap_err();
        assert!(matches!(error.reason(), "WrongDigest" | "BadLayer"), "{error}");
        assert_eq!(machine.cache.held().images, 0);
        machine.nothing_is_half_done().await;
        fake.misbehave(&layer.to_string(), 1, Misdeed::More);
        let error = machine.pull(&fake.image("a:v1")).await.unwrap_err();
        assert!(error.to_string().contains("with more than the"), "{error}");
        // What is right is taken then, by the same cache.
        machine.pull(&fake.image("a:v1")).await.unwrap();
    }
    fake.misbehave("/manifests/", 1, Misdeed::Other);
    let error = Machine::new()
        .pull(&fake.image(&format!("a@{}", built.digest())))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "WrongDigest");
    fake.misbehave("/manifests/", 1, Misdeed::Other);
    let error = Machine::new().pull(&fake.image("a:v1")).await.unwrap_err();
    assert_eq!(error.reason(), "BadManifest");
    fake.misbehave(&built.layers[0].to_string(), 1, Misdeed::Status(404, vec![]));
    let error = Machine::new().pull(&fake.image("a:v1")).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryRefused");
    assert!(
        error
            .to_string()
            .contains("which its manifest names: it answers 404"),
        "{error}"
    );
    let refuses = Misdeed::Status(418, vec![]);
    fake.misbehave("/manifests/", 1, refuses);
    let error = Machine::new().pull(&fake.image("a:v1")).await.unwrap_err();
    assert!(
        error.to_string().contains("418 I'm a teapot: as it was told to"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pull_has_a_time_limit_and_leaves_nothing_half_done() {
    let built = long();
    let fake = Fake::with(&built, "a", "v1").await;
    fake.misbehave("/blobs/", 1000, Misdeed::Stall(1_000));
    fake.misbehave(&built.layers[0].to_string(), 1000, Misdeed::Stall(1_000));
    let mut machine = Machine::new();
    machine.pull.time_limit = Duration::from_millis(700);
    machine.pull.patience.stall = Duration::from_secs(20);
    let error = machine.pull(&fake.image("a:v1")).await.unwrap_err();
    assert!(matches!(error, PullError::TooLate { .. }), "{error:?}");
    machine.nothing_is_half_done().await;
    assert_eq!(machine.cache.held().in_use_bytes, 0);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_when_they_fail() {
    let built = three();
    let own = Fake::with(&built, "a", "v1").await;
    let mirror = Fake::with(&built, "a", "v1").await;
    let empty = Fake::start().await;
    let mut machine = Machine::new();
    let registry = Registry {
        mirrors: vec![Endpoint::of(&empty.host), Endpoint::of(&mirror.host)],
        own: None,
    };
    machine.registries.by_name.insert(own.host.clone(), registry);
    machine.registries.log_in(&own.host, login("u", "right"));
    machine.pull(&own.image("a:v1")).await.unwrap();
    assert_eq!((own.asked().len(), empty.asked().len()), (0, 1));
    let asked = mirror.asked();
    let query = format!("ns={}", own.host.replace(':', "%3A"));
    assert!(asked.iter().all(|asked| asked.query == query), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.authorization.is_none()));

    // One that lies is passed over.
    let registries = machine.registries;
    for misdeed in [
        Misdeed::Other,
        Misdeed::Status(404, vec![]),
        Misdeed::Status(401, vec![]),
    ] {
        mirror.misbehave("/blobs/", 1, misdeed);
        let mut machine = Machine::new();
        machine.registries = registries.clone();
        machine.pull(&own.image("a:v1")).await.unwrap();
    }
    assert!(!own.asked().is_empty());
    // One that is away, too; of what is not there the registry itself tells.
    mirror.stop().await;
    let mut machine = Machine::new();
    machine.registries = registries;
    machine.pull(&own.image("a:v1")).await.unwrap();
    let error = machine.pull(&own.image("a:v2")).await.unwrap_err();
    assert!(error.to_string().contains(&own.host), "{error}");
    assert_eq!(error.reason(), "NoSuchImage");
}

#[tokio::test]
async fn the_server_is_asked_first_for_every_registry_and_its_lack_is_told() {
    let built = three();
    let own = Fake::with(&built, "a", "v2").await;
    let server = Fake::with(&built, "a", "v1").await;
    let mut machine = Machine::new();
    machine.registries.first = Some(Endpoint::of(&server.host));
    // Nobody is there: the server is asked without it.
    let proxies = reach::Proxies::of(|name| (name == "HTTP_PROXY").then(|| "http://127.0.0.1:9".to_owned()));
    machine.registries.reach.proxies = proxies.unwrap();
    machine.pull("registry.example.com/a:v1").await.unwrap();
    let asked = server.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|asked| asked.query == "ns=registry.example.com"),
        "{asked:?}"
    );

    machine.registries.reach.proxies = reach::Proxies::default();
    let registry = Registry {
        mirrors: vec![],
        own: Some(Endpoint::of(&own.host)),
    };
    machine
        .registries
        .by_name
        .insert("registry.example.com".to_owned(), registry);
    machine.pull("registry.example.com/a:v2").await.unwrap();
    assert!(!own.asked().is_empty());
    // What neither has, the registry tells; where it is away, that the server has no copy is told, too.
    let error = machine.pull("registry.example.com/a:v3").await.unwrap_err();
    assert_eq!(error.reason(), "NoSuchImage");
    assert!(error.to_string().contains(&own.host), "{error}");
    own.stop().await;
    let error = machine.pull("registry.example.com/a:v3").await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAway");
    assert!(
        error
            .to_string()
            .contains(&format!("{} has no copy", server.host)),
        "{error}"
    );
}
