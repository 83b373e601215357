//! What a container may use: `resources: {memory: 256MiB, cpu: 0.5, pids: 100}`.

use yaml::{Kind, Node};

use super::Resources;
use super::fields::{Check, Known};

const RESOURCES: Known = Known {
    whose: "resources",
    old: &[],
    new: &["cpu", "memory", "pids"],
};
/// Less than this no program starts.
const LEAST_MEMORY_BYTES: u64 = 4 << 20;
const MOST_MEMORY_BYTES: u64 = 1 << 50;
/// The kernel's own lower bound is 1 ms of 100.
const LEAST_CPU_MILLIS: u64 = 10;
const MOST_CPU_MILLIS: u64 = 10_000_000;
/// The kernel's most (PID_MAX_LIMIT).
const MOST_PIDS: u32 = 4 << 20;

impl<'a> Check<'a> {
    /// `resources` of an action.
    pub(super) fn resources(&mut self, node: &'a Node, action: &str, task: usize) -> Resources {
        let fields = self.fields(node, &RESOURCES);
        let task = Some(task);
        let mut limit = |field: &'static str, read: fn(&str) -> Option<u64>, like: &str| {
            let Some(node) = fields.get(field) else {
                return 0;
            };
            let Some(text) = self.bound(node, field, task) else {
                return 0;
            };
            let text = text.trim();
            read(text).unwrap_or_else(|| {
                let message = format!("{field} {text:?} of action {action:?} is no limit: write {like}");
                self.problem(node.at, Kind::Value, message);
                0
            })
        };
        let memory_bytes = limit("memory", memory_bytes, "one of at least 4MiB, like 64MiB or 2GiB");
        let like = "processors, like 2, 0.5 or 500m, and at least 0.01";
        let cpu_millis = limit("cpu", cpu_millis, like);
        Resources {
            memory_bytes,
            cpu_millis,
            pids: fields.get("pids").map_or(0, |node| {
                u64::from(self.count(node, ("pids", task), 1, MOST_PIDS))
            }),
        }
    }
}

/// `64MiB`, `64Mi`, or a number of bytes. Not `64M`, which is one thing for Docker and another for Kubernetes.
fn memory_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)? {
        "" => 0,
        "Ki" | "KiB" => 10,
        "Mi" | "MiB" => 20,
        "Gi" | "GiB" => 30,
        "Ti" | "TiB" => 40,
        _ => return None,
    };
    let bytes = whole(digits.trim_end())?.checked_mul(1 << shift)?;
    Some(bytes).filter(|bytes| (LEAST_MEMORY_BYTES..=MOST_MEMORY_BYTES).contains(bytes))
}

/// `2`, `0.5`, `500m`.
fn cpu_millis(text: &str) -> Option<u64> {
    let millis = match text.strip_suffix('m') {
        Some(digits) => whole(digits)?,
        None => {
            let (units, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let places = u32::try_from(fraction.len())
                .ok()
                .filter(|places| (1..=3).contains(places))?;
            whole(units)?.checked_mul(1000)? + whole(fraction)? * 10_u64.pow(3 - places)
        }
    };
    Some(millis).filter(|millis| (LEAST_CPU_MILLIS..=MOST_CPU_MILLIS).contains(millis))
}

fn whole(digits: &str) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_unit_that_everybody_reads_alike() {
        for (text, want) in [
            ("64MiB", Some(64 << 20)),
            ("64 Mi", Some(64 << 20)),
            ("2GiB", Some(2 << 30)),
            ("4096KiB", Some(4 << 20)),
            ("4194304", Some(4 << 20)),
            ("4194303", None),
            ("64M", None),
            ("64mb", None),
            ("-1GiB", None),
            ("1.5GiB", None),
            ("18446744073709551615TiB", None),
            ("MiB", None),
            ("\u{fc}", None),
        ] {
            assert_eq!(memory_bytes(text), want, "{text}");
        }
    }

    #[test]
    fn processors_have_thousandths() {
        for (text, want) in [
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("1.25", Some(1250)),
            ("0.125", Some(125)),
            ("500m", Some(500)),
            ("0.01", Some(10)),
            ("0.001", None),
            ("0", None),
            ("1.", None),
            (".5", None),
            ("0.1234", None),
            ("+1", None),
            ("18446744073709551615", None),
        ] {
            assert_eq!(cpu_millis(text), want, "{text}");
        }
    }
}
