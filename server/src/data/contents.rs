//! Contents of the ephemeral data: between agents and blobs.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ephemeral::{Digest, MAX_BYTES, MAX_FILES, Manifest};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use proto::v1;
use proto::v1::put_data_request::Kind;
use store::blobs::Blobs;
use tonic::Status;

use super::report::Announced;
use crate::grpc::status;
use coordinator::Error;
use coordinator::data::Changed;
use coordinator::data::{Refused, Trouble, blob_of};

/// Bytes of content in a message.
const CHUNK_BYTES: usize = 256 << 10;
/// Blobs that are written at the same time.
const AT_ONCE: usize = 8;
/// A content that was stored this long before its report is put again, so that garbage collection takes it for young.
const OLD: Duration = Duration::from_secs(15 * 60);

/// Makes all contents of a report durable; what it names is there when this returns.
///
/// # Errors
/// [`Trouble::Refused`]: a content that should have been stored before is not there.
pub(crate) async fn keep(blobs: &Blobs, announced: Announced) -> Result<Changed, Trouble> {
    let Announced {
        changed,
        inline,
        stored,
    } = announced;
    stream::iter(inline.into_values())
        .map(|content| blobs.put(content))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    stream::iter(stored)
        .map(|(digest, size_bytes)| is_there(blobs, digest, size_bytes))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await?;
    Ok(changed)
}

async fn is_there(blobs: &Blobs, digest: Digest, size_bytes: u64) -> Result<(), Trouble> {
    let name = blob_of(&digest)?;
    let missing = |why: &str| {
        Err(Trouble::Refused(Refused {
            reason: "DataRefused",
            message: format!("the content {digest} of the workflow's data {why}; retry the action"),
        }))
    };
    let Some(info) = blobs.head(&name).await? else {
        return missing("is not on the server, where it should have been stored before the report");
    };
    if info.len_bytes != size_bytes {
        return missing(&format!("has {} B and not {size_bytes} B", info.len_bytes));
    }
    let age = SystemTime::now().duration_since(info.put_at);
    if age.is_ok_and(|age| age > OLD) {
        let content = blobs.get(&name).await?;
        blobs.put(content).await?;
    }
    Ok(())
}

/// The files of a manifest as an agent gets them. Contents are verified; a damaged one ends the stream.
pub(crate) fn chunks(
    blobs: Blobs,
    manifest: &Manifest,
) -> impl Stream<Item = Result<v1::DataChunk, Status>> + Send + use<> {
    let files: Vec<v1::DataFile> = manifest
        .files()
        .map(|(path, file)| v1::DataFile {
            path: path.to_string(),
            size_bytes: file.size_bytes,
            sha256: file.sha256.to_string(),
            executable: file.executable,
            content: Vec::new(),
        })
        .collect();
    stream::iter(files)
        .then(move |file| {
            let blobs = blobs.clone();
            async move {
                // The digest is of a manifest that was read.
                let name = file.sha256.parse().map_err(|_| {
                    Status::data_loss(format!(
                        "{} is stored under no digest: {:?}",
                        file.path, file.sha256
                    ))
                })?;
                let content = blobs
                    .get(&name)
                    .await
                    .map_err(|error| status(Error::Blob(error)))?;
                Ok::<_, Status>(stream::iter(pieces(file, &content)).map(Ok))
            }
        })
        .try_flatten()
}

fn pieces(file: v1::DataFile, content: &Bytes) -> Vec<v1::DataChunk> {
    let mut rest = content.clone();
    let mut pieces = Vec::new();
    let mut file = Some(file);
    // An empty file has a piece too.
    while file.is_some() || !rest.is_empty() {
        let content = rest.split_to(rest.len().min(CHUNK_BYTES));
        pieces.push(v1::DataChunk {
            file: file.take(),
            content: content.to_vec(),
        });
    }
    pieces
}

/// Stores what an agent brings before its report; the message that says who it is has been taken out.
///
/// # Errors
/// `INVALID_ARGUMENT`, `RESOURCE_EXHAUSTED`: see `AgentService.PutData`. What was stored before the error stays, as
/// garbage.
pub(crate) async fn take(
    blobs: &Blobs,
    mut requests: impl Stream<Item = Result<v1::PutDataRequest, Status>> + Unpin,
) -> Result<v1::PutDataResponse, Status> {
    let mut stored = Vec::new();
    let mut total = 0_u64;
    let mut open: Option<(v1::DataFile, Vec<u8>)> = None;
    while let Some(request) = requests.try_next().await? {
        let Some(Kind::Chunk(chunk)) = request.kind else {
            return Err(Status::invalid_argument("after who asks, only chunks may come"));
        };
        total = total.saturating_add(chunk.content.len() as u64);
        if total > MAX_BYTES || stored.len() >= MAX_FILES {
            return Err(Status::resource_exhausted(format!(
                "at most {MAX_BYTES} B in {MAX_FILES} files are kept for a workflow"
            )));
        }
        if let Some(file) = chunk.file
            && let Some(whole) = open.replace((file, Vec::new()))
        {
            stored.push(put(blobs, whole).await?);
        }
        let Some((_, content)) = &mut open else {
            return Err(Status::invalid_argument("the first chunk belongs to no file"));
        };
        content.extend_from_slice(&chunk.content);
    }
    if let Some(whole) = open {
        stored.push(put(blobs, whole).await?);
    }
    Ok(v1::PutDataResponse { sha256: stored })
}

async fn put(blobs: &Blobs, (file, content): (v1::DataFile, Vec<u8>)) -> Result<String, Status> {
    let actual = Digest::of(&content).to_string();
    if content.len() as u64 != file.size_bytes || actual != file.sha256 {
        return Err(Status::invalid_argument(format!(
            "a content has {} B and digest {actual}, announced were {} B and {:?}",
            content.len(),
            file.size_bytes,
            file.sha256
        )));
    }
    blobs
        .put(content)
        .await
        .map_err(|error| status(Error::Blob(error)))?;
    Ok(actual)
}

#[cfg(test)]
mod tests {
    use super::super::report::read;
    use super::*;

    fn named(path: &str, content: &[u8]) -> v1::DataFile {
        v1::DataFile {
            path: path.into(),
            size_bytes: content.len() as u64,
            sha256: Digest::of(content).to_string(),
            executable: path.ends_with(".sh"),
            content: Vec::new(),
        }
    }

    /// As an agent sends it.
    fn messages(files: &[(&str, &[u8])]) -> Vec<Result<v1::PutDataRequest, Status>> {
        let all = files
            .iter()
            .flat_map(|(path, content)| pieces(named(path, content), &Bytes::copy_from_slice(content)));
        all.map(|chunk| {
            Ok(v1::PutDataRequest {
                kind: Some(Kind::Chunk(chunk)),
            })
        })
        .collect()
    }

    async fn take_all(blobs: &Blobs, files: &[(&str, &[u8])]) -> Result<Vec<String>, Status> {
        let response = take(blobs, stream::iter(messages(files))).await?;
        Ok(response.sha256)
    }

    #[tokio::test]
    async fn what_an_agent_brings_is_what_another_gets() {
        let blobs = Blobs::in_memory();
        let large = vec![7; 2 * CHUNK_BYTES + 1];
        let stored = take_all(&blobs, &[("large", &large), ("x", b"")]).await.unwrap();
        assert_eq!(
            stored,
            [Digest::of(&large).to_string(), Digest::of(b"").to_string()]
        );
        let small = v1::DataFile {
            content: b"#!".to_vec(),
            ..named("run.sh", b"#!")
        };
        let announced = read(v1::DataChanges {
            base_version: 0,
            put: vec![named("large", &large), small],
            deleted: vec![],
        });
        let changed = keep(&blobs, announced.unwrap()).await.unwrap();
        let manifest = Manifest::default().merge(&changed.changes).unwrap();
        let got: Vec<v1::DataChunk> = chunks(blobs, &manifest).try_collect().await.unwrap();
        let sizes: Vec<(Option<&str>, usize)> = got
            .iter()
            .map(|chunk| {
                (
                    chunk.file.as_ref().map(|file| file.path.as_str()),
                    chunk.content.len(),
                )
            })
            .collect();
        assert_eq!(
            sizes,
            [
                (Some("large"), CHUNK_BYTES),
                (None, CHUNK_BYTES),
                (None, 1),
                (Some("run.sh"), 2)
            ]
        );
        assert!(got.last().unwrap().file.as_ref().unwrap().executable);
    }

    #[tokio::test]
    async fn a_report_that_names_what_was_never_stored_is_refused() {
        let blobs = Blobs::in_memory();
        let changes = |file| v1::DataChanges {
            base_version: 0,
            put: vec![file],
            deleted: vec![],
        };
        let announced = read(changes(named("x", b"content"))).unwrap();
        let error = keep(&blobs, announced).await.unwrap_err();
        assert!(
            matches!(&error, Trouble::Refused(r) if r.message.contains("is not on the server")),
            "{error}"
        );
        take_all(&blobs, &[("x", b"content")]).await.unwrap();
        let mut lie = named("x", b"content");
        lie.size_bytes = 8;
        let error = keep(&blobs, read(changes(lie)).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("has 7 B and not 8 B"), "{error}");
        let announced = read(changes(named("x", b"content"))).unwrap();
        assert!(keep(&blobs, announced).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_not_what_was_announced_is_not_stored() {
        let blobs = Blobs::in_memory();
        let mut twisted = messages(&[("x", b"content")]);
        if let Some(Ok(v1::PutDataRequest {
            kind: Some(Kind::Chunk(chunk)),
        })) = twisted.first_mut()
        {
            chunk.content[0] ^= 1;
        }
        let status = take(&blobs, stream::iter(twisted)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let headless = messages(&[("x", &vec![1; 2 * CHUNK_BYTES])]).split_off(1);
        let status = take(&blobs, stream::iter(headless)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let twice = v1::PutDataRequest {
            kind: Some(Kind::Access(v1::DataAccess::default())),
        };
        let status = take(&blobs, stream::iter([Ok(twice)])).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let large = vec![1; (MAX_BYTES / 2 + 1) as usize];
        let status = take_all(&blobs, &[("x", &large), ("y", &large)])
            .await
            .unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert_eq!(
            blobs.list().count().await,
            1,
            "the first of the two that were too much"
        );
    }
}
