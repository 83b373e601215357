//! Text: sprig's "String Functions" and "String List Functions".

use gotmpl::{TemplateError, Value};
use regex::Regex;

use super::arguments::{Arguments, as_text, list, string};
use super::bounds::MAX_TEXT_BYTES;
use super::{Answer, Entry};

/// Bytes of a compiled expression: bounds what `a{1000}{1000}` may take.
const MAX_REGEX_BYTES: usize = 256 * 1024;

pub(super) const TABLE: &[Entry] = &[
    ("trim", |a| map1(a, |text| text.trim().to_owned())),
    ("trimAll", |a| {
        map2(a, |cut, text| text.trim_matches(any_of(cut)).to_owned())
    }),
    ("trimSuffix", |a| {
        map2(a, |end, text| text.strip_suffix(end).unwrap_or(text).to_owned())
    }),
    ("trimPrefix", |a| {
        map2(a, |start, text| {
            text.strip_prefix(start).unwrap_or(text).to_owned()
        })
    }),
    ("trimall", |a| {
        map2(a, |cut, text| text.trim_matches(any_of(cut)).to_owned())
    }),
    ("upper", |a| map1(a, str::to_uppercase)),
    ("lower", |a| map1(a, str::to_lowercase)),
    ("title", |a| map1(a, title)),
    ("untitle", |a| map1(a, untitle)),
    ("nospace", |a| {
        map1(a, |text| text.chars().filter(|c| !c.is_whitespace()).collect())
    }),
    ("replace", replace),
    ("contains", |a| test2(a, |part, text| text.contains(part))),
    ("hasPrefix", |a| test2(a, |start, text| text.starts_with(start))),
    ("hasSuffix", |a| test2(a, |end, text| text.ends_with(end))),
    ("quote", |a| string(joined(a, quoted))),
    ("squote", |a| string(joined(a, |text| format!("'{text}'")))),
    ("cat", |a| string(joined(a, str::to_owned))),
    ("indent", |a| indent(a, "")),
    ("nindent", |a| indent(a, "\n")),
    ("substr", substr),
    ("trunc", trunc),
    ("repeat", repeat),
    ("split", split),
    ("splitList", split_list),
    ("join", join),
    ("regexMatch", |a| {
        regex2(a, |regex, text| Value::Bool(regex.is_match(text)))
    }),
    ("mustRegexMatch", |a| {
        regex2(a, |regex, text| Value::Bool(regex.is_match(text)))
    }),
    ("regexFind", |a| {
        regex2(a, |regex, text| {
            Value::String(regex.find(text).map_or("", |m| m.as_str()).into())
        })
    }),
    ("regexReplaceAll", regex_replace_all),
    ("regexFindAll", regex_find_all),
    ("mustRegexFindAll", regex_find_all),
    ("mustRegexFind", |a| {
        regex2(a, |regex, text| {
            Value::String(regex.find(text).map_or("", |m| m.as_str()).into())
        })
    }),
    ("mustRegexReplaceAll", regex_replace_all),
    ("regexReplaceAllLiteral", regex_replace_literal),
    ("mustRegexReplaceAllLiteral", regex_replace_literal),
    ("regexSplit", regex_split),
    ("mustRegexSplit", regex_split),
    ("regexQuoteMeta", |a| map1(a, quote_meta)),
    ("initials", |a| map1(a, initials)),
    ("swapcase", |a| map1(a, swapcase)),
    ("abbrev", abbrev),
    ("splitn", split_n),
    ("plural", plural),
    ("toString", |a| string(as_text(&a.exactly::<1>()?[0]))),
    ("toStrings", |a| {
        list(
            a.list(&a.exactly::<1>()?[0])?
                .iter()
                .map(|v| Value::String(as_text(v).into()))
                .collect(),
        )
    }),
];

fn map1(arguments: &Arguments<'_>, change: impl Fn(&str) -> String) -> Answer {
    let [text] = arguments.exactly()?;
    string(change(arguments.text(text)?))
}

fn map2(arguments: &Arguments<'_>, change: impl Fn(&str, &str) -> String) -> Answer {
    let [how, text] = arguments.exactly()?;
    string(change(arguments.text(how)?, arguments.text(text)?))
}

fn test2(arguments: &Arguments<'_>, test: impl Fn(&str, &str) -> bool) -> Answer {
    let [how, text] = arguments.exactly()?;
    Ok(Value::Bool(test(arguments.text(how)?, arguments.text(text)?)))
}

fn any_of(cut: &str) -> impl Fn(char) -> bool + '_ {
    |c| cut.contains(c)
}

fn title(text: &str) -> String {
    let mut starts = true;
    text.chars()
        .flat_map(|c| {
            let changed: Vec<char> = if starts {
                c.to_uppercase().collect()
            } else {
                vec![c]
            };
            starts = !(c.is_alphanumeric() || c == '_' || c == '\'');
            changed
        })
        .collect()
}

fn untitle(text: &str) -> String {
    let mut starts = true;
    text.chars()
        .flat_map(|c| {
            let changed: Vec<char> = if starts {
                c.to_lowercase().collect()
            } else {
                vec![c]
            };
            starts = c.is_whitespace();
            changed
        })
        .collect()
}

fn replace(arguments: &Arguments<'_>) -> Answer {
    let [old, new, text] = arguments.exactly()?;
    let (old, new, text) = (arguments.text(old)?, arguments.text(new)?, arguments.text(text)?);
    bounded(
        arguments,
        text.len().saturating_add(1).saturating_mul(new.len()) / old.len().max(1),
    )?;
    string(text.replace(old, new))
}

/// What is not nil, joined with spaces.
fn joined(arguments: &Arguments<'_>, change: impl Fn(&str) -> String) -> String {
    let texts = arguments
        .values
        .iter()
        .filter(|value| !matches!(value, Value::Nil))
        .map(as_text);
    texts.map(|text| change(&text)).collect::<Vec<_>>().join(" ")
}

fn indent(arguments: &Arguments<'_>, before: &str) -> Answer {
    let [spaces, text] = arguments.exactly()?;
    let (spaces, text) = (arguments.size(spaces)?, arguments.text(text)?);
    let lines = text.matches('\n').count() + 1;
    bounded(arguments, spaces.saturating_mul(lines))?;
    let pad = " ".repeat(spaces);
    string(format!(
        "{before}{pad}{}",
        text.replace('\n', &format!("\n{pad}"))
    ))
}

/// `substr start end text`, in characters; a negative end is the text's.
fn substr(arguments: &Arguments<'_>) -> Answer {
    let [start, end, text] = arguments.exactly()?;
    let (start, end, text) = (arguments.int(start)?, arguments.int(end)?, arguments.text(text)?);
    let start = usize::try_from(start).unwrap_or(0);
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    string(
        text.chars()
            .skip(start)
            .take(end.saturating_sub(start))
            .collect::<String>(),
    )
}

/// `trunc 5 text` is its first 5 characters, `trunc -5 text` its last.
fn trunc(arguments: &Arguments<'_>) -> Answer {
    let [count, text] = arguments.exactly()?;
    let (count, text) = (arguments.int(count)?, arguments.text(text)?);
    let kept = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let skipped = if count < 0 {
        text.chars().count().saturating_sub(kept)
    } else {
        0
    };
    string(text.chars().skip(skipped).take(kept).collect::<String>())
}

fn repeat(arguments: &Arguments<'_>) -> Answer {
    let [count, text] = arguments.exactly()?;
    let (count, text) = (arguments.size(count)?, arguments.text(text)?);
    bounded(arguments, count.saturating_mul(text.len().max(1)))?;
    string(text.repeat(count))
}

fn bounded(arguments: &Arguments<'_>, bytes: usize) -> Result<(), TemplateError> {
    if bytes > MAX_TEXT_BYTES {
        return Err(arguments.error(format!("would give more than {MAX_TEXT_BYTES} B")));
    }
    Ok(())
}

/// A dict with keys `_0`, `_1` ...
fn split(arguments: &Arguments<'_>) -> Answer {
    let [separator, text] = arguments.exactly()?;
    let parts = pieces(arguments.text(separator)?, arguments.text(text)?);
    let keyed = parts
        .into_iter()
        .enumerate()
        .map(|(at, part)| (format!("_{at}").into(), Value::String(part.into())));
    Ok(Value::Map(std::sync::Arc::new(keyed.collect())))
}

fn split_list(arguments: &Arguments<'_>) -> Answer {
    let [separator, text] = arguments.exactly()?;
    let parts = pieces(arguments.text(separator)?, arguments.text(text)?);
    list(parts.into_iter().map(|part| Value::String(part.into())).collect())
}

/// As Go's `strings.Split`: an empty separator splits into characters.
fn pieces(separator: &str, text: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(String::from).collect()
}

fn join(arguments: &Arguments<'_>) -> Answer {
    let [separator, values] = arguments.exactly()?;
    let separator = arguments.text(separator)?;
    let texts: Vec<String> = match values {
        Value::List(values) => values
            .iter()
            .filter(|value| !matches!(value, Value::Nil))
            .map(as_text)
            .collect(),
        other => vec![as_text(other)],
    };
    bounded(arguments, separator.len().saturating_mul(texts.len()))?;
    string(texts.join(separator))
}

fn regex2(arguments: &Arguments<'_>, use_it: impl Fn(&Regex, &str) -> Value) -> Answer {
    let [pattern, text] = arguments.exactly()?;
    Ok(use_it(&compiled(arguments, pattern)?, arguments.text(text)?))
}

fn regex_replace_all(arguments: &Arguments<'_>) -> Answer {
    let [pattern, text, replacement] = arguments.exactly()?;
    let (regex, text, replacement) = (
        compiled(arguments, pattern)?,
        arguments.text(text)?,
        arguments.text(replacement)?,
    );
    bounded(
        arguments,
        text.len()
            .saturating_add(1)
            .saturating_mul(replacement.len().max(1)),
    )?;
    string(regex.replace_all(text, replacement).into_owned())
}

fn compiled(arguments: &Arguments<'_>, pattern: &Value) -> Result<Regex, TemplateError> {
    let pattern = arguments.text(pattern)?;
    regex::RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or("bad expression");
            arguments.error(format!("{pattern:?}: {}", last.trim_start_matches("error: ")))
        })
}

/// As Go's `%q`, which YAML reads too.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\'' | ' '..='~' => quoted.push(letter),
            _ if letter.is_ascii() => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ if is_printable(letter) => quoted.push(letter),
            _ if u32::from(letter) < 0x10000 => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(letter))),
        }
    }
    quoted.push('"');
    quoted
}

/// Beyond ASCII, as far as the library's tables tell: no control, no separator, nothing that is not assigned.
fn is_printable(letter: char) -> bool {
    !letter.is_whitespace() && !letter.escape_debug().to_string().starts_with("\\u") || is_mark(letter)
}

/// Combining marks, which are printed with what is before them.
fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20f0}' | '\u{fe00}'..='\u{fe0f}')
}

/// `regexFindAll "[0-9]" "1a2" -1`: at most so many, all for a number below 0.
fn regex_find_all(arguments: &Arguments<'_>) -> Answer {
    let [pattern, text, most] = arguments.exactly()?;
    let (regex, text) = (compiled(arguments, pattern)?, arguments.text(text)?);
    let found = regex.find_iter(text).take(most_of(arguments, most)?);
    list(found.map(|found| Value::String(found.as_str().into())).collect())
}

/// `regexSplit "z+" "pizza" -1`: at most so many pieces, all for a number below 0.
fn regex_split(arguments: &Arguments<'_>) -> Answer {
    let [pattern, text, most] = arguments.exactly()?;
    let (regex, text) = (compiled(arguments, pattern)?, arguments.text(text)?);
    let pieces: Vec<&str> = match most_of(arguments, most)? {
        0 => Vec::new(),
        most => regex.splitn(text, most).collect(),
    };
    list(
        pieces
            .into_iter()
            .map(|piece| Value::String(piece.into()))
            .collect(),
    )
}

fn most_of(arguments: &Arguments<'_>, most: &Value) -> Result<usize, TemplateError> {
    Ok(usize::try_from(arguments.int(most)?).unwrap_or(usize::MAX))
}

fn regex_replace_literal(arguments: &Arguments<'_>) -> Answer {
    let [pattern, text, replacement] = arguments.exactly()?;
    let (regex, text, replacement) = (
        compiled(arguments, pattern)?,
        arguments.text(text)?,
        arguments.text(replacement)?,
    );
    bounded(
        arguments,
        text.len()
            .saturating_add(1)
            .saturating_mul(replacement.len().max(1)),
    )?;
    string(regex.replace_all(text, regex::NoExpand(replacement)).into_owned())
}

/// As Go's `regexp.QuoteMeta`.
fn quote_meta(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() * 2);
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

fn initials(text: &str) -> String {
    text.split_whitespace()
        .filter_map(|word| word.chars().next())
        .collect()
}

/// Upper case to lower, lower to upper.
fn swapcase(text: &str) -> String {
    let swapped = |letter: char| -> String {
        match letter {
            letter if letter.is_uppercase() => letter.to_lowercase().collect(),
            letter => letter.to_uppercase().collect(),
        }
    };
    text.chars().map(swapped).collect()
}

/// `abbrev 5 "hello world"` is `he...`; a width below 4 changes nothing.
fn abbrev(arguments: &Arguments<'_>) -> Answer {
    let [width, text] = arguments.exactly()?;
    let (width, text) = (arguments.int(width)?, arguments.text(text)?);
    let width = usize::try_from(width).unwrap_or(0);
    if width < 4 || text.chars().count() <= width {
        return string(text);
    }
    let kept: String = text.chars().take(width - 3).collect();
    string(format!("{kept}..."))
}

/// `splitn "$" 2 "foo$bar$baz"`: a dict with keys `_0`, `_1` ..., the last with what is left.
fn split_n(arguments: &Arguments<'_>) -> Answer {
    let [separator, most, text] = arguments.exactly()?;
    let (separator, text) = (arguments.text(separator)?, arguments.text(text)?);
    let most = most_of(arguments, most)?;
    if separator.is_empty() {
        return Err(arguments.error("wants a separator, got \"\""));
    }
    let parts = text.splitn(most, separator).enumerate();
    let keyed = parts.map(|(at, part)| (format!("_{at}").into(), Value::String(part.into())));
    Ok(Value::Map(std::sync::Arc::new(keyed.collect())))
}

fn plural(arguments: &Arguments<'_>) -> Answer {
    let [one, many, count] = arguments.exactly()?;
    let chosen = if arguments.int(count)? == 1 { one } else { many };
    Ok(chosen.clone())
}
