//! Whoever follows the events of all workflows: over gRPC ([`follow`]), in the order that the store keeps of them for some time
//! ([`kept`]).
//!
//! A listener is a place in that order and nothing else. It reads for itself, from the store: one that is slow, or away, costs nobody
//! anything and delays nobody.

pub(crate) mod follow;
pub(crate) mod kept;
pub(crate) mod read;
pub(crate) mod wanted;
