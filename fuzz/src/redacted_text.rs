//! Any text that is shown: hiding credentials twice is hiding them once, and what stands before an `@` is gone.

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let shown = redaction::redacted(text);
    assert_eq!(redaction::redacted(&shown), shown, "of {text:?}");
    let _ = redaction::redacted_url(text);
    // A secret of letters in the simplest place.
    let secret: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    if secret.len() >= 12 {
        let url = format!("get https://user:{secret}@host/path now");
        assert!(!redaction::redacted(&url).contains(&secret), "{url}");
    }
}
