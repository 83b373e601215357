//! Templates: the texts that workflows are made from. Changing one never changes a workflow that exists.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use workflow::engine::UnixMillis;
use workflow::language;

use crate::database::{Batch, Stored, View};
use crate::error::Error;
use crate::secrets;

/// A stored template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    pub id: String,
    pub name: String,
    pub text: String,
    /// Raised by every change of the text.
    pub version: u64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

/// As upstream: 256 KiB is the limit of what a template renders to, so a longer one is of no use.
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// As upstream's workflow names.
const MAX_NAME_BYTES: usize = 199;

/// Checks a template without a server: its syntax. Gives warnings, or all problems, as lines.
///
/// # Errors
/// [`Error::Invalid`] with every problem, its line and what stands there.
pub fn check(text: &str) -> Result<Vec<String>, Error> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::Invalid(format!(
            "the template has {} B, more than {MAX_TEXT_BYTES}",
            text.len()
        )));
    }
    let given = |mut problem: language::Problem| {
        problem.text = language::Text::Template;
        problem
    };
    let problems = |problems: Vec<language::Problem>| Error::Invalid(lines(&problems));
    let plain = language::check(text).map_err(|found| problems(found.into_iter().map(given).collect()))?;
    let (bad, odd) = literal(text);
    if !bad.is_empty() {
        return Err(problems(bad));
    }
    // A template that fills nothing in was checked as a whole, and it is its own rendering. Of one that made-up values
    // do not render, its lines tell what they can.
    let odd = odd.unwrap_or_else(|| {
        plain
            .into_iter()
            .chain(language::undone(text))
            .map(given)
            .collect()
    });
    Ok(odd.iter().map(described).collect())
}

/// What is wrong and what is odd in lines that every rendering has as they are, found by rendering with a made-up
/// value for each variable. `None` when the template needs more than that, such as a record's fields.
fn literal(text: &str) -> (Vec<language::Problem>, Option<Vec<language::Problem>>) {
    let value = |name: &str| (name.to_owned(), "00:00:00:00:00:01".to_owned());
    let devices = language::Devices {
        devices: variables(text).map(value).collect(),
        hardware: serde_json::Value::Null,
    };
    // Of lines that are the same, the one that has as many of them before it.
    let as_written = |mut problem: language::Problem, before: usize| {
        let same = |(_, line): &(usize, &str)| *line == problem.quoted;
        let mut lines = text.lines().enumerate().filter(same);
        let (at, _) = lines.clone().nth(before).or_else(|| lines.next())?;
        problem.line = u32::try_from(at + 1).ok()?;
        problem.text = language::Text::Template;
        Some(problem)
    };
    match language::render(text, &devices) {
        Ok(rendered) => {
            let all = rendered.warnings.into_iter().chain(rendered.undone);
            let odd = all.filter_map(|problem| {
                let line = usize::try_from(problem.line).unwrap_or(0);
                let above = rendered.yaml.lines().take(line.saturating_sub(1));
                let before = above.filter(|line| *line == problem.quoted).count();
                as_written(problem, before)
            });
            (Vec::new(), Some(odd.collect()))
        }
        // Other mistakes may be of the made-up values.
        Err(problems) => {
            let certain = problems.into_iter().filter(|problem| {
                problem.message.starts_with("image ") || problem.message.contains(" is no field of ")
            });
            (
                certain.filter_map(|problem| as_written(problem, 0)).collect(),
                None,
            )
        }
    }
}

/// The names behind a dot inside of `{{` and `}}`.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let actions = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("}}")?.0));
    let word = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.');
    actions.flat_map(move |action| {
        action
            .split(move |char: char| !word(char))
            .filter_map(|path| path.strip_prefix('.')?.split('.').next())
            .filter(|name| !name.is_empty() && !matches!(*name, "hardware" | "Hardware"))
    })
}

pub fn lines(problems: &[language::Problem]) -> String {
    problems.iter().map(described).collect::<Vec<_>>().join("\n")
}

/// `line LINE, column COLUMN: message`, with the line it is in below; "rendered" when it is not the template's line.
pub fn described(problem: &language::Problem) -> String {
    let text = match problem.text {
        language::Text::Template => "",
        language::Text::Rendered => "rendered ",
    };
    let place = match (problem.line, problem.column) {
        (0, _) => String::new(),
        (line, 0) => format!("{text}line {line}: "),
        (line, column) => format!("{text}line {line}, column {column}: "),
    };
    let quoted = problem.quoted.trim_end();
    let quoted = if quoted.is_empty() {
        String::new()
    } else {
        format!("\n    | {quoted}")
    };
    format!("{place}{}{quoted}", problem.message)
}

/// What storing a template comes to.
#[derive(Debug)]
pub struct Put {
    /// As it is stored afterwards.
    pub template: Template,
    pub warnings: Vec<String>,
    /// `None`: it is stored already, as it is.
    pub batch: Option<Batch>,
}

/// Stores `text` under `name`, or the name that it gives. `id` is that of a template that there was not.
///
/// # Errors
/// [`Error::Invalid`] with every problem of the text, or what is wrong with the name.
pub fn put(view: &View, name: &str, text: &str, id: &str, now: UnixMillis) -> Result<Put, Error> {
    let mut warnings = check(text)?;
    let unknown = secrets::unknown(view, &language::secrets(text))?;
    warnings.extend(unknown.iter().map(described));
    let name = match name.trim() {
        "" => named(text).ok_or_else(|| {
            Error::Invalid("the template has no name: write `name: NAME` in it, or give one".into())
        })?,
        name => name.to_owned(),
    };
    let printable = |letter: char| letter != '/' && !letter.is_control();
    // By its id another template is found.
    let is_id = Uuid::parse_str(&name).is_ok();
    if name.len() > MAX_NAME_BYTES || !name.chars().all(printable) || is_id {
        return Err(Error::Invalid(format!(
            "bad template name {name:?}: expected 1 to {MAX_NAME_BYTES} bytes of printable text without a slash, and no id"
        )));
    }
    let key = format!("template/{name}");
    let before = view.get::<Template>(&key)?;
    let template = match &before {
        Some(before) if before.value.text == text => {
            return Ok(Put {
                template: before.value.clone(),
                warnings,
                batch: None,
            });
        }
        Some(Stored { value, .. }) => Template {
            text: text.to_owned(),
            version: value.version + 1,
            updated_at: now,
            ..value.clone()
        },
        None => Template {
            id: id.to_owned(),
            name,
            text: text.to_owned(),
            version: 1,
            created_at: now,
            updated_at: now,
        },
    };
    let mut batch = Batch::default();
    batch.expect(&key, before.map(|before| before.modified));
    batch.put(&key, &template);
    batch.put(format!("template-id/{}", template.id), &template.name);
    Ok(Put {
        template,
        warnings,
        batch: Some(batch),
    })
}

/// Every template, by name.
///
/// # Errors
/// When the store cannot be read.
pub fn all(view: &View) -> Result<Vec<Template>, Error> {
    let all = view.list::<Template>("template/")?;
    Ok(all.into_iter().map(|(_, template)| template).collect())
}

/// Takes a template away. Workflows that were made from it go on: they have their own text.
///
/// # Errors
/// As [`find`].
pub fn deletion(view: &View, name_or_id: &str) -> Result<Batch, Error> {
    let template = find(view, name_or_id)?;
    let mut batch = Batch::default();
    batch.delete(format!("template/{}", template.name));
    batch.delete(format!("template-id/{}", template.id));
    Ok(batch)
}

/// The template of this name or id.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(view: &View, name_or_id: &str) -> Result<Template, Error> {
    if let Some(found) = view.get::<Template>(&format!("template/{name_or_id}"))? {
        return Ok(found.value);
    }
    if let Some(name) = view.get::<String>(&format!("template-id/{name_or_id}"))?
        && let Some(found) = view.get::<Template>(&format!("template/{}", name.value))?
    {
        return Ok(found.value);
    }
    Err(Error::NotFound(format!(
        "no template has name or id {name_or_id:?}: see `farrier template list`"
    )))
}

/// The top-level `name` of a text that is not rendered yet; `None` when it is itself made by the template.
fn named(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("name:"))?;
    let plain = line.split(" #").next().unwrap_or(line).trim();
    let name = plain.trim_matches(['"', '\'']);
    (!name.is_empty() && !name.contains("{{")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLE: &str = "version: \"0.1\"\nname: x\ntasks:\n- name: a\n  worker: \"{{.device_1}}\"\n  actions:\n  \
                            - name: w\n    image: IMAGE\n    timeot: 5\n    environment: {A: \"{{ .b | quote }}\"}\n";

    #[test]
    fn a_template_with_variables_is_warned_about_where_it_is_literal() {
        let text = VARIABLE.replace("IMAGE", "cexec");
        let warnings = check(&text.replace(" | quote", "")).expect("good enough");
        let want = "line 9, column 5: \"timeot\" is no field of an action and has no effect; did you mean \"timeout\"?\n    \
                    |     timeot: 5";
        assert_eq!(warnings, [want]);
        // The YAML that made-up values give is nobody's mistake.
        assert_eq!(
            check(&text.replace("{A: \"{{ .b | quote }}\"}", "{{ .b }}: [")).ok(),
            Some(vec![])
        );
        assert_eq!(
            check(&text.replace(".b | quote", ".hardware.spec.userData")).ok(),
            Some(vec![])
        );
    }

    #[test]
    fn an_unknown_field_of_version_1_beside_variables_is_refused_at_once() {
        let text = VARIABLE
            .replace("IMAGE", "cexec")
            .replace(" | quote", "")
            .replace("0.1", "1");
        let error = check(&text).expect_err("an unknown field").to_string();
        assert!(
            error.starts_with(
                "line 9, column 5: \"timeot\" is no field of an action; did you mean \"timeout\"?"
            ),
            "{error}"
        );
        assert_eq!(check(&text.replace("timeot", "timeout")).ok(), Some(vec![]));
    }

    #[test]
    fn a_bad_image_beside_variables_is_refused_at_once() {
        let text = VARIABLE.replace("IMAGE", "\"Bad Image\"").replace(" | quote", "");
        let error = check(&text).expect_err("a bad image").to_string();
        assert!(
            error.starts_with("line 8, column 12: image \"Bad Image\" of action \"w\""),
            "{error}"
        );
        let later = VARIABLE
            .replace("IMAGE", "\"{{ .image }} x\"")
            .replace(" | quote", "");
        assert!(check(&later).is_ok());
    }

    #[test]
    fn takes_the_name_from_the_text() {
        assert_eq!(
            named("version: \"0.1\"\nname: \"debian\" # the usual\n").as_deref(),
            Some("debian")
        );
        assert_eq!(named("tasks:\n- name: inner\n"), None);
        assert_eq!(named("name: {{ .name }}\n"), None);
    }
}
