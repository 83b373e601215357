//! The userinfo in front of a URL's host (RFC 3986 section 3.2.1).

use crate::HIDDEN;

/// Schemes whose URLs parsers take with any number of slashes, of either kind (WHATWG URL, "special").
const FORGIVEN: [&str; 5] = ["ftp", "http", "https", "ws", "wss"];

/// No userinfo is longer; a bound on what is looked through for each URL.
const MAX_BYTES: usize = 16 << 10;

/// `word` without the userinfo of any URL in it.
pub(crate) fn hidden(word: &str) -> String {
    if let Some(at) = bare(word) {
        return format!("{HIDDEN}{}", &word[at..]);
    }
    let mut shown = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(begin) = begin(rest) {
        let (before, after) = rest.split_at(begin);
        shown.push_str(before);
        // What follows the next `://` is another URL's.
        let near = (MAX_BYTES..)
            .find_map(|end| after.get(..end.min(after.len())))
            .unwrap_or(after);
        let end = near.find("://").unwrap_or(near.len());
        match userinfo(&near[..end]) {
            0 => rest = after,
            length => {
                shown.push_str(HIDDEN);
                rest = &after[length..];
            }
        }
    }
    shown.push_str(rest);
    shown
}

/// `user:password@host:port`, as a proxy is written without a scheme: where its `@` is.
fn bare(word: &str) -> Option<usize> {
    let at = word.rfind('@')?;
    let (userinfo, host) = (&word[..at], &word[at + 1..]);
    let host = host.trim_end_matches(['/', ',', '.', ';', ')', '\'']);
    let (name, port) = host.rsplit_once(':')?;
    let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':')
        });
    let (user, _) = userinfo.split_once(':')?;
    // `https:` with no slash behind it is a scheme, which the other way of reading finds.
    let is_plain = !is_forgiven(user) && !userinfo.contains(['/', '=', '?', '\\', ',']);
    (is_port && is_name && is_plain).then_some(at)
}

/// Where the first authority of `word` begins; never at its very start.
fn begin(word: &str) -> Option<usize> {
    let slash = |letter: char| letter == '/' || letter == '\\';
    let mut from = 0;
    while let Some(found) = word[from..].find([':', '/', '=']) {
        let at = from + found;
        let after = &word[at + 1..];
        let length = after.len() - after.trim_start_matches(slash).len();
        let begin = match word.as_bytes()[at] {
            b':' if length >= 2 => Some(at + 1 + length),
            b':' if is_forgiven(&word[..at]) => Some(at + 1 + length),
            b'=' if is_proxy(&word[..at]) => Some(at + 1 + length),
            // `//host`, without a scheme: only where a text begins it, as paths have double slashes too.
            b'/' if length >= 1 && opens(&word[..at]) => Some(at + 1 + length),
            _ => None,
        };
        match begin {
            Some(begin) => return Some(begin),
            None => from = at + 1,
        }
    }
    None
}

fn is_forgiven(before: &str) -> bool {
    let from = before
        .rfind(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '+' | '-' | '.'))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    FORGIVEN
        .iter()
        .any(|scheme| before[from..].eq_ignore_ascii_case(scheme))
}

/// `http_proxy`, `--proxy`: their values need no scheme.
fn is_proxy(before: &str) -> bool {
    let word = before.as_bytes();
    word.len() >= 5 && word[word.len() - 5..].eq_ignore_ascii_case(b"proxy")
}

fn opens(before: &str) -> bool {
    before
        .chars()
        .next_back()
        .is_none_or(|letter| matches!(letter, '(' | '\'' | '=' | ',' | '[' | '{' | ':'))
}

/// Bytes of the userinfo at the start of `rest`; 0 where there is none.
fn userinfo(rest: &str) -> usize {
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = &rest[..end];
    if let Some(at) = authority.rfind('@') {
        return at;
    }
    // A password with a `/`, `?` or `#` in it as it is: what stands behind the colon is no port then.
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match authority.split_once(':') {
        Some((host, port)) if !host.is_empty() && !host.starts_with('[') && !is_port(port) => {
            rest.rfind('@').unwrap_or(0)
        }
        _ => 0,
    }
}
