//! Namespaces, as admins make and delete them.

use coordinator::Error;
use coordinator::namespaces::{self, Namespace, Reach};

use crate::clock;
use crate::control::ControlPlane;

impl ControlPlane {
    /// Makes a namespace.
    pub(crate) async fn create_namespace(&self, name: &str, by: &str) -> Result<Namespace, Error> {
        let now = clock::wall();
        let (asked, maker) = (name.to_owned(), by.to_owned());
        let batch = self
            .inner
            .db
            .with(move |view| namespaces::create(view, &asked, &maker, now));
        self.inner.db.commit(batch.await?).await?;
        Ok(Namespace {
            created_at: now,
            created_by: by.to_owned(),
        })
    }

    /// Those within reach; `default` has no row.
    pub(crate) async fn namespaces(&self, reach: Reach) -> Result<Vec<(String, Option<Namespace>)>, Error> {
        self.inner
            .db
            .with(move |view| namespaces::all(view, &reach))
            .await
    }

    /// Takes one away that nothing is in.
    pub(crate) async fn delete_namespace(&self, name: &str) -> Result<(), Error> {
        // Nothing is put into it in between.
        let _alone = self.inner.machines_turn.write().await;
        let asked = name.to_owned();
        let batch = self.inner.db.with(move |view| namespaces::deletion(view, &asked));
        self.inner.db.commit(batch.await?).await?;
        Ok(())
    }
}
