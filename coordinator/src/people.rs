//! People: who may do what, by the tokens that they have been given.
//!
//! A token has a name, which is its owner's in events and logs, groups, which decide for approvals, and a role. Only the digest
//! of its secret is stored. Times and secrets come from whoever drives this.
//!
//! ```text
//! token/<name>             Token
//! token-secret/<digest>    -> its name
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use workflow::engine::UnixMillis;

use crate::database::{Batch, View};
use crate::error::Error;
use crate::namespaces::{Reach, Scope};

/// What somebody may do. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at everything but secrets and tokens.
    Viewer,
    /// Drive machines, templates and workflows.
    Operator,
    /// Make and delete tokens and namespaces: who somebody is, in which groups, and where. Only with a reach of everything.
    Admin,
}

/// What is stored of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Of a person, or of a program.
    pub name: String,
    /// SHA-256 of its secret, in hexadecimal digits.
    pub digest: String,
    pub groups: Vec<String>,
    pub role: Role,
    pub created_at: UnixMillis,
    /// The token that it was made with; empty: the server made it.
    pub created_by: String,
    /// After this it is no longer good.
    pub expires_at: Option<UnixMillis>,
    /// What it reaches; none: every namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    pub groups: Vec<String>,
    pub role: Role,
    pub reach: Reach,
}

/// Tokens of one server.
const MAX_TOKENS: usize = 1_000;
const MAX_GROUPS: usize = 32;
const MAX_NAMESPACES: usize = 64;
const MAX_NAME_BYTES: usize = 64;
/// What names of people and groups are made of.
const NAME_RULE: &str = "letters, digits, `.`, `_`, `@` and `-`, a letter or digit first, at most 64 bytes";

/// The name of the token that a server makes itself.
const FIRST: &str = "admin";

impl Token {
    /// The one that a server makes itself: it may do everything.
    pub fn first(digest: String, now: UnixMillis) -> Self {
        Self {
            name: FIRST.to_owned(),
            digest,
            groups: Vec::new(),
            role: Role::Admin,
            created_at: now,
            created_by: String::new(),
            expires_at: None,
            namespaces: Vec::new(),
        }
    }
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let role = Role::ALL.into_iter().find(|role| role.to_string() == text);
        role.ok_or_else(|| Error::Invalid(format!("bad role {text:?}: expected viewer, operator or admin")))
    }
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    text.len() <= MAX_NAME_BYTES
        && letters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '@' | '-'))
}

/// Makes a token.
///
/// # Errors
/// [`Error::Invalid`] for bad names, [`Error::NotFound`] for a namespace that there is not, [`Error::Exists`] when there is one of
/// this name, [`Error::Refused`] when there are too many.
pub fn create(view: &View, token: &Token) -> Result<Batch, Error> {
    if !is_name(&token.name) {
        return Err(Error::Invalid(format!(
            "bad name {:?} of a token: expected {NAME_RULE}",
            token.name
        )));
    }
    if let Some(bad) = token.groups.iter().find(|group| !is_name(group)) {
        return Err(Error::Invalid(format!("bad group {bad:?}: expected {NAME_RULE}")));
    }
    if token.groups.len() > MAX_GROUPS {
        return Err(Error::Invalid(format!(
            "token {:?} is in {} groups, {MAX_GROUPS} are the most",
            token.name,
            token.groups.len()
        )));
    }
    if token.namespaces.len() > MAX_NAMESPACES {
        return Err(Error::Invalid(format!(
            "token {:?} is for {} namespaces, {MAX_NAMESPACES} are the most: leave them out for one that is for all",
            token.name,
            token.namespaces.len()
        )));
    }
    for namespace in &token.namespaces {
        Scope::within(view, &Reach::everything(), namespace)?;
    }
    if token.expires_at.is_some_and(|at| at <= token.created_at) {
        return Err(Error::Invalid(format!(
            "token {:?} would never be good",
            token.name
        )));
    }
    if view.get::<Token>(&key(&token.name))?.is_some() {
        return Err(Error::Exists(format!(
            "there is a token named {:?}: delete it with `farrier token delete {}`, or choose another name",
            token.name, token.name
        )));
    }
    if all(view)?.len() >= MAX_TOKENS {
        return Err(Error::Refused(format!(
            "there are {MAX_TOKENS} tokens, the most that a server keeps: delete those that nobody uses with `farrier token \
             delete`"
        )));
    }
    let mut batch = Batch::default();
    batch.absent(key(&token.name));
    batch.absent(secret_key(&token.digest));
    put(&mut batch, token);
    Ok(batch)
}

/// Makes a token in the place of the one of its name, if there is one.
///
/// # Errors
/// When the store cannot be read.
pub fn replace(view: &View, token: &Token) -> Result<Batch, Error> {
    let mut batch = Batch::default();
    if let Some(before) = view.get::<Token>(&key(&token.name))? {
        batch.delete(secret_key(&before.value.digest));
    }
    put(&mut batch, token);
    Ok(batch)
}

fn put(batch: &mut Batch, token: &Token) {
    batch.put(key(&token.name), token);
    batch.put(secret_key(&token.digest), &token.name);
}

/// Every token, by name.
///
/// # Errors
/// When the store cannot be read.
pub fn all(view: &View) -> Result<Vec<Token>, Error> {
    let all = view.list::<Token>("token/")?;
    Ok(all.into_iter().map(|(_, token)| token).collect())
}

/// Takes a token away.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Refused`] for the last admin, without whom nobody could make tokens.
pub fn deletion(view: &View, name: &str) -> Result<Batch, Error> {
    let found = view.get::<Token>(&key(name))?;
    let found = found
        .ok_or_else(|| Error::NotFound(format!("no token is named {name:?}: see `farrier token list`")))?;
    let others = all(view)?;
    let is_admin = |token: &&Token| {
        token.role == Role::Admin && token.expires_at.is_none() && token.namespaces.is_empty()
    };
    let is_last = others.iter().filter(is_admin).all(|token| token.name == name);
    if is_admin(&&found.value) && is_last {
        return Err(Error::Refused(format!(
            "token {name:?} is the last admin that never expires and is for all namespaces: make another before, with `farrier token create NAME --role \
             admin`"
        )));
    }
    let mut batch = Batch::default();
    batch.unchanged(key(name), found.modified);
    batch.delete(key(name));
    batch.delete(secret_key(&found.value.digest));
    Ok(batch)
}

/// Whose secret it is, by its digest.
///
/// # Errors
/// [`Error::Unknown`] when it is nobody's, or no longer good.
pub fn caller(view: &View, digest: &str, now: UnixMillis) -> Result<Caller, Error> {
    let unknown = || {
        Error::Unknown(
            "this server does not know the token: it was deleted, or is of another server; have a new one made with `farrier \
             token create`"
                .into(),
        )
    };
    let name = view
        .get::<String>(&secret_key(digest))?
        .ok_or_else(unknown)?
        .value;
    let token = view.get::<Token>(&key(&name))?.ok_or_else(unknown)?.value;
    if token.digest != digest {
        return Err(unknown());
    }
    if token.expires_at.is_some_and(|at| at <= now) {
        return Err(Error::Unknown(format!(
            "the token of {name} has expired: have a new one made with `farrier token create`"
        )));
    }
    Ok(Caller {
        name,
        reach: Reach::of_token(&token.namespaces),
        groups: token.groups,
        role: token.role,
    })
}

/// Where a token is.
pub fn key(name: &str) -> String {
    format!("token/{name}")
}

fn secret_key(digest: &str) -> String {
    format!("token-secret/{digest}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::{MemoryStore, Store};

    use super::*;

    fn token(name: &str, role: Role) -> Token {
        Token {
            name: name.into(),
            digest: format!("digest of {name}"),
            groups: vec!["ops".into()],
            role,
            created_at: 1_000,
            created_by: "admin".into(),
            expires_at: None,
            namespaces: Vec::new(),
        }
    }

    struct Tokens(Arc<MemoryStore>);

    impl Tokens {
        fn new() -> Self {
            Self(Arc::new(MemoryStore::new()))
        }

        fn view(&self) -> View {
            View::now(&*self.0).unwrap()
        }

        fn commit(&self, batch: Result<Batch, Error>) -> Result<(), Error> {
            self.0.commit(&batch?.into_commit())?;
            Ok(())
        }
    }

    #[test]
    fn who_shows_a_secret_is_its_owner_until_it_is_deleted_or_expires() {
        let tokens = Tokens::new();
        let mut alice = token("alice", Role::Operator);
        alice.expires_at = Some(2_000);
        tokens.commit(create(&tokens.view(), &alice)).unwrap();
        tokens
            .commit(create(&tokens.view(), &token("bob", Role::Viewer)))
            .unwrap();
        let found = caller(&tokens.view(), "digest of alice", 1_999).unwrap();
        assert_eq!((found.name.as_str(), found.role), ("alice", Role::Operator));
        assert_eq!(found.groups, ["ops"]);
        let late = caller(&tokens.view(), "digest of alice", 2_000)
            .unwrap_err()
            .to_string();
        assert!(late.contains("alice has expired"), "{late}");
        tokens.commit(deletion(&tokens.view(), "bob")).unwrap();
        assert!(matches!(
            caller(&tokens.view(), "digest of bob", 0),
            Err(Error::Unknown(_))
        ));
        assert!(matches!(
            caller(&tokens.view(), "alice", 0),
            Err(Error::Unknown(_))
        ));
    }

    #[test]
    fn a_name_is_given_once_and_the_last_admin_stays() {
        let tokens = Tokens::new();
        let admin = token("admin", Role::Admin);
        tokens.commit(create(&tokens.view(), &admin)).unwrap();
        assert!(matches!(create(&tokens.view(), &admin), Err(Error::Exists(_))));
        assert!(matches!(
            deletion(&tokens.view(), "admin"),
            Err(Error::Refused(_))
        ));
        // One that will expire does not count.
        let mut guest = token("guest", Role::Admin);
        guest.expires_at = Some(9_000);
        tokens.commit(create(&tokens.view(), &guest)).unwrap();
        assert!(matches!(
            deletion(&tokens.view(), "admin"),
            Err(Error::Refused(_))
        ));
        tokens
            .commit(create(&tokens.view(), &token("eve", Role::Admin)))
            .unwrap();
        tokens.commit(deletion(&tokens.view(), "admin")).unwrap();
        assert!(matches!(
            deletion(&tokens.view(), "nobody"),
            Err(Error::NotFound(_))
        ));
    }

    #[test]
    fn a_replaced_token_is_no_longer_good() {
        let tokens = Tokens::new();
        let mut admin = token("admin", Role::Admin);
        tokens.commit(create(&tokens.view(), &admin)).unwrap();
        admin.digest = "another".into();
        tokens.commit(replace(&tokens.view(), &admin)).unwrap();
        assert!(caller(&tokens.view(), "digest of admin", 0).is_err());
        assert!(caller(&tokens.view(), "another", 0).is_ok());
    }

    #[test]
    fn a_token_is_for_namespaces_that_are_there() {
        let tokens = Tokens::new();
        let mut bob = token("bob", Role::Viewer);
        bob.namespaces = vec!["blue".into()];
        let refused = create(&tokens.view(), &bob).unwrap_err();
        assert!(matches!(refused, Error::NotFound(_)), "{refused}");
        tokens
            .commit(crate::namespaces::create(&tokens.view(), "blue", "ann", 1))
            .unwrap();
        tokens.commit(create(&tokens.view(), &bob)).unwrap();
        let reach = caller(&tokens.view(), "digest of bob", 1).unwrap().reach;
        assert!(reach.has("blue") && !reach.has("default") && !reach.is_everything());
        let mut many = token("many", Role::Viewer);
        many.namespaces = vec!["blue".into(); MAX_NAMESPACES + 1];
        let refused = create(&tokens.view(), &many).unwrap_err().to_string();
        assert!(refused.contains("65 namespaces, 64 are the most"), "{refused}");
        // An admin of some namespaces makes no tokens, and does not count.
        let admin = token("admin", Role::Admin);
        tokens.commit(create(&tokens.view(), &admin)).unwrap();
        let mut boss = token("boss", Role::Admin);
        boss.namespaces = vec!["blue".into()];
        tokens.commit(create(&tokens.view(), &boss)).unwrap();
        assert!(matches!(
            deletion(&tokens.view(), "admin"),
            Err(Error::Refused(_))
        ));
    }

    #[test]
    fn names_are_words() {
        let tokens = Tokens::new();
        for bad in ["", "a/b", "a b", "-a", "ä", "a\n", &"a".repeat(65)] {
            assert!(
                matches!(
                    create(&tokens.view(), &token(bad, Role::Viewer)),
                    Err(Error::Invalid(_))
                ),
                "{bad:?}"
            );
            let mut grouped = token("good", Role::Viewer);
            grouped.groups = vec![bad.into()];
            assert!(
                matches!(create(&tokens.view(), &grouped), Err(Error::Invalid(_))),
                "{bad:?}"
            );
        }
        assert!(create(&tokens.view(), &token("alice@example.org", Role::Viewer)).is_ok());
        assert_eq!("operator".parse::<Role>().unwrap(), Role::Operator);
        assert!(
            "root"
                .parse::<Role>()
                .unwrap_err()
                .to_string()
                .contains("viewer, operator or admin")
        );
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
