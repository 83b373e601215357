//! Secrets, as people set and list them, and as actions are handed them.

mod key_file;

use std::collections::{BTreeMap, BTreeSet};

use coordinator::namespaces::{Reach, Scope};
use coordinator::once::Once;
use coordinator::secrets::{self, NONCE_BYTES, PULL_LOGINS, Secret, SecretId, Unavailable, Value};
use coordinator::{Error, templates};
use proto::v1::DeleteSecretResponse;
use redaction::Secrets;
use workflow::engine::{AttemptId, Dispatch, Handed, SecretProblem};
use workflow::language;
use zeroize::Zeroizing;

use crate::agents::pull::check_logins;
use crate::clock;
use crate::control::ControlPlane;
use crate::once::note;
use crate::random::random;
use crate::within::Within;
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
        within: Within,
        name: String,
        value: Zeroizing<Vec<u8>>,
        by: String,
    ) -> Result<(SecretId, Secret), Error> {
        let text = secrets::check_value(&value)?;
        if name == PULL_LOGINS {
            check_logins(text)?;
        }
        // Its namespace stays meanwhile.
        let _turn = self.inner.machines_turn.read().await;
        let value = std::sync::Arc::new(value);
        loop {
            let (keys, value) = (self.inner.secrets_key.clone(), value.clone());
            let (called, by, now) = (name.clone(), by.clone(), clock::wall());
            let within = within.clone();
            let put = self.inner.db.with(move |view| {
                let scope = within.scope(view)?;
                let key = keys.for_sealing(view)?;
                let nonce = random::<NONCE_BYTES>()?;
                let text = secrets::check_value(&value)?;
                let (secret, batch) = secrets::put(view, &scope, &key, (&called, text), nonce, &by, now)?;
                let (namespace, name) = (scope.namespace().to_owned(), called.clone());
                Ok((SecretId { namespace, name }, secret, batch))
            });
            let (id, secret, batch) = put.await?;
            match self.inner.db.commit(batch).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map(|_| (id, secret)),
            }
        }
    }

    /// What there is to say of every secret, by name.
    pub(crate) async fn secrets(&self, within: Within) -> Result<Vec<(SecretId, Secret)>, Error> {
        self.inner
            .db
            .with(move |view| secrets::all(view, &within.list(view)?))
            .await
    }

    /// Takes a secret away; says which templates name it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) async fn delete_secret(
        &self,
        within: Within,
        name: String,
        once: Option<Once>,
    ) -> Result<DeleteSecretResponse, Error> {
        let deletion = self.inner.db.with(move |view| {
            let scope = within.scope(view)?;
            let batch = secrets::deletion(view, &scope, &name)?;
            let mut warnings = Vec::new();
            for template in templates::all(view, scope.only())? {
                if language::secrets(&template.text)
                    .iter()
                    .any(|secret| secret.name == name)
                {
                    warnings.push(format!(
                        "template {:?} names the secret {name}: no workflow is made from it without one",
                        template.name
                    ));
                }
            }
            Ok((batch, DeleteSecretResponse { warnings }))
        });
        let (mut batch, answer) = deletion.await?;
        note(once.as_ref(), &mut batch, &answer);
        self.inner.db.commit(batch).await?;
        Ok(answer)
    }

    /// Says at start what would go wrong when the first action is handed a secret.
    pub(crate) async fn look_at_secrets(&self) -> Result<(), Error> {
        let keys = self.inner.secrets_key.clone();
        let looked = self.inner.db.with(move |view| {
            for (id, _) in secrets::all(view, &Reach::everything())? {
                let opened = keys.open(view, &Scope::inside(&id.namespace), [id.name.as_str()])?;
                if let Err(problem) = opened {
                    return Ok(Some(problem));
                }
            }
            Ok(None)
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
            // Its template was made by a server that did not know it.
            false if names.contains(PULL_LOGINS) => {
                return Ok(Err(Withheld {
                    reason: "SecretReserved",
                    message: secrets::not_for_actions(PULL_LOGINS),
                }));
            }
            false => match self.open_secrets(&dispatch.attempt, names).await? {
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
        if let Some(workflow) = self.workflow_in_store(&attempt.workflow).await?
            && let Ok(logins) = self.pull_logins(&workflow.head.namespace).await?
        {
            hidden.extend(logins.into_values().map(|login| login.password));
        }
        for name in names {
            if let Ok(values) = self.open_secrets(attempt, BTreeSet::from([name])).await? {
                let values = values.into_values();
                hidden.extend(values.map(|value| Zeroizing::new(value.as_ref().to_owned())));
            }
        }
        Ok(Secrets::new(hidden))
    }

    /// Of the namespace of the attempt's workflow.
    async fn open_secrets(
        &self,
        attempt: &AttemptId,
        names: BTreeSet<String>,
    ) -> Result<Result<BTreeMap<String, Value>, Withheld>, Error> {
        let workflow = self.workflow_in_store(&attempt.workflow).await?;
        let namespace = workflow.map(|workflow| workflow.head.namespace.clone());
        let scope = Scope::inside(&namespace.unwrap_or_default());
        let keys = self.inner.secrets_key.clone();
        self.inner
            .db
            .with(move |view| keys.open(view, &scope, names.iter().map(String::as_str)))
            .await
    }
}

#[cfg(test)]
mod tests {
    use store::{MemoryStore, StoreHandle};
    use workflow::engine::{SecretHole, SecretText};

    use super::*;
    use crate::Config;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_machines_pull_with_is_handed_to_no_action_though_its_workflow_was_made() {
        let store = StoreHandle::new(MemoryStore::default());
        let control = ControlPlane::open(store, Config::default()).await.expect("open");
        let asks_for = |name: &str| Dispatch {
            attempt: "w/0/1/0/0/1".parse().expect("an attempt"),
            workflow_name: String::new(),
            namespace: "default".to_owned(),
            labels: BTreeMap::new(),
            task: String::new(),
            action: String::new(),
            image: "alpine".to_owned(),
            native: None,
            leaves_before_s: None,
            bad_wait: None,
            runtime: None,
            command: Vec::new(),
            volumes: Vec::new(),
            environment: [("A".to_owned(), String::new())].into(),
            input: Default::default(),
            timeout_s: 0,
            pid: String::new(),
            network: String::new(),
            confined: false,
            resources: Default::default(),
            action_index: 0,
            action_count: 1,
            data_version: 0,
            secrets: vec![SecretHole {
                name: name.to_owned(),
                action: Some(0),
                text: SecretText::Environment("A".to_owned()),
                at: 0,
            }],
        };
        for (name, reason) in [(PULL_LOGINS, "SecretReserved"), ("OTHER", "SecretMissing")] {
            let withheld = control.hand_out(&asks_for(name)).await.expect("read");
            let withheld = withheld.map(drop).expect_err(name);
            assert_eq!(withheld.reason, reason, "{}", withheld.message);
        }
        control.close().await;
    }
}
