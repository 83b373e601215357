//! How machines pull images by themselves, where the server's registry does not give them: mirrors, authorities and the login of one
//! registry, for one attempt, to whoever asks first.
//!
//! An action that is root on its machine can read the agent's memory, and ask in the agent's name. So nothing of this is pushed, which would
//! leave it in the memory of the stream; what is given is given once, before the action begins, against a nonce that only the agent's
//! pull has had ([036](../../docs/decisions/036-logins-are-asked-for-by-the-pull.md)).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coordinator::Error;
use coordinator::namespaces::Scope;
use coordinator::secrets::{self, PULL_LOGINS};
use oci::Reference;
use oci::registry::Login;
use proto::v1::{GetPullSettingsRequest, PullSettings};
use tonic::Status;
use workflow::engine::{AttemptId, Dispatch};
use zeroize::Zeroizing;

use crate::control::ControlPlane;
use crate::grpc::status;
use crate::secrets::Withheld;

/// How the images of one registry are pulled, by the settings of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// URLs, asked in this order before the registry itself.
    pub mirrors: Vec<String>,
    /// The registry itself is asked by HTTP.
    pub plain_http: bool,
    /// In PEM; empty: none beside those that the agent believes.
    pub authorities_pem: String,
}

/// What may be asked for, by machine: of the attempt that was pushed to it last. Gone with the process, and then nobody is given
/// anything for attempts that were pushed before.
#[derive(Default)]
pub(crate) struct Offers(Mutex<HashMap<String, Offer>>);

struct Offer {
    attempt: AttemptId,
    image: String,
    namespace: String,
    /// Of who has asked.
    nonce: Option<Zeroizing<Vec<u8>>>,
}

/// Of a nonce.
const NONCE_BYTES: usize = 32;

impl Offers {
    /// An attempt is pushed to a machine, and there is something for its image. Pushed once more, it has been asked for by whom it was.
    fn make(&self, machine: &str, dispatch: &Dispatch, image: &str) {
        let mut offers = self.lock();
        if offers
            .get(machine)
            .is_some_and(|before| before.attempt == dispatch.attempt)
        {
            return;
        }
        let offer = Offer {
            attempt: dispatch.attempt.clone(),
            image: image.to_owned(),
            namespace: dispatch.namespace.clone(),
            nonce: None,
        };
        offers.insert(machine.to_owned(), offer);
    }

    /// Nothing may be asked for any more.
    pub(super) fn withdraw(&self, machine: &str) {
        self.lock().remove(machine);
    }

    /// Image and namespace of an attempt, to whoever asks first.
    fn take(
        &self,
        machine: &str,
        attempt: &AttemptId,
        nonce: &[u8],
    ) -> Result<(String, String), &'static str> {
        let mut offers = self.lock();
        let offer = offers.get_mut(machine).filter(|offer| offer.attempt == *attempt);
        let offer = offer.ok_or(
            "the server has nothing to give for this attempt, or was restarted since it was handed out: retry the action",
        )?;
        if nonce.len() != NONCE_BYTES {
            return Err("a nonce of 32 bytes is asked for");
        }
        let known = offer.nonce.get_or_insert_with(|| Zeroizing::new(nonce.to_vec()));
        match known.as_slice() == nonce {
            true => Ok((offer.image.clone(), offer.namespace.clone())),
            false => Err("they were given already, and are given once"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Offer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an action has a registry asked for: its image, or the disk image of the built-in action that takes one from a registry; empty:
/// nothing.
fn pulled<'a>(dispatch: &'a Dispatch, environment: &'a BTreeMap<String, String>) -> &'a str {
    match dispatch.native {
        None => &dispatch.image,
        Some(native) if native.name == "oci2disk" => {
            let named = environment.get("IMG_URL").map_or("", String::as_str);
            named.strip_prefix("oci://").unwrap_or(named)
        }
        Some(_) => "",
    }
}

impl ControlPlane {
    /// Offers what there is for the image of an action that is about to be pushed with this environment. Gives the login, whose password is to be hidden in what
    /// comes of the action; and whether there is anything to be asked for.
    ///
    /// # Errors
    /// When the store cannot be read. The inner one: the logins cannot be had; the action is not to be handed out.
    pub(super) async fn offer_pull(
        &self,
        machine: &str,
        dispatch: &Dispatch,
        environment: &BTreeMap<String, String>,
    ) -> Result<Result<(Option<Login>, bool), Withheld>, Error> {
        let offers = &self.inner.offers;
        let named = pulled(dispatch, environment);
        let Ok(image) = named.parse::<Reference>() else {
            offers.withdraw(machine);
            return Ok(Ok((None, false)));
        };
        let login = match self.pull_login(&dispatch.namespace, image.registry()).await? {
            Ok(login) => login,
            Err(withheld) => return Ok(Err(withheld)),
        };
        let has_any = login.is_some() || self.inner.config.pulls.contains_key(image.registry());
        match has_any {
            true => offers.make(machine, dispatch, named),
            false => offers.withdraw(machine),
        }
        Ok(Ok((login, has_any)))
    }

    /// What an agent asks for before it pulls the image of an attempt that it was handed.
    pub(crate) async fn pull_settings_for_agent(
        &self,
        request: GetPullSettingsRequest,
    ) -> Result<PullSettings, Status> {
        let nonce = Zeroizing::new(request.nonce);
        let (machine, attempt) = self.asked_for_attempt(request.access).await?;
        let taken = self.inner.offers.take(&machine, &attempt, &nonce);
        let (image, namespace) = taken.map_err(|why| {
            tracing::warn!(machine, %attempt, why, "an agent is given no settings for a pull");
            Status::permission_denied(format!(
                "machine {machine:?} gets no settings for its pull: {why}"
            ))
        })?;
        let image: Reference = image
            .parse()
            .map_err(|error: oci::NotAReference| Status::invalid_argument(error.to_string()))?;
        let login = self
            .pull_login(&namespace, image.registry())
            .await
            .map_err(status)?;
        let login = login.map_err(|withheld| Status::failed_precondition(withheld.message))?;
        let known = self.inner.config.pulls.get(image.registry()).cloned();
        let RegistrySettings {
            mirrors,
            plain_http,
            authorities_pem,
        } = known.unwrap_or_default();
        let (user, password) = login
            .map(|login| (login.user.clone(), login.password.as_str().to_owned()))
            .unwrap_or_default();
        Ok(PullSettings {
            mirrors,
            plain_http,
            authorities_pem,
            user,
            password,
        })
    }

    /// The login of a namespace for a registry; `None`: it has none.
    async fn pull_login(
        &self,
        namespace: &str,
        registry: &str,
    ) -> Result<Result<Option<Login>, Withheld>, Error> {
        let logins = self.pull_logins(namespace).await?;
        Ok(logins.map(|mut logins| logins.remove(registry)))
    }

    /// The logins of a namespace, by registry.
    pub(crate) async fn pull_logins(
        &self,
        namespace: &str,
    ) -> Result<Result<BTreeMap<String, Login>, Withheld>, Error> {
        let scope = Scope::inside(namespace);
        let keys = self.inner.secrets_key.clone();
        let opened = self.inner.db.with(move |view| {
            if !secrets::is_set(view, &scope, PULL_LOGINS)? {
                return Ok(Ok(BTreeMap::new()));
            }
            keys.open(view, &scope, [PULL_LOGINS])
        });
        let values = match opened.await? {
            Ok(values) => values,
            Err(withheld) => return Ok(Err(withheld)),
        };
        let Some(value) = values.get(PULL_LOGINS) else {
            return Ok(Ok(BTreeMap::new()));
        };
        Ok(Login::all(value.as_ref()).map_err(|error| Withheld {
            reason: "SecretUnreadable",
            message: format!("secret {PULL_LOGINS}: {error}"),
        }))
    }
}

/// Whether a value may be set as [`PULL_LOGINS`].
///
/// # Errors
/// [`Error::Invalid`] with what is wrong; never with the value.
pub(crate) fn check_logins(value: &str) -> Result<(), Error> {
    let bad = |what: String| Error::Invalid(format!("bad value of secret {PULL_LOGINS}: {what}"));
    let logins = Login::all(value).map_err(|error| bad(error.to_string()))?;
    match logins.is_empty() {
        true => Err(bad(
            "it has no login: write Docker's config.json with \"auths\", and a user and a password for each registry (a file with \
             \"credsStore\" keeps them elsewhere)"
                .into(),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_first_is_answered_again_and_nobody_else() {
        let offers = Offers::default();
        let attempt: AttemptId = "w/0/1/0/0/1".parse().expect("an attempt");
        let other: AttemptId = "w/0/1/0/0/2".parse().expect("an attempt");
        let offer = |attempt: &AttemptId| {
            let offer = Offer {
                attempt: attempt.clone(),
                image: "lab:5000/x".into(),
                namespace: "default".into(),
                nonce: None,
            };
            offers.lock().insert("m1".to_owned(), offer);
        };
        let (mine, theirs) = ([1; NONCE_BYTES], [2; NONCE_BYTES]);
        assert!(offers.take("m1", &attempt, &mine).is_err(), "nothing was offered");
        offer(&attempt);
        assert!(offers.take("m1", &attempt, &[]).is_err(), "no nonce");
        assert!(offers.take("m2", &attempt, &mine).is_err(), "another machine");
        assert!(offers.take("m1", &other, &mine).is_err(), "another attempt");
        for _ in 0..2 {
            let taken = offers.take("m1", &attempt, &mine).expect("given");
            assert_eq!(taken, ("lab:5000/x".to_owned(), "default".to_owned()));
        }
        assert!(offers.take("m1", &attempt, &theirs).is_err(), "it was given");
        offers.withdraw("m1");
        assert!(offers.take("m1", &attempt, &mine).is_err(), "it is over");
    }

    #[test]
    fn logins_that_are_none_are_refused_and_not_repeated() {
        for (value, words) in [
            ("hunter22", "no config.json of Docker's"),
            (
                r#"{"auths": {"quay.io": {"auth": "hunter22!"}}}"#,
                "quay.io is no base64",
            ),
            (
                r#"{"auths": {"quay.io": {}}, "credsStore": "desktop"}"#,
                "it has no login",
            ),
        ] {
            let said = check_logins(value).expect_err(value).to_string();
            assert!(said.contains(words) && !said.contains("hunter22"), "{said}");
        }
        check_logins(r#"{"auths": {"quay.io": {"username": "ali", "password": "p4ss"}}}"#).expect("logins");
    }
}
