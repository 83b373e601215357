//! Which parts of a run were asked for.

use std::fmt::Write as _;

use super::parts::{Length, MOST_MINUTES, MOST_MINUTES_OF_ALL, PARTS, Part};
use crate::Outcome;

/// What is to run, and how.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) assume_yes: bool,
    pub(super) length: Length,
    /// None: all of them.
    only: Vec<&'static str>,
    without: Vec<&'static str>,
    /// The first step of the one part, from 1.
    pub(super) from: usize,
    /// Of the names of end-to-end tests or fuzz targets.
    pub(super) filter: Option<String>,
}

impl Choice {
    /// # Errors
    /// In words: an option that there is not, or that means nothing beside the others.
    pub(super) fn parse(args: &[&str]) -> Outcome<Choice> {
        let mut choice = Choice {
            from: 1,
            ..Choice::default()
        };
        let mut args = args.iter().copied();
        while let Some(arg) = args.next() {
            match arg {
                "--yes" => choice.assume_yes = true,
                "--all" => choice.length = Length::All,
                "--only" => choice.only.push(known(arg, args.next())?),
                "--without" => choice.without.push(known(arg, args.next())?),
                "--from" => {
                    let number = args.next().and_then(|number| number.parse().ok());
                    choice.from = number
                        .filter(|number| *number > 0)
                        .ok_or("--from needs the number of a step, from 1")?;
                }
                filter if !filter.starts_with('-') && choice.filter.is_none() => {
                    choice.filter = Some(filter.to_owned());
                }
                other => {
                    return Err(format!(
                        "test has no option {other:?}; see cargo xtask test --help"
                    ));
                }
            }
        }
        choice.makes_sense()?;
        Ok(choice)
    }

    fn makes_sense(&self) -> Outcome<()> {
        if self.length == Length::Ordinary
            && let Some(name) = self
                .only
                .iter()
                .find(|name| part(name).is_some_and(is_only_of_all))
        {
            return Err(format!(
                "{name} is a part of --all: cargo xtask test --all --only {name}"
            ));
        }
        if self.parts().next().is_none() {
            return Err("no part is left to run; see cargo xtask test --help".to_owned());
        }
        let one = match self.only.as_slice() {
            [name] => part(name).filter(|part| !part.steps.is_empty()),
            _ => None,
        };
        if self.from > 1 && one.is_none() {
            return Err(format!(
                "--from chooses a step of one part that has steps: --only {}",
                names(|part| !part.steps.is_empty())
            ));
        }
        if let Some(filter) = &self.filter
            && !matches!(self.only.as_slice(), ["e2e" | "fuzz"])
        {
            return Err(format!(
                "{filter:?} chooses among the end-to-end tests or fuzz targets: --only e2e {filter}, or --only fuzz {filter}"
            ));
        }
        Ok(())
    }

    /// In the order in which they run.
    pub(super) fn parts(&self) -> impl Iterator<Item = &'static Part> {
        PARTS.iter().filter(|part| {
            let is_asked_for = self.only.is_empty() || self.only.contains(&part.name);
            is_asked_for && part.share(self.length).is_some() && !self.without.contains(&part.name)
        })
    }

    /// `items` from the first that was asked for on, each with its number, and those that the filter names.
    pub(super) fn steps<T: AsRef<str>>(&self, items: Vec<T>) -> Vec<(usize, T)> {
        let is_named = |item: &T| {
            self.filter
                .as_ref()
                .is_none_or(|filter| item.as_ref().contains(filter))
        };
        let numbered = (1..).zip(items).skip(self.from - 1);
        numbered.filter(|(_, item)| is_named(item)).collect()
    }
}

fn known(option: &str, name: Option<&str>) -> Outcome<&'static str> {
    let part = name.and_then(part);
    part.map(|part| part.name).ok_or_else(|| {
        let given = name.map_or(String::new(), |name| format!(", not {name:?}"));
        format!("{option} needs a part{given}: {}", names(|_| true))
    })
}

fn part(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

fn is_only_of_all(part: &Part) -> bool {
    part.share(Length::Ordinary).is_none()
}

fn names(which: impl Fn(&Part) -> bool) -> String {
    let names: Vec<&str> = PARTS
        .iter()
        .filter(|part| which(part))
        .map(|part| part.name)
        .collect();
    names.join(" | ")
}

/// What `--help` says: the options, and each part with its share.
pub(super) fn help() -> String {
    let mut help = format!(
        "\
Every check of Farrier, part by part. The last line counts them: N passed, N failed

  cargo xtask test                      what CI runs, in {MOST_MINUTES} minutes on a fresh clone with two cores
  cargo xtask test --only tests         one part; --only may come several times
  cargo xtask test --without e2e        all parts but this one
  cargo xtask test --only e2e disks     the end-to-end tests with `disks` in their names
  cargo xtask test --only fuzz deb      the fuzz targets with `deb` in their names
  cargo xtask test --all                everything, in {} hours at most
  cargo xtask test --all --only simulation --from 7
                                        one part of it, from its seventh step on: where a run broke off

  --yes    install missing Debian packages without asking

Parts, with the minutes that each may take (and with --all). Who takes longer is told, and has not failed.

",
        MOST_MINUTES_OF_ALL / 60
    );
    for part in &PARTS {
        let minutes = part
            .share(Length::Ordinary)
            .map_or("-".to_owned(), |minutes| minutes.to_string());
        let all = part
            .share(Length::All)
            .map_or("-".to_owned(), |minutes| minutes.to_string());
        let steps = match part.steps {
            "" => String::new(),
            steps => format!(" [steps: {steps}]"),
        };
        let _ = writeln!(
            help,
            "  {:<14}{minutes:>3} {:>5}  {}{steps}",
            part.name,
            format!("({all})"),
            part.what
        );
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(line: &str) -> Outcome<Vec<&'static str>> {
        let args: Vec<&str> = line.split_whitespace().collect();
        Ok(Choice::parse(&args)?.parts().map(|part| part.name).collect())
    }

    #[test]
    fn an_ordinary_run_has_what_ci_needs_and_all_has_the_long_parts_too() {
        let ordinary = chosen("--yes").unwrap();
        assert_eq!(
            ordinary,
            ["formatting", "clippy", "documentation", "tests", "fuzz", "e2e"]
        );
        assert_eq!(chosen("--all").unwrap().len(), PARTS.len());
        assert_eq!(chosen("--without e2e --without fuzz").unwrap(), &ordinary[..4]);
        assert_eq!(chosen("--only e2e --only clippy").unwrap(), ["clippy", "e2e"]);
        assert_eq!(chosen("--all --only kills --from 3").unwrap(), ["kills"]);
        assert_eq!(chosen("--only e2e disks").unwrap(), ["e2e"]);
    }

    #[test]
    fn what_means_nothing_is_refused_with_the_cure() {
        for (line, cure) in [
            ("--only kills", "cargo xtask test --all --only kills"),
            ("--only", "formatting | clippy"),
            ("--only nothing", "not \"nothing\""),
            ("--from 2", "--only fuzz | e2e"),
            ("--only tests --from 2", "--only fuzz | e2e"),
            ("--from none", "a step"),
            ("--only fuzz --from 0", "from 1"),
            ("disks", "--only e2e disks"),
            ("--only tests disks", "--only e2e disks"),
            ("--only e2e --without e2e", "no part is left"),
            ("--no-e2e", "--help"),
        ] {
            let refused = chosen(line).unwrap_err();
            assert!(refused.contains(cure), "{line}: {refused}");
        }
    }

    #[test]
    fn steps_are_numbered_before_they_are_chosen() {
        let choice = Choice::parse(&["--only", "fuzz", "--from", "2", "e"]).unwrap();
        assert_eq!(
            choice.steps(vec!["one", "two", "three", "e"]),
            [(3, "three"), (4, "e")]
        );
    }

    #[test]
    fn the_help_names_every_part_and_every_option() {
        let help = help();
        for part in &PARTS {
            assert!(help.contains(&format!("\n  {} ", part.name)), "{}", part.name);
        }
        for option in ["--only", "--without", "--all", "--from", "--yes"] {
            assert!(help.contains(option), "{option}");
        }
    }
}
