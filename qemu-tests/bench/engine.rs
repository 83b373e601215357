//! What a report costs without the wire: the server's coordinator over a redb file, its commits grouped as in a server.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use coordinator::{Answer, Coordinator, Input, Limits, NewWorkflow, Next, Orders};
use store::{RedbStore, StoreHandle};
use tokio::task::JoinSet;
use uuid::Uuid;
use workflow::engine::{AttemptId, Creation, Outcome, UnixMillis};
use workflow::language::{Definition, Devices, render};

use super::workflows::{mac, template};

/// So many machines, each with so many workflows of so many actions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) machines: u32,
    pub(super) workflows: u32,
    pub(super) actions: u32,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) reports: u64,
    pub(super) took: Duration,
    /// Of this process, kernel included.
    pub(super) cpu: Duration,
}

/// Makes the workflows, then has all machines report at the same time, each when its last report is durable.
pub(super) async fn measure(dir: &Path, work: Work) -> anyhow::Result<Measured> {
    let dir = tempfile::Builder::new()
        .prefix("farrier-bench-")
        .tempdir_in(dir)?;
    let store = StoreHandle::new(RedbStore::open(dir.path().join("store.redb"))?);
    let coordinator = Coordinator::new(store.store().clone(), Limits::default());
    let engine = Arc::new(Engine {
        coordinator,
        store,
        reports: AtomicU64::new(0),
    });
    let machines = || 0..work.machines;
    all(machines().map(|machine| engine.clone().prepare(machine, work))).await?;
    let (began, cpu_before) = (Instant::now(), cpu()?);
    all(machines().map(|machine| engine.clone().work_off(machine))).await?;
    let (took, cpu) = (began.elapsed(), cpu()? - cpu_before);
    let reports = engine.reports.load(Ordering::Relaxed);
    let due = u64::from(work.machines * work.workflows * work.actions) * 2;
    anyhow::ensure!(reports == due, "{reports} reports of {due}");
    Ok(Measured { reports, took, cpu })
}

async fn all(
    tasks: impl Iterator<Item = impl Future<Output = anyhow::Result<()>> + Send + 'static>,
) -> anyhow::Result<()> {
    let mut tasks: JoinSet<_> = tasks.collect();
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

struct Engine {
    coordinator: Coordinator,
    store: StoreHandle,
    reports: AtomicU64,
}

impl Engine {
    /// As the server does a step.
    async fn step(&self, input: &Input) -> anyhow::Result<Answer> {
        loop {
            let mut plan = self.coordinator.prepare(now(), input)?;
            let commit = std::mem::take(&mut plan.commit);
            if !commit.operations.is_empty() {
                match self.store.commit(commit).await {
                    Ok(revision) => self.coordinator.committed(&plan, revision),
                    Err(error) => {
                        self.coordinator.forget(&plan);
                        anyhow::ensure!(error.is_conflict(), error);
                        continue;
                    }
                }
            }
            for next in &plan.then {
                // Machines ask for their work themselves, nobody follows, and the workflows have no timers.
                anyhow::ensure!(!matches!(next, Next::Carry(_)), "an outbox is not expected");
            }
            return Ok(plan.answer);
        }
    }

    async fn prepare(self: Arc<Self>, machine: u32, work: Work) -> anyhow::Result<()> {
        let definition = definition(machine, work.actions)?;
        for _ in 0..work.workflows {
            let creation = Creation {
                id: Uuid::now_v7().to_string(),
                namespace: "default".into(),
                name: definition.name.clone(),
                template: definition.name.clone(),
                definition: definition.clone(),
                ..Creation::default()
            };
            let new = NewWorkflow {
                creation,
                ..NewWorkflow::default()
            };
            self.step(&Input::Create(Box::new(new))).await?;
        }
        Ok(())
    }

    async fn work_off(self: Arc<Self>, machine: u32) -> anyhow::Result<()> {
        let (machine, boot_id) = (mac(machine), format!("boot-of-{machine}"));
        let attach = Input::Attach {
            machine: machine.clone(),
            boot_id: boot_id.clone(),
            running: None,
            knows: BTreeSet::new(),
        };
        let Answer::Machine(attached) = self.step(&attach).await? else {
            anyhow::bail!("machine {machine} is not attached");
        };
        let epoch = attached.epoch;
        let look = Input::Work {
            machine: machine.clone(),
            epoch,
        };
        let mut sequence = 0;
        while let Orders::Run(mut attempt) = orders(self.step(&look).await?)? {
            loop {
                let mut next = Orders::Wait;
                for outcome in [Outcome::Started, succeeded()] {
                    sequence += 1;
                    let report = Input::Report(Box::new(coordinator::Report {
                        machine: machine.clone(),
                        boot_id: boot_id.clone(),
                        epoch,
                        sequence,
                        attempt: AttemptId::clone(&attempt),
                        outcome: Some(outcome),
                        data: None,
                        untouched: false,
                    }));
                    next = orders(self.step(&report).await?)?;
                    self.reports.fetch_add(1, Ordering::Relaxed);
                }
                match next {
                    Orders::Run(next) => attempt = next,
                    _ => break,
                }
            }
        }
        Ok(())
    }
}

fn orders(answer: Answer) -> anyhow::Result<Orders> {
    match answer {
        Answer::Machine(assignment) => match assignment.ignored {
            None => Ok(assignment.orders),
            Some(why) => anyhow::bail!("a report had no effect: {why}"),
        },
        answer => anyhow::bail!("a machine is told {answer:?}"),
    }
}

fn definition(machine: u32, actions: u32) -> anyhow::Result<Definition> {
    let mut devices = Devices::default();
    devices.devices.insert("device_1".into(), mac(machine));
    let rendered = render(&template("bench", actions), &devices);
    Ok(rendered
        .map_err(|problems| anyhow::anyhow!("the bench's template: {problems:?}"))?
        .definition)
}

fn succeeded() -> Outcome {
    Outcome::Succeeded {
        message: String::new(),
        bytes: 0,
        outputs: serde_json::Map::new(),
        data_version: None,
    }
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// CPU time of this process so far.
pub(super) fn cpu() -> anyhow::Result<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("asking for the CPU time used")?;
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0))
    };
    Ok(of(usage.user_time()) + of(usage.system_time()))
}
