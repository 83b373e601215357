//! Several workflows, by their labels: waited for until all of them have ended.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use jiff::SignedDuration;
use proto::v1::ListWorkflowsRequest;

use super::super::Asking;
use super::look::ended;
use crate::failure::Failure;
use crate::following::Following;
use crate::output::{self, Format};
use crate::terminal::Out;
use crate::views::Workflow;
use crate::views::listed::{Listed, folded};

/// States that a workflow does not leave by itself.
const ENDS: [&str; 4] = ["SUCCESS", "FAILED", "TIMEOUT", "CANCELLED"];
/// Of those that go on when the time is over.
const NAMED: usize = 5;

/// Waits for the end of those that the selector means now.
pub(super) async fn wait(
    selector: &str,
    timeout: Option<Duration>,
    asking: Asking<'_>,
) -> Result<ExitCode, Failure> {
    let client = asking.connect().await?;
    let mut asks = Following::new(&client, timeout);
    let mut all = Vec::new();
    let mut open = Vec::new();
    for meant in meant(&mut asks, selector, false, &asking).await? {
        let answer = ended(&mut asks, &meant.id).await?;
        let mut workflow = answer.workflow.map_or(meant, Workflow::from);
        workflow.definition = None;
        if !answer.ended {
            open.push(workflow.id.clone());
        }
        all.push(workflow);
    }
    print(asking.out, asking.output, &all)?;
    if open.is_empty() {
        return Ok(exit_code(&all));
    }
    let after = timeout
        .map(SignedDuration::try_from)
        .and_then(Result::ok)
        .unwrap_or_default();
    let more = match open.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    open.truncate(NAMED);
    Err(Failure::Failed(format!(
        "workflows that -l {selector:?} means still go on after {after:#}: {}{more}",
        open.join(", ")
    )))
}

/// Prints them, a row each.
pub(super) fn print(out: &mut Out, format: Format, all: &[Workflow]) -> Result<(), Failure> {
    if !format.is_text() {
        return output::list(out, format, all);
    }
    let columns = Listed {
        wide: format == Format::Wide,
        ..Listed::default()
    };
    output::table(out, &columns.header(), columns.rows(&folded(all)).into_iter())
}

/// At least one; sub-workflows only where the one above them is not meant.
pub(super) async fn meant(
    asks: &mut Following<'_>,
    selector: &str,
    whole: bool,
    asking: &Asking<'_>,
) -> Result<Vec<Workflow>, Failure> {
    let mut all: Vec<Workflow> = Vec::new();
    let mut request = ListWorkflowsRequest {
        whole,
        namespace: asking.namespace.clone(),
        selector: selector.to_owned(),
        ..ListWorkflowsRequest::default()
    };
    loop {
        let answer = asks.ask(|mut control| {
            let request = request.clone();
            async move { control.list_workflows(request).await }
        });
        let answer = answer.await?;
        all.extend(answer.workflows.into_iter().map(Workflow::from));
        request.after = answer.next;
        if request.after.is_empty() {
            break;
        }
    }
    let ids: BTreeSet<String> = all.iter().map(|workflow| workflow.id.clone()).collect();
    let is_below = |workflow: &Workflow| {
        let above = [&workflow.parent, &workflow.root];
        let mut above = above.into_iter().flatten().filter(|id| **id != workflow.id);
        above.any(|id| ids.contains(id))
    };
    all.retain(|workflow| !is_below(workflow));
    if all.is_empty() {
        return Err(Failure::NotFound(format!(
            "-l {selector:?} means no workflow: see `farrier workflow list --show-labels`"
        )));
    }
    Ok(all)
}

pub(super) fn has_ended(workflow: &Workflow) -> bool {
    ENDS.contains(&workflow.state.as_str())
}

/// Success when all of them are.
pub(super) fn exit_code(all: &[Workflow]) -> ExitCode {
    match all.iter().all(|workflow| workflow.state == "SUCCESS") {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
