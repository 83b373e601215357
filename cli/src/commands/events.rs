//! `farrier events`.

use std::collections::VecDeque;
use std::process::ExitCode;

use jiff::Timestamp;
use proto::v1::{FollowEventsRequest, FollowedEvent};
use tonic::{Response, Status, Streaming};

use super::workflow::named::meant;
use super::{Asking, Listing};
use crate::failure::Failure;
use crate::following::{Control, Following, Source};
use crate::moment::since;
use crate::output;
use crate::terminal::{Out, say};
use crate::views;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The events of all workflows, in the order in which they happened, each once. Each has a token: who comes back with it goes on there,
also after a restart of the server. -o json prints an object a line.

Examples:
  farrier events --follow                              what happens from now on
  farrier events --since oldest --kind ended           how workflows ended, as far back as it is kept
  farrier events -f --kind lost,task_paused -l rack=r7
  farrier events -f --machine node1 -o json
  farrier events --workflow debian --tail 20               the last 20 of one workflow
  farrier events -f --since 2h                             of the last two hours, and what comes
  farrier events -f --since 4711.2.0badc0de -o json    go on after the event with that token")]
pub(crate) struct EventsArgs {
    /// Keep printing what happens
    #[arg(short, long)]
    follow: bool,
    /// From where on: the token of the last event that was taken, `oldest`, `now`, so long ago, such as 2h or 7d, or a time, such as
    /// "2026-11-29 02:00" [default: with --follow now, else oldest]
    #[arg(long, value_name = "TOKEN")]
    since: Option<String>,
    /// Only events of these kinds, such as ended,lost
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Only of workflows with these labels, such as rack=r7,!gpu
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    /// Only about this machine: its name, a MAC or an address of it
    #[arg(long, value_name = "MACHINE", default_value = "", hide_default_value = true)]
    machine: String,
    /// Only of this workflow and its sub-workflows
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    workflow: String,
    /// Only the last so many of those that are there, and with --follow what comes after them
    #[arg(long, value_name = "NUMBER")]
    tail: Option<usize>,
    #[command(flatten)]
    listing: Listing,
}

pub(crate) async fn run(args: EventsArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let workflow = match args.workflow.as_str() {
        "" => String::new(),
        word => meant(word, &asking).await?,
    };
    let client = asking.connect().await?;
    let given = args.since.as_deref();
    // A token begins with a number, and may be one: a time has a unit.
    let is_number = |given: &&str| given.bytes().all(|byte| byte.is_ascii_digit());
    let from = given
        .filter(|given| !is_number(given))
        .and_then(|given| since(given).ok());
    let looks_back = from.is_some() || args.tail.is_some();
    let token = match (given.filter(|_| from.is_none()), args.follow && !looks_back) {
        (Some(token), _) => token,
        (None, true) => "now",
        (None, false) => "oldest",
    };
    let all = Events {
        request: FollowEventsRequest {
            since: token.to_owned(),
            follow: args.follow && !looks_back,
            kinds: args.kinds,
            selector: args.selector,
            machine: args.machine,
            workflow,
            namespace: asking.namespace.clone(),
            all_namespaces: args.listing.all_namespaces,
        },
    };
    let mut events = Following::new(&client, None).stream(all);
    let mut last = Last {
        from,
        has_begun: from.is_none(),
        most: args.tail,
        kept: VecDeque::new(),
    };
    while let Some(event) = events.next().await? {
        if let Some(event) = last.take(event) {
            print(event, &mut *asking.out, asking.output)?;
        }
    }
    for event in last.kept {
        print(event, &mut *asking.out, asking.output)?;
    }
    let mut request = events.source().request.clone();
    if args.follow && looks_back {
        request.follow = true;
        let mut events = Following::new(&client, None).stream(Events {
            request: request.clone(),
        });
        while let Some(event) = events.next().await? {
            print(event, &mut *asking.out, asking.output)?;
        }
        request = events.source().request.clone();
    }
    if asking.output.is_text() && !args.follow {
        say(format_args!("go on from here: --since {}", request.since));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(event: FollowedEvent, out: &mut Out, format: output::Format) -> Result<(), Failure> {
    let event = views::FollowedEvent::from(event);
    output::streamed(out, format, &event, || event.line())
}

/// Which of the events that are there are wanted.
struct Last {
    /// Those of this time and later.
    from: Option<Timestamp>,
    has_begun: bool,
    /// So many, the last.
    most: Option<usize>,
    kept: VecDeque<FollowedEvent>,
}

impl Last {
    /// One to print now, if any.
    fn take(&mut self, event: FollowedEvent) -> Option<FollowedEvent> {
        if let (Some(from), false) = (self.from, self.has_begun) {
            // They are in the order of time. Of a workflow that was deleted no time is known.
            let at = event.event.as_ref().and_then(|event| event.at);
            let at = at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
            self.has_begun = at.is_some_and(|at| at >= from);
            if !self.has_begun {
                return None;
            }
        }
        let Some(most) = self.most else {
            return Some(event);
        };
        self.kept.push_back(event);
        if self.kept.len() > most {
            self.kept.pop_front();
        }
        None
    }
}

/// Of all workflows, by the token of the last one.
struct Events {
    request: FollowEventsRequest,
}

impl Source for Events {
    type Item = FollowedEvent;

    async fn open(&self, mut control: Control) -> Result<Response<Streaming<Self::Item>>, Status> {
        control.follow_events(self.request.clone()).await
    }

    fn take(&mut self, event: &Self::Item) -> bool {
        self.request.since.clone_from(&event.token);
        !event.workflow.is_empty()
    }

    fn is_followed(&self) -> bool {
        self.request.follow
    }
}
