//! Arguments that a template gives a program as they are: a list of texts, of which each is an option that is known, or its value.

use serde_json::Value;

/// Options of one program, as JSON.
pub const MAX_OPTIONS_BYTES: usize = 16 << 10;

/// An option of a program: its name, and whether a value comes with it.
pub(crate) type Known = (&'static str, bool);

/// A JSON list of texts.
pub(crate) fn read(text: &str) -> Result<Vec<String>, String> {
    if text.len() > MAX_OPTIONS_BYTES {
        let len = text.len();
        return Err(format!(
            "options has {len} B as JSON, {MAX_OPTIONS_BYTES} B at most"
        ));
    }
    let no_list = || {
        "options is no list of texts: write one, such as [\"-m\", \"1\"]; in an environment, as JSON"
            .to_owned()
    };
    let items: Vec<Value> = serde_json::from_str(text).map_err(|_| no_list())?;
    let word = |item: Value| match item {
        Value::String(word) if !word.contains('\0') => Ok(word),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(no_list()),
    };
    items.into_iter().map(word).collect()
}

/// Every word is an option that is known, or its value: no second device can be among them.
pub(crate) fn check(words: &[String], program: &str, what: &str, known: &[Known]) -> Result<(), String> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let short: String = word.chars().take(64).collect();
        let (name, attached) = match word.strip_prefix("--") {
            Some(_) => word
                .split_once('=')
                .map_or((word.as_str(), None), |(name, value)| (name, Some(value))),
            // `-b4096`
            None => match word.char_indices().nth(2) {
                Some((at, _)) => (word.get(..at).unwrap_or_default(), word.get(at..)),
                None => (word.as_str(), None),
            },
        };
        let Some((_, takes_value)) = known.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
            return Err(format!(
                "option {short:?} is none that {program} is given here for {what}: it takes {}; label, uuid and type have fields of their own",
                names.join(", ")
            ));
        };
        match (takes_value, attached) {
            (false, Some(_)) => return Err(format!("option {name} of {program} takes no value: {short:?}")),
            (true, None) if words.next().is_none() => {
                return Err(format!("option {name} of {program} has no value"));
            }
            _ => {}
        }
    }
    Ok(())
}
