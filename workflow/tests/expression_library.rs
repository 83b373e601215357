//! Random expressions: our parser against the library's, the checker against the evaluation.

mod library;

use library::on_a_large_stack;
use proptest::prelude::*;
use serde_json::{Value, json};
use workflow::expression::{self, Scope, Type, Types};

fn scope() -> Scope {
    let variables = json!({
        "inputs": {"n": 3, "x": 2.5, "name": "node-7", "on": true,
            "numbers": [1, 2, 3], "names": ["a", "b"], "tags": {"b": 1, "a": 2}},
        "workflow": {"id": "w", "name": "install", "namespace": "default", "run": 1},
    });
    Scope {
        variables: variables.as_object().cloned().unwrap_or_default(),
        ..Scope::default()
    }
}

fn types() -> Types {
    let of = |kind: Type| Type::List(Box::new(kind));
    let inputs = [
        ("n", Type::Int),
        ("x", Type::Double),
        ("name", Type::Text),
        ("on", Type::Bool),
        ("numbers", of(Type::Int)),
        ("names", of(Type::Text)),
        ("tags", Type::Map(Box::new(Type::Int))),
    ];
    Types {
        inputs: inputs.map(|(name, kind)| (name.to_owned(), kind)).into(),
        ..Types::default()
    }
}

/// Texts of expressions, most of them right: operators are put between anything.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "0",
        "-3",
        "2u",
        "1.5",
        ".5",
        "0x1F",
        "1e2",
        "'a'",
        "\"b\"",
        "r'\\n'",
        "'\\n'",
        "'''c'''",
        "'a/b'",
        "true",
        "false",
        "null",
        "inputs.n",
        "inputs.x",
        "inputs.name",
        "inputs['name']",
        "inputs.on",
        "inputs.numbers",
        "inputs.names",
        "inputs.tags",
        "inputs.tags.a",
        "workflow.run",
        "inputs.none",
        "has(inputs.n)",
        "has(inputs.none)",
        "[]",
        "{}",
        "e",
        "f",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", " in ", "&&", "||", " + ", " && ",
            " || ",
        ]);
        let looped = prop::sample::select(vec!["all", "exists", "exists_one", "filter", "map"]);
        let function = prop::sample::select(vec!["size", "string", "int", "double", "bool", "uint", "dyn"]);
        let method = prop::sample::select(vec!["contains", "startsWith", "endsWith", "matches"]);
        let over = prop::sample::select(vec![
            "inputs.numbers",
            "inputs.names",
            "inputs.tags",
            "[1, 2]",
            "['a']",
        ]);
        prop_oneof![
            6 => (two.clone(), operator).prop_map(|((l, r), o)| format!("{l}{o}{r}")),
            2 => inner.clone().prop_map(|i| format!("({i})")),
            1 => inner.clone().prop_map(|i| format!("!{i}")),
            1 => inner.clone().prop_map(|i| format!("-{i}")),
            1 => inner.clone().prop_map(|i| format!("!!{i}")),
            1 => inner.clone().prop_map(|i| format!("- -{i}")),
            1 => (inner.clone(), two.clone()).prop_map(|(c, (a, b))| format!("{c} ? {a} : {b}")),
            1 => two.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => two.clone().prop_map(|(a, b)| format!("[{a}, {b},]")),
            1 => two.clone().prop_map(|(a, b)| format!("{{'k': {a}, 'l' : {b}}}")),
            1 => two.clone().prop_map(|(a, b)| format!("{a}[{b}]")),
            1 => inner.clone().prop_map(|i| format!("{i}.k")),
            1 => inner.clone().prop_map(|i| format!("{i} // so\n")),
            2 => (over, looped, inner.clone()).prop_map(|(l, m, b)| format!("{l}.{m}(e, {b})")),
            1 => two.clone().prop_map(|(a, b)| format!("inputs.numbers.map(f, {a}, {b})")),
            2 => (function, inner.clone()).prop_map(|(f, i)| format!("{f}({i})")),
            2 => (two, method).prop_map(|((a, b), m)| format!("{a}.{m}({b})")),
            1 => inner.prop_map(|i| format!("{i}.size()")),
        ]
    })
}

#[test]
fn means_what_it_means_to_the_library() {
    on_a_large_stack(|| {
        let evaluated = std::cell::Cell::new(0);
        proptest!(ProptestConfig::with_cases(1500), |(source in expressions())| {
            let ours = expression::evaluate(&source, &scope());
            let refused = ours.as_ref().is_err_and(|error| {
                ["levels deep", "within each other", "at most 1024", "no pattern", "there is no e here",
                    "there is no f here", "takes a name and", "no + for list and map"].iter().any(|bound| error.0.contains(bound))
            });
            // The order of a map's keys is the library's to choose; ours is sorted.
            let in_order = !(source.contains("inputs.tags.") && source.contains("tags.map(")
                || source.contains("tags.filter("));
            if !refused && in_order {
                let theirs = library::evaluate(&source, &scope().variables);
                let ours = ours.map_err(|_| ());
                let theirs = theirs.unwrap_or(Err(()));
                prop_assert_eq!(&ours, &theirs, "{}", source);
                evaluated.set(evaluated.get() + u32::from(ours.is_ok()));
            }
        });
        assert!(
            evaluated.get() > 100,
            "only {evaluated:?} expressions had a value"
        );
    });
}

#[test]
fn what_is_checked_does_not_fail_for_its_types() {
    on_a_large_stack(|| {
        let checked = std::cell::Cell::new(0);
        proptest!(ProptestConfig::with_cases(3000), |(source in expressions())| {
            if let Ok(kind) = expression::check(&source, &types()) {
                checked.set(checked.get() + 1);
                match expression::evaluate(&source, &scope()) {
                    Ok(value) => prop_assert!(is_of(&value, &kind), "{source} gave {value}, not {kind:?}"),
                    Err(error) => {
                        let for_its_types = ["`: no ", "is needed where", "there is no function", "have no order", "can't be a key"]
                            .iter()
                            .any(|words| error.0.contains(words));
                        // What a list of different things, or dyn(), gives is known only then.
                        let dynamic = source.contains("dyn(") || source.contains('[') || source.contains('?')
                            || source.contains('{');
                        prop_assert!(!for_its_types || dynamic, "{}", error);
                    }
                }
            }
        });
        assert!(checked.get() > 100, "only {checked:?} expressions were right");
    });
}

fn is_of(value: &Value, kind: &Type) -> bool {
    match (value, kind) {
        (_, Type::Any) => true,
        (Value::Null, Type::Null) | (Value::Bool(_), Type::Bool) | (Value::String(_), Type::Text) => true,
        (Value::Number(number), Type::Int) => number.is_i64(),
        (Value::Number(number), Type::Uint) => number.is_u64(),
        (Value::Number(number), Type::Double) => number.is_f64(),
        (Value::Array(values), Type::List(of)) => values.iter().all(|value| is_of(value, of)),
        (Value::Object(entries), Type::Map(of)) => entries.values().all(|value| is_of(value, of)),
        (Value::Object(entries), Type::Object(fields)) => {
            entries.len() == fields.len()
                && fields
                    .iter()
                    .all(|(name, kind)| entries.get(name).is_some_and(|value| is_of(value, kind)))
        }
        _ => false,
    }
}

#[test]
fn any_text_is_refused_or_evaluated() {
    on_a_large_stack(|| {
        let sign = r#"[-+*/%=!<>&|?:.,()\[\]{}'"\\ \n a-c0-9u`@ä]{0,40}"#;
        proptest!(ProptestConfig::with_cases(5000), |(source in sign)| {
            match expression::check(&source, &types()) {
                Ok(_) => {}
                Err(problems) => {
                    prop_assert!(!problems.is_empty());
                    for problem in problems {
                        prop_assert!(problem.offset <= source.len() && source.is_char_boundary(problem.offset));
                        prop_assert!(!problem.message.is_empty());
                    }
                }
            }
            let ours = expression::evaluate(&source, &scope());
            // What the library does not read, we do not either.
            if ours.is_ok() {
                prop_assert!(library::evaluate(&source, &scope().variables).is_some(), "{source}: {ours:?}");
            }
            let _ = expression::fill(&source, &scope());
        });
    });
}
