//! The bound of what images have that machines had fetched: who was used least goes first.
//!
//! Pure but for [`Uses`]. What a person brought has no bound, and is not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use store::blobs::Digest;

/// When contents were last given to a machine, as far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<BTreeMap<Digest, SystemTime>>);

impl Uses {
    /// It is given to one.
    pub(super) fn note(&self, digest: Digest, now: SystemTime) {
        self.lock().insert(digest, now);
    }

    /// The last time that any of these was given.
    pub(super) fn last_of<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Option<SystemTime> {
        let uses = self.lock();
        digests
            .into_iter()
            .filter_map(|digest| uses.get(digest).copied())
            .max()
    }

    /// Forgets those that are not there.
    pub(super) fn keep(&self, is_there: impl Fn(&Digest) -> bool) {
        self.lock().retain(|digest, _| is_there(digest));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, SystemTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image by one of its names.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) name: String,
    /// What it has of contents that are there.
    pub(super) contents: BTreeSet<Digest>,
    /// `None`: a person brought it.
    pub(super) fetched: Option<Fetched>,
}

/// Of an image that a machine had fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetched {
    pub(super) used_at: SystemTime,
    /// A stored template names it.
    pub(super) is_named: bool,
}

/// What is to go, and what stays.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Names of images, in the order in which they go.
    pub(super) gone: Vec<String>,
    /// Of fetched images, afterwards.
    pub(super) left_bytes: u64,
}

/// The bytes of contents that images have which machines had fetched, and that no person brought.
pub(super) fn fetched_bytes(held: &[Held], sizes: &BTreeMap<Digest, u64>) -> u64 {
    names_by_content(held)
        .keys()
        .filter_map(|digest| sizes.get(digest))
        .sum()
}

/// Chooses what goes so that fetched images have `most_bytes` at most: first what no template names, of these what was not used for longest.
/// What was used since `since` may be on its way to a machine, and stays in any case.
pub(super) fn choose(
    held: &[Held],
    sizes: &BTreeMap<Digest, u64>,
    most_bytes: u64,
    since: SystemTime,
) -> Choice {
    let mut names = names_by_content(held);
    let mut choice = Choice {
        gone: Vec::new(),
        left_bytes: fetched_bytes(held, sizes),
    };
    let mut order: Vec<(&Held, Fetched)> = held
        .iter()
        .filter_map(|image| Some((image, image.fetched?)))
        .filter(|(_, fetched)| fetched.used_at < since)
        .collect();
    order.sort_by(|(one, of_one), (other, of_other)| {
        (of_one.is_named, of_one.used_at, &one.name).cmp(&(of_other.is_named, of_other.used_at, &other.name))
    });
    for (image, _) in order {
        if choice.left_bytes <= most_bytes {
            break;
        }
        for digest in &image.contents {
            let Some(count) = names.get_mut(digest) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                names.remove(digest);
                choice.left_bytes -= sizes.get(digest).copied().unwrap_or_default();
            }
        }
        choice.gone.push(image.name.clone());
    }
    choice
}

/// How many fetched images have each content; without those that an image has which a person brought.
fn names_by_content(held: &[Held]) -> BTreeMap<Digest, usize> {
    let mut names = BTreeMap::new();
    for digest in held
        .iter()
        .filter(|image| image.fetched.is_some())
        .flat_map(|image| &image.contents)
    {
        *names.entry(*digest).or_default() += 1;
    }
    for digest in held
        .iter()
        .filter(|image| image.fetched.is_none())
        .flat_map(|image| &image.contents)
    {
        names.remove(digest);
    }
    names
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(minute: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute)
    }

    fn content(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// Each content has as many bytes as its name says.
    fn image(name: &str, contents: &[&str], fetched: Option<(u64, bool)>) -> Held {
        Held {
            name: name.to_owned(),
            contents: contents.iter().map(|name| content(name)).collect(),
            fetched: fetched.map(|(minute, is_named)| Fetched {
                used_at: at(minute),
                is_named,
            }),
        }
    }

    fn sizes() -> BTreeMap<Digest, u64> {
        [
            ("10a", 10),
            ("20b", 20),
            ("30c", 30),
            ("5shared", 5),
            ("40own", 40),
        ]
        .map(|(name, bytes)| (content(name), bytes))
        .into()
    }

    #[track_caller]
    fn check(held: &[Held], most_bytes: u64, gone: &[&str], left_bytes: u64) {
        let want = Choice {
            gone: gone.iter().map(|&name| name.to_owned()).collect(),
            left_bytes,
        };
        assert_eq!(choose(held, &sizes(), most_bytes, at(100)), want);
    }

    #[test]
    fn what_no_template_names_and_was_not_used_for_longest_goes_first() {
        let held = [
            image("named", &["10a"], Some((1, true))),
            image("new", &["20b"], Some((9, false))),
            image("old", &["30c"], Some((5, false))),
        ];
        assert_eq!(fetched_bytes(&held, &sizes()), 60);
        check(&held, 60, &[], 60);
        check(&held, 59, &["old"], 30);
        check(&held, 10, &["old", "new"], 10);
        check(&held, 9, &["old", "new", "named"], 0);
    }

    #[test]
    fn what_may_be_on_its_way_to_a_machine_and_what_a_person_brought_stays() {
        let held = [
            image("brought", &["40own", "5shared"], None),
            image("pulled-now", &["10a"], Some((100, false))),
            image("old", &["20b", "5shared"], Some((1, false))),
        ];
        // What the person's image has is not counted, and nothing is won by it.
        check(&held, 0, &["old"], 10);
    }

    #[test]
    fn what_two_images_have_goes_with_the_second() {
        let held = [
            image("one", &["10a", "5shared"], Some((1, false))),
            image("other", &["20b", "5shared"], Some((2, false))),
        ];
        check(&held, 30, &["one"], 25);
        check(&held, 0, &["one", "other"], 0);
    }

    #[test]
    fn uses_are_of_the_newest_and_go_with_their_contents() {
        let uses = Uses::default();
        uses.note(content("a"), at(1));
        uses.note(content("b"), at(2));
        assert_eq!(
            uses.last_of([&content("a"), &content("b"), &content("c")]),
            Some(at(2))
        );
        uses.keep(|digest| *digest == content("a"));
        assert_eq!(uses.last_of([&content("b")]), None);
    }
}
