//! Where the agent runs.

/// What the agent may do to the machine it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A system that goes on when the worker ends: the clock and the power are not ours.
    Host,
    /// The in-memory system, under our PID 1.
    Netboot,
}
