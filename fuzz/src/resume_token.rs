//! Tokens that listeners come back with: one that is read is written as it was, and a refusal is short.

use coordinator::order::ResumeToken;

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    match text.parse::<ResumeToken>() {
        Ok(token) => assert_eq!(token.to_string(), text),
        Err(why) => assert!(why.to_string().len() < 1_000),
    }
}
