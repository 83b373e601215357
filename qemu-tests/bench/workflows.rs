//! How many reports a server takes, and how fast: `farrier bench workflows`.
//!
//! Two processes on loopback: a real `farrier serve` with its store on disk, every commit synced, and this one, which
//! plays the agents. A report is one durable outcome that arrives over gRPC; each action has two (started, succeeded).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use access::PinnedChannel;
use anyhow::Context;
use proto::v1::control_service_client::ControlServiceClient;
use proto::v1::{ApplyMachinesRequest, CreateWorkflowRequest, PutTemplateRequest};

use super::agents::{Crowd, Manner};
use super::engine::{self, Work};
use super::server::BenchServer;
use crate::lab::display::Display;
use crate::lab::table::Table;

/// `farrier bench workflows`.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkflowBench {
    /// Agents that work at the same time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    agents: u32,
    /// Workflows for each of them
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    workflows: u32,
    /// Actions of a workflow
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    actions: u32,
    /// Reports a second of the paced run
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Agents that are only attached, in the idle run
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    idle: u32,
    /// Workflows that have ended before everything is measured a second time
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    finished: u32,
    /// The server's data directory: a new directory below this one, removed at the end
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
}

/// Runs the bench and prints its table.
pub(super) fn run(bench: &WorkflowBench) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    raise_file_limit()?;
    let display = Display::new();
    let mut figures = Figures::default();
    runtime.block_on(alone(bench, &display, &mut figures))?;
    {
        let server = BenchServer::start(&bench.dir)?;
        runtime.block_on(async {
            let load = Load::new(&server, bench, &display).await?;
            load.measure(&mut figures, "").await
        })?;
    }
    if bench.idle > 0 {
        // On a server of its own: what others have left in memory is not the agents'.
        let server = BenchServer::start(&bench.dir)?;
        runtime.block_on(async {
            let load = Load::new(&server, bench, &display).await?;
            load.idle(&mut figures).await
        })?;
    }
    if bench.finished > 0 {
        let server = BenchServer::start(&bench.dir)?;
        runtime.block_on(async {
            let load = Load::new(&server, bench, &display).await?;
            load.finish_many(bench.finished, &mut figures).await?;
            let after = format!(", after {} that ended", bench.finished);
            load.measure(&mut figures, &after).await
        })?;
    }
    println!("\n{}", figures.table);
    Ok(ExitCode::SUCCESS)
}

/// Of one agent: enough for a median.
const ALONE_WORKFLOWS: u32 = 100;
/// Of workflows that have ended, after the last has.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(600);
/// Machines in the run without agents: as many steps may be under way.
const ALONE: u32 = 1024;

/// Decisions and commits alone, in this process.
async fn alone(bench: &WorkflowBench, display: &Display, figures: &mut Figures) -> anyhow::Result<()> {
    let work = Work {
        machines: ALONE,
        workflows: (bench.agents * bench.workflows).div_ceil(ALONE),
        actions: bench.actions,
    };
    display.line(&format!(
        "{} workflows of {} actions, without agents",
        work.machines * work.workflows,
        work.actions
    ));
    let measured = engine::measure(&bench.dir, work).await?;
    figures.add(
        "reports, decide and commit alone",
        format!(
            "{:.0}/s, {}",
            measured.reports as f64 / measured.took.as_secs_f64(),
            per_thousand(measured.cpu, measured.reports)
        ),
    );
    Ok(())
}

/// CPU time for each 1,000 of so many.
fn per_thousand(cpu: Duration, count: u64) -> String {
    format!(
        "{:.0} ms CPU for 1000",
        cpu.as_secs_f64() * 1_000_000.0 / count.max(1) as f64
    )
}

struct Figures {
    table: Table,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            table: Table::new(&["what", "figure"]),
        }
    }
}

impl Figures {
    fn add(&mut self, what: &str, figure: String) {
        self.table.row(vec![what.to_owned(), figure]);
    }
}

struct Load<'a> {
    server: &'a BenchServer,
    bench: &'a WorkflowBench,
    display: &'a Display,
    control: ControlServiceClient<PinnedChannel>,
}

impl<'a> Load<'a> {
    async fn new(
        server: &'a BenchServer,
        bench: &'a WorkflowBench,
        display: &'a Display,
    ) -> anyhow::Result<Self> {
        let control = ControlServiceClient::new(access::channel(&server.api, &server.token()?, None)?);
        let load = Load {
            server,
            bench,
            display,
            control,
        };
        load.machines(bench.agents.max(bench.idle)).await?;
        for (name, actions) in [("bench", bench.actions), ("bench-short", 1)] {
            let request = PutTemplateRequest {
                name: String::new(),
                text: template(name, actions),
                ..PutTemplateRequest::default()
            };
            load.control.clone().put_template(request).await?;
        }
        Ok(load)
    }

    async fn machines(&self, count: u32) -> anyhow::Result<()> {
        self.display.line(&format!("{count} machines"));
        for first in (0..count).step_by(200) {
            let yaml: Vec<String> = (first..count.min(first + 200)).map(hardware).collect();
            let request = ApplyMachinesRequest {
                yaml: yaml.join("---\n"),
                source: "bench".into(),
                ..ApplyMachinesRequest::default()
            };
            self.control.clone().apply_machines(request).await?;
        }
        Ok(())
    }

    /// Makes workflows, `each` for each of the machines; gives the time that it took.
    async fn create(&self, template: &str, machines: u32, each: u32) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut making = tokio::task::JoinSet::new();
        for lane in 0..32 {
            let (mut control, template) = (self.control.clone(), template.to_owned());
            making.spawn(async move {
                for machine in (0..machines).filter(|machine| machine % 32 == lane) {
                    for _ in 0..each {
                        let request = CreateWorkflowRequest {
                            template: template.clone(),
                            devices: [("device_1".to_owned(), mac(machine))].into(),
                            ..CreateWorkflowRequest::default()
                        };
                        control.create_workflow(request).await?;
                    }
                }
                anyhow::Ok(())
            });
        }
        while let Some(made) = making.join_next().await {
            made??;
        }
        Ok(began.elapsed())
    }

    /// Saturated, paced and unloaded.
    async fn measure(&self, figures: &mut Figures, after: &str) -> anyhow::Result<()> {
        let bench = self.bench;
        let each = bench.workflows;
        let total = u64::from(bench.agents * each * bench.actions);
        self.display.line(&format!(
            "{} workflows of {} actions{after}",
            bench.agents * each,
            bench.actions
        ));
        let took = self.create("bench", bench.agents, each).await?;
        figures.add(
            &format!("workflows made{after}"),
            format!("{:.0}/s", f64::from(bench.agents * each) / took.as_secs_f64()),
        );
        let before = self.server.archived()?;
        let done = self.work(bench.agents, total, None).await?;
        figures.add(
            &format!("reports, as fast as they go{after}"),
            format!("{:.0}/s", done.rate),
        );
        figures.add(
            &format!("of that, the server{after}"),
            per_thousand(done.server_cpu, total * 2),
        );
        figures.add(
            &format!("of that, the agents{after}"),
            per_thousand(done.agents_cpu, total * 2),
        );
        drop(done);
        // Else the next figure would be one of archiving, by as much as the workflows before it were made faster.
        self.archived(before + u64::from(bench.agents * each)).await?;

        let pace = Duration::from_secs_f64(f64::from(bench.agents) * 2.0 / f64::from(bench.rate.max(1)));
        let paced_each = each
            .min((10.0 / pace.as_secs_f64() / f64::from(bench.actions)).ceil() as u32)
            .max(1);
        self.display.line(&format!("{} reports/s{after}", bench.rate));
        let before = self.server.archived()?;
        self.create("bench", bench.agents, paced_each).await?;
        let total = u64::from(bench.agents * paced_each * bench.actions);
        let done = self.work(bench.agents, total, Some(pace)).await?;
        let mut took = std::mem::take(&mut *done.crowd.seen.acknowledged_us.lock().await);
        figures.add(
            &format!("report to acknowledgement at {:.0}/s{after}", done.rate),
            format!(
                "p50 {}, p99 {}",
                quantile(&mut took, 0.5),
                quantile(&mut took, 0.99)
            ),
        );

        figures.add(
            &format!("of that, the server{after}"),
            per_thousand(done.server_cpu, total * 2),
        );
        drop(done);
        // Else it is not alone.
        self.archived(before + u64::from(bench.agents * paced_each))
            .await?;

        self.display.line(&format!("one agent alone{after}"));
        self.create("bench", 1, ALONE_WORKFLOWS).await?;
        let done = self
            .work(1, u64::from(ALONE_WORKFLOWS * bench.actions), None)
            .await?;
        let mut took = std::mem::take(&mut *done.crowd.seen.next_action_us.lock().await);
        figures.add(
            &format!("report to next action, unloaded{after}"),
            format!(
                "p50 {}, p99 {}",
                quantile(&mut took, 0.5),
                quantile(&mut took, 0.99)
            ),
        );
        Ok(())
    }

    /// Has agents do so many actions.
    async fn work(&self, agents: u32, actions: u64, pace: Option<Duration>) -> anyhow::Result<Done> {
        let manner = Manner {
            pace,
            heartbeat: Duration::from_secs(10),
        };
        let mut crowd = Crowd::attach(&self.server.grpc, (0..agents).map(mac).collect(), manner).await?;
        let (began, (_, server_before), agents_before) =
            (Instant::now(), self.server.usage()?, engine::cpu()?);
        let before = crowd.seen.actions.load(Ordering::Relaxed);
        crowd.done(actions, self.display).await?;
        let reports = (actions - before.min(actions)) * 2;
        Ok(Done {
            rate: reports as f64 / began.elapsed().as_secs_f64(),
            server_cpu: self.server.usage()?.1 - server_before,
            agents_cpu: engine::cpu()? - agents_before,
            crowd,
        })
    }

    async fn finish_many(&self, count: u32, figures: &mut Figures) -> anyhow::Result<()> {
        let each = count.div_ceil(self.bench.agents);
        self.display
            .line(&format!("{} workflows that end first", each * self.bench.agents));
        self.create("bench-short", self.bench.agents, each).await?;
        let began = Instant::now();
        self.work(self.bench.agents, u64::from(each * self.bench.agents), None)
            .await?;
        let wanted = u64::from(each * self.bench.agents);
        self.archived(wanted).await?;
        figures.add(
            "worked off and archived",
            format!("{:.0} workflows/s", wanted as f64 / began.elapsed().as_secs_f64()),
        );
        Ok(())
    }

    /// Waits until so many workflows are archived.
    async fn archived(&self, wanted: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut archived = self.server.archived()?;
        let task = self.display.task("archived");
        while archived < wanted {
            let going_on = began.elapsed() < ARCHIVED_WITHIN;
            anyhow::ensure!(going_on, "{archived} of {wanted} workflows are archived");
            task.at(&format!("{archived} of {wanted}"));
            tokio::time::sleep(Duration::from_secs(1)).await;
            archived = self.server.archived()?;
        }
        Ok(())
    }

    async fn idle(&self, figures: &mut Figures) -> anyhow::Result<()> {
        let count = self.bench.idle;
        self.display
            .line(&format!("{count} agents that are only attached"));
        let manner = Manner {
            pace: None,
            heartbeat: Duration::from_secs(10),
        };
        let crowd = Crowd::attach(&self.server.grpc, (0..count).map(mac).collect(), manner).await?;
        // The attaching itself is to be over.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (_, before) = self.server.usage()?;
        let watched = Duration::from_secs(20);
        tokio::time::sleep(watched).await;
        let (resident, after) = self.server.usage()?;
        let reports = crowd.seen.reports.load(Ordering::Relaxed);
        anyhow::ensure!(reports == 0, "an idle agent reported");
        figures.add(
            &format!("{count} attached agents, idle"),
            format!(
                "{:.0} MiB resident, {:.1} % of a core",
                resident as f64 / f64::from(1 << 20),
                (after - before).as_secs_f64() / watched.as_secs_f64() * 100.0
            ),
        );
        Ok(())
    }
}

/// What agents have done, who are still attached.
struct Done {
    /// Reports a second, from all attached to all done.
    rate: f64,
    server_cpu: Duration,
    agents_cpu: Duration,
    crowd: Crowd,
}

/// A record of a machine that never netboots: its agent needs no token.
pub(super) fn hardware(number: u32) -> String {
    format!(
        "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: bench{number}}}\nspec:\n  interfaces:\n    \
         - dhcp: {{mac: \"{}\"}}\n      netboot: {{allowPXE: false, allowWorkflow: true}}\n",
        mac(number)
    )
}

pub(super) fn mac(number: u32) -> String {
    let [_, high, middle, low] = number.to_be_bytes();
    format!("52:54:be:{high:02x}:{middle:02x}:{low:02x}")
}

pub(super) fn template(name: &str, actions: u32) -> String {
    let actions: String = (0..actions)
        .map(|number| format!("      - {{name: a{number}, image: cexec, timeout: 60}}\n"))
        .collect();
    format!(
        "version: \"0.1\"\nname: {name}\ntasks:\n  - name: work\n    worker: \"{{{{.device_1}}}}\"\n    actions:\n{actions}"
    )
}

/// Of the sorted values, in ms.
fn quantile(microseconds: &mut [u32], share: f64) -> String {
    microseconds.sort_unstable();
    let last = microseconds.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    let value = microseconds.get(at).copied().unwrap_or_default();
    format!("{:.2} ms", f64::from(value) / 1000.0)
}

/// A connection each, here and there.
fn raise_file_limit() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        let mut values: Vec<u32> = (1..=101).rev().map(|value| value * 1000).collect();
        assert_eq!(quantile(&mut values, 0.5), "51.00 ms");
        assert_eq!(quantile(&mut values, 0.99), "100.00 ms");
        assert_eq!(quantile(&mut [], 0.5), "0.00 ms");
    }

    #[test]
    fn every_machine_has_a_mac_of_its_own() {
        let macs: std::collections::BTreeSet<_> = (0..20_000).map(mac).collect();
        assert_eq!(macs.len(), 20_000);
    }
}
