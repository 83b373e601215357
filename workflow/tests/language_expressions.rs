//! Expressions in a template: which names each sees, and where their problems are.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use workflow::language::{Devices, render};

fn problems(text: &str) -> Vec<String> {
    let Err(problems) = render(text, &Devices::default()) else {
        return Vec::new();
    };
    problems
        .iter()
        .map(|problem| {
            format!(
                "{}, {}: {}",
                problem.finding.place.line, problem.finding.place.column, problem.finding.message
            )
        })
        .collect()
}

const INPUTS: &str = "inputs: {n: 3, disk: /dev/sda, racks: [r1], labels: {type: map}}";

/// The problems of tasks, which begin at line 5.
#[track_caller]
fn check(tasks: &str, want: &[&str]) {
    let text = format!("version: '1'\nname: w\n{INPUTS}\ntasks:\n{tasks}");
    assert_eq!(problems(&text), want, "{text}");
}

#[test]
fn a_problem_is_where_it_stands_in_the_scalar() {
    let expressions = r#"- name: t
  worker: w
  when: 1 < 2 && aa
  environment:
    PLAIN: x ${{ bb }}
    SINGLE: 'it''s ${{ cc }}'
    DOUBLE: "é ${{ dd }}"
    ESCAPED: "a\tb ${{ ee }}"
    BLOCK: |
      one
        two ${{ inputs.n + ff }}
    FOLDED: >-
      one ${{ 'x' }}
      two ${{ gg }}
    TWICE: ${{ hh }} ${{ ii }}
    SAME: &same ${{ jj }}
    ALIAS: *same
"#;
    let text = format!("version: '1'\nname: w\n{INPUTS}\ntasks:\n{expressions}");
    let found: Vec<String> = problems(&text);
    let places: Vec<&str> = found
        .iter()
        .map(|found| found.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(
        places,
        [
            "7, 18", "9, 18", "10, 24", "11, 20", "12, 24", "15, 28", "18, 15", "19, 16", "19, 26", "20, 21"
        ],
        "{found:#?}"
    );
    assert_eq!(
        found[1],
        "9, 18: there is no \"bb\"; there are inputs, machine, tasks, vars, workflow"
    );
}

#[test]
fn the_types_of_inputs_are_known() {
    check(
        "- name: t\n  worker: w\n  when: inputs.n == 'x'\n  environment:\n    A: ${{ inputs.dsk }}\n    B: ${{ inputs.racks[0] + inputs.labels.x + string(inputs.n) }}\n    C: ${{ inputs.disk + 1 }}\n",
        &[
            "7, 18: int == string is always false: compare values of one type",
            "9, 19: inputs has no \"dsk\"; did you mean \"disk\"?",
            "11, 24: no + for string and int; make a string of the other with string(…)",
        ],
    );
    // One that is declared wrongly is told once.
    assert_eq!(
        problems("version: '1'\nname: w\ninputs: {x: {type: txt}}\noutputs: {a: inputs.x}\ntasks: [{name: t, wait: 1}]\n").len(),
        1
    );
}

#[test]
fn values_must_be_of_use_where_they_stand() {
    check(
        "- {name: a, wait: 1, when: inputs.n}\n- {name: b, wait: 1, forEach: inputs.disk}\n- {name: c, wait: 1, goto: {when: inputs.disk, task: c, max: 1}}\n",
        &[
            "5, 28: when is of type int: it must be true or false; compare it with something",
            "6, 31: forEach is of type string: it must be a list, like [inputs.disk]",
            "7, 35: when is of type string: it must be true or false; compare it with something",
        ],
    );
}

#[test]
fn a_task_sees_those_that_it_needs() {
    check(
        "- {name: a, wait: 1}\n- {name: b-1, wait: 1, when: tasks.a.state == 'SUCCESS'}\n\
         - {name: c, wait: 1, needs: [], when: tasks.a.state == 'SUCCESS'}\n\
         - {name: d, wait: 1, when: \"tasks['b-1'].error.reason == 'x' || tasks.c.outputs.x\"}\n\
         - {name: e, wait: 1, needs: [a, b-1], when: tasks.e.state == 'x' && tasks.zzz.state == 'x'}\n",
        &[
            "7, 45: tasks has no \"a\" yet: task \"c\" does not come after \"a\"; add that to its needs",
            "8, 35: tasks has no \"b-1\" yet: task \"d\" does not come after \"b-1\"; add that to its needs",
            "9, 51: tasks has no \"e\" yet: task \"e\" is not over",
            "9, 75: tasks has no \"zzz\"; it has a, b-1",
        ],
    );
    // A goto is evaluated at the end of its task, and the outputs at the end of all.
    check(
        "- {name: a, wait: 1, goto: {when: tasks.a.state == 'FAILED' && failure(), task: a, max: 1}}\n",
        &[],
    );
    let text = "version: '1'\nname: w\noutputs: {x: 'tasks.b.outputs[0].size', y: tasks.c.state}\ntasks: [{name: a, wait: 1}, {name: b, wait: 1, needs: [], forEach: '[1]'}]\n";
    assert_eq!(problems(text), ["3, 50: tasks has no \"c\"; did you mean \"a\"?"]);
}

#[test]
fn a_task_sees_the_variables_that_are_set_before() {
    check(
        "- {name: a, set: {count: 1 + 1, name: \"'x'\"}}\n- {name: b, wait: 1, when: vars.count == 'x' || vars.cuont == 1}\n\
         - {name: c, wait: 1, needs: [], when: vars.count == 1}\n- {name: d, set: {x: '1', y: vars.x}, needs: []}\n\
         - {name: e, needs: [a], set: {x: \"'text'\"}}\n- {name: f, needs: [d, e], wait: 1, when: vars.x == 5}\n",
        &[
            "6, 39: int == string is always false: compare values of one type",
            "6, 54: vars has no \"cuont\"; did you mean \"count\"?",
            "7, 44: vars has no \"count\" yet: task \"c\" does not come after \"a\"; add that to its needs",
            "8, 35: vars has no \"x\" yet: task \"d\" is not over",
        ],
    );
}

#[test]
fn a_loop_sees_what_its_tasks_came_to_in_the_round_before() {
    // Its own, and of a task that comes later in the loop; of one that comes before, this round's.
    check(
        "- {name: a, wait: 1, when: \"!has(tasks.a) || tasks.a.state == 'FAILED' || ('c-1' in tasks && size(tasks['c-1'].outputs) > 1)\"}\n\
         - {name: c-1, wait: 1, forEach: '[1, 2]', when: tasks.a.state == 'SUCCESS'}\n\
         - {name: d, wait: 1, goto: {when: tasks.d.state == 'FAILED', task: a, max: 2}}\n",
        &[],
    );
    check(
        "- {name: a, wait: 1, when: tasks.b.state == 'x' && tasks.a.outputs.n == 1}\n\
         - {name: b, wait: 1, goto: {when: round < 2, task: a, max: 2}}\n- {name: c, wait: 1, when: has(tasks.c)}\n",
        &[
            "5, 34: tasks.b is not there in the first round: write has(tasks.b) ? tasks.b : …",
            "5, 58: tasks.a is not there in the first round: write has(tasks.a) ? tasks.a : …",
            "7, 38: tasks has no \"c\" yet: task \"c\" is not over",
        ],
    );
}

#[test]
fn a_loop_sees_its_round_and_what_the_one_before_recorded() {
    // Own, and of a task that comes later in the loop; of one that comes before it is there anyway.
    check(
        "- {name: a, set: {x: 'has(vars.y) ? vars.y : round'}}\n- {name: b, set: {y: 'has(vars.y) ? vars.y + vars.x : 0'}, goto: {when: vars.y < 3 && round < 2, task: a, max: 5}}\n",
        &[],
    );
    check(
        "- {name: a, wait: 1, when: round == 0 || has(vars.y)}\n- {name: b, set: {y: vars.y + 1}, goto: {when: vars.y < 3, task: b, max: 5}}\n\
         - {name: c, needs: [a], set: {z: '1'}}\n- {name: d, needs: [a, c], wait: 1, when: has(vars.y)}\n- {name: e, needs: [d], wait: 1, when: round == 0}\n",
        &[
            "5, 28: there is no round where no goto leads back to",
            "5, 51: vars has no \"y\" yet: task \"a\" does not come after \"b\"; add that to its needs",
            "6, 27: vars.y is not there in the first round: write has(vars.y) ? vars.y : …",
            "8, 52: vars has no \"y\" yet: task \"d\" does not come after \"b\"; add that to its needs",
            "9, 40: there is no round where no goto leads back to",
        ],
    );
    // What runs beside it in the loop may have recorded its value or not.
    check(
        "- {name: a, wait: 1}\n- {name: b, needs: [a], wait: 1, when: has(vars.y)}\n- {name: c, needs: [a], set: {y: '1'}}\n\
         - {name: d, needs: [b, c], wait: 1, goto: {when: round < 2, task: a, max: 5}}\n",
        &["6, 49: vars has no \"y\" yet: task \"b\" does not come after \"c\"; add that to its needs"],
    );
}

#[test]
fn item_and_machine_are_there_where_there_are_some() {
    let tasks = "- {name: a, forEach: '[1, 2]', when: item == 'x', approve: {message: '${{ item }} ${{ machine.name }}'}}\n\
                 - {name: b, wait: 1, when: item == 1}\n- {name: c, wait: 1, when: machine.name == 'x'}\n\
                 - {name: d, worker: w, when: machine.labels.rack == 'x'}\n- {name: e, worker: w, forEach: '[item, machine.name]'}\n\
                 - {name: f, worker: '${{ item.mac }}', forEach: 'machines(\"rack == ''r7''\")', environment: {A: '${{ item.labels.x }}'}}\n";
    let text = format!("version: '1'\nname: w\n{INPUTS}\ntasks:\n{tasks}");
    let found = problems(&text);
    let places: Vec<&str> = found
        .iter()
        .map(|found| found.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(
        places,
        ["5, 43", "6, 28", "7, 28", "9, 35", "9, 41"],
        "{found:#?}"
    );
}

#[test]
fn machines_and_gates_are_asked_for_only_where_they_mean_something() {
    check(
        "- {name: a, wait: 1, forEach: 'machines(\"rack == ''r7''\")', when: always()}\n- {name: b, wait: '${{ success() }}', when: size(machines('true')) > 0}\n",
        &[
            "6, 24: success() can be called in `when` only",
            "6, 50: machines() can be called in the list of a forEach only",
        ],
    );
}

#[test]
fn syntax_errors_of_several_expressions_come_at_once() {
    check(
        "- {name: a, wait: 1, when: 1 +}\n- {name: b, set: {x: '(1', y: 'a b'}}\n",
        &[
            "5, 31: the end where a value should be",
            "6, 25: the end where ), the end of these brackets should be",
            "6, 34: b where an operator or the end of the expression should be; a text has quotes within quotes: \"'a b'\"",
        ],
    );
}

#[test]
fn many_tasks_and_expressions_are_checked_soon() {
    let mut text = "version: '1'\nname: w\ntasks:\n- {name: t0, set: {v0: '1'}}\n".to_owned();
    for task in 1..1500 {
        let before = task - 1;
        writeln!(
            text,
            "- {{name: t{task}, set: {{v{task}: tasks.t{before}.state == 'a' && vars.v{before} == 1}}}}"
        )
        .unwrap();
    }
    // Every second variable is known to be true or false, and compared with 1.
    assert_eq!(problems(&text).len(), 749);
    let circle = text.replace("{name: t0,", "{name: t0, needs: [t1499],");
    assert!(problems(&circle)[0].contains("circle"));
}
