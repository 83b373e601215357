//! Bounds on what functions work on, so that `{{$x = print $x $x}}` in a loop ends in an error and not in all memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use gotmpl::{TemplateError, Value};

/// Bytes of arguments in one call; four times what a whole template may come to.
const CALL_BYTES: usize = 1024 * 1024;
/// Bytes of arguments in all calls of one rendering.
const TOTAL_BYTES: usize = 64 * 1024 * 1024;
/// Lists within lists.
const MAX_DEPTH: usize = 32;
/// Items of a list that is made from a number.
pub(super) const MAX_ITEMS: usize = 100_000;
/// Bytes of a text that is made by repeating.
pub(super) const MAX_TEXT_BYTES: usize = 256 * 1024;

/// What is left of the bound of one rendering.
#[derive(Default)]
pub(super) struct Budget {
    spent: AtomicUsize,
}

impl Budget {
    pub(super) fn spend(&self, name: &str, arguments: &[Value]) -> Result<(), TemplateError> {
        let mut left = CALL_BYTES;
        for argument in arguments {
            left = weigh(argument, left, MAX_DEPTH)
                .ok_or_else(|| TemplateError::Exec(format!("{name}: its arguments are too large")))?;
        }
        let spent = self.spent.fetch_add(CALL_BYTES - left + 1, Ordering::Relaxed);
        if spent > TOTAL_BYTES {
            return Err(TemplateError::Exec(format!(
                "{name}: the template does too much work"
            )));
        }
        Ok(())
    }
}

/// What is left of `bytes` after `value`; `None` when it is too large or too deep. Takes time for `bytes` at most.
fn weigh(value: &Value, bytes: usize, depth: usize) -> Option<usize> {
    const ITEM_BYTES: usize = 16;
    let left = bytes.checked_sub(ITEM_BYTES)?;
    match value {
        Value::String(text) => left.checked_sub(text.len()),
        Value::List(items) => {
            let depth = depth.checked_sub(1)?;
            items.iter().try_fold(left, |left, item| weigh(item, left, depth))
        }
        Value::Map(map) => {
            let depth = depth.checked_sub(1)?;
            map.iter().try_fold(left, |left, (key, item)| {
                weigh(item, left.checked_sub(key.len())?, depth)
            })
        }
        _ => Some(left),
    }
}
