//! Expressions from operators: no text may panic, hang, take all stack or give another value the second time, and a
//! problem is at a byte that there is.

use std::collections::BTreeMap;

use serde_json::json;
use workflow::expression::{self, EvaluationError, Scope, Type, Types};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let types = Types {
        inputs: BTreeMap::from([
            ("n".to_owned(), Type::Int),
            ("disks".to_owned(), Type::list()),
            ("many".to_owned(), Type::list()),
            ("long".to_owned(), Type::Text),
        ]),
        later_vars: BTreeMap::from([("c".to_owned(), Type::Int)]),
        later_tasks: BTreeMap::from([("look".to_owned(), Type::Any)]),
        round: true,
        branch: true,
        groups: BTreeMap::from([("scan".to_owned(), Type::object([("a", Type::Any)]))]),
        tasks: BTreeMap::from([("probe".to_owned(), Type::map())]),
        machine: true,
        item: Some(Type::Any),
        machines: true,
        gates: true,
        ..Types::default()
    };
    for problems in [
        expression::check(text, &types).err(),
        expression::check_text(text, &types).err(),
        expression::check_selector(text).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(!problem.message.is_empty());
            assert!(text.is_char_boundary(problem.offset), "{problem:?}");
        }
    }

    let variables = json!({
        "inputs": {"n": 3, "disks": ["/dev/sda", "/dev/sdb"], "many": (0..200).collect::<Vec<i64>>(), "long": "x".repeat(10_000)},
        "tasks": {"probe": {"state": "FAILED", "outputs": {"a": 1, "b": [1.5, null]}, "error": {"reason": "Lost"}}},
        "machine": {"name": "a", "labels": {"rack": "r7"}},
        "item": "/dev/sda",
    });
    let scope = Scope {
        variables: variables.as_object().cloned().unwrap_or_default(),
        success: true,
        failure: false,
        machines: BTreeMap::from([("rack == 'r7'".to_owned(), vec![json!({"name": "a"})])]),
    };
    let first = expression::evaluate(text, &scope);
    is_said(&first);
    assert_eq!(first, expression::evaluate(text, &scope));
    is_said(&expression::fill(text, &scope));
    is_said(&expression::selectors(text, &scope));
    let selector = expression::Selector::parse(text);
    is_said(&selector.and_then(|selector| selector.matches(&scope.variables["machine"])));
    expression::has_gate(text);
}

fn is_said<T>(result: &Result<T, EvaluationError>) {
    if let Err(error) = result {
        assert!(!error.0.is_empty() && error.0.len() < 20_000, "{error}");
    }
}
