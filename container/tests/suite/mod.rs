//! What an action sees, how it ends and where it cannot get: the same for every runtime.
//!
//! Whoever takes the suite has a module `runtime` at its root: `start` runs a plan, `Running` is asked to end and tells how it
//! did, `ROOTS` is in the lines of mountinfo of actions that run, and `DIFFERENCES` says where the runtimes are not the same, as
//! docs/reference/actions.md has it.

mod contract;
mod escapes;
mod hostile;
pub(crate) mod world;

/// Where a runtime gives something else.
pub(crate) struct Differences {
    /// What is written beside volumes has a bound.
    pub(crate) bounds_root: bool,
    /// An action has a hierarchy of cgroups of its own on this machine.
    pub(crate) has_own_hierarchy: bool,
    /// In /dev of a confined action, beside what every one has.
    pub(crate) more_devices: &'static str,
    /// What is said of an image whose /proc is a link.
    pub(crate) refuses_links_to: &'static str,
    pub(crate) shows_cmdline: bool,
    /// An image may have no layer.
    pub(crate) takes_no_layers: bool,
    /// A program that the kernel refuses is told as one that did not start.
    pub(crate) tells_bad_programs: bool,
}
