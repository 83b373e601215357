//! Actions that nobody has, found in the text of a template that can't be rendered yet: line by line, as far as lines tell.

use yaml::Kind;

use super::Runtime;
use super::native::{native_by, runs_as_container};
use super::problem::{Problem, Text};
use super::retired::retired;
use super::waitdaemon::{WRAPPED_IMAGE, is_wrapper};

/// What is said of the actions that nobody has, at lines of the text.
pub(super) fn undone(text: &str) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut written = None;
    for found in images(text) {
        let Some(native) = native_by(found.runtime, found.image) else {
            let name = found.name.unwrap_or("without a name");
            let retired = retired(name, found.image).filter(|_| found.runtime.is_none());
            let message = retired.unwrap_or_else(|| runs_as_container(name, found.image, written.as_deref()));
            warnings.push(Problem::at(
                Text::Template,
                text,
                (found.line, found.column),
                Kind::NoEffect,
                message,
            ));
            continue;
        };
        if native.writes_disk() && written.is_none() {
            written = found.name.map(|name| format!("action {name:?}"));
        }
    }
    warnings
}

/// Images that stand in lines as they are and are pulled.
pub(super) fn pulled(text: &str) -> Vec<&str> {
    let found = images(text).into_iter();
    found
        .filter(|found| native_by(found.runtime, found.image).is_none() && !found.image.contains("${{"))
        .map(|found| found.image)
        .collect()
}

/// An image that stands in a line as it is.
struct Found<'t> {
    name: Option<&'t str>,
    image: &'t str,
    runtime: Option<Runtime>,
    line: usize,
    column: usize,
}

fn images(text: &str) -> Vec<Found<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    // The indent of `actions:` while we are below it.
    let mut actions: Option<usize> = None;
    // The indent of a key whose value is a block of text: what is in that is no YAML of ours.
    let mut block: Option<usize> = None;
    for (index, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if block.is_some_and(|of| indent > of) {
            continue;
        }
        block = is_block(content).then_some(indent);
        let is_item = content.starts_with("- ");
        if actions.is_some_and(|of| indent < of || (indent == of && !is_item)) {
            actions = None;
        }
        if key(content, "actions").is_some() {
            actions = Some(indent + content.len() - content.trim_start_matches(['-', ' ']).len());
            continue;
        }
        if actions.is_none() {
            continue;
        }
        let Some(image) = value(content, "image").filter(|image| !image.contains("{{")) else {
            continue;
        };
        let column = line.find(image).map_or(1, |at| line[..at].chars().count() + 1);
        let of_same = |field| value(content, field).or_else(|| value_beside(&lines, index, field));
        let runtime = of_same("runtime").and_then(Runtime::named);
        let image = match is_wrapper(runtime, image) {
            false => image,
            true => match value_below(&lines, index, WRAPPED_IMAGE) {
                Some(image) if !image.contains("{{") => image,
                _ => continue,
            },
        };
        found.push(Found {
            name: of_same("name"),
            image,
            runtime,
            line: index + 1,
            column,
        });
    }
    found
}

/// `CONTENTS: |`, `- >-`
fn is_block(content: &str) -> bool {
    let last = content.rsplit(' ').next().unwrap_or_default();
    let rest = last.trim_start_matches(['|', '>']);
    rest.len() + 1 == last.len()
        && rest
            .chars()
            .all(|letter| letter.is_ascii_digit() || matches!(letter, '+' | '-'))
}

/// A field of the same mapping as the image in this line.
fn value_beside<'t>(lines: &[&'t str], index: usize, field: &str) -> Option<&'t str> {
    let own = begin(lines[index]);
    let of_same = of_same_item(lines, index).into_iter();
    of_same
        .filter(|line| begin(line) == own)
        .find_map(|line| value(line.trim(), field))
}

/// A field of a mapping below the one that the image in this line is of.
fn value_below<'t>(lines: &[&'t str], index: usize, field: &str) -> Option<&'t str> {
    let own = begin(lines[index]);
    let of_same = of_same_item(lines, index).into_iter();
    of_same
        .filter(|line| begin(line) > own)
        .find_map(|line| value(line.trim(), field))
}

fn begin(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// Lines of the item of a list that the line is in.
fn of_same_item<'t>(lines: &[&'t str], index: usize) -> Vec<&'t str> {
    let is_item = |line: &str| line.trim_start().starts_with("- ");
    let own = begin(lines[index]);
    let mut of_same = Vec::new();
    if !is_item(lines[index]) {
        for line in lines[..index].iter().rev() {
            of_same.push(*line);
            if begin(line) < own && !line.trim().is_empty() || begin(line) == own && is_item(line) {
                break;
            }
        }
    }
    let below = lines[index + 1..].iter().take_while(|line| {
        begin(line) >= own && !(begin(line) == own && is_item(line)) || line.trim().is_empty()
    });
    of_same.extend(below);
    of_same
}

/// What stands behind `key:` at the beginning of a line, or of an item of a list.
fn key<'t>(content: &'t str, key: &str) -> Option<&'t str> {
    let rest = content.trim_start_matches(['-', ' ', '{']).strip_prefix(key)?;
    rest.strip_prefix(':')
        .filter(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The value of a key in a line, also within `{ }`; without quotes.
fn value<'t>(content: &'t str, name: &str) -> Option<&'t str> {
    let is_flow = content.trim_start_matches(['-', ' ']).starts_with('{');
    let rest = match is_flow {
        false => key(content, name)?,
        true => {
            let inside = content.trim_start_matches(['-', ' ', '{']);
            inside.split(',').find_map(|part| key(part.trim(), name))?
        }
    };
    let rest = rest.trim();
    let value = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest[1..].split(quote).next()?,
        _ if is_flow => rest.split([',', '}']).next()?,
        _ => rest.split(" #").next()?,
    };
    Some(value.trim()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"version: "0.1"
name: x
tasks:
- name: os-installation
  worker: "{{.device_1}}"
  volumes:
  - /dev:/dev
  actions:
  - name: "stream"
    image: quay.io/tinkerbell/actions/image2disk:latest
    environment:
      DEST_DISK: {{ index .Hardware.Disks 0 }}
      CONTENTS: |
        services:
          image: nginx
  - image: quay.io/tinkerbell/actions/root2disk # later
    timeout: 5
    name: root
  - {name: third, image: 'quay.io/tinkerbell/actions/third', timeout: 90}
  - {name: own, image: 'registry.example/x/reboot', runtime: native}
  - name: own-too
    runtime: native
    image: registry.example/x/reboot
  - name: any
    image: "{{ .image }}"
  - name: last
    image: ghcr.io/jacobweinstock/waitdaemon:0.2.1
    environment:
      WAIT_SECONDS: "5"
      IMAGE: quay.io/tinkerbell/actions/last2disk:v1
  - name: off
    image: ghcr.io/jacobweinstock/waitdaemon:0.2.1
    environment: {IMAGE: reboot}
  - name: any-last
    image: ghcr.io/jacobweinstock/waitdaemon:0.2.1
    environment:
      IMAGE: "{{ .image }}"
"#;

    #[test]
    fn lines_tell_what_is_pulled() {
        let told: Vec<(u32, u32, String)> = undone(TEXT)
            .into_iter()
            .map(|problem| problem.finding)
            .map(|found| (found.place.line, found.place.column, found.message))
            .collect();
        let said = |name: &str| {
            format!(
                "action {name:?} runs as a container: image quay.io/tinkerbell/actions/{name}2disk is not built into the \
                 agent, and is pulled from its registry; built in are archive2disk, bootentry, cexec, download, exec, growpart, image2disk, kexec, luks, lvm, mkfs, oci2disk, partition, poweroff, qemuimg2disk, raid, reboot, seed, wipe, writefile; action \"stream\" will have written \
                 to a disk by then"
            )
        };
        assert_eq!(
            told,
            [
                (16, 12, said("root")),
                (19, 27, said("third").replace("third2disk", "third")),
                (27, 12, said("last").replace("last2disk", "last2disk:v1")),
            ]
        );
    }
}
