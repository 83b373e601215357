//! Names of things within a workflow. All of them sort in the order in which they came to be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A task execution: the task, which instance of it (a `goto` and a retry make new ones), which item of its `forEach`.
///
/// Its text is `<task>/<instance>/<item>`, all decimal: task and item from 0, instance from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId {
    pub task: usize,
    pub instance: u32,
    pub item: usize,
}

/// One try of one action: `<workflow id>/<task>/<instance>/<item>/<action>/<attempt>`; action from 0, attempt from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptId {
    pub workflow: String,
    pub execution: ExecutionId,
    pub action: usize,
    pub attempt: u32,
}

/// A text that is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id of an {1}")]
pub struct BadId(String, &'static str);

impl fmt::Display for ExecutionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.task, self.instance, self.item)
    }
}

impl FromStr for ExecutionId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<ExecutionId, BadId> {
        let read = || {
            let mut parts = text.split('/');
            let id = ExecutionId {
                task: number(parts.next()?)?,
                instance: number(parts.next()?).filter(|&instance| instance > 0)?,
                item: number(parts.next()?)?,
            };
            parts.next().is_none().then_some(id)
        };
        read().ok_or_else(|| BadId(text.to_owned(), "execution"))
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}/{}/{}/{}",
            self.workflow, self.execution, self.action, self.attempt
        )
    }
}

impl FromStr for AttemptId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<AttemptId, BadId> {
        let read = || {
            let mut parts = text.splitn(2, '/');
            let workflow = parts.next().filter(|workflow| !workflow.is_empty())?;
            let mut rest = parts.next()?.rsplitn(3, '/');
            let attempt = number(rest.next()?).filter(|&attempt| attempt > 0)?;
            let action = number(rest.next()?)?;
            Some(AttemptId {
                workflow: workflow.to_owned(),
                execution: rest.next()?.parse().ok()?,
                action,
                attempt,
            })
        };
        read().ok_or_else(|| BadId(text.to_owned(), "attempt"))
    }
}

/// Only the canonical decimal form: a text has one id and an id one text.
fn number<N: FromStr>(text: &str) -> Option<N> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}

impl TryFrom<String> for AttemptId {
    type Error = BadId;

    fn try_from(text: String) -> Result<AttemptId, BadId> {
        text.parse()
    }
}

impl From<AttemptId> for String {
    fn from(id: AttemptId) -> String {
        id.to_string()
    }
}

impl Serialize for ExecutionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExecutionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ExecutionId, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let text = "0193-abc/2/1/17/0/3";
        let id: AttemptId = text.parse().unwrap();
        assert_eq!(
            id.execution,
            ExecutionId {
                task: 2,
                instance: 1,
                item: 17
            }
        );
        assert_eq!((id.action, id.attempt), (0, 3));
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "w",
            "w/0/1/0/0/0",
            "w/0/0/0/0/1",
            "w/00/1/0/0/1",
            "w/0/1/0/0/1/1",
            "/0/1/0/0/1",
            "w/+1/1/0/0/1",
        ] {
            assert!(text.parse::<AttemptId>().is_err(), "{text}");
        }
    }
}
