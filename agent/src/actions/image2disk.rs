//! `image2disk`: a disk image from a URL onto a disk, verified; its partition table fitted to the disk.
//!
//! Variables beside upstream's: `SHA256` (or `CHECKSUM=sha256:…`), `GROW_ROOT`, `RAW`, `RESUME` and `VERIFY`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use disk::filesystem::FilesystemError;
use disk::gpt::Grow;
use disk::grow::{self, GrowError};
use disk::image::{self, Content, Progress, Verify, WriteError, WriteRequest, Written};
use disk::publish::KernelView;
use proto::v1;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::environment::Environment;
use super::target::{self, blocking};
use super::{Done, Failure, Feed, Gives, Place};

/// Upstream's default.
pub(super) const SAY_EVERY: Duration = Duration::from_secs(3);

pub(super) const VARIABLES: [&str; 18] = [
    "ALL_PROXY",
    "CA_CERTIFICATES",
    "CHECKSUM",
    "COMPRESSED",
    "DEST_DISK",
    "GROW_ROOT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IMG_URL",
    "NO_PROXY",
    "PROGRESS_INTERVAL_SECONDS",
    "RAW",
    "RESUME",
    "RETRY_DURATION_MINUTES",
    "RETRY_ENABLED",
    "SHA256",
    "STOP_USERS",
    "VERIFY",
];

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: CancellationToken,
) -> Result<Done, Failure> {
    let url = env.required("IMG_URL")?;
    env.required("DEST_DISK")?;
    let url = Url::parse(url).map_err(|e| {
        Failure::new(
            "BadVariable",
            // No parser took it: where its password ends is not known.
            format!(
                "environment variable IMG_URL={} is no URL: {e}",
                redaction::redacted_url(url)
            ),
        )
    })?;
    let mut order = Order::of(env, url, place, feed).await?;
    order.request.resume = resume(env, &action.workflow_id)?;
    order.begin(feed).await;
    let reporter = order.reporter(feed);
    let written = image::write(&order.request, move |progress| reporter.report(progress), halt).await;
    order.ended(written, feed).await
}

/// What the variables ask for that all actions have which write an image to a disk.
pub(super) struct Order {
    pub(super) request: WriteRequest,
    say_every: Duration,
    is_said_packed: bool,
}

impl Order {
    /// Of an image that is called `url`; finds the disk.
    ///
    /// # Errors
    /// A variable with a value that it may not have; no such disk.
    pub(super) async fn of(
        env: &Environment<'_>,
        url: Url,
        place: &Place,
        feed: &Feed,
    ) -> Result<Order, Failure> {
        let say_every = env
            .duration("PROGRESS_INTERVAL_SECONDS", Duration::from_secs(1))?
            .unwrap_or(SAY_EVERY);
        let sha256 = digest(env)?;
        let content = content(env)?;
        let verify = verify(env)?;
        let reach = place.surroundings.reach(env)?;
        let disk = target::resolve(env.required("DEST_DISK")?).await?;

        let mut request = WriteRequest::new(url, &disk);
        request.sha256 = sha256;
        request.content = content;
        request.verify = verify;
        if env.is_on("GROW_ROOT") {
            request.grow = Grow::LastLinux;
        }
        request.reach = reach;
        if let (true, Some(patience)) = (
            env.is_on("RETRY_ENABLED"),
            env.duration("RETRY_DURATION_MINUTES", Duration::from_secs(60))?,
        ) {
            request.give_up_after = patience;
        }
        request.touched = feed.touched();
        Ok(Order {
            request,
            say_every,
            is_said_packed: env.is_on("COMPRESSED"),
        })
    }

    /// Says what is about to be done.
    pub(super) async fn begin(&self, feed: &Feed) {
        if self.is_said_packed {
            feed.line("COMPRESSED is set; the packing is found by the image's first bytes anyway")
                .await;
        }
        let WriteRequest { url, target, .. } = &self.request;
        feed.line(format!("writing {url} to {}", target.display())).await;
    }

    pub(super) fn reporter(&self, feed: &Feed) -> Reporter {
        Reporter::new(feed.clone(), self.say_every)
    }

    /// Says what was done, and has a root that was grown be used.
    pub(super) async fn ended(
        &self,
        written: Result<Written, WriteError>,
        feed: &Feed,
    ) -> Result<Done, Failure> {
        let written = written.map_err(|e| Failure::new(e.reason(), said(&e)))?;
        told(&self.request, &written, feed).await
    }
}

async fn told(request: &WriteRequest, written: &Written, feed: &Feed) -> Result<Done, Failure> {
    let WriteRequest {
        url, target: disk, ..
    } = request;
    for warning in &written.warnings {
        feed.line(format!("note: {warning}")).await;
    }
    feed.line(format!(
        "image of {} B written, {} B downloaded, resumed {}, sha256 {} {}",
        written.image_bytes,
        written.downloaded_bytes,
        match written.resumes {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        },
        written.sha256,
        if written.verified {
            "verified"
        } else {
            "not verified: no checksum was given"
        },
    ))
    .await;

    if written.found_bytes > 0 {
        feed.line(format!(
            "an earlier attempt had written the first {} B of the image; they were read back and compared, and the transfer went on from there",
            written.found_bytes
        ))
        .await;
    }
    if written.read_back_bytes > 0 {
        feed.line(format!(
            "{} B and both ends were read back from {} and are as they were written",
            written.read_back_bytes,
            disk.display()
        ))
        .await;
    }
    let grown = finish(written, disk.clone()).await?;
    feed.line(grown.as_str()).await;
    let message = format!(
        "wrote {} B of {url} to {}; {grown}",
        written.image_bytes,
        disk.display()
    );
    Ok(Done::Succeeded {
        message,
        bytes: written.image_bytes,
        gives: Gives::default(),
    })
}

/// The error, with the cure that this action has.
fn said(error: &WriteError) -> String {
    match error {
        WriteError::Untrusted {
            unknown_issuer: true, ..
        } => format!(
            "{error}. If it is the site's own, give it: CA_CERTIFICATES of this action, or `farrier image build --ca-file FILE`"
        ),
        _ => error.to_string(),
    }
}

/// `SHA256`, or the first `sha256:` in `CHECKSUM`; how it has to look is the writer's business.
fn digest(env: &Environment<'_>) -> Result<Option<String>, Failure> {
    match (env.optional("SHA256"), env.optional("CHECKSUM")) {
        (Some(digest), _) => Ok(Some(digest.to_owned())),
        (None, Some(checksum)) => match checksum.split_once(':') {
            Some(("sha256", digest)) => Ok(Some(digest.to_owned())),
            _ => Err(Failure::new(
                "BadVariable",
                format!("environment variable CHECKSUM={checksum} is not sha256:<64 hexadecimal digits>"),
            )),
        },
        (None, None) => Ok(None),
    }
}

/// `RAW: any` takes what is no disk image too.
fn content(env: &Environment<'_>) -> Result<Content, Failure> {
    match env.optional("RAW") {
        None => Ok(Content::Disk),
        Some("any") => Ok(Content::Any),
        Some(other) => Err(Failure::new(
            "BadVariable",
            format!("environment variable RAW={other} is not any, the only value it may have"),
        )),
    }
}

/// `VERIFY: read-back` has the disk read.
fn verify(env: &Environment<'_>) -> Result<Verify, Failure> {
    match env.optional("VERIFY") {
        None => Ok(Verify::Download),
        Some("read-back") => Ok(Verify::ReadBack),
        Some(other) => Err(Failure::new(
            "BadVariable",
            format!("environment variable VERIFY={other} is not read-back, the only value it may have"),
        )),
    }
}

/// `RESUME: "true"` goes on where an earlier attempt of the same workflow was cut off.
fn resume(env: &Environment<'_>, workflow_id: &str) -> Result<Option<String>, Failure> {
    match env.is_on("RESUME") {
        false => Ok(None),
        // What lies on a disk is believed by the workflow's id, which nobody knew before it was made.
        true if workflow_id.is_empty() => Err(Failure::new(
            "BadVariable",
            "environment variable RESUME is on, and the server does not say which workflow this is: upgrade the server, or leave RESUME out",
        )),
        true => Ok(Some(workflow_id.to_owned())),
    }
}

/// Grows the filesystem of a partition that was grown; returns what was done beside the writing, in words.
async fn finish(written: &Written, disk: PathBuf) -> Result<String, Failure> {
    let mut done = vec![];
    if written.kernel == KernelView::Never {
        done.push("the kernel shows no partitions of it".to_owned());
    }
    let Some(fitted) = &written.fitted else {
        done.push("no GUID partition table to fit".to_owned());
        return Ok(done.join(", "));
    };
    if fitted.backup_moved {
        done.push("backup partition table moved to the disk's end".to_owned());
    }
    if let Some(partition) = fitted.partition {
        done.push(format!(
            "partition {} grown by {} B",
            partition.number, partition.added_bytes
        ));
        let resized = blocking(move || match grow::grow_filesystem(&disk, partition.number) {
            Ok(resized) => Ok(format!("its filesystem is {} B now", resized.after_bytes)),
            Err(GrowError::Filesystem(e @ FilesystemError::CannotGrow { .. })) => Ok(e.to_string()),
            Err(e) => Err(Failure::new(
                "GrowFailed",
                format!("the image is written, but the root was not grown: {e}"),
            )),
        });
        done.push(resized.await?);
    }
    Ok(if done.is_empty() {
        "partition table fits the disk".to_owned()
    } else {
        done.join(", ")
    })
}

/// Turns the writer's progress into messages, with a rate, not more often than asked.
pub(super) struct Reporter {
    feed: Feed,
    every: Duration,
    last: std::sync::Mutex<Last>,
}

/// What the rate counts from.
struct Last {
    at: Instant,
    standing: Standing,
    said: bool,
}

/// What a bar shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    done: u64,
    /// 0: unknown.
    total: u64,
    stage: &'static str,
}

impl Standing {
    /// Of the write where the image's size is known, else of the download, and after that of the write without a
    /// total: a download that is through still has some to write.
    fn of(progress: Progress) -> Standing {
        if progress.read_back_bytes > 0 {
            return Standing {
                done: progress.read_back_bytes,
                total: progress.image_bytes.max(progress.written_bytes),
                stage: "verify",
            };
        }
        let downloading = progress.download_bytes == 0 || progress.downloaded_bytes < progress.download_bytes;
        if progress.image_bytes == 0 && downloading {
            return Standing {
                done: progress.downloaded_bytes,
                total: progress.download_bytes,
                stage: "download",
            };
        }
        Standing {
            done: progress.written_bytes,
            total: progress.image_bytes,
            stage: "write",
        }
    }
}

impl Reporter {
    pub(super) fn new(feed: Feed, every: Duration) -> Reporter {
        Reporter {
            feed,
            every,
            last: std::sync::Mutex::new(Last {
                at: Instant::now(),
                standing: Standing::default(),
                said: false,
            }),
        }
    }

    pub(super) fn report(&self, progress: Progress) {
        let Ok(mut last) = self.last.lock() else { return };
        let standing = Standing::of(progress);
        if standing.stage != last.standing.stage {
            (last.at, last.standing) = (Instant::now(), standing);
        }
        let elapsed = last.at.elapsed();
        let rate = standing.done.saturating_sub(last.standing.done) as f64 / elapsed.as_secs_f64().max(0.001);
        self.feed
            .progress(standing.done, standing.total, rate as u64, standing.stage);
        if !last.said || elapsed >= self.every {
            let percent = (u128::from(standing.done) * 100).checked_div(u128::from(standing.total));
            let percent = percent.map(|p| format!(" ({p} %)")).unwrap_or_default();
            let (mut downloaded, mut written) = (String::new(), String::new());
            match standing.stage {
                "write" => written.clone_from(&percent),
                _ => downloaded.clone_from(&percent),
            }
            let line = match standing.stage {
                "verify" => format!("read back {} B{}", standing.done, percent),
                _ => format!(
                    "downloaded {} B{downloaded}, written {} B{written}",
                    progress.downloaded_bytes, progress.written_bytes
                ),
            };
            self.feed.line_if_room(line);
            *last = Last {
                at: Instant::now(),
                standing,
                said: true,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_bar_is_of_the_write_where_its_size_is_known() {
        let standing = |downloaded_bytes, download_bytes, written_bytes, image_bytes, read_back_bytes| {
            let of = Standing::of(Progress {
                downloaded_bytes,
                download_bytes,
                written_bytes,
                image_bytes,
                read_back_bytes,
            });
            (of.stage, of.done, of.total)
        };
        assert_eq!(standing(10, 10, 40, 90, 0), ("write", 40, 90));
        assert_eq!(standing(5, 10, 40, 0, 0), ("download", 5, 10));
        assert_eq!(standing(5, 0, 40, 0, 0), ("download", 5, 0));
        assert_eq!(standing(10, 10, 40, 0, 0), ("write", 40, 0));
        assert_eq!(standing(10, 10, 40, 0, 30), ("verify", 30, 40));
        assert_eq!(standing(10, 10, 90, 90, 30), ("verify", 30, 90));
    }

    #[test]
    fn only_any_takes_what_is_no_disk_image() {
        let check = |value: &str| {
            let variables = HashMap::from([("RAW".to_owned(), value.to_owned())]);
            content(&Environment::of(&variables))
        };
        assert_eq!(check(""), Ok(Content::Disk));
        assert_eq!(check("any"), Ok(Content::Any));
        for wrong in ["true", "ANY", "gpt"] {
            let failure = check(wrong).unwrap_err();
            assert!(failure.message.contains("RAW"), "{}", failure.message);
        }
    }

    #[test]
    fn a_write_goes_on_only_where_that_is_wanted_and_for_the_workflow_that_it_is_of() {
        let check = |value: &str, id: &str| {
            let variables = HashMap::from([("RESUME".to_owned(), value.to_owned())]);
            resume(&Environment::of(&variables), id)
        };
        assert_eq!(check("true", "0199"), Ok(Some("0199".to_owned())));
        assert_eq!(check("", "0199"), Ok(None));
        assert_eq!(check("false", "0199"), Ok(None));
        assert!(check("true", "").unwrap_err().message.contains("RESUME"));
    }

    #[test]
    fn only_read_back_reads_the_disk() {
        let check = |value: &str| {
            let variables = HashMap::from([("VERIFY".to_owned(), value.to_owned())]);
            verify(&Environment::of(&variables))
        };
        assert_eq!(check(""), Ok(Verify::Download));
        assert_eq!(check("read-back"), Ok(Verify::ReadBack));
        assert!(check("true").unwrap_err().message.contains("read-back"));
    }

    #[test]
    fn a_checksum_names_its_algorithm() {
        let check = |name: &str, value: &str| {
            let variables = HashMap::from([(name.to_owned(), value.to_owned())]);
            digest(&Environment::of(&variables))
        };
        assert_eq!(check("SHA256", "aa"), Ok(Some("aa".to_owned())));
        assert_eq!(check("CHECKSUM", "sha256:bb"), Ok(Some("bb".to_owned())));
        assert!(check("CHECKSUM", "md5:cc").is_err());
        assert_eq!(check("OTHER", "x"), Ok(None));
    }
}
