//! What the engine does on a damaged file instead of giving an error: it panics. That becomes words, too.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `run`; a panic in it is told in words, and printed nowhere.
///
/// What `run` worked on may be left half done: the caller drops it (in here, too), or opens it again.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    if std::thread::panicking() {
        // Nothing that panics now can be caught.
        return Ok(run());
    }
    stay_quiet_while_catching();
    let outer = CATCHING.replace(true);
    let ran = panic::catch_unwind(AssertUnwindSafe(run));
    CATCHING.set(outer);
    ran.map_err(|_| {
        let said = SAID.take().unwrap_or_else(|| "it did not say why".into());
        format!("the engine broke down on it ({said})")
    })
}

fn stay_quiet_while_catching() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return before(info);
            }
            let payload = info.payload();
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("a panic");
            let place = info.location().map(|at| {
                let file = at.file().rsplit_once("/src/").map_or(at.file(), |(_, file)| file);
                format!("{file}:{}: ", at.line())
            });
            // Assertions have their values on lines of their own.
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            SAID.set(Some(format!("{}{text}", place.unwrap_or_default())));
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_words_and_the_next_is_as_ever() {
        assert_eq!(caught(|| 7), Ok(7));
        let said = caught(|| -> u8 { panic!("page {}\n  is odd", 3) }).unwrap_err();
        assert!(
            said.starts_with("the engine broke down on it (redb/panics.rs:")
                && said.ends_with(": page 3 is odd)"),
            "{said}"
        );
        let nested = caught(|| caught(|| -> u8 { panic!("inner") }).unwrap_err()).unwrap();
        assert!(nested.contains("inner"), "{nested}");
        assert!(!CATCHING.get());
        let slice: &[u8] = &[];
        let at = std::hint::black_box(5);
        let said = caught(|| slice[at]).unwrap_err();
        assert!(said.contains("index out of bounds"), "{said}");
    }
}
