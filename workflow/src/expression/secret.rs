//! `${{ secrets.NAME }}`: a hole that no expression fills. Its value is put in when an action is handed out, and is
//! recorded nowhere, so that it can be part of nothing that is.

/// What a name may be, in words.
pub const SECRET_NAMES: &str = "letters, digits and _, not a digit first, 100 at most";
/// Characters of a name.
const MAX_NAME: usize = 100;

/// What is said where a secret is of no use.
pub(super) const SECRET_PLACES: &str = "a secret is put in when an action is handed out, and its value is part of nothing that is recorded: write \
     ${{ secrets.NAME }}, just so, in the command, the environment or the input of an action, or in the environment of its task";

/// Whether secrets may be called so.
pub fn is_secret_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// The name of the secret that stands between `${{` and `}}`, when nothing else does.
pub(crate) fn secret_name(source: &str) -> Option<&str> {
    let name = source.trim().strip_prefix("secrets.")?;
    is_secret_name(name).then_some(name)
}

/// How a secret stands in what is recorded.
pub fn secret_hole(name: &str) -> String {
    format!("${{{{ secrets.{name} }}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_a_name_and_nothing_else() {
        for (source, name) in [
            (" secrets.A ", Some("A")),
            ("secrets._a1", Some("_a1")),
            ("secrets.a.b", None),
            ("secrets.a + 'x'", None),
            ("secrets.1a", None),
            ("secrets.a-b", None),
            ("secrets . a", None),
            ("secrets['a']", None),
            ("secrets.", None),
            ("secrets", None),
            ("inputs.a", None),
        ] {
            assert_eq!(secret_name(source), name, "{source}");
        }
        assert_eq!(secret_name(&format!("secrets.{}", "a".repeat(101))), None);
        assert_eq!(secret_hole("A"), "${{ secrets.A }}");
    }
}
