//! `farrier workflow logs`: what actions print.

use std::collections::BTreeMap;
use std::io::Write;

use jiff::Timestamp;
use proto::v1::{LogLine, WorkflowLogsRequest};
use tonic::{Response, Status, Streaming};

use super::super::Asking;
use crate::failure::Failure;
use crate::following::{Control, Following, Source};
use crate::moment::since;
use crate::output;
use crate::views;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier workflow logs ID -f
  farrier workflow logs ID install --tail 20
  farrier workflow logs ID 'image[3]'             one item of a forEach
  farrier workflow logs ID --machine node1 --since 10m -t")]
pub(crate) struct LogsArgs {
    /// Its id or so much of it as is unique, its name, or @last
    pub(super) id: String,
    #[arg(help = "Only of this task, or NAME[ITEM] for one item of a forEach, from 0 [default: all of it]")]
    task: Option<String>,
    /// Keep printing until it has ended
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines that there are, so many, 10000 at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tail: Option<u32>,
    /// Only what was printed within this time, such as 10m, or since then, such as "2026-11-29 02:00"
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only what was printed on this machine: name, MAC or address
    #[arg(short, long)]
    machine: Option<String>,
    /// When each line came, in front of it
    #[arg(short = 't', long)]
    timestamps: bool,
    /// As it was printed: control characters act on the terminal
    #[arg(long)]
    raw: bool,
}

/// Lines of an attempt are only added to: those that came before are counted, and left out.
pub(super) struct Lines {
    request: WorkflowLogsRequest,
    /// By execution, action and attempt: how many were taken, and how many this stream has brought.
    known: BTreeMap<(String, String, u32), (u64, u64)>,
    /// When the newest came that was taken.
    newest: Option<prost_types::Timestamp>,
}

impl Lines {
    pub(super) fn of(id: String, follow: bool) -> Self {
        Self::asked(WorkflowLogsRequest {
            id,
            follow,
            ..WorkflowLogsRequest::default()
        })
    }

    fn asked(request: WorkflowLogsRequest) -> Self {
        Self {
            request,
            known: BTreeMap::new(),
            newest: None,
        }
    }
}

impl Source for Lines {
    type Item = LogLine;

    async fn open(&self, mut control: Control) -> Result<Response<Streaming<Self::Item>>, Status> {
        control.workflow_logs(self.request.clone()).await
    }

    fn take(&mut self, line: &Self::Item) -> bool {
        let of = (line.execution.clone(), line.action.clone(), line.attempt);
        let (taken, brought) = self.known.entry(of).or_default();
        *brought += 1;
        let is_new = *brought > *taken;
        *taken = (*taken).max(*brought);
        let key = |at: &prost_types::Timestamp| (at.seconds, at.nanos);
        if line.at.as_ref().map(key) > self.newest.as_ref().map(key) {
            self.newest = line.at;
        }
        is_new
    }

    fn is_followed(&self) -> bool {
        self.request.follow
    }

    fn reopened(&mut self) {
        if self.request.tail == 0 {
            self.known.values_mut().for_each(|(_, brought)| *brought = 0);
        } else if let Some(newest) = &self.newest {
            // The last lines are others by now: it goes on behind the newest of those that came, which came together.
            let millis = newest.nanos / 1_000_000 + 1;
            self.request.since = Some(prost_types::Timestamp {
                seconds: newest.seconds + i64::from(millis / 1_000),
                nanos: millis % 1_000 * 1_000_000,
            });
            self.request.tail = 0;
            self.known.clear();
        }
    }
}

/// With `--raw` to the byte as they were printed, whatever that does to a terminal.
pub(super) async fn logs(args: LogsArgs, asking: Asking<'_>) -> Result<(), Failure> {
    if args.raw && !asking.output.is_text() {
        return Err(Failure::Usage(
            "--raw is for text: JSON and YAML have the lines as they are already".into(),
        ));
    }
    let client = asking.connect().await?;
    let request = WorkflowLogsRequest {
        id: args.id,
        follow: args.follow,
        task: args.task.unwrap_or_default(),
        machine: args.machine.unwrap_or_default(),
        since: args.since.map(|at| prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }),
        tail: args.tail.unwrap_or_default(),
    };
    let mut lines = Following::new(&client, None).stream(Lines::asked(request));
    let mut of = None;
    while let Some(line) = lines.next().await? {
        let line = views::LogLine::from(line);
        let attempt = (
            line.execution.clone(),
            line.task.clone(),
            line.action.clone(),
            line.attempt,
        );
        let begins = of.as_ref() != Some(&attempt);
        of = Some(attempt);
        let clock = match args.timestamps {
            true => format!("{}  ", line.clock()),
            false => String::new(),
        };
        if args.raw {
            if begins {
                writeln!(asking.out, "--- {}", line.place())?;
            }
            writeln!(asking.out.as_it_is()?, "{clock}{}", line.text)?;
            asking.out.flush()?;
            continue;
        }
        output::streamed(asking.out, asking.output, &line, || {
            let heading = format!("--- {}\n", line.place());
            format!(
                "{}{clock}{}",
                if begins { heading.as_str() } else { "" },
                line.text
            )
        })?;
    }
    Ok(())
}
