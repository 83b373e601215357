//! The workflow language and its engine.
//!
//! Pure: no I/O, no clock, no async, no threads. Give it state, a command and a time; get events back.
//!
//! - [`language`]: template text → rendered YAML → a validated [`language::Definition`].
//! - [`engine`]: [`engine::decide`] and [`engine::apply`].
//! - [`labels`]: what workflows are found by.

#![forbid(unsafe_code)]

pub mod engine;
pub mod expression;
pub mod labels;
pub mod language;
mod shared;

pub use shared::Shared;
