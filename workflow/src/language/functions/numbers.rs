//! Numbers: sprig's "Integer Math", "Float Math" and conversions.

use gotmpl::{TemplateError, Value};

use super::arguments::{Arguments, as_text};
use super::{Answer, Entry};

pub(super) const TABLE: &[Entry] = &[
    ("add", |a| fold(a, i64::checked_add)),
    ("add1", |a| int(a, one(a)?.checked_add(1))),
    ("sub", |a| two(a, i64::checked_sub)),
    ("mul", |a| fold(a, i64::checked_mul)),
    ("div", |a| two(a, i64::checked_div)),
    ("mod", |a| two(a, i64::checked_rem)),
    ("max", |a| fold(a, |left, right| Some(left.max(right)))),
    ("min", |a| fold(a, |left, right| Some(left.min(right)))),
    ("biggest", |a| fold(a, |left, right| Some(left.max(right)))),
    ("ceil", |a| {
        Ok(Value::Float(a.float(&a.exactly::<1>()?[0])?.ceil()))
    }),
    ("floor", |a| {
        Ok(Value::Float(a.float(&a.exactly::<1>()?[0])?.floor()))
    }),
    ("round", round),
    ("atoi", |a| {
        Ok(Value::Int(as_text(&a.exactly::<1>()?[0]).parse().unwrap_or(0)))
    }),
    ("int", |a| Ok(Value::Int(one(a)?))),
    ("int64", |a| Ok(Value::Int(one(a)?))),
    ("float64", |a| Ok(Value::Float(a.float(&a.exactly::<1>()?[0])?))),
    ("toDecimal", to_decimal),
    ("add1f", |a| {
        Ok(Value::Float(a.float(&a.exactly::<1>()?[0])? + 1.0))
    }),
    ("addf", |a| floats(a, |sum, more| sum + more)),
    ("subf", |a| floats(a, |left, right| left - right)),
    ("mulf", |a| floats(a, |left, right| left * right)),
    ("divf", |a| floats(a, |left, right| left / right)),
    ("maxf", |a| floats(a, f64::max)),
    ("minf", |a| floats(a, f64::min)),
];

fn one(arguments: &Arguments<'_>) -> Result<i64, TemplateError> {
    let [value] = arguments.exactly()?;
    arguments.int(value)
}

fn int(arguments: &Arguments<'_>, number: Option<i64>) -> Answer {
    number
        .map(Value::Int)
        .ok_or_else(|| arguments.error("the result is no number of 64 bits"))
}

fn two(arguments: &Arguments<'_>, operation: impl Fn(i64, i64) -> Option<i64>) -> Answer {
    let [left, right] = arguments.exactly()?;
    int(arguments, operation(arguments.int(left)?, arguments.int(right)?))
}

fn fold(arguments: &Arguments<'_>, operation: impl Fn(i64, i64) -> Option<i64>) -> Answer {
    let (first, rest) = arguments.first_and_rest()?;
    let mut result = Some(arguments.int(first)?);
    for value in rest {
        let number = arguments.int(value)?;
        result = result.and_then(|result| operation(result, number));
    }
    int(arguments, result)
}

fn floats(arguments: &Arguments<'_>, operation: impl Fn(f64, f64) -> f64) -> Answer {
    let (first, rest) = arguments.first_and_rest()?;
    let mut result = arguments.float(first)?;
    for value in rest {
        result = operation(result, arguments.float(value)?);
    }
    if !result.is_finite() {
        return Err(arguments.error("the result is no number"));
    }
    Ok(Value::Float(result))
}

/// `round 123.5555 3`: half away from zero.
fn round(arguments: &Arguments<'_>) -> Answer {
    let [number, places] = arguments.exactly()?;
    let scale = 10_f64.powi(i32::try_from(arguments.int(places)?.clamp(-300, 300)).unwrap_or(0));
    Ok(Value::Float((arguments.float(number)? * scale).round() / scale))
}

/// Octal text to a number: `toDecimal "0644"`.
fn to_decimal(arguments: &Arguments<'_>) -> Answer {
    let [value] = arguments.exactly()?;
    Ok(Value::Int(i64::from_str_radix(&as_text(value), 8).unwrap_or(0)))
}
