//! Expressions that are written to take memory: what the process takes at most. One test, as it reads what its process used.

use serde_json::{Map, Value, json};
use workflow::expression::{self, Scope};

/// What is counted is 64 MiB; besides, a value that is made has a few words of its own, of which each takes a step.
const AT_MOST: u64 = 200 << 20;

#[test]
fn hostile_expressions_take_little_memory() {
    let numbers: Vec<Value> = (0..100_000).map(Value::from).collect();
    let text = "x".repeat(500_000);
    let keys: Map<String, Value> = (0..50_000).map(|n| (format!("k{n}"), json!(n))).collect();
    let scope = Scope {
        variables: Map::from_iter([
            ("n".to_owned(), Value::Array(numbers)),
            ("t".to_owned(), Value::String(text)),
            ("m".to_owned(), Value::Object(keys)),
        ]),
        ..Scope::default()
    };
    let twenty = |term: &str, sign: &str| vec![term; 20].join(sign);
    let before = peak();
    for source in [
        format!("({}).size()", twenty("t", " + ")),
        format!("({}).size()", twenty("n", " + ")),
        "n.map(a, t + 'y').size()".to_owned(),
        "n.map(a, n + n).size()".to_owned(),
        "n.map(a, n.map(b, 'a' + 'b')).size()".to_owned(),
        "n.map(a, [[], [], {}, {'a': a}, string(a)]).size()".to_owned(),
        "n.map(a, m.map(k, k)).size()".to_owned(),
        "n.map(a, {string(a): string(a) + 'xxxxxxxx'}).size()".to_owned(),
        "n.map(a, string(a)).filter(b, n.exists(c, string(c) == b)).size()".to_owned(),
        "[t].map(a, [a + a, a + a, a + a]).map(a, a + a + a + a)".to_owned(),
        format!(
            "[{}].map(a, n.map(b, a)).map(c, c + c + c + c)",
            twenty("t", ", ")
        ),
    ] {
        let ended = expression::evaluate(&source, &scope);
        let took = peak() - before;
        println!("{} MiB: {source}", took >> 20);
        assert!(took < AT_MOST, "{source}: {} MiB", took >> 20);
        if let Err(error) = ended {
            let bounds = [
                "more than 1000000 steps",
                "more than 67108864 bytes",
                "larger than 1048576 bytes",
            ];
            assert!(bounds.iter().any(|bound| error.0.contains(bound)), "{error}");
        }
    }
}

/// Bytes that the process has had in memory at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this system has /proc");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("VmHWM");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number");
    kib << 10
}
