//! Which images a server lets its machines run, and who runs those that are called like built-in actions.
//!
//! Rules are about names, as Docker completes them: `alpine` is of docker.io/library. Where an image comes from in the end, a mirror
//! or the server's own registry, changes nothing. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::image_reference::{check, check_path, is_domain, split_domain};
use super::native::native;
use super::waitdaemon::is_wrapper;
use super::{Definition, Runtime, Task};

/// What a name without a registry means.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where Docker Hub keeps what has no folder.
const OFFICIAL: &str = "library";

/// A server's rules; by default it lets everything run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePolicy {
    /// What images may be of; empty: anything.
    pub allowed: Vec<AllowedImages>,
    /// Images are named by their digests.
    pub needs_digest: bool,
    pub native: NativeImages,
}

/// Who runs an image that is called like a built-in action, where its template does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NativeImages {
    /// Its image runs as a container.
    Never,
    /// The agent itself.
    #[default]
    Prefer,
}

/// Images that may run: those of a registry, or of a folder in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowedImages {
    registry: String,
    /// Empty: all of it.
    folder: String,
}

/// A text that says of no images that they are allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no registry and no folder of one: write HOST or HOST/PATH, such as quay.io, lab:5000/tools or docker.io/library"
)]
pub struct NotAllowedImages {
    given: String,
}

/// Why an image may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefused {
    #[error("image {image} is refused: its name cannot be read, and this server has rules for names: {why}")]
    Unreadable {
        image: String,
        why: super::ReferenceError,
    },
    #[error(
        "image {image} is refused: this server allows images of {allowed} alone (--allow-registry), and this one is of {registry}: \
         take one of those, or have the server started with --allow-registry {registry}"
    )]
    Registry {
        image: String,
        registry: String,
        allowed: String,
    },
    #[error(
        "image {image} is refused: this server wants every image named by its digest (--require-digest): write \
         {repository}@sha256:DIGITS, with the digest that its registry has for it"
    )]
    NoDigest { image: String, repository: String },
}

impl ImagePolicy {
    /// Has the images of a definition run as this server has them run: with [`NativeImages::Never`] no action is built in by its image's
    /// name alone.
    pub fn settle(&self, definition: &mut Definition) {
        if self.native == NativeImages::Prefer {
            return;
        }
        let actions = definition.tasks.iter_mut().flat_map(|task| &mut task.actions);
        for action in actions.filter(|action| action.runtime.is_none()) {
            if native(&action.image).is_some()
                || is_wrapper(None, &action.image)
                || action.image.contains("${{")
            {
                action.runtime = Some(Runtime::Image);
            }
        }
    }

    /// Whether an image may be pulled and run.
    ///
    /// # Errors
    /// [`ImageRefused`] names the image, the rule and the cure.
    pub fn check(&self, image: &str) -> Result<(), ImageRefused> {
        if self.allowed.is_empty() && !self.needs_digest {
            return Ok(());
        }
        let named = Named::read(image).map_err(|why| ImageRefused::Unreadable {
            image: image.to_owned(),
            why,
        })?;
        if !self.allowed.is_empty() && !self.allowed.iter().any(|allowed| allowed.has(&named)) {
            let allowed: Vec<String> = self.allowed.iter().map(ToString::to_string).collect();
            return Err(ImageRefused::Registry {
                image: image.to_owned(),
                registry: named.registry,
                allowed: allowed.join(", "),
            });
        }
        if self.needs_digest && !named.has_digest {
            return Err(ImageRefused::NoDigest {
                image: image.to_owned(),
                repository: repository_of(image).to_owned(),
            });
        }
        Ok(())
    }

    /// Every action whose image may not run, with its task; those that expressions fill in are not known yet.
    pub fn refused(&self, definition: &Definition) -> Vec<String> {
        let mut refused = Vec::new();
        for task in &definition.tasks {
            for action in &task.actions {
                if let Some(image) = action.pulled(task)
                    && let Err(why) = self.check(&image)
                {
                    refused.push(in_words(&task.name, &action.name, &why));
                }
            }
        }
        refused
    }

    /// What is said once of the images of a definition that are pulled and named without a digest; `None`: there are none.
    pub fn unpinned(&self, definition: &Definition) -> Option<String> {
        let tasks = definition.tasks.iter();
        let pulled = tasks.flat_map(|task| task.actions.iter().filter_map(|action| action.pulled(task)));
        let names: BTreeSet<String> = pulled.filter(|image| !image.contains('@')).collect();
        if names.is_empty() {
            return None;
        }
        let more = names.len().saturating_sub(MAX_NAMED);
        let mut named = names.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 {
            named = format!("{named} and {more} more");
        }
        Some(format!(
            "no digest is in the name of {named}: a tag means what its registry says when a machine pulls it, which may be another image \
             tomorrow and on the next machine: write NAME@sha256:DIGITS for one that stays what it is"
        ))
    }

    /// Of the images that run under this policy by their names alone: those that are called like built-in actions and are pulled.
    pub fn pulled_by_policy(&self, definition: &Definition) -> Vec<String> {
        let mut told = Vec::new();
        for task in &definition.tasks {
            let pulled = task
                .actions
                .iter()
                .filter(|action| action.runtime == Some(Runtime::Image) && native(&action.image).is_some());
            told.extend(pulled.map(|action| {
                format!(
                    "task {:?}, action {:?}: image {} is pulled and runs as a container: on this server the name of an image does not mean \
                     a built-in action (--native never): in version 1 runtime: native does",
                    task.name, action.name, action.image
                )
            }));
        }
        told
    }
}

/// A refusal with the place of the image: at creation and when an action is handed out alike.
pub fn in_words(task: &str, action: &str, why: &ImageRefused) -> String {
    format!("task {task:?}, action {action:?}: {why}")
}

/// Images that one warning names.
const MAX_NAMED: usize = 8;

impl super::Action {
    /// The image that is pulled for it, as far as it is known; `None`: the agent does it itself.
    fn pulled(&self, task: &Task) -> Option<String> {
        let mut environment = task.environment.clone();
        environment.extend(self.environment.clone());
        let (image, native) = match self.wrapped(&environment) {
            Some(wrapped) => (wrapped.image.clone(), wrapped.native()),
            None => (self.image.clone(), self.native()),
        };
        (native.is_none() && !image.contains("${{")).then_some(image)
    }
}

impl AllowedImages {
    fn has(&self, named: &Named) -> bool {
        let below = named.repository.strip_prefix(self.folder.as_str());
        named.registry == self.registry
            && (self.folder.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

impl FromStr for AllowedImages {
    type Err = NotAllowedImages;

    fn from_str(text: &str) -> Result<AllowedImages, NotAllowedImages> {
        let refused = || NotAllowedImages {
            given: text.chars().take(200).collect(),
        };
        let (host, folder) = text.split_once('/').unwrap_or((text, ""));
        // As the first part of an image's name it has to be a registry.
        let (Some(_), _) = split_domain(&format!("{host}/image")) else {
            return Err(refused());
        };
        let registry = normal_registry(host).ok_or_else(refused)?;
        if text.contains('/') {
            check_path(folder).map_err(|_| refused())?;
        }
        Ok(AllowedImages {
            registry,
            folder: folder.to_owned(),
        })
    }
}

impl TryFrom<String> for AllowedImages {
    type Error = NotAllowedImages;

    fn try_from(text: String) -> Result<AllowedImages, NotAllowedImages> {
        text.parse()
    }
}

impl From<AllowedImages> for String {
    fn from(allowed: AllowedImages) -> String {
        allowed.to_string()
    }
}

/// As it is read.
impl fmt::Display for AllowedImages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.folder.as_str() {
            "" => formatter.write_str(&self.registry),
            folder => write!(formatter, "{}/{folder}", self.registry),
        }
    }
}

/// The registry and repository that an image's name means, as the agent completes it; `None`: it cannot be read.
pub fn complete_image_name(image: &str) -> Option<(String, String)> {
    let named = Named::read(image).ok()?;
    Some((named.registry, named.repository))
}

/// A name, completed as Docker does it. A test of the command line, which knows both, holds it against the agent's.
struct Named {
    registry: String,
    repository: String,
    has_digest: bool,
}

impl Named {
    fn read(image: &str) -> Result<Named, super::ReferenceError> {
        check(image)?;
        let (domain, _) = split_domain(image);
        let registry = match domain {
            None => DEFAULT_REGISTRY.to_owned(),
            Some(domain) => {
                normal_registry(domain).ok_or_else(|| super::ReferenceError::Domain(domain.to_owned()))?
            }
        };
        let name = repository_of(image);
        let path = match domain {
            None => name,
            Some(domain) => name.get(domain.len() + 1..).unwrap_or_default(),
        };
        let repository = match registry.as_str() {
            DEFAULT_REGISTRY if !path.contains('/') => format!("{OFFICIAL}/{path}"),
            _ => path.to_owned(),
        };
        Ok(Named {
            registry,
            repository,
            has_digest: image.contains('@'),
        })
    }
}

/// Without tag and digest.
fn repository_of(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // Else it is the registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// In small letters where that is the same registry, its address and port as numbers are written.
fn normal_registry(domain: &str) -> Option<String> {
    if !is_domain(domain) {
        return None;
    }
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (format!("[{address}]"), port.strip_prefix(':'))
        }
        None => {
            let (host, port) = match domain.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (domain, None),
            };
            let small = host.to_ascii_lowercase();
            // A capital may be all that tells it from a part of a repository: it stays then.
            let is_told = port.is_some() || small.contains('.') || small == "localhost";
            (if is_told { small } else { host.to_owned() }, port)
        }
    };
    let port = match port {
        Some(digits) => Some(digits.parse::<u16>().ok().filter(|port| *port > 0)?),
        None => None,
    };
    Some(match (host.as_str(), port) {
        // What Docker Hub was called once.
        ("index.docker.io", None) => DEFAULT_REGISTRY.to_owned(),
        (host, None) => host.to_owned(),
        (host, Some(port)) => format!("{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Task};
    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn policy(allowed: &[&str], needs_digest: bool) -> ImagePolicy {
        ImagePolicy {
            allowed: allowed
                .iter()
                .map(|text| text.parse().expect("a registry"))
                .collect(),
            needs_digest,
            native: NativeImages::Prefer,
        }
    }

    fn definition(images: &[(&str, Option<Runtime>)]) -> Definition {
        let actions = images.iter().map(|(image, runtime)| Action {
            name: "a".to_owned(),
            image: (*image).to_owned(),
            runtime: *runtime,
            ..Action::default()
        });
        Definition {
            tasks: vec![Task {
                name: "t".to_owned(),
                actions: actions.collect(),
                ..Task::default()
            }],
            ..Definition::default()
        }
    }

    #[test]
    fn a_registry_or_a_folder_of_it_is_allowed_and_nothing_that_only_begins_so() {
        for (allowed, image, is_allowed) in [
            ("quay.io", "quay.io/a/b:1", true),
            ("quay.io", "QUAY.io/a/b:1", true),
            ("QUAY.IO", "quay.io/a/b:1", true),
            ("quay.io", "quay.io.evil.example/a/b", false),
            ("quay.io", "quay.io:443/a/b", false),
            ("quay.io/tools", "quay.io/tools/flash", true),
            ("quay.io/tools", "quay.io/tools", true),
            ("quay.io/tools", "quay.io/tools-of-others/flash", false),
            ("quay.io/tools", "quay.io/x/tools/flash", false),
            ("docker.io", "alpine", true),
            ("index.docker.io", "alpine:3", true),
            ("docker.io/library", "alpine", true),
            ("docker.io/library", "index.docker.io/alpine", true),
            ("docker.io/library", "somebody/alpine", false),
            ("lab:5000", "lab:05000/x", true),
            ("lab:5000", "lab/x", false),
            ("localhost", "localhost/x", true),
            ("[fd00::1]:5000", "[fd00:0::1]:5000/x", true),
        ] {
            let said = policy(&[allowed], false).check(image);
            assert_eq!(said.is_ok(), is_allowed, "{allowed} {image}: {said:?}");
        }
    }

    #[test]
    fn a_refusal_names_image_rule_and_cure() {
        let both = policy(&["quay.io", "lab:5000/tools"], true);
        assert_eq!(
            both.check("evil.example/x:1").expect_err("refused").to_string(),
            "image evil.example/x:1 is refused: this server allows images of quay.io, lab:5000/tools alone (--allow-registry), and this \
             one is of evil.example: take one of those, or have the server started with --allow-registry evil.example"
        );
        assert_eq!(
            both.check("lab:5000/tools/x:1").expect_err("refused").to_string(),
            "image lab:5000/tools/x:1 is refused: this server wants every image named by its digest (--require-digest): write \
             lab:5000/tools/x@sha256:DIGITS, with the digest that its registry has for it"
        );
        assert_eq!(both.check(&format!("quay.io/x:1@{DIGEST}")), Ok(()));
        let unread = both.check("https://quay.io/x").expect_err("refused").to_string();
        assert!(unread.contains("https://quay.io/x"), "{unread}");
        // Without rules nobody reads names.
        assert_eq!(policy(&[], false).check("no name at all"), Ok(()));
    }

    #[test]
    fn what_the_agent_does_itself_and_what_is_not_known_yet_is_not_refused() {
        let rules = policy(&["quay.io"], true);
        let fine = definition(&[
            ("reboot", None),
            ("x/reboot", Some(Runtime::Native)),
            ("${{ inputs.i }}", None),
        ]);
        assert_eq!(rules.refused(&fine), Vec::<String>::new());
        let bad = definition(&[("reboot", Some(Runtime::Namespaces)), ("alpine", None)]);
        let said = rules.refused(&bad);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[1].starts_with("task \"t\", action \"a\": image alpine is refused: "),
            "{said:?}"
        );
    }

    #[test]
    fn of_a_wrapper_the_image_that_it_starts_is_judged() {
        let rules = policy(&["quay.io"], false);
        let mut last = definition(&[("ghcr.io/jacobweinstock/waitdaemon:0.2.1", None)]);
        let mut starts = |image: &str| {
            last.tasks[0].environment = [("IMAGE".to_owned(), image.to_owned())].into();
            rules.refused(&last)
        };
        assert_eq!(starts("quay.io/x/kexec"), Vec::<String>::new());
        assert_eq!(starts("reboot"), Vec::<String>::new());
        let said = starts("alpine");
        assert!(said[0].contains("image alpine is refused"), "{said:?}");
        let never = ImagePolicy {
            native: NativeImages::Never,
            ..rules
        };
        last.tasks[0].environment = [("IMAGE".to_owned(), "reboot".to_owned())].into();
        never.settle(&mut last);
        assert_eq!(never.refused(&last).len(), 1);
    }

    #[test]
    fn with_never_a_name_means_no_built_in_action_and_a_template_still_may() {
        let never = ImagePolicy {
            native: NativeImages::Never,
            ..policy(&["quay.io"], false)
        };
        let images = [
            ("image2disk", None),
            ("reboot", Some(Runtime::Native)),
            ("alpine", None),
            ("${{ inputs.i }}", None),
            ("cexec", Some(Runtime::Containerd)),
        ];
        let mut settled = definition(&images);
        never.settle(&mut settled);
        let runtimes: Vec<Option<Runtime>> = settled.tasks[0]
            .actions
            .iter()
            .map(|action| action.runtime)
            .collect();
        assert_eq!(
            runtimes,
            [
                Some(Runtime::Image),
                Some(Runtime::Native),
                None,
                Some(Runtime::Image),
                Some(Runtime::Containerd)
            ]
        );
        assert_eq!(settled.tasks[0].actions[0].native(), None);
        // So the rules are for it, too.
        assert!(never.refused(&settled)[0].contains("image image2disk is refused"));
        assert_eq!(never.pulled_by_policy(&settled).len(), 1);
        let mut same = definition(&images);
        policy(&[], false).settle(&mut same);
        assert_eq!(same, definition(&images));
    }

    #[test]
    fn images_without_a_digest_are_told_once() {
        let pinned = format!("quay.io/x@{DIGEST}");
        let none = definition(&[("reboot", None), (&pinned, None), ("${{ inputs.i }}", None)]);
        assert_eq!(ImagePolicy::default().unpinned(&none), None);
        let some = definition(&[("alpine", None), ("quay.io/x:1", None), ("alpine", None)]);
        let said = ImagePolicy::default().unpinned(&some).expect("a warning");
        assert!(
            said.starts_with("no digest is in the name of alpine, quay.io/x:1: a tag means"),
            "{said}"
        );
        let names: Vec<String> = (0..10).map(|number| format!("a{number}")).collect();
        let many: Vec<(&str, Option<Runtime>)> = names.iter().map(|name| (name.as_str(), None)).collect();
        let said = ImagePolicy::default()
            .unpinned(&definition(&many))
            .expect("a warning");
        assert!(said.contains("a7 and 2 more: "), "{said}");
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for text in [
            "",
            "tools",
            "quay.io/",
            "quay.io//x",
            "https://quay.io",
            "quay.io/Tools",
            "quay.io/x:1",
            "a b",
            "lab:99999",
            "/x",
        ] {
            let refused = text.parse::<AllowedImages>().expect_err(text).to_string();
            assert!(refused.contains("write HOST or HOST/PATH"), "{refused}");
        }
        for text in ["quay.io", "lab:5000/a/b", "docker.io/library"] {
            assert_eq!(text.parse::<AllowedImages>().expect(text).to_string(), text);
        }
    }
}
