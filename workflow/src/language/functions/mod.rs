//! The functions of a template: sprig's hermetic ones (<https://masterminds.github.io/sprig/>) that templates use,
//! upstream Tinkerbell's four, and bounded forms of Go's own that can make text grow.
//!
//! Nothing here reads an environment, a clock, a file or a random number: a template gives the same text every time.

mod arguments;
mod bounds;
mod encoding;
mod flow;
mod lists;
mod maps;
mod numbers;
mod printing;
mod tinkerbell;
mod words;

use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value};

use arguments::Arguments;
use bounds::Budget;

/// What a function gives back.
type Answer = Result<Value, TemplateError>;
/// A function and its name.
type Entry = (&'static str, fn(&Arguments<'_>) -> Answer);

/// Go's own functions, which are there without being registered.
const BUILT_IN: [&str; 19] = [
    "and", "or", "not", "len", "index", "slice", "call", "eq", "ne", "lt", "le", "gt", "ge", "print",
    "printf", "println", "html", "js", "urlquery",
];

/// All functions, for one rendering: they share a bound on the work that they do.
pub(super) fn all() -> FuncMap {
    let budget = Arc::new(Budget::default());
    let mut functions = FuncMap::new();
    for &(name, function) in tables().into_iter().flatten() {
        let budget = budget.clone();
        let bounded = move |values: &[Value]| {
            budget.spend(name, values)?;
            function(&Arguments { name, values })
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

fn tables() -> [&'static [Entry]; 8] {
    [
        encoding::TABLE,
        flow::TABLE,
        lists::TABLE,
        maps::TABLE,
        numbers::TABLE,
        printing::TABLE,
        tinkerbell::TABLE,
        words::TABLE,
    ]
}

#[cfg(test)]
mod tests;
