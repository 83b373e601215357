//! Values, errors, bounds.

use serde_json::{Map, Value, json};

use super::*;

fn scope() -> Scope {
    let variables = json!({
        "inputs": {"n": 3, "x": 2.5, "name": "node-7", "disks": ["/dev/sda", "/dev/sdb"], "big": u64::MAX,
            "tags": {"b": 1, "a": 2, "c": 3}, "on": true, "none": null},
        "tasks": {"probe": {"state": "SUCCESS", "outputs": {"disk": "/dev/nvme0n1", "gib": 64}},
            "write": {"state": "FAILED", "outputs": {}, "error": {"reason": "WrongDigest", "message": "no"}}},
        "vars": {"count": 2},
        "item": "/dev/sda",
        "workflow": {"id": "w", "name": "install", "run": 1, "namespace": "default"},
    });
    Scope {
        variables: variables.as_object().cloned().unwrap_or_default(),
        success: true,
        failure: false,
        machines: BTreeMap::from([(
            "rack == 'r7'".to_owned(),
            vec![
                json!({"name": "a", "mac": "52:54:00:77:00:0b"}),
                json!({"name": "b"}),
            ],
        )]),
    }
}

#[test]
fn gives_values_of_every_kind_as_json() {
    for (source, want) in [
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3", json!(9)),
        ("7 / 2", json!(3)),
        ("-7 % 4", json!(-3)),
        ("7.0 / 2.0", json!(3.5)),
        ("--1 - -1", json!(2)),
        ("!!true", json!(true)),
        ("!(1 < 2) || 2 >= 2 && 1 != 2", json!(true)),
        ("0x1f + 1", json!(32)),
        ("18446744073709551615u", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("1e3 + .5", json!(1000.5)),
        (r#"'a' + "b" + r'\n' + '''c'd'''"#, json!("ab\\nc'd")),
        (r#"'\u00e9\x41\101\n\'"' "#, json!("éAA\n'\"")),
        ("1 == 1.0 && 1u == 1", json!(true)),
        ("[1, 'a', [true], {'k': null}][2][0]", json!(true)),
        ("[1, 2] + [3,]", json!([1, 2, 3])),
        (
            "[1, 2] + inputs.tags.map(k, inputs.tags[k])",
            json!([1, 2, 2, 1, 3]),
        ),
        ("null", json!(null)),
        ("inputs.n > 2 ? 'many' : 'few'", json!("many")),
        ("inputs.big", json!(u64::MAX)),
        ("inputs['name'].startsWith('node-')", json!(true)),
        (
            "inputs.name.endsWith('7') && inputs.name.contains('de')",
            json!(true),
        ),
        ("inputs.name.matches('^node-[0-9]+$')", json!(true)),
        ("matches(inputs.name, '^[0-9]')", json!(false)),
        (
            "size(inputs.disks) + inputs.disks.size() + size('äö') + size(inputs.tags)",
            json!(9),
        ),
        (
            "'/dev/sda' in inputs.disks && 'a' in inputs.tags && !('z' in inputs.tags)",
            json!(true),
        ),
        (
            "has(inputs.name) && !has(inputs.other) && !has(tasks.probe.error)",
            json!(true),
        ),
        ("inputs.disks.all(d, d.startsWith('/dev/'))", json!(true)),
        ("inputs.disks.exists(d, d == item)", json!(true)),
        ("inputs.disks.exists_one(d, d == item)", json!(true)),
        ("inputs.disks.filter(d, d != item)", json!(["/dev/sdb"])),
        (
            "inputs.disks.map(d, {'disk': d, 'of': workflow.name})",
            json!([{"disk": "/dev/sda", "of": "install"}, {"disk": "/dev/sdb", "of": "install"}]),
        ),
        ("[1, 2, 3, 4].map(n, n % 2 == 0, n * n)", json!([4, 16])),
        (
            "inputs.tags.map(k, k + string(inputs.tags[k]))",
            json!(["a2", "b1", "c3"]),
        ),
        ("inputs.tags.filter(k, inputs.tags[k] > 1)", json!(["a", "c"])),
        ("{3: 'c', 1: 'a', 2: 'b'}.map(k, k)", json!([1, 2, 3])),
        (
            "string(1) + string(2.5) + string(true) + string('x')",
            json!("12.5truex"),
        ),
        ("int('12') + int(3.9) + int(4u)", json!(19)),
        ("double('1.5') + double(1)", json!(2.5)),
        ("uint(7) + 1u", json!(8)),
        ("bool('true')", json!(true)),
        ("dyn(1) == 'x'", json!(false)),
        ("success() && !failure() && always()", json!(true)),
        (
            "tasks.write.state == 'FAILED' && tasks.write.error.reason == 'WrongDigest'",
            json!(true),
        ),
        ("vars.count", json!(2)),
        ("machines(\"rack == 'r7'\").map(m, m.name)", json!(["a", "b"])),
        (
            "machines('rack == ' + \"'r\" + string(inputs.n + 4) + \"'\").size()",
            json!(2),
        ),
        ("true || 1 / 0 == 1", json!(true)),
        ("1 / 0 == 1 || true", json!(true)),
        ("1 // a comment\n + 1", json!(2)),
        (
            "{'b': 1, 'a': {'z': 1, 'y': 2}}",
            json!({"a": {"y": 2, "z": 1}, "b": 1}),
        ),
    ] {
        assert_eq!(evaluate(source, &scope()), Ok(want), "{source}");
    }
}

#[test]
fn maps_come_out_in_order_of_their_keys() {
    let keys: Vec<String> = (0..50).map(|n| format!("'k{n:02}': {n}")).collect();
    let source = format!("{{{}}}", keys.join(", "));
    for _ in 0..5 {
        let value = evaluate(&source, &scope()).unwrap();
        let text = value.to_string();
        assert!(text.starts_with(r#"{"k00":0,"k01":1,"k02":2,"#), "{text}");
        let looped = evaluate(&format!("{source}.map(k, k)"), &scope()).unwrap();
        assert_eq!(looped[0], "k00");
        assert_eq!(looped[49], "k49");
    }
}

#[test]
fn says_what_failed_and_what_it_saw() {
    let mut wrong = 0;
    for (source, want) in [
        (
            "inputs.n + 'x'",
            "`inputs.n + 'x'`: no + for int and string; it saw inputs.n = 3",
        ),
        (
            "inputs.disks + inputs.tags",
            "`inputs.disks + inputs.tags`: no + for list and map; make a list of the map's keys with x.map(k, k); it saw \
             inputs.disks = [\"/dev/sda\",\"/dev/sdb\"], inputs.tags = {\"b\":1,\"a\":2,\"c\":3}",
        ),
        (
            "[[1] + {}]",
            "`[[1] + {}]`: no + for list and map; make a list of the map's keys with x.map(k, k)",
        ),
        (
            "[1].map(x, [x] + {'a': 1})",
            "`[1].map(x, [x] + {'a': 1})`: no + for list and map; make a list of the map's keys with x.map(k, k)",
        ),
        ("{'a': 1} + [1]", "`{'a': 1} + [1]`: no + for map and list"),
        (
            "{'a': 1} + {'b': 1}",
            "`{'a': 1} + {'b': 1}`: no + for map and map",
        ),
        ("1 + {'a': 1}", "`1 + {'a': 1}`: no + for int and map"),
        ("[1] + 'a'", "`[1] + 'a'`: no + for list and string"),
        (
            "inputs.nmae",
            "`inputs.nmae`: there is no \"nmae\"; it saw inputs = {\"n\":3,\"x\":2.5,\"name\":\"node-7\",\"disks\":[\"/dev/sda\",\"/dev/sdb\"],\"big\":18446744073709551615,\"tags\":{\"b\":1,\"a\":2,\"c\":3},\"on…",
        ),
        ("nowhere == 1", "`nowhere == 1`: there is no nowhere here"),
        (
            "inputs.n > 'x'",
            "`inputs.n > 'x'`: no > for int and string; it saw inputs.n = 3",
        ),
        (
            "inputs.n && true",
            "`inputs.n && true`: no && for int and bool; it saw inputs.n = 3",
        ),
        ("!inputs.n", "`!inputs.n`: no ! for int; it saw inputs.n = 3"),
        (
            "-inputs.name",
            "`-inputs.name`: no - for string; it saw inputs.name = \"node-7\"",
        ),
        (
            "inputs.n ? 1 : 2",
            "`inputs.n ? 1 : 2`: bool is needed where int is; it saw inputs.n = 3",
        ),
        ("1 / 0", "`1 / 0`: division by zero"),
        ("1 % 0", "`1 % 0`: division by zero"),
        (
            "9223372036854775807 + 1",
            "`9223372036854775807 + 1`: the result is beyond 64 bits",
        ),
        (
            "inputs.disks[2]",
            "`inputs.disks[2]`: the list has no element 2; it saw inputs.disks = [\"/dev/sda\",\"/dev/sdb\"]",
        ),
        (
            "inputs.disks['a']",
            "`inputs.disks['a']`: no [] for list and string; it saw inputs.disks = [\"/dev/sda\",\"/dev/sdb\"]",
        ),
        (
            "int('x')",
            "`int('x')`: int(): \"x\" is no whole number of 64 bits",
        ),
        ("size(1)", "`size(1)`: no size() for int"),
        (
            "'a'.contains(1)",
            "`'a'.contains(1)`: no contains() for string and int",
        ),
        (
            "'a'.matches('(')",
            "`'a'.matches('(')`: matches(): \"(\" is no pattern: error: unclosed group",
        ),
        (
            r"'a'.matches('((\\w{100}){100}){100}')",
            r#"`'a'.matches('((\\w{100}){100}){100}')`: matches(): "((\\w{100}){100}){100}" is no pattern: it is too large when translated"#,
        ),
        ("now()", "`now()`: there is no function now()"),
        (
            "timestamp('2026-01-01T00:00:00Z')",
            "`timestamp('2026-01-01T00:00:00Z')`: there is no function timestamp()",
        ),
        (
            "inputs.n.getFullYear()",
            "`inputs.n.getFullYear()`: there is no function getFullYear(); it saw inputs.n = 3",
        ),
        (
            "{1: 2}",
            "`{1: 2}`: the result has a map with the key 1: keys are texts, so write string(…)",
        ),
        ("{'a': 1, 'a': 2}", "`{'a': 1, 'a': 2}`: a key twice in one map"),
        ("{null: 1}", "`{null: 1}`: null can't be a key of a map"),
        (
            "1.0 / 0.0",
            "`1.0 / 0.0`: the result is inf, which JSON has no number for",
        ),
        ("int", "`int`: there is no int here"),
        ("[1] < [2]", "`[1] < [2]`: no < for list and list"),
        ("1 in 2", "`1 in 2`: no in for int and int"),
        (
            "inputs.n.all(x, x)",
            "`inputs.n.all(x, x)`: all() goes over a list or a map, not int; it saw inputs.n = 3",
        ),
        (
            "machines('rack == 1')",
            "`machines('rack == 1')`: which machines match \"rack == 1\" has not been asked",
        ),
        (
            "machines(1)",
            "`machines(1)`: machines() takes a selector as a text, not 1",
        ),
        (
            "machines(machines('a')[0])",
            "`machines(machines('a')[0])`: machines() within machines()",
        ),
        ("machines()", "`machines()`: there is no function machines()"),
        ("1 +", "`1 +`: the end where a value should be"),
    ] {
        let message = evaluate(source, &scope()).map_err(|error| error.0);
        if message != Err(want.to_owned()) {
            println!("{message:?}");
            wrong += 1;
        }
    }
    assert_eq!(wrong, 0);
}

#[test]
fn refuses_what_would_take_too_long() {
    let numbers = Value::Array((0..2000).map(Value::from).collect());
    let text = Value::String("x".repeat(300_000));
    let scope = Scope {
        variables: Map::from_iter([("numbers".to_owned(), numbers), ("text".to_owned(), text)]),
        ..Scope::default()
    };
    let steps =
        "it would take more than 1000000 steps: loop over fewer elements, or take it apart with `set`";
    let bytes = "it would copy or compare more than 67108864 bytes: use smaller values";
    let result = "the result is larger than 1048576 bytes";
    for (source, want) in [
        ("numbers.all(a, numbers.all(b, a + b >= 0))", steps),
        ("numbers.map(a, numbers).all(list, list.all(n, n >= 0))", steps),
        ("(numbers + numbers).map(a, numbers.filter(b, b > a))", steps),
        (
            "[numbers, numbers].map(l, l + l).all(l, l.all(a, numbers.all(b, a == b)))",
            "too deep",
        ),
        ("numbers.map(n, text)", result),
        ("numbers.map(n, text + 'y').size()", bytes),
        ("numbers.map(n, text.contains('y'))", bytes),
        ("numbers.exists(n, text.matches('y'))", bytes),
        ("numbers.all(n, text == text)", bytes),
        (
            "[text, text, text].map(t, [t, t, t, t, t]).map(t, [t, t, t, t, t, t])",
            result,
        ),
        ("numbers.map(n, {'a': text})", result),
        ("numbers.map(n, numbers + numbers).size()", bytes),
        (
            "numbers.filter(n, 'x'.matches(string(n) + '|x')).map(n, numbers.filter(b, 'x'.matches(string(b) + '|x')))",
            bytes,
        ),
    ] {
        match evaluate(source, &scope) {
            Err(EvaluationError(message)) if want == "too deep" => {
                assert!(message.contains("at most 2 within each other"), "{message}");
            }
            Err(EvaluationError(message)) => assert!(message.contains(want), "{source}: {message}"),
            Ok(_) => panic!("{source} was evaluated"),
        }
    }
    for source in [
        "numbers.all(a, a >= 0)",
        "numbers.map(a, a + 1).filter(a, a % 2 == 0).size() == 1000",
        "numbers.all(a, [1, 2, 3].exists(b, b + a > 0))",
        "text.contains('y') || size(text) == 300000",
    ] {
        assert_eq!(evaluate(source, &scope), Ok(json!(true)), "{source}");
    }
    let error = evaluate("text + text + text + text", &scope).unwrap_err().0;
    assert!(
        error.starts_with(
            "`text + text + text + text`: the result is larger than 1048576 bytes; it saw text = \"xxx"
        ),
        "{error}"
    );
}

#[test]
fn evaluates_on_a_small_stack() {
    // The size of a thread of std's and of the runtime's; half of it is left to those that call.
    let deep = std::thread::Builder::new().stack_size(1 << 20);
    let evaluated = deep.spawn(|| {
        let mut deepest = Vec::new();
        let grown: [fn(usize) -> String; 11] = [
            |n| format!("{}1", "1 + ".repeat(n)),
            |n| format!("{}1{}", "(".repeat(n), ")".repeat(n)),
            |n| format!("{}1{}", "[".repeat(n), "]".repeat(n)),
            |n| format!("{}1{}", "{'a': ".repeat(n), "}".repeat(n)),
            |n| format!("{}true{}", "!(".repeat(n), ")".repeat(n)),
            |n| format!("{}1", "true ? 1 : ".repeat(n)),
            |n| format!("{}1", "1 == 1 && ".repeat(n)),
            |n| format!("inputs{}", ".a".repeat(n)),
            |n| format!("inputs{}", "[0]".repeat(n)),
            |n| format!("inputs{}", ".map(x, x)".repeat(n)),
            |n| format!("{}1{}", "size(".repeat(n), ")".repeat(n)),
        ];
        for grown in grown {
            let refused = |n: &usize| {
                let error = evaluate(&grown(*n), &scope()).err();
                error.is_some_and(|error| error.0.contains("levels deep") || error.0.contains("at most 1024"))
            };
            let first = (0..200).find(refused);
            deepest.push(first);
        }
        deepest
    });
    let deepest = evaluated.unwrap().join().unwrap();
    assert_eq!(deepest, [24, 24, 24, 24, 24, 24, 103, 24, 24, 6, 24].map(Some));
}

#[test]
fn deep_values_are_evaluated_on_a_small_stack() {
    let deep = std::thread::Builder::new().stack_size(1 << 20);
    let evaluated = deep.spawn(|| {
        // As deep as JSON is read.
        let value = (0..126).fold(json!(1), |inner, _| json!([inner]));
        let scope = Scope {
            variables: Map::from_iter([("deep".to_owned(), value.clone())]),
            ..Scope::default()
        };
        assert_eq!(evaluate("[deep].map(d, d == deep ? d : d)[0]", &scope), Ok(value));
    });
    evaluated.unwrap().join().unwrap();
}

#[test]
fn fills_texts_in() {
    for (text, want) in [
        ("plain", json!("plain")),
        ("", json!("")),
        ("${{ inputs.n }}", json!(3)),
        ("${{inputs.disks}}", json!(["/dev/sda", "/dev/sdb"])),
        (" ${{ inputs.n }}", json!(" 3")),
        ("${{ inputs.n }}${{ inputs.n }}", json!("33")),
        (
            "a ${{ inputs.name }} b ${{ inputs.on }} ${{ inputs.none }} ${{ inputs.tags }}",
            json!("a node-7 b true null {\"a\":2,\"b\":1,\"c\":3}"),
        ),
        ("${{ 'a }} b' + \"}}\" }}", json!("a }} b}}")),
        ("${{ {'a': {'b': 1}} }}", json!({"a": {"b": 1}})),
        ("${{ '\\'}}' }}", json!("'}}")),
        ("${{ r'\\' + '}}' }}", json!("\\}}")),
        ("${{ '''it's }}''' }}", json!("it's }}")),
        ("${{ '${{' }} $ {{ }} ${ ", json!("${{ $ {{ }} ${ ")),
        ("${{ 'é' }}é", json!("éé")),
    ] {
        assert_eq!(fill(text, &scope()), Ok(want.clone()), "{text}");
        let as_text = match want {
            Value::String(text) => text,
            other => other.to_string(),
        };
        assert_eq!(fill_text(text, &scope()), Ok(as_text), "{text}");
    }
    assert_eq!(
        fill_value(
            &json!({"a": ["${{ inputs.n }}", 1], "b": "x${{ item }}", "${{ c }}": null}),
            &scope()
        ),
        Ok(json!({"a": [3, 1], "b": "x/dev/sda", "${{ c }}": null}))
    );
    for (text, want) in [
        (
            "a ${{ 1",
            "`${{ 1`: this ${{ has no }} (one in quotes or of a map does not count)",
        ),
        (
            "${{ '}}'",
            "`${{ '}}'`: this ${{ has no }} (one in quotes or of a map does not count)",
        ),
        (
            "${{ {'a': 1 }}",
            "`${{ {'a': 1 }}`: this ${{ has no }} (one in quotes or of a map does not count)",
        ),
        ("${{ }}", "``: an empty expression"),
        ("x ${{ 1 / 0 }}", "`1 / 0`: division by zero"),
    ] {
        assert_eq!(fill(text, &scope()), Err(EvaluationError(want.into())), "{text}");
    }
}

#[test]
fn finds_selectors_and_gates() {
    assert_eq!(
        selectors(
            "machines(\"a == '\" + inputs.name + \"'\") + machines('b') + machines('b')",
            &scope()
        ),
        Ok(vec!["a == 'node-7'".to_owned(), "b".to_owned()])
    );
    assert_eq!(selectors("inputs.disks", &scope()), Ok(vec![]));
    for (source, want) in [
        ("always()", true),
        ("inputs.n == 1 && !failure()", true),
        ("[1].exists(x, success())", true),
        ("inputs.success", false),
        ("'always()'", false),
        ("always(", false),
    ] {
        assert_eq!(has_gate(source), want, "{source}");
    }
}

#[test]
fn the_labels_of_a_selector_are_those_that_it_asks_for() {
    let asked = |selector: &str| super::labels(selector).into_iter().collect::<Vec<_>>();
    assert_eq!(
        asked(
            "rack == 'r7' || labels.row == '1' && labels['a-b'] != '' && has(labels.gpu) || 'ib' in labels"
        ),
        ["a-b", "gpu", "ib", "rack", "row"]
    );
    assert_eq!(
        asked("name == 'a' && metadata.ram > 1 && labels.all(k, k != 'x')"),
        Vec::<String>::new()
    );
    assert_eq!(
        asked("rack=r7,!gpu,name=a,disk notin (hdd)"),
        ["disk", "gpu", "rack"]
    );
    assert_eq!(asked("rack > "), Vec::<String>::new());
}

#[test]
fn selects_machines() {
    let machine = json!({
        "name": "a", "mac": "52:54:00:77:00:0b",
        "labels": {"rack": "r7", "unit-height": "2", "name": "other"},
        "metadata": {"cores": 64},
    });
    for (selector, want) in [
        ("rack == 'r7'", true),
        ("rack != 'r7'", false),
        ("rack in ['r6', 'r7'] && gpu == ''", true),
        ("name == 'a' && labels.name == 'other'", true),
        (
            "labels['unit-height'] == '2' && labels['unit-depth'] == '' && labels.gpu == ''",
            true,
        ),
        ("has(labels.gpu) || labels['rack'] != 'r7'", false),
        ("'gpu' in labels", false),
        ("labels.gpu == 'a' && has(labels.gpu)", false),
        (
            "labels['gpu'] == '' && 'rack' in labels && labels.rack == rack",
            true,
        ),
        ("metadata.cores >= 32", true),
        ("has(metadata.ram)", false),
        ("labels.exists(l, l.startsWith('unit-'))", true),
        ("true", true),
        ("rack=r7", true),
        ("rack != r7", false),
        ("rack == rack", false),
        ("rack", true),
        ("!rack", false),
        ("rack=r7,unit-height in (1,2),!gpu,disk!=hdd", true),
        ("rack=r7,gpu", false),
        ("name=a", true),
        ("name=other", false),
    ] {
        assert_eq!(matches(selector, &machine), Ok(want), "{selector}");
    }
    assert_eq!(matches("rack == ''", &json!({"name": "b"})), Ok(true));
    for (selector, want) in [
        (
            "rack + ''",
            "`rack + ''`: a selector is true or false for a machine, not \"r7\"",
        ),
        (
            "metadata.ram > 1",
            "`metadata.ram > 1`: there is no \"ram\"; it saw metadata = {\"cores\":64}",
        ),
        (
            "labels.gpu == '' && int(labels.rack) > 1",
            "`labels.gpu == '' && int(labels.rack) > 1`: int(): \"r7\" is no whole number of 64 bits; it saw \
             labels.gpu = \"\", labels.rack = \"r7\"",
        ),
        ("rack = 'r7'", "`rack = 'r7'`: a single =: equality is =="),
    ] {
        assert_eq!(
            matches(selector, &machine),
            Err(EvaluationError(want.into())),
            "{selector}"
        );
    }
}

/// As it is asked of one machine.
fn matches(selector: &str, machine: &Value) -> Result<bool, EvaluationError> {
    Selector::parse(selector)?.matches(machine)
}

#[test]
fn a_selector_says_which_label_is_to_be_looked_for() {
    let needs = |source: &str| {
        let selector = Selector::parse(source).unwrap();
        let needs = selector.needs();
        needs.map(|(key, values)| (key.to_owned(), values.join("|")))
    };
    let is = |key: &str, values: &str| Some((key.to_owned(), values.to_owned()));
    assert_eq!(needs("rack=r7"), is("rack", "r7"));
    assert_eq!(needs("gpu,zone in (a,b),rack=r7,disk!=hdd"), is("rack", "r7"));
    assert_eq!(needs("gpu,zone in (a,b)"), is("zone", "a|b"));
    assert_eq!(needs("gpu,!old"), is("gpu", ""));
    for source in ["disk!=hdd", "!gpu", "zone notin (a)", "name=a", "rack == 'r7'"] {
        assert_eq!(needs(source), None, "{source}");
    }
}
