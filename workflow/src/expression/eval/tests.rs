//! What is counted, and what is refused for it.

use serde_json::json;

use super::super::parse::parse;
use super::*;

/// Steps and bytes that an expression took, whether it had a value or not.
fn taken(source: &str) -> (u64, u64) {
    let variables = json!({
        "numbers": (0..100).collect::<Vec<i64>>(),
        "text": "x".repeat(1000),
        "tags": {"bb": 1, "a": 2},
    });
    let machines = BTreeMap::new();
    let node = parse(source).unwrap();
    let mut evaluator = Evaluator::new(Seen {
        variables: variables.as_object().unwrap(),
        success: true,
        failure: false,
        machines: &machines,
    });
    let _ = evaluator.value(&node);
    assert!(evaluator.bound.is_empty(), "{source}");
    evaluator.meter.taken()
}

#[test]
fn each_part_that_is_evaluated_is_a_step() {
    for (source, steps) in [
        ("1", 1),
        ("1 + 2 * 3", 5),
        ("tags.a", 2),
        ("[1, 2, 3]", 4),
        ("{'a': 1}", 3),
        ("size(numbers)", 2),
        // What is not evaluated is not counted.
        ("true || 1 / 0 == 1", 2),
        ("true ? 1 : 2 + 3 + 4", 3),
        ("false && numbers.all(n, true)", 2),
        // A loop: itself, what it goes over, and for each element the element and the body.
        ("numbers.map(n, 1)", 2 + 100 * 2),
        ("numbers.filter(n, n > 1)", 2 + 100 * 4),
        ("numbers.map(n, false, n)", 2 + 100 * 2),
        ("numbers.map(n, true, n)", 2 + 100 * 3),
        ("numbers.exists(n, n == 4)", 2 + 5 * 4),
        ("numbers.all(n, n < 4)", 2 + 5 * 4),
        ("numbers.exists_one(n, n == 4)", 2 + 100 * 4),
        ("tags.map(k, k)", 2 + 2 * 2),
        // Also those that fail.
        ("numbers.exists(n, 1 / 0 == n)", 2 + 100 * 5),
        ("numbers.map(n, 1 / n)", 2 + 4),
    ] {
        assert_eq!(taken(source).0, steps, "{source}");
    }
}

#[test]
fn what_is_made_compared_and_searched_is_counted_in_bytes() {
    let value = size_of::<Value<'_>>() as u64;
    for (source, bytes) in [
        ("1 + 2", 0),
        // Copied by their handles.
        ("text", 0),
        ("numbers", 0),
        ("true ? text : text", 0),
        ("text + text", 2000),
        ("text + 'y' + text", 1001 + 2001),
        ("numbers + numbers", 200 * value),
        ("[text, text]", 2 * value),
        ("numbers.map(n, text)", 100 * value),
        ("numbers.filter(n, true)", 100 * value),
        ("text == text", 8 + 1000),
        ("text == 'x'", 8),
        ("text < 'y'", 8 + 1),
        ("numbers == numbers", 8 + 100 * 8),
        ("3 in numbers", 4 * 8),
        ("'a' in tags", 1),
        ("tags.map(k, 1)", 2 * value + 3 + 2 * value),
        ("text.contains('y')", 1001),
        ("text.startsWith('y')", 1),
        ("size(text)", 1000),
        ("string(12345)", 5),
        ("text.matches('y')", 8 * 1000 + 1 + 8192 + 8),
    ] {
        assert_eq!(taken(source).1, bytes, "{source}");
    }
    // A pattern is translated once while it stays the same.
    let (_, once) = taken("numbers.all(n, 'x'.matches('x'))");
    let (_, always) = taken("numbers.all(n, 'x'.matches(string(n) + '|x'))");
    assert!(once < 8192 * 2 && always > 8192 * 100, "{once} {always}");
}

#[test]
fn a_bound_is_no_error_that_another_term_makes_good_for() {
    let numbers: Vec<i64> = (0..2000).collect();
    let variables = json!({"numbers": numbers, "text": "x".repeat(100_000)});
    let machines = BTreeMap::new();
    let seen = Seen {
        variables: variables.as_object().unwrap(),
        success: true,
        failure: false,
        machines: &machines,
    };
    let long = "numbers.all(a, numbers.all(b, a + b >= 0))";
    for source in [
        format!("{long} || true"),
        format!("!({long}) && false"),
        format!("{long} ? true : true"),
        "numbers.exists(a, a == 1999 || numbers.exists(b, a + b < 0))".to_owned(),
    ] {
        let error = evaluate(&parse(&source).unwrap(), seen).unwrap_err();
        assert!(
            error.starts_with("it would take more than 1000000 steps"),
            "{source}: {error}"
        );
    }
    // What comes after it may make no bytes any more.
    let error = evaluate(&parse("numbers.all(n, text == text) || true").unwrap(), seen).unwrap_err();
    assert!(
        error.starts_with("it would copy or compare more than 67108864 bytes"),
        "{error}"
    );
}

#[test]
fn the_last_error_is_told_where_no_term_decides() {
    let machines = BTreeMap::new();
    let variables = JsonMap::new();
    let seen = Seen {
        variables: &variables,
        success: true,
        failure: false,
        machines: &machines,
    };
    for (source, want) in [
        ("1 / 0 == 1 && a && true", "there is no a here"),
        ("a || 1 / 0 == 1 || false", "division by zero"),
        ("1 && true", "no && for int and bool"),
        ("true && 1", "no && for bool and int"),
        ("1 || 'x'", "no || for int and string"),
        ("1 && a", "there is no a here"),
        ("a && 1", "there is no a here"),
        ("[1, 0].all(x, 1 / x == 1)", "division by zero"),
        ("[1, 'a'].all(x, x == 1 ? true : x)", "no && for bool and string"),
        ("[1].exists_one(x, x)", "bool is needed where int is"),
        ("'a'.b", "string has no fields, so no .b"),
        ("has([1].b)", "list has no fields, so no .b"),
        (
            "[1][0.5]",
            "0.5 is no whole number, so no list has it for an index",
        ),
        ("[1][-1]", "the list has no element -1"),
        ("{1u: 2}[3.0]", "there is no 3"),
        ("{'a': 1}[[1]]", "no [] for map and list"),
        ("{1.0: 2}", "double can't be a key of a map"),
        ("{1: 2, 1u: 3}", "a key twice in one map"),
        ("[1] in {1: 2}", "no in for list and map"),
        (
            "double('nan') < 1.0",
            "a double that is no number (NaN) has no order, so no < for it",
        ),
        ("null < 1", "no < for null and int"),
        ("uint(-1)", "uint(): -1 is beyond what there is of it"),
        ("bool('TrUe')", "bool(): \"TrUe\" is neither true nor false"),
        ("double('x')", "double(): \"x\" is no number"),
        (
            "uint('-1')",
            "uint(): \"-1\" is no whole number of 64 bits from 0",
        ),
    ] {
        assert_eq!(
            evaluate(&parse(source).unwrap(), seen),
            Err(want.to_owned()),
            "{source}"
        );
    }
}
