//! Tokens of people: made, listed, deleted, and whose a secret is.

use std::time::Duration;

use access::{SECRET_BYTES, Secret};
use coordinator::Error;
use coordinator::once::Once;
use coordinator::people::{self, Caller, Role, Token};
use proto::v1::DeleteTokenResponse;

use crate::clock;
use crate::control::ControlPlane;
use crate::once::note;
use crate::random::random;

/// A token to be made.
pub(crate) struct NewToken {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    pub(crate) role: Role,
    /// `None`: it never does.
    pub(crate) expires_in: Option<Duration>,
    /// What it reaches; none: every namespace.
    pub(crate) namespaces: Vec<String>,
    /// The token that it is made with.
    pub(crate) by: String,
}

impl ControlPlane {
    /// Makes a token, and the text that its owner is given.
    pub(crate) async fn give_token(&self, new: NewToken) -> Result<(Token, String), Error> {
        let secret = Secret::new(random::<SECRET_BYTES>()?);
        let now = clock::wall();
        let expires_in = new
            .expires_in
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let token = Token {
            name: new.name,
            digest: secret.digest(),
            groups: new.groups,
            role: new.role,
            created_at: now,
            created_by: new.by,
            expires_at: expires_in.map(|time| now.saturating_add(time)),
            namespaces: new.namespaces,
        };
        let made = token.clone();
        // Its namespaces stay meanwhile.
        let _turn = self.inner.machines_turn.read().await;
        let batch = self
            .inner
            .db
            .with(move |view| people::create(view, &made))
            .await?;
        self.inner.db.commit(batch).await?;
        Ok((token, self.token_of(secret).to_string()))
    }

    /// A token for whoever set the server up, if nobody has one yet. It is good after [`ControlPlane::keep_first_token`]: keep its
    /// text before that.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn first_token(&self) -> Result<Option<access::Token>, Error> {
        if !self.tokens().await?.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.token_of(Secret::new(random::<SECRET_BYTES>()?))))
    }

    /// Makes it the token `admin`, which may do everything; another one of that name is no longer good.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_first_token(&self, token: &access::Token) -> Result<(), Error> {
        let token = Token::first(token.secret.digest(), clock::wall());
        let batch = self
            .inner
            .db
            .with(move |view| people::replace(view, &token))
            .await?;
        self.inner.db.commit(batch).await?;
        Ok(())
    }

    pub(crate) async fn token(&self, name: &str) -> Result<Token, Error> {
        let token = self.inner.db.get::<Token>(people::key(name)).await?;
        let gone = || Error::NotFound(format!("no token is named {name:?}: see `farrier token list`"));
        Ok(token.ok_or_else(gone)?.value)
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<Token>, Error> {
        self.inner.db.with(people::all).await
    }

    pub(crate) async fn take_token_away(
        &self,
        name: String,
        once: Option<Once>,
    ) -> Result<DeleteTokenResponse, Error> {
        let batch = self.inner.db.with(move |view| people::deletion(view, &name));
        let mut batch = batch.await?;
        note(once.as_ref(), &mut batch, &DeleteTokenResponse {});
        self.inner.db.commit(batch).await?;
        Ok(DeleteTokenResponse {})
    }

    /// Whose secret has this digest.
    pub(crate) async fn caller(&self, digest: String) -> Result<Caller, Error> {
        let now = clock::wall();
        self.inner
            .db
            .with(move |view| people::caller(view, &digest, now))
            .await
    }

    fn token_of(&self, secret: Secret) -> access::Token {
        let pin = self.inner.config.authority;
        access::Token { pin, secret }
    }
}
