//! What a workflow's machine is busy with, as a bar that moves while a person waits.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use proto::v1::{ActionProgress, WatchProgressRequest};

use crate::client::Client;
use crate::terminal::{is_shown_to_a_person, safe_line};

const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Shows the progress of a workflow's actions on stderr, where that is a terminal, until it is dropped. It never ends
/// by itself: progress is for the eye, and a wait goes on without it.
pub(crate) async fn show(client: &Client, id: &str) -> Infallible {
    if is_shown_to_a_person() {
        loop {
            let mut control = client.control.clone();
            let request = WatchProgressRequest { id: id.to_owned() };
            if let Ok(answer) = control.watch_progress(request).await {
                let mut stream = answer.into_inner();
                let mut shown = Shown::default();
                while let Ok(Some(progress)) = stream.message().await {
                    shown.update(&progress);
                }
            }
            // The server is away, or the workflow has ended and who waits hears of it.
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
    pending().await
}

/// The bar of the attempt that runs; taken from the terminal when it is dropped.
#[derive(Default)]
struct Shown {
    bar: Option<(String, ProgressBar)>,
}

impl Shown {
    fn update(&mut self, progress: &ActionProgress) {
        let same = self
            .bar
            .as_ref()
            .is_some_and(|(attempt, _)| *attempt == progress.attempt_id);
        if !same {
            self.clear();
        }
        let (_, bar) = self
            .bar
            .get_or_insert_with(|| (progress.attempt_id.clone(), ProgressBar::no_length()));
        bar.set_style(style(progress.total_bytes > 0));
        if progress.total_bytes > 0 {
            bar.set_length(progress.total_bytes);
        }
        bar.set_message(heading(progress));
        bar.set_position(progress.done_bytes);
        bar.tick();
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `install/write-image download`.
fn heading(progress: &ActionProgress) -> String {
    let ActionProgress {
        task, action, stage, ..
    } = progress;
    safe_line(format!("{task}/{action} {stage}").trim_end())
}

fn style(has_total: bool) -> ProgressStyle {
    let template = match has_total {
        true => "{msg}  [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}",
        false => "{msg}  {bytes} {bytes_per_sec}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
