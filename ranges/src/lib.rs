//! Byte ranges and conditional requests: what boot files and images of containers are served by. Pure.
//!
//! Source: RFC 9110 sections 13 (conditions), 14 (ranges).

#![forbid(unsafe_code)]

use std::ops::Range;

use http::HeaderMap;
use http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};

/// What a GET is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 304: the client has it.
    NotModified,
    /// 206: this part.
    Part(Range<u64>),
    /// 416: there is no such part.
    Unsatisfiable,
    /// 200: all of it.
    Whole,
}

/// Decides how a GET is answered. A Range that is malformed, names several parts or another unit is ignored, as
/// RFC 9110 section 14.2 allows; If-Range needs the strong ETag, a date never matches.
pub fn decide(headers: &HeaderMap, etag: &str, size_bytes: u64) -> Reply {
    if not_modified(headers, etag) {
        return Reply::NotModified;
    }
    let Some(range) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Reply::Whole;
    };
    if let Some(condition) = headers.get(IF_RANGE)
        && condition.as_bytes() != etag.as_bytes()
    {
        return Reply::Whole;
    }
    part(range, size_bytes)
}

/// Whether If-None-Match names what there is (weak comparison, RFC 9110 section 13.1.2).
pub fn not_modified(headers: &HeaderMap, etag: &str) -> bool {
    let tags = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    tags.flat_map(|list| list.split(','))
        .map(|tag| tag.trim())
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn part(range: &str, size_bytes: u64) -> Reply {
    let Some((unit, spec)) = range.split_once('=') else {
        return Reply::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Reply::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Reply::Whole;
    }
    let (first, last) = match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => (first, size_bytes.saturating_sub(1)),
        (Some(first), Some(last)) if first <= last => (first, last.min(size_bytes.saturating_sub(1))),
        (None, Some(0)) if first.is_empty() => return Reply::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() => {
            (size_bytes.saturating_sub(suffix), size_bytes.saturating_sub(1))
        }
        _ => return Reply::Whole,
    };
    if first >= size_bytes {
        Reply::Unsatisfiable
    } else {
        Reply::Part(first..last + 1)
    }
}

/// Digits only; more than 64 bits' worth is as good as the largest number.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], want: Reply) {
        let headers = headers
            .iter()
            .map(|&(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        assert_eq!(decide(&headers.collect(), "\"abc\"", 1000), want);
    }

    #[test]
    fn single_ranges() {
        check(&[], Reply::Whole);
        check(&[("range", "bytes=0-99")], Reply::Part(0..100));
        check(&[("range", "bytes=990-")], Reply::Part(990..1000));
        check(&[("range", "bytes=-10")], Reply::Part(990..1000));
        check(&[("range", "bytes=-5000")], Reply::Part(0..1000));
        check(
            &[("range", "bytes=0-99999999999999999999999")],
            Reply::Part(0..1000),
        );
        check(&[("range", "bytes=1000-")], Reply::Unsatisfiable);
        check(&[("range", "bytes=-0")], Reply::Unsatisfiable);
    }

    #[test]
    fn what_is_no_single_range_is_ignored() {
        for range in [
            "bytes=0-1,5-6",
            "bytes=9-5",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "items=0-1",
            "0-1",
            "bytes=+1-2",
        ] {
            check(&[("range", range)], Reply::Whole);
        }
    }

    #[test]
    fn if_range_needs_the_same_strong_tag() {
        check(
            &[("range", "bytes=5-9"), ("if-range", "\"abc\"")],
            Reply::Part(5..10),
        );
        check(&[("range", "bytes=5-9"), ("if-range", "\"other\"")], Reply::Whole);
        check(&[("range", "bytes=5-9"), ("if-range", "W/\"abc\"")], Reply::Whole);
        check(
            &[
                ("range", "bytes=5-9"),
                ("if-range", "Sat, 29 Oct 1994 19:43:31 GMT"),
            ],
            Reply::Whole,
        );
    }

    #[test]
    fn if_none_match_comes_first() {
        check(
            &[("if-none-match", "\"x\", W/\"abc\""), ("range", "bytes=0-1")],
            Reply::NotModified,
        );
        check(&[("if-none-match", "*")], Reply::NotModified);
        check(&[("if-none-match", "\"x\"")], Reply::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_within_the_file(range in "bytes=[0-9]{0,22}-[0-9]{0,22}", size in any::<u64>()) {
            if let Reply::Part(part) = part(&range, size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }
    }
}
