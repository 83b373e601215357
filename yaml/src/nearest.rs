//! "Did you mean": the known word that is nearest to a misspelt one.

/// The one of `known` that is nearest to `word`, if any is near: at most a third of its letters differ.
///
/// Case does not count, nor does `-` against `_`.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let word = normal(word);
    if word.len() > LONGEST {
        return None;
    }
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (distance(&word, &normal(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(word.len()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "…"?`, or what to write otherwise.
pub fn meant<'n>(word: &str, known: impl IntoIterator<Item = &'n str>, otherwise: &str) -> String {
    nearest(word, known)
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_else(|| otherwise.to_owned())
}

fn normal(word: &str) -> Vec<char> {
    word.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c == '-' { '_' } else { c })
        .collect()
}

/// Levenshtein's distance: letters to insert, delete or change.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, left) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (to, right) in right.iter().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[to + 1];
            row[to + 1] = changed.min(row[to] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_word_or_none() {
        let known = ["command", "environment", "on-timeout", "on-failure", "name"];
        for (word, want) in [
            ("comand", Some("command")),
            ("enviroment", Some("environment")),
            ("on_timeout", Some("on-timeout")),
            ("onFailure", Some("on-failure")),
            ("Name", Some("name")),
            ("adress", None),
            ("args", None),
            ("", None),
            (&"x".repeat(1000), None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }

    #[test]
    fn distance_is_levenshteins() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (left, right, want) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(&chars(left), &chars(right)), want, "{left} {right}");
        }
    }
}
