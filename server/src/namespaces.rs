//! Namespaces, as admins make and delete them.

use coordinator::Error;
use coordinator::namespaces::{self, Namespace, Reach};
use coordinator::once::Once;
use proto::v1;

use crate::clock;
use crate::control::ControlPlane;
use crate::grpc::convert;
use crate::once::note;

impl ControlPlane {
    /// Makes a namespace.
    pub(crate) async fn create_namespace(
        &self,
        name: String,
        by: String,
        once: Option<Once>,
    ) -> Result<v1::Namespace, Error> {
        let now = clock::wall();
        let made = Namespace {
            created_at: now,
            created_by: by.clone(),
        };
        let answer = convert::namespace((name.clone(), Some(made)));
        let batch = self
            .inner
            .db
            .with(move |view| namespaces::create(view, &name, &by, now));
        let mut batch = batch.await?;
        note(once.as_ref(), &mut batch, &answer);
        self.inner.db.commit(batch).await?;
        Ok(answer)
    }

    /// Those within reach; `default` has no row.
    pub(crate) async fn namespaces(&self, reach: Reach) -> Result<Vec<(String, Option<Namespace>)>, Error> {
        self.inner
            .db
            .with(move |view| namespaces::all(view, &reach))
            .await
    }

    /// Takes one away that nothing is in.
    pub(crate) async fn delete_namespace(
        &self,
        name: String,
        once: Option<Once>,
    ) -> Result<v1::DeleteNamespaceResponse, Error> {
        // Nothing is put into it in between.
        let _alone = self.inner.machines_turn.write().await;
        let batch = self.inner.db.with(move |view| namespaces::deletion(view, &name));
        let mut batch = batch.await?;
        note(once.as_ref(), &mut batch, &v1::DeleteNamespaceResponse {});
        self.inner.db.commit(batch).await?;
        Ok(v1::DeleteNamespaceResponse {})
    }
}
