//! The functions of a template: sprig's hermetic ones (<https://masterminds.github.io/sprig/>) that templates use,
//! upstream Tinkerbell's four, and bounded forms of Go's own that can make text grow.
//!
//! Nothing here reads an environment, a clock, a file or a random number: a template gives the same text every time.

mod arguments;
mod bounds;
mod dicts;
mod encoding;
mod flow;
mod lists;
mod maps;
mod numbers;
mod paths;
mod printing;
mod refused;
mod tinkerbell;
mod words;

use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value};

use arguments::Arguments;
use bounds::Budget;
pub(super) use dicts::{CHANGING, Dicts};
pub(super) use refused::why_refused;

/// What a function gives back.
type Answer = Result<Value, TemplateError>;
/// A function and its name.
type Entry = (&'static str, fn(&Arguments<'_>) -> Answer);

/// Go's own functions, which are there without being registered.
const BUILT_IN: [&str; 19] = [
    "and", "or", "not", "len", "index", "slice", "call", "eq", "ne", "lt", "le", "gt", "ge", "print",
    "printf", "println", "html", "js", "urlquery",
];

/// They hand on what they are given, or parts of it: a dict stays the dict that it is. The others look at all of what
/// they are given, and what they give is new.
const HANDING_ON: [&str; 50] = [
    "all",
    "any",
    "append",
    "chunk",
    "coalesce",
    "compact",
    "concat",
    "default",
    "dict",
    "dig",
    "empty",
    "first",
    "get",
    "hasKey",
    "initial",
    "keys",
    "kindIs",
    "kindOf",
    "last",
    "list",
    "merge",
    "mergeOverwrite",
    "mustAppend",
    "mustChunk",
    "mustCompact",
    "mustFirst",
    "mustInitial",
    "mustLast",
    "mustMerge",
    "mustMergeOverwrite",
    "mustPrepend",
    "mustPush",
    "mustRest",
    "mustReverse",
    "mustUniq",
    "mustWithout",
    "omit",
    "pick",
    "pluck",
    "prepend",
    "push",
    "rest",
    "reverse",
    "set",
    "ternary",
    "tuple",
    "uniq",
    "unset",
    "values",
    "without",
];

/// All functions, for one rendering: they share a bound on the work that they do, and the dicts.
pub(super) fn all(dicts: &Dicts) -> FuncMap {
    let budget = Arc::new(Budget::default());
    let mut functions = FuncMap::new();
    for &(name, function) in tables().into_iter().flatten() {
        let (budget, dicts) = (budget.clone(), dicts.clone());
        let hands_on = HANDING_ON.contains(&name);
        let bounded = move |given: &[Value]| {
            if !dicts.is_changing() {
                budget.spend(name, given)?;
                let dicts = &dicts;
                return function(&Arguments {
                    name,
                    values: given,
                    dicts,
                });
            }
            let whole = |value| {
                let whole = dicts.whole(value);
                whole.map_err(|_| TemplateError::Exec(format!("{name}: its arguments are too large")))
            };
            let whole = given.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
            budget.spend(name, &whole)?;
            let values = if hands_on { given } else { &whole };
            let answer = function(&Arguments {
                name,
                values,
                dicts: &dicts,
            })?;
            Ok(dicts.kept(answer))
        };
        functions.insert(name.into(), Arc::new(bounded));
    }
    functions
}

/// The names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN
        .into_iter()
        .chain(tables().into_iter().flatten().map(|&(name, _)| name))
}

fn tables() -> [&'static [Entry]; 9] {
    [
        encoding::TABLE,
        flow::TABLE,
        lists::TABLE,
        maps::TABLE,
        numbers::TABLE,
        paths::TABLE,
        printing::TABLE,
        tinkerbell::TABLE,
        words::TABLE,
    ]
}

#[cfg(test)]
mod tests;
