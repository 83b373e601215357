//! An expression's text as words.

use super::ExpressionProblem;

/// A word and the bytes of the source that it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub at: usize,
    pub end: usize,
    pub kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Name(String),
    /// As written, without the sign; the suffix `u` is in `unsigned`.
    Whole {
        text: String,
        unsigned: bool,
    },
    Fraction(String),
    Text(String),
    /// `(`, `&&`, ...
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "(", ")", "[", "]", "{", "}", ".", ",", ":", "?", "!", "<", ">", "+",
    "-", "*", "/", "%", "=",
];

/// The words of a source, and [`TokenKind::End`] behind them.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, ExpressionProblem> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = source.get(at..).unwrap_or_default();
        let Some(first) = rest.chars().next() else {
            tokens.push(Token {
                at,
                end: at,
                kind: TokenKind::End,
            });
            return Ok(tokens);
        };
        if first.is_ascii_whitespace() || first == '\u{b}' {
            at += 1;
            continue;
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (kind, length) = token(rest, at)?;
        tokens.push(Token {
            at,
            end: at + length,
            kind,
        });
        at += length;
    }
}

fn token(rest: &str, at: usize) -> Result<(TokenKind, usize), ExpressionProblem> {
    let bytes = rest.as_bytes();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let problem = |message: String| {
        Err(ExpressionProblem {
            offset: at,
            message,
            missing: None,
        })
    };
    match byte(0) {
        b'\'' | b'"' => return text(rest, at, false).map(|(text, length)| (TokenKind::Text(text), length)),
        b'r' | b'R' if matches!(byte(1), b'\'' | b'"') => {
            let (text, length) = text(&rest[1..], at, true)?;
            return Ok((TokenKind::Text(text), length + 1));
        }
        b'b' | b'B'
            if matches!(byte(1), b'\'' | b'"')
                || (matches!(byte(1), b'r' | b'R') && matches!(byte(2), b'\'' | b'"')) =>
        {
            return problem("there are no bytes here: leave the b before the quote out".into());
        }
        b'0'..=b'9' => return Ok(number(rest)),
        b'.' if byte(1).is_ascii_digit() => return Ok(number(rest)),
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
            let length = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            return Ok((TokenKind::Name(rest[..length].to_owned()), length));
        }
        b'&' if byte(1) != b'&' => return problem("a single &: \"and\" is &&".into()),
        b'|' if byte(1) != b'|' => return problem("a single |: \"or\" is ||".into()),
        b'=' if byte(1) != b'=' => return problem("a single =: equality is ==".into()),
        _ => {}
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((TokenKind::Sign(sign), sign.len())),
        None => {
            let first = rest.chars().next().unwrap_or_default();
            problem(format!("{first:?} means nothing here: texts stand in quotes"))
        }
    }
}

fn number(rest: &str) -> (TokenKind, usize) {
    let bytes = rest.as_bytes();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let digits_from = |mut index: usize| {
        while byte(index).is_ascii_digit() {
            index += 1;
        }
        index
    };
    let mut end;
    if byte(0) == b'0' && matches!(byte(1), b'x' | b'X') && byte(2).is_ascii_hexdigit() {
        end = 2;
        while byte(end).is_ascii_hexdigit() {
            end += 1;
        }
    } else {
        let whole = digits_from(0);
        end = whole;
        if byte(end) == b'.' && byte(end + 1).is_ascii_digit() {
            end = digits_from(end + 1);
        }
        if matches!(byte(end), b'e' | b'E') {
            let sign = usize::from(matches!(byte(end + 1), b'+' | b'-'));
            if byte(end + 1 + sign).is_ascii_digit() {
                end = digits_from(end + 1 + sign);
            }
        }
        if end > whole {
            return (TokenKind::Fraction(rest[..end].to_owned()), end);
        }
    }
    let unsigned = matches!(byte(end), b'u' | b'U');
    let text = rest[..end].to_owned();
    (TokenKind::Whole { text, unsigned }, end + usize::from(unsigned))
}

/// A text in quotes at the beginning of `rest`, and the bytes that it takes up.
fn text(rest: &str, at: usize, raw: bool) -> Result<(String, usize), ExpressionProblem> {
    let mut quotes = rest.chars().next().map(String::from).unwrap_or_default();
    if rest.starts_with(&quotes.repeat(3)) {
        quotes = quotes.repeat(3);
    }
    let mut inside = String::new();
    let mut index = quotes.len();
    loop {
        let left = rest.get(index..).unwrap_or_default();
        if left.starts_with(&quotes) {
            return Ok((inside, index + quotes.len()));
        }
        let one_line = quotes.len() == 1 && left.starts_with(['\n', '\r']);
        let Some(c) = left.chars().next().filter(|_| !one_line) else {
            return Err(ExpressionProblem {
                missing: None,
                offset: at,
                message: format!("this text has no {quotes} at its end"),
            });
        };
        if c == '\\' && !raw {
            let (escaped, length) = escape(left).ok_or_else(|| ExpressionProblem {
                missing: None,
                offset: at + index,
                message: format!(
                    "{} is no escape: a backslash in a text is \\\\",
                    left.chars().take(2).collect::<String>()
                ),
            })?;
            inside.push(escaped);
            index += length;
        } else {
            inside.push(c);
            index += c.len_utf8();
        }
    }
}

/// What an escape stands for, and its length.
fn escape(text: &str) -> Option<(char, usize)> {
    let kind = text.chars().nth(1)?;
    let plain = match kind {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '\'' | '"' | '`' | '?' => kind,
        'x' | 'X' => return coded(text.get(2..4)?, 16, 4),
        'u' => return coded(text.get(2..6)?, 16, 6),
        'U' => return coded(text.get(2..10)?, 16, 10),
        '0'..='3' => return coded(text.get(1..4)?, 8, 4),
        _ => return None,
    };
    Some((plain, 2))
}

fn coded(digits: &str, radix: u32, length: usize) -> Option<(char, usize)> {
    digits
        .chars()
        .all(|digit| digit.is_digit(radix))
        .then(|| u32::from_str_radix(digits, radix).ok())
        .flatten()
        .and_then(char::from_u32)
        .map(|code| (code, length))
}
