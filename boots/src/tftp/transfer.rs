//! One transfer, as a state machine: `(now, packet)` in, actions out. Never reads files, sockets or clocks.
//!
//! Blocks are counted from 1 in 64 bits here; on the wire they wrap from 65,535 to 0.
//!
//! Source: RFC 1350; RFC 2347 (OACK); RFC 7440 section 4 (windows); RFC 1123 section 4.2.3.1 (duplicate ACKs are
//! ignored, else one late packet doubles every later one: the Sorcerer's Apprentice).

use std::time::{Duration, Instant};

use super::packet::{self, Packet};
use super::terms::Terms;

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The transfer is over; nothing follows.
    End(End),
    /// Send the blocks `first..first + count`, each its share of the content.
    SendBlocks { first: u64, count: u64 },
    /// Send the option acknowledgement.
    SendOack,
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said why it stops (ERROR).
    Aborted { code: u16, message: String },
    /// The last block was acknowledged.
    Complete,
    /// Nothing was acknowledged for too long.
    Silent,
    /// The client wanted to know the size only, as PXE firmware does before it makes room.
    SizeOnly,
    /// Acknowledged too slowly for too long.
    TooSlow,
}

/// The sending side of one transfer.
#[derive(Debug)]
pub struct Transfer {
    terms: Terms,
    size_bytes: u64,
    phase: Phase,
    /// The last block acknowledged in order; 0: none.
    acknowledged: u64,
    /// The last block sent. INVARIANT: `acknowledged <= sent <= acknowledged + window`.
    sent: u64,
    /// Blocks of this window were sent again because of an ACK inside it.
    went_back: bool,
    deadline: Instant,
    retries: u32,
    ends_by: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Offering,
    Sending,
    Over,
}

impl Transfer {
    /// Starts sending `size_bytes` on `terms`.
    pub fn start(now: Instant, terms: Terms, size_bytes: u64) -> (Self, Vec<Action>) {
        let offering = !terms.accepted.is_empty();
        let mut transfer = Self {
            deadline: now + terms.timeout,
            ends_by: now + LONGEST,
            terms,
            size_bytes,
            phase: if offering { Phase::Offering } else { Phase::Sending },
            acknowledged: 0,
            sent: 0,
            went_back: false,
            retries: 0,
        };
        let first = if offering {
            Action::SendOack
        } else {
            transfer.next_window()
        };
        (transfer, vec![first])
    }

    /// Takes a datagram from the client. What is no packet, or none that matters now, changes nothing.
    pub fn on_packet(&mut self, now: Instant, bytes: &[u8]) -> Vec<Action> {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        match packet::parse(bytes) {
            Ok(Packet::Ack(block)) => self.on_ack(now, block),
            Ok(Packet::Error { code, message }) => {
                // EDK2 and others ask with tsize, then say "user aborted" (8) or 0 to the OACK, and ask again.
                let only_size = self.phase == Phase::Offering && self.terms.size_asked;
                self.end(if only_size {
                    End::SizeOnly
                } else {
                    End::Aborted { code, message }
                })
            }
            _ => Vec::new(),
        }
    }

    /// To be called when [`deadline`](Self::deadline) has passed: sends again, or gives up.
    pub fn on_deadline(&mut self, now: Instant) -> Vec<Action> {
        if self.phase == Phase::Over || now < self.deadline {
            return Vec::new();
        }
        if self.retries >= MAX_RETRIES {
            return self.end(End::Silent);
        }
        if now >= self.ends_by {
            return self.end(End::TooSlow);
        }
        self.retries += 1;
        self.went_back = false;
        self.deadline = now + self.patience();
        vec![if self.phase == Phase::Offering {
            Action::SendOack
        } else {
            self.next_window()
        }]
    }

    /// When to call [`on_deadline`](Self::on_deadline).
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Content bytes that the client has acknowledged.
    pub fn acknowledged_bytes(&self) -> u64 {
        (self.acknowledged * u64::from(self.terms.block_bytes)).min(self.size_bytes)
    }

    /// The terms of this transfer.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The bytes of the content that a block carries: start, length. The last one is short, and may be empty.
    pub fn span(&self, block: u64) -> (u64, usize) {
        let block_bytes = u64::from(self.terms.block_bytes);
        let start = block
            .saturating_sub(1)
            .saturating_mul(block_bytes)
            .min(self.size_bytes);
        let len_bytes = (self.size_bytes - start).min(block_bytes);
        (start, usize::try_from(len_bytes).unwrap_or(usize::MAX))
    }

    fn on_ack(&mut self, now: Instant, block: u16) -> Vec<Action> {
        if self.phase == Phase::Offering {
            if block != 0 {
                return Vec::new();
            }
            self.phase = Phase::Sending;
            self.progress(now);
            return vec![self.next_window()];
        }
        let ahead = u64::from(block.wrapping_sub(wire_number(self.acknowledged)));
        if ahead == 0 || ahead > self.sent - self.acknowledged {
            return Vec::new();
        }
        self.acknowledged += ahead;
        if self.acknowledged == self.last_block() {
            return self.end(End::Complete);
        }
        if now >= self.ends_by {
            return self.end(End::TooSlow);
        }
        self.progress(now);
        let inside_the_window = self.acknowledged < self.sent;
        if inside_the_window && self.went_back {
            return self.beyond();
        }
        self.went_back = inside_the_window;
        vec![self.next_window()]
    }

    /// What the window holds that was not sent yet.
    ///
    /// An ACK inside the window says that the block after it was lost, or that a block came twice. Going back on every
    /// such ACK would send everything twice from the first duplicate on, since what is resent in vain is acknowledged
    /// inside the window again: the Sorcerer's Apprentice of RFC 1123 section 4.2.3.1, with windows. So a window is
    /// gone back on once; a second loss in it is the timer's.
    fn beyond(&mut self) -> Vec<Action> {
        let first = self.sent + 1;
        let last = (self.acknowledged + u64::from(self.terms.window)).min(self.last_block());
        if last < first {
            return Vec::new();
        }
        self.sent = last;
        let count = last + 1 - first;
        vec![Action::SendBlocks { first, count }]
    }

    /// Goes on after the last block acknowledged in order: what was sent beyond it was lost (go-back-N).
    fn next_window(&mut self) -> Action {
        let first = self.acknowledged + 1;
        let last = (self.acknowledged + u64::from(self.terms.window)).min(self.last_block());
        self.sent = last;
        Action::SendBlocks {
            first,
            count: last + 1 - first,
        }
    }

    fn last_block(&self) -> u64 {
        self.size_bytes / u64::from(self.terms.block_bytes) + 1
    }

    fn progress(&mut self, now: Instant) {
        self.retries = 0;
        self.deadline = now + self.terms.timeout;
    }

    fn patience(&self) -> Duration {
        (self.terms.timeout * 2u32.saturating_pow(self.retries.min(3)))
            .min(LONGEST_WAIT.max(self.terms.timeout))
    }

    fn end(&mut self, end: End) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::End(end)]
    }
}

/// A block's number on the wire: wraps from 65,535 to 0.
pub fn wire_number(block: u64) -> u16 {
    (block & 0xffff) as u16
}

/// With 1 s to begin with: 1 + 2 + 4 + 8 + 8 + 8 = 31 s without an acknowledgement.
const MAX_RETRIES: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// No boot loader takes this long; a client that trickles on holds a socket.
const LONGEST: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::packet::Request;

    fn begin(options: &[(&str, &str)], size_bytes: u64) -> (Transfer, Vec<Action>, Instant) {
        let options = options
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect();
        let request = Request {
            file: "f".into(),
            mode: "octet".into(),
            options,
        };
        let now = Instant::now();
        let (transfer, actions) = Transfer::start(now, Terms::negotiate(&request, size_bytes), size_bytes);
        (transfer, actions, now)
    }

    fn ack(block: u16) -> Vec<u8> {
        [&[0, 4][..], &block.to_be_bytes()].concat()
    }

    fn blocks(first: u64, count: u64) -> Vec<Action> {
        vec![Action::SendBlocks { first, count }]
    }

    #[test]
    fn sends_block_one_at_once_without_options() {
        let (mut transfer, actions, now) = begin(&[], 1024);
        assert_eq!(actions, blocks(1, 1));
        assert_eq!(transfer.on_packet(now, &ack(1)), blocks(2, 1));
        assert_eq!(transfer.on_packet(now, &ack(2)), blocks(3, 1));
        assert_eq!(
            transfer.span(3),
            (1024, 0),
            "a multiple of the block size ends with an empty block"
        );
        assert_eq!(transfer.on_packet(now, &ack(3)), [Action::End(End::Complete)]);
        assert_eq!(transfer.acknowledged_bytes(), 1024);
        assert_eq!(transfer.on_packet(now, &ack(3)), []);
    }

    #[test]
    fn waits_for_the_acknowledgement_of_its_options() {
        let (mut transfer, actions, now) = begin(&[("windowsize", "4")], 10_000);
        assert_eq!(actions, [Action::SendOack]);
        assert_eq!(transfer.on_packet(now, &ack(7)), []);
        assert_eq!(transfer.on_packet(now, &ack(0)), blocks(1, 4));
    }

    #[test]
    fn goes_back_to_the_last_block_in_order() {
        let (mut transfer, _, now) = begin(&[("windowsize", "4")], 10_000);
        transfer.on_packet(now, &ack(0));
        assert_eq!(transfer.on_packet(now, &ack(2)), blocks(3, 4));
    }

    #[test]
    fn ignores_duplicate_and_impossible_acks() {
        let (mut transfer, _, now) = begin(&[], 10_000);
        assert_eq!(transfer.on_packet(now, &ack(1)), blocks(2, 1));
        assert_eq!(transfer.on_packet(now, &ack(1)), []);
        assert_eq!(transfer.on_packet(now, &ack(0)), []);
        assert_eq!(transfer.on_packet(now, &ack(3)), []);
        assert_eq!(transfer.on_packet(now, b"garbage"), []);
    }

    #[test]
    fn sends_again_with_growing_patience_then_gives_up() {
        let (mut transfer, _, start) = begin(&[], 10_000);
        let mut now = start;
        for wait_s in [1, 2, 4, 8, 8] {
            now += Duration::from_secs(wait_s);
            assert_eq!(transfer.on_deadline(now - Duration::from_millis(1)), []);
            assert_eq!(transfer.on_deadline(now), blocks(1, 1));
        }
        now += Duration::from_secs(8);
        assert_eq!(transfer.on_deadline(now), [Action::End(End::Silent)]);
    }

    #[test]
    fn block_numbers_wrap_to_zero() {
        let (mut transfer, _, now) = begin(&[("blksize", "8"), ("windowsize", "64")], 8 * 70_000);
        let mut actions = transfer.on_packet(now, &ack(0));
        let mut last = 0;
        while let [Action::SendBlocks { first, count }] = actions[..] {
            last = first + count - 1;
            actions = transfer.on_packet(now, &ack(wire_number(last)));
        }
        assert_eq!(actions, [Action::End(End::Complete)]);
        assert_eq!(last, 70_001);
    }

    #[test]
    fn a_client_that_only_wants_the_size_is_no_failure() {
        let (mut transfer, _, now) = begin(&[("tsize", "0")], 10_000);
        assert_eq!(
            transfer.on_packet(now, b"\0\x05\0\x08stop\0"),
            [Action::End(End::SizeOnly)]
        );
    }

    #[test]
    fn a_client_that_aborts_ends_the_transfer() {
        let (mut transfer, _, now) = begin(&[], 10_000);
        transfer.on_packet(now, &ack(1));
        let end = End::Aborted {
            code: 3,
            message: "disk full".into(),
        };
        assert_eq!(
            transfer.on_packet(now, b"\0\x05\0\x03disk full\0"),
            [Action::End(end)]
        );
        assert_eq!(transfer.acknowledged_bytes(), 512);
    }

    #[test]
    fn a_client_that_trickles_is_cut_off() {
        let (mut transfer, _, start) = begin(&[], u64::MAX / 2);
        let mut now = start;
        let mut block = 0u16;
        let ended = (0..2000).any(|_| {
            now += Duration::from_millis(999);
            block = block.wrapping_add(1);
            transfer.on_packet(now, &ack(block)) == [Action::End(End::TooSlow)]
        });
        assert!(ended);
    }
}
