//! An action that containerd runs: a container, its task, and their end, of which nothing is left.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use container::plan::What;
use container::{Ended, Plan, accounts};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::time::{Instant, sleep};

use crate::accounts::find_user;
use crate::api::containers::containers_client::ContainersClient;
use crate::api::containers::{Container, CreateContainerRequest, DeleteContainerRequest, container::Runtime};
use crate::api::tasks::tasks_client::TasksClient;
use crate::api::tasks::{CreateTaskRequest, DeleteTaskRequest, KillRequest, StartRequest, WaitRequest};
use crate::api::types::Mount;
use crate::connection::{Containerd, OWNER, Wire};
use crate::error::{Error, Kind, kind};
use crate::snapshot::SNAPSHOTTER;
use crate::spec;
use crate::store::Image;

const RUNTIME: &str = "io.containerd.runc.v2";
/// By which containerd's own tools know a specification.
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// An object with it is kept by the garbage collector, whoever names it.
const GC_ROOT: &str = "containerd.io/gc.root";
const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
/// Those of this process, which are containerd's.
const MOUNTS: &str = "/proc/self/mounts";
const SIGKILL: u32 = 9;
/// As shells: it could not be started.
const NOT_RUN: i32 = 126;
/// As shells: there is no such program.
const NOT_FOUND: i32 = 127;
/// How long a containerd that is restarted is waited for.
const AWAY_AT_MOST: Duration = Duration::from_secs(60);
const AWAY_PAUSE: Duration = Duration::from_millis(200);

/// Why an action does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Containerd(#[from] Error),
    /// The same as how an action ends that could not be started.
    #[error("{message}")]
    NotStarted { code: i32, message: String },
}

/// An action that runs. [`Task::remove`] takes it away; what is dropped without it, the owner's next agent removes.
pub struct Task {
    of: Containerd,
    id: String,
    folder: PathBuf,
}

/// What an action prints. It ends when nobody holds it any more: when the task is removed at the latest.
pub struct Output {
    pub stdout: Receiver,
    pub stderr: Receiver,
}

impl Containerd {
    /// Runs a plan in the image. `id` is a name that no other container has; the plan's folder is empty and is shared with
    /// containerd: what the action is shown of texts lies there, and its output comes through it.
    ///
    /// # Errors
    /// [`StartError`]; nothing of it is left then.
    pub async fn start(&self, image: &Image, plan: &Plan, id: &str) -> Result<(Task, Output), StartError> {
        let started = self.try_start(image, plan, id).await;
        if started.is_err() {
            // Its error is no news beside the first one; the next agent finds what is left.
            let _ = self.remove_task(id).await;
            clear(&plan.folder);
        }
        started
    }

    async fn try_start(&self, image: &Image, plan: &Plan, id: &str) -> Result<(Task, Output), StartError> {
        let labels = HashMap::from([
            (OWNER.to_owned(), self.owner().to_owned()),
            (GC_ROOT.to_owned(), "farrier".to_owned()),
        ]);
        let mounts = self.prepare_snapshot(id, &image.chain, labels).await?;
        let specification = prepared(plan, mounts.clone(), id).await?;
        let container = Container {
            id: id.to_owned(),
            labels: HashMap::from([(OWNER.to_owned(), self.owner().to_owned())]),
            image: image.digest.to_string(),
            runtime: Some(Runtime {
                name: RUNTIME.to_owned(),
                options: None,
            }),
            spec: Some(prost_types::Any {
                type_url: SPEC_TYPE.to_owned(),
                value: specification,
            }),
            snapshotter: SNAPSHOTTER.to_owned(),
            snapshot_key: id.to_owned(),
        };
        let request = CreateContainerRequest {
            container: Some(container),
        };
        let mut containers = ContainersClient::new(self.wire());
        self.call("making a container", containers.create(request))
            .await?;
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| plan.folder.join(name));
        let pipes = (pipe(&stdout), pipe(&stderr));
        let (Ok(stdout_end), Ok(stderr_end)) = pipes else {
            return Err(not_run("its output cannot be passed on: no pipe could be made"));
        };
        let request = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs: mounts,
            stdin: String::new(),
            stdout: stdout.display().to_string(),
            stderr: stderr.display().to_string(),
            terminal: false,
            options: has_initramfs(&fs::read_to_string(MOUNTS).unwrap_or_default()).then(without_pivot),
        };
        let what = "running the action";
        let created = self.answer(what, self.tasks().create(request)).await?;
        created.map_err(|status| self.not_started(plan, what, &status))?;
        let request = StartRequest {
            container_id: id.to_owned(),
            exec_id: String::new(),
        };
        match self.answer(what, self.tasks().start(request)).await? {
            // Its first act was to kill the shim, before that had answered: how it ended nobody knows, and `wait` says so.
            Err(status) if has_lost_its_shim(&status) => {}
            begun => {
                begun.map_err(|status| self.not_started(plan, what, &status))?;
            }
        }
        let task = Task {
            of: self.clone(),
            id: id.to_owned(),
            folder: plan.folder.clone(),
        };
        let output = Output {
            stdout: stdout_end,
            stderr: stderr_end,
        };
        Ok((task, output))
    }

    fn tasks(&self) -> TasksClient<Wire> {
        TasksClient::new(self.wire())
    }

    /// What runc says of a start that failed, in the words of a plan that could not be carried out.
    fn not_started(&self, plan: &Plan, what: &str, status: &tonic::Status) -> StartError {
        match (kind(status), refusal(plan, status.message())) {
            (Kind::Away, _) | (_, None) => self.refused(what, status).into(),
            (_, Some((code, message))) => StartError::NotStarted { code, message },
        }
    }

    /// Ends a task and removes all of it: task, container, snapshot. Parts of it may not be there.
    pub(crate) async fn remove_task(&self, id: &str) -> Result<(), Error> {
        let what = format!("removing container {id}");
        let deadline = Instant::now() + AWAY_AT_MOST;
        loop {
            let request = DeleteTaskRequest {
                container_id: id.to_owned(),
            };
            let deleted = self.answer(&what, self.tasks().delete(request)).await?;
            match deleted {
                Ok(_) => break,
                Err(status) if kind(&status) == Kind::NotThere => break,
                // It runs, or dies at this moment.
                Err(_) if Instant::now() < deadline => {
                    self.kill(id, SIGKILL, true).await?;
                    sleep(AWAY_PAUSE / 10).await;
                }
                Err(status) => return Err(self.refused(&what, &status)),
            }
        }
        let mut containers = ContainersClient::new(self.wire());
        let request = DeleteContainerRequest { id: id.to_owned() };
        let answer = self.answer(&what, containers.delete(request)).await?;
        self.unless(&what, answer, Kind::NotThere)?;
        self.remove_snapshot(id).await
    }

    /// There may be nobody left to hear it.
    async fn kill(&self, id: &str, signal: u32, all: bool) -> Result<(), Error> {
        let request = KillRequest {
            container_id: id.to_owned(),
            exec_id: String::new(),
            signal,
            all,
        };
        let answer = self
            .answer("sending a signal", self.tasks().kill(request))
            .await?;
        match answer {
            Err(status) if kind(&status) == Kind::Away => Err(self.refused("sending a signal", &status)),
            _ => Ok(()),
        }
    }
}

impl Task {
    /// How it ends. An end by a signal is an exit code of 128 and the signal: runc's shim does not tell them apart. `None`:
    /// the shim was killed, and with it the action. A containerd that is restarted meanwhile is waited for; the action
    /// runs on.
    ///
    /// # Errors
    /// Containerd is away for longer than a minute.
    pub async fn wait(&self) -> Result<Option<Ended>, Error> {
        let what = "how the action ends";
        let mut away_since: Option<Instant> = None;
        loop {
            let request = WaitRequest {
                container_id: self.id.clone(),
                exec_id: String::new(),
            };
            let status = match self.of.tasks().wait(request).await {
                Ok(answer) => {
                    let code = i32::try_from(answer.into_inner().exit_status).unwrap_or(i32::MAX);
                    return Ok(Some(Ended::Exited { code }));
                }
                Err(status) => status,
            };
            let since = *away_since.get_or_insert_with(Instant::now);
            // It has found its tasks again before it serves.
            if kind(&status) == Kind::NotThere {
                return Ok(None);
            }
            // A shim that is killed: it is buried at this moment.
            let may_come = kind(&status) == Kind::Away || has_lost_its_shim(&status);
            if !may_come || since.elapsed() > AWAY_AT_MOST {
                return Err(self.of.refused(what, &status));
            }
            sleep(AWAY_PAUSE).await;
        }
    }

    /// Sends its first process a signal.
    ///
    /// # Errors
    /// Containerd is away.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        self.of.kill(&self.id, signal.unsigned_abs(), false).await
    }

    /// Kills all that it started.
    ///
    /// # Errors
    /// Containerd is away.
    pub async fn force(&self) -> Result<(), Error> {
        self.of.kill(&self.id, SIGKILL, true).await
    }

    /// Ends it if it runs, and removes all of it. Its output can be read to its end after it.
    ///
    /// # Errors
    /// Containerd is away or refuses; what is left has the owner's label.
    pub async fn remove(&self) -> Result<(), Error> {
        let removed = self.of.remove_task(&self.id).await;
        clear(&self.folder);
        removed
    }
}

/// What runc's shim is told beside the specification. Names and numbers are those of containerd's
/// api/types/runc/options/oci.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    /// The root is moved over the present one, and not exchanged with it.
    #[prost(bool, tag = "1")]
    no_pivot_root: bool,
}

/// For a machine whose root hangs nowhere.
fn without_pivot() -> prost_types::Any {
    let options = RuncOptions { no_pivot_root: true };
    prost_types::Any {
        type_url: RUNC_OPTIONS.to_owned(),
        value: prost::Message::encode_to_vec(&options),
    }
}

/// Whether these mounts begin with an initramfs that nothing else covers: `pivot_root` exchanges none. Pure.
///
/// Source: Linux Documentation/filesystems/ramfs-rootfs-initramfs.rst, "What is initramfs?".
fn has_initramfs(mounts: &str) -> bool {
    let mut root = None;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        if words.next() == Some("/") {
            root = words.next();
        }
    }
    root == Some("rootfs")
}

/// The shim is gone that was to answer.
fn has_lost_its_shim(status: &tonic::Status) -> bool {
    status.message().contains("ttrpc: closed")
}

/// What was put into the plan's folder. Nothing is mounted there.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

/// Whom it runs as, and what it is shown: off the runtime, as files are written and read.
async fn prepared(plan: &Plan, mounts: Vec<Mount>, id: &str) -> Result<Vec<u8>, StartError> {
    let (plan, id) = (plan.clone(), id.to_owned());
    let prepared = tokio::task::spawn_blocking(move || {
        let user = find_user(&mounts, &plan.user)?;
        for mount in &plan.mounts {
            match &mount.what {
                What::Given { source } if !mount.read_only && user.uid != 0 => accounts::give(source, &user)?,
                What::Volume { source } if !source.exists() => fs::create_dir_all(source).map_err(|e| {
                    let name = source.display();
                    io::Error::new(
                        e.kind(),
                        format!("making the folder {name} of a volume failed: {e}"),
                    )
                })?,
                _ => {}
            }
        }
        for (file, text) in spec::texts(&plan, &plan.folder) {
            fs::write(file, text)?;
        }
        serde_json::to_vec(&spec::specification(&plan, &user, &plan.folder, &id)).map_err(io::Error::other)
    });
    let prepared: io::Result<Vec<u8>> = prepared.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    prepared.map_err(|e| not_run(&e.to_string()))
}

fn not_run(message: &str) -> StartError {
    StartError::NotStarted {
        code: NOT_RUN,
        message: message.to_owned(),
    }
}

/// A named pipe that is read here: without a writer for now.
fn pipe(at: &Path) -> io::Result<Receiver> {
    mkfifo(at, Mode::S_IRUSR | Mode::S_IWUSR)?;
    OpenOptions::new().open_receiver(at)
}

/// The exit code and the words for what runc says; `None`: it is not about the action. Pure.
fn refusal(plan: &Plan, said: &str) -> Option<(i32, String)> {
    let (_, of_runc) = said.split_once("OCI runtime ")?;
    let of_runc = of_runc.split_once("failed: ").map_or(of_runc, |(_, words)| words);
    let of_runc = of_runc.trim_end_matches(": unknown");
    let program = plan.arguments.first().map_or("", String::as_str);
    let of_program =
        of_runc.contains(&format!("exec: {program:?}")) || of_runc.contains(&format!("exec {program}"));
    let is_missing =
        of_runc.contains("executable file not found") || of_runc.contains("no such file or directory");
    Some(match (of_program, is_missing) {
        (true, true) if program.contains('/') => (
            NOT_FOUND,
            format!(
                "{program} was not found in the image, or what it is run with is not there (its interpreter or loader)"
            ),
        ),
        (true, true) => {
            let path = plan
                .environment
                .iter()
                .find_map(|pair| pair.strip_prefix("PATH="));
            let path = path.unwrap_or_default();
            (
                NOT_FOUND,
                format!("{program} was not found in the image, in none of PATH={path}"),
            )
        }
        (true, false) if of_runc.contains("permission denied") => (
            NOT_RUN,
            format!("{program} could not be run: it has to be a file that its user may execute"),
        ),
        _ => (NOT_RUN, of_runc.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use container::{Image, Place, Request, plan};

    use super::*;

    fn planned(program: &str) -> Plan {
        let image = Image {
            entrypoint: vec![program.to_owned()],
            ..Image::default()
        };
        let request = Request {
            environment: [("PATH".to_owned(), "/bin".to_owned())].into(),
            ..Request::default()
        };
        plan(&image, &request, &Place::default()).expect("plan")
    }

    #[test]
    fn an_initramfs_is_the_root_unless_something_covers_it() {
        let initramfs = "rootfs / rootfs rw,size=1k 0 0\nproc /proc proc rw 0 0\n";
        assert!(has_initramfs(initramfs));
        assert!(!has_initramfs(&format!("{initramfs}/dev/vda1 / ext4 rw 0 0\n")));
        assert!(!has_initramfs(
            "/dev/vda1 / ext4 rw 0 0\nrootfs /x rootfs rw 0 0\n"
        ));
        assert!(!has_initramfs(""));
        // Field 1, a varint of 1: protobuf's encoding.
        assert_eq!(without_pivot().value, [0x08, 0x01]);
    }

    #[track_caller]
    fn check(program: &str, said: &str, code: i32, words: &str) {
        let (found, message) = refusal(&planned(program), said).expect("about the action");
        assert_eq!(found, code, "{message}");
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn what_runc_says_of_a_program_is_told_as_shells_do() {
        // As containerd 1.6.20 passes on what runc 1.1.5 says.
        let of = |what: &str| {
            format!(
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {what}: unknown"
            )
        };
        check(
            "none",
            &of("exec: \"none\": executable file not found in $PATH"),
            127,
            "none was not found in the image, in none of PATH=/bin",
        );
        check(
            "/none",
            &of("exec: \"/none\": stat /none: no such file or directory"),
            127,
            "/none was not found",
        );
        check(
            "/plain",
            &of("exec: \"/plain\": permission denied"),
            126,
            "its user may execute",
        );
        check(
            "/x",
            &of("error mounting \"proc\" to rootfs at \"/proc\": no such file or directory"),
            126,
            "error mounting",
        );
        assert_eq!(
            refusal(
                &planned("/x"),
                "failed to create shim task: context deadline exceeded"
            ),
            None
        );
    }
}
