//! Namespaces: parts of one server's things that do not see each other, and what a token reaches of them.
//!
//! A template or a secret has its name in a namespace, a machine and a workflow belong to one. Whoever looks something up says
//! within what ([`Reach`], [`Scope`]): what is outside is answered as what does not exist, by the same code and the same words.
//!
//! ```text
//! namespace/<name>         Namespace; none for `default`, which is always there
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use workflow::engine::{Head, UnixMillis};

use crate::archive::Archived;
use crate::database::{Batch, View};
use crate::error::Error;
use crate::people::Token;
use crate::{machines, secrets, templates, webhooks};

/// The namespace that is always there, and that is meant where none is named.
pub const DEFAULT: &str = "default";
/// Of one server, beside `default`.
pub const MAX_NAMESPACES: usize = 1_000;
/// As Kubernetes has it: a DNS label (RFC 1123).
pub const MAX_NAME_BYTES: usize = 63;
const NAME_RULE: &str =
    "1 to 63 of the letters a to z, digits and `-`, beginning and ending with a letter or digit";

/// What is stored of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub created_at: UnixMillis,
    /// The token that it was made with.
    pub created_by: String,
}

/// The namespaces that somebody, or something, sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach(Option<Arc<BTreeSet<String>>>);

impl Default for Reach {
    /// Nothing: what was forgotten is not everything.
    fn default() -> Self {
        Self(Some(Arc::default()))
    }
}

impl Reach {
    /// Every namespace, also those that are made later.
    pub fn everything() -> Self {
        Self(None)
    }

    /// One.
    pub fn only(namespace: &str) -> Self {
        Self(Some(Arc::new(BTreeSet::from([namespace.to_owned()]))))
    }

    /// What a token says; none: every namespace.
    pub fn of_token(namespaces: &[String]) -> Self {
        match namespaces {
            [] => Self::everything(),
            some => Self(Some(Arc::new(some.iter().cloned().collect()))),
        }
    }

    pub fn has(&self, namespace: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(namespace))
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_none()
    }
}

/// A namespace that is there, and that whoever asks for it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    namespace: String,
    only: Reach,
    reach: Reach,
}

impl Scope {
    /// The namespace of this name, `default` for none.
    ///
    /// # Errors
    /// [`Error::NotFound`], in the same words whether it does not exist or is out of reach.
    pub fn within(view: &View, reach: &Reach, name: &str) -> Result<Self, Error> {
        let name = if name.is_empty() { DEFAULT } else { name };
        if !reach.has(name) || !exists(view, name)? {
            return Err(unknown(view, reach, name)?);
        }
        Ok(Self {
            namespace: name.to_owned(),
            only: Reach::only(name),
            reach: reach.clone(),
        })
    }

    /// What a workflow of this namespace sees.
    pub fn inside(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            only: Reach::only(namespace),
            reach: Reach::only(namespace),
        }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// This namespace alone.
    pub fn only(&self) -> &Reach {
        &self.only
    }

    /// All that whoever asks reaches.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// What a command needs to be about this namespace: ` -n NAME`, nothing for `default`.
    pub fn option(&self) -> String {
        option(&self.namespace)
    }
}

/// ` -n NAME`; nothing for `default`.
pub fn option(namespace: &str) -> String {
    match namespace {
        DEFAULT => String::new(),
        name => format!(" -n {name}"),
    }
}

/// ` of namespace "NAME"`; nothing for `default`.
pub fn of(namespace: &str) -> String {
    match namespace {
        DEFAULT => String::new(),
        name => format!(" of namespace {name:?}"),
    }
}

/// What a list is over: all that whoever asks reaches, or one namespace of it.
///
/// # Errors
/// As [`Scope::within`].
pub fn listed(view: &View, reach: &Reach, name: &str, all: bool) -> Result<Reach, Error> {
    match all {
        true => Ok(reach.clone()),
        false => Ok(Scope::within(view, reach, name)?.only),
    }
}

/// Makes a namespace.
///
/// # Errors
/// [`Error::Invalid`] for the name, [`Error::Exists`], [`Error::Refused`] when there are too many.
pub fn create(view: &View, name: &str, by: &str, now: UnixMillis) -> Result<Batch, Error> {
    if !is_name(name) {
        return Err(Error::Invalid(format!(
            "bad name of a namespace {name:?}: expected {NAME_RULE}"
        )));
    }
    if exists(view, name)? {
        return Err(Error::Exists(format!("there is a namespace {name:?} already")));
    }
    if view.list::<IgnoredAny>("namespace/")?.len() >= MAX_NAMESPACES {
        return Err(Error::Refused(format!(
            "there are {MAX_NAMESPACES} namespaces, the most that a server keeps: delete one with `farrier namespace delete`"
        )));
    }
    let namespace = Namespace {
        created_at: now,
        created_by: by.to_owned(),
    };
    let mut batch = Batch::default();
    batch.absent(key(name));
    batch.put(key(name), &namespace);
    Ok(batch)
}

/// Every namespace within reach, by name; `default` has no row.
///
/// # Errors
/// When the store cannot be read.
pub fn all(view: &View, reach: &Reach) -> Result<Vec<(String, Option<Namespace>)>, Error> {
    let rows = view.list::<Namespace>("namespace/")?;
    let mut all: Vec<(String, Option<Namespace>)> =
        rows.into_iter().map(|(name, row)| (name, Some(row))).collect();
    all.push((DEFAULT.to_owned(), None));
    all.retain(|(name, _)| reach.has(name));
    all.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(all)
}

/// Takes a namespace away. Nothing may be put into it meanwhile.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Refused`] for `default`, and while there is something in it, which it names.
pub fn deletion(view: &View, name: &str) -> Result<Batch, Error> {
    if name == DEFAULT {
        return Err(Error::Refused(
            "namespace \"default\" is always there: it cannot be deleted".into(),
        ));
    }
    let Some(row) = view.get::<Namespace>(&key(name))? else {
        return Err(unknown(view, &Reach::everything(), name)?);
    };
    let held = held(view, name)?;
    if !held.is_empty() {
        return Err(Error::Refused(format!(
            "namespace {name:?} is not empty: it has {}",
            held.join("; ")
        )));
    }
    let mut batch = Batch::default();
    batch.unchanged(key(name), row.modified);
    batch.delete(key(name));
    Ok(batch)
}

/// What is in a namespace, or is for it, in words with the command that shows it.
fn held(view: &View, name: &str) -> Result<Vec<String>, Error> {
    let reach = Reach::only(name);
    let machines = machines::all(view, &reach)?
        .into_iter()
        .map(|machine| machine.name);
    let templates = templates::all(view, &reach)?
        .into_iter()
        .map(|template| template.name);
    let secrets = secrets::all(view, &reach)?.into_iter().map(|(id, _)| id.name);
    let webhooks = webhooks::all(view, &reach)?.into_iter().map(|(id, _)| id.name);
    let heads = view.list::<Head>("workflow/")?.into_iter().map(|(_, head)| head);
    let archived = view.list::<Archived>("archived/")?.into_iter();
    let heads = heads.chain(archived.map(|(_, archived)| archived.head));
    let workflows = heads.filter(|head| head.namespace == name).map(|head| head.id);
    let tokens = view.list::<Token>("token/")?.into_iter().map(|(_, token)| token);
    let tokens = tokens.filter(|token| token.namespaces.iter().any(|of| of == name));
    let kinds: [(&str, Vec<String>, String); 6] = [
        (
            "machine",
            machines.collect(),
            format!("farrier machine list -n {name}"),
        ),
        (
            "template",
            templates.collect(),
            format!("farrier template list -n {name}"),
        ),
        (
            "secret",
            secrets.collect(),
            format!("farrier secret list -n {name}"),
        ),
        (
            "webhook",
            webhooks.collect(),
            format!("farrier webhook list -n {name}"),
        ),
        (
            "workflow",
            workflows.collect(),
            format!("farrier workflow list -n {name}"),
        ),
        (
            "token for it,",
            tokens.map(|token| token.name).collect(),
            "farrier token list".to_owned(),
        ),
    ];
    let in_words = |(kind, names, command): (&str, Vec<String>, String)| {
        let first = names.first()?;
        let more = match names.len() {
            1 => String::new(),
            several => format!(" and {} more", several - 1),
        };
        Some(format!("{kind} {first}{more} (`{command}`)"))
    };
    Ok(kinds.into_iter().filter_map(in_words).collect())
}

fn exists(view: &View, name: &str) -> Result<bool, Error> {
    Ok(name == DEFAULT || (is_name(name) && view.get::<IgnoredAny>(&key(name))?.is_some()))
}

/// The same words for what does not exist and for what is out of reach; the nearest name is one within reach.
fn unknown(view: &View, reach: &Reach, name: &str) -> Result<Error, Error> {
    let all = all(view, reach)?;
    let near = yaml::nearest(name, all.iter().map(|(name, _)| name.as_str()));
    let near = near
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_default();
    let cure = match reach.is_everything() {
        true => format!("see `farrier namespace list`, or make it with `farrier namespace create {name}`"),
        false => {
            let reached: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
            format!("your token is for {}: name it with -n", reached.join(", "))
        }
    };
    Ok(Error::NotFound(format!(
        "there is no namespace {name:?}{near}: {cure}"
    )))
}

/// Whether `name` may be one of a namespace.
pub fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| letter(byte) || byte == b'-')
        && name.bytes().next().is_some_and(letter)
        && name.bytes().last().is_some_and(letter)
}

/// For records of before there were namespaces.
pub(crate) fn default_namespace() -> String {
    DEFAULT.to_owned()
}

fn key(name: &str) -> String {
    format!("namespace/{name}")
}

#[cfg(test)]
mod tests {
    use store::{MemoryStore, Store};

    use super::*;

    fn seen(store: &MemoryStore) -> View {
        View::now(store).unwrap()
    }

    fn make(store: &MemoryStore, name: &str) {
        let batch = create(&seen(store), name, "ann", 1).unwrap();
        store.commit(&batch.into_commit()).unwrap();
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "0", "team-a", "x--y", &"a".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "A",
            "a.b",
            "a_b",
            "-a",
            "a-",
            "a/b",
            "ä",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(!is_name(bad), "{bad:?}");
            let store = MemoryStore::new();
            assert!(matches!(
                create(&seen(&store), bad, "ann", 1),
                Err(Error::Invalid(_))
            ));
        }
    }

    #[test]
    fn default_is_there_without_a_row_and_stays() {
        let store = MemoryStore::new();
        let everything = Reach::everything();
        assert_eq!(
            Scope::within(&seen(&store), &everything, "").unwrap().namespace(),
            DEFAULT
        );
        assert_eq!(
            all(&seen(&store), &everything).unwrap(),
            [(DEFAULT.to_owned(), None)]
        );
        assert!(matches!(
            create(&seen(&store), DEFAULT, "ann", 1),
            Err(Error::Exists(_))
        ));
        assert!(matches!(deletion(&seen(&store), DEFAULT), Err(Error::Refused(_))));
    }

    #[test]
    fn what_is_out_of_reach_is_told_as_what_does_not_exist() {
        let store = MemoryStore::new();
        for name in ["blue", "green"] {
            make(&store, name);
        }
        let reach = Reach::of_token(&["blue".into()]);
        let view = seen(&store);
        let told = |name: &str| Scope::within(&view, &reach, name).unwrap_err().to_string();
        assert_eq!(
            told("green").replace("green", "x"),
            told("nowhere").replace("nowhere", "x")
        );
        assert!(
            told("bleu").contains("did you mean \"blue\"?"),
            "{}",
            told("bleu")
        );
        assert!(told("").contains("your token is for blue"), "{}", told(""));
        assert_eq!(Scope::within(&view, &reach, "blue").unwrap().namespace(), "blue");
        let everything = Reach::everything();
        let told = Scope::within(&view, &everything, "gren").unwrap_err().to_string();
        assert_eq!(
            told,
            "there is no namespace \"gren\"; did you mean \"green\"?: see `farrier namespace list`, or make it with `farrier \
             namespace create gren`"
        );
    }

    #[test]
    fn there_are_a_thousand_at_most() {
        let store = MemoryStore::new();
        for number in 0..MAX_NAMESPACES {
            make(&store, &format!("n{number}"));
        }
        let more = create(&seen(&store), "more", "ann", 1);
        assert!(matches!(more, Err(Error::Refused(why)) if why.contains("there are 1000 namespaces")));
    }
}
