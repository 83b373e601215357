//! The adapter of the suite for the runtime `containerd`.

pub(crate) mod machine;
pub(crate) mod registry;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use container::{Ended, Group, Plan};
use containerd::{Containerd, Image, StartError, Task};
use machine::Machine;
use oci::Pull;
use oci::registry::{Progress, Registries};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::suite::Differences;
use crate::suite::world::{PATIENCE, Ran, World};

pub(crate) const DIFFERENCES: Differences = Differences {
    bounds_root: false,
    has_own_hierarchy: false,
    more_devices: "core",
    refuses_links_to: "must be mounted on ordinary directory",
    shows_cmdline: false,
    takes_no_layers: false,
    tells_bad_programs: false,
};

/// Where shims mount the roots of their actions.
pub(crate) const ROOTS: &str = "/io.containerd.runtime.v2.task/";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("runtime"));
/// One for all tests of the file; it ends with their process.
static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::start);
static CONTAINERD: LazyLock<Containerd> = LazyLock::new(|| {
    let _on = RUNTIME.enter();
    Containerd::at(&MACHINE.socket(), "suite").expect("socket")
});

async fn image(world: &World) -> Image {
    let reference = registry::push(&MACHINE, &world.image).parse().expect("reference");
    let pulled = Pull::default()
        .run(
            &*CONTAINERD,
            &reference,
            &Registries::default(),
            &Progress::default(),
        )
        .await;
    pulled.unwrap_or_else(|e| panic!("{e}; {}", MACHINE.log()))
}

#[track_caller]
pub(crate) fn start(world: &World, plan: Plan, group: Option<Group>) -> Running {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let id = format!(
        "suite-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let stop_signal = plan.stop_signal;
    let started = RUNTIME.block_on(async {
        CONTAINERD.prepare().await.expect("prepared");
        let image = image(world).await;
        CONTAINERD.start(&image, &plan, &id).await
    });
    let task = match started {
        Ok(task) => Ok(task),
        Err(StartError::NotStarted { code, message }) => Err(Ended::NotStarted { code, message }),
        Err(e) => panic!("{e}; {}", MACHINE.log()),
    };
    Running {
        task: task.map(|(task, output)| {
            let outputs = [output.stdout, output.stderr];
            (task, outputs.map(|output| RUNTIME.spawn(drained(output))))
        }),
        stop_signal,
        group,
    }
}

/// The first MiB, and how much there was.
async fn drained(mut output: Receiver) -> (Vec<u8>, u64) {
    let (mut kept, mut length, mut buffer) = (Vec::new(), 0, vec![0; 64 << 10]);
    loop {
        match output.read(&mut buffer).await {
            Ok(0) | Err(_) => return (kept, length),
            Ok(read) => {
                length += read as u64;
                if kept.len() < 1 << 20 {
                    kept.extend_from_slice(&buffer[..read]);
                }
            }
        }
    }
}

type Drained = JoinHandle<(Vec<u8>, u64)>;

pub(crate) struct Running {
    task: Result<(Task, [Drained; 2]), Ended>,
    stop_signal: i32,
    group: Option<Group>,
}

impl Running {
    /// To end, in the way that its image names.
    pub(crate) fn ask(&self) {
        if let Ok((task, _)) = &self.task {
            RUNTIME.block_on(task.signal(self.stop_signal)).expect("signal");
        }
    }

    /// At once.
    pub(crate) fn force(&self) {
        if let Ok((task, _)) = &self.task {
            RUNTIME.block_on(task.force()).expect("force");
        }
    }

    /// Waits for its end, and ends what it left.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        let (ended, output) = match self.task {
            Err(ended) => (Some(ended), Vec::new()),
            Ok((task, outputs)) => RUNTIME.block_on(async {
                let ended = timeout(PATIENCE, task.wait())
                    .await
                    .expect("it ends")
                    .expect("told");
                task.remove().await.expect("removed");
                let mut drained = Vec::new();
                for output in outputs {
                    drained.push(
                        timeout(PATIENCE, output)
                            .await
                            .expect("its output ends")
                            .expect("drained"),
                    );
                }
                (ended, drained)
            }),
        };
        let out_of_memory = self.group.as_ref().map(Group::ran_out_of_memory);
        let out_of_pids = self.group.as_ref().map(Group::ran_out_of_pids);
        if let Some(group) = self.group.take() {
            group.end().expect("nothing left");
        }
        let bytes: Vec<u8> = output.iter().flat_map(|(kept, _)| kept.clone()).collect();
        Ran {
            output: String::from_utf8_lossy(&bytes).into_owned(),
            output_bytes: output.iter().map(|(_, length)| length).sum(),
            ended,
            out_of_memory,
            out_of_pids,
        }
    }
}
