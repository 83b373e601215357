//! Secrets: `secret/<namespace>/<name>`, each a row of its own, sealed with a key that is not in the store.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a nonce for each time that a value is set, and namespace and name as associated data: a
//! row that is copied under another name, or into another namespace, does not open. Pure: whoever calls brings the key, the nonce and the time.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::{BASE64, HEXLOWER};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use workflow::engine::UnixMillis;
use workflow::expression::{SECRET_NAMES, is_secret_name};
use workflow::language::{Problem, SecretUse};
use zeroize::{Zeroize, Zeroizing};

use crate::database::{Batch, View};
use crate::error::Error;
use crate::namespaces::{Reach, Scope, of, option};

/// The name of the key's file in a server's data directory.
pub const KEY_FILE: &str = "secrets.key";
/// The secret that has the logins with which machines pull images, in the form of Docker's `config.json`: no action is given it.
pub const PULL_LOGINS: &str = "PULL_LOGINS";
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a nonce. Drawn by chance they are good for 2³² values under one key (NIST SP 800-38D section 8.3 counts so for
/// 96 bits).
pub const NONCE_BYTES: usize = NONCE_LEN;
/// Of a value. Environment and command are the way to an action, and Linux takes no longer ones.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Fewer could not be told from what stands in any text, so that they could not be hidden.
pub const LEAST_VALUE_BYTES: usize = 4;
/// In one store.
pub const MAX_SECRETS: usize = 1000;

/// A secret as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The id of the key that it is sealed with.
    key: String,
    nonce: String,
    sealed: String,
    /// Raised by every change of the value.
    pub version: u64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
    /// Who set the present value.
    #[serde(default)]
    pub set_by: String,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretId {
    pub namespace: String,
    pub name: String,
}

/// A secret's value. Shows itself nowhere, and is wiped from memory when it goes.
pub struct Value(Zeroizing<String>);

impl AsRef<str> for Value {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Value {
    pub(crate) fn new(value: String) -> Value {
        Value(Zeroizing::new(value))
    }
}

/// A value that stands sealed in another row than that of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The id of the key that it is sealed with.
    key: String,
    nonce: String,
    sealed: String,
}

/// What secrets are sealed with.
pub struct Key {
    id: String,
    key: LessSafeKey,
}

impl Key {
    /// The key with these bytes, which are to be drawn by chance and known to nobody.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Key {
        let named = digest(&SHA256, &[&b"farrier secrets key\0"[..], bytes].concat());
        let id = HEXLOWER.encode(named.as_ref().get(..8).unwrap_or_default());
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("a key of the right length");
        Key {
            id,
            key: LessSafeKey::new(unbound),
        }
    }

    /// Tells one key from another, and nothing of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a value for one row: it does not open in another. `nonce` is drawn by chance, for this once.
    pub(crate) fn seal_for(&self, row: &str, value: &str, nonce: [u8; NONCE_BYTES]) -> Sealed {
        Sealed {
            key: self.id.clone(),
            nonce: HEXLOWER.encode(&nonce),
            sealed: BASE64.encode(&self.seal(row.as_bytes().to_vec(), value, nonce)),
        }
    }

    /// `None`: it was sealed with another key, or for another row, or is damaged.
    pub(crate) fn open_for(&self, row: &str, sealed: &Sealed) -> Option<Value> {
        let Sealed { key, nonce, sealed } = sealed;
        (*key == self.id)
            .then(|| self.open(row.as_bytes().to_vec(), nonce, sealed))
            .flatten()
    }

    fn seal(&self, associated: Vec<u8>, value: &str, nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
        let mut sealed = value.as_bytes().to_vec();
        let aad = Aad::from(associated);
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("a value far below the cipher's bound of 256 GiB");
        sealed
    }

    fn open(&self, associated: Vec<u8>, nonce: &str, sealed: &str) -> Option<Value> {
        let nonce = HEXLOWER.decode(nonce.as_bytes()).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let mut sealed = BASE64.decode(sealed.as_bytes()).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::from(associated), &mut sealed);
        let value = opened
            .ok()
            .and_then(|value| std::str::from_utf8(value).ok())
            .map(|value| Value(Zeroizing::new(value.to_owned())));
        sealed.zeroize();
        value
    }
}

fn associated(namespace: &str, name: &str) -> Vec<u8> {
    format!("farrier secret\0{namespace}\0{name}").into_bytes()
}

/// Why a secret has no value to put in. Named for programs by [`Unavailable::reason`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("there is no secret {name}{}: set it with `farrier secret set{} {name}`", of(.namespace), option(.namespace))]
    Missing { namespace: String, name: String },
    #[error(
        "secret {name} is sealed with key {sealed_with}, and the server's key file has key {key}: put the file back that \
         belongs to this store, or set the secret again once `farrier secret delete` has taken away those that nobody can \
         open"
    )]
    OtherKey {
        name: String,
        sealed_with: String,
        key: String,
    },
    #[error(
        "secret {name} does not open with its key: its row is damaged; set it again with `farrier secret set {name}`"
    )]
    Damaged { name: String },
}

impl Unavailable {
    pub fn missing(scope: &Scope, name: &str) -> Self {
        Unavailable::Missing {
            namespace: scope.namespace().to_owned(),
            name: name.to_owned(),
        }
    }

    /// One word.
    pub fn reason(&self) -> &'static str {
        match self {
            Unavailable::Missing { .. } => "SecretMissing",
            Unavailable::OtherKey { .. } | Unavailable::Damaged { .. } => "SecretUnreadable",
        }
    }
}

/// The text of a value that may be set.
///
/// # Errors
/// [`Error::Invalid`] with what is wrong; never with the value.
pub fn check_value(value: &[u8]) -> Result<&str, Error> {
    let bad = |what: String| Err(Error::Invalid(format!("bad value of a secret: {what}")));
    if value.len() > MAX_VALUE_BYTES {
        return bad(format!(
            "it has {} B, {MAX_VALUE_BYTES} B at most: hand larger ones on as files",
            value.len()
        ));
    }
    let Ok(text) = std::str::from_utf8(value) else {
        return bad(
            "it is not UTF-8, as environment and command of an action are: encode it, as base64 does".into(),
        );
    };
    if text.contains('\0') {
        return bad("it has a NUL byte, which no environment can have".into());
    }
    let longest = text.lines().map(|line| line.trim().len()).max().unwrap_or(0);
    if longest < LEAST_VALUE_BYTES {
        return bad(format!(
            "it has less than {LEAST_VALUE_BYTES} bytes in a line, which stand in any log by chance, so that they cannot be \
             hidden there"
        ));
    }
    Ok(text)
}

fn check_name(name: &str) -> Result<(), Error> {
    match is_secret_name(name) {
        true => Ok(()),
        false => Err(Error::Invalid(format!(
            "bad name of a secret {name:?}: expected {SECRET_NAMES}"
        ))),
    }
}

/// Sets or replaces a secret. `nonce` is drawn by chance, for this once.
///
/// # Errors
/// [`Error::Invalid`] for the name; [`Error::Refused`] where there are too many, or others are sealed with another key.
pub fn put(
    view: &View,
    scope: &Scope,
    key: &Key,
    (name, value): (&str, &str),
    nonce: [u8; NONCE_BYTES],
    by: &str,
    now: UnixMillis,
) -> Result<(Secret, Batch), Error> {
    check_name(name)?;
    let every = all(view, &Reach::everything())?;
    let count = every.len();
    let is_other = |id: &SecretId| id.name != name || id.namespace != scope.namespace();
    let mut others = every.into_iter().filter(|(id, _)| is_other(id));
    if let Some((other, secret)) = others.find(|(_, secret)| secret.key != key.id) {
        let name = match scope.reach().has(&other.namespace) {
            true => other.name,
            false => "of another namespace".to_owned(),
        };
        let problem = Unavailable::OtherKey {
            name,
            sealed_with: secret.key,
            key: key.id.clone(),
        };
        return Err(Error::Refused(problem.to_string()));
    }
    let row = row(scope, name);
    let before = view.get::<Secret>(&row)?;
    if before.is_none() && count >= MAX_SECRETS {
        return Err(Error::Refused(format!(
            "there are {MAX_SECRETS} secrets, and no more fit: delete one with `farrier secret delete`"
        )));
    }
    let secret = Secret {
        key: key.id.clone(),
        nonce: HEXLOWER.encode(&nonce),
        sealed: BASE64.encode(&key.seal(associated(scope.namespace(), name), value, nonce)),
        version: before.as_ref().map_or(1, |before| before.value.version + 1),
        created_at: before.as_ref().map_or(now, |before| before.value.created_at),
        updated_at: now,
        set_by: by.to_owned(),
    };
    let mut batch = Batch::default();
    batch.expect(&row, before.map(|before| before.modified));
    batch.put(&row, &secret);
    Ok((secret, batch))
}

/// Takes a secret away.
///
/// # Errors
/// [`Error::NotFound`].
pub fn deletion(view: &View, scope: &Scope, name: &str) -> Result<Batch, Error> {
    let row = row(scope, name);
    let Some(before) = view.get::<Secret>(&row)? else {
        return Err(Error::NotFound(format!(
            "there is no secret {name:?}{}: see `farrier secret list{}`",
            of(scope.namespace()),
            scope.option()
        )));
    };
    let mut batch = Batch::default();
    batch.unchanged(&row, before.modified);
    batch.delete(&row);
    Ok(batch)
}

/// Every secret within reach, by namespace and name.
///
/// # Errors
/// When the store cannot be read.
pub fn all(view: &View, reach: &Reach) -> Result<Vec<(SecretId, Secret)>, Error> {
    let rows = view.list::<Secret>("secret/")?.into_iter();
    let named = rows.filter_map(|(key, secret)| {
        let (namespace, name) = key.split_once('/')?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Some((SecretId { namespace, name }, secret))
    });
    Ok(named.filter(|(id, _)| reach.has(&id.namespace)).collect())
}

/// That a secret is for the server alone, in words.
pub fn not_for_actions(name: &str) -> String {
    format!(
        "secret {name} has the logins with which machines pull images, and no action is given it: set the value that the action needs \
         under another name"
    )
}

/// The values of these secrets, or why one has none.
///
/// # Errors
/// When the store cannot be read.
pub fn open<'n>(
    view: &View,
    scope: &Scope,
    key: &Key,
    names: impl IntoIterator<Item = &'n str>,
) -> Result<Result<BTreeMap<String, Value>, Unavailable>, Error> {
    let mut values = BTreeMap::new();
    for name in names {
        let Some(found) = view.get::<Secret>(&row(scope, name))? else {
            return Ok(Err(Unavailable::missing(scope, name)));
        };
        let secret = found.value;
        if secret.key != key.id {
            return Ok(Err(Unavailable::OtherKey {
                name: name.into(),
                sealed_with: secret.key,
                key: key.id.clone(),
            }));
        }
        let Some(value) = key.open(associated(scope.namespace(), name), &secret.nonce, &secret.sealed) else {
            return Ok(Err(Unavailable::Damaged { name: name.into() }));
        };
        values.insert(name.to_owned(), value);
    }
    Ok(Ok(values))
}

/// Whether there is such a secret.
///
/// # Errors
/// When the store cannot be read.
pub fn is_set(view: &View, scope: &Scope, name: &str) -> Result<bool, Error> {
    Ok(view.get::<Secret>(&row(scope, name))?.is_some())
}

/// Of the secrets that a template names, the places of those that no action is handed, as there are none or they are for the server
/// alone; each name once.
///
/// # Errors
/// When the store cannot be read.
pub fn unknown(view: &View, scope: &Scope, named: &[SecretUse]) -> Result<Vec<Problem>, Error> {
    let (mut seen, mut unknown) = (BTreeSet::new(), Vec::new());
    for secret in named {
        if !seen.insert(&secret.name) {
            continue;
        }
        let message = match secret.name.as_str() {
            PULL_LOGINS => not_for_actions(PULL_LOGINS),
            name if is_set(view, scope, name)? => continue,
            name => Unavailable::missing(scope, name).to_string(),
        };
        let mut place = secret.place.clone();
        place.finding.message = message;
        unknown.push(place);
    }
    Ok(unknown)
}

fn row(scope: &Scope, name: &str) -> String {
    format!("secret/{}/{name}", scope.namespace())
}

#[cfg(test)]
mod tests {
    use store::{MemoryStore, Store};

    use super::*;

    const VALUE: &str = "correct horse";

    /// What it has now.
    fn seen(store: &MemoryStore) -> View {
        View::now(store).unwrap()
    }

    fn home() -> Scope {
        Scope::inside("default")
    }

    fn key(byte: u8) -> Key {
        Key::new(&[byte; KEY_BYTES])
    }

    fn set(store: &MemoryStore, key: &Key, name: &str, value: &str, now: u64) -> Secret {
        let (secret, batch) = put(
            &seen(store),
            &home(),
            key,
            (name, value),
            [7; NONCE_BYTES],
            "ann",
            now,
        )
        .unwrap();
        store.commit(&batch.into_commit()).unwrap();
        secret
    }

    fn opened(view: &View, key: &Key, name: &str) -> Result<String, Unavailable> {
        let values = open(view, &home(), key, [name]).unwrap();
        values.map(|values| values[name].as_ref().to_owned())
    }

    #[test]
    fn what_is_set_is_sealed_and_opens_with_its_key() {
        let store = MemoryStore::new();
        let first = set(&store, &key(1), "PW", VALUE, 5);
        assert_eq!(
            (first.version, first.created_at, first.set_by.as_str()),
            (1, 5, "ann")
        );
        assert_eq!(opened(&seen(&store), &key(1), "PW"), Ok(VALUE.into()));
        let row = store.get(b"secret/default/PW").unwrap().unwrap().value;
        let row = String::from_utf8_lossy(&row);
        assert!(
            !row.contains(VALUE) && !row.contains(&BASE64.encode(VALUE.as_bytes())),
            "{row}"
        );

        let second = set(&store, &key(1), "PW", "another", 9);
        assert_eq!((second.version, second.created_at, second.updated_at), (2, 5, 9));
        assert_eq!(opened(&seen(&store), &key(1), "PW"), Ok("another".into()));

        store
            .commit(&deletion(&seen(&store), &home(), "PW").unwrap().into_commit())
            .unwrap();
        let missing = Unavailable::missing(&home(), "PW");
        assert_eq!(opened(&seen(&store), &key(1), "PW"), Err(missing));
        assert!(matches!(
            deletion(&seen(&store), &home(), "PW"),
            Err(Error::NotFound(_))
        ));
    }

    #[test]
    fn another_key_is_named_and_a_row_under_another_name_does_not_open() {
        let store = MemoryStore::new();
        set(&store, &key(1), "A", VALUE, 1);
        let problem = opened(&seen(&store), &key(2), "A").unwrap_err();
        let said = problem.to_string();
        assert!(said.contains(key(1).id()) && said.contains(key(2).id()), "{said}");
        assert_eq!(problem.reason(), "SecretUnreadable");

        let row = seen(&store)
            .get::<Secret>("secret/default/A")
            .unwrap()
            .unwrap()
            .value;
        let mut batch = Batch::default();
        batch.put("secret/default/B", &row);
        let cut = Secret {
            sealed: row.sealed[4..].to_owned(),
            ..row
        };
        batch.put("secret/default/A", &cut);
        store.commit(&batch.into_commit()).unwrap();
        for name in ["A", "B"] {
            let damaged = Unavailable::Damaged { name: name.into() };
            assert_eq!(opened(&seen(&store), &key(1), name), Err(damaged));
        }
    }

    #[test]
    fn namespaces_have_their_own_and_a_row_in_another_namespace_does_not_open() {
        let store = MemoryStore::new();
        let row = set(&store, &key(1), "A", VALUE, 1);
        let blue = Scope::inside("blue");
        assert!(!is_set(&seen(&store), &blue, "A").unwrap());
        let told = deletion(&seen(&store), &blue, "A").unwrap_err().to_string();
        assert_eq!(
            told,
            "there is no secret \"A\" of namespace \"blue\": see `farrier secret list -n blue`"
        );
        let mut batch = Batch::default();
        batch.put("secret/blue/A", &row);
        store.commit(&batch.into_commit()).unwrap();
        let damaged = Unavailable::Damaged { name: "A".into() };
        let opened_there = open(&seen(&store), &blue, &key(1), ["A"]).unwrap();
        assert_eq!(opened_there.map(|_| ()), Err(damaged));
        assert_eq!(opened(&seen(&store), &key(1), "A"), Ok(VALUE.into()));
        let names = |reach: Reach| all(&seen(&store), &reach).unwrap().len();
        assert_eq!((names(Reach::everything()), names(Reach::only("blue"))), (2, 1));
    }

    #[test]
    fn one_key_seals_all() {
        let store = MemoryStore::new();
        set(&store, &key(1), "A", VALUE, 1);
        let of_other = |name| {
            put(
                &seen(&store),
                &home(),
                &key(2),
                (name, VALUE),
                [0; NONCE_BYTES],
                "",
                1,
            )
        };
        assert!(matches!(of_other("B"), Err(Error::Refused(_))));
        // The only one may be set anew.
        assert!(of_other("A").is_ok());
    }

    #[test]
    fn names_and_values_have_bounds() {
        let store = MemoryStore::new();
        for name in ["", "1a", "a-b", "a/b", "ä", &"a".repeat(101)] {
            let put = put(
                &seen(&store),
                &home(),
                &key(1),
                (name, VALUE),
                [0; NONCE_BYTES],
                "",
                1,
            );
            assert!(matches!(put, Err(Error::Invalid(_))), "{name}");
        }
        let longest = "x".repeat(MAX_VALUE_BYTES);
        assert!(check_value(longest.as_bytes()).is_ok());
        for (value, words) in [
            ([longest.as_bytes(), b"x"].concat(), "65537 B"),
            (b"abc".to_vec(), "less than 4 bytes"),
            (b" ab \ncd\n".to_vec(), "less than 4 bytes"),
            (Vec::new(), "less than 4 bytes"),
            (b"abcd\0".to_vec(), "NUL"),
            (b"abcd\xff".to_vec(), "not UTF-8"),
        ] {
            let said = check_value(&value).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let store = MemoryStore::new();
        let row = set(&store, &key(1), "A", VALUE, 1);
        for number in 1..MAX_SECRETS {
            let mut batch = Batch::default();
            batch.put(format!("secret/default/N{number}"), &row);
            store.commit(&batch.into_commit()).unwrap();
        }
        let put = |name| {
            put(
                &seen(&store),
                &home(),
                &key(1),
                (name, VALUE),
                [0; NONCE_BYTES],
                "",
                1,
            )
        };
        assert!(put("A").is_ok());
        assert!(matches!(put("B"), Err(Error::Refused(_))));
    }
}
