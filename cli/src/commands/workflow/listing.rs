//! `farrier workflow list`.

use clap::ValueEnum;
use jiff::Timestamp;
use proto::v1::ListWorkflowsRequest;

use super::super::{Asking, Listing, Selecting};
use crate::failure::Failure;
use crate::moment::since;
use crate::output;
use crate::terminal::{is_shown_to_a_person, say};
use crate::views::Workflow;
use crate::views::listed::{Listed, folded};

/// Workflows that a table has, unless somebody says how many.
const LIMIT: usize = 50;
/// So many in one answer.
const PAGE: usize = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only those of this machine: name, MAC or address
    #[arg(short, long)]
    machine: Option<String>,
    /// Only those that have not ended
    #[arg(short, long)]
    unfinished: bool,
    /// Only those that wait for an approval which you may give
    #[arg(short, long)]
    waiting: bool,
    /// Only those in one of these states, such as running,paused
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<String>,
    /// Only those made from this template: its name or id
    #[arg(short, long)]
    template: Option<String>,
    /// Only those made within this time, such as 2h or 7d, or since then, such as "2026-11-29 02:00"
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Sub-workflows too, below the one that they are part of; with --machine and --waiting they are there anyway
    #[arg(short, long)]
    children: bool,
    /// How many at most; 0: all [default: 50 in a table, else all]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Sort those that are listed by this, instead of the newest first
    #[arg(long, value_name = "COLUMN")]
    sort_by: Option<SortBy>,
    #[command(flatten)]
    selecting: Selecting,
    #[command(flatten)]
    listing: Listing,
}

/// What workflows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// The oldest first
    Created,
    /// Those that ended first come first; those that go on last
    Ended,
    Name,
    State,
    Template,
}

pub(super) async fn list(args: ListArgs, asking: Asking<'_>) -> Result<(), Failure> {
    let format = asking.output;
    let limit = match args.limit {
        Some(0) => usize::MAX,
        Some(limit) => limit,
        None if format.is_text() => LIMIT,
        None => usize::MAX,
    };
    let mut request = ListWorkflowsRequest {
        machine: args.machine.clone().unwrap_or_default(),
        unfinished: args.unfinished,
        // A table shows none of it, but what is waited for.
        whole: !matches!(
            format,
            output::Format::Table | output::Format::Wide | output::Format::Name
        ) || args.waiting,
        namespace: asking.namespace.clone(),
        all_namespaces: args.listing.all_namespaces,
        selector: args.selecting.selector.clone(),
        newest_first: true,
        states: args.state,
        template: args.template.unwrap_or_default(),
        since: args.since.map(|at| prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }),
        waiting: args.waiting,
        roots: !args.children && !args.waiting && args.machine.is_none(),
        ..ListWorkflowsRequest::default()
    };
    let mut client = asking.connect().await?;
    let mut all: Vec<Workflow> = Vec::new();
    // One more than is shown tells that there are more.
    let wanted = limit.saturating_add(1);
    loop {
        let left = wanted.saturating_sub(all.len()).min(PAGE);
        request.limit = u32::try_from(left).unwrap_or(u32::MAX);
        let answer = client.control.list_workflows(request.clone()).await;
        let answer = client.answer(answer)?;
        all.extend(answer.workflows.into_iter().map(Workflow::from));
        request.after = answer.next;
        if request.after.is_empty() || all.len() >= wanted {
            break;
        }
    }
    let is_cut = all.len() > limit;
    all.truncate(limit);
    if let Some(by) = args.sort_by {
        sort(&mut all, by);
    }
    if !format.is_text() {
        output::list(asking.out, format, &all)?;
    } else {
        let columns = Listed {
            namespace: args.listing.all_namespaces,
            labels: args.selecting.show_labels,
            wide: format == output::Format::Wide,
        };
        let rows = match args.sort_by {
            None => columns.rows(&folded(&all)),
            Some(_) => columns.rows(&all.iter().map(|workflow| (0, workflow)).collect::<Vec<_>>()),
        };
        if rows.is_empty() && is_shown_to_a_person() {
            say(nothing(&request));
        }
        match columns.wide {
            true => output::table(asking.out, &columns.header(), rows.into_iter())?,
            false => output::table_of_states(asking.out, &columns.header(), &rows, columns.state())?,
        }
    }
    if is_cut {
        say(format_args!(
            "the newest {limit} are listed, and there are more: --limit NUMBER has so many, --limit 0 all"
        ));
    }
    Ok(())
}

/// Why a list is empty, and what to do.
fn nothing(asked: &ListWorkflowsRequest) -> &'static str {
    let is_any = asked.machine.is_empty()
        && !asked.unfinished
        && !asked.waiting
        && asked.selector.is_empty()
        && asked.states.is_empty()
        && asked.template.is_empty()
        && asked.since.is_none();
    match (asked.waiting, is_any) {
        (true, _) => "no workflow waits for an approval that you may give",
        (false, true) => <Workflow as output::Rows>::NONE,
        (false, false) => "no workflow is so: leave something of it out, or see `farrier workflow list`",
    }
}

/// Of equal ones the newest comes first, as before.
fn sort(all: &mut [Workflow], by: SortBy) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match by {
        SortBy::Created => all.sort_by_key(|workflow| text(&workflow.created_at)),
        SortBy::Ended => all.sort_by_key(|workflow| (workflow.ended_at.is_none(), text(&workflow.ended_at))),
        SortBy::Name => all.sort_by_key(|workflow| workflow.name.clone()),
        SortBy::State => all.sort_by_key(|workflow| workflow.state.clone()),
        SortBy::Template => all.sort_by_key(|workflow| text(&workflow.template)),
    }
}
