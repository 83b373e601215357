//! What people do to workflows at a terminal, while a machine's agent is at work.

#[path = "../servers/mod.rs"]
mod servers;

mod completion;
mod daily;
mod edited;
mod events;
mod files;
mod filters;
mod follow;
mod harness;
mod hostile;
mod look;
mod many;
mod once;
mod people;
mod record;
mod released;
mod shapes;
mod snapshots;
mod terminal;
mod validated;
mod versions;
mod webhooks;
