//! Which workflows somebody wants to see.

use std::sync::Arc;

use serde_json::json;
use workflow::engine::{Head, UnixMillis, WorkflowState};
use workflow::expression::Selector;

use coordinator::Error;
use coordinator::database::View;
use coordinator::steps::load;

use super::{Order, Span};

/// All that is set has to be so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Leaves out those that have ended.
    pub(crate) unfinished: bool,
    /// Only those in one of these; none: in any.
    pub(crate) states: Vec<WorkflowState>,
    /// Name or id of what they were made from; empty: any.
    pub(crate) template: String,
    /// Made then or later; 0: at any time.
    pub(crate) since: UnixMillis,
    /// Those which wait for an approval that somebody of these groups may give; `None`: all.
    pub(crate) waits_for: Option<Vec<String>>,
    /// How their ids begin; empty: in any way.
    pub(crate) id_prefix: String,
    /// Empty: any.
    pub(crate) name: String,
    /// Leaves out sub-workflows.
    pub(crate) roots: bool,
    /// Leaves out those that it does not mean; `None`: all are meant.
    pub(crate) selector: Option<Arc<Selector>>,
}

/// A workflow's id says the time by the clock of whoever made it, which may have been set since: so long before the time that is
/// asked for ids are looked at.
const SET_BACK: UnixMillis = 60_000;

impl Wanted {
    /// Whether one that has ended can be among them.
    pub(super) fn has_ended_ones(&self) -> bool {
        let is_over = self.unfinished || self.waits_for.is_some();
        !is_over && (self.states.is_empty() || self.states.iter().any(|state| state.is_final()))
    }

    /// The ids that they can have, behind `after` where that is not empty.
    pub(super) fn span(&self, after: &str, order: Order) -> Span {
        let mut span = Span {
            from: self.id_prefix.clone(),
            // `~` is behind all that ids have.
            before: (!self.id_prefix.is_empty()).then(|| format!("{}~", self.id_prefix)),
            order,
        };
        if self.since > SET_BACK {
            span.from = span.from.max(first_id_of(self.since - SET_BACK));
        }
        match after {
            "" => span,
            after => span.behind(after),
        }
    }

    /// Whether it is one of them, as far as its head tells.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the selector has no value for it.
    pub(super) fn is_for(&self, head: &Head) -> Result<bool, Error> {
        let made_from = head.made_from.as_ref().map_or("", |from| from.id.as_str());
        let is_other = self.unfinished && head.state.is_final()
            || !self.states.is_empty() && !self.states.contains(&head.state)
            || !self.template.is_empty() && self.template != head.template && self.template != made_from
            || head.created_at < self.since
            || !self.name.is_empty() && self.name != head.name
            || self.roots && head.parent.is_some()
            || self.waits_for.is_some() && head.state.is_final();
        if is_other {
            return Ok(false);
        }
        let Some(selector) = &self.selector else {
            return Ok(true);
        };
        let known = json!({"name": head.name, "labels": *head.labels});
        let said = selector.matches(&known);
        said.map_err(|error| Error::Invalid(format!("workflow {}: {error}", head.id)))
    }

    /// Whether somebody is asked in it who is asked for; true where that is of no account.
    pub(super) fn is_asked(&self, view: &View, head: &Head) -> Result<bool, Error> {
        let Some(groups) = &self.waits_for else {
            return Ok(true);
        };
        // Only what has begun and not ended can ask.
        if !head
            .tasks
            .iter()
            .any(|task| task.instance > 0 && !task.state.is_final())
        {
            return Ok(false);
        }
        let Some(workflow) = load::workflow(view, &head.id)? else {
            return Ok(false);
        };
        let mut asked = workflow
            .executions
            .values()
            .filter(|execution| execution.is_asked());
        Ok(asked.any(|execution| {
            let task = workflow.definition.tasks.get(execution.id.task);
            let approve = task.and_then(|task| task.approve.as_ref());
            let by = match &execution.asks {
                Some(asks) => &asks.rule.by[..],
                None => approve.map_or(&[][..], |approve| &approve.by),
            };
            by.is_empty() || by.iter().any(|group| groups.contains(group))
        }))
    }
}

/// The smallest that a UUIDv7 of this time can be.
///
/// Source: RFC 9562 section 5.7.
fn first_id_of(at: UnixMillis) -> String {
    let hex = format!("{:012x}", at & 0xffff_ffff_ffff);
    match hex.split_at_checked(8) {
        Some((high, low)) => format!("{high}-{low}"),
        None => hex,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_ones_are_looked_at_where_they_are_asked_for() {
        let of = |states: &[WorkflowState]| Wanted {
            states: states.to_vec(),
            ..Wanted::default()
        };
        assert!(of(&[]).has_ended_ones());
        assert!(of(&[WorkflowState::Running, WorkflowState::Failed]).has_ended_ones());
        assert!(!of(&[WorkflowState::Running, WorkflowState::Paused]).has_ended_ones());
        let unfinished = Wanted {
            unfinished: true,
            ..of(&[])
        };
        let waits = Wanted {
            waits_for: Some(Vec::new()),
            ..of(&[])
        };
        assert!(!unfinished.has_ended_ones() && !waits.has_ended_ones());
    }

    #[test]
    fn ids_are_looked_at_from_a_time_on() {
        let id = uuid::Uuid::new_v7(uuid::Timestamp::from_unix_time(1_700_000_000, 0, 0, 0)).to_string();
        let span = |since| {
            let wanted = Wanted {
                since,
                ..Wanted::default()
            };
            wanted.span("", Order::OldestFirst)
        };
        assert!(span(1_700_000_000_000).has(&id));
        assert!(span(1_700_000_000_000 + SET_BACK).has(&id));
        assert!(!span(1_700_000_000_001 + SET_BACK).has(&id));
        let of_one = Wanted {
            id_prefix: id[..10].to_owned(),
            ..Wanted::default()
        };
        let span = of_one.span("", Order::NewestFirst);
        assert!(span.has(&id) && !span.has("f") && !span.has("0"));
    }
}
