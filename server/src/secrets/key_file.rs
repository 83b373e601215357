//! The file with the key that secrets are sealed with. It lies beside the store and is no part of it: who has a copy of the
//! store or of an export has no secret.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use access::private_file::{self, NotPrivate};
use coordinator::Error;
use coordinator::database::View;
use coordinator::namespaces::{Reach, Scope};
use coordinator::secrets::{self, KEY_BYTES, Key, Unavailable, Value};
use coordinator::webhooks;
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::Withheld;
use crate::random::random;

/// The first line; the second has the key.
const FIRST_LINE: &str = "farrier secrets key 1";
/// Read of a file: both lines, and more than a key has.
const MAX_BYTES: u64 = 256;

/// Where the key is, and the key once it was read.
pub(crate) struct KeyFile {
    /// `None`: the key is in memory only.
    path: Option<PathBuf>,
    known: Mutex<Option<Arc<Key>>>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
enum NoKey {
    #[error(
        "there is no key file {path}, and secrets are sealed with one: put it back from where this store's data are kept \
             safe, or take the secrets away with `farrier secret delete` and set them again"
    )]
    Missing { path: String },
    #[error("key file {path} may be read by others than its owner (mode {mode:o}): chmod 600 {path}")]
    Open { path: String, mode: u32 },
    #[error("{path} is no key file: {why}; put back the one that belongs to this store")]
    Bad { path: String, why: String },
    #[error("key file {path} cannot be {what}: {error}")]
    Io {
        path: String,
        what: &'static str,
        error: io::Error,
    },
}

impl KeyFile {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            known: Mutex::default(),
        }
    }

    /// The key to seal with. It is made where no secret was sealed yet. Blocks.
    ///
    /// # Errors
    /// [`Error::Refused`] names the file and the cure.
    pub(crate) fn for_sealing(&self, view: &View) -> Result<Arc<Key>, Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |error: NoKey| Error::Refused(error.to_string());
        if let Some(key) = self.read(&mut known).map_err(refused)? {
            return Ok(key);
        }
        let is_used = !secrets::all(view, &Reach::everything())?.is_empty()
            || !webhooks::all(view, &Reach::everything())?.is_empty();
        if is_used {
            return Err(refused(self.missing()));
        }
        let bytes = Zeroizing::new(random::<KEY_BYTES>()?);
        if let Some(path) = &self.path {
            make(path, &bytes).map_err(refused)?;
        }
        let key = Arc::new(Key::new(&bytes));
        tracing::info!(
            key = key.id(),
            file = self.shown(),
            "a key for secrets was made: keep a copy of its file apart from the data"
        );
        *known = Some(key.clone());
        Ok(key)
    }

    /// The key that something was sealed with. Blocks.
    ///
    /// # Errors
    /// [`Error::Refused`] names the file and the cure.
    pub(crate) fn for_opening(&self) -> Result<Arc<Key>, Error> {
        let read = self.read(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let key = read.and_then(|key| key.ok_or_else(|| self.missing()));
        key.map_err(|error| Error::Refused(error.to_string()))
    }

    /// The values of these secrets. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn open<'n>(
        &self,
        view: &View,
        scope: &Scope,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Result<BTreeMap<String, Value>, Withheld>, Error> {
        let key = self.read(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let problem = match key {
            Ok(Some(key)) => return Ok(secrets::open(view, scope, &key, names)?.map_err(Withheld::from)),
            Ok(None) => self.missing(),
            Err(problem) => problem,
        };
        // Without a key a secret that there is not is still that.
        for name in names {
            if !secrets::is_set(view, scope, name)? {
                return Ok(Err(Unavailable::missing(scope, name).into()));
            }
        }
        Ok(Err(Withheld {
            reason: "SecretUnreadable",
            message: problem.to_string(),
        }))
    }

    fn read(&self, known: &mut Option<Arc<Key>>) -> Result<Option<Arc<Key>>, NoKey> {
        if let (None, Some(path)) = (&known, &self.path) {
            *known = read(path)?.map(Arc::new);
        }
        Ok(known.clone())
    }

    fn missing(&self) -> NoKey {
        NoKey::Missing { path: self.shown() }
    }

    fn shown(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "(in memory)".to_owned(),
        }
    }
}

/// `None`: there is no file.
fn read(path: &Path) -> Result<Option<Key>, NoKey> {
    let shown = || path.display().to_string();
    let failed = |error| NoKey::Io {
        path: shown(),
        what: "read",
        error,
    };
    let bad = |why: String| NoKey::Bad { path: shown(), why };
    let text = match private_file::read(path, MAX_BYTES) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(error @ NotPrivate::NoFile) => return Err(bad(error.to_string())),
        Err(NotPrivate::Open(mode)) => return Err(NoKey::Open { path: shown(), mode }),
        Err(NotPrivate::Io(error)) => return Err(failed(error)),
    };
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(bad(format!("its first line is not {FIRST_LINE:?}")));
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let written = lines.next().unwrap_or_default().as_bytes();
    let is_key = written.len() == 2 * KEY_BYTES && HEXLOWER.decode_mut(written, &mut *bytes).is_ok();
    match is_key {
        true => Ok(Some(Key::new(&bytes))),
        false => Err(bad(format!(
            "its second line has no {} hexadecimal digits",
            2 * KEY_BYTES
        ))),
    }
}

/// Writes a new file, whole or not at all, and never over another one.
fn make(path: &Path, bytes: &[u8; KEY_BYTES]) -> Result<(), NoKey> {
    let text = Zeroizing::new(format!("{FIRST_LINE}\n{}\n", HEXLOWER.encode(bytes)));
    private_file::write_new(path, &text).map_err(|error| NoKey::Io {
        path: path.display().to_string(),
        what: "made",
        error,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use coordinator::database::Batch;
    use store::{MemoryStore, Store};
    use tempfile::TempDir;

    use super::*;

    fn set(keys: &KeyFile, store: &Arc<MemoryStore>, name: &str) -> Result<(), Error> {
        let view = View::now(&**store).expect("the store");
        let key = keys.for_sealing(&view)?;
        let put = secrets::put(
            &view,
            &Scope::inside("default"),
            &key,
            (name, "correct horse"),
            random()?,
            "",
            1,
        )?;
        store.commit(&put.1.into_commit())?;
        Ok(())
    }

    fn opened(path: &Path, store: &Arc<MemoryStore>, name: &str) -> Result<String, Withheld> {
        let keys = KeyFile::new(Some(path.to_owned()));
        let values = keys
            .open(
                &View::now(&**store).expect("the store"),
                &Scope::inside("default"),
                [name],
            )
            .expect("the store");
        values.map(|values| values[name].as_ref().to_owned())
    }

    /// A store with the secret `PW`, and its key file.
    fn made() -> (TempDir, PathBuf, Arc<MemoryStore>) {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("secrets.key");
        let store = Arc::new(MemoryStore::new());
        set(&KeyFile::new(Some(path.clone())), &store, "PW").expect("set");
        (folder, path, store)
    }

    #[test]
    fn the_file_is_made_once_for_its_owner_alone_and_read_again() {
        let (folder, path, store) = made();
        assert_eq!(std::fs::metadata(&path).expect("a file").mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        let before = std::fs::read(&path).expect("a file");
        set(&KeyFile::new(Some(path.clone())), &store, "TOKEN").expect("set");
        assert_eq!(std::fs::read(&path).expect("a file"), before);
        assert_eq!(opened(&path, &store, "PW").expect("a value"), "correct horse");
    }

    #[track_caller]
    fn check(path: &Path, store: &Arc<MemoryStore>, words: &str) {
        let withheld = opened(path, store, "PW").expect_err("no key");
        assert_eq!(withheld.reason, "SecretUnreadable");
        assert!(withheld.message.contains(words), "{}", withheld.message);
        assert!(
            withheld.message.contains(path.to_str().expect("text")),
            "{}",
            withheld.message
        );
        let refused = set(&KeyFile::new(Some(path.to_owned())), store, "NEW").expect_err("no key");
        assert!(refused.to_string().contains(words), "{refused}");
        let missing = opened(path, store, "NOBODY").expect_err("no secret");
        assert_eq!(missing.reason, "SecretMissing");
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_with_its_cure() {
        let (_folder, path, store) = made();
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        };
        let good = std::fs::read_to_string(&path).expect("a file");
        mode(0o640);
        check(&path, &store, "(mode 640): chmod 600 ");
        mode(0o600);
        for text in [
            "",
            "farrier secrets key 2\n",
            &good.to_uppercase(),
            &good[..good.len() - 2],
        ] {
            std::fs::write(&path, text).expect("write");
            check(&path, &store, "is no key file");
        }
        std::fs::remove_file(&path).expect("remove");
        check(&path, &store, "there is no key file");
        // A key for other secrets than those that there are is not made behind one's back.
        assert!(!path.exists());
        std::fs::create_dir(&path).expect("a folder");
        check(&path, &store, "is no key file");
    }

    #[test]
    fn another_file_s_key_is_named() {
        let (_folder, path, store) = made();
        let (_other_folder, other, _) = made();
        let withheld = opened(&other, &store, "PW").expect_err("another key");
        assert!(
            withheld.message.contains("is sealed with key"),
            "{}",
            withheld.message
        );
        assert!(opened(&path, &store, "PW").is_ok());
    }

    #[test]
    fn without_secrets_a_lost_file_is_made_anew() {
        let (_folder, path, store) = made();
        std::fs::remove_file(&path).expect("remove");
        let mut batch = Batch::default();
        batch.delete("secret/default/PW");
        store.commit(&batch.into_commit()).expect("commit");
        set(&KeyFile::new(Some(path.clone())), &store, "PW").expect("set");
        assert!(opened(&path, &store, "PW").is_ok());
    }
}
