//! What may stand in an iPXE script.
//!
//! iPXE expands `${…}` anywhere in a line, splits at blanks, takes `||` and `&&` between words as operators and words
//! that begin with `#` as comments, and joins a line that ends in a backslash with the next one.
//!
//! Source: iPXE `src/core/exec.c`.

/// A value that cannot stand in a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {why}")]
pub struct ScriptError {
    /// What the value is: "kernel parameter".
    pub what: &'static str,
    pub value: String,
    pub why: &'static str,
}

/// One word.
///
/// # Errors
/// [`ScriptError`] where iPXE would not read it as one word and nothing else.
pub fn word<'a>(what: &'static str, value: &'a str) -> Result<&'a str, ScriptError> {
    let why = if value.is_empty() {
        "is empty"
    } else if value.contains("${") {
        "contains `${`, which iPXE would expand"
    } else if value.contains('\\') {
        "contains a backslash, which iPXE takes for the line's continuation"
    } else if value.contains(char::is_whitespace) {
        "contains a blank or a line break; give one word"
    } else if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        "contains control or non-ASCII characters"
    } else if value.starts_with('#') || value == "||" || value == "&&" {
        "is an operator of iPXE's scripts"
    } else {
        return Ok(value);
    };
    Err(ScriptError {
        what,
        value: value.to_owned(),
        why,
    })
}

/// Words separated by blanks; a line break is refused.
///
/// # Errors
/// As [`word`].
pub fn words(what: &'static str, value: &str) -> Result<Vec<String>, ScriptError> {
    if value.contains(char::is_control) {
        let why = "contains a line break or control character";
        return Err(ScriptError {
            what,
            value: value.to_owned(),
            why,
        });
    }
    value
        .split(' ')
        .filter(|part| !part.is_empty())
        .map(|part| Ok(word(what, part)?.to_owned()))
        .collect()
}

/// An `http`, `https` or `tftp` URL.
///
/// # Errors
/// As [`word`], and where it is no such URL.
pub fn url<'a>(what: &'static str, value: &'a str) -> Result<&'a str, ScriptError> {
    let refuse = |why| ScriptError {
        what,
        value: value.to_owned(),
        why,
    };
    let value = word(what, value)?;
    let parsed = url::Url::parse(value).map_err(|_| refuse("is not a URL"))?;
    match parsed.scheme() {
        "http" | "https" | "tftp" => Ok(value),
        _ => Err(refuse("is neither http, https nor tftp")),
    }
}

/// Free text for the console: anything that could mean something to iPXE is replaced.
pub fn text(value: &str) -> String {
    value
        .chars()
        .take(160)
        .map(|c| {
            if c.is_ascii_alphanumeric() || " .,:;()_/+=@-'".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}
