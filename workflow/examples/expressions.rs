//! How long expressions take: typical ones of definitions, and a loop over the records of many machines.
//!
//! ```sh
//! cargo run -p workflow --example expressions
//! ```
//!
//! One line each: the median of a round's time by evaluation, and the expression. What is timed is what the engine asks
//! for: text in, JSON out, with parsing and with the bounds.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use workflow::expression::{self, Scope};

const MACHINES: usize = 10_000;
const ROUNDS: usize = 21;

fn main() {
    let scope = scope();
    for source in [
        "success()",
        "tasks.probe.state == 'SUCCESS' && inputs.n > 2",
        "inputs.name + '-' + string(inputs.n)",
        "inputs.disks.filter(d, d.contains('nvme'))",
        "inputs.name.matches('^[a-z]+-[0-9]+$')",
    ] {
        timed(200, source, &|| expression::evaluate(source, &scope).map(drop));
    }
    let text = "http://images/${{ inputs.name }}/${{ tasks.probe.outputs.disk }}.raw";
    timed(200, text, &|| expression::fill(text, &scope).map(drop));
    for source in [
        "machines('true').filter(m, m.labels.rack == 'r7')",
        "machines('true').filter(m, m.labels.rack == 'r7' && m.metadata.cores > 32).map(m, m.name)",
        "machines('true').exists(m, m.name == 'nobody')",
        "machines('true').size()",
    ] {
        timed(1, source, &|| expression::evaluate(source, &scope).map(drop));
    }
    let records = &scope.machines["true"];
    let selector = "rack == 'r7' && metadata.cores > 32";
    timed(1, &format!("the selector `{selector}`, for each"), &|| {
        let selector = expression::Selector::parse(selector)?;
        records
            .iter()
            .try_for_each(|record| selector.matches(record).map(drop))
    });
}

fn timed(times: u32, what: &str, run: &dyn Fn() -> Result<(), expression::EvaluationError>) {
    if let Err(error) = run() {
        let why: String = error.0.chars().take(160).collect();
        println!("{:>12}  {what}: {why}", "refused");
        return;
    }
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..times {
                let _ = black_box(run());
            }
            begun.elapsed() / times
        })
        .collect();
    rounds.sort();
    println!("{:>12.1?}  {what}", rounds[ROUNDS / 2]);
}

fn scope() -> Scope {
    let variables = json!({
        "inputs": {"n": 3, "name": "node-7", "disks": ["/dev/sda", "/dev/nvme0n1"]},
        "tasks": {"probe": {"state": "SUCCESS", "outputs": {"disk": "/dev/nvme0n1", "gib": 64}, "error": {}}},
    });
    let machines: Vec<Value> = (0..MACHINES)
        .map(|n| {
            json!({
                "name": format!("node-{n}"),
                "mac": format!("52:54:00:{:02x}:{:02x}:{:02x}", n >> 16, n >> 8 & 255, n & 255),
                "labels": {"rack": format!("r{}", n % 40), "row": format!("{}", n % 8), "gpu": "a"},
                "metadata": {"cores": 16 << (n % 4), "disks": [{"name": "/dev/sda", "gib": 480}]},
            })
        })
        .collect();
    Scope {
        variables: variables.as_object().cloned().unwrap_or_default(),
        success: true,
        failure: false,
        machines: BTreeMap::from([("true".to_owned(), machines)]),
    }
}
