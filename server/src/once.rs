//! Requests with a key: looked for before they are done, and noted in the commit of what they do.

use std::future::Future;

use coordinator::Error;
use coordinator::database::Batch;
use coordinator::once::{self, Came, Done, Once};
use prost::Message;

use crate::clock;
use crate::control::ControlPlane;

impl ControlPlane {
    /// What the same request came to before.
    ///
    /// # Errors
    /// [`Error::Exists`] when its key was used for something else.
    pub(crate) async fn done_before(&self, once: &Once) -> Result<Option<Done>, Error> {
        let once = once.clone();
        self.inner.db.with(move |view| once.before(view)).await
    }

    /// Has `act` done once, which notes its answer with what it does; the first answer again where that was before.
    pub(crate) async fn do_once<T, F>(
        &self,
        once: Option<Once>,
        act: impl FnOnce(Option<Once>) -> F,
    ) -> Result<T, Error>
    where
        T: Message + Default,
        F: Future<Output = Result<T, Error>>,
    {
        let Some(asked) = once.clone() else {
            return act(None).await;
        };
        if let Some(answer) = self.answered_before(&asked).await? {
            return Ok(answer);
        }
        match act(once).await {
            // It was asked twice at the same time, and the other was first.
            Err(error) => self.answered_before(&asked).await?.ok_or(error),
            done => done,
        }
    }

    async fn answered_before<T: Message + Default>(&self, once: &Once) -> Result<Option<T>, Error> {
        let bytes = self.done_before(once).await?.and_then(|done| done.came.bytes());
        // What an older version kept may be read by one that knows more.
        Ok(bytes.and_then(|bytes| T::decode(&*bytes).ok()))
    }

    /// Takes away keys that were kept for their time; how many. The cost is that of those.
    pub(crate) async fn forget_keys(&self) -> Result<usize, Error> {
        let mut forgotten = 0;
        loop {
            let now = clock::wall();
            let found = self.inner.db.with(move |view| once::forget(view, now)).await?;
            let Some((batch, count)) = found else {
                return Ok(forgotten);
            };
            self.inner.db.commit(batch).await?;
            forgotten += count;
        }
    }
}

/// Notes what a request with a key is answered.
pub(crate) fn note(once: Option<&Once>, batch: &mut Batch, answer: &impl Message) {
    if let Some(once) = once {
        once.note(batch, Came::answer(&answer.encode_to_vec()));
    }
}
