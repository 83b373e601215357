//! `farrier webhook`.

use std::io::Write;
use std::process::ExitCode;

use proto::v1::{
    CreateWebhookRequest, DeleteWebhookRequest, GetWebhookRequest, ListWebhooksRequest, TestWebhookRequest,
    WebhookDeliveriesRequest,
};

use super::{Asking, Listing};
use crate::failure::Failure;
use crate::once::{Key, ask_once};
use crate::output;
use crate::views;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum WebhookCommand {
    /// Have an address told of what happens
    #[command(after_help = "\
The address is sent a POST with JSON for each: until it answers 2xx, in their order, each at least once. Messages are signed as Standard
Webhooks has it (webhook-id, webhook-timestamp, webhook-signature); the key is printed this once.

Examples:
  farrier webhook create ops --url https://chat.example.org/hooks/4711 --on ended,approval
  farrier webhook create rack7 --url https://ops.example.org/farrier --on silent -l rack=r7
  farrier webhook test ops")]
    Create {
        /// Letters a to z, digits and -, 63 at most
        name: String,
        /// Where messages go: https://, or http:// where nobody else is on the way
        #[arg(long, value_name = "URL")]
        url: String,
        /// What it is told of: ended (workflows), approval (somebody is waited for), silent (machines with something to do)
        #[arg(long, value_name = "WHAT", value_delimiter = ',', required = true)]
        on: Vec<String>,
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
    },
    /// List webhooks
    #[command(after_help = "Example:\n  farrier webhook list -A")]
    List(Listing),
    /// Show a webhook, and how far it is
    #[command(after_help = "Example:\n  farrier webhook get ops")]
    Get {
        /// Its name
        name: String,
    },
    /// Send a message that is about nothing, and say what came of it
    #[command(after_help = "Example:\n  farrier webhook test ops")]
    Test {
        /// Its name
        name: String,
    },
    /// Show the last messages, and what came of each
    #[command(after_help = "Example:\n  farrier webhook deliveries ops")]
    Deliveries {
        /// Its name
        name: String,
    },
    /// Delete a webhook: what it has not been told is not told
    #[command(after_help = "Example:\n  farrier webhook delete ops")]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        key: Key,
    },
}

pub(crate) async fn run(command: WebhookCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        WebhookCommand::Create {
            name,
            url,
            on,
            selector,
            machine,
        } => {
            let request = CreateWebhookRequest {
                name,
                url,
                on,
                selector,
                machine,
                namespace: asking.namespace.clone(),
            };
            create(request, asking).await?;
        }
        WebhookCommand::List(listing) => list(listing, asking).await?,
        WebhookCommand::Get { name } => get(name, asking).await?,
        WebhookCommand::Test { name } => return test(name, asking).await,
        WebhookCommand::Deliveries { name } => deliveries(name, asking).await?,
        WebhookCommand::Delete { name, key } => delete(name, key, asking).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(request: CreateWebhookRequest, asking: Asking<'_>) -> Result<(), Failure> {
    output::refuse_name(asking.output)?;
    let mut client = asking.connect().await?;
    let answer = client.control.create_webhook(request).await;
    let made = client.answer(answer)?;
    let made = views::CreatedWebhook {
        webhook: made.webhook.unwrap_or_default().into(),
        signing_key: made.signing_key,
    };
    output::one(asking.out, asking.output, &made, |out| {
        let webhook = &made.webhook;
        writeln!(
            out,
            "webhook {} is told of {} from now on",
            webhook.name,
            webhook.on.join(", ")
        )?;
        writeln!(out, "its messages are signed with {}", made.signing_key)?;
        Ok(writeln!(
            out,
            "keep that where they are taken: it is not shown again"
        )?)
    })
}

async fn list(listing: Listing, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let request = ListWebhooksRequest {
        namespace: asking.namespace.clone(),
        all_namespaces: listing.all_namespaces,
    };
    let answer = client.control.list_webhooks(request).await;
    let all = client.answer(answer)?.webhooks.into_iter();
    let all: Vec<_> = all.map(views::Webhook::from).collect();
    match listing.all_namespaces {
        true => output::list_of_all(asking.out, asking.output, &all),
        false => output::list(asking.out, asking.output, &all),
    }
}

async fn get(name: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let namespace = asking.namespace.clone();
    let answer = client
        .control
        .get_webhook(GetWebhookRequest { name, namespace })
        .await;
    let webhook = views::Webhook::from(client.answer(answer)?);
    output::one(asking.out, asking.output, &webhook, |out| {
        let mut line = |what: &str, value: &str| output::field(out, 11, what, value);
        line("Name", &webhook.name)?;
        line("Namespace", &webhook.namespace)?;
        line("URL", &webhook.url)?;
        line("On", &webhook.on.join(", "))?;
        if let Some(selector) = &webhook.selector {
            line("Labels", selector)?;
        }
        if let Some(machine) = &webhook.machine {
            line("Machine", machine)?;
        }
        line("State", &webhook.state_in_words())?;
        line("Created", &webhook.made())?;
        line("Up to", &webhook.token)
    })
}

async fn test(name: String, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let mut client = asking.connect().await?;
    let namespace = asking.namespace.clone();
    let answer = client
        .control
        .test_webhook(TestWebhookRequest { name, namespace })
        .await;
    let tested = views::TestedWebhook::from(client.answer(answer)?);
    output::one(asking.out, asking.output, &tested, |out| {
        Ok(writeln!(out, "{}", tested.line())?)
    })?;
    Ok(match tested.taken {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn deliveries(name: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let namespace = asking.namespace.clone();
    let request = WebhookDeliveriesRequest { name, namespace };
    let answer = client.control.webhook_deliveries(request).await;
    let all = client.answer(answer)?.deliveries.into_iter();
    let all: Vec<_> = all.map(views::WebhookDelivery::from).collect();
    output::list(asking.out, asking.output, &all)
}

async fn delete(name: String, key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = DeleteWebhookRequest {
        name: name.clone(),
        namespace: asking.namespace.clone(),
        idempotency_key: key.text(),
    };
    ask_once!(client, delete_webhook(request))?;
    output::deleted(asking.out, asking.output, "webhook", &name)
}
