//! TFTP requests and whole conversations: no input may panic, and no block lies outside the file.
//!
//! The first byte says how long the request is; what follows it are the client's packets, each with its length before it.

use std::time::{Duration, Instant};

use boots::tftp::packet::{self, Packet};
use boots::tftp::terms::{MAX_BLOCK_BYTES, MAX_WINDOW, Terms};
use boots::tftp::transfer::{Action, Transfer};

const SIZE_BYTES: u64 = 3_000_000;

pub(crate) fn run(bytes: &[u8]) {
    let _ = packet::parse(bytes);
    let Some((request, mut rest)) = split(bytes) else {
        return;
    };
    let Ok(Packet::Read(request)) = packet::parse(request) else {
        return;
    };
    let terms = Terms::negotiate(&request, SIZE_BYTES);
    assert!((8..=MAX_BLOCK_BYTES).contains(&terms.block_bytes) && (1..=MAX_WINDOW).contains(&terms.window));
    let mut now = Instant::now();
    let (mut transfer, actions) = Transfer::start(now, terms, SIZE_BYTES);
    check(&transfer, &actions);
    while let Some((packet, after)) = split(rest) {
        rest = after;
        let actions = match packet {
            [] => {
                now = transfer.deadline();
                transfer.on_deadline(now)
            }
            packet => {
                now += Duration::from_millis(packet.len() as u64);
                transfer.on_packet(now, packet)
            }
        };
        check(&transfer, &actions);
    }
}

fn check(transfer: &Transfer, actions: &[Action]) {
    for action in actions {
        if let Action::SendBlocks { first, count } = action {
            assert!(*first >= 1 && (1..=u64::from(MAX_WINDOW)).contains(count));
            for block in *first..first + count {
                let (start, len_bytes) = transfer.span(block);
                assert!(start + len_bytes as u64 <= SIZE_BYTES);
            }
        }
    }
    assert!(transfer.acknowledged_bytes() <= SIZE_BYTES);
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    Some(rest.split_at(rest.len().min(len.into())))
}
