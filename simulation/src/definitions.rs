//! Templates as people might write them: every field of the language in some of them, put together by chance.
//!
//! They are JSON, which is YAML, and go through the production language.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use workflow::language::{self, Definition, Devices};

use crate::dice::Dice;

/// Templates that sub-workflows are made from, by name. `broken` cannot be rendered, and `missing` is none.
pub(crate) fn children() -> Vec<(&'static str, String)> {
    let leaf = json!({
        "version": "1", "name": "leaf",
        "inputs": {"worker": {"type": "string"}, "n": {"type": "int", "default": 1}},
        "outputs": {"n": "inputs.n + 1"},
        "tasks": [
            {"name": "first", "worker": "${{ inputs.worker }}", "actions": [
                {"name": "work", "image": "image2disk", "timeout": "2m", "environment": {"DEST_DISK": "/dev/vda"}},
                {"name": "more", "image": "work", "retry": {"attempts": 3, "delay": "5s"}},
            ]},
            {"name": "clean", "wait": "3s", "when": "always()"},
        ],
    });
    let branch = json!({
        "version": "1", "name": "branch",
        "inputs": {"worker": {"type": "string"}, "n": {"type": "int", "default": 1}},
        "outputs": {"n": "inputs.n"},
        "tasks": [
            {"name": "before", "worker": "${{ inputs.worker }}", "actions": [{"name": "work", "image": "work"}]},
            {"name": "below", "workflow": "leaf", "inputs": {"worker": "${{ inputs.worker }}"}, "retry": {"attempts": 2}},
        ],
    });
    let asks = json!({
        "version": "1", "name": "asks",
        "inputs": {"worker": {"type": "string"}, "n": {"type": "int", "default": 1}},
        "tasks": [{"name": "gate", "approve": {"message": "${{ inputs.worker }}?", "timeout": "1h"}}],
    });
    vec![
        ("leaf", leaf.to_string()),
        ("branch", branch.to_string()),
        ("asks", asks.to_string()),
        ("broken", "version: \"1\"\nname: {{ .nothing }}\n".to_owned()),
    ]
}

/// A definition that the language takes, and the text that it was read from.
///
/// # Errors
/// What the language has against a text that ought to be right.
pub(crate) fn some(
    dice: &mut Dice,
    name: &str,
    workers: &[String],
    clock: u64,
) -> Result<Definition, String> {
    let text = text(dice, name, workers, clock).to_string();
    let devices = Devices {
        devices: BTreeMap::new(),
        hardware: Value::Null,
    };
    match language::render(&text, &devices) {
        Ok(rendered) => Ok(rendered.definition),
        Err(problems) => {
            let words: Vec<&str> = problems
                .iter()
                .map(|problem| problem.finding.message.as_str())
                .collect();
            Err(format!("the language refuses {text}: {}", words.join("; ")))
        }
    }
}

fn text(dice: &mut Dice, name: &str, workers: &[String], clock: u64) -> Value {
    let old = dice.percent(15);
    // Some have more tasks than a step gets over.
    let count = if dice.percent(4) {
        dice.between(30, 150)
    } else {
        dice.between(1, 5)
    };
    let side_by_side = count > 5 && dice.percent(70);
    let mut tasks: Vec<Value> = Vec::new();
    for number in 0..usize::try_from(count).unwrap_or(1) {
        let mut task = match (old, dice.below(100)) {
            (true, _) => work(dice, workers, old),
            _ if side_by_side && dice.percent(90) => control(dice, 65, workers, clock),
            (_, 0..=49) => work(dice, workers, old),
            (_, 50..=64) => rollout(dice, workers),
            (_, kind) => control(dice, kind, workers, clock),
        };
        task.insert("name".to_owned(), json!(format!("t{number}")));
        if !old && !side_by_side {
            flow(dice, &mut task, &tasks);
        } else if !old {
            task.insert("needs".to_owned(), json!([]));
        }
        tasks.push(Value::Object(task));
    }
    if !old && dice.percent(15) {
        tasks = looping(dice, workers);
    }
    let mut all = Map::new();
    all.insert("version".to_owned(), json!(if old { "0.1" } else { "1" }));
    all.insert("name".to_owned(), json!(name));
    if dice.percent(10) {
        all.insert("global_timeout".to_owned(), json!(dice.between(10, 3_000)));
    }
    // By the number of tasks, not by chance: the worlds of all seeds stay what they are.
    if let (false, Some(boots)) = (old, ["agent", "local"].get(tasks.len() % 4)) {
        all.insert("boots".to_owned(), json!(boots));
    }
    if !old {
        all.insert(
            "inputs".to_owned(),
            json!({"n": {"type": "int", "default": 2}, "text": "hello"}),
        );
        if dice.percent(30) {
            all.insert("outputs".to_owned(), json!({"n": "inputs.n * 2"}));
        }
    }
    all.insert("tasks".to_owned(), Value::Array(tasks));
    Value::Object(all)
}

/// A task with actions on a machine.
fn work(dice: &mut Dice, workers: &[String], old: bool) -> Map<String, Value> {
    let mut task = Map::new();
    task.insert("worker".to_owned(), json!(dice.pick(workers)));
    task.insert("actions".to_owned(), actions(dice, old));
    if old {
        return task;
    }
    if dice.percent(15) {
        task.insert("timeout".to_owned(), json!(format!("{}s", dice.between(5, 900))));
    }
    if dice.percent(20) {
        task.insert("retry".to_owned(), retry(dice));
    }
    if dice.percent(10) {
        task.insert("approve".to_owned(), approve(dice));
    }
    task
}

fn actions(dice: &mut Dice, old: bool) -> Value {
    let count = dice.between(1, 4);
    let all = (0..count).map(|number| {
        let mut action = Map::new();
        action.insert("name".to_owned(), json!(format!("a{number}")));
        let reboots = dice.percent(12);
        let image = match (reboots, dice.below(5)) {
            (false, 0) => "work",
            (false, 1 | 2) => "image2disk",
            (false, _) => "writefile",
            (true, 0) => "poweroff",
            (true, 1) => "kexec",
            (true, _) => "reboot",
        };
        action.insert("image".to_owned(), json!(image));
        let (mut environment, mut input) = (Map::new(), Map::new());
        // By the action's number, not by chance: the worlds of all seeds stay what they are.
        let is_odd = number % 2 == 1;
        if image == "image2disk" && !old && is_odd {
            input.insert("dest_disk".to_owned(), json!("/dev/vda"));
        } else if image == "image2disk" {
            environment.insert("DEST_DISK".to_owned(), json!("/dev/vda"));
        } else if image == "work" && !old && !is_odd {
            let says = json!({"says": "with ${{ secrets.TOKEN }}"});
            input.insert("run".to_owned(), json!("${{ workflow.run }}"));
            input.insert("list".to_owned(), json!(["${{ inputs.text }}", says]));
        }
        if !old && dice.percent(25) {
            environment.insert("SAYS".to_owned(), json!("with ${{ secrets.TOKEN }}"));
        }
        if !environment.is_empty() {
            action.insert("environment".to_owned(), Value::Object(environment));
        }
        if !input.is_empty() {
            action.insert("input".to_owned(), Value::Object(input));
        }
        if reboots && !old {
            action.insert("reboots".to_owned(), json!(true));
        }
        if dice.percent(40) {
            let seconds = dice.between(5, 600);
            let timeout = if old {
                json!(seconds)
            } else {
                json!(format!("{seconds}s"))
            };
            action.insert("timeout".to_owned(), timeout);
        }
        if dice.percent(15) {
            action.insert("on-failure".to_owned(), json!(["tidy", "up"]));
        }
        if dice.percent(15) {
            action.insert("on-timeout".to_owned(), json!(["give", "up"]));
        }
        if !old && dice.percent(30) {
            action.insert("retry".to_owned(), retry(dice));
        }
        if !old && dice.percent(20) {
            action.insert(
                "command".to_owned(),
                json!([
                    "run",
                    "${{ inputs.text }}",
                    "${{ workflow.name }}",
                    "${{ secrets.TOKEN }}"
                ]),
            );
        }
        Value::Object(action)
    });
    Value::Array(all.collect())
}

/// A list, on one machine or on several.
fn rollout(dice: &mut Dice, workers: &[String]) -> Map<String, Value> {
    let mut task = Map::new();
    match dice.below(4) {
        0 => {
            task.insert(
                "forEach".to_owned(),
                json!(format!("machines(\"rack == 'r{}'\")", dice.below(4))),
            );
            task.insert("worker".to_owned(), json!("${{ item.mac }}"));
            task.insert("actions".to_owned(), actions(dice, false));
        }
        1 => {
            task.insert("forEach".to_owned(), json!("[1, 2, 3]"));
            task.insert("wait".to_owned(), json!("${{ string(item) }}s"));
        }
        2 => {
            let some: Vec<&String> = workers.iter().take(4).collect();
            task.insert("forEach".to_owned(), json!(json!(some).to_string()));
            task.insert("worker".to_owned(), json!("${{ item }}"));
            task.insert("actions".to_owned(), actions(dice, false));
        }
        _ => {
            let some: Vec<&String> = workers.iter().take(3).collect();
            task.insert("forEach".to_owned(), json!(json!(some).to_string()));
            task.insert("workflow".to_owned(), json!("leaf"));
            task.insert("inputs".to_owned(), json!({"worker": "${{ item }}"}));
        }
    }
    if dice.percent(40) {
        task.insert("maxParallel".to_owned(), json!(dice.between(1, 3)));
    }
    if dice.percent(40) {
        task.insert("waves".to_owned(), json!([1, "50%", "100%"]));
    }
    if dice.percent(40) {
        let failures = *dice.pick(&["0", "1", "30%"]);
        task.insert(
            "maxFailures".to_owned(),
            failures
                .parse::<u64>()
                .map_or(json!(failures), |count| json!(count)),
        );
    }
    if !task.contains_key("wait") && dice.percent(20) {
        task.insert("retry".to_owned(), retry(dice));
    }
    task
}

/// A task without a machine.
fn control(dice: &mut Dice, kind: u64, workers: &[String], clock: u64) -> Map<String, Value> {
    let mut task = Map::new();
    match kind {
        65..=71 => {
            // By the number, not by chance: the worlds of all seeds stay as near as can be to what they are.
            let seconds = dice.between(1, 400);
            let worker = workers.get(usize::try_from(seconds).unwrap_or(0) % workers.len().max(1));
            match (seconds % 3, worker) {
                (0, Some(worker)) => answers(&mut task, seconds, worker),
                _ => drop(task.insert("wait".to_owned(), json!(format!("{seconds}s")))),
            }
        }
        72..=75 => {
            let time = rfc_3339(clock + dice.span(900_000));
            // A time of the day, rarely: what has passed when the task begins is waited for until tomorrow, and a world looks after
            // everything each second.
            let until = match time.split_once('T') {
                Some((_, of_day)) if clock % 20_000 < 1_000 => format!("next {of_day}"),
                _ => time,
            };
            task.insert("until".to_owned(), json!(until));
        }
        76..=79 => {
            task.insert("set".to_owned(), json!({"x": "inputs.n + 1", "y": "inputs.text"}));
        }
        80..=86 => {
            task.insert("approve".to_owned(), approve(dice));
        }
        87..=95 => {
            let template = *dice.pick(&["leaf", "leaf", "branch", "asks", "broken", "missing"]);
            task.insert("workflow".to_owned(), json!(template));
            task.insert("inputs".to_owned(), json!({"worker": dice.pick(workers), "n": 3}));
            if dice.percent(20) {
                task.insert("retry".to_owned(), retry(dice));
            }
        }
        96 | 97 => {
            task.insert("succeed".to_owned(), json!({}));
        }
        _ => {
            task.insert(
                "fail".to_owned(),
                json!({"reason": "Enough", "message": "n is ${{ inputs.n }}"}),
            );
        }
    }
    task
}

/// A system that is to answer within so many seconds.
fn answers(task: &mut Map<String, Value>, seconds: u64, worker: &str) {
    let answers = match seconds % 2 {
        0 => json!({"by": "ssh", "address": "10.77.0.11"}),
        _ => json!({"by": "http", "path": "/${{ inputs.text }}"}),
    };
    task.insert("answers".to_owned(), answers);
    task.insert("worker".to_owned(), json!(worker));
    task.insert("timeout".to_owned(), json!(format!("{seconds}s")));
}

/// What it needs, when it runs, what it makes good.
fn flow(dice: &mut Dice, task: &mut Map<String, Value>, before: &[Value]) {
    let names: Vec<Value> = before
        .iter()
        .filter_map(|task| task.get("name").cloned())
        .collect();
    if dice.percent(50) {
        let needs: Vec<&Value> = names.iter().filter(|_| dice.percent(40)).collect();
        task.insert("needs".to_owned(), json!(needs));
    }
    if dice.percent(30) {
        let when = *dice.pick(&[
            "true",
            "inputs.n == 2",
            "inputs.n > 2",
            "failure()",
            "always()",
            "success() || failure()",
        ]);
        task.insert("when".to_owned(), json!(when));
        let needs: Vec<Value> = match task.get("needs") {
            Some(Value::Array(needs)) => needs.clone(),
            _ => names.last().cloned().into_iter().collect(),
        };
        if matches!(when, "failure()" | "always()") && !needs.is_empty() && dice.percent(60) {
            task.insert("recovers".to_owned(), json!(needs));
        }
    }
}

/// Goes back a few times.
fn looping(dice: &mut Dice, workers: &[String]) -> Vec<Value> {
    let mut first = work(dice, workers, false);
    first.insert("name".to_owned(), json!("first"));
    let mut last = work(dice, workers, false);
    last.insert("name".to_owned(), json!("last"));
    let (when, max) = (
        *dice.pick(&["failure()", "true", "success()"]),
        dice.between(1, 3),
    );
    last.insert(
        "goto".to_owned(),
        json!({"when": when, "task": "first", "max": max}),
    );
    vec![
        Value::Object(first),
        json!({"name": "middle", "wait": "2s", "when": "always()", "group": "between"}),
        json!({
            "name": "count",
            "group": "between",
            "when": "always()",
            "set": {"count": "has(tasks.count) && has(tasks.count.outputs.count) ? tasks.count.outputs.count + 1 : 1 + branch_index"},
        }),
        Value::Object(last),
        json!({"name": "behind", "wait": "1s", "when": "always() && has(tasks.between.outputs.count)"}),
    ]
}

fn retry(dice: &mut Dice) -> Value {
    let on = match dice.below(6) {
        0 => json!(["failed"]),
        1 => json!(["timeout", "lost"]),
        2 => json!(["lost", "Custom"]),
        _ => json!(["failed", "timeout", "lost"]),
    };
    json!({
        "attempts": dice.between(1, 4),
        "delay": format!("{}s", dice.below(60)),
        "backoff": *dice.pick(&[1, 2]),
        "maxDelay": "3m",
        "on": on,
    })
}

fn approve(dice: &mut Dice) -> Value {
    let mut approve = Map::new();
    approve.insert("message".to_owned(), json!("go on with ${{ workflow.name }}?"));
    if dice.percent(50) {
        approve.insert("by".to_owned(), json!(["ops", "leads"]));
    }
    if dice.percent(40) {
        approve.insert(
            "timeout".to_owned(),
            json!(format!("{}s", dice.between(30, 3_000))),
        );
    }
    Value::Object(approve)
}

/// A time as it is written, in UTC. Source: RFC 3339; days to date as in Hinnant, "chrono-compatible low-level date algorithms".
fn rfc_3339(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_takes_them_all() {
        let workers: Vec<String> = (1..4).map(|n| format!("02:00:00:00:00:0{n}")).collect();
        for seed in 0..500 {
            let mut dice = Dice::new(seed);
            some(&mut dice, "w", &workers, 1_800_000_000_000).expect("it is right");
        }
        for (name, text) in children().into_iter().filter(|(name, _)| *name != "broken") {
            language::render(&text, &Devices::default())
                .unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
        }
    }

    #[test]
    fn times_are_written_as_the_standard_has_them() {
        assert_eq!(rfc_3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc_3339(1_800_000_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(rfc_3339(951_827_696_000), "2000-02-29T12:34:56Z");
    }
}
