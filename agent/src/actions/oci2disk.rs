//! `oci2disk`: a disk image that a registry has as an artefact (`oras push`) onto a disk, under upstream's variables.
//!
//! The writer is [`image2disk`](super::image2disk)'s. What the registry's manifest names is compared with its digest, and a transfer that breaks goes on
//! where it was. A login comes from the action, from the kernel command line, or from the server, which is asked by this attempt once.

use std::ops::Range;
use std::sync::Arc;

use disk::image::{self, ByteSource, InTime, NotFetched};
use oci::artefact::Artefact;
use oci::registry::{Ended, Login, Patience, Progress, PullError, Registries};
use oci::{Algorithm, Platform, Reference};
use proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::environment::Environment;
use super::image2disk::Order;
use super::{Done, Failure, Feed, Halt, Place};
use crate::pull_settings::{chain, hidden, told};
use crate::wiping::apart;

pub(super) const VARIABLES: [&str; 20] = [
    "ALL_PROXY",
    "CA_CERTIFICATES",
    "CHECKSUM",
    "COMPRESSED",
    "DEST_DISK",
    "GROW_ROOT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IMG_URL",
    "NO_PROXY",
    "PROGRESS_INTERVAL_SECONDS",
    "RAW",
    "REGISTRY_PASSWORD",
    "REGISTRY_USERNAME",
    "RETRY_DURATION_MINUTES",
    "RETRY_ENABLED",
    "SHA256",
    "SKIP_VERIFY",
    "STOP_USERS",
    "VERIFY",
];
/// Chunks that have come and are not taken yet; one has at most some 400 KiB.
const CHUNKS: usize = 4;

pub(super) async fn run(
    run: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let named = env.required("IMG_URL")?;
    let reference = reference(named).map_err(|why| {
        Failure::new(
            "BadVariable",
            format!("environment variable IMG_URL={named} names nothing in a registry: {why}"),
        )
    })?;
    if env.is_on("SKIP_VERIFY") {
        return Err(Failure::new(
            "BadVariable",
            "environment variable SKIP_VERIFY is set: a registry whose certificate is not checked is not asked. Give its authority by \
             CA_CERTIFICATES, or name it in insecure_registries on the kernel command line",
        ));
    }
    let url = Url::parse(&format!("oci://{reference}")).map_err(|e| {
        Failure::new(
            "BadVariable",
            format!("environment variable IMG_URL={named}: {e}"),
        )
    })?;
    let order = Order::of(env, url, place, feed).await?;
    let mut registries = place
        .surroundings
        .registries(&place.registries)
        .map_err(|why| Failure::new("BadVariable", why))?;
    registries.reach = order.request.reach.clone();
    // It has images for containers only.
    registries.first = None;
    let login = login(env)?;
    order.begin(feed).await;

    let asked = run
        .has_pull_settings
        .then(|| (place.data.clone(), run.attempt_id.clone()));
    let has_login = asked.is_some() || login.is_some();
    let (write, own_feed, token) = (reference.clone(), feed.clone(), halt.token());
    let reporter = order.reporter(feed);
    let work = async move {
        let hides = match asked {
            None => None,
            Some((server, attempt_id)) => {
                let settings = server
                    .pull_settings(&attempt_id)
                    .await
                    .map_err(|e| Failure::new(e.reason, e.message))?;
                let hides = hidden(&settings);
                told(&mut registries, write.registry(), settings)
                    .map_err(|why| Failure::new("BadPullSettings", why))?;
                Some(hides)
            }
        };
        if let Some(login) = login {
            registries.log_in(write.registry(), login);
        }
        let written = written(&write, &registries, order, reporter, &own_feed, token).await;
        // What a registry says may have in it what it was told.
        written.map_err(|failure| match &hides {
            Some(hides) => Failure {
                message: hides.hidden(&failure.message).into_owned(),
                ..failure
            },
            None => failure,
        })
    };
    match has_login {
        false => work.await,
        true => apart(work).await.unwrap_or_else(|e| {
            Err(Failure::new(
                "AgentFault",
                format!("writing {reference} failed: {e}"),
            ))
        }),
    }
}

async fn written(
    reference: &Reference,
    registries: &Registries,
    mut order: Order,
    reporter: super::image2disk::Reporter,
    feed: &Feed,
    halt: CancellationToken,
) -> Result<Done, Failure> {
    let patience = Patience {
        give_up_after: order.request.give_up_after,
        ..Patience::default()
    };
    let platform = Platform::here();
    let found = tokio::select! {
        biased;
        () = halt.cancelled() => return Err(Failure::stopped()),
        found = Artefact::find(reference, registries, &platform, patience) => found,
    };
    let artefact = found.map_err(|e| Failure::new(e.reason(), chain(&e)))?;
    order.request.sha256 = Some(same_digest(&artefact, order.request.sha256.take())?);
    let file = &artefact.file;
    let title = file.title.as_deref().unwrap_or("a file without a title");
    feed.line(format!(
        "{reference} is {title}, {} B, {}, from {}",
        file.blob.size_bytes,
        file.blob.digest,
        artefact.registry()
    ))
    .await;
    let source = Box::new(Blob::of(artefact));
    let written = image::write_from(
        &order.request,
        source,
        move |progress| reporter.report(progress),
        halt,
    );
    order.ended(written.await, feed).await
}

/// As `oras` and `docker` name it; some write a scheme before it.
fn reference(named: &str) -> Result<Reference, oci::NotAReference> {
    named.strip_prefix("oci://").unwrap_or(named).parse()
}

/// The action's own login for the registry.
fn login(env: &Environment<'_>) -> Result<Option<Login>, Failure> {
    let of = |name| env.optional(name);
    match (of("REGISTRY_USERNAME"), of("REGISTRY_PASSWORD")) {
        (Some(user), Some(password)) => Ok(Some(Login {
            user: user.to_owned(),
            password: password.to_owned().into(),
        })),
        (None, None) => Ok(None),
        (has_user, _) => Err(Failure::new(
            "BadVariable",
            match has_user {
                Some(_) => {
                    "environment variable REGISTRY_USERNAME is set and REGISTRY_PASSWORD is not: give both"
                }
                None => {
                    "environment variable REGISTRY_PASSWORD is set and REGISTRY_USERNAME is not: give both"
                }
            },
        )),
    }
}

/// The digest that the manifest says, which has to be the one that the action has, if it has any.
fn same_digest(artefact: &Artefact, given: Option<String>) -> Result<String, Failure> {
    let digest = &artefact.file.blob.digest;
    if digest.algorithm() != Algorithm::Sha256 {
        return Err(Failure::new(
            "BadImage",
            format!(
                "the registry names the image by {digest}, and only SHA-256 is compared here: push it again"
            ),
        ));
    }
    let hex = digest.hex().to_owned();
    match given.map(|given| given.trim_start_matches("sha256:").to_lowercase()) {
        Some(given) if given != hex => Err(Failure::new(
            "WrongDigest",
            format!(
                "the registry's image has the digest {digest}, and the action wants sha256:{given}; nothing was written"
            ),
        )),
        _ => Ok(hex),
    }
}

/// The artefact's file, as it comes.
struct Blob {
    artefact: Arc<Artefact>,
    progress: Arc<Progress>,
    bytes: mpsc::Receiver<Bytes>,
    /// `None` when its end was told.
    brings: Option<JoinHandle<Result<Ended, PullError>>>,
}

impl Blob {
    fn of(artefact: Artefact) -> Blob {
        let (artefact, progress) = (Arc::new(artefact), Arc::new(Progress::default()));
        let (mut to, bytes) = mpsc::channel(CHUNKS);
        let (from, seen) = (artefact.clone(), progress.clone());
        let brings = tokio::spawn(async move { from.bring(0, &seen, &mut to).await });
        Blob {
            artefact,
            progress,
            bytes,
            brings: Some(brings),
        }
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        if let Some(brings) = &self.brings {
            brings.abort();
        }
    }
}

impl ByteSource for Blob {
    fn next(&mut self) -> InTime<'_, Option<Bytes>> {
        Box::pin(async {
            if let Some(bytes) = self.bytes.recv().await {
                return Ok(Some(bytes));
            }
            let Some(brings) = &mut self.brings else {
                return Ok(None);
            };
            let ended = brings.await;
            self.brings = None;
            match ended {
                Ok(Ok(_)) => Ok(None),
                Ok(Err(e)) => Err(not_fetched(&e)),
                Err(e) => Err(NotFetched {
                    reason: "AgentFault",
                    message: e.to_string(),
                }),
            }
        })
    }

    fn part(&self, range: Range<u64>) -> InTime<'_, Vec<u8>> {
        Box::pin(async move {
            let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            let part = self.artefact.part(range.start, len).await;
            part.map_err(|e| not_fetched(&e))
        })
    }

    fn total_bytes(&self) -> u64 {
        self.artefact.file.blob.size_bytes
    }

    fn resumes(&self) -> u32 {
        self.progress.seen().resumes
    }
}

fn not_fetched(error: &PullError) -> NotFetched {
    NotFetched {
        reason: error.reason(),
        message: chain(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_name_is_a_registrys_with_or_without_a_scheme() {
        for named in ["lab:5000/images/debian:13", "oci://lab:5000/images/debian:13"] {
            assert_eq!(reference(named).unwrap().to_string(), "lab:5000/images/debian:13");
        }
        for wrong in ["http://lab/image.raw", "", "Lab/UPPER"] {
            assert!(reference(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_login_is_a_name_and_a_password() {
        let of = |pairs: &[(&str, &str)]| {
            let variables: HashMap<_, _> = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            login(&Environment::of(&variables)).map(|login| login.map(|login| login.user))
        };
        assert_eq!(of(&[]), Ok(None));
        let both = [("REGISTRY_USERNAME", "ali"), ("REGISTRY_PASSWORD", "x")];
        assert_eq!(of(&both), Ok(Some("ali".to_owned())));
        for (one, other) in [(0, "REGISTRY_PASSWORD"), (1, "REGISTRY_USERNAME")] {
            let failure = of(&both[one..=one]).unwrap_err();
            assert!(
                failure.message.contains(&format!("{other} is not")),
                "{}",
                failure.message
            );
        }
    }
}
