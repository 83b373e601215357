//! What is wrong with a template whatever is filled into it: found with something made up for each `{{ }}`.
//!
//! Only where nothing but a plain value depends on what is filled in: no `{{if}}` and the like, and every `{{ }}` in the value of a field
//! by which nothing else is judged. Then what is wrong in lines without one is wrong for every machine.

use super::blocks;
use super::holes::{Masked, is_version_1};
use super::{Devices, Problem, Text, render};

/// A MAC, which is a text, a path's part and a word, too.
const MADE_UP: &str = "00:00:00:00:00:01";
/// Fields whose value is a text, and no name by which another line may mean it. Variables of actions are beside them.
const PLAIN: [&str; 6] = ["address", "image", "message", "path", "reason", "worker"];
/// Variables by which others are judged.
const JUDGED_BY: [&str; 5] = ["FS_TYPE", "FORMAT", "METHOD", "TABLE", "IMAGE"];

/// All that is certain; nothing where it depends on more than plain values.
pub(super) fn certain(text: &str) -> Vec<Problem> {
    let Some(filled) = filled(text) else {
        return Vec::new();
    };
    let Err(problems) = render(&filled, &Devices::default()) else {
        return Vec::new();
    };
    let lines: Vec<(&str, &str)> = text.lines().zip(filled.lines()).collect();
    let is_as_written = |problem: &Problem| {
        let line = problem.finding.place.index().and_then(|line| lines.get(line));
        problem.text == Text::Rendered && line.is_some_and(|(written, filled)| written == filled)
    };
    let in_template = |mut problem: Problem| {
        problem.text = Text::Template;
        problem
    };
    problems
        .into_iter()
        .filter(is_as_written)
        .map(in_template)
        .collect()
}

/// The text with something made up for each `{{ }}`, line for line.
fn filled(text: &str) -> Option<String> {
    let masked = is_version_1(text).then(|| Masked::new(text));
    let template = masked.as_ref().map_or(text, |masked| &masked.text);
    let mut filled = String::with_capacity(template.len());
    let mut done = 0;
    for action in blocks::extents(template) {
        let written = template.get(action.clone())?;
        let before = template.get(..action.start)?;
        if !is_value(written) || !is_plain(before) || template.get(action.end..)?.starts_with(':') {
            return None;
        }
        filled.push_str(template.get(done..action.start)?);
        filled.push_str(MADE_UP);
        done = action.end;
    }
    filled.push_str(template.get(done..)?);
    // Without any, the template was checked as it is.
    (done > 0).then(|| match &masked {
        Some(masked) => masked.unmask(&filled),
        None => filled,
    })
}

/// `{{ }}` that only gives a value, in its line.
fn is_value(action: &str) -> bool {
    const WORDS: [&str; 10] = [
        "if", "else", "end", "range", "with", "define", "block", "template", "break", "continue",
    ];
    let inside = action.trim_start_matches("{{").trim_end_matches("}}");
    let first = inside.split_whitespace().next().unwrap_or_default();
    let is_odd = inside.trim_start().starts_with(['-', '$', '/'])
        || inside.ends_with('-')
        || inside.contains(['\n', '=']);
    !is_odd && !first.starts_with('$') && !WORDS.contains(&first)
}

/// Whether what follows stands in the value of a field by which nothing else is judged.
fn is_plain(before: &str) -> bool {
    let mut lines = before.lines().rev();
    let line = if before.ends_with('\n') {
        ""
    } else {
        lines.next().unwrap_or("")
    };
    let field = match line.rsplit_once(": ") {
        Some((key, _)) => key,
        // A line of a block: the field is the one that begins it.
        None => {
            let indent = |line: &str| line.len() - line.trim_start().len();
            let own = indent(line);
            let above = lines.find(|above| !above.trim().is_empty() && indent(above) < own);
            let begins = above.and_then(|above| above.trim_end().rsplit_once(':'));
            match begins {
                Some((key, "" | " |" | " |-" | " >" | " >-")) => key,
                _ => return false,
            }
        }
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name = field.trim_end_matches(['"', '\'']).rsplit(|c| !is_part(c)).next();
    let name = name.unwrap_or_default();
    let is_variable = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    PLAIN.contains(&name) || is_variable && !JUDGED_BY.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_made_up_where_nothing_else_depends_on_them() {
        for (text, want) in [
            (
                "worker: \"{{.device_1}}\"\n",
                Some("worker: \"00:00:00:00:00:01\"\n"),
            ),
            (
                "- {worker: {{.a}}, environment: {A: \"x{{ index .b 0 }}\"}}\n",
                Some("- {worker: 00:00:00:00:00:01, environment: {A: \"x00:00:00:00:00:01\"}}\n"),
            ),
            (
                "CONTENTS: |\n  name={{ .hardware.name }}\n",
                Some("CONTENTS: |\n  name=00:00:00:00:00:01\n"),
            ),
            (
                "version: \"1\"\nworker: \"{{.a}}\"\nwait: ${{ inputs.x }}\n",
                Some("version: \"1\"\nworker: \"00:00:00:00:00:01\"\nwait: ${{ inputs.x }}\n"),
            ),
            ("worker: a\n", None),
            ("name: \"{{.a}}\"\n", None),
            ("FS_TYPE: \"{{.a}}\"\n", None),
            ("{{.key}}: x\n", None),
            ("needs: [\"{{.a}}\"]\n", None),
            ("needs:\n  - {{.a}}\n", None),
            ("{{ if .a }}worker: a{{ end }}\n", None),
            ("worker: {{- .a }}\n", None),
            ("worker: {{ $x }}\n", None),
            ("worker: {{ /* why */ }}a\n", None),
            ("{{.all}}\n", None),
        ] {
            assert_eq!(filled(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_for_every_machine_is_told_and_nothing_else() {
        let told = |text: &str| {
            let found = certain(text).into_iter();
            let told = |problem: Problem| (problem.finding.place.line, problem.finding.message);
            found.map(told).collect::<Vec<_>>()
        };
        let text = "version: '1'\nname: w\ntasks:\n- name: t\n  worker: '{{.hardware.mac}}'\n  needs: [u]\n  actions:\n  - name: a\n    \
                    image: '{{.image}} {{.tag}}'\n    timeout: soon\n";
        assert_eq!(
            told(text),
            [
                (
                    6,
                    "task \"t\" needs \"u\", which is no task; did you mean \"t\"?".to_owned()
                ),
                (
                    10,
                    "timeout \"soon\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d"
                        .to_owned()
                )
            ]
        );
        assert_eq!(told(&text.replace("{{.image}}", "{{ if .x }}{{ end }}")), []);
    }
}
