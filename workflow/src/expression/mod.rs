//! CEL in definitions: checked when a workflow is made, evaluated when a task execution is.
//!
//! The language is a part of CEL (docs/reference/expressions.md says which), read, checked and evaluated here
//! (docs/decisions/017-expressions-are-evaluated-by-us.md). Everything is a function of what it is given: there is no clock
//! and no chance, and the keys of maps are gone over and given out in order. Everything is bounded: the text, the depth,
//! the steps, the memory, the result.
//!
//! - `parse` (with `lex`, `syntax`): text to tree. `check` (with `types`, `functions`): its names and types.
//! - `eval`: tree to value, counting. `run`: what is around that, and words for what failed.
//! - `fill`: `${{ }}` in texts. `secret`: the one that is no expression. `selector` (with `label_selector`): which machines.

mod check;
mod eval;
mod fill;
mod functions;
mod label_selector;
mod lex;
mod parse;
mod run;
mod secret;
mod selector;
mod syntax;
mod types;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod syntax_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use check::{check, check_text};
pub use eval::{MAX_BYTES, MAX_RESULT_BYTES, MAX_STEPS};
pub use fill::{SecretWithin, fill, fill_handed, fill_handed_value, fill_text, fill_value};
pub use parse::{MAX_DEPTH, MAX_LOOP_DEPTH, MAX_SOURCE_BYTES};
pub use run::{evaluate, has_gate, selectors};
pub(crate) use secret::secret_name;
pub use secret::{SECRET_NAMES, is_secret_name, secret_hole};
pub use selector::{Selector, check_selector, labels};
pub use types::{Type, Types};

/// What an expression sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// `inputs`, `vars`, `tasks`, `machine`, `item`, `workflow`; what is not there now (`item` outside a `forEach`) is absent.
    pub variables: Map<String, Value>,
    /// What `success()` and `failure()` say; `always()` is true.
    pub success: bool,
    pub failure: bool,
    /// Answers of `machines(selector)`, by selector.
    pub machines: BTreeMap<String, Vec<Value>>,
}

/// Why an expression gave nothing: it, and the values that it saw, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluationError(pub String);

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionProblem {
    /// Byte of the source, from 0.
    pub offset: usize,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Of a name that is not there: which.
    pub missing: Option<Missing>,
}

/// A name that `of` has not: `tasks.name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// `tasks`, `vars`, `inputs.x`
    pub of: String,
    pub name: String,
}
