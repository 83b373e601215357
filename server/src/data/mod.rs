//! The ephemeral data of workflows: contents as blobs, the way from and to agents. Versions are the coordinator's.
//!
//! Data belong to a root workflow; its sub-workflows share them. A version is a manifest, which names contents by their
//! digests. What a report carries becomes a part of the newest version in the commit that the report is recorded with:
//!
//! 1. [`report::read`] judges what an agent says that it changed,
//! 2. [`contents::keep`] makes its contents durable, and looks for those that came before the report,
//! 3. [`coordinator::data::versions::merge`] gives the rows of the next version, or why there is none, for the commit of the step.

pub(crate) mod contents;
mod files;
pub(crate) mod intake;
pub(crate) mod report;
