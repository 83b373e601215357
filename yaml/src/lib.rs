//! YAML that people write: a tree in which every key and value knows its place, and what is found wrong in it.
//!
//! Typed decoding stops at the first mistake and loses places; an operator wants all of them at once, in words that name
//! the thing. [`parse`] gives a tree of text ([`Node`]), [`Fields`] reads a map of known names out of it, and [`Findings`]
//! collects what is wrong or odd. A [`Finding`] has a [`Kind`], so that nobody has to read its words to know what it is.
//!
//! Machine records and workflow templates are both read so. Nothing here opens a file, and no text makes it panic.

#![forbid(unsafe_code)]

mod faults;
mod fields;
mod finding;
mod json;
mod nearest;
mod read;
mod scalar;
mod tree;

pub use fields::{Fields, Known, Unknown};
pub use finding::{Finding, Findings, Kind};
pub use json::json_object;
pub use nearest::{meant, nearest};
pub use read::{Document, Limits, Parsed, parse, value};
pub use tree::{Entry, Node, Place, Scalar, Style, What};
