//! A disk with a small system on it, for the real agent.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::v1::report::Outcome;

use crate::fake::{Stream, action};

/// A loop device over an ext4 image; detached when it goes out of scope.
pub(crate) struct LoopDisk {
    pub(crate) device: String,
}

impl LoopDisk {
    /// Makes the file system from the folder's content, without mounting anything.
    pub(crate) fn with(folder: &Path, image: &Path) -> LoopDisk {
        let file = fs::File::create(image).expect("image");
        file.set_len(32 << 20).expect("size");
        run(Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .arg(folder)
            .arg(image));
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(image));
        LoopDisk {
            device: device.trim().to_owned(),
        }
    }
}

impl LoopDisk {
    /// A file as a device that shows its partitions.
    pub(crate) fn partitioned(file: &Path) -> LoopDisk {
        let mut losetup = Command::new("losetup");
        let device = run(losetup.args(["--find", "--show", "--partscan"]).arg(file));
        LoopDisk {
            device: device.trim().to_owned(),
        }
    }

    /// What lies in the root folder, without mounting anything.
    pub(crate) fn names(&self) -> Vec<String> {
        let listing = run(Command::new("debugfs").args(["-R", "ls -p /", &self.device]));
        // Lines such as /11/040700/0/0/lost+found//
        let name = |line: &str| line.split('/').nth(5).map(str::to_owned);
        listing.lines().filter_map(name).collect()
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is there");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Copies programs of this host, with the libraries that they load, into a root.
pub(crate) fn install(root: &Path, programs: &[&str]) {
    for program in programs {
        let mut files = vec![PathBuf::from(program)];
        let libraries = run(Command::new("ldd").arg(program));
        files.extend(
            libraries
                .split_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(PathBuf::from),
        );
        for file in files {
            let to = root.join(file.strip_prefix("/").expect("absolute"));
            fs::create_dir_all(to.parent().expect("folder")).expect("folder");
            fs::copy(&file, &to).expect("copied");
        }
    }
}

/// Runs one action and returns its end.
pub(crate) async fn end_of(
    stream: &mut Stream,
    attempt_id: &str,
    image: &str,
    environment: &[(&str, &str)],
) -> Outcome {
    stream.run(&action(attempt_id, image, environment)).await;
    stream.report().await;
    stream.report().await.outcome.expect("an outcome")
}
