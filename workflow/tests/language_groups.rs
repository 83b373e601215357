//! `group` of a task: which tasks its branches need, what needs them, and what expressions see of it.
#![allow(clippy::unwrap_used)]

use workflow::language::{Definition, Devices, render};

fn rendered(fields: &str) -> Result<Definition, Vec<String>> {
    let text = format!("version: '1'\nname: w\n{fields}\n");
    let rendered = render(&text, &Devices::default()).map_err(|problems| -> Vec<String> {
        let found = problems.iter().map(|problem| &problem.finding);
        found
            .map(|finding| {
                format!(
                    "{}, {}: {}",
                    finding.place.line, finding.place.column, finding.message
                )
            })
            .collect()
    });
    rendered.map(|rendered| rendered.definition)
}

#[track_caller]
fn needs(tasks: &str, want: &[&[usize]]) {
    let definition = rendered(&format!("tasks:\n{tasks}")).unwrap();
    let needs: Vec<&[usize]> = definition
        .tasks
        .iter()
        .map(|task| task.needs.as_slice())
        .collect();
    assert_eq!(needs, want, "{tasks}");
}

#[track_caller]
fn wrong(tasks: &str, want: &[&str]) {
    assert_eq!(
        rendered(&format!("tasks:\n{tasks}")).unwrap_err(),
        want,
        "{tasks}"
    );
}

#[test]
fn branches_need_what_stands_before_the_group_and_what_stands_behind_needs_them_all() {
    needs(
        "- {name: a, wait: 1}\n- {name: b, wait: 1, group: g}\n- {name: c, wait: 1, group: g}\n- {name: d, wait: 1, group: g}\n\
         - {name: e, wait: 1}\n- {name: f, wait: 1}\n",
        &[&[], &[0], &[0], &[0], &[1, 2, 3], &[4]],
    );
    // At the beginning, one group behind another, and what says its needs itself.
    needs(
        "- {name: a, wait: 1, group: g}\n- {name: b, wait: 1, group: g}\n- {name: c, wait: 1, group: h}\n- {name: d, wait: 1, group: h, \
         needs: [a]}\n- {name: e, wait: 1, group: h}\n- {name: f, wait: 1, needs: [h]}\n- {name: i, wait: 1, needs: [a, g2]}\n\
         - {name: g2, wait: 1, needs: []}\n",
        &[&[], &[], &[0, 1], &[0], &[0], &[2, 3, 4], &[0, 7], &[]],
    );
}

#[test]
fn the_name_of_a_group_stands_for_its_tasks_in_recovers_too() {
    let tasks = "tasks:\n- {name: a, wait: 1, group: g}\n- {name: b, wait: 1, group: g}\n- {name: c, wait: 1, when: failure(), recovers: g}\n";
    assert_eq!(rendered(tasks).unwrap().tasks[2].recovers, [0, 1]);
}

#[test]
fn what_is_no_group_is_refused() {
    wrong(
        "- {name: a, wait: 1, group: g}\n- {name: b, wait: 1}\n- {name: c, wait: 1, group: g}\n",
        &[
            "6, 29: task \"c\" is of group \"g\" and stands apart from \"a\": the tasks of a group stand one after the other",
        ],
    );
    wrong(
        "- {name: a, wait: 1, group: b}\n- {name: b, wait: 1}\n",
        &["4, 29: group \"b\" is called as a task is: names must differ"],
    );
    wrong(
        "- {name: a, wait: 1, group: g}\n- {name: b, wait: 1, group: g, needs: [g]}\n- {name: c, wait: 1, needs: [a, g]}\n\
         - {name: d, wait: 1, needs: [grp]}\n",
        &[
            "5, 40: task \"b\" needs its own group \"g\": take it out",
            "6, 33: task \"c\" needs a task of group \"g\" twice: take one out",
            "7, 30: task \"d\" needs \"grp\", which is no task: the tasks are \"a\", \"b\", \"c\", \"d\"",
        ],
    );
    wrong(
        "- {name: a, wait: 1, group: '${{ 1 }}'}\n",
        &["4, 29: group is not looked through for ${{ }}: write it out"],
    );
}

#[test]
fn a_group_is_seen_by_what_comes_after_all_of_it() {
    let tasks = |when: &str| {
        format!(
            "tasks:\n- {{name: a, set: {{n: '1'}}, group: g}}\n- {{name: b, wait: 1, group: g, forEach: '[1]'}}\n- {{name: c, wait: 1, needs: [a], when: {when}}}\n\
             - {{name: d, wait: 1, needs: g, when: {when}}}\n"
        )
    };
    let found = rendered(&tasks("size(tasks.g.outputs.b) == tasks.g.outputs.a.n")).unwrap_err();
    assert_eq!(
        found,
        [
            "6, 51: tasks has no \"g\"; did you mean \"a\"?",
            "6, 73: tasks has no \"g\"; did you mean \"a\"?"
        ]
    );
    assert!(rendered(&tasks("1 == 1")).is_ok());
    let found = rendered(
        "tasks:\n- {name: a, set: {n: branch_index}, group: g}\n- {name: b, set: {n: branch_index}}\n",
    )
    .unwrap_err();
    assert_eq!(
        found,
        ["5, 22: there is no branch_index outside a task of a group"]
    );
    let outputs = "outputs: {all: tasks.g.outputs.c}\ntasks: [{name: a, wait: 1, group: g}]";
    assert_eq!(
        rendered(outputs).unwrap_err(),
        ["3, 32: tasks.g.outputs has no \"c\"; did you mean \"a\"?"]
    );
}
