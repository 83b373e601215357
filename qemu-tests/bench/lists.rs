//! How long a person waits for a list: `farrier bench lists`.
//!
//! A real `farrier serve` on loopback with so many machines and workflows, and the command line as people start it: a new process, a
//! connection with TLS, the table. Output goes nowhere: what a terminal takes is its own.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use proto::v1::control_service_client::ControlServiceClient;
use proto::v1::{ApplyMachinesRequest, CreateWorkflowRequest, PutTemplateRequest};

use super::server::BenchServer;
use super::workflows::{hardware, mac, template};
use crate::lab::display::Display;
use crate::lab::table::Table;

/// `farrier bench lists`.
#[derive(Clone, Debug, clap::Args)]
pub struct ListBench {
    /// Machines, and as many workflows
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rows: u32,
    /// How often each command runs
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// The server's data directory: a new directory below this one, removed at the end
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
}

/// What is asked for 5,000 rows.
const ASKED: Duration = Duration::from_millis(300);
/// Each is asked with so many requests under way at the same time.
const LANES: u32 = 32;

/// Runs the bench and prints its table.
pub(super) fn run(bench: &ListBench) -> anyhow::Result<ExitCode> {
    let display = Display::new();
    let server = BenchServer::start(&bench.dir)?;
    display.line(&format!("{} machines and workflows", bench.rows));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fill(&server, bench.rows))?;
    let mut table = Table::new(&["command", "rows", "median", "slowest", "asked"]);
    for words in [
        ["machine", "list"].as_slice(),
        &["machine", "list", "-o", "json"],
        &["workflow", "list", "--limit", "0"],
        &["workflow", "list"],
    ] {
        display.line(&format!("farrier {}", words.join(" ")));
        let (mut times, mut rows) = (Vec::new(), 0);
        for _ in 0..bench.runs {
            let began = Instant::now();
            let output = command(&server, words)?
                .stdin(Stdio::null())
                .output()
                .context("starting farrier")?;
            times.push(began.elapsed());
            anyhow::ensure!(
                output.status.success(),
                "farrier {} failed: {}",
                words.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
            rows = rows_of(words, &output.stdout)?;
        }
        times.sort_unstable();
        let middle = times.get(times.len() / 2).copied().unwrap_or_default();
        let slowest = times.last().copied().unwrap_or_default();
        table.row(vec![
            format!("farrier {}", words.join(" ")),
            rows.to_string(),
            format!("{:.3} s", middle.as_secs_f64()),
            format!("{:.3} s", slowest.as_secs_f64()),
            format!("{:.1} s", ASKED.as_secs_f64()),
        ]);
    }
    println!("\n{table}");
    Ok(ExitCode::SUCCESS)
}

fn command(server: &BenchServer, words: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(words)
        .env("FARRIER_SERVER", &server.api)
        .env("FARRIER_TOKEN", server.token()?.to_string());
    Ok(command)
}

/// How many rows were printed.
fn rows_of(words: &[&str], printed: &[u8]) -> anyhow::Result<usize> {
    if words.contains(&"json") {
        let rows: Vec<serde_json::Value> = serde_json::from_slice(printed)?;
        return Ok(rows.len());
    }
    let lines = printed
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    // Less the heading.
    Ok(lines.count().saturating_sub(1))
}

async fn fill(server: &BenchServer, rows: u32) -> anyhow::Result<()> {
    let control = ControlServiceClient::new(access::channel(&server.api, &server.token()?, None)?);
    for first in (0..rows).step_by(200) {
        let yaml: Vec<String> = (first..rows.min(first + 200)).map(hardware).collect();
        let request = ApplyMachinesRequest {
            yaml: yaml.join("---\n"),
            source: "bench".into(),
            ..ApplyMachinesRequest::default()
        };
        control.clone().apply_machines(request).await?;
    }
    let request = PutTemplateRequest {
        text: template("bench", 3),
        ..PutTemplateRequest::default()
    };
    control.clone().put_template(request).await?;
    let mut making = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let mut control = control.clone();
        making.spawn(async move {
            for machine in (lane..rows).step_by(LANES as usize) {
                let request = CreateWorkflowRequest {
                    template: "bench".to_owned(),
                    devices: [("device_1".to_owned(), mac(machine))].into(),
                    ..CreateWorkflowRequest::default()
                };
                control.create_workflow(request).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_without_the_heading() {
        assert_eq!(rows_of(&["machine", "list"], b"NAME\na\nb\n").unwrap(), 2);
        assert_eq!(rows_of(&["machine", "list"], b"").unwrap(), 0);
        assert_eq!(
            rows_of(&["machine", "list", "-o", "json"], b"[{}, {}]").unwrap(),
            2
        );
    }
}
