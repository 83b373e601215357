//! What a person has to know of how this machine has booted, and the server has to be told once: a word of its command line that has no
//! effect, a bond without its partner.

use std::sync::Mutex;

use crate::console::say;

/// More than this nobody reads.
const MOST: usize = 32;

static UNTOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Says it on the console and keeps it for the server.
pub fn say_and_tell(text: &str) {
    say(text);
    tell(text);
}

/// Keeps it for the server; the same again, and what is too much, is not kept.
pub fn tell(text: &str) {
    let mut untold = UNTOLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if untold.len() < MOST && !untold.iter().any(|known| known == text) {
        untold.push(text.to_owned());
    }
}

/// What the server was not told yet.
pub fn untold() -> Vec<String> {
    UNTOLD
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .clone()
}

/// The server knows these now.
pub fn are_told(told: &[String]) {
    let mut untold = UNTOLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    untold.retain(|text| !told.contains(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_not_told_again_and_what_came_meanwhile_is() {
        tell("one");
        tell("one");
        let told = untold();
        tell("two");
        are_told(&told);
        assert_eq!((told, untold()), (vec!["one".to_owned()], vec!["two".to_owned()]));
        (0..2 * MOST).for_each(|number| tell(&number.to_string()));
        assert_eq!(untold().len(), MOST);
    }
}
