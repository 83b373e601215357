//! What the boot server has for agents: fetched over plain HTTP, and held against the digest that the base of the boot image has of it.

use std::time::Duration;

use drivers::Seal;
use reqwest::header::RANGE;
use reqwest::{Client, StatusCode};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that has begun and brings nothing for so long is given up.
const STALL: Duration = Duration::from_secs(15);
/// A server that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    /// Another try may do.
    #[error("{0}")]
    ForNow(String),
    /// It will not come.
    #[error("{0}")]
    ForGood(String),
}

/// A client for the boot server alone.
///
/// # Errors
/// In words.
pub(crate) fn client() -> Result<Client, String> {
    // The way to the server is never through a proxy, and plain HTTP: digests say what is right. The machine has no certificate
    // authorities, and a client that looks for the system's is not made.
    let client = Client::builder()
        .no_proxy()
        .http1_only()
        .tls_certs_only([])
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(STALL);
    client.build().map_err(|e| format!("no HTTP: {}", in_words(&e)))
}

/// `bytes` bytes of a file, from `offset` on or all of it; a server that is away for a moment is waited for. `advanced` is told how many
/// are there.
///
/// # Errors
/// In words, with the URL.
pub(crate) async fn fetch(
    client: &Client,
    url: &str,
    offset: Option<u64>,
    bytes: u64,
    advanced: &mut (dyn FnMut(u64) + Send),
) -> Result<Vec<u8>, String> {
    let give_up = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match fetch_once(client, url, offset, bytes, advanced).await {
            Ok(content) => return Ok(content),
            Err(FetchError::ForGood(why)) => return Err(why),
            Err(FetchError::ForNow(why)) if Instant::now() + pause >= give_up => return Err(why),
            Err(FetchError::ForNow(_)) => sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn fetch_once(
    client: &Client,
    url: &str,
    offset: Option<u64>,
    bytes: u64,
    advanced: &mut (dyn FnMut(u64) + Send),
) -> Result<Vec<u8>, FetchError> {
    let for_now = |what: &str| FetchError::ForNow(format!("{url} is not fetched: {what}"));
    let for_good = |what: &str| FetchError::ForGood(format!("{url} is not fetched: {what}"));
    let mut request = client.get(url);
    if let Some(offset) = offset {
        let last = bytes.checked_sub(1).and_then(|more| offset.checked_add(more));
        let last = last.ok_or_else(|| for_good("its list says that it has no byte"))?;
        request = request.header(RANGE, format!("bytes={offset}-{last}"));
    }
    let mut response = request.send().await.map_err(|e| for_now(&in_words(&e)))?;
    let wanted = if offset.is_some() {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let status = response.status();
    if status.is_server_error() {
        return Err(for_now(&format!("the server answers {status}")));
    }
    if status != wanted {
        let cure = "was the boot image built again since this machine started? Start the machine again";
        return Err(for_good(&format!(
            "the server answers {status}, not {wanted}: {cure}"
        )));
    }
    let mut content = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if (content.len() + chunk.len()) as u64 <= bytes => {
                content.extend_from_slice(&chunk);
                advanced(content.len() as u64);
            }
            Ok(Some(_)) => return Err(for_good(&format!("more than {bytes} B came"))),
            Ok(None) => return Ok(content),
            Err(e) => return Err(for_now(&in_words(&e))),
        }
    }
}

fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Holds bytes against what they have to be.
///
/// # Errors
/// In words.
pub(crate) fn checked(bytes: &[u8], seal: &Seal) -> Result<(), String> {
    if bytes.len() as u64 != seal.bytes {
        return Err(format!(
            "has {} B, and the boot image says {}",
            bytes.len(),
            seal.bytes
        ));
    }
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if digest != seal.sha256 {
        return Err(format!(
            "has the SHA-256 {digest}, and the boot image says {}",
            seal.sha256
        ));
    }
    Ok(())
}

/// What is said of bytes that are not those of this boot image.
pub(crate) fn of_another_image(name: &str, what: &str) -> String {
    format!(
        "{name} {what}; it is not used: it was damaged on its way, or the server has another boot image by now: start the machine again"
    )
}
