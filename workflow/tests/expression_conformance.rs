//! The conformance tests of CEL that are about our part of the language: `cel_spec/simple.jsonl`.

use serde_json::{Value, json};
use workflow::expression::{self, Scope};

const CASES: &str = include_str!("cel_spec/simple.jsonl");

/// What is refused here and not there, and with which words.
const REFUSED: [(&str, &str); 5] = [
    // All names of functions are looked at before anything is evaluated.
    ("basic/functions/unbound_is_runtime_error", "there is no function"),
    ("parse/receiver_function_names/", "there is no function"),
    // Names have no dots in them: `a.b` is a field of `a`.
    ("fields/qualified_identifier_resolution/", "there is no a here"),
    ("parse/nest/parens", "more than 24 levels deep"),
    ("parse/repeat/", "more than 24 levels deep"),
];

#[test]
fn gives_what_the_specification_says() {
    let mut wrong = Vec::new();
    let mut refused = Vec::new();
    let mut right = 0;
    for line in CASES.lines().filter(|line| !line.starts_with('#')) {
        let case: Value = serde_json::from_str(line).expect(line);
        let name = case["name"].as_str().expect("a name");
        let source = case["expr"].as_str().expect("an expression");
        let variables = case.get("with").and_then(Value::as_object).cloned();
        let scope = Scope {
            variables: variables.unwrap_or_default(),
            ..Scope::default()
        };
        // JSON's reader here rounds doubles, so they stand as texts.
        let double = case["double"].as_str();
        let double = double.map(|text| json!(text.parse::<f64>().expect("a double")));
        let gives = double.as_ref().or(case.get("gives"));
        match (expression::evaluate(source, &scope), gives) {
            (Ok(given), Some(gives)) if given == *gives => right += 1,
            (Err(_), None) if case["fails"] == true => right += 1,
            (given, _) => {
                let said = given
                    .as_ref()
                    .map_or_else(|error| error.0.clone(), Value::to_string);
                match REFUSED
                    .iter()
                    .find(|(prefix, why)| name.starts_with(prefix) && said.contains(why))
                {
                    Some((prefix, _)) => refused.push(*prefix),
                    None => wrong.push(format!("{name}: {source}: {said}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((right, refused.len()), (802, 27));
    for (prefix, _) in REFUSED {
        assert!(
            refused.contains(&prefix),
            "nothing of {prefix} is refused any more"
        );
    }
}
