//! `cexec`'s command line, as words. Pure.
//!
//! With an interpreter the whole text is its last argument. Without one it is split at `;` into commands and at
//! blanks into words, as upstream; quotes and backslashes, which upstream does not know, hold words together.

/// The commands to run one after the other.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn commands(text: &str, interpreter: Option<&str>) -> Result<Vec<Vec<String>>, String> {
    let commands = match interpreter {
        Some(interpreter) => {
            let mut words: Vec<String> = interpreter.split_whitespace().map(str::to_owned).collect();
            if words.is_empty() {
                return Err("the interpreter is blank".to_owned());
            }
            words.push(text.to_owned());
            vec![words]
        }
        None => split(text)?,
    };
    if commands.is_empty() {
        Err("there is no command in it".to_owned())
    } else {
        Ok(commands)
    }
}

fn split(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut commands = Vec::new();
    let mut words: Vec<String> = Vec::new();
    // `None` between words; an empty quoted word is a word.
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                let next = characters.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(q)) if c == q => quote = None,
            (';', None) => {
                words.extend(word.take());
                if !words.is_empty() {
                    commands.push(std::mem::take(&mut words));
                }
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a quote {quote} is not closed"));
    }
    words.extend(word);
    if !words.is_empty() {
        commands.push(words);
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, interpreter: Option<&str>, want: &[&[&str]]) {
        let want: Vec<Vec<String>> = want
            .iter()
            .map(|words| words.iter().map(|w| (*w).to_owned()).collect())
            .collect();
        assert_eq!(commands(text, interpreter), Ok(want));
    }

    #[test]
    fn an_interpreter_gets_the_text_as_it_is() {
        check(
            "a; b 'c' && d",
            Some("/bin/sh -c"),
            &[&["/bin/sh", "-c", "a; b 'c' && d"]],
        );
    }

    #[test]
    fn without_one_it_is_split_at_semicolons_and_blanks() {
        check(
            "apt-get update;  apt-get -y install curl ;;",
            None,
            &[&["apt-get", "update"], &["apt-get", "-y", "install", "curl"]],
        );
    }

    #[test]
    fn quotes_hold_words_together() {
        check(
            r#"echo "a; b" 'c "d"' e\ f '' "x\"y""#,
            None,
            &[&["echo", "a; b", "c \"d\"", "e f", "", "x\"y"]],
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["echo 'a", "echo \\", "", " ; ;"] {
            assert!(commands(text, None).is_err(), "{text:?}");
        }
        assert!(commands("echo", Some(" ")).is_err());
    }
}
