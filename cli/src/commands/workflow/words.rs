//! What stands behind `farrier workflow pause` and its like: workflows, and perhaps a task or labels.

use crate::failure::Failure;
use crate::last::LAST;

/// Ids as lists print them have at least as many letters: `019ac1f2-3b4c`.
const PRINTED: usize = 13;
/// The place of the first dash in an id.
const DASH: usize = 8;

/// Whether a word is an id as lists print it, or `@last`: no task is called like that.
pub(super) fn is_printed_id(word: &str) -> bool {
    let is_letter = |letter: u8| matches!(letter, b'0'..=b'9' | b'a'..=b'f' | b'-');
    word == LAST
        || word.len() >= PRINTED && word.as_bytes().get(DASH) == Some(&b'-') && word.bytes().all(is_letter)
}

/// Workflows, and a task where there is one: `ID`, `ID TASK` or `ID ID …`.
///
/// # Errors
/// [`Failure::Usage`]: a task beside several workflows.
pub(super) fn with_task(id: String, rest: Vec<String>) -> Result<(Vec<String>, Option<String>), Failure> {
    let (ids, mut tasks): (Vec<String>, Vec<String>) = rest.into_iter().partition(|word| is_printed_id(word));
    let task = tasks.pop();
    match (&task, ids.is_empty() && tasks.is_empty()) {
        (Some(task), false) => Err(Failure::Usage(format!(
            "{task:?} is no id: behind the first workflow stand a task of it, or more workflows by their ids, as lists print them"
        ))),
        _ => Ok(([vec![id], ids].concat(), task)),
    }
}

/// How many words are workflows, of those of `farrier workflow label`: those before the first label, or the first where there is no label.
pub(super) fn before_labels(words: &[String]) -> usize {
    let is_change = |word: &String| word.contains('=') || word.ends_with('-');
    words.iter().position(is_change).unwrap_or(1).min(words.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_task_and_further_workflows_are_told_apart_by_what_ids_look_like() {
        const ID: &str = "019ac1f2-3b4c";
        const WHOLE: &str = "019ac1f2-3b4c-7d3e-8f00-5a1b2c3d4e5f";
        let apart = |rest: &[&str]| with_task("debian".into(), owned(rest));
        assert_eq!(apart(&[]).expect("one"), (owned(&["debian"]), None));
        assert_eq!(
            apart(&["image[3]"]).expect("a task").1.as_deref(),
            Some("image[3]")
        );
        assert_eq!(apart(&["cafe"]).expect("a task").1.as_deref(), Some("cafe"));
        let (ids, task) = apart(&[ID, WHOLE, "@last"]).expect("four");
        assert_eq!((ids, task), (owned(&["debian", ID, WHOLE, "@last"]), None));
        for wrong in [&[ID, "image[3]"][..], &["install", ID], &["a", "b"]] {
            let refused = apart(wrong).expect_err("a task beside several").to_string();
            assert!(refused.contains("is no id"), "{refused}");
        }
        assert_eq!(before_labels(&owned(&["a", "b", "k=v", "k-"])), 2);
        assert_eq!(before_labels(&owned(&["a", "owner"])), 1);
        assert_eq!(before_labels(&owned(&["k=v"])), 0);
    }
}
