//! Debian's `docker-registry`, a registry of others: with TLS, with a password, and as a mirror.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{Built, INDEX, Layer, Machine, Packed, content, index};
use oci::Platform;
use oci::registry::{Endpoint, Login, Registry, Transport};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reach::Trust;
use tempfile::TempDir;

/// "open sesame", as htpasswd(1) writes it.
const HTPASSWD: &str = "ali:$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n";

/// A registry that runs as long as the test.
struct Debian {
    process: Child,
    host: String,
    folder: TempDir,
}

impl Debian {
    /// `more` is put below `http:` and at the end of its configuration.
    fn start(http: &str, more: &str) -> Debian {
        let folder = TempDir::new().unwrap();
        // The registry tells nobody which port it took: one is found free, and given to it.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let host = format!("127.0.0.1:{port}");
        let here = folder.path().display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {here}/store}}\nhttp:\n  addr: {host}\n{http}\n{more}\n"
        );
        fs::write(folder.path().join("config.yml"), config).unwrap();
        let process = Debian::process(folder.path());
        let mut debian = Debian {
            process,
            host,
            folder,
        };
        debian.wait();
        debian
    }

    fn process(folder: &Path) -> Child {
        Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .expect("docker-registry runs: `cargo xtask test` installs it")
    }

    fn killed_and_started_again(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Debian::process(self.folder.path());
        self.wait();
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(&self.host).is_err() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(
                self.process.try_wait().unwrap().is_none(),
                "the registry ended: {log}"
            );
            assert!(Instant::now() < deadline, "the registry does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn image(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Brings images to a registry, as `docker push` does.
struct Pusher {
    client: reqwest::Client,
    base: String,
    login: Option<(&'static str, &'static str)>,
}

impl Pusher {
    fn to(debian: &Debian) -> Pusher {
        Pusher {
            client: reach::client(&reach::Reach::default(), |client| client).unwrap(),
            base: format!("http://{}", debian.host),
            login: None,
        }
    }

    async fn push(&self, built: &Built, repository: &str, tag: &str) {
        for (digest, content) in &built.blobs {
            let begin = self
                .client
                .post(format!("{}/v2/{repository}/blobs/uploads/", self.base));
            let begun = self.send(begin).await;
            assert_eq!(begun.status(), 202);
            let to = begun.headers()["location"].to_str().unwrap();
            let sent = self
                .client
                .put(format!("{to}&digest={digest}"))
                .body(content.clone());
            assert_eq!(self.send(sent).await.status(), 201);
        }
        self.manifest(&built.manifest, &built.media_type, repository, tag)
            .await;
    }

    async fn manifest(&self, content: &[u8], media_type: &str, repository: &str, tag: &str) {
        let sent = self
            .client
            .put(format!("{}/v2/{repository}/manifests/{tag}", self.base))
            .header("content-type", media_type)
            .body(content.to_owned());
        let answer = self.send(sent).await;
        assert_eq!(answer.status(), 201);
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = match self.login {
            Some((user, password)) => request.header(
                "authorization",
                format!(
                    "Basic {}",
                    data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes())
                ),
            ),
            None => request,
        };
        request.send().await.unwrap()
    }
}

fn image() -> Built {
    Built::of(&[
        Layer::of(Packed::Gzip, &[("etc/", "755"), ("etc/name", "lower")]),
        Layer::of_noise(Packed::Zstd, "noise", 300_000),
        Layer::of(Packed::Plain, &[("etc/name", "upper")]),
    ])
}

fn login(password: &str) -> Login {
    Login {
        user: "ali".to_owned(),
        password: password.to_owned().into(),
    }
}

#[tokio::test]
async fn images_in_both_forms_and_an_index_come_from_it() {
    let debian = Debian::start("", "");
    let pusher = Pusher::to(&debian);
    let built = image();
    pusher.push(&built, "team/tool", "oci").await;
    let docker = Built::of(&[Layer::of(Packed::Gzip, &[("hello", "docker")])]).in_dockers_words();
    pusher.push(&docker, "team/tool", "docker").await;
    let other = Platform {
        architecture: "s390x".to_owned(),
        ..Platform::here()
    };
    let foreign = Built::for_platform(&[Layer::of(Packed::Plain, &[("a", "")])], &other);
    pusher.push(&foreign, "team/tool", "foreign").await;
    let both = index(&[(&foreign, other), (&built, Platform::here())]);
    pusher.manifest(&both, INDEX, "team/tool", "both").await;

    let machine = Machine::new();
    for (tag, digest) in [
        ("oci", built.digest()),
        ("docker", docker.digest()),
        ("both", built.digest()),
    ] {
        let image = machine
            .pull(&debian.image(&format!("team/tool:{tag}")))
            .await
            .unwrap();
        assert_eq!(image.digest, digest, "{tag}");
    }
    let image = machine.cache.image(&built.digest()).unwrap();
    assert_eq!(content(&image, "etc/name").as_deref(), Some("upper"));
    assert_eq!(content(&image, "noise").unwrap().len(), 300_000);
    let error = machine
        .pull(&debian.image("team/tool:foreign"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "NoSuchPlatform");
    let error = machine.pull(&debian.image("team/tool:none")).await.unwrap_err();
    assert_eq!(error.reason(), "NoSuchImage");
    let error = machine
        .pull(&debian.image("nobody/nothing:none"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "NoSuchImage");
}

#[tokio::test]
async fn with_tls_and_a_password_who_is_not_known_is_told_apart() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key).unwrap();
    let server_key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&server_key, &authority).unwrap();
    let keys = TempDir::new().unwrap();
    let write = |name: &str, content: &str| {
        let path = keys.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (
        write("certificate", &certificate.pem()),
        write("key", &server_key.serialize_pem()),
    );
    let htpasswd = write("htpasswd", HTPASSWD);
    let debian = Debian::start(
        &format!("  tls: {{certificate: {certificate}, key: {key}}}"),
        &format!("auth:\n  htpasswd: {{realm: test, path: {htpasswd}}}"),
    );
    let mut trust = Trust::default();
    trust.add(&authority.pem()).unwrap();
    let believing = reach::Reach {
        trust: trust.clone(),
        ..reach::Reach::default()
    };
    let pusher = Pusher {
        client: reach::client(&believing, |client| client).unwrap(),
        base: format!("https://{}", debian.host),
        login: Some(("ali", "open sesame")),
    };
    let built = image();
    pusher.push(&built, "a", "v1").await;

    let with = |transport, trust: Option<&Trust>, login: Option<Login>| {
        let mut machine = Machine::new();
        let own = Endpoint {
            host: debian.host.clone(),
            transport,
            trust: trust.cloned(),
            login,
        };
        let registry = Registry {
            mirrors: vec![],
            own: Some(own),
        };
        machine.registries.by_name.insert(debian.host.clone(), registry);
        machine
    };
    let name = debian.image("a:v1");
    let machine = with(Transport::Tls, Some(&trust), Some(login("open sesame")));
    assert_eq!(machine.pull(&name).await.unwrap().digest, built.digest());
    for (machine, reason) in [
        (
            with(Transport::Tls, Some(&trust), Some(login("sesame"))),
            "WrongCredentials",
        ),
        (with(Transport::Tls, Some(&trust), None), "LoginWanted"),
        (
            with(Transport::Tls, None, Some(login("open sesame"))),
            "UntrustedServer",
        ),
    ] {
        let error = machine.pull(&name).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(!error.to_string().contains("sesame"), "{error}");
    }
    // Spoken to without TLS it answers 400.
    let error = with(Transport::Plain, None, None).pull(&name).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryRefused", "{error}");
}

#[tokio::test]
async fn as_a_mirror_it_gives_what_it_fetched_when_the_registry_is_gone() {
    let own = Debian::start("", "");
    let built = image();
    Pusher::to(&own).push(&built, "a", "v1").await;
    let mirror = Debian::start("", &format!("proxy:\n  remoteurl: http://{}", own.host));
    let machine = || {
        let mut machine = Machine::new();
        let registry = Registry {
            mirrors: vec![Endpoint::of(&mirror.host)],
            own: None,
        };
        machine.registries.by_name.insert(own.host.clone(), registry);
        machine
    };
    machine().pull(&own.image("a:v1")).await.unwrap();
    // It stores what it gave, at its own pace.
    let deadline = Instant::now() + Duration::from_secs(60);
    let stored = mirror.path().join("store/docker/registry/v2/blobs/sha256");
    let all = |digest: &&oci::Digest| {
        stored
            .join(&digest.hex()[..2])
            .join(digest.hex())
            .join("data")
            .exists()
    };
    while built.layers.iter().filter(all).count() < built.layers.len() {
        assert!(Instant::now() < deadline, "the mirror has not stored the layers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let name = own.image(&format!("a@{}", built.digest()));
    let machine = machine();
    drop(own);
    let image = machine.pull(&name).await.unwrap();
    assert_eq!(image.digest, built.digest());
}

#[tokio::test]
async fn a_registry_that_is_killed_in_the_middle_and_comes_back_is_not_noticed() {
    let mut debian = Debian::start("", "");
    let built = Built::of(&[Layer::of_noise(Packed::Plain, "large", 16 << 20)]);
    Pusher::to(&debian).push(&built, "a", "v1").await;
    let mut machine = Machine::new();
    machine.pull.patience.give_up_after = Duration::from_secs(60);
    let name = debian.image("a:v1");
    let killed = async {
        while machine.progress.seen().bytes == 0 {
            tokio::task::yield_now().await;
        }
        debian.killed_and_started_again();
    };
    let (image, ()) = tokio::join!(machine.pull(&name), killed);
    assert_eq!(image.unwrap().digest, built.digest());
    assert!(machine.progress.seen().resumes > 0);
}
