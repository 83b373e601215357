//! What images are called.

use std::time::SystemTime;

use async_trait::async_trait;
use oci::Reference;
use store::blobs::Digest;

/// Names of images, and which manifest each means.
#[async_trait]
pub trait Catalogue: Send + Sync + 'static {
    /// What a name means; `None`: there is none of that name.
    ///
    /// # Errors
    /// When it cannot be looked up now.
    async fn find(&self, image: &Reference) -> Result<Option<Named>, CatalogueError>;

    /// What a repository has, by tag in their order; names with a digest alone have no tag, and come first.
    ///
    /// # Errors
    /// As [`Catalogue::find`].
    async fn of_repository(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Vec<(Option<String>, Named)>, CatalogueError>;

    /// Keeps what a registry says that a name means. The manifest is there; what it names may come later.
    ///
    /// # Errors
    /// When it cannot be kept now.
    async fn fetched(&self, image: &Reference, digest: Digest) -> Result<(), CatalogueError>;

    /// A content that is there, or comes, is given to a machine.
    fn given(&self, digest: Digest) {
        let _ = digest;
    }
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Of its manifest or index.
    pub digest: Digest,
    /// When its registry was last asked, of one that was fetched; `None`: a person brought it, and what it means is that one's.
    pub asked_at: Option<SystemTime>,
}

/// Names cannot be looked up now; in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CatalogueError(pub String);
