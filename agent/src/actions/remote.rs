//! A file that an action fetches from a URL and does not write to a disk as it is: what is asked for, and how it fails.

use std::time::Duration;

use disk::image::WriteError;
use disk::image::content::{self, Content, ReadContent, ReadError, ReadRequest};
use url::Url;

use super::environment::Environment;
use super::image2disk::{Reporter, SAY_EVERY};
use super::{Failure, Feed, Halt, Place};

/// What is asked for by the variable that has the URL, and those that all downloads have.
///
/// # Errors
/// `MissingVariable`, `BadVariable`.
pub(super) fn request(env: &Environment<'_>, variable: &str, place: &Place) -> Result<ReadRequest, Failure> {
    let url = env.required(variable)?;
    let url = Url::parse(url).map_err(|e| {
        Failure::new(
            "BadVariable",
            // No parser took it: where its password ends is not known.
            format!(
                "environment variable {variable}={} is no URL: {e}",
                redaction::redacted_url(url)
            ),
        )
    })?;
    let mut request = ReadRequest::new(url);
    request.sha256 = env.optional("SHA256").map(str::to_owned);
    request.reach = place.surroundings.reach(env)?;
    if let (true, Some(patience)) = (
        env.is_on("RETRY_ENABLED"),
        env.duration("RETRY_DURATION_MINUTES", Duration::from_secs(60))?,
    ) {
        request.give_up_after = patience;
    }
    Ok(request)
}

/// Downloads it; `what` it is stands in what is told, and in the reasons of failures (`ArchiveNotFound`).
///
/// # Errors
/// Of the transfer, and of the reader; `TooSlow` when it takes longer than `within`.
pub(super) async fn read<T: Send + 'static>(
    what: &'static str,
    request: &ReadRequest,
    within: Option<Duration>,
    feed: &Feed,
    halt: &Halt,
    reader: impl FnOnce(&mut Content<'_>) -> Result<T, Failure> + Send + 'static,
) -> Result<ReadContent<T>, Failure> {
    let reporter = Reporter::new(feed.clone(), SAY_EVERY);
    let stop = halt.token().child_token();
    let read = content::read(
        request,
        reader,
        move |progress| reporter.report(progress),
        stop.clone(),
    );
    tokio::pin!(read);
    let over = async {
        match within {
            Some(within) => tokio::time::sleep(within).await,
            None => std::future::pending().await,
        }
    };
    let read = tokio::select! {
        biased;
        read = &mut read => read,
        () = over => {
            stop.cancel();
            match read.await {
                Err(ReadError::Content(WriteError::Stopped { at })) if !halt.is_asked() => {
                    let minutes = within.unwrap_or_default().as_secs() / 60;
                    return Err(Failure::new("TooSlow", format!(
                        "the {what} {} did not come within HTTP_CLIENT_TIMEOUT_MINUTES={minutes}: {at} B came; give it more time, or \
                         leave the variable out", request.url
                    )));
                }
                read => read,
            }
        }
    };
    let read = read.map_err(|error| failure(what, error))?;
    for warning in &read.warnings {
        feed.line(format!("note: {warning}")).await;
    }
    feed.line(format!(
        "{what} of {} B downloaded, resumed {}, sha256 {} {}",
        read.downloaded_bytes,
        match read.resumes {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        },
        read.sha256,
        if read.verified { "verified" } else { "not compared" },
    ))
    .await;
    Ok(read)
}

fn failure(what: &str, error: ReadError<Failure>) -> Failure {
    match error {
        ReadError::Reader(failure) => failure,
        ReadError::Content(WriteError::Stopped { .. }) => Failure::stopped(),
        ReadError::Content(error) => {
            // The writer of images calls all that it reads one.
            let words = error.to_string();
            let words = match words.strip_prefix("image ") {
                Some(rest) => format!("{what} {rest}"),
                None => words,
            };
            let cure = match error {
                WriteError::Untrusted {
                    unknown_issuer: true, ..
                } => {
                    ". If it is the site's own, give it: CA_CERTIFICATES of this action, or `farrier image build --ca-file FILE`"
                }
                _ => "",
            };
            Failure::new(&named(what, error.reason()), format!("{words}{cure}"))
        }
        ReadError::NotVerified { url, why } => Failure::new(
            "NotVerified",
            format!("the {what} {url} would not be verified: no checksum was given, and {url}.sha256 {why}"),
        ),
    }
}

/// `ImageNotFound` of an archive is `ArchiveNotFound`.
fn named(what: &str, reason: &str) -> String {
    let mut letters = what.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let name: String = first.into_iter().chain(letters).collect();
    reason.replace("Image", &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_what_was_fetched() {
        let error = WriteError::ImageNotFound {
            url: "http://h/a.tar".to_owned(),
            status: "404 Not Found".to_owned(),
        };
        let failure = failure("archive", ReadError::Content(error));
        assert_eq!(failure.reason, "ArchiveNotFound");
        assert_eq!(
            failure.message,
            "archive http://h/a.tar not found: the server answers 404 Not Found"
        );
    }
}
