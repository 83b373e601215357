//! The file named by `$FARRIER_OUTPUT`: what an action gives, or why it failed in its own words.

use std::io::{ErrorKind, Read};
use std::path::Path;

use redaction::Secrets;
use serde_json::{Map, Value};

use super::Failure;
use crate::data::tree;

/// Bytes of the file.
pub(super) const MAX_BYTES: u64 = 256 << 10;
/// Characters of an action's own reason.
const MAX_REASON: usize = 64;

/// The object in the file, as it was written; `None` where there is no file, or nothing in it.
///
/// # Errors
/// `BadOutput`: too long, not JSON, no object.
pub(super) fn outputs(folder: &Path, name: &str) -> Result<Option<String>, Failure> {
    let Some(text) = read(folder, name)? else {
        return Ok(None);
    };
    object(&text)?;
    Ok(Some(text))
}

/// The object without the values of secrets; as it was written, where it has none.
pub(super) fn hidden(json: String, secrets: &Secrets) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(&json) else {
        return json;
    };
    let before = value.clone();
    secrets.hide_in(&mut value);
    match value == before {
        true => json,
        false => value.to_string(),
    }
}

/// The failure with the reason and the message that the action wrote, where it wrote them.
pub(super) fn explained(failure: Failure, folder: &Path, name: &str) -> Failure {
    let written = read(folder, name).and_then(|text| text.map(|text| object(&text)).transpose());
    let Ok(Some(object)) = written else {
        return failure;
    };
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::trim);
    Failure {
        reason: text("reason")
            .filter(|reason| is_word(reason))
            .map_or(failure.reason, str::to_owned),
        message: text("message")
            .filter(|message| !message.is_empty())
            .map_or(failure.message, str::to_owned),
        exit_code: failure.exit_code,
    }
}

fn is_word(reason: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=MAX_REASON).contains(&reason.len()) && reason.chars().all(fits)
}

fn read(folder: &Path, name: &str) -> Result<Option<String>, Failure> {
    let unreadable = |why: String| bad(&format!("cannot be read: {why}"));
    let file = match tree::open_regular(folder, Path::new(name)) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(e.to_string())),
    };
    let size = file.metadata().map_err(|e| unreadable(e.to_string()))?.len();
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(e.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        let size = size.max(bytes.len() as u64);
        return Err(bad(&format!(
            "has {size} B; at most {MAX_BYTES} B are kept: put what is larger into /workflow"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|e| bad(&format!("is not UTF-8: {e}")))?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

fn object(text: &str) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "a list",
                Value::Bool(_) => "true or false",
                Value::Null => "null",
                Value::Number(_) => "a number",
                Value::String(_) | Value::Object(_) => "a text",
            };
            Err(bad(&format!(
                "holds {kind}, and has to hold one JSON object such as {{\"name\": \"value\"}}"
            )))
        }
        Err(e) => Err(bad(&format!("is not one JSON object: {e}"))),
    }
}

fn bad(what: &str) -> Failure {
    Failure::new(
        "BadOutput",
        format!(
            "the action succeeded, but its outputs are of no use: the file named by $FARRIER_OUTPUT {what}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("output"), bytes).expect("written");
        folder
    }

    fn outputs_of(bytes: &[u8]) -> Result<Option<String>, Failure> {
        outputs(written(bytes).path(), "output")
    }

    #[test]
    fn an_object_is_given_as_it_was_written() {
        let text = "{\"b\": 1.0, \"a\": {\"x\": [1, null]}}\n";
        assert_eq!(outputs_of(text.as_bytes()), Ok(Some(text.to_owned())));
    }

    #[test]
    fn an_object_has_no_secrets_however_it_is_written() {
        let secrets = Secrets::new(["hunter22"]);
        let text = "{\"b\": 1.0}\n".to_owned();
        assert_eq!(hidden(text.clone(), &secrets), text);
        assert_eq!(hidden(String::new(), &secrets), "");
        let text = r#"{"a": ["x\u0068unter22"], "hunter22": 1}"#;
        assert_eq!(hidden(text.to_owned(), &secrets), r#"{"a":["x***"],"***":1}"#);
    }

    #[test]
    fn no_file_and_an_empty_one_are_no_outputs() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(outputs(folder.path(), "output"), Ok(None));
        assert_eq!(outputs_of(b" \n"), Ok(None));
    }

    #[track_caller]
    fn check_bad(bytes: &[u8], words: &str) {
        let failure = outputs_of(bytes).expect_err("bad");
        assert_eq!(failure.reason, "BadOutput");
        assert!(failure.message.contains(words), "{}", failure.message);
    }

    #[test]
    fn what_is_no_object_is_named() {
        check_bad(b"[1]", "holds a list");
        check_bad(b"\"x\"", "holds a text");
        check_bad(b"name=value", "is not one JSON object: expected");
        check_bad(b"{} {}", "is not one JSON object: trailing characters");
        check_bad(b"{\"a\": \"\xff\"}", "is not UTF-8");
        check_bad("[".repeat(100_000).as_bytes(), "recursion limit");
    }

    #[test]
    fn the_size_has_a_bound_exactly() {
        let object = |length: u64| format!("{{\"a\":\"{}\"}}", "x".repeat(length as usize - 8)).into_bytes();
        assert_eq!(object(MAX_BYTES).len() as u64, MAX_BYTES);
        assert!(outputs_of(&object(MAX_BYTES)).is_ok());
        check_bad(&object(MAX_BYTES + 1), "has 262145 B; at most 262144 B");
    }

    #[test]
    fn a_link_or_a_pipe_in_its_place_is_not_followed_or_waited_for() {
        let folder = tempfile::tempdir().expect("folder");
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("output")).expect("link");
        assert_eq!(
            outputs(folder.path(), "output").expect_err("a link").reason,
            "BadOutput"
        );
        nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
        assert_eq!(
            outputs(folder.path(), "pipe").expect_err("a pipe").reason,
            "BadOutput"
        );
    }

    #[test]
    fn a_failure_may_speak_for_itself() {
        let ours = || Failure {
            reason: "ExitCode".to_owned(),
            message: "the command exited with code 3".to_owned(),
            exit_code: 3,
        };
        let explained = |text: &str| {
            let failure = explained(ours(), written(text.as_bytes()).path(), "output");
            assert_eq!(failure.exit_code, 3);
            (failure.reason, failure.message)
        };
        let pair = |reason: &str, message: &str| (reason.to_owned(), message.to_owned());
        assert_eq!(
            explained(r#"{"reason": "NoLicence", "message": "buy one"}"#),
            pair("NoLicence", "buy one")
        );
        assert_eq!(
            explained(r#"{"reason": "NoLicence"}"#),
            pair("NoLicence", &ours().message)
        );
        // A reason is a word: programs match it.
        for text in [
            r#"{"reason": "no licence"}"#,
            r#"{"reason": 7}"#,
            r#"{"count": 7}"#,
            "oh no",
            "",
        ] {
            assert_eq!(explained(text), pair("ExitCode", &ours().message), "{text}");
        }
    }
}
