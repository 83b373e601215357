//! Images in the stores of a containerd of the machine's, which runs their actions.

use std::path::Path;

use containerd::{Containerd, Error};
use oci::Pull;
use oci::registry::Registries;
use proto::v1;

use crate::actions::{Feed, Halt, Held, Images, NoImage, Runtime};
use crate::data::DataServer;
use crate::own_containerd::OwnContainerd;
use crate::pull::{Asked, pulled};
use crate::tools::Tools;

/// The stores of one containerd.
pub(crate) struct Stores {
    containerd: Containerd,
    /// The one that is started when it is needed.
    own: Option<OwnContainerd>,
    registries: Registries,
    pull: Pull,
}

impl Stores {
    /// Those of the containerd with this socket, which need not be there yet. What an agent of the same `owner` left is
    /// removed as soon as it is. `own`: it is the boot image's, of these programs, and is started when it is first needed.
    ///
    /// # Errors
    /// In words: the path of the socket is none.
    pub(crate) fn at(
        address: &Path,
        owner: &str,
        own: Option<Tools>,
        registries: Registries,
    ) -> Result<Stores, String> {
        let containerd = Containerd::at(address, owner).map_err(|e| e.to_string())?;
        if address.exists() {
            let containerd = containerd.clone();
            tokio::spawn(async move {
                if let Err(e) = containerd.prepare().await {
                    tracing::warn!(
                        "what an agent before this one left in containerd is not removed yet: {e}"
                    );
                }
            });
        }
        Ok(Stores {
            own: own.map(|tools| OwnContainerd::of(tools, containerd.clone())),
            containerd,
            registries,
            pull: Pull::default(),
        })
    }
}

impl Stores {
    /// It serves, and has nothing left of an agent before this one.
    async fn ready(&self, feed: &Feed) -> Result<(), NoImage> {
        if let Some(own) = &self.own {
            own.needed(feed).await?;
        }
        self.containerd.prepare().await.map_err(|e| NoImage {
            reason: match e {
                Error::Away { .. } | Error::Silent { .. } => "ContainerdAway",
                Error::Full { .. } | Error::Refused { .. } => "ImageFolder",
            }
            .to_owned(),
            message: e.to_string(),
        })
    }
}

#[tonic::async_trait]
impl Images for Stores {
    async fn image(
        &self,
        action: &v1::RunAction,
        server: &DataServer,
        feed: &Feed,
        halt: &Halt,
    ) -> Result<Held, NoImage> {
        tokio::select! {
            ready = self.ready(feed) => ready?,
            () = halt.token().cancelled_owned() => return Err(NoImage::stopped()),
        }
        let asked = Asked {
            action,
            server,
            feed,
            halt,
        };
        let image = pulled(&self.pull, &self.containerd, &self.registries, &asked).await?;
        feed.line(format!(
            "farrier: image {} is {}, in containerd",
            action.image, image.digest
        ))
        .await;
        let config = image.config.clone();
        Ok(Held {
            image: container::Image {
                layers: Vec::new(),
                entrypoint: config.entrypoint,
                cmd: config.cmd,
                env: config.env,
                user: config.user,
                working_dir: config.working_dir,
                stop_signal: config.stop_signal,
            },
            by: Runtime::Containerd {
                containerd: self.containerd.clone(),
                image: Box::new(image),
            },
        })
    }
}
