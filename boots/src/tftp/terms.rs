//! What client and server agree on for one transfer.
//!
//! Source: RFC 2347 (negotiation), 2348 (blksize), 2349 (timeout, tsize), 7440 (windowsize).

use std::time::Duration;

use super::packet::Request;

/// The terms of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bytes per block.
    pub block_bytes: u16,
    /// Blocks per acknowledgement.
    pub window: u16,
    /// How long to wait for an acknowledgement at first.
    pub timeout: Duration,
    /// What the OACK says, in the client's order and spelling; empty: no OACK.
    pub accepted: Vec<(String, String)>,
    /// Whether the client asked for the size: it may only want that.
    pub size_asked: bool,
}

/// Blocks that fit in an Ethernet frame: larger ones would be fragments, which option ROMs do not reassemble.
pub const MAX_BLOCK_BYTES: u16 = 1468;
/// Clients fail above it (u-root caps itself at the same value), and it bounds what a request costs.
pub const MAX_WINDOW: u16 = 64;
const DEFAULT_BLOCK_BYTES: u16 = 512;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

impl Terms {
    /// Negotiates: unknown options and bad values are ignored, as if they had not been sent.
    pub fn negotiate(request: &Request, size_bytes: u64) -> Self {
        let mut terms = Self {
            block_bytes: DEFAULT_BLOCK_BYTES,
            window: 1,
            timeout: DEFAULT_TIMEOUT,
            accepted: Vec::new(),
            size_asked: false,
        };
        for (name, value) in &request.options {
            if terms
                .accepted
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                continue;
            }
            if let Some(answer) = terms.accept(&name.to_ascii_lowercase(), value, size_bytes) {
                terms.accepted.push((name.clone(), answer));
            }
        }
        terms
    }

    fn accept(&mut self, name: &str, value: &str, size_bytes: u64) -> Option<String> {
        match name {
            "blksize" => {
                let asked = within(value, 8, 65464)?;
                self.block_bytes = asked.min(MAX_BLOCK_BYTES);
                Some(self.block_bytes.to_string())
            }
            "timeout" => {
                let asked = within(value, 1, 255)?;
                self.timeout = Duration::from_secs(asked.into());
                Some(asked.to_string())
            }
            "tsize" => {
                self.size_asked = true;
                Some(size_bytes.to_string())
            }
            "windowsize" => {
                let asked = within(value, 1, 65535)?;
                self.window = asked.min(MAX_WINDOW);
                Some(self.window.to_string())
            }
            _ => None,
        }
    }
}

fn within(value: &str, least: u16, most: u16) -> Option<u16> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number: u16 = digits.then(|| value.parse().ok())??;
    (least..=most).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: &str, want: &str) -> Terms {
        let options = options
            .split_whitespace()
            .map(|pair| {
                pair.split_once('=')
                    .map(|(name, value)| (name.into(), value.into()))
                    .unwrap()
            })
            .collect();
        let request = Request {
            file: "f".into(),
            mode: "octet".into(),
            options,
        };
        let terms = Terms::negotiate(&request, 174_592);
        let oack: Vec<_> = terms
            .accepted
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(oack.join(" "), want);
        terms
    }

    #[test]
    fn no_options_no_oack() {
        let terms = check("", "");
        assert_eq!((terms.block_bytes, terms.window), (512, 1));
    }

    #[test]
    fn accepts_in_the_clients_order_and_spelling() {
        check(
            "tsize=0 BLKSIZE=1024 timeout=5 windowsize=8",
            "tsize=174592 BLKSIZE=1024 timeout=5 windowsize=8",
        );
    }

    #[test]
    fn clamps_what_would_cost_memory_or_fragments() {
        let terms = check("blksize=65464 windowsize=65535", "blksize=1468 windowsize=64");
        assert!(usize::from(terms.block_bytes) * usize::from(terms.window) < 100_000);
    }

    #[test]
    fn ignores_unknown_options_and_bad_values() {
        check("multicast=yes blksize=abc", "");
        check("blksize=7 windowsize=0 timeout=0", "");
        check("blksize=99999 timeout=256 windowsize=-1", "");
        check("blksize=+512 windowsize=\u{0661}", "");
    }

    #[test]
    fn the_first_of_two_counts() {
        check("blksize=512 blksize=1024", "blksize=512");
    }
}
