//! What YAML takes a scalar for.

use serde_json::Value;

/// The core schema's null (YAML 1.2, section 10.3.2).
pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A plain scalar by the core schema. Modes and serial numbers stay text: `0644` is octal in YAML 1.1 and decimal in 1.2,
/// `1_000` is a number in 1.1 only; so do numbers that JSON has not, and those that it would round.
pub(crate) fn resolve(text: &str) -> Value {
    if is_null(text) {
        return Value::Null;
    }
    match text {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let is_number = digits.bytes().all(|byte| char::from(byte).is_digit(radix));
            return is_number
                .then(|| u64::from_str_radix(digits, radix).ok())?
                .map(Value::from);
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 1 && unsigned.starts_with('0') {
        return None;
    }
    if digits == unsigned.len() && digits > 0 {
        let text = text.strip_prefix('+').unwrap_or(text);
        return text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<u64>().map(Value::from))
            .ok();
    }
    // `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        ),
        None => (unsigned, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_float = all_digits(whole)
        && all_digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent.is_none_or(|digits| !digits.is_empty() && all_digits(digits));
    // An infinite one has no form in JSON.
    is_float
        .then(|| text.parse::<f64>().ok())?
        .and_then(serde_json::Number::from_f64)
        .map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_are_what_the_core_schema_says_but_for_what_is_ambiguous() {
        for (text, want) in [
            ("", Value::Null),
            ("Null", Value::Null),
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("yes", json!("yes")),
            ("n", json!("n")),
            ("0", json!(0)),
            ("-3", json!(-3)),
            ("+5", json!(5)),
            ("18446744073709551615", json!(u64::MAX)),
            ("99999999999999999999", json!("99999999999999999999")),
            ("0644", json!("0644")),
            ("1_000", json!("1_000")),
            ("0x1F", json!(31)),
            ("0x", json!("0x")),
            ("0xZ", json!("0xZ")),
            ("0o17", json!(15)),
            ("1.50", json!(1.5)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("1e3", json!(1000.0)),
            ("1e999", json!("1e999")),
            (".inf", json!(".inf")),
            (".nan", json!(".nan")),
            (".", json!(".")),
            ("-", json!("-")),
            ("1e", json!("1e")),
            ("e1", json!("e1")),
            ("12:30:00", json!("12:30:00")),
            ("08:00:27:00:00:01", json!("08:00:27:00:00:01")),
            ("10.77.0.11", json!("10.77.0.11")),
            ("٣", json!("٣")),
        ] {
            assert_eq!(resolve(text), want, "{text}");
        }
    }
}
