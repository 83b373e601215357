//! Templates, as people store and ask for them.

use coordinator::Error;
use coordinator::templates::{self, Offered, Template};
use uuid::Uuid;

use crate::clock;
use crate::control::ControlPlane;

impl ControlPlane {
    /// Stores a template under the name that it is to have, or that its text gives.
    pub(crate) async fn put_template(&self, offered: Offered) -> Result<(Template, Vec<String>), Error> {
        loop {
            let offered = offered.clone();
            let (id, now) = (Uuid::now_v7().to_string(), clock::wall());
            let put = self
                .inner
                .db
                .with(move |view| templates::put(view, &offered, &id, now))
                .await?;
            let Some(batch) = put.batch else {
                return Ok((put.template, put.warnings));
            };
            match self.inner.db.commit(batch).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map(|_| (put.template, put.warnings)),
            }
        }
    }

    pub(crate) async fn template(&self, name_or_id: &str) -> Result<Template, Error> {
        let asked = name_or_id.to_owned();
        self.inner
            .db
            .with(move |view| templates::find(view, &asked))
            .await
    }

    pub(crate) async fn templates(&self) -> Result<Vec<Template>, Error> {
        self.inner.db.with(templates::all).await
    }

    pub(crate) async fn delete_template(&self, name_or_id: &str) -> Result<(), Error> {
        let asked = name_or_id.to_owned();
        let batch = self.inner.db.with(move |view| templates::deletion(view, &asked));
        let batch = batch.await?;
        self.inner.db.commit(batch).await?;
        Ok(())
    }
}
