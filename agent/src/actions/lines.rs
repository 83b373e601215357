//! What an action prints, cut into lines and passed on as they come; the newest are kept for its message.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use redaction::Secrets;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use super::process::Printed;
use super::{Feed, Told};

/// Output that daemons outside the group still hold open is not waited for longer.
const DRAIN: Duration = Duration::from_secs(1);
/// A line without an end is passed on in pieces of this size.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Quoted in the failure's message.
const LAST_LINES: usize = 10;

/// Cuts what an action prints into lines and passes them on as they come. Lines of one stream keep their order.
pub(super) struct Lines {
    streams: VecDeque<Stream>,
    feed: Feed,
    last: VecDeque<String>,
}

struct Stream {
    output: Receiver,
    partial: Vec<u8>,
    has_ended: bool,
}

impl Lines {
    pub(super) fn of(outputs: impl IntoIterator<Item = Receiver>, feed: &Feed) -> Lines {
        let streams = outputs.into_iter().map(|output| Stream {
            output,
            partial: Vec::new(),
            has_ended: false,
        });
        Lines {
            streams: streams.collect(),
            feed: feed.clone(),
            last: VecDeque::new(),
        }
    }

    /// Returns at the end of the output. Cancel safe: what was read and not passed on is kept.
    pub(super) async fn pass_on(&mut self) {
        loop {
            for stream in &mut self.streams {
                while let Some((line, length)) = next_line(&stream.partial, self.feed.secrets()) {
                    // The wait for room comes first: what follows cannot be cancelled.
                    let Some(room) = self.feed.room().await else {
                        return;
                    };
                    let text = self.feed.secrets().hidden(&printed(line)).into_owned();
                    self.last.push_back(text.chars().take(300).collect());
                    if self.last.len() > LAST_LINES {
                        self.last.pop_front();
                    }
                    stream.partial.drain(..length);
                    room.send(Told::Line(text));
                }
            }
            if self.streams.iter().all(|stream| stream.has_ended) {
                return;
            }
            poll_fn(|context| self.poll_read(context)).await;
        }
    }

    /// Reads from a stream that has something. Who was read goes behind the others.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0_u8; 8192];
        for _ in 0..self.streams.len() {
            self.streams.rotate_left(1);
            let Some(stream) = self.streams.back_mut().filter(|stream| !stream.has_ended) else {
                continue;
            };
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut stream.output).poll_read(context, &mut read) {
                Poll::Pending => continue,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    stream.partial.extend_from_slice(read.filled())
                }
                Poll::Ready(_) => stream.has_ended = true,
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Passes on what is still there of an action that has ended, a last line without an end too.
    pub(super) async fn end(mut self) -> Printed {
        let _ = timeout(DRAIN, self.pass_on()).await;
        for stream in self
            .streams
            .iter_mut()
            .filter(|stream| !stream.partial.is_empty())
        {
            stream.partial.push(b'\n');
        }
        let _ = timeout(DRAIN, self.pass_on()).await;
        Printed::of(self.last)
    }
}

/// The next whole line, and how many bytes it takes with its end. A piece of a long one ends in the middle of no secret;
/// where all of it may be one, there is more to come.
fn next_line<'p>(partial: &'p [u8], secrets: &Secrets) -> Option<(&'p [u8], usize)> {
    match partial.iter().position(|b| *b == b'\n') {
        Some(end) => Some((partial.get(..end)?, end + 1)),
        None if partial.len() >= MAX_LINE_BYTES => {
            let whole = secrets.whole(partial);
            (whole > 0).then_some((partial.get(..whole)?, whole))
        }
        None => None,
    }
}

/// A progress bar overwrites its line: what stands there in the end counts.
fn printed(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    text.rsplit('\r').next().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_at_line_ends_and_at_a_bound() {
        let none = Secrets::default();
        assert_eq!(next_line(b"a\nb", &none), Some((&b"a"[..], 2)));
        assert_eq!(next_line(b"b", &none), None);
        let long = vec![b'x'; MAX_LINE_BYTES];
        let length = |text, secrets| next_line(text, secrets).map(|(_, length)| length);
        assert_eq!(length(&long, &none), Some(MAX_LINE_BYTES));
        let secrets = Secrets::new(["hunter22".to_owned(), "x".repeat(2 * MAX_LINE_BYTES)]);
        assert_eq!(length(&long, &secrets), None);
        let split = [&vec![b'y'; MAX_LINE_BYTES - 4][..], b"hunt"].concat();
        assert_eq!(length(&split, &secrets), Some(MAX_LINE_BYTES - 4));
    }

    #[test]
    fn of_a_progress_bar_its_last_state_is_kept() {
        assert_eq!(printed(b"10%\r50%\r100%\r"), "100%");
        assert_eq!(printed(b"bad \xff byte\r"), "bad \u{fffd} byte");
    }
}
