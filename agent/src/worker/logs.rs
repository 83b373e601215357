//! Lines of the running action that the server has not got yet, up to a bound. Pure.

use std::borrow::Cow;
use std::collections::VecDeque;

use proto::v1::LogLines;

/// Lines kept while there is no stream.
const MAX_LINES: usize = 2_000;
/// Bytes kept while there is no stream.
const MAX_BYTES: usize = 1 << 20;
/// A longer line is cut; whoever prints more without an end of line prints no text.
const MAX_LINE_BYTES: usize = 4 << 10;
/// Messages kept of earlier attempts.
const MAX_SEALED: usize = 16;
/// Lines in one message.
const MAX_BATCH: usize = 200;

/// Keeps the newest lines; what falls out is counted and said.
#[derive(Debug, Default)]
pub(super) struct LogBuffer {
    /// What earlier attempts left unsent, and what has to be sent again.
    sealed: VecDeque<LogLines>,
    /// What went into the present stream last: it may be lost with it.
    sent: VecDeque<LogLines>,
    attempt_id: String,
    next_number: u64,
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl LogBuffer {
    /// Starts the lines of another attempt; those of the one before that are sent first, up to a bound.
    pub(super) fn begin(&mut self, attempt_id: &str) {
        let mut sealed = VecDeque::new();
        while let Some(batch) = self.unsent() {
            sealed.push_back(batch);
        }
        sealed.truncate(MAX_SEALED);
        *self = LogBuffer {
            sealed,
            attempt_id: attempt_id.to_owned(),
            ..LogBuffer::default()
        };
    }

    /// Takes a line; the credentials of URLs in it stay here.
    pub(super) fn push(&mut self, mut line: String) {
        // Before it is cut: half a URL is not known for one.
        if let Cow::Owned(clean) = redaction::redacted(&line) {
            line = clean;
        }
        if line.len() > MAX_LINE_BYTES {
            let mut end = MAX_LINE_BYTES;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            line.push('…');
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        self.next_number += 1;
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
            self.dropped += 1;
        }
    }

    /// A new stream: what went into the last one is sent again; the server knows lines by their numbers.
    pub(super) fn rewind(&mut self) {
        while let Some(batch) = self.sent.pop_back() {
            self.sealed.push_front(batch);
        }
    }

    /// The next message; `None` when there is nothing to send.
    pub(super) fn take(&mut self) -> Option<LogLines> {
        let batch = self.unsent()?;
        self.sent.push_back(batch.clone());
        if self.sent.len() > MAX_SEALED {
            self.sent.pop_front();
        }
        Some(batch)
    }

    fn unsent(&mut self) -> Option<LogLines> {
        if let Some(sealed) = self.sealed.pop_front() {
            return Some(sealed);
        }
        if self.lines.is_empty() {
            return None;
        }
        let first_line = self.next_number - self.lines.len() as u64;
        let lines: Vec<String> = self.lines.drain(..self.lines.len().min(MAX_BATCH)).collect();
        self.bytes -= lines.iter().map(String::len).sum::<usize>();
        let dropped = std::mem::take(&mut self.dropped);
        Some(LogLines {
            attempt_id: self.attempt_id.clone(),
            first_line,
            lines,
            dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_over_what_was_dropped() {
        let mut logs = LogBuffer::default();
        logs.begin("a");
        for n in 0..MAX_LINES + 5 {
            logs.push(n.to_string());
        }
        let first = logs.take().expect("lines");
        assert_eq!(
            (first.first_line, first.dropped, first.lines[0].as_str()),
            (5, 5, "5")
        );
        let second = logs.take().expect("lines");
        assert_eq!((second.first_line, second.dropped), (5 + MAX_BATCH as u64, 0));
    }

    #[test]
    fn what_an_attempt_left_unsent_goes_before_the_next_ones_lines() {
        let mut logs = LogBuffer::default();
        logs.begin("a");
        logs.push("one".to_owned());
        logs.begin("b");
        logs.push("two".to_owned());
        let sent: Vec<LogLines> = std::iter::from_fn(|| logs.take()).collect();
        assert_eq!(
            (sent[0].attempt_id.as_str(), sent[1].attempt_id.as_str()),
            ("a", "b")
        );
        assert_eq!((sent[0].first_line, sent[1].first_line), (0, 0));
    }

    #[test]
    fn what_went_into_a_lost_stream_is_sent_again_first() {
        let mut logs = LogBuffer::default();
        logs.begin("a");
        logs.push("one".to_owned());
        let first = logs.take();
        logs.push("two".to_owned());
        logs.rewind();
        assert_eq!(logs.take(), first);
        assert_eq!(logs.take().expect("lines").first_line, 1);
        assert_eq!(logs.take(), None);
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut logs = LogBuffer::default();
        logs.push("ä".repeat(MAX_LINE_BYTES));
        assert!(logs.take().expect("line").lines[0].len() <= MAX_LINE_BYTES + 3);
    }
}
