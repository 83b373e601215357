//! Ephemeral data over gRPC: fetched before an action starts; what does not fit into a report is stored before the
//! report. Tried again as long as the server is only away; who calls this decides when to give up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ephemeral::{DataPath, Digest, MAX_BYTES, MAX_FILES, TooLarge};
use proto::v1;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::put_data_request::Kind;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::DataError;
use super::tree::{Content, Tree};
use crate::connection::{connect, with_jitter};

const CHUNK_BYTES: usize = 256 << 10;
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The server, and who asks it.
#[derive(Clone, Debug, Default)]
pub struct DataServer {
    /// `host:port`.
    pub server: String,
    pub mac: String,
    pub boot_id: String,
    pub token: String,
    /// Of the last Welcome.
    pub epoch: Arc<AtomicU64>,
}

/// Whether to try again.
pub(super) enum Trouble {
    Away,
    Final(DataError),
}

impl DataServer {
    /// The data that an attempt is given. Waits for a server that is away, for ever. Cancel safe.
    ///
    /// # Errors
    /// `DataRefused`: in the server's words; `DataDamaged`: what came is not what it should be.
    pub(crate) async fn get(&self, attempt_id: &str, version: u64) -> Result<Tree, DataError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.get_once(attempt_id, version).await {
                Ok(tree) => return Ok(tree),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Away) => wait(&mut pause).await,
            }
        }
    }

    /// Stores contents; they are known by their digests then. Waits for a server that is away, for ever. Cancel safe.
    ///
    /// # Errors
    /// As [`DataServer::get`].
    pub(crate) async fn put(
        &self,
        attempt_id: &str,
        contents: &BTreeMap<DataPath, Content>,
    ) -> Result<(), DataError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.put_once(attempt_id, contents).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Away) => wait(&mut pause).await,
            }
        }
    }

    async fn get_once(&self, attempt_id: &str, version: u64) -> Result<Tree, Trouble> {
        let request = v1::GetDataRequest {
            access: Some(self.access(attempt_id)),
            version,
        };
        let mut chunks = self
            .client()
            .await?
            .get_data(request)
            .await
            .map_err(trouble)?
            .into_inner();
        let mut incoming = Incoming::default();
        while let Some(chunk) = chunks.message().await.map_err(trouble)? {
            incoming.take(chunk).map_err(Trouble::Final)?;
        }
        incoming.end().map_err(Trouble::Final)
    }

    async fn put_once(
        &self,
        attempt_id: &str,
        contents: &BTreeMap<DataPath, Content>,
    ) -> Result<(), Trouble> {
        let mut messages = vec![Kind::Access(self.access(attempt_id))];
        let all = contents.iter().flat_map(|(path, content)| chunks(path, content));
        messages.extend(all.map(Kind::Chunk));
        let requests = messages
            .into_iter()
            .map(|kind| v1::PutDataRequest { kind: Some(kind) });
        let answer = self
            .client()
            .await?
            .put_data(tokio_stream::iter(requests))
            .await
            .map_err(trouble)?
            .into_inner();
        let sent: Vec<String> = contents
            .values()
            .map(|content| content.file.sha256.to_string())
            .collect();
        if answer.sha256 == sent {
            Ok(())
        } else {
            Err(Trouble::Final(DataError::new(
                "DataDamaged",
                "the server stored something else than what was sent to it",
            )))
        }
    }

    pub(super) async fn client(&self) -> Result<AgentServiceClient<Channel>, Trouble> {
        let channel = connect(&self.server).await;
        Ok(AgentServiceClient::new(channel.map_err(|_| Trouble::Away)?))
    }

    pub(super) fn access(&self, attempt_id: &str) -> v1::DataAccess {
        v1::DataAccess {
            attempt_id: attempt_id.to_owned(),
            mac: self.mac.clone(),
            boot_id: self.boot_id.clone(),
            boot_token: self.token.clone(),
            epoch: self.epoch.load(Ordering::Relaxed),
        }
    }
}

/// The file as a report or a chunk names it, without its content.
pub(crate) fn named(path: &DataPath, file: &ephemeral::File) -> v1::DataFile {
    v1::DataFile {
        path: path.to_string(),
        size_bytes: file.size_bytes,
        sha256: file.sha256.to_string(),
        executable: file.executable,
        content: Vec::new(),
    }
}

fn chunks(path: &DataPath, content: &Content) -> impl Iterator<Item = v1::DataChunk> {
    // An empty file has a chunk too.
    let (first, rest) = content.bytes.split_at(content.bytes.len().min(CHUNK_BYTES));
    let first = v1::DataChunk {
        file: Some(named(path, &content.file)),
        content: first.to_vec(),
    };
    let rest = rest.chunks(CHUNK_BYTES).map(|piece| v1::DataChunk {
        file: None,
        content: piece.to_vec(),
    });
    std::iter::once(first).chain(rest)
}

/// A stream of chunks on its way to a tree; trusts no number in it.
#[derive(Default)]
struct Incoming {
    tree: Tree,
    bytes: u64,
    open: Option<(DataPath, v1::DataFile, Vec<u8>)>,
}

impl Incoming {
    fn take(&mut self, chunk: v1::DataChunk) -> Result<(), DataError> {
        if let Some(file) = chunk.file {
            self.close()?;
            let path = file
                .path
                .parse()
                .map_err(|e: ephemeral::BadPath| damaged(e.to_string()))?;
            self.open = Some((path, file, Vec::new()));
        }
        let files = self.tree.files.len() + 1;
        let Some((_, _, bytes)) = &mut self.open else {
            return Err(damaged("its first piece belongs to no file".to_owned()));
        };
        self.bytes = self.bytes.saturating_add(chunk.content.len() as u64);
        if self.bytes > MAX_BYTES || files > MAX_FILES {
            let bytes = self.bytes;
            return Err(damaged(TooLarge::Bytes { bytes, files }.to_string()));
        }
        bytes.extend_from_slice(&chunk.content);
        Ok(())
    }

    fn end(mut self) -> Result<Tree, DataError> {
        self.close()?;
        // A file in the place of a folder could not be written.
        if self.tree.manifest().len() == self.tree.files.len() {
            Ok(self.tree)
        } else {
            Err(damaged("a path in it is a file and a folder".to_owned()))
        }
    }

    fn close(&mut self) -> Result<(), DataError> {
        let Some((path, file, bytes)) = self.open.take() else {
            return Ok(());
        };
        let content = Content::new(bytes, file.executable);
        let is_whole = file.size_bytes == content.file.size_bytes
            && file.sha256.parse() == Ok::<Digest, ephemeral::BadDigest>(content.file.sha256);
        if !is_whole {
            return Err(damaged(format!(
                "{path} came with {} B and sha256 {}, announced were {} B and {:?}",
                content.file.size_bytes, content.file.sha256, file.size_bytes, file.sha256
            )));
        }
        self.tree.files.insert(path, content);
        Ok(())
    }
}

fn damaged(why: String) -> DataError {
    DataError::new(
        "DataDamaged",
        format!("the workflow's data did not come whole from the server: {why}"),
    )
}

fn trouble(status: Status) -> Trouble {
    let reason = match status.code() {
        Code::ResourceExhausted => "DataTooLarge",
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::NotFound
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => "DataRefused",
        _ => return Trouble::Away,
    };
    Trouble::Final(DataError::new(
        reason,
        format!(
            "the server refuses the workflow's data ({}): {}",
            status.code().description(),
            status.message()
        ),
    ))
}

pub(super) async fn wait(pause: &mut Duration) {
    tokio::time::sleep(with_jitter(*pause)).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, usize)]) -> Tree {
        let files = files.iter().map(|(path, length)| {
            let content = Content::new(vec![7; *length], false);
            (path.parse().expect("path"), content)
        });
        Tree {
            files: files.collect(),
        }
    }

    fn all_chunks(tree: &Tree) -> Vec<v1::DataChunk> {
        let all = tree.files.iter();
        all.flat_map(|(path, content)| chunks(path, content)).collect()
    }

    fn received(chunks: Vec<v1::DataChunk>) -> Result<Tree, DataError> {
        let mut incoming = Incoming::default();
        for chunk in chunks {
            incoming.take(chunk)?;
        }
        incoming.end()
    }

    #[test]
    fn a_tree_goes_over_the_wire_in_pieces_and_comes_whole() {
        let sent = tree(&[
            ("a", 0),
            ("b", CHUNK_BYTES),
            ("c/d", 3 * CHUNK_BYTES + 1),
            ("e", 5),
        ]);
        let pieces = all_chunks(&sent);
        assert_eq!(pieces.len(), 1 + 1 + 4 + 1);
        assert!(pieces.iter().all(|piece| piece.content.len() <= CHUNK_BYTES));
        assert_eq!(received(pieces), Ok(sent));
        assert_eq!(received(Vec::new()), Ok(Tree::default()));
    }

    #[test]
    fn what_does_not_come_whole_is_not_taken() {
        let pieces = all_chunks(&tree(&[("a", 3 * CHUNK_BYTES), ("b", 1)]));
        for missing in 0..pieces.len() - 1 {
            let mut pieces = pieces.clone();
            pieces.remove(missing);
            assert_eq!(
                received(pieces).expect_err("not whole").reason,
                "DataDamaged",
                "{missing}"
            );
        }
        let mut twisted = pieces.clone();
        twisted[1].content[0] ^= 1;
        assert!(received(twisted).is_err());
        let mut outside = pieces.clone();
        outside[0].file.as_mut().expect("file").path = "../a".to_owned();
        assert!(received(outside).expect_err("outside").message.contains("../a"));
        let both = all_chunks(&tree(&[("x", 1), ("x/y", 1)]));
        assert!(received(both).is_err());
        let large = all_chunks(&tree(&[("a", 6 << 20), ("b", 6 << 20)]));
        assert!(received(large).expect_err("too much").message.contains("at most"));
    }

    #[test]
    fn only_a_server_that_is_away_is_asked_again() {
        assert!(matches!(trouble(Status::unavailable("restart")), Trouble::Away));
        assert!(matches!(trouble(Status::internal("h2")), Trouble::Away));
        assert!(
            matches!(trouble(Status::not_found("version 3")), Trouble::Final(e) if e.message.contains("version 3"))
        );
    }
}
