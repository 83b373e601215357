//! Ranges and conditions of HTTP requests, as header lines: a part lies within the file.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use boots::tftp::name::{Wanted, wanted};
use ranges::{Reply, decide, not_modified};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let mut headers = HeaderMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim().as_bytes())) {
            headers.append(name, value);
        }
    }
    for size in [0, 1, 1000, u64::MAX] {
        match decide(&headers, "\"abc\"", size) {
            Reply::Part(part) => assert!(part.start < part.end && part.end <= size, "{part:?} of {size}"),
            reply => assert_eq!(reply == Reply::NotModified, not_modified(&headers, "\"abc\"")),
        }
    }
    // Names of files are asked for by TFTP and by HTTP.
    if let Wanted::Loader(name) = wanted(text) {
        assert!(!name.contains(['/', '\\']));
    }
}
