//! Answers as they are printed: names, times and empty fields as a person and a program want them.

mod events;
mod history;
mod image;
pub(crate) mod inventory;
pub(crate) mod listed;
mod namespace;
pub(crate) mod progress;
mod secret;
pub(crate) mod short;
mod token;
mod webhook;
mod workflow;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use proto::v1;
use serde::Serialize;

use crate::output::{InNamespace, Labelled, Rows};
use crate::terminal::safe_line;

pub(crate) use events::FollowedEvent;
pub(crate) use history::{Event, LogLine};
pub(crate) use image::Image;
pub(crate) use inventory::bytes;
pub(crate) use namespace::Namespace;
pub(crate) use secret::Secret;
pub(crate) use token::{CreatedToken, Token};
pub(crate) use webhook::{CreatedWebhook, TestedWebhook, Webhook, WebhookDelivery};
pub(crate) use workflow::{Task, Workflow};

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) macs: Vec<String>,
    pub(crate) addresses: Vec<String>,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) attached: bool,
    pub(crate) boots_next: Option<String>,
    pub(crate) boots_next_reason: Option<String>,
    pub(crate) workflow: Option<String>,
    pub(crate) last_seen: Option<String>,
    pub(crate) agent_version: Option<String>,
    /// Why an earlier agent of it died, or its kernel.
    pub(crate) last_death: Option<String>,
    pub(crate) last_death_at: Option<String>,
    /// Nothing was heard of it for a while, although it has something to run.
    pub(crate) silent: bool,
    /// What was handed to it and has not provably stopped.
    pub(crate) attempt: Option<String>,
    /// Its workflow has given the attempt up; it still fences the machine.
    pub(crate) attempt_lost: bool,
    /// Workflows in the order in which they get the machine.
    pub(crate) queue: Vec<String>,
    pub(crate) epoch: u64,
    /// As its agent told it last; of a list some of its fields.
    pub(crate) inventory: Option<Box<v1::HardwareInventory>>,
    pub(crate) inventory_at: Option<String>,
    /// How far the action is that runs there.
    pub(crate) progress: Option<progress::Progress>,
    /// As it was applied.
    pub(crate) document: Document,
}

/// A machine's record, in the text that a server gave; read where its fields are shown.
#[derive(Debug)]
pub(crate) struct Document(pub(crate) String);

impl Document {
    /// Nothing, where it is no YAML.
    pub(crate) fn value(&self) -> serde_json::Value {
        let json = serde_json::from_str(&self.0);
        json.unwrap_or_else(|_| yaml::value(&self.0, RECORD).unwrap_or_default())
    }
}

impl Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl From<v1::Machine> for Machine {
    fn from(machine: v1::Machine) -> Self {
        Self {
            name: machine.name,
            namespace: machine.namespace,
            macs: machine.macs,
            addresses: machine.addresses,
            labels: machine.labels.into_iter().collect(),
            attached: machine.attached,
            boots_next: given(machine.boots_next),
            boots_next_reason: given(machine.boots_next_reason),
            workflow: given(machine.running_workflow),
            last_seen: time(machine.last_seen),
            agent_version: given(machine.agent_version),
            last_death: given(machine.last_death),
            last_death_at: time(machine.last_death_at),
            silent: machine.silent,
            attempt: given(machine.running_attempt),
            attempt_lost: machine.attempt_lost,
            queue: machine.queue,
            epoch: machine.epoch,
            inventory: machine.inventory,
            inventory_at: time(machine.inventory_at),
            progress: machine.progress.map(progress::Progress::from),
            document: Document(machine.spec_yaml),
        }
    }
}

/// A record that a server shows: it has taken it, and an operator wrote it.
pub(crate) const RECORD: yaml::Limits = yaml::Limits {
    nodes: 200_000,
    bytes: 16 << 20,
};

impl Rows for Machine {
    const HEADER: &'static [&'static str] = &["NAME", "MAC", "ADDRESS", "AGENT", "BOOTS NEXT", "WORKFLOW"];
    const NONE: &'static str = "no machines yet: add some with `farrier machine apply -f FILE`";

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.macs.join(","),
            dash(&self.addresses.join(",")),
            self.agent().to_owned(),
            dash(self.boots_next.as_deref().unwrap_or_default()),
            self.workflow
                .as_deref()
                .map_or_else(|| dash(""), |id| short::short(id).to_owned()),
        ]
    }
}

/// Columns that a wide list of machines has beside the others.
pub(crate) const WIDE: [&str; 4] = ["SEEN", "AGENT VERSION", "PROGRESS", "WORKFLOW ID"];

impl Machine {
    /// What [`WIDE`] are of it.
    pub(crate) fn wide(&self) -> Vec<String> {
        let progress = self.progress.as_ref();
        vec![
            when(self.last_seen.as_deref()),
            dash(self.agent_version.as_deref().unwrap_or_default()),
            progress.map_or_else(
                || dash(""),
                |progress| format!("{} {}", progress.action, progress.line()),
            ),
            dash(self.workflow.as_deref().unwrap_or_default()),
        ]
    }

    /// What [`inventory::COLUMNS`] are of it.
    pub(crate) fn hardware(&self) -> Vec<String> {
        inventory::columns(self.inventory.as_deref())
    }
}

impl Labelled for Machine {
    fn labels(&self) -> &std::collections::BTreeMap<String, String> {
        &self.labels
    }
}

impl InNamespace for Machine {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Machine {
    pub(crate) fn agent(&self) -> &'static str {
        match (self.attached, self.silent) {
            (_, true) => "silent",
            (true, _) => "attached",
            (false, _) => "-",
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) version: u64,
    pub(crate) created_at: Option<String>,
    pub(crate) updated_at: Option<String>,
    /// Of the object that carried it.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) updated_by: Option<String>,
    pub(crate) digest: String,
    /// What storing it came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<String>,
    pub(crate) text: String,
}

impl From<v1::Template> for Template {
    fn from(template: v1::Template) -> Self {
        Self {
            name: template.name,
            namespace: template.namespace,
            id: template.id,
            version: template.version,
            created_at: time(template.created_at),
            updated_at: time(template.updated_at),
            labels: template.labels.into_iter().collect(),
            updated_by: given(template.updated_by),
            digest: template.digest,
            change: given(template.change),
            text: template.text,
        }
    }
}

impl Rows for Template {
    const HEADER: &'static [&'static str] = &["NAME", "VERSION", "UPDATED", "ID"];
    const NONE: &'static str = "no templates yet: store one with `farrier template create -f FILE`";

    fn row(&self) -> Vec<String> {
        let updated = short_age(self.updated_at.as_deref());
        vec![
            self.name.clone(),
            self.version.to_string(),
            updated,
            self.id.clone(),
        ]
    }
}

/// A version of a template, in a list of them.
#[derive(Debug, Serialize)]
pub(crate) struct TemplateVersion {
    name: String,
    version: u64,
    updated_at: Option<String>,
    updated_by: Option<String>,
    digest: String,
}

impl From<v1::Template> for TemplateVersion {
    fn from(template: v1::Template) -> Self {
        Self {
            name: format!("{}@{}", template.name, template.version),
            version: template.version,
            updated_at: time(template.updated_at),
            updated_by: given(template.updated_by),
            digest: template.digest,
        }
    }
}

impl Rows for TemplateVersion {
    const HEADER: &'static [&'static str] = &["VERSION", "STORED", "BY", "DIGEST"];
    const NONE: &'static str = "no versions";

    fn row(&self) -> Vec<String> {
        let digest = self.digest.get(..DIGEST_SHOWN).unwrap_or(&self.digest);
        vec![
            self.version.to_string(),
            when(self.updated_at.as_deref()),
            dash(self.updated_by.as_deref().unwrap_or_default()),
            digest.to_owned(),
        ]
    }
}

/// As much of a digest as people compare; JSON has all of it.
const DIGEST_SHOWN: usize = "sha256:0123456789ab".len();

impl InNamespace for Template {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct BootLogEntry {
    pub(crate) at: Option<String>,
    pub(crate) mac: Option<String>,
    pub(crate) boot: Option<String>,
    pub(crate) stage: &'static str,
    pub(crate) what: String,
    pub(crate) detail: String,
    pub(crate) bytes: Option<u64>,
    pub(crate) outcome: &'static str,
}

impl From<v1::BootLogEntry> for BootLogEntry {
    fn from(entry: v1::BootLogEntry) -> Self {
        Self {
            stage: entry.stage().word(),
            outcome: entry.outcome().word(),
            at: time(entry.at),
            mac: given(entry.mac),
            boot: given(entry.boot),
            what: entry.what,
            detail: entry.detail,
            bytes: Some(entry.bytes).filter(|bytes| *bytes > 0),
        }
    }
}

impl BootLogEntry {
    /// `with_mac` where entries of several machines are mixed.
    pub(crate) fn line(&self, with_mac: bool) -> String {
        let mac = if with_mac {
            format!("{:<17}  ", self.mac.as_deref().unwrap_or("-"))
        } else {
            String::new()
        };
        let bytes = self
            .bytes
            .map_or_else(String::new, |bytes| format!(" ({bytes} B)"));
        let line = format!(
            "{}  {mac}{:<5}  {:<8}  {:<24}  {}{bytes}",
            clock(self.at.as_deref()),
            self.stage,
            self.outcome,
            self.what,
            self.detail
        );
        safe_line(line.trim_end())
    }
}

/// RFC 3339 with milliseconds, UTC.
pub(crate) fn time(at: Option<prost_types::Timestamp>) -> Option<String> {
    let at = at?;
    let at = Timestamp::new(at.seconds, at.nanos).ok()?;
    Some(format!("{at:.3}"))
}

/// The time of day here, for lines; with the date when it is not today's.
fn clock(at: Option<&str>) -> String {
    let Some(at) = at.and_then(local) else {
        return "-".to_owned();
    };
    let today = Zoned::now().date() == at.date();
    at.strftime(if today {
        "%H:%M:%S%.3f"
    } else {
        "%Y-%m-%d %H:%M:%S%.3f"
    })
    .to_string()
}

/// Date and time here, and how long ago that is.
pub(crate) fn when(at: Option<&str>) -> String {
    let Some(here) = at.and_then(local) else {
        return "-".to_owned();
    };
    format!("{} ({})", here.strftime("%Y-%m-%d %H:%M:%S %Z"), ago(at))
}

/// A time that is to come, by the clock here.
fn at_place(at: &str) -> String {
    match local(at) {
        Some(here) => here.strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
        None => at.to_owned(),
    }
}

/// How long ago, for a column: `18m`.
fn short_age(at: Option<&str>) -> String {
    let ago = ago(at);
    let (number, unit) = ago.split_once(' ').unwrap_or((&ago, ""));
    format!("{number}{}", unit.get(..1).unwrap_or_default())
}

/// How long ago, in its largest unit.
fn ago(at: Option<&str>) -> String {
    let Some(at) = at.and_then(|at| at.parse::<Timestamp>().ok()) else {
        return "-".to_owned();
    };
    age(Timestamp::now().duration_since(at).as_secs())
}

fn age(seconds: i64) -> String {
    match seconds {
        ..1 => "now".to_owned(),
        1..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn local(at: &str) -> Option<Zoned> {
    let at: Timestamp = at.parse().ok()?;
    Some(at.to_zoned(TimeZone::system()))
}

fn seconds(at: Option<prost_types::Timestamp>) -> Option<f64> {
    at.map(|at| at.seconds as f64 + f64::from(at.nanos) / 1e9)
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// For a row of a table: `workflow events` has the rest.
pub(crate) fn first_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((first, _)) => format!("{first} …"),
        None => text.to_owned(),
    }
}

pub(crate) fn dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let ages = [-5, 0, 1, 119, 120, 7_199, 7_200, 172_799, 172_800].map(age);
        let want = [
            "now",
            "now",
            "1 s ago",
            "119 s ago",
            "2 min ago",
            "119 min ago",
            "2 h ago",
            "47 h ago",
            "2 days ago",
        ];
        assert_eq!(ages, want);
        let minutes = Timestamp::now() - jiff::SignedDuration::from_mins(18);
        assert_eq!(short_age(Some(&minutes.to_string())), "18m");
        assert_eq!(
            (short_age(None), short_age(Some(&Timestamp::now().to_string()))),
            ("-".into(), "now".into())
        );
    }

    #[test]
    fn a_line_of_another_day_has_its_date() {
        let now = format!("{:.3}", Timestamp::now());
        assert_eq!(clock(Some(&now)).len(), "00:00:00.000".len());
        assert_eq!(
            clock(Some("1999-05-05T12:00:00.125Z")).len(),
            "1999-05-05 12:00:00.125".len()
        );
        assert_eq!((clock(None), when(None)), ("-".to_owned(), "-".to_owned()));
        assert!(when(Some("1999-05-05T12:00:00.125Z")).ends_with(" days ago)"));
    }
}
