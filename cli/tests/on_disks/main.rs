//! How-to pages that write disks, typed into a shell: a real server, the real agent, loop devices in place of a machine's disk.
//!
//! Has a `main` of its own: this program is the agent, too, as the command of an action is run by the agent's binary.
#![allow(clippy::unwrap_used, dead_code, reason = "tests; each uses its part")]

mod disk_images;
mod log_in;
#[path = "../pages/page.rs"]
mod page;
mod system;
#[path = "../pages/world.rs"]
mod world;

use std::path::Path;
use std::process::ExitCode;

use world::World;

/// Its name and what it does.
type Test = (&'static str, fn(&World));

const TESTS: [Test; 2] = [
    (
        "a_cloud_image_and_a_golden_image_are_written",
        disk_images::a_cloud_image_and_a_golden_image_are_written,
    ),
    (
        "somebody_can_log_in_with_cloud_init_and_without",
        log_in::somebody_can_log_in_with_cloud_init_and_without,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some("chroot-exec" | "--server") = arguments.first().map(String::as_str) {
        return agent::run(&arguments);
    }
    // As the tests' own harness takes names.
    let filter = arguments.iter().find(|word| !word.starts_with('-'));
    for (name, test) in TESTS {
        if arguments.iter().any(|word| word == "--list") {
            println!("{name}: test");
        } else if filter.is_none_or(|filter| name.contains(filter.as_str())) {
            // A panic ends the program, and with it the tests.
            world::in_a_world(test);
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// The record of the machine that the agent is; it has its own system, so that no token of a boot is asked for.
const RECORD: &str = "\
machine: node1
mac: 52:54:00:77:00:0b
address: 10.77.0.11/24
gateway: 10.77.0.1
dns: [10.77.0.1, 9.9.9.9]
netboot: never
";

/// A server, and `node1` with its record.
fn begin(world: &World) {
    world.network(&[]);
    world.server("");
    world.writes("node1.yaml", RECORD);
    world.types("farrier machine apply -f node1.yaml");
}

/// The machine boots: its agent attaches, and says that it is another boot than before.
fn boots(world: &World) {
    let agent = std::env::current_exe().unwrap();
    let agent = agent.display();
    world.types(&format!(
        "cat /proc/sys/kernel/random/uuid > /run/boot_id
         umount /proc/sys/kernel/random/boot_id 2> /dev/null || true
         mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
         rm -rf /run/state; mkdir /run/state
         {agent} --server 10.77.0.1:42113 --mac 52:54:00:77:00:0b --state-dir /run/state > agent.log 2>&1 &
         echo $! > /run/agent.pid"
    ));
    world.until("farrier machine list -o json", |said| {
        said.contains("\"attached\"")
    });
}

/// A file as a disk, detached when it goes out of scope.
struct LoopDisk {
    device: String,
}

impl LoopDisk {
    fn of(world: &World, file: &Path) -> Self {
        let device = world.types(&format!("losetup --find --show --partscan {}", file.display()));
        Self {
            device: device.trim().to_owned(),
        }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup")
            .args(["--detach", &self.device])
            .status();
    }
}
