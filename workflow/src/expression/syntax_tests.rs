//! What is wrong with the syntax: exact messages, at their places.

use super::check_tests::{all_wrong, types};
use super::*;

#[test]
fn finds_the_first_thing_that_is_wrong_with_the_syntax() {
    let long = format!("'{}'", "x".repeat(1023));
    let deep = format!("{}1{}", "[".repeat(24), "]".repeat(24));
    let cases: &[(&str, &[(usize, &str)])] = &[
        ("", &[(0, "an empty expression")]),
        ("// only a comment", &[(17, "an empty expression")]),
        ("1 +", &[(3, "the end where a value should be")]),
        (
            "1 2",
            &[(2, "2 where an operator or the end of the expression should be")],
        ),
        (
            "(1",
            &[(2, "the end where ), the end of these brackets should be")],
        ),
        ("[1, 2", &[(5, "the end where ], the end of this list should be")]),
        ("[1 2]", &[(3, "2 where ], the end of this list should be")]),
        ("{'a' 1}", &[(5, "1 where :, the value of this key should be")]),
        (
            "{'a': 1",
            &[(7, "the end where }, the end of this map should be")],
        ),
        (
            "size(1",
            &[(6, "the end where ), the end of these arguments should be")],
        ),
        ("size(1,)", &[(7, ") where a value should be")]),
        ("a[1", &[(3, "the end where ], the end of this index should be")]),
        (
            "true ? 1",
            &[(8, "the end where :, the other half of `a ? b : c` should be")],
        ),
        (
            "a.",
            &[(2, "the end where a field's name (other names: x['…']) should be")],
        ),
        (
            "a.?b",
            &[(2, "? where a field's name (other names: x['…']) should be")],
        ),
        ("a.in", &[(2, "in is a word of the language: write ['in']")]),
        ("if", &[(0, "if is a word of the language and no name")]),
        ("in", &[(0, "in is a word of the language and no name")]),
        (".a", &[(0, ". where a value should be")]),
        (
            "Machine{name: 'a'}",
            &[(7, "{ where an operator or the end of the expression should be")],
        ),
        ("a = 1", &[(2, "a single =: equality is ==")]),
        ("a & b", &[(2, "a single &: \"and\" is &&")]),
        ("a | b", &[(2, "a single |: \"or\" is ||")]),
        ("a @ b", &[(2, "'@' means nothing here: texts stand in quotes")]),
        ("1 == ä", &[(5, "'ä' means nothing here: texts stand in quotes")]),
        ("`a`", &[(0, "'`' means nothing here: texts stand in quotes")]),
        ("'abc", &[(0, "this text has no ' at its end")]),
        ("1 + \"\"\"a\"\"", &[(4, "this text has no \"\"\" at its end")]),
        (r"'a\d'", &[(2, r"\d is no escape: a backslash in a text is \\")]),
        (
            r"'\ud800'",
            &[(1, r"\u is no escape: a backslash in a text is \\")],
        ),
        (r"'\x4'", &[(1, r"\x is no escape: a backslash in a text is \\")]),
        (r"'\x+4'", &[(1, r"\x is no escape: a backslash in a text is \\")]),
        (
            "b'abc'",
            &[(0, "there are no bytes here: leave the b before the quote out")],
        ),
        (
            "9223372036854775808",
            &[(0, "9223372036854775808 is beyond 64 bits")],
        ),
        (
            "1 + -0x8000000000000001",
            &[(5, "-0x8000000000000001 is beyond 64 bits")],
        ),
        (
            "18446744073709551616u",
            &[(0, "18446744073709551616 is beyond 64 bits")],
        ),
        ("1e999", &[(0, "1e999 is beyond 64 bits")]),
        ("has(1)", &[(0, "has() takes one field: has(x.name)")]),
        ("has(a.b, a.c)", &[(0, "has() takes one field: has(x.name)")]),
        ("!-a", &[(1, "- behind !: put brackets between them")]),
        ("'a\nb'", &[(0, "this text has no ' at its end")]),
        ("has()", &[(0, "has() takes one field: has(x.name)")]),
        (
            "[1].all(1, true)",
            &[(8, "the first argument of all() is a new name")],
        ),
        (
            "[1].all(a.b, true)",
            &[(10, "the first argument of all() is a new name")],
        ),
        (
            "[1].filter(a)",
            &[(4, "filter() takes a name and a condition, not 1 arguments")],
        ),
        (
            "[1].exists(a, true, 1)",
            &[(4, "exists() takes a name and a condition, not 3 arguments")],
        ),
        (
            "[1].map(a)",
            &[(
                4,
                "map() takes a name and a value, or a name, a condition and a value, not 1 arguments",
            )],
        ),
        (
            "[1].all(a, [1].all(b, [1].all(c, true)))",
            &[(
                26,
                "all() within 2 others: at most 2 within each other, so take it apart with `set`",
            )],
        ),
        (
            &long,
            &[(
                0,
                "an expression of 1025 bytes: at most 1024, so take it apart with `set`",
            )],
        ),
        (
            &deep,
            &[(24, "nested more than 24 levels deep: take it apart with `set`")],
        ),
    ];
    all_wrong(cases, |source| check(source, &types()).err().unwrap_or_default());
}
