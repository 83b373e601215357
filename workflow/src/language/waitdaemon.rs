//! Tinkerbell's `waitdaemon`: an image that has Docker start another one, after it has ended itself.
//!
//! Most templates of the field end with it, as a reboot or a kexec would race its own report there. Here the machine reports
//! that it leaves, and runs the other image once that is on the server's disk: the wrapper is never pulled, and no Docker
//! is needed. Source: README.md and main.go of <https://github.com/jacobweinstock/waitdaemon>.

use std::collections::BTreeMap;

use yaml::{Kind, Place};

use super::fields::Check;
use super::native::{Native, last_part, native, repository};
use super::{Action, Runtime, image_reference};

/// Where it is published, in every registry: a mirror keeps that, whatever it puts in front.
const PUBLISHED_AS: &str = "jacobweinstock/waitdaemon";
/// Where Hook's image carries it.
const CARRIED_AS: &str = "127.0.0.1/embedded/waitdaemon";
/// The variable that names the image to start.
pub(super) const WRAPPED_IMAGE: &str = "IMAGE";
const WAIT_SECONDS: &str = "WAIT_SECONDS";

/// A time to wait that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WAIT_SECONDS} of action {action:?} is {text:?}: write a whole number of seconds")]
pub struct BadWait {
    action: String,
    text: String,
}

/// What is run in the wrapper's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    pub image: String,
    /// Between the server's acknowledgement and the start. The wrapper's own default of 10 s gives the report time to
    /// arrive; here it has arrived.
    pub wait_s: Result<u64, BadWait>,
    /// The server's policy has images of any name pulled.
    is_pulled: bool,
}

impl Wrapped {
    /// The native action that the image means.
    pub fn native(&self) -> Option<&'static Native> {
        native(&self.image).filter(|_| !self.is_pulled)
    }
}

impl Action {
    /// What its image starts when that is the wrapper; `environment` is the action's over its task's.
    pub fn wrapped(&self, environment: &BTreeMap<String, String>) -> Option<Wrapped> {
        is_wrapper(self.runtime, &self.image).then(|| Wrapped {
            image: environment.get(WRAPPED_IMAGE).cloned().unwrap_or_default(),
            wait_s: environment.get(WAIT_SECONDS).map_or(Ok(0), |text| {
                text.trim().parse().map_err(|_| BadWait {
                    action: self.name.clone(),
                    text: text.clone(),
                })
            }),
            is_pulled: self.runtime == Some(Runtime::Image),
        })
    }
}

/// A template that says who runs the image has it pulled and run as any other.
pub(super) fn is_wrapper(runtime: Option<Runtime>, image: &str) -> bool {
    let repository = repository(image);
    let before = repository.strip_suffix(PUBLISHED_AS);
    matches!(runtime, None | Some(Runtime::Image))
        && (repository == CARRIED_AS
            || before.is_some_and(|before| before.is_empty() || before.ends_with('/')))
}

impl Check<'_> {
    /// What is wrong with what a wrapper is told. Returns the image that it starts, empty where that is wrong; `None`: the
    /// action's image is no wrapper.
    pub(super) fn check_wrapper(
        &mut self,
        at: Place,
        action: &Action,
        environment: &BTreeMap<String, String>,
    ) -> Option<String> {
        let name = &action.name;
        let Wrapped { image, wait_s, .. } = action.wrapped(environment)?;
        // What an expression gives is looked at when the action is handed out.
        if let Err(bad) = wait_s
            && !bad.text.contains("${{")
        {
            self.problem(at, Kind::Value, bad.to_string());
        }
        if image.is_empty() {
            let wrapper = last_part(repository(&action.image));
            let message = format!(
                "action {name:?} has the image {wrapper}, which starts the image that the variable {WRAPPED_IMAGE} names, and there is no \
                 {WRAPPED_IMAGE}: write it below environment"
            );
            self.problem(at, Kind::Missing, message);
            return Some(image);
        }
        if !image.contains("${{")
            && let Err(error) = image_reference::check(&image)
        {
            let message =
                format!("{WRAPPED_IMAGE} {image:?} of action {name:?} is no image reference: {error}");
            self.problem(at, Kind::Image, message);
            return Some(String::new());
        }
        Some(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(image: &str, runtime: Option<Runtime>, environment: &[(&str, &str)]) -> Option<Wrapped> {
        let action = Action {
            image: image.to_owned(),
            runtime,
            ..Action::default()
        };
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        action.wrapped(&environment.collect())
    }

    #[test]
    fn the_wrapper_is_known_in_every_registry() {
        let want = |wait_s| {
            Some(Wrapped {
                image: "alpine".to_owned(),
                wait_s: Ok(wait_s),
                is_pulled: false,
            })
        };
        for image in [
            "ghcr.io/jacobweinstock/waitdaemon:0.2.1",
            "ghcr.io/jacobweinstock/waitdaemon",
            "jacobweinstock/waitdaemon@sha256:0123",
            "10.0.0.1:5000/ghcr.io/jacobweinstock/waitdaemon:latest",
            "127.0.0.1/embedded/waitdaemon",
        ] {
            assert_eq!(wrapped(image, None, &[("IMAGE", "alpine")]), want(0), "{image}");
        }
        let told = [("IMAGE", "alpine"), ("WAIT_SECONDS", "30")];
        assert_eq!(wrapped("jacobweinstock/waitdaemon", None, &told), want(30));
    }

    #[test]
    fn what_it_starts_is_pulled_where_a_policy_has_all_pulled() {
        let started = |runtime| {
            let wrapped = wrapped("jacobweinstock/waitdaemon", runtime, &[("IMAGE", "reboot")]);
            wrapped
                .and_then(|wrapped| wrapped.native())
                .map(|native| native.name)
        };
        assert_eq!(started(None), Some("reboot"));
        assert_eq!(started(Some(Runtime::Image)), None);
    }

    #[test]
    fn other_images_and_those_that_are_to_be_run_as_they_are_are_not_it() {
        for image in [
            "waitdaemon",
            "ghcr.io/notjacobweinstock/waitdaemon",
            "ghcr.io/jacobweinstock/waitdaemon/x",
            "10.0.0.1/embedded/waitdaemon",
        ] {
            assert_eq!(wrapped(image, None, &[("IMAGE", "alpine")]), None, "{image}");
        }
        for runtime in [Runtime::Containerd, Runtime::Namespaces] {
            let image = "ghcr.io/jacobweinstock/waitdaemon";
            assert_eq!(wrapped(image, Some(runtime), &[("IMAGE", "alpine")]), None);
        }
    }
}
