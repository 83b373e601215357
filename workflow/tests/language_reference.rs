//! docs/reference/templates.md has an example of every field, and all of its examples are good.
#![allow(clippy::unwrap_used)]

mod script;

use std::collections::BTreeSet;
use std::path::Path;

use script::{devices, examples};
use workflow::language::{check, render};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/templates.md");
    std::fs::read_to_string(path).unwrap()
}

/// The fields that a mapping may have, as the message about an unknown one says.
fn fields(of: &str, frame: &str) -> BTreeSet<String> {
    let text = format!(
        "version: '1'\nname: w\n{}\n",
        frame.replace("HERE", "qqqqqqqqqqqqqqqqqqqqqq: 1")
    );
    let problems = render(&text, &devices()).unwrap_err();
    let list = problems
        .iter()
        .find_map(|problem| {
            problem
                .finding
                .message
                .split_once(&format!("is no field of {of}: the fields are "))
        })
        .unwrap_or_else(|| panic!("{of}: {problems:?}"))
        .1;
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_example_is_good() {
    let page = page();
    let examples = examples(&page);
    assert!(examples.len() > 15);
    for example in examples {
        let fail = |problems: Vec<workflow::language::Problem>| -> ! {
            let lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
            panic!("{lines}\n{example}")
        };
        assert_eq!(check(example).unwrap_or_else(|problems| fail(problems)), []);
        let rendered = render(example, &devices()).unwrap_or_else(|problems| fail(problems));
        assert_eq!(rendered.warnings, [], "{example}");
    }
}

#[test]
fn every_field_is_described_and_has_an_example() {
    let page = page();
    let examples = examples(&page).concat();
    let tasks = "tasks: [{name: t, worker: w, HERE}]";
    let action = "tasks: [{name: t, worker: w, actions: [{name: a, image: alpine, HERE}]}]";
    let within = |field: &str| action.replace("HERE", &format!("{field}: {{HERE}}"));
    let in_task = |field: &str| tasks.replace("HERE", &format!("{field}: {{HERE}}"));
    let all = [
        fields("a workflow", "HERE\ntasks: [{name: t, worker: w}]"),
        fields("an input", "inputs: {x: {HERE}}\ntasks: [{name: t, worker: w}]"),
        fields("a task", tasks),
        fields("approve", &in_task("approve")),
        fields("goto", &in_task("goto")),
        fields("fail", &in_task("fail")),
        fields("an action", action),
        fields("retry", &within("retry")),
        fields("namespaces", &within("namespaces")),
    ];
    for field in all.iter().flatten() {
        let described = ["", "….", "tasks[].", "goto.", "fail.", "approve."]
            .iter()
            .any(|of| page.contains(&format!("`{of}{field}`")) || page.contains(&format!("`{of}{field}[]`")));
        assert!(described, "{field} is not described");
        let is_used = examples.match_indices(&format!("{field}:")).any(|(at, _)| {
            examples[..at]
                .chars()
                .next_back()
                .is_none_or(|before| matches!(before, ' ' | '{' | '\n'))
        });
        assert!(is_used, "{field} has no example");
    }
}
