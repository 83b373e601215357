//! Secrets, as people set and list them, and as actions are handed them.

mod key_file;

use std::collections::{BTreeMap, BTreeSet};

use coordinator::secrets::{self, NONCE_BYTES, Secret, Unavailable, Value};
use coordinator::{Error, templates};
use redaction::Secrets;
use workflow::engine::{AttemptId, Dispatch, Handed, SecretProblem};
use workflow::language;
use zeroize::Zeroizing;

use crate::clock;
use crate::control::ControlPlane;
use crate::random::random;
pub(crate) use key_file::KeyFile;

/// Why an action is not handed out.
#[derive(Debug)]
pub(crate) struct Withheld {
    /// A word.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl From<Unavailable> for Withheld {
    fn from(unavailable: Unavailable) -> Self {
        Self {
            reason: unavailable.reason(),
            message: unavailable.to_string(),
        }
    }
}

impl From<SecretProblem> for Withheld {
    fn from(problem: SecretProblem) -> Self {
        Self {
            reason: match problem {
                SecretProblem::Missing { .. } => "SecretMissing",
                SecretProblem::Misplaced { .. } => "SecretMisplaced",
                SecretProblem::TooLong { .. } => "SecretTooLong",
            },
            message: problem.to_string(),
        }
    }
}

impl ControlPlane {
    /// Sets or replaces a secret; `by` says who does.
    ///
    /// # Errors
    /// [`Error::Invalid`] for name or value, [`Error::Refused`] for a key file that is missing, another or open to others.
    pub(crate) async fn set_secret(
        &self,
        name: String,
        value: Zeroizing<Vec<u8>>,
        by: String,
    ) -> Result<(String, Secret), Error> {
        secrets::check_value(&value)?;
        let value = std::sync::Arc::new(value);
        loop {
            let (keys, value) = (self.inner.secrets_key.clone(), value.clone());
            let (called, by, now) = (name.clone(), by.clone(), clock::wall());
            let put = self.inner.db.with(move |view| {
                let key = keys.for_sealing(view)?;
                let nonce = random::<NONCE_BYTES>()?;
                let text = secrets::check_value(&value)?;
                secrets::put(view, &key, (&called, text), nonce, &by, now)
            });
            let (secret, batch) = put.await?;
            match self.inner.db.commit(batch).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map(|_| (name, secret)),
            }
        }
    }

    /// What there is to say of every secret, by name.
    pub(crate) async fn secrets(&self) -> Result<Vec<(String, Secret)>, Error> {
        self.inner.db.with(secrets::all).await
    }

    /// Takes a secret away; gives the names of templates that name it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) async fn delete_secret(&self, name: String) -> Result<Vec<String>, Error> {
        let deletion = self.inner.db.with(move |view| {
            let batch = secrets::deletion(view, &name)?;
            let mut named_by = Vec::new();
            for template in templates::all(view)? {
                if language::secrets(&template.text)
                    .iter()
                    .any(|secret| secret.name == name)
                {
                    named_by.push(template.name);
                }
            }
            Ok((batch, named_by))
        });
        let (batch, named_by) = deletion.await?;
        self.inner.db.commit(batch).await?;
        Ok(named_by)
    }

    /// Says at start what would go wrong when the first action is handed a secret.
    pub(crate) async fn look_at_secrets(&self) -> Result<(), Error> {
        let keys = self.inner.secrets_key.clone();
        let looked = self.inner.db.with(move |view| {
            let all = secrets::all(view)?;
            let names = all.iter().map(|(name, _)| name.as_str());
            match all.is_empty() {
                true => Ok(None),
                false => Ok(keys.open(view, names)?.err()),
            }
        });
        if let Some(problem) = looked.await? {
            tracing::error!("actions cannot be handed their secrets: {}", problem.message);
        }
        Ok(())
    }

    /// What an action is handed, and what is to be hidden in what comes of it.
    ///
    /// # Errors
    /// When the store cannot be read. The inner one: a secret has no value; the action is not to be handed out.
    pub(crate) async fn hand_out(
        &self,
        dispatch: &Dispatch,
    ) -> Result<Result<(Handed, BTreeMap<String, Value>), Withheld>, Error> {
        let names: BTreeSet<String> = dispatch.secret_names().into_iter().map(str::to_owned).collect();
        let values = match names.is_empty() {
            true => BTreeMap::new(),
            false => match self.open_secrets(names).await? {
                Ok(values) => values,
                Err(withheld) => return Ok(Err(withheld)),
            },
        };
        let handed = dispatch.hand_out(&values);
        Ok(handed.map(|handed| (handed, values)).map_err(Withheld::from))
    }

    /// What is to be hidden in what comes of an attempt: the present values of the secrets that it was given. One that has
    /// none any more is hidden by the agent alone.
    pub(crate) async fn secrets_of(&self, attempt: &AttemptId) -> Result<Secrets, Error> {
        let names = self.inner.coordinator.secret_names(attempt)?;
        let mut hidden = Vec::new();
        for name in names {
            if let Ok(values) = self.open_secrets(BTreeSet::from([name])).await? {
                hidden.extend(values.into_values());
            }
        }
        Ok(Secrets::new(hidden))
    }

    async fn open_secrets(
        &self,
        names: BTreeSet<String>,
    ) -> Result<Result<BTreeMap<String, Value>, Withheld>, Error> {
        let keys = self.inner.secrets_key.clone();
        self.inner
            .db
            .with(move |view| keys.open(view, names.iter().map(String::as_str)))
            .await
    }
}
