//! `farrier registry`.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::ProgressBar;
use oci::Reference;
use proto::v1::{
    DeleteImageRequest, ListImagesRequest, MissingImageBlobsRequest, PutImageBlobRequest, PutImageRequest,
};
use registry::archive::{Archive, Content, Packed};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Asking;
use crate::client::Client;
use crate::failure::{Failure, chain};
use crate::once::{Key, ask_once};
use crate::output;
use crate::screen::transfer_bar;
use crate::terminal::{is_shown_to_a_person, safe_line, say};
use crate::views;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum RegistryCommand {
    /// Bring images from a file: machines are given them from then on
    #[command(after_help = "\
The file is an OCI layout, as a folder or an archive, or what `docker save` and `podman save` write; gzip and zstd are unpacked.
What the server has already is not sent again. A name that another image has is taken from it.

Examples:
  docker save registry.example.com/tools/flash:2.1 -o flash.tar && farrier registry import flash.tar
  skopeo copy docker://docker.io/library/alpine:3.20 oci-archive:alpine.tar
  farrier registry import alpine.tar --name alpine:3.20")]
    Import {
        /// The file, or the folder
        file: PathBuf,
        /// What templates call the image; of files that say it, or have several images, leave it out
        #[arg(long, value_name = "NAME:TAG")]
        name: Option<Reference>,
    },
    /// List the images that are there, and those that templates name and are not
    #[command(after_help = "Examples:\n  farrier registry list\n  farrier registry list -o json")]
    List,
    /// Delete an image: its name, and what of it no other image has
    #[command(after_help = "Example:\n  farrier registry delete registry.example.com/tools/flash:2.1")]
    Delete {
        /// Its name
        name: Reference,
        #[command(flatten)]
        key: Key,
    },
}

/// Of a content in one message.
const CHUNK_BYTES: usize = 512 << 10;
/// Messages that wait to be sent.
const AHEAD: usize = 4;

pub(crate) async fn run(command: RegistryCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        RegistryCommand::Import { file, name } => import(file, name, asking).await?,
        RegistryCommand::List => list(asking).await?,
        RegistryCommand::Delete { name, key } => {
            let client = asking.connect().await?;
            let request = DeleteImageRequest {
                name: name.to_string(),
                idempotency_key: key.text(),
            };
            ask_once!(client, delete_image(request))?;
            output::deleted(asking.out, asking.output, "image", &name.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.list_images(ListImagesRequest {}).await;
    let answer = client.answer(answer)?;
    if answer.keep_bytes > 0 {
        say(format_args!(
            "images that machines had fetched have {}, {} at most are kept (--registry-keep)",
            views::bytes(answer.fetched_bytes),
            views::bytes(answer.keep_bytes)
        ));
    }
    let there = answer.images.into_iter().map(views::Image::from);
    let all: Vec<_> = there
        .chain(answer.wanted.into_iter().map(views::Image::from))
        .collect();
    output::list(asking.out, asking.output, &all)
}

async fn import(file: PathBuf, name: Option<Reference>, asking: Asking<'_>) -> Result<(), Failure> {
    // What is wrong with the file is said before a server is asked.
    let shown = file.display().to_string();
    let opened = tokio::task::spawn_blocking(move || {
        let archive = Archive::open(&file)?;
        let images = archive.images()?;
        Ok::<_, registry::archive::BadArchive>((archive, images))
    });
    let opened = opened.await.map_err(|error| Failure::Failed(chain(&error)))?;
    let (archive, images) = opened.map_err(|error| Failure::Failed(chain(&error)))?;
    let images = named(&shown, images, name)?;
    let archive = Arc::new(archive);
    let mut client = asking.connect().await?;
    let mut brought = Vec::new();
    for (image, names) in images {
        bring(&mut client, &archive, &image).await?;
        for name in names {
            let request = PutImageRequest {
                name: name.to_string(),
                sha256: image.root.to_string(),
            };
            let answer = client.control.put_image(request).await;
            brought.push(views::Image::from(client.answer(answer)?));
        }
    }
    match asking.output {
        output::Format::Table | output::Format::Wide => {
            for image in &brought {
                let digest = image.digest.as_deref().unwrap_or_default();
                writeln!(asking.out, "image {} is {digest}", image.name)?;
            }
            Ok(())
        }
        format => output::list(asking.out, format, &brought),
    }
}

/// Which image gets which names.
fn named(
    file: &str,
    images: Vec<Packed>,
    name: Option<Reference>,
) -> Result<Vec<(Packed, Vec<Reference>)>, Failure> {
    let Some(name) = name else {
        let without = images.iter().find(|image| image.names.is_empty());
        return match (without, images.is_empty()) {
            (_, true) => Err(Failure::Failed(format!("{file} has no image"))),
            (Some(_), _) => Err(Failure::Usage(format!(
                "{file} does not say what its image is called: give the name that templates have with --name NAME:TAG"
            ))),
            (None, false) => Ok(images
                .into_iter()
                .map(|mut image| {
                    let names = std::mem::take(&mut image.names);
                    (image, names)
                })
                .collect()),
        };
    };
    let count = images.len();
    match <[Packed; 1]>::try_from(images) {
        Ok([image]) => Ok(vec![(image, vec![name])]),
        Err(_) => Err(Failure::Usage(format!(
            "{file} has {count} images, and --name is for a file of one: leave it out where the file says their names"
        ))),
    }
}

/// Sends what the server has not.
async fn bring(client: &mut Client, archive: &Arc<Archive>, image: &Packed) -> Result<(), Failure> {
    let request = MissingImageBlobsRequest {
        sha256: image
            .contents
            .iter()
            .map(|content| content.digest.to_string())
            .collect(),
    };
    let answer = client.control.missing_image_blobs(request).await;
    let missing: HashSet<String> = client.answer(answer)?.sha256.into_iter().collect();
    let ahead = image
        .contents
        .iter()
        .filter(|content| missing.contains(&content.digest.to_string()));
    let ahead: Vec<&Content> = ahead.collect();
    let total_bytes = ahead.iter().map(|content| content.size_bytes).sum();
    let bar = bar(total_bytes);
    if bar.is_none() && !ahead.is_empty() {
        say(format_args!(
            "{} contents of {total_bytes} B are sent",
            ahead.len()
        ));
    }
    for content in ahead {
        send(client, archive.clone(), content.clone(), bar.as_ref()).await?;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(())
}

async fn send(
    client: &mut Client,
    archive: Arc<Archive>,
    content: Content,
    bar: Option<&ProgressBar>,
) -> Result<(), Failure> {
    let (sender, messages) = mpsc::channel(AHEAD);
    let digest = content.digest.to_string();
    if let Some(bar) = bar {
        bar.set_message(safe_line(digest.get(..12).unwrap_or_default()));
    }
    let moving = bar.cloned();
    // Reading blocks, and ends when nobody takes what is read.
    let reading = tokio::task::spawn_blocking(move || read(&archive, &content, &sender, moving.as_ref()));
    let reading = AbortOnDropHandle::new(reading);
    let answer = client
        .control
        .put_image_blob(tokio_stream::wrappers::ReceiverStream::new(messages))
        .await;
    // What went wrong with the file is why the rest is missing.
    reading.await.map_err(|error| Failure::Failed(chain(&error)))??;
    client.answer(answer)?;
    Ok(())
}

fn read(
    archive: &Archive,
    content: &Content,
    sender: &mpsc::Sender<PutImageBlobRequest>,
    bar: Option<&ProgressBar>,
) -> Result<(), Failure> {
    let mut bytes = archive
        .read(content)
        .map_err(|error| Failure::Failed(chain(&error)))?;
    let mut message = PutImageBlobRequest {
        sha256: content.digest.to_string(),
        content: Vec::new(),
    };
    loop {
        let mut piece = Vec::new();
        let read = bytes.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut piece);
        let read = read.map_err(|error| Failure::Failed(format!("cannot read the archive: {error}")))?;
        message.content = piece;
        let is_end = read == 0;
        // The server's answer says why it takes no more.
        if sender.blocking_send(std::mem::take(&mut message)).is_err() || is_end {
            return Ok(());
        }
        if let Some(bar) = bar {
            bar.inc(read as u64);
        }
    }
}

fn bar(total_bytes: u64) -> Option<ProgressBar> {
    is_shown_to_a_person().then(|| ProgressBar::new(total_bytes).with_style(transfer_bar()))
}
