//! The words of enums, for people and for rows: those of the contract in lower case.

use crate::v1::{BootOutcome, BootStage};

impl BootStage {
    /// "agent", "dhcp", "http", "netboot", "ra" or "tftp"; "unknown" for one of a later version.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Agent => "agent",
            Self::Dhcp => "dhcp",
            Self::Http => "http",
            Self::Netboot => "netboot",
            Self::Ra => "ra",
            Self::Tftp => "tftp",
        }
    }

    /// The one with this word; unspecified where there is none.
    pub fn of_word(word: &str) -> Self {
        of_name(word, "BOOT_STAGE_", Self::from_str_name)
    }
}

impl BootOutcome {
    /// "answered", "failed", "ignored", "note" or "refused"; "unknown" for one of a later version.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Ignored => "ignored",
            Self::Note => "note",
            Self::Refused => "refused",
        }
    }

    /// The one with this word; unspecified where there is none.
    pub fn of_word(word: &str) -> Self {
        of_name(word, "BOOT_OUTCOME_", Self::from_str_name)
    }
}

fn of_name<T: Default>(word: &str, prefix: &str, from: fn(&str) -> Option<T>) -> T {
    from(&format!("{prefix}{}", word.to_ascii_uppercase())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_word_that_means_it() {
        let stages = (0..).map_while(|number| BootStage::try_from(number).ok());
        let outcomes = (0..).map_while(|number| BootOutcome::try_from(number).ok());
        let stages: Vec<BootStage> = stages.collect();
        assert_eq!(stages.len(), 7);
        for stage in stages {
            assert_eq!(BootStage::of_word(stage.word()), stage);
        }
        let outcomes: Vec<BootOutcome> = outcomes.collect();
        assert_eq!(outcomes.len(), 6);
        for outcome in outcomes {
            assert_eq!(BootOutcome::of_word(outcome.word()), outcome);
        }
    }

    #[test]
    fn a_word_of_a_later_version_is_unspecified() {
        assert_eq!(BootStage::of_word("syslog"), BootStage::Unspecified);
        assert_eq!(BootOutcome::of_word(""), BootOutcome::Unspecified);
    }
}
