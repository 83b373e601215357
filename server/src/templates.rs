//! Templates, as people store and ask for them.

use coordinator::Error;
use coordinator::machines::ChangeKind;
use coordinator::making;
use coordinator::once::Once;
use coordinator::templates::{self, Offered, Template};
use proto::v1::DeleteTemplateResponse;
use uuid::Uuid;

use crate::clock;
use crate::control::ControlPlane;
use crate::once::note;
use crate::within::Within;

/// A template as it is stored, or would be in a dry run.
pub(crate) struct Stored {
    pub(crate) template: Template,
    pub(crate) change: ChangeKind,
    /// As it was; `None`: there was none.
    pub(crate) before: Option<Template>,
    pub(crate) warnings: Vec<String>,
}

impl ControlPlane {
    /// Stores a template under the name that it is to have, or that its text gives; with `is_dry_run` it is only checked.
    pub(crate) async fn put_template(
        &self,
        within: Within,
        offered: Offered,
        is_dry_run: bool,
    ) -> Result<Stored, Error> {
        let object = templates::namespace_of(&offered.text, offered.name.trim(), &offered.source)?;
        let within = within.narrowed(&object)?;
        let images = self.inner.config.image_policy.clone();
        // Its namespace stays meanwhile.
        let _turn = self.inner.machines_turn.read().await;
        loop {
            let (within, offered) = (within.clone(), offered.clone());
            let (id, now) = (Uuid::now_v7().to_string(), clock::wall());
            let images = images.clone();
            let put = self.inner.db.with(move |view| {
                let mut put = templates::put(view, &within.scope(view)?, &offered, &id, now)?;
                put.warnings
                    .extend(making::refused_images(&put.template.text, &images));
                Ok(put)
            });
            let put = put.await?;
            let stored = Stored {
                change: put.change(),
                template: put.template,
                before: put.before,
                warnings: put.warnings,
            };
            let Some(batch) = put.batch.filter(|_| !is_dry_run) else {
                return Ok(stored);
            };
            let kept = match put.history {
                Some(history) => self.inner.db.commit(history).await.map(drop),
                None => Ok(()),
            };
            let committed = match kept {
                Ok(()) => self.inner.db.commit(batch).await,
                Err(error) => Err(error),
            };
            match committed {
                Err(error) if error.is_conflict() => {}
                other => return other.map(|_| stored),
            }
        }
    }

    pub(crate) async fn template(&self, within: Within, name_or_id: &str) -> Result<Template, Error> {
        let asked = name_or_id.to_owned();
        self.inner
            .db
            .with(move |view| templates::find(view, &within.scope(view)?, &asked))
            .await
    }

    /// The newest first.
    pub(crate) async fn template_versions(
        &self,
        within: Within,
        name_or_id: String,
    ) -> Result<Vec<Template>, Error> {
        self.inner
            .db
            .with(move |view| templates::versions(view, &within.scope(view)?, &name_or_id))
            .await
    }

    pub(crate) async fn templates(&self, within: Within) -> Result<Vec<Template>, Error> {
        self.inner
            .db
            .with(move |view| templates::all(view, &within.list(view)?))
            .await
    }

    pub(crate) async fn delete_template(
        &self,
        within: Within,
        asked: String,
        once: Option<Once>,
    ) -> Result<DeleteTemplateResponse, Error> {
        let batch = self
            .inner
            .db
            .with(move |view| templates::deletion(view, &within.scope(view)?, &asked));
        let mut batch = batch.await?;
        note(once.as_ref(), &mut batch, &DeleteTemplateResponse {});
        self.inner.db.commit(batch).await?;
        Ok(DeleteTemplateResponse {})
    }
}
