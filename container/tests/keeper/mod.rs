//! The adapter of the suite for the runtime `namespaces`: the real keeper, started anew for each action.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use container::plan::What;
use container::{Group, Plan, read_status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::suite::Differences;
use crate::suite::world::{PATIENCE, Ran, World, drained};

pub(crate) const DIFFERENCES: Differences = Differences {
    bounds_root: true,
    has_own_hierarchy: true,
    more_devices: "",
    refuses_links_to: "mounting /proc failed",
    shows_cmdline: true,
    takes_no_layers: true,
    tells_bad_programs: true,
};

/// In no line of mountinfo: keepers mount in namespaces of their own.
pub(crate) const ROOTS: &str = "\0";

#[track_caller]
pub(crate) fn start(world: &World, mut plan: Plan, group: Option<Group>) -> Running {
    if world.below.is_some() {
        moved(&mut plan);
    }
    let (output, writer) = std::io::pipe().expect("pipe");
    let mut command = match &world.below {
        None => Command::new(env!("CARGO_BIN_EXE_container-init")),
        Some(probe) => {
            let mut command = Command::new(probe);
            command.args(["on-initramfs", env!("CARGO_BIN_EXE_container-init")]);
            command
        }
    };
    let mut child = command
        .env_clear()
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().expect("pipe"))
        .stderr(writer)
        .spawn()
        .expect("keeper");
    let text = serde_json::to_vec(&plan).expect("json");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(&text)
        .expect("described");
    Running {
        child,
        output: Some(std::thread::spawn(move || drained(output))),
        status: world.place.status.clone(),
        group,
    }
}

pub(crate) struct Running {
    child: Child,
    output: Option<JoinHandle<(String, u64)>>,
    status: PathBuf,
    group: Option<Group>,
}

impl Running {
    pub(crate) fn keeper(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("pid"))
    }

    /// To end, in the way that its image names.
    pub(crate) fn ask(&self) {
        self.signal(container::init::ASK);
    }

    /// At once.
    pub(crate) fn force(&self) {
        self.signal(container::init::FORCE);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.keeper(), signal).expect("signal");
    }

    /// Waits for its end, and ends what it left.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("wait").is_none() {
            if Instant::now() >= deadline {
                let _ = kill(self.keeper(), container::init::FORCE);
                panic!(
                    "it does not end; it printed {:?}",
                    self.output.take().map(JoinHandle::join)
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let out_of_memory = self.group.as_ref().map(Group::ran_out_of_memory);
        let out_of_pids = self.group.as_ref().map(Group::ran_out_of_pids);
        if let Some(group) = self.group.take() {
            group.end().expect("nothing left");
        }
        let (output, output_bytes) = self.output.take().expect("output").join().expect("output");
        Ran {
            output,
            output_bytes,
            ended: read_status(&self.status).ok(),
            out_of_memory,
            out_of_pids,
        }
    }
}

/// The machine's root is somewhere else for the keeper.
fn moved(plan: &mut Plan) {
    let below = |path: &mut PathBuf| {
        *path = Path::new("/farrier-test-old").join(path.strip_prefix("/").expect("absolute"))
    };
    plan.layers.iter_mut().for_each(below);
    [&mut plan.folder, &mut plan.status].into_iter().for_each(below);
    plan.group.iter_mut().for_each(below);
    for mount in &mut plan.mounts {
        if let What::Given { source } | What::Volume { source } = &mut mount.what {
            below(source);
        }
    }
}
