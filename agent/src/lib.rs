//! `farrier-agent`: PID 1 of the in-memory system, and the worker that runs actions.
//!
//! One static binary with several faces, told apart by its process id and arguments:
//! - as PID 1 it is the [`supervisor`]: single-threaded, mounts, loads modules, reaps, restarts the worker;
//! - `farrier-agent worker` is the [`worker`] that the supervisor starts: network, session, actions;
//! - `farrier-agent --server HOST:PORT` is the same worker as an ordinary process on any Linux host;
//! - `farrier-agent container-init` is the single-threaded keeper of an action that is an image;
//! - `farrier-agent chroot-exec` is the single-threaded child that runs a command in another root;
//! - `/init -q -- NAME` is how the kernel asks for a module (`/proc/sys/kernel/modprobe`).

pub mod actions;
mod boot_secret;
mod boot_server;
pub mod cmdline;
mod connection;
pub mod console;
pub mod data;
mod device_links;
mod entropy;
mod hardware;
mod images;
pub mod inventory;
mod last_words;
mod memory;
pub mod modules;
mod needed;
pub mod net;
pub mod notices;
#[cfg(feature = "containerd")]
mod own_containerd;
mod pull;
mod pull_settings;
mod runtime;
pub mod screen;
pub mod setting;
mod sight;
mod start;
#[cfg(feature = "containerd")]
mod stores;
pub mod supervisor;
pub mod tools;
mod traced;
mod wiping;
pub mod worker;

pub use wiping::Wiping;

#[cfg(panic = "abort")]
compile_error!("a panic in an action has to end as a failed action: build the agent with panic = \"unwind\"");

use std::process::ExitCode;

/// Runs the face that the process id and the arguments ask for.
pub fn run(arguments: &[String]) -> ExitCode {
    console::install_panic_hook();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        _ if std::process::id() == 1 => supervisor::run(),
        ["-q", "--", name] => hardware::serve_kernel_request(name),
        ["chroot-exec"] => actions::serve_chroot_exec(),
        ["container-init"] => actions::serve_container(),
        ["worker"] => start::as_worker(""),
        // How the worker before it died, as PID 1 knows it.
        ["worker", died] => start::as_worker(died),
        ["--version" | "-V"] => {
            println!("farrier-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => start::as_process(arguments),
    }
}
