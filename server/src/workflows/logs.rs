//! What attempts print: kept line by line within bounds, read and followed. Progress is passed on and not kept.

use std::collections::{BTreeMap, VecDeque};

use proto::v1::ActionProgress;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use workflow::engine::{AttemptId, ExecutionId, UnixMillis, Workflow};

use super::read::{no_workflow, workflow_changed};
use crate::archive::WorkflowRows;
use crate::bounds::cut;
use crate::clock;
use crate::control::{Change, ControlPlane};
use coordinator::Error;
use coordinator::database::Batch;
use coordinator::machines::{self, Machine};
use coordinator::namespaces::Reach;

/// Bytes of lines in one stored chunk. Two of them and a line, each byte six in JSON, are below what a commit may have.
const CHUNK_BYTES: usize = 64 * 1024;
/// A longer line is cut.
const LINE_BYTES: usize = 16 * 1024;
/// Keys have ten digits of a line's number. No log comes near it, and a higher number is not counted on from.
const MAX_NUMBER: u64 = 9_999_999_999;
/// Chunks read in one go.
const PAGE: usize = 64;

/// Progress of an action, and whose.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) workflow: String,
    /// The workflow's.
    pub(crate) namespace: String,
    pub(crate) message: ActionProgress,
}

/// Lines that an agent sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) first: u64,
    pub(crate) lines: Vec<String>,
    /// Lines that the agent lost before these.
    pub(crate) dropped: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Chunk {
    lines: Vec<String>,
    dropped: u64,
    /// When they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<UnixMillis>,
}

/// How much of an attempt's log there is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Total {
    lines: u64,
    bytes: u64,
    /// Beyond the bounds.
    dropped: u64,
    /// The number that the next new line has.
    next: u64,
}

/// A line as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) task: String,
    pub(crate) action: String,
    pub(crate) attempt: u32,
    /// As an attempt's id has it.
    pub(crate) execution: String,
    pub(crate) number: u64,
    pub(crate) text: String,
    /// The name of the machine; empty: it has no record.
    pub(crate) machine: String,
    pub(crate) at: Option<UnixMillis>,
}

/// Which lines somebody wants; all that is set has to be so.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedLines {
    /// A task, and an item of it.
    pub(crate) task: Option<(String, Option<usize>)>,
    /// What ran on it: name, MAC or address; empty: any.
    pub(crate) machine: String,
    /// 0: all.
    pub(crate) since: UnixMillis,
    /// So many of the last that there are; 0: all.
    pub(crate) tail: usize,
}

/// Lines that are kept at hand for a tail.
pub(crate) const MOST_TAIL: usize = 10_000;

impl ControlPlane {
    /// Keeps lines of an attempt. Lines that are known already are left out, so they may be sent again.
    ///
    /// Those that come after its workflow was archived, or deleted, are not kept: the attempt ended long before.
    pub(crate) async fn append_log(&self, attempt: &AttemptId, sent: Vec<Lines>) -> Result<(), Error> {
        let Some(workflow) = self.workflow_in_store(&attempt.workflow).await? else {
            return Ok(());
        };
        if !workflow.head.state.is_final() {
            return self.write_log(attempt, sent).await;
        }
        // It may be archived in between.
        let _turn = self.archive_turn(workflow.root()).lock().await;
        match self.workflow_in_store(&attempt.workflow).await? {
            Some(_) => self.write_log(attempt, sent).await,
            None => Ok(()),
        }
    }

    async fn write_log(&self, attempt: &AttemptId, sent: Vec<Lines>) -> Result<(), Error> {
        let place = place(attempt);
        let total_key = format!("log-total/{place}");
        let mut total = self
            .inner
            .db
            .get::<Total>(total_key.clone())
            .await?
            .map(|total| total.value)
            .unwrap_or_default();
        let mut batch = Batch::default();
        let mut bytes = 0;
        for lines in sent {
            for (first, chunk) in self.chunks(&mut total, lines) {
                bytes += chunk.lines.iter().map(String::len).sum::<usize>();
                batch.put(format!("log/{place}/{first:010}"), &chunk);
                if bytes >= CHUNK_BYTES || batch.len() >= PAGE {
                    batch.put(&total_key, &total);
                    self.inner.db.commit(std::mem::take(&mut batch)).await?;
                    bytes = 0;
                }
            }
        }
        batch.put(&total_key, &total);
        self.inner.db.commit(batch).await?;
        self.changed(Change::Workflow(attempt.workflow.clone()));
        Ok(())
    }

    /// What of `lines` is new and has room, cut into chunks; `total` is moved on.
    fn chunks(&self, total: &mut Total, lines: Lines) -> Vec<(u64, Chunk)> {
        let Lines {
            first,
            lines,
            dropped,
        } = lines;
        let known = usize::try_from(total.next.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut number = first.min(MAX_NUMBER).max(total.next);
        let at = Some(clock::wall());
        let mut open = Chunk {
            lines: Vec::new(),
            dropped: if known == 0 { dropped } else { 0 },
            at,
        };
        let mut open_first = number;
        let mut open_bytes = 0;
        let mut done = Vec::new();
        for mut line in lines.into_iter().skip(known) {
            cut(&mut line, LINE_BYTES, " [farrier: cut]");
            let full =
                total.lines >= self.inner.config.log_lines || total.bytes >= self.inner.config.log_bytes;
            if full {
                if total.dropped == 0 {
                    open.lines.push(format!(
                        "[farrier: the log of this attempt is full at {} lines, {} B; what follows is only counted]",
                        total.lines, total.bytes
                    ));
                }
                total.dropped += 1;
            } else {
                total.lines += 1;
                total.bytes += line.len() as u64;
                open_bytes += line.len();
                open.lines.push(line);
            }
            number = number.saturating_add(1);
            if open_bytes >= CHUNK_BYTES {
                done.push((
                    open_first,
                    std::mem::replace(
                        &mut open,
                        Chunk {
                            lines: Vec::new(),
                            dropped: 0,
                            at,
                        },
                    ),
                ));
                (open_first, open_bytes) = (number, 0);
            }
        }
        total.next = number;
        if !open.lines.is_empty() {
            done.push((open_first, open));
        }
        done
    }

    /// Sends a workflow's log, attempt by attempt; with `follow`, until the workflow has ended.
    pub(crate) async fn log(
        &self,
        reach: &Reach,
        id: &str,
        follow: bool,
        wanted: WantedLines,
        to: mpsc::Sender<Line>,
    ) -> Result<(), Error> {
        let mut changes = self.inner.changes.subscribe();
        let mut places = Places {
            control: self,
            machine: self.machine_wanted(reach, &wanted.machine).await?,
            names: BTreeMap::new(),
            sent: Sent::new(),
            wanted,
        };
        let rows = self.rows_of(id);
        // Of what there is already the last lines are sent, where somebody wants those alone.
        let mut tail = (places.wanted.tail > 0).then(VecDeque::new);
        loop {
            let workflow = self.workflow(reach, id).await?;
            let mut goes_on = send_log(&workflow, &rows, &mut places, &mut tail, &to).await?;
            for line in tail.take().into_iter().flatten() {
                goes_on &= to.send(line).await.is_ok();
            }
            if !goes_on || !follow || workflow.head.state.is_final() {
                return Ok(());
            }
            tokio::select! {
                () = workflow_changed(&mut changes, id) => {}
                () = to.closed() => return Ok(()),
                () = self.stopped() => return Err(Error::Stopping),
            }
        }
    }

    async fn machine_wanted(&self, reach: &Reach, named: &str) -> Result<Option<Machine>, Error> {
        if named.is_empty() {
            return Ok(None);
        }
        let (reach, named) = (reach.clone(), named.to_owned());
        let found = self
            .inner
            .db
            .with(move |view| machines::find(view, &reach, &named));
        Ok(Some(found.await?.value))
    }
}

/// Whose lines are sent, and how far they are.
struct Places<'a> {
    control: &'a ControlPlane,
    wanted: WantedLines,
    /// The one that is wanted.
    machine: Option<Machine>,
    /// Names of machines, by worker; empty: there is none.
    names: BTreeMap<String, String>,
    sent: Sent,
}

impl Places<'_> {
    /// The machine that an attempt ran on, empty where it has no record; `None`: what it printed is not wanted.
    async fn machine_of(&mut self, workflow: &Workflow, attempt: &str) -> Result<Option<String>, Error> {
        let numbers: Vec<usize> = attempt
            .split('/')
            .map(|part| part.parse().unwrap_or(usize::MAX))
            .collect();
        let [task, instance, item, ..] = numbers.as_slice() else {
            return Ok(None);
        };
        let defined = workflow.definition.tasks.get(*task);
        if let Some((name, only)) = &self.wanted.task
            && (defined.is_none_or(|task| task.name != *name) || only.is_some_and(|only| only != *item))
        {
            return Ok(None);
        }
        let id = ExecutionId {
            task: *task,
            instance: u32::try_from(*instance).unwrap_or(u32::MAX),
            item: *item,
        };
        let worker = workflow.execution(id).map(|execution| execution.worker.clone());
        let worker = worker
            .or_else(|| Some(defined?.worker.clone()))
            .unwrap_or_default();
        if let Some(machine) = &self.machine
            && !machine.workers().contains(&worker)
        {
            return Ok(None);
        }
        if !self.names.contains_key(&worker) {
            // Who may see the workflow may see what it ran on.
            let (reach, asked) = (Reach::only(&workflow.head.namespace), worker.clone());
            let found = self
                .control
                .inner
                .db
                .with(move |view| machines::with_worker(view, &reach, &asked));
            let name = found.await?.map(|machine| machine.name);
            self.names.insert(worker.clone(), name.unwrap_or_default());
        }
        Ok(self.names.get(&worker).cloned())
    }
}

/// Sends what is new, or keeps the last of it in `tail`; false when nobody listens any more.
///
/// Each page is of one snapshot. Chunks never change, so the pages belong together, too; those that came after the totals
/// were read are sent now, or in the next round.
async fn send_log(
    workflow: &Workflow,
    rows: &WorkflowRows,
    places: &mut Places<'_>,
    tail: &mut Option<VecDeque<Line>>,
    to: &mpsc::Sender<Line>,
) -> Result<bool, Error> {
    let id = &workflow.head.id;
    let asked = id.clone();
    let attempts = rows.read(move |place| {
        // Without it there would be nothing to send, and that would be no end.
        if !place.has_workflow(&asked)? {
            return Err(no_workflow(&asked));
        }
        place.rows.list::<Total>(&format!("log-total/{asked}/"))
    });
    let (since, most) = (places.wanted.since, places.wanted.tail.min(MOST_TAIL));
    for (attempt, total) in attempts.await? {
        let Some(machine) = places.machine_of(workflow, &attempt).await? else {
            continue;
        };
        let prefix = format!("log/{id}/{attempt}/");
        let sent = &mut places.sent;
        let (next, from) = sent.entry(attempt.clone()).or_insert_with(|| (0, prefix.clone()));
        let mut more = *next < total.next;
        *next = total.next;
        while more {
            let (below, start) = (prefix.clone(), from.clone());
            let page = rows.read(move |place| place.rows.page::<Chunk>(&below, &start, PAGE));
            let page = page.await?;
            more = page.len() == PAGE;
            for (key, chunk) in page {
                *from = format!("{prefix}{key}\0");
                if chunk.at.unwrap_or_default() < since {
                    continue;
                }
                for line in lines_of(workflow, &format!("{attempt}/{key}"), chunk, &machine) {
                    let Some(tail) = tail else {
                        if to.send(line).await.is_err() {
                            return Ok(false);
                        }
                        continue;
                    };
                    tail.push_back(line);
                    if tail.len() > most {
                        tail.pop_front();
                    }
                }
            }
        }
    }
    Ok(true)
}

/// By attempt: the number that its next line has, and the key to go on from.
type Sent = BTreeMap<String, (u64, String)>;

/// Numbers are padded, so that keys sort as attempts follow each other.
fn place(attempt: &AttemptId) -> String {
    let AttemptId {
        workflow,
        execution,
        action,
        attempt,
    } = attempt;
    let ExecutionId { task, instance, item } = execution;
    format!("{workflow}/{task:05}/{instance:05}/{item:05}/{action:04}/{attempt:04}")
}

fn lines_of(workflow: &Workflow, key: &str, chunk: Chunk, machine: &str) -> Vec<Line> {
    let numbers: Vec<u64> = key.split('/').map(|part| part.parse().unwrap_or(0)).collect();
    let [task, instance, item, action, attempt, first] = numbers.as_slice() else {
        return Vec::new();
    };
    let index = |number: &u64| usize::try_from(*number).unwrap_or(usize::MAX);
    let defined = workflow.definition.tasks.get(index(task));
    let line = |number: u64, text: String| Line {
        task: defined.map(|task| task.name.clone()).unwrap_or_default(),
        action: defined
            .and_then(|task| Some(task.actions.get(index(action))?.name.clone()))
            .unwrap_or_default(),
        attempt: u32::try_from(*attempt).unwrap_or(u32::MAX),
        execution: format!("{task}/{instance}/{item}"),
        number,
        text,
        machine: machine.to_owned(),
        at: chunk.at,
    };
    let lost = (chunk.dropped > 0).then(|| {
        line(
            *first,
            format!(
                "[farrier: {} lines were printed faster than they could be sent, and are lost]",
                chunk.dropped
            ),
        )
    });
    let lines = chunk
        .lines
        .into_iter()
        .zip(*first..)
        .map(|(text, number)| line(number, text));
    lost.into_iter().chain(lines).collect()
}
