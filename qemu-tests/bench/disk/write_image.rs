//! `write_image URL TARGET [SHA256 [read-back]]`: writes an image with a progress line, then prints one line of JSON.

use std::io::Write;
use std::time::{Duration, Instant};

use disk::image::{self, Content, Progress, Verify, WriteRequest};
use tokio_util::sync::CancellationToken;
use url::Url;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (url, target, sha256) = match args.as_slice() {
        [url, target] => (url, target, None),
        [url, target, sha256, ..] => (url, target, Some(sha256.clone())),
        _ => {
            eprintln!("usage: write_image URL TARGET [SHA256 [read-back]]");
            return std::process::ExitCode::from(2);
        }
    };
    let read_back = args.get(3).is_some_and(|word| word == "read-back");
    let url = match Url::parse(url) {
        Ok(url) => url,
        Err(err) => {
            eprintln!("{url}: {err}");
            return std::process::ExitCode::from(2);
        }
    };
    let mut request = WriteRequest::new(url, target);
    request.sha256 = sha256;
    if read_back {
        request.verify = Verify::ReadBack;
    }
    // A bench's bytes are no disk's.
    request.content = Content::Any;
    let begin = Instant::now();
    let result = image::write(
        &request,
        move |progress| show(progress, begin.elapsed()),
        CancellationToken::new(),
    )
    .await;
    eprintln!();
    match result {
        Ok(written) => {
            let report = serde_json::json!({
                "wall_s": begin.elapsed().as_secs_f64(),
                "bytes": written.image_bytes,
                "downloaded_bytes": written.downloaded_bytes,
                "read_back_bytes": written.read_back_bytes,
                "skipped_bytes": written.skipped_bytes,
                "resumes": written.resumes,
                "verified": written.verified,
                "sha256": written.sha256,
                "warnings": written.warnings,
            });
            println!("{report}");
            std::process::ExitCode::SUCCESS
        }
        Err(err) => {
            eprintln!("{}: {err}", err.reason());
            std::process::ExitCode::FAILURE
        }
    }
}

fn show(progress: Progress, elapsed: Duration) {
    let mib = |bytes: u64| bytes >> 20;
    let rate = progress.written_bytes as f64 / elapsed.as_secs_f64().max(0.001) / f64::from(1 << 20);
    let of = if progress.download_bytes > 0 {
        format!(" of {}", mib(progress.download_bytes))
    } else {
        String::new()
    };
    eprint!(
        "\rdownloaded {}{of} MiB, written {} MiB, {rate:.0} MiB/s ",
        mib(progress.downloaded_bytes),
        mib(progress.written_bytes),
    );
    // A progress line that is not shown does no harm.
    let _ = std::io::stderr().flush();
}
