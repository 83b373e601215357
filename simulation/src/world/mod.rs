//! The world: what happens, one thing after the other, in simulated time.
//!
//! [`World::step`] takes the next thing from the agenda, does it, and has what came of it checked. Everything that is
//! up to chance is thrown from one [`Dice`]; nothing here reads a clock, starts a thread or depends on a hash map's order.

mod agents;
mod faults;
mod followers;
mod namespaces;
mod people;
mod servers;

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator::database::View;

use crate::archives::Archives;
use crate::checks::Checks;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::machine::Machine;
use crate::network::{Network, StreamId};
use crate::trace::Trace;
use crate::{Breakage, Failure, Settings};
use followers::Followers;
use people::People;
pub(crate) use people::SOMEBODY;
use servers::Server;
pub(crate) use servers::outcome;

/// Simulated milliseconds in which everything has to come to its end once nothing goes wrong any more.
const QUIET_MS: u64 = 14 * 24 * 3_600_000;
/// When nothing has happened to any workflow for so long, nothing will: clocks are off by less, and waits are shorter.
const STUCK_MS: u64 = 3 * 24 * 3_600_000;
/// Steps in which it has to.
const QUIET_STEPS: u64 = 2_000_000;
/// Steps between two looks at whether the stored state is what its events say.
const REPLAY_EVERY: u64 = 64;

pub(crate) struct World {
    settings: Settings,
    dice: Dice,
    pace: Pace,
    /// Milliseconds since the world began.
    now: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    /// Things put on the agenda so far: those of the same time happen in the order in which they were put there.
    planned: u64,
    disk: Arc<Disk>,
    archives: Archives,
    network: Network,
    machines: Vec<Machine>,
    servers: Vec<Server>,
    people: People,
    checks: Checks,
    coverage: Coverage,
    trace: Trace,
    /// Nothing goes wrong any more.
    quiet: bool,
    broken: Option<String>,
    /// When the last event was committed.
    moved: u64,
    /// There are two namespaces.
    divided: bool,
    followers: Option<Followers>,
}

/// How much goes on in a world. Where faults are rare a machine may be silent for long, where they are frequent they meet.
struct Pace {
    /// At most, between two faults.
    faults_ms: u64,
    /// At most, between two things that people do.
    people_ms: u64,
}

/// What may happen.
#[derive(Clone, Debug)]
enum Happening {
    /// The machine's agent is up.
    Boots {
        machine: usize,
    },
    /// The agent tries to open a stream.
    Connects {
        machine: usize,
        boot: String,
        connection: u64,
    },
    /// The running action ends by itself, or since it was stopped.
    ActionEnds {
        machine: usize,
        boot: String,
        run: u64,
        stopped: bool,
    },
    ArrivesAtAgent(StreamId),
    ArrivesAtServer(StreamId),
    AgentNoticesEnd(StreamId),
    ServerNoticesEnd(StreamId),
    ServerStarts {
        server: usize,
    },
    /// A commit has reached the disk.
    Commits {
        server: usize,
        life: u64,
        job: u64,
    },
    /// A server sees that its commit is durable.
    SeesCommit {
        server: usize,
        life: u64,
        job: u64,
    },
    /// A step that failed is tried again.
    TriesAgain {
        server: usize,
        life: u64,
        job: u64,
    },
    /// Timers and silences are looked at.
    Looks {
        server: usize,
        life: u64,
    },
    /// A root that has ended is looked at: it may be archived.
    Archives {
        server: usize,
        life: u64,
        root: String,
    },
    ArchiveCommits {
        server: usize,
        life: u64,
        job: u64,
    },
    /// The next commit of what is brought back.
    BringsBack {
        server: usize,
        life: u64,
        job: u64,
    },
    PeopleAct,
    Fault,
}

/// The value of the secret `TOKEN`: one that stands nowhere by chance.
pub(crate) fn secret_of(seed: u64) -> String {
    format!("value {seed:016x} of a secret")
}

impl World {
    pub(crate) fn new(settings: Settings) -> World {
        let mut dice = Dice::new(settings.seed);
        let machines = settings
            .machines
            .unwrap_or_else(|| machines(&mut dice, settings.large));
        let disk = Arc::new(match settings.breakage {
            Some(Breakage::LazyDisk) => Disk::lazy(),
            _ => Disk::default(),
        });
        let pace = Pace {
            faults_ms: *dice.pick(&[10_000, 120_000, 1_800_000]),
            people_ms: *dice.pick(&[30_000, 120_000, 1_800_000]),
        };
        let divided = dice.one_in(2);
        let mut world = World {
            dice,
            divided,
            pace,
            now: 0,
            agenda: BTreeMap::new(),
            planned: 0,
            network: Network::default(),
            machines: (0..machines).map(Machine::new).collect(),
            servers: Vec::new(),
            people: People::default(),
            checks: Checks::new(secret_of(settings.seed)),
            coverage: Coverage::default(),
            trace: Trace::new(settings.trace),
            quiet: false,
            broken: None,
            moved: 0,
            disk,
            archives: Archives::default(),
            followers: None,
            settings,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.set_up_store();
        let rows = View::new(Arc::new(self.disk.as_it_is()));
        match coordinator::order::newest(&rows) {
            Ok(token) => self.followers = Some(Followers::new(self.settings.seed, token)),
            Err(error) => self.break_down(format!("nobody can follow: {error}")),
        }
        let servers = self.settings.servers;
        for server in 0..servers {
            self.servers.push(Server::new(&mut self.dice));
            self.plan(0, Happening::ServerStarts { server });
        }
        for machine in 0..self.machines.len() {
            self.power_on(machine, 600_000);
        }
        self.plan(1, Happening::PeopleAct);
        self.plan(1, Happening::Fault);
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What was broken, and the story of it.
    pub(crate) fn run(mut self) -> Result<Coverage, Box<Failure>> {
        let steps = self.settings.steps;
        while self.coverage.steps < steps && self.broken.is_none() {
            self.step();
        }
        self.calm_down();
        let (until, last_step) = (self.now + QUIET_MS, self.coverage.steps + QUIET_STEPS);
        while self.broken.is_none() && !self.is_all_over() {
            if self.now > until || self.now > self.moved + STUCK_MS || self.coverage.steps > last_step {
                let open = self.unfinished();
                let stuck = self.checks.open().next().cloned().unwrap_or_default();
                for line in self.checks.inventory(&self.disk, &stuck) {
                    self.say(line);
                }
                self.break_down(format!("liveness: not everything comes to its end: {open}"));
                break;
            }
            self.step();
            self.people_help();
        }
        if self.broken.is_none() {
            self.last_look();
        }
        match self.broken {
            None => Ok(self.coverage),
            Some(what) => Err(Box::new(Failure {
                seed: self.settings.seed,
                step: self.coverage.steps,
                what,
                trace: self.trace.lines(),
                settings: self.settings,
            })),
        }
    }

    fn step(&mut self) {
        self.coverage.steps += 1;
        self.trace.begin(self.coverage.steps);
        let Some(((at, _), happening)) = self.agenda.pop_first() else {
            self.break_down("nothing happens any more".to_owned());
            return;
        };
        self.now = self.now.max(at);
        self.happen(happening);
        self.look();
        self.follow();
        if self.coverage.steps.is_multiple_of(REPLAY_EVERY) {
            self.look_at_replay();
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Boots { machine } => self.boots(machine),
            Happening::Connects {
                machine,
                boot,
                connection,
            } => self.connects(machine, &boot, connection),
            Happening::ActionEnds {
                machine,
                boot,
                run,
                stopped,
            } => self.action_ends(machine, &boot, run, stopped),
            Happening::ArrivesAtAgent(stream) => self.arrives_at_agent(stream),
            Happening::ArrivesAtServer(stream) => self.arrives_at_server(stream),
            Happening::AgentNoticesEnd(stream) => self.agent_notices_end(stream),
            Happening::ServerNoticesEnd(stream) => self.server_notices_end(stream),
            Happening::ServerStarts { server } => self.server_starts(server),
            Happening::Commits { server, life, job } => self.commits(server, life, job),
            Happening::SeesCommit { server, life, job } => self.sees_commit(server, life, job),
            Happening::TriesAgain { server, life, job } => self.tries_again(server, life, job),
            Happening::Looks { server, life } => self.server_looks(server, life),
            Happening::Archives { server, life, root } => self.archives(server, life, root),
            Happening::ArchiveCommits { server, life, job } => self.archive_commits(server, life, job),
            Happening::BringsBack { server, life, job } => self.brings_back(server, life, job),
            Happening::PeopleAct => self.people_act(),
            Happening::Fault => self.fault(),
        }
    }

    /// Puts something on the agenda, `after` milliseconds from now.
    fn plan(&mut self, after: u64, happening: Happening) {
        self.planned += 1;
        self.agenda.insert((self.now + after, self.planned), happening);
    }

    fn say(&mut self, text: impl AsRef<str>) {
        self.trace.say(self.now, text);
    }

    fn break_down(&mut self, what: String) {
        if self.broken.is_none() {
            self.say(format!("BROKEN: {what}"));
            self.broken = Some(what);
        }
    }

    fn must(&mut self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.break_down(what);
        }
    }

    /// What was committed in this step is judged.
    fn look(&mut self) {
        let before = self.checks.seen;
        for commit in self.disk.fresh() {
            let (now, trace) = (self.now, &mut self.trace);
            let outcome = self
                .checks
                .committed(&commit, &self.disk, &mut self.coverage, |line| {
                    trace.say(now, line)
                });
            self.must(outcome);
        }
        if self.checks.seen != before {
            self.moved = self.now;
        }
    }

    fn look_at_replay(&mut self) {
        if let Some(id) = self.checks.some_workflow(&mut self.dice) {
            let outcome = self.checks.replays(&self.disk, &self.archives, &id);
            self.must(outcome);
        }
    }

    /// Everything that was ever promised, once more, against what is in the store.
    fn last_look(&mut self) {
        for id in self.checks.workflows() {
            let outcome = self.checks.replays(&self.disk, &self.archives, &id);
            self.must(outcome);
        }
        let outcome = self.checks.promises(&self.disk, &self.archives);
        self.must(outcome);
        let outcome = self.checks.made_once();
        self.must(outcome);
        let outcome = self.followers_catch_up();
        self.must(outcome);
        let (workflows, ended) = self.checks.ends();
        self.coverage.workflows = workflows;
        self.coverage.ended = ended;
    }

    fn is_all_over(&self) -> bool {
        self.people.are_done() && self.checks.open().next().is_none()
    }

    fn unfinished(&self) -> String {
        let open: Vec<String> = self.checks.open().take(5).map(|id| self.explained(id)).collect();
        match open.is_empty() {
            true => "somebody waits for an answer".to_owned(),
            false => open.join("; "),
        }
    }
}

/// Most worlds are small, since small ones are quick and find the same.
fn machines(dice: &mut Dice, large: bool) -> usize {
    let most = match dice.below(100) {
        0 if large => 1000,
        0..=9 if large => 100,
        0..=9 => 24,
        10..=59 => 4,
        _ => 8,
    };
    usize::try_from(dice.between(1, most)).unwrap_or(1)
}
