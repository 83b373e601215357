//! Ids as a person types them: the beginning that no other one here has.

use std::collections::BTreeMap;

/// The time of an id, to the millisecond: most ids differ in it.
const SHORTEST: usize = 13;

/// For each id so much of it as none of the others begins with.
pub(crate) struct ShortIds(BTreeMap<String, usize>);

impl ShortIds {
    pub(crate) fn of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sorted: Vec<&str> = ids.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let lengths = sorted.iter().enumerate().map(|(at, id)| {
            let before = at.checked_sub(1).and_then(|before| sorted.get(before));
            let neighbours = before.into_iter().chain(sorted.get(at + 1));
            let common = neighbours
                .map(|other| in_common(id, other))
                .max()
                .unwrap_or_default();
            let length = (common + 1).max(SHORTEST).min(id.len());
            ((*id).to_owned(), length)
        });
        Self(lengths.collect())
    }

    /// One that is not among them as short as any.
    pub(crate) fn short<'a>(&self, id: &'a str) -> &'a str {
        let length = self.0.get(id).copied().unwrap_or(SHORTEST);
        id.get(..length).unwrap_or(id)
    }
}

/// An id by itself.
pub(crate) fn short(id: &str) -> &str {
    id.get(..SHORTEST).unwrap_or(id)
}

fn in_common(one: &str, other: &str) -> usize {
    let both = one.bytes().zip(other.bytes());
    both.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_short_as_they_differ() {
        let ids = [
            "019ac1f2-3b4c-7000-8000-000000000001",
            "019ac1f2-3b4c-7001-8000-000000000001",
            "019ac1f2-3b4d-7000-8000-000000000001",
        ];
        let short = ShortIds::of(ids);
        let shown = ids.map(|id| short.short(id));
        assert_eq!(
            shown,
            ["019ac1f2-3b4c-7000", "019ac1f2-3b4c-7001", "019ac1f2-3b4d"]
        );
        assert_eq!(
            short.short("019ac1f2-3b4e-7000-8000-000000000001"),
            "019ac1f2-3b4e"
        );
        assert_eq!(ShortIds::of(["w", "w"]).short("w"), "w");
    }
}
