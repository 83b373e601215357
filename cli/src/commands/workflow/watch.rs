//! Watching: the state of one workflow, or of several, drawn anew each second until they have ended. Where nothing can be drawn, what
//! changes is printed, a line each.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Zoned;
use proto::v1::{WorkflowEvent, WorkflowEventsRequest};
use tokio::time::MissedTickBehavior;

use super::super::Asking;
use super::look::{Events, HEADER, STATE, exit_code};
use super::{fetch, several};
use crate::failure::Failure;
use crate::following::{Following, Items};
use crate::output::{self, laid_out};
use crate::screen::{Colour, Size, cut, fitting, wrapped};
use crate::terminal::{Out, safe_line};
use crate::views::Workflow;
use crate::views::listed::{Listed, folded};
use crate::views::short::short;

/// How often it is drawn, whatever happens.
const EVERY: Duration = Duration::from_secs(1);
/// Whatever has happened by then is drawn together.
const AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// Of a terminal that does not say how large it is.
const USUAL: Size = Size {
    columns: 80,
    rows: 24,
};

/// Tasks that wait for a person, of which the whole message is shown.
const APPROVALS: usize = 2;

/// How what is watched is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// As a whole, again and again.
    Drawn,
    /// As JSON or YAML, when it has ended.
    InTheEnd,
    /// By what changes.
    Lines,
}

impl Shown {
    fn of(asking: &Asking<'_>) -> Self {
        match (asking.output.is_text(), asking.out.is_screen()) {
            (false, _) => Shown::InTheEnd,
            (true, true) => Shown::Drawn,
            (true, false) => Shown::Lines,
        }
    }
}

/// One workflow.
pub(super) async fn one(id: &str, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let client = asking.connect().await?;
    let mut asks = Following::new(&client, None);
    let mut events = Following::new(&client, None).stream(Events(WorkflowEventsRequest {
        id: id.to_owned(),
        from: 0,
        follow: true,
    }));
    let shown = Shown::of(&asking);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Changes::default();
    loop {
        let has_ended = tokio::select! {
            has_ended = happened(&mut events) => has_ended?,
            _ = tick.tick(), if shown == Shown::Drawn => false,
        };
        let mut workflow = fetch(&mut asks, id).await?;
        workflow.definition = None;
        let rows = workflow.rows();
        match shown {
            Shown::Drawn => {
                let heading = format!("{}  {}  {}", workflow.id, workflow.name, workflow.state);
                let below = below(&workflow, &rows);
                draw(asking.out, &heading, (&HEADER, rows, STATE), &below)?;
            }
            // The first look is of what there is already.
            Shown::Lines => before.print(asking.out, rows, STATE, &[0, 2])?,
            Shown::InTheEnd => {}
        }
        if has_ended || several::has_ended(&workflow) {
            if shown != Shown::Drawn {
                output::one(asking.out, asking.output, &workflow, |out| {
                    super::look::table(&workflow, out)
                })?;
            }
            return Ok(exit_code(&workflow));
        }
    }
}

/// Waits for the next event, and for those that come right behind it; whether it was the last.
async fn happened(events: &mut Items<'_, Events>) -> Result<bool, Failure> {
    let next: Option<WorkflowEvent> = events.next().await?;
    if next.is_none() {
        return Ok(true);
    }
    let quiet = tokio::time::sleep(AT_MOST_EVERY);
    tokio::pin!(quiet);
    loop {
        tokio::select! {
            () = &mut quiet => return Ok(false),
            next = events.next() => if next?.is_none() {
                return Ok(true);
            },
        }
    }
}

/// Those that the selector means, also those that come later, until all have ended.
pub(super) async fn several(selector: &str, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let client = asking.connect().await?;
    let mut asks = Following::new(&client, None);
    let shown = Shown::of(&asking);
    let columns = Listed::default();
    let mut before = Changes::default();
    loop {
        let all = several::meant(&mut asks, selector, false, &asking).await?;
        let rows = columns.rows(&folded(&all));
        match shown {
            Shown::Drawn => {
                let heading = format!("{} workflows with {selector}", all.len());
                draw(
                    asking.out,
                    &heading,
                    (&columns.header(), rows, columns.state()),
                    &[],
                )?;
            }
            // The age is no change.
            Shown::Lines => before.print(asking.out, rows, columns.state(), &[0])?,
            Shown::InTheEnd => {}
        }
        if all.iter().all(several::has_ended) {
            if shown != Shown::Drawn {
                let whole = !asking.output.is_text();
                let all = several::meant(&mut asks, selector, whole, &asking).await?;
                several::print(asking.out, asking.output, &all)?;
            }
            return Ok(several::exit_code(&all));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What a row of the table has no room for: why it ended as it did or stands still, what waits for a person, and the command that
/// comes next.
fn below(workflow: &Workflow, rows: &[Vec<String>]) -> Vec<String> {
    let id = short(&workflow.id);
    let mut below: Vec<String> = match workflow.why().as_str() {
        "" => Vec::new(),
        why => why.lines().map(str::to_owned).collect(),
    };
    if Colour::of(&workflow.state) == Some(Colour::Red) {
        below.push(format!("farrier workflow explain {id}"));
    }
    if workflow.state == "PENDING" && workflow.begins().is_none() {
        below.push(format!("farrier workflow explain {id} says what it waits for"));
    }
    let approvals = rows.iter().filter_map(|row| match row.as_slice() {
        [task, _, action, state, _, _, message] if action == "approve" && state == "WAITING" => {
            Some((task, message))
        }
        _ => None,
    });
    for (task, message) in approvals.take(APPROVALS) {
        below.push(format!("{task}: {message}"));
        // A shell would look for files of the name `task[3]`.
        let task = match task.contains('[') {
            true => format!("'{task}'"),
            false => task.clone(),
        };
        below.push(format!("farrier workflow approve {id} {task}"));
    }
    below
}

/// Draws a heading, a table (header, rows, which column is the state) and lines below it over what the terminal shows, as much as it
/// has room for.
fn draw(
    out: &mut Out,
    heading: &str,
    (header, rows, state): (&[&str], Vec<Vec<String>>, usize),
    below: &[String],
) -> Result<(), Failure> {
    let size = out.size().unwrap_or(USUAL);
    // The heading, a line that is free, the header, and the line of the cursor.
    let room = size.rows.saturating_sub(4);
    let mut lines: Vec<String> = below
        .iter()
        .flat_map(|line| wrapped(&safe_line(line), size.columns))
        .collect();
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    // The table keeps half of the room at least.
    lines.truncate(room / 2);
    let (rows, more) = fitting(rows, state, room - lines.len());
    // Home, and below that nothing: no scroll-back is lost.
    write!(out.as_it_is()?, "\x1b[H\x1b[J")?;
    out.line(&cut(&safe_line(heading), size.columns), None)?;
    out.line("", None)?;
    let states = rows.iter().map(|row| row.get(state).cloned());
    let states: Vec<Option<String>> = std::iter::once(None).chain(states).collect();
    for (line, state) in laid_out(header, rows.into_iter()).iter().zip(states) {
        let colour = state.as_deref().and_then(Colour::of);
        out.line(&cut(line, size.columns), colour)?;
    }
    for line in more.into_iter().chain(lines) {
        out.line(&cut(&line, size.columns), None)?;
    }
    Ok(out.flush()?)
}

/// Rows as they were last, by what they are about.
#[derive(Default)]
struct Changes(BTreeMap<Vec<String>, String>);

impl Changes {
    /// Prints rows whose state is another one, with the time. `about` are the columns that say what a row is about.
    fn print(
        &mut self,
        out: &mut Out,
        rows: Vec<Vec<String>>,
        state: usize,
        about: &[usize],
    ) -> Result<(), Failure> {
        let now = Zoned::now().strftime("%H:%M:%S").to_string();
        for row in rows {
            let cell = |at: &usize| row.get(*at).cloned().unwrap_or_default();
            let key: Vec<String> = about.iter().map(cell).collect();
            let state = cell(&state);
            if self.0.get(&key) != Some(&state) {
                // The times that a row shows change by themselves.
                writeln!(
                    out,
                    "{now}  {}  {state}",
                    key.iter()
                        .map(|part| safe_line(part))
                        .collect::<Vec<_>>()
                        .join("  ")
                )?;
                self.0.insert(key, state);
            }
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(state: &str, message: &str) -> Workflow {
        Workflow::from(proto::v1::Workflow {
            id: "01a22d11-9d81-73fb-9287-8fc49ba114d8".into(),
            state: state.into(),
            message: message.into(),
            ..proto::v1::Workflow::default()
        })
    }

    fn waiting(task: &str) -> Vec<String> {
        [
            task,
            "-",
            "approve",
            "WAITING",
            "1",
            "-",
            "waits for approval: go on?",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    #[test]
    fn what_waits_for_a_person_is_told_with_the_command_to_copy() {
        let rows = [waiting("look"), waiting("image[3]"), waiting("more")];
        assert_eq!(
            below(&workflow("RUNNING", ""), &rows),
            [
                "look: waits for approval: go on?",
                "farrier workflow approve 01a22d11-9d81 look",
                "image[3]: waits for approval: go on?",
                "farrier workflow approve 01a22d11-9d81 'image[3]'",
            ]
        );
        assert_eq!(below(&workflow("SUCCESS", ""), &[]), [""; 0]);
    }

    #[test]
    fn what_failed_is_told_whole_and_what_waits_is_explained() {
        assert_eq!(
            below(&workflow("FAILED", "task \"rest\" failed\n  no link"), &[]),
            [
                "task \"rest\" failed",
                "  no link",
                "farrier workflow explain 01a22d11-9d81"
            ]
        );
        assert_eq!(
            below(&workflow("PENDING", ""), &[]),
            ["farrier workflow explain 01a22d11-9d81 says what it waits for"]
        );
    }
}
