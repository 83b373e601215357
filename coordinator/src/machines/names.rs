//! Names that people give, and that become part of keys: which there are, and how the others are kept apart.
//!
//! Keys are words between slashes, and what belongs to a machine is found below `…/NAME/`. So no name holds a slash, and
//! a name, a MAC and an agent id never mean different machines.

use std::borrow::Cow;

use super::{mac_text, parse_mac};

/// As names of Kubernetes objects (RFC 1123 subdomain), where Tinkerbell's records come from.
pub const MAX_NAME_BYTES: usize = 253;

/// What a name is to be, in words.
pub const NAME_RULE: &str =
    "1 to 253 of the letters a to z and A to Z, digits, `.`, `_` and `-`, beginning with a letter or digit";

/// Whether `name` may be the name or the agent id of a machine, as far as its letters go.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// What a template's `worker` is called in keys: a MAC in its one spelling, and everything else without a slash. Names
/// stay as they are; a worker with a slash means no machine, and must not be taken for a machine and what belongs to it.
pub fn worker_in_keys(worker: &str) -> Cow<'_, str> {
    match parse_mac(worker) {
        Some(mac) => mac_text(mac).into(),
        None if worker.contains(['/', '%']) => worker.replace('%', "%25").replace('/', "%2F").into(),
        None => worker.into(),
    }
}

/// What is kept for a worker that no machine of a namespace has, by its key: in each namespace something else. Names have no `%`,
/// and [`worker_in_keys`] makes no `%40`.
pub fn orphan(namespace: &str, worker: &str) -> String {
    match namespace {
        crate::namespaces::DEFAULT => worker_in_keys(worker).into_owned(),
        other => format!("{}%40{other}", worker_in_keys(worker)),
    }
}

/// The worker and the namespace that a key of [`orphan`] is of, where that is not `default`.
pub fn of_orphan(key: &str) -> Option<(&str, &str)> {
    key.split_once("%40")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_field_are_names() {
        for good in [
            "node1",
            "sm01",
            "k8s-1.lab.example",
            "Rack_7.U12",
            "0",
            "eks-a-cp-1",
            &"a".repeat(253),
        ] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "rack1/node1",
            "a b",
            "a\n",
            "\u{1b}[2J",
            "ä",
            ".",
            "..",
            ".hidden",
            "-node1",
            "_x",
            "52:54:00:77:00:0b",
            "a%2Fb",
            "a\0",
            &"a".repeat(254),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_worker_is_one_word_in_keys() {
        assert_eq!(worker_in_keys("52-54-00-77-00-0B"), "52:54:00:77:00:0b");
        assert_eq!(worker_in_keys("rack-a1.slot_2"), "rack-a1.slot_2");
        assert_eq!(worker_in_keys("rack1/node1"), "rack1%2Fnode1");
        assert_ne!(worker_in_keys("a/b"), worker_in_keys("a%2Fb"));
    }

    proptest! {
        #[test]
        fn what_is_kept_for_a_worker_is_its_namespaces_own(
            one in any::<String>(),
            other in any::<String>(),
            (a, b) in ("[a-z0-9]{1,3}|default", "[a-z0-9]{1,3}|default"),
        ) {
            let same = a == b && worker_in_keys(&one) == worker_in_keys(&other);
            prop_assert_eq!(orphan(&a, &one) == orphan(&b, &other), same);
            prop_assert!(!orphan(&a, &one).contains('/'));
        }

        #[test]
        fn nothing_of_one_machine_lies_below_another(
            one in "[a-z0-9][a-z0-9._-]{0,6}",
            other in "[a-z0-9][a-z0-9._-]{0,6}",
            worker in any::<String>(),
        ) {
            prop_assert!(is_name(&one) && is_name(&other));
            for (at, below) in [(&one, &other), (&one, &worker_in_keys(&worker).into_owned())] {
                for space in ["open", "of"] {
                    let key = format!("{space}/{below}/0192");
                    let prefix = format!("{space}/{at}/");
                    prop_assert_eq!(key.starts_with(&prefix), at == below, "{} and {}", key, prefix);
                }
            }
        }

        #[test]
        fn two_workers_are_two_keys(one in any::<String>(), other in any::<String>()) {
            let (a, b) = (worker_in_keys(&one), worker_in_keys(&other));
            let same_mac = parse_mac(&one).is_some() && parse_mac(&one) == parse_mac(&other);
            prop_assert!((a == b) == (one == other || same_mac), "{} and {}", a, b);
            prop_assert!(!a.contains('/') && !b.contains('/'));
        }
    }
}
