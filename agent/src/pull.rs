//! A pull: of an image that an action names, with what the server says of its registry, and with progress.

use std::error::Error;
use std::time::Duration;

use oci::registry::{Login, Progress, Registries};
use oci::{Keep, Pull, Reference};
use proto::v1;
use redaction::Secrets;
use tokio::time::{MissedTickBehavior, interval};

use crate::actions::{Feed, Halt, NoImage};
use crate::data::DataServer;
use crate::wiping::apart;

/// How often it is told how far a pull is.
const TICK: Duration = Duration::from_secs(1);

/// Whose image is pulled, and who may say more of its registry.
pub(crate) struct Asked<'a> {
    pub(crate) action: &'a v1::RunAction,
    pub(crate) server: &'a DataServer,
    pub(crate) feed: &'a Feed,
    pub(crate) halt: &'a Halt,
}

/// Pulls an image, and tells how far it is. Ends early when the action is to be stopped.
///
/// With settings of the server, which may have a login, it runs [apart], and nothing of them is left in memory when it returns.
///
/// # Errors
/// In words, with a reason for programs.
pub(crate) async fn pulled<K: Keep + Clone + Send + 'static>(
    pull: &Pull,
    keeper: &K,
    registries: &Registries,
    asked: &Asked<'_>,
) -> Result<K::Image, NoImage>
where
    K::Image: 'static,
{
    let reference: Reference = asked.action.image.parse().map_err(|e| NoImage {
        reason: "BadImage".to_owned(),
        message: chain(&e),
    })?;
    let (pull, keeper, registries) = (pull.clone(), keeper.clone(), registries.clone());
    let (feed, halt) = (asked.feed.clone(), asked.halt.token());
    let settings = asked
        .action
        .has_pull_settings
        .then(|| (asked.server.clone(), asked.action.attempt_id.clone()));
    let is_apart = settings.is_some();
    let work = async move {
        let work = async {
            match settings {
                None => run(&pull, &keeper, &registries, &reference, &feed).await,
                Some((server, attempt_id)) => {
                    let settings = server.pull_settings(&attempt_id).await.map_err(|e| NoImage {
                        reason: e.reason.to_owned(),
                        message: e.message,
                    })?;
                    with(settings, &pull, &keeper, registries, &reference, &feed).await
                }
            }
        };
        tokio::select! {
            biased;
            () = halt.cancelled() => Err(NoImage::stopped()),
            done = work => done,
        }
    };
    match is_apart {
        false => work.await,
        true => apart(work).await.unwrap_or_else(|e| {
            Err(NoImage {
                reason: "AgentFault".to_owned(),
                message: format!("pulling image {} failed: {e}", asked.action.image),
            })
        }),
    }
}

/// With what the server says of the registry of this image.
async fn with<K: Keep>(
    settings: v1::PullSettings,
    pull: &Pull,
    keeper: &K,
    registries: Registries,
    reference: &Reference,
    feed: &Feed,
) -> Result<K::Image, NoImage> {
    let hidden = hidden(&settings);
    let mut registries = registries;
    told(&mut registries, reference.registry(), settings).map_err(|message| NoImage {
        reason: "BadPullSettings".to_owned(),
        message,
    })?;
    let image = run(pull, keeper, &registries, reference, feed).await;
    // What a registry says may have in it what it was told.
    image.map_err(|why| NoImage {
        message: hidden.hidden(&why.message).into_owned(),
        ..why
    })
}

/// The password, and the forms in which a registry is told it.
fn hidden(settings: &v1::PullSettings) -> Secrets {
    let login = Login {
        user: settings.user.clone(),
        password: settings.password.clone().into(),
    };
    Secrets::new([login.password.as_str(), login.basic().as_str()])
}

/// Has a registry be reached as the server says: its mirrors behind those that are known, and a login in the place of one that is.
fn told(registries: &mut Registries, registry: &str, settings: v1::PullSettings) -> Result<(), String> {
    let bad = |what: String| format!("what the server says of registry {registry} cannot be used: {what}");
    if settings.plain_http {
        let url = format!("http://{registry}");
        registries.be_at(registry, &url).map_err(|e| bad(e.to_string()))?;
    }
    for mirror in &settings.mirrors {
        registries
            .add_mirror(&format!("{registry}={mirror}"))
            .map_err(|e| bad(e.to_string()))?;
    }
    if !settings.authorities_pem.is_empty() {
        registries
            .reach
            .trust
            .add(&settings.authorities_pem)
            .map_err(bad)?;
    }
    if !settings.user.is_empty() {
        let login = Login {
            user: settings.user,
            password: settings.password.into(),
        };
        registries.log_in(registry, login);
    }
    Ok(())
}

async fn run<K: Keep>(
    pull: &Pull,
    keeper: &K,
    registries: &Registries,
    reference: &Reference,
    feed: &Feed,
) -> Result<K::Image, NoImage> {
    let progress = Progress::default();
    let pulled = pull.run(keeper, reference, registries, &progress);
    tokio::pin!(pulled);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told_bytes = 0;
    let image = loop {
        tokio::select! {
            image = &mut pulled => break image,
            _ = tick.tick() => {
                let seen = progress.seen();
                if seen.total_bytes > 0 {
                    let rate = seen.bytes.saturating_sub(told_bytes) / TICK.as_secs();
                    feed.progress(seen.bytes, seen.total_bytes, rate, "pull");
                }
                told_bytes = seen.bytes;
            }
        }
    };
    image.map_err(|e| NoImage {
        reason: e.reason().to_owned(),
        message: chain(&e),
    })
}

/// The words of an error and of its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use oci::registry::Transport;

    use super::*;

    #[test]
    fn causes_are_said_once() {
        let cause = std::io::Error::other("the disk is on fire");
        let error = oci::cache::CacheError::Io {
            what: "making",
            path: "/x".into(),
            source: cause,
        };
        let text = chain(&error);
        assert_eq!(text.matches("the disk is on fire").count(), 1, "{text}");
        assert!(text.contains("/x"), "{text}");
    }

    #[test]
    fn settings_are_for_the_registry_of_the_image_alone() {
        let mut registries = Registries::default();
        let settings = v1::PullSettings {
            mirrors: vec!["http://10.0.0.5:5000".to_owned()],
            plain_http: true,
            user: "ali".to_owned(),
            password: "open sesame".to_owned(),
            ..v1::PullSettings::default()
        };
        told(&mut registries, "lab:5000", settings).expect("settings");
        assert_eq!(registries.by_name.len(), 1);
        let lab = &registries.by_name["lab:5000"];
        let own = lab.own.as_ref().expect("the registry itself");
        assert_eq!(own.transport, Transport::Plain);
        assert_eq!(own.login.as_ref().expect("a login").user, "ali");
        assert_eq!((lab.mirrors.len(), &lab.mirrors[0].login), (1, &None));
        for bad in [
            v1::PullSettings {
                mirrors: vec!["10.0.0.5".to_owned()],
                ..v1::PullSettings::default()
            },
            v1::PullSettings {
                authorities_pem: "none".to_owned(),
                ..v1::PullSettings::default()
            },
        ] {
            let said = told(&mut registries, "quay.io", bad).expect_err("no settings");
            assert!(
                said.starts_with("what the server says of registry quay.io cannot be used: "),
                "{said}"
            );
        }
    }

    #[test]
    fn a_password_is_hidden_as_it_is_and_as_it_is_sent() {
        let settings = v1::PullSettings {
            user: "ali".to_owned(),
            password: "open sesame".to_owned(),
            ..v1::PullSettings::default()
        };
        let said = "no open sesame, no YWxpOm9wZW4gc2VzYW1l";
        assert_eq!(hidden(&settings).hidden(said), "no ***, no ***");
    }
}
