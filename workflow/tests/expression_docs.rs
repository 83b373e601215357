//! The examples of docs/reference/expressions.md are evaluated, and its limits are the limits.

use serde_json::{Value, json};
use workflow::expression::{self, Scope, Type, Types};

const PAGE: &str = include_str!("../../docs/reference/expressions.md");

/// The lines of the blocks of a kind: what is before the last `// `, and what is behind it.
fn examples(kind: &str) -> Vec<(&'static str, &'static str)> {
    let mut inside = false;
    let mut examples = Vec::new();
    for line in PAGE.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            inside = fence == kind;
        } else if inside {
            let (source, want) = line
                .rsplit_once(" // ")
                .expect("an example ends with // and what it gives");
            examples.push((source.trim_end(), want));
        }
    }
    assert!(!examples.is_empty(), "the page has examples of {kind}");
    examples
}

fn scope() -> Scope {
    let variables = json!({"inputs": {
        "n": 3, "name": "node-7", "disks": ["/dev/sda", "/dev/nvme0n1"], "tags": {"rack": "r7", "gpu": "a"},
    }});
    Scope {
        variables: variables.as_object().cloned().unwrap_or_default(),
        ..Scope::default()
    }
}

fn types() -> Types {
    let inputs = [
        ("n", Type::Int),
        ("name", Type::Text),
        ("disks", Type::list()),
        ("tags", Type::map()),
    ];
    Types {
        inputs: inputs.map(|(name, kind)| (name.to_owned(), kind)).into(),
        tasks: [("probe".to_owned(), Type::map())].into(),
        ..Types::default()
    }
}

#[test]
fn examples_give_what_the_page_says() {
    for (source, want) in examples("cel") {
        let want: Value = serde_json::from_str(want).expect("a result is JSON");
        assert_eq!(expression::evaluate(source, &scope()), Ok(want), "{source}");
        let checked = expression::check(source, &types());
        assert!(checked.is_ok(), "{source}: {checked:?}");
    }
    for (text, want) in examples("text") {
        let want: Value = serde_json::from_str(want).expect("a result is JSON");
        assert_eq!(expression::fill(text, &scope()), Ok(want), "{text}");
        assert!(expression::check_text(text, &types()).is_ok(), "{text}");
    }
    let disk = json!({"name": "/dev/nvme0n1", "transport": "nvme", "logical_sector_bytes": 4096});
    let machine = json!({
        "name": "a",
        "labels": {"rack": "r7", "unit-height": "2"},
        "inventory": {"memory_bytes": 32_u64 << 30, "disks": [disk], "gpus": []},
    });
    for (selector, want) in examples("selector") {
        assert_eq!(
            expression::Selector::parse(selector).and_then(|selector| selector.matches(&machine)),
            Ok(want == "true"),
            "{selector}"
        );
        assert_eq!(expression::check_selector(selector), Ok(()), "{selector}");
    }
}

#[test]
fn examples_are_refused_as_the_page_says() {
    for (source, want) in examples("wrong") {
        let problems = expression::check(source, &types()).expect_err(source);
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, [want], "{source}");
    }
    for (source, want) in examples("failing") {
        let error = expression::evaluate(source, &scope()).expect_err(source);
        assert_eq!(error.0, want, "{source}");
        assert!(expression::check(source, &types()).is_ok(), "{source}");
    }
}

#[test]
fn limits_are_the_pages() {
    for (what, limit) in [
        (
            "length of an expression",
            format!("{} bytes", expression::MAX_SOURCE_BYTES),
        ),
        ("depth of its syntax tree", expression::MAX_DEPTH.to_string()),
        ("loops within each other", expression::MAX_LOOP_DEPTH.to_string()),
        ("steps", expression::MAX_STEPS.to_string()),
        ("bytes that are copied", expression::MAX_BYTES.to_string()),
        ("result", format!("{} bytes", expression::MAX_RESULT_BYTES)),
    ] {
        let row = format!("| {what}");
        let row = PAGE.lines().find(|line| line.starts_with(&row)).expect(what);
        assert!(row.ends_with(&format!("| {limit} |")), "{row}");
    }
}
