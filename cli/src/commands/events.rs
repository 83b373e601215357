//! `farrier events`.

use std::process::ExitCode;

use proto::v1::{FollowEventsRequest, FollowedEvent};
use tonic::{Response, Status, Streaming};

use super::workflow::named::meant;
use super::{Asking, Listing};
use crate::failure::Failure;
use crate::following::{Control, Following, Source};
use crate::output;
use crate::terminal::say;
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
  farrier events -f --since 4711.2.0badc0de -o json    go on after the event with that token")]
pub(crate) struct EventsArgs {
    /// Keep printing what happens
    #[arg(short, long)]
    follow: bool,
    /// From where on: the token of the last event that was taken, `oldest`, or `now` [default: with --follow now, else oldest]
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
    #[command(flatten)]
    listing: Listing,
}

pub(crate) async fn run(args: EventsArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let workflow = match args.workflow.as_str() {
        "" => String::new(),
        word => meant(word, &asking).await?,
    };
    let client = asking.connect().await?;
    let since = args.since.unwrap_or_else(|| {
        let since = if args.follow { "now" } else { "oldest" };
        since.to_owned()
    });
    let all = Events {
        request: FollowEventsRequest {
            since,
            follow: args.follow,
            kinds: args.kinds,
            selector: args.selector,
            machine: args.machine,
            workflow,
            namespace: asking.namespace.clone(),
            all_namespaces: args.listing.all_namespaces,
        },
    };
    let mut events = Following::new(&client, None).stream(all);
    while let Some(event) = events.next().await? {
        let event = views::FollowedEvent::from(event);
        output::streamed(asking.out, asking.output, &event, || event.line())?;
    }
    if asking.output.is_text() && !args.follow {
        say(format_args!(
            "go on from here: --since {}",
            events.source().request.since
        ));
    }
    Ok(ExitCode::SUCCESS)
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
