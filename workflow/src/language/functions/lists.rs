//! Lists: sprig's "Lists and List Functions".

use gotmpl::Value;

use super::arguments::{Arguments, as_text, list};
use super::bounds::MAX_ITEMS;
use super::{Answer, Entry};

pub(super) const TABLE: &[Entry] = &[
    ("list", |a| list(a.values.to_vec())),
    ("tuple", |a| list(a.values.to_vec())),
    ("first", |a| Ok(one(a)?.first().cloned().unwrap_or(Value::Nil))),
    ("last", |a| Ok(one(a)?.last().cloned().unwrap_or(Value::Nil))),
    ("rest", |a| list(one(a)?.iter().skip(1).cloned().collect())),
    ("initial", |a| {
        list(one(a)?.split_last().map_or(&[][..], |(_, rest)| rest).to_vec())
    }),
    ("append", |a| with_item(a, |items, item| items.push(item))),
    ("push", |a| with_item(a, |items, item| items.push(item))),
    ("prepend", |a| with_item(a, |items, item| items.insert(0, item))),
    ("concat", concat),
    ("uniq", uniq),
    ("without", without),
    ("compact", |a| {
        list(one(a)?.iter().filter(|item| a.is_true(item)).cloned().collect())
    }),
    ("has", has),
    ("reverse", |a| list(one(a)?.iter().rev().cloned().collect())),
    ("sortAlpha", sort_alpha),
    ("chunk", chunk),
    ("mustChunk", chunk),
    ("mustFirst", |a| {
        Ok(one(a)?.first().cloned().unwrap_or(Value::Nil))
    }),
    ("mustLast", |a| Ok(one(a)?.last().cloned().unwrap_or(Value::Nil))),
    ("mustRest", |a| list(one(a)?.iter().skip(1).cloned().collect())),
    ("mustInitial", |a| {
        list(one(a)?.split_last().map_or(&[][..], |(_, rest)| rest).to_vec())
    }),
    ("mustAppend", |a| with_item(a, |items, item| items.push(item))),
    ("mustPush", |a| with_item(a, |items, item| items.push(item))),
    ("mustPrepend", |a| {
        with_item(a, |items, item| items.insert(0, item))
    }),
    ("mustUniq", uniq),
    ("mustWithout", without),
    ("mustCompact", |a| {
        list(one(a)?.iter().filter(|item| a.is_true(item)).cloned().collect())
    }),
    ("mustHas", has),
    ("mustReverse", |a| list(one(a)?.iter().rev().cloned().collect())),
    ("until", until),
    ("untilStep", until_step),
    ("seq", seq),
];

fn one<'a>(arguments: &Arguments<'a>) -> Result<&'a [Value], gotmpl::TemplateError> {
    let [only] = arguments.exactly()?;
    arguments.list(only)
}

fn with_item(arguments: &Arguments<'_>, change: impl Fn(&mut Vec<Value>, Value)) -> Answer {
    let [items, item] = arguments.exactly()?;
    let mut items = arguments.list(items)?.to_vec();
    change(&mut items, item.clone());
    list(items)
}

fn concat(arguments: &Arguments<'_>) -> Answer {
    let mut all = Vec::new();
    for items in arguments.values {
        all.extend_from_slice(arguments.list(items)?);
    }
    list(all)
}

fn uniq(arguments: &Arguments<'_>) -> Answer {
    let items = one(arguments)?;
    few_enough(arguments, items)?;
    let whole = all_whole(arguments, items)?;
    let is_first = |(index, item): &(usize, &Value)| !whole[..*index].contains(item);
    let first = whole.iter().enumerate().filter(is_first);
    list(first.map(|(index, _)| items[index].clone()).collect())
}

fn without(arguments: &Arguments<'_>) -> Answer {
    let (items, unwanted) = arguments.first_and_rest()?;
    let items = arguments.list(items)?;
    few_enough(arguments, items)?;
    few_enough(arguments, unwanted)?;
    let (whole, unwanted) = (all_whole(arguments, items)?, all_whole(arguments, unwanted)?);
    let wanted = items
        .iter()
        .zip(&whole)
        .filter(|(_, whole)| !unwanted.contains(whole));
    list(wanted.map(|(item, _)| item.clone()).collect())
}

/// Dicts are equal when what is in them is.
fn all_whole(arguments: &Arguments<'_>, items: &[Value]) -> Result<Vec<Value>, gotmpl::TemplateError> {
    items.iter().map(|item| arguments.dicts.whole(item)).collect()
}

/// `chunk 3 list`: lists of three, and what is left.
fn chunk(arguments: &Arguments<'_>) -> Answer {
    let [size, items] = arguments.exactly()?;
    let size = arguments.size(size)?;
    if size == 0 {
        return Err(arguments.error("wants a size of at least 1, got 0"));
    }
    let chunks = arguments.list(items)?.chunks(size);
    list(chunks.map(|chunk| Value::List(chunk.into())).collect())
}

/// These compare everything with everything.
fn few_enough(arguments: &Arguments<'_>, items: &[Value]) -> Result<(), gotmpl::TemplateError> {
    const MAX_COMPARED: usize = 1000;
    if items.len() > MAX_COMPARED {
        return Err(arguments.error(format!("wants at most {MAX_COMPARED} items, got {}", items.len())));
    }
    Ok(())
}

fn has(arguments: &Arguments<'_>) -> Answer {
    let [item, items] = arguments.exactly()?;
    Ok(Value::Bool(arguments.list(items)?.contains(item)))
}

fn sort_alpha(arguments: &Arguments<'_>) -> Answer {
    let mut texts: Vec<String> = one(arguments)?.iter().map(as_text).collect();
    texts.sort();
    list(texts.into_iter().map(|text| Value::String(text.into())).collect())
}

/// `until 3` is 0, 1, 2; `until -3` is 0, -1, -2.
fn until(arguments: &Arguments<'_>) -> Answer {
    let [stop] = arguments.exactly()?;
    let stop = arguments.int(stop)?;
    list(count(arguments, 0, stop, if stop < 0 { -1 } else { 1 })?)
}

fn until_step(arguments: &Arguments<'_>) -> Answer {
    let [start, stop, step] = arguments.exactly()?;
    list(count(
        arguments,
        arguments.int(start)?,
        arguments.int(stop)?,
        arguments.int(step)?,
    )?)
}

/// As the shell's `seq`, ends included: `seq LAST`, `seq FIRST LAST`, `seq FIRST STEP LAST`; a text with spaces.
fn seq(arguments: &Arguments<'_>) -> Answer {
    let numbers = arguments
        .values
        .iter()
        .map(|value| arguments.int(value))
        .collect::<Result<Vec<i64>, _>>()?;
    let (first, step, last) = match numbers[..] {
        [last] => (1, if last < 1 { -1 } else { 1 }, last),
        [first, last] => (first, if last < first { -1 } else { 1 }, last),
        [first, step, last] => (first, step, last),
        _ => return Err(arguments.wrong_count("1 to 3")),
    };
    let past_last = last.saturating_add(step.signum());
    let texts: Vec<String> = count(arguments, first, past_last, step)?
        .iter()
        .map(Value::to_string)
        .collect();
    super::arguments::string(texts.join(" "))
}

/// From `start` on, as long as `stop` is not reached.
fn count(
    arguments: &Arguments<'_>,
    start: i64,
    stop: i64,
    step: i64,
) -> Result<Vec<Value>, gotmpl::TemplateError> {
    let mut numbers = Vec::new();
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        if numbers.len() >= MAX_ITEMS {
            return Err(arguments.error(format!("would give more than {MAX_ITEMS} items")));
        }
        numbers.push(Value::Int(at));
        match at.checked_add(step) {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(numbers)
}
