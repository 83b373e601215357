//! What the checker finds: exact messages, at their places.

use super::*;

pub(super) fn types() -> Types {
    let names = |names: &[(&str, Type)]| {
        names
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), kind.clone()))
            .collect()
    };
    Types {
        inputs: names(&[
            ("n", Type::Int),
            ("x", Type::Double),
            ("name", Type::Text),
            ("on", Type::Bool),
            ("disks", Type::list()),
            ("tags", Type::map()),
        ]),
        vars: names(&[("count", Type::Any)]),
        later_vars: names(&[("found", Type::Any), ("next", Type::Text)]),
        round: true,
        branch: false,
        groups: BTreeMap::new(),
        later_tasks: names(&[("look", Type::Any), ("write-log", Type::list())]),
        tasks: names(&[
            ("probe", Type::map()),
            ("write-image", Type::object([("disk", Type::Text)])),
            ("each", Type::List(Box::new(Type::map()))),
        ]),
        machine: true,
        item: Some(Type::Any),
        machines: true,
        gates: true,
        inputs_only: false,
    }
}

#[test]
fn gives_the_type_of_what_is_right() {
    for (source, want) in [
        ("inputs.n + 1", Type::Int),
        ("-inputs.x * 2.0", Type::Double),
        ("inputs.name + '-' + string(inputs.n)", Type::Text),
        ("inputs.n == 1.0 && inputs.n < 2u", Type::Bool),
        ("vars.count + 1", Type::Int),
        ("vars.count + vars.count", Type::Any),
        ("inputs.disks[0]", Type::Any),
        ("inputs.disks + ['/dev/sda']", Type::list()),
        ("[1, 2].map(n, string(n))", Type::List(Box::new(Type::Text))),
        ("[1, 2].map(n, n > 1, n)", Type::List(Box::new(Type::Int))),
        (
            "inputs.tags.filter(t, t == 'a')",
            Type::List(Box::new(Type::Text)),
        ),
        ("[1, 'a', null]", Type::list()),
        (
            "{'a': 1, 'b': 'c'}",
            Type::object([("a", Type::Int), ("b", Type::Text)]),
        ),
        ("{'a': 1}.a", Type::Int),
        ("{inputs.name: 1}", Type::Map(Box::new(Type::Int))),
        ("[{'a': 1}, {'b': 2}][0].b", Type::Int),
        ("tasks.probe.outputs.disk.size() > 3", Type::Bool),
        ("tasks['write-image'].outputs.disk", Type::Text),
        ("tasks.each.outputs[0].disk", Type::Any),
        (
            "has(tasks.probe.error) && tasks.probe.error.reason == 'Lost'",
            Type::Bool,
        ),
        ("inputs.on ? 1 : 2", Type::Int),
        ("inputs.on ? 1 : 'a'", Type::Any),
        ("machine.labels.rack in ['r1']", Type::Bool),
        ("item.mac", Type::Any),
        ("item_index + 1", Type::Int),
        ("round", Type::Int),
        ("has(vars.found)", Type::Bool),
        ("has(vars.found) ? vars.found + 1 : 0", Type::Int),
        ("!has(vars.next) ? '' : vars.next", Type::Text),
        (
            "has(vars.next) && vars.next == 'x' && vars['next'] != 'y'",
            Type::Bool,
        ),
        ("!has(vars.next) || vars.next == 'x'", Type::Bool),
        ("!(has(vars.next) && inputs.on) || vars.next == 'x'", Type::Bool),
        (
            "has(vars.next) && has(vars.found) ? [vars.next, vars.found] : []",
            Type::list(),
        ),
        (
            "machines('rack == \"r7\"').filter(m, m.name != item)",
            Type::list(),
        ),
        ("workflow.run + 1", Type::Int),
        ("success() || always() && !failure()", Type::Bool),
        (
            "'a' in inputs.tags && 1 in [1.5] && 'a' in inputs.disks",
            Type::Bool,
        ),
        ("size('a') + [1].size() + size({})", Type::Int),
        (
            "matches(inputs.name, '^a') || inputs.name.matches(vars.count)",
            Type::Bool,
        ),
        ("null", Type::Null),
        ("vars.count == null", Type::Bool),
    ] {
        assert_eq!(check(source, &types()), Ok(want), "{source}");
    }
}

#[track_caller]
pub(super) fn all_wrong(cases: &[(&str, &[(usize, &str)])], check: impl Fn(&str) -> Vec<ExpressionProblem>) {
    let mut wrong = 0;
    for (source, want) in cases {
        let found = check(source);
        let found: Vec<(usize, &str)> = found
            .iter()
            .map(|problem| (problem.offset, problem.message.as_str()))
            .collect();
        if found != *want {
            println!("{source}\n    {found:?}");
            wrong += 1;
        }
    }
    assert_eq!(wrong, 0, "see above");
}

#[test]
fn finds_what_is_wrong_with_names_and_types() {
    let cases: &[(&str, &[(usize, &str)])] = &[
        (
            "inputs.n == 'x'",
            &[(9, "int == string is always false: compare values of one type")],
        ),
        (
            "'x' != inputs.n",
            &[(4, "string != int is always true: compare values of one type")],
        ),
        (
            "inputs.n == null",
            &[(9, "int == null is always false: compare values of one type")],
        ),
        (
            "[1] == ['a']",
            &[(4, "list == list is always false: compare values of one type")],
        ),
        (
            "inptus.n == 1",
            &[(0, "there is no \"inptus\"; did you mean \"inputs\"?")],
        ),
        (
            "foo",
            &[(
                0,
                "there is no \"foo\"; there are inputs, item, item_index, machine, round, tasks, vars, workflow",
            )],
        ),
        (
            "inputs.nmae",
            &[(7, "inputs has no \"nmae\"; did you mean \"name\"?")],
        ),
        (
            "inputs.other",
            &[(7, "inputs has no \"other\"; it has disks, n, name, on, tags, x")],
        ),
        (
            "has(inputs.other)",
            &[(11, "inputs has no \"other\"; it has disks, n, name, on, tags, x")],
        ),
        (
            "tasks.prob.state",
            &[(6, "tasks has no \"prob\"; did you mean \"probe\"?")],
        ),
        (
            "tasks.write-image.state",
            &[
                (6, "tasks has no \"write\"; write tasks['write-image']"),
                (
                    12,
                    "there is no \"image\"; there are inputs, item, item_index, machine, round, tasks, vars, workflow",
                ),
            ],
        ),
        (
            "tasks['write-imag'].state",
            &[(6, "tasks has no \"write-imag\"; did you mean \"write-image\"?")],
        ),
        (
            "tasks.probe.status",
            &[(12, "tasks.probe has no \"status\"; did you mean \"state\"?")],
        ),
        (
            "tasks.each.outputs.disk",
            &[(19, "a list has no fields: write [0] or a loop for .disk")],
        ),
        (
            "workflow.time",
            &[(9, "workflow has no \"time\"; did you mean \"name\"?")],
        ),
        (
            "{'a': 1}['b']",
            &[(9, "this map has no \"b\"; did you mean \"a\"?")],
        ),
        ("{}.b", &[(3, "this map has no \"b\"; it has no fields")]),
        ("inputs.n.x", &[(9, "int has no fields, so no .x")]),
        (
            "inputs.n + 'x'",
            &[(
                9,
                "no + for int and string; make a string of the other with string(…)",
            )],
        ),
        (
            "[1] + {'a': 1}",
            &[(
                4,
                "no + for list and map; make a list of the map's keys with x.map(k, k)",
            )],
        ),
        (
            "inputs.n + inputs.x",
            &[(
                9,
                "no + for int and double; make them of one kind with int(…) or double(…)",
            )],
        ),
        ("inputs.n - 'x'", &[(9, "no - for int and string")]),
        ("inputs.disks * 2", &[(13, "no * for list and int")]),
        (
            "inputs.x % 2.0",
            &[(
                9,
                "no % for double and double; make them of one kind with int(…) or double(…)",
            )],
        ),
        ("vars.count - 'x'", &[(11, "no - for any and string")]),
        ("inputs.n < 'x'", &[(9, "no < for int and string")]),
        ("inputs.disks > inputs.disks", &[(13, "no > for list and list")]),
        (
            "1 in 'abc'",
            &[(
                2,
                "no in for int and string; it takes a list or a map on its right",
            )],
        ),
        (
            "1 in ['a']",
            &[(
                2,
                "int in a list of string is always false: compare values of one type",
            )],
        ),
        (
            "1 in inputs.tags",
            &[(2, "no in for int and map; the keys of a map are strings")],
        ),
        ("-inputs.name", &[(0, "no - for string")]),
        ("!inputs.n", &[(0, "! takes a bool, not int")]),
        (
            "inputs.n && inputs.on || 'x'",
            &[
                (7, "&& takes a bool, not int"),
                (25, "|| takes a bool, not string"),
            ],
        ),
        ("inputs.n ? 1 : 2", &[(9, "? : decides by a bool, not int")]),
        (
            "inputs.disks['a']",
            &[(
                12,
                "no [] for list and string; the elements of a list have numbers from 0",
            )],
        ),
        (
            "inputs.tags[1]",
            &[(11, "no [] for map and int; the keys of a map are strings")],
        ),
        ("inputs.name[0]", &[(11, "no [] for string and int")]),
        (
            "{1: 2}",
            &[(1, "the keys of a map are strings, not int: write string(…)")],
        ),
        (
            "{'a': 1, 'a': 2}",
            &[(9, "the key \"a\" stands in this map twice")],
        ),
        (
            "lenght('a')",
            &[(
                0,
                "there is no function lenght(); there are always, bool, contains, double, dyn, endsWith, failure, int, machines, matches, size, startsWith, string, success, uint, all, …",
            )],
        ),
        (
            "'a'.startswith('b')",
            &[(
                4,
                "there is no function startswith(); did you mean \"startsWith\"?",
            )],
        ),
        (
            "now()",
            &[(
                0,
                "there is no function now(); there are always, bool, contains, double, dyn, endsWith, failure, int, machines, matches, size, startsWith, string, success, uint, all, …",
            )],
        ),
        ("size", &[(0, "size is a function: write size(…)")]),
        (
            "size(1)",
            &[(0, "no size() for int: it takes string or list or map")],
        ),
        ("size('a', 'b')", &[(0, "size() takes one argument, not 2")]),
        ("'a'.size(1)", &[(4, "size() takes no argument, not 1")]),
        (
            "contains('a', 'b')",
            &[(0, "contains() is called on a value: x.contains(…)")],
        ),
        (
            "'a'.contains(1)",
            &[(4, "no contains() for string and int: it takes string and string")],
        ),
        ("'1'.int()", &[(4, "int() stands alone: int(…), not x.int(…)")]),
        ("matches('a')", &[(0, "matches() takes 2 arguments, not 1")]),
        (
            "'a'.matches('(')",
            &[(12, "matches(): \"(\" is no pattern: error: unclosed group")],
        ),
        (
            "string([1])",
            &[(
                0,
                "no string() for list: it takes string or bool or int or uint or double",
            )],
        ),
        (
            "all(inputs.disks, d, true)",
            &[
                (0, "all() is called on a list or a map: list.all(x, …)"),
                (
                    18,
                    "there is no \"d\"; there are inputs, item, item_index, machine, round, tasks, vars, workflow",
                ),
            ],
        ),
        (
            "inputs.n.all(x, true)",
            &[(9, "all() goes over a list or a map, not int")],
        ),
        (
            "[1].all(x, x)",
            &[(11, "the condition of all() is a bool, not int")],
        ),
        (
            "[1].filter(x, x + 'a' == '')",
            &[(
                16,
                "no + for int and string; make a string of the other with string(…)",
            )],
        ),
        (
            "[1].map(x, x, x)",
            &[(11, "the condition of map() is a bool, not int")],
        ),
        (
            "[1].map(item, item)",
            &[(
                4,
                "\"item\" means something here already: take another name for map()",
            )],
        ),
        (
            "[1].map(x, [2].map(x, x))",
            &[(
                15,
                "\"x\" means something here already: take another name for map()",
            )],
        ),
        (
            "[1].exists(disk, dsk == 1)",
            &[(17, "there is no \"dsk\"; did you mean \"disk\"?")],
        ),
        (
            "[1].map(x, x) + [x]",
            &[(
                17,
                "there is no \"x\"; there are inputs, item, item_index, machine, round, tasks, vars, workflow",
            )],
        ),
        ("machines(1)", &[(0, "no machines() for int: it takes string")]),
        (
            "machines('rack = (1)')",
            &[(9, "in this selector, at its column 6: a single =: equality is ==")],
        ),
        (
            "machines('rack == 1 && name == 2')",
            &[
                (
                    9,
                    "in this selector, at its column 6: string == int is always false: compare values of one type",
                ),
                (
                    9,
                    "in this selector, at its column 19: string == int is always false: compare values of one type",
                ),
            ],
        ),
        (
            "['a'].map(r, machines(r))",
            &[(
                22,
                "machines() is asked before the loop: it can't see r, which the loop binds",
            )],
        ),
        (
            "machines(machines('a == \"\"')[0].name)",
            &[(0, "machines() within machines(): take it apart")],
        ),
        (
            "inputs.z + tasks.y + foo()",
            &[
                (7, "inputs has no \"z\"; did you mean \"n\"?"),
                (17, "tasks has no \"y\"; it has each, probe, write-image"),
                (21, "there is no function foo(); did you mean \"bool\"?"),
            ],
        ),
    ];
    all_wrong(cases, |source| check(source, &types()).err().unwrap_or_default());
}

#[test]
fn says_where_a_name_or_function_may_not_be_used() {
    let elsewhere = Types {
        machine: false,
        item: None,
        machines: false,
        gates: false,
        round: false,
        ..types()
    };
    let cases: &[(&str, &[(usize, &str)])] = &[
        (
            "item_index == 1",
            &[(0, "there is no item_index outside a task with forEach")],
        ),
        (
            "round == 1",
            &[(0, "there is no round where no goto leads back to")],
        ),
        (
            "item == 1",
            &[(0, "there is no item outside a task with forEach")],
        ),
        (
            "machine.name",
            &[(0, "there is no machine in a task without a worker")],
        ),
        (
            "machines(\"a == ''\")",
            &[(0, "machines() can be called in the list of a forEach only")],
        ),
        (
            "1 == 1 && success()",
            &[(10, "success() can be called in `when` only")],
        ),
        ("failure()", &[(0, "failure() can be called in `when` only")]),
        ("always()", &[(0, "always() can be called in `when` only")]),
        ("[1].map(item, item)", &[]),
    ];
    all_wrong(cases, |source| {
        check(source, &elsewhere).err().unwrap_or_default()
    });
    let nothing = Types::default();
    let cases: &[(&str, &[(usize, &str)])] = &[
        ("inputs.a", &[(7, "inputs has no \"a\"; it has no fields")]),
        ("vars.a", &[(5, "vars has no \"a\"; it has no fields")]),
    ];
    all_wrong(cases, |source| check(source, &nothing).err().unwrap_or_default());
}

#[test]
fn what_an_earlier_round_recorded_is_asked_for_with_has() {
    let found = "vars.found is not there in the first round: write has(vars.found) ? vars.found : …";
    let next = "vars.next is not there in the first round: write has(vars.next) ? vars.next : …";
    let cases: &[(&str, &[(usize, &str)])] = &[
        ("vars.found", &[(5, found)]),
        ("vars['found']", &[(5, found)]),
        ("has(vars.next) ? vars.found : 1", &[(22, found)]),
        ("has(vars.next) ? 1 : vars.next", &[(26, next)]),
        ("has(vars.next) || vars.next == 'x'", &[(23, next)]),
        ("vars.next == 'x' && has(vars.next)", &[(5, next)]),
        ("(has(vars.next) && inputs.on) || vars.next == 'x'", &[(38, next)]),
        ("(has(vars.next) || inputs.on) && vars.next == 'x'", &[(38, next)]),
        (
            "(has(vars.next) && inputs.on) && true || vars.next == 'x'",
            &[(46, next)],
        ),
        ("[has(vars.next), vars.next == 'x']", &[(22, next)]),
        (
            "has(vars.next) ? vars.next + 1 : 1",
            &[(
                27,
                "no + for string and int; make a string of the other with string(…)",
            )],
        ),
    ];
    all_wrong(cases, |source| check(source, &types()).err().unwrap_or_default());
}

#[test]
fn what_a_task_came_to_in_the_round_before_is_asked_for_with_has() {
    let look = "tasks.look is not there in the first round: write has(tasks.look) ? tasks.look : …";
    let log = "tasks['write-log'] is not there in the first round: write 'write-log' in tasks ? tasks['write-log'] : …";
    let cases: &[(&str, &[(usize, &str)])] = &[
        ("tasks.look.outputs.n", &[(6, look)]),
        ("has(tasks.look.outputs.n)", &[(10, look)]),
        ("has(tasks.look) ? 1 : tasks.look.outputs.n", &[(28, look)]),
        // A variable of the same name is another thing.
        ("has(vars.found) && tasks.look.state == ''", &[(25, look)]),
        ("tasks['write-log'].outputs[0]", &[(6, log)]),
        (
            "!('write-log' in tasks) && tasks['write-log'].state == ''",
            &[(33, log)],
        ),
        (
            "'write-log' in inputs.tags && tasks['write-log'].state == ''",
            &[(36, log)],
        ),
        (
            "has(tasks.look) && tasks.look.staet == ''",
            &[(30, "tasks.look has no \"staet\"; did you mean \"state\"?")],
        ),
    ];
    all_wrong(cases, |source| check(source, &types()).err().unwrap_or_default());
    for (source, want) in [
        (
            "has(tasks.look) && has(tasks.look.outputs.n) ? tasks.look.outputs.n : 0",
            Type::Any,
        ),
        ("has(tasks.look) ? tasks.look.state : ''", Type::Text),
        (
            "'write-log' in tasks ? tasks['write-log'].outputs : []",
            Type::list(),
        ),
        (
            "!('write-log' in tasks) || tasks['write-log'].state == ''",
            Type::Bool,
        ),
    ] {
        assert_eq!(check(source, &types()), Ok(want), "{source}");
    }
}

#[test]
fn a_group_has_the_outputs_of_its_tasks_by_name() {
    let outputs = Type::object([("a", Type::Any), ("b-1", Type::list())]);
    let types = Types {
        branch: true,
        groups: BTreeMap::from([("scan".to_owned(), outputs)]),
        ..types()
    };
    for (source, want) in [
        ("tasks.scan.outputs.a", Type::Any),
        ("tasks.scan.outputs['b-1']", Type::list()),
        ("tasks.scan.state == 'SUCCESS'", Type::Bool),
        ("branch_index + 1", Type::Int),
    ] {
        assert_eq!(check(source, &types), Ok(want), "{source}");
    }
    let cases: &[(&str, &[(usize, &str)])] = &[(
        "tasks.scan.outputs.c",
        &[(19, "tasks.scan.outputs has no \"c\"; did you mean \"a\"?")],
    )];
    all_wrong(cases, |source| check(source, &types).err().unwrap_or_default());
    let nothing = check("branch_index", &Types::default()).unwrap_err();
    assert_eq!(
        nothing[0].message,
        "there is no branch_index outside a task of a group"
    );
}

#[test]
fn checks_texts_and_selectors() {
    let cases: &[(&str, &[(usize, &str)])] = &[
        ("plain", &[]),
        (
            "a ${{ inputs.m }}, ${{  1 + 'x' }}",
            &[
                (13, "inputs has no \"m\"; did you mean \"n\"?"),
                (
                    26,
                    "no + for int and string; make a string of the other with string(…)",
                ),
            ],
        ),
        (
            "é ${{ 1",
            &[(3, "this ${{ has no }} (one in quotes or of a map does not count)")],
        ),
        ("${{ }}", &[(4, "an empty expression")]),
    ];
    all_wrong(cases, |text| check_text(text, &types()).err().unwrap_or_default());
    assert_eq!(check_text("${{ inputs.n }}", &types()), Ok(Type::Int));
    assert_eq!(check_text("${{ inputs.n }} ", &types()), Ok(Type::Text));
    assert_eq!(check_text("", &types()), Ok(Type::Text));

    let cases: &[(&str, &[(usize, &str)])] = &[
        ("rack == 'r7' && labels['a'] != '' && metadata.cores > 3", &[]),
        ("labels.exists(l, l == 'a')", &[]),
        (
            "(rack)",
            &[(0, "a selector is true or false for a machine, not string")],
        ),
        (
            "rack == (7)",
            &[(5, "string == int is always false: compare values of one type")],
        ),
        (
            "machines('(a)') == []",
            &[
                (0, "machines() can be called in the list of a forEach only"),
                (
                    9,
                    "in this selector, at its column 1: a selector is true or false for a machine, not string",
                ),
            ],
        ),
        ("success()", &[(0, "success() can be called in `when` only")]),
    ];
    all_wrong(cases, |selector| {
        check_selector(selector).err().unwrap_or_default()
    });
}

#[test]
fn a_label_of_the_workflow_is_asked_for_where_it_is_there() {
    for (source, want) in [
        ("workflow.labels", Type::Map(Box::new(Type::Text))),
        ("has(workflow.labels.rack)", Type::Bool),
        (
            "has(workflow.labels.rack) ? workflow.labels.rack : ''",
            Type::Text,
        ),
        (
            "has(workflow.labels.rack) && workflow.labels['rack'] == 'r7'",
            Type::Bool,
        ),
        (
            "'a/b-c' in workflow.labels ? workflow.labels['a/b-c'] : ''",
            Type::Text,
        ),
        (
            "!('a' in workflow.labels) || workflow.labels.a == 'x'",
            Type::Bool,
        ),
        (
            "workflow.labels.exists(key, workflow.labels[key] == 'x')",
            Type::Bool,
        ),
        ("workflow.labels == {'a': 'b'}", Type::Bool),
    ] {
        assert_eq!(check(source, &types()), Ok(want), "{source}");
    }
    let rack = "a workflow may not have the label \"rack\": write has(workflow.labels.rack) ? workflow.labels.rack : …";
    for (source, at, want) in [
        ("workflow.labels.rack", 16, rack),
        ("workflow.labels['rack'] == 'r7'", 16, rack),
        ("has(workflow.labels.row) ? workflow.labels.rack : ''", 43, rack),
        ("has(workflow.labels.rack) ? '' : workflow.labels.rack", 49, rack),
        (
            "has(vars.next) ? workflow.labels.next : ''",
            33,
            "a workflow may not have the label \"next\": write has(workflow.labels.next) ? workflow.labels.next : …",
        ),
        (
            "workflow.labels['a/b-c']",
            16,
            "a workflow may not have the label \"a/b-c\": write 'a/b-c' in workflow.labels ? workflow.labels['a/b-c'] : …",
        ),
    ] {
        let found = check(source, &types()).expect_err(source);
        let found: Vec<(usize, &str)> = found
            .iter()
            .map(|one| (one.offset, one.message.as_str()))
            .collect();
        assert_eq!(found, [(at, want)], "{source}");
    }
    assert!(
        check(
            "has(workflow.labels.rack) ? workflow.labels.rack + 1 : 1",
            &types()
        )
        .is_err()
    );
}
