//! Farrier's coordinator and agents in a simulated world: clock, network, disk, machines and people, all from one seed.
//!
//! What is driven is what ships: [`coordinator`], the [`store::Store`] trait, and the agent's
//! [`agent::worker::core`]. What is simulated is everything that it stands on. A seed gives the same world on every
//! machine, so a seed that fails is a failure that can be looked at.
//!
//! - [`world`]: what happens, and when.
//! - [`checks`]: what must hold all the same.
//! - [`coverage`]: that it happened at all.

#![forbid(unsafe_code)]

mod archives;
mod checks;
pub mod coverage;
mod definitions;
mod dice;
mod disk;
mod machine;
mod network;
mod trace;
mod world;

use std::fmt;

use coverage::Coverage;
use world::World;

/// Which world.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    /// None: as chance has it.
    pub machines: Option<usize>,
    pub servers: usize,
    /// In which things go wrong; then everything has to come to its end.
    pub steps: u64,
    /// Worlds of up to 1,000 machines.
    pub large: bool,
    /// Tells every step.
    pub trace: bool,
    /// For the test of the test: one part does not keep its promise.
    pub breakage: Option<Breakage>,
}

/// A part that does not keep its promise. Each has to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// A worker that is started again finds no journal.
    AgentForgetsJournal,
    /// The server acknowledges a report before it is committed.
    AnswersBeforeCommit,
    /// The blob of an archive is lost after the commit that names it.
    ArchiveIsNotSynced,
    /// A reboot does not change the boot id.
    BootKeepsItsId,
    /// The server commits without the preconditions of its commits.
    IgnoresConflicts,
    /// Commits are answered before they are synced.
    LazyDisk,
    /// The network loses single messages within a stream.
    LossyStreams,
    /// A machine's record gets another namespace while an attempt is on its way to the machine.
    MachinesMoveUnasked,
    /// The place of events in the order of all is committed after them.
    OrderIsWrittenLater,
    /// The server keeps what agents say as they say it.
    SecretsAreKept,
    /// The server takes no notice of the keys of requests.
    ServerForgetsKeys,
    /// A server that starts does not look for what the one before has left.
    ServerForgetsWhatIsLeft,
}

/// What broke, and the story of it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub step: u64,
    pub what: String,
    /// The last steps.
    pub trace: Vec<String>,
    settings: Settings,
}

impl Settings {
    pub fn new(seed: u64) -> Settings {
        Settings {
            seed,
            machines: None,
            servers: 1,
            steps: 1_000,
            large: false,
            trace: false,
            breakage: None,
        }
    }
}

/// Runs one world to its end.
///
/// # Errors
/// What broke.
pub fn run(settings: Settings) -> Result<Coverage, Box<Failure>> {
    World::new(settings).run()
}

impl Failure {
    /// The command that shows it again.
    pub fn again(&self) -> String {
        let Settings {
            seed,
            machines,
            servers,
            steps,
            large,
            ..
        } = self.settings;
        let mut command = format!("cargo xtask simulate --seed {seed} --steps {steps}");
        if let Some(machines) = machines {
            command += &format!(" --machines {machines}");
        }
        if servers != 1 {
            command += &format!(" --servers {servers}");
        }
        if !large {
            command += " --small";
        }
        command
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "seed {} breaks in step {}: {}",
            self.seed, self.step, self.what
        )
    }
}
