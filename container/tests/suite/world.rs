//! Images of static programs, made here layer by layer, and runs of them by the runtime that is tried.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use container::group::Limits;
use container::{Ended, Group, Image, Place, Request, Shown, plan};

use crate::runtime;

pub(crate) const MACHINE: &str = "machine-1";
/// Nothing here takes a fraction of it; who waits longer waits for what never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with an image, and what its actions are given.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) image: Image,
    pub(crate) request: Request,
    pub(crate) place: Place,
    pub(crate) limits: Limits,
    pub(crate) has_group: bool,
    /// The probe, where a keeper is to run on a root as an initramfs is one.
    pub(crate) below: Option<PathBuf>,
}

impl World {
    /// An image of one layer with busybox; its entrypoint is a shell that runs the command.
    pub(crate) fn new() -> World {
        let folder = tempfile::Builder::new()
            .prefix("runtime.")
            .tempdir()
            .expect("folder");
        let at = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect(name);
            path
        };
        let (layer, root, workflow) = (at("layer-0"), at("root"), at("workflow"));
        busybox(&layer);
        let place = Place {
            folder: root,
            status: folder.path().join("status"),
            writable_bytes: 16 << 20,
            hostname: MACHINE.to_owned(),
            resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
            hosts: "192.0.2.2\tserver\n".to_owned(),
            cmdline: Some("quiet token=***\n".to_owned()),
            shown: vec![Shown {
                from: workflow,
                at: "/workflow".into(),
                read_only: false,
            }],
            network: None,
            group: None,
            has_efivars: false,
        };
        World {
            image: Image {
                layers: vec![layer],
                entrypoint: vec!["/bin/sh".to_owned(), "-c".to_owned()],
                ..Image::default()
            },
            request: Request::default(),
            place,
            limits: Limits::default(),
            has_group: true,
            below: None,
            folder,
        }
    }

    pub(crate) fn confined() -> World {
        let mut world = World::new();
        world.request.confined = true;
        world
    }

    /// Another layer on top, with these files; a folder's name ends with a slash.
    pub(crate) fn layer(&mut self, files: &[(&str, &str)]) -> PathBuf {
        let layer = self
            .folder
            .path()
            .join(format!("layer-{}", self.image.layers.len()));
        fs::create_dir(&layer).expect("layer");
        for (name, content) in files {
            let path = layer.join(name);
            if name.ends_with('/') {
                fs::create_dir_all(&path).expect(name);
            } else {
                fs::create_dir_all(path.parent().expect("parent")).expect(name);
                fs::write(&path, content).expect(name);
            }
        }
        self.image.layers.push(layer.clone());
        layer
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the script to its end.
    #[track_caller]
    pub(crate) fn run(&mut self, script: &str) -> Ran {
        self.start(script).end()
    }

    #[track_caller]
    pub(crate) fn start(&mut self, script: &str) -> runtime::Running {
        self.request.command = vec![script.to_owned()];
        let name = format!(
            "test-{}",
            self.folder.path().file_name().expect("name").to_string_lossy()
        );
        let group = if self.has_group {
            Group::make(&name, &self.limits).expect("group")
        } else {
            None
        };
        self.place.group = group.as_ref().map(|group| group.path().to_owned());
        let _ = fs::remove_file(&self.place.status);
        let plan = plan(&self.image, &self.request, &self.place).expect("plan");
        runtime::start(self, plan, group)
    }
}

impl Drop for World {
    /// Whatever happened: nothing of it is mounted here.
    fn drop(&mut self) {
        let mounts = mounts();
        let ours = self.folder.path().to_str().expect("path");
        assert!(
            std::thread::panicking() || !mounts.contains(ours),
            "left mounted: {mounts}"
        );
    }
}

/// The first MiB, and how much there was.
pub(crate) fn drained(mut output: impl Read) -> (String, u64) {
    let (mut kept, mut length, mut buffer) = (Vec::new(), 0, vec![0; 64 << 10]);
    loop {
        match output.read(&mut buffer) {
            Ok(0) | Err(_) => return (String::from_utf8_lossy(&kept).into_owned(), length),
            Ok(read) => {
                length += read as u64;
                if kept.len() < 1 << 20 {
                    kept.extend_from_slice(&buffer[..read]);
                }
            }
        }
    }
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) output: String,
    pub(crate) output_bytes: u64,
    /// `None`: nobody knows, as what watched it was killed.
    pub(crate) ended: Option<Ended>,
    /// `None`: it had no group.
    pub(crate) out_of_memory: Option<bool>,
    pub(crate) out_of_pids: Option<bool>,
}

impl Ran {
    /// How it ended, as shells say it: not every runtime tells a signal from its exit code.
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        match &self.ended {
            Some(Ended::Exited { code }) => *code,
            Some(Ended::Killed { signal }) => 128 + signal,
            other => panic!(
                "it did not end by itself: {other:?}, and printed:\n{}",
                self.output
            ),
        }
    }

    /// What it printed, when it ended well.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(
            self.ended,
            Some(Ended::Exited { code: 0 }),
            "it printed:\n{}",
            self.output
        );
        self.output
    }

    #[track_caller]
    pub(crate) fn not_started(self) -> (i32, String) {
        match self.ended {
            Some(Ended::NotStarted { code, message }) => (code, message),
            other => panic!("it started: {other:?}, and printed:\n{}", self.output),
        }
    }
}

fn busybox(layer: &Path) {
    const BUSYBOX: &str = "/bin/busybox";
    let list = Command::new(BUSYBOX).arg("--list").output();
    let list = list.expect("Debian's busybox-static; `cargo xtask test` installs it");
    for folder in ["bin", "etc", "tmp"] {
        fs::create_dir(layer.join(folder)).expect(folder);
    }
    fs::copy(BUSYBOX, layer.join("bin/busybox")).expect("busybox");
    for applet in String::from_utf8(list.stdout).expect("applets").lines() {
        if applet != "busybox" {
            symlink("busybox", layer.join("bin").join(applet)).expect(applet);
        }
    }
    fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n",
    )
    .expect("passwd");
    fs::write(layer.join("etc/group"), "web:x:34:\nlogs:x:4:root,web\n").expect("group");
}

/// Processes of this machine whose command line has this word, an unusual one.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter_map(|entry| {
            entry.file_name().to_str()?.parse::<i32>().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&command).replace('\0', " "))
        });
    commands.filter(|command| command.contains(word)).collect()
}

/// Waits for something that has to come.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A static program ([`probe.rs`](probe.rs)), built once for all tests of a file.
pub(crate) fn probe() -> &'static Path {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (own, probe) = (
            folder.join(format!("container-probe.{}", std::process::id())),
            folder.join(format!("container-probe.{}.built", std::process::id())),
        );
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../container/tests/suite/probe.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let built = Command::new(rustc)
            .args([
                "--edition",
                "2024",
                "-C",
                "target-feature=+crt-static",
                source,
                "-o",
            ])
            .arg(&own)
            .status();
        assert!(built.expect("rustc").success());
        fs::rename(own, &probe).expect("probe");
        probe
    });
    &BUILT
}

/// What is mounted here, without the roots of actions that run meanwhile.
pub(crate) fn mounts() -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let lines = mounts.lines().filter(|line| !line.contains(runtime::ROOTS));
    lines.fold(String::new(), |text, line| text + line + "\n")
}
