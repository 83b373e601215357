//! Starts of an image in a virtual machine, beside `crun` and `runc`: crun wants cgroup v2, which the machine that builds may not have.
//!
//! It is emulated (TCG) wherever it runs, so that its figures can be compared. The guest has the lab's kernel and a root of its own with what this host has installed; it prints the times on its serial line.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{make, remove};
use crate::Outcome;
use crate::measure::{median, output};

/// Under TCG a start of crun takes some 0.3 s; the kernel boots in 2 s.
const SECONDS_OF_A_START: u64 = 10;
const SECONDS_OF_A_BOOT: u64 = 120;
const PEERS: [&str; 2] = ["crun", "runc"];

/// What is run in the guest, and what it is run from.
pub(super) struct Guest<'a> {
    pub(super) start_image: &'a Path,
    pub(super) agent: &'a Path,
    /// A boot image's folder: its kernel and that kernel's modules.
    pub(super) boot: &'a Path,
    /// A folder with `config.json` and `rootfs`.
    pub(super) bundle: &'a Path,
    pub(super) starts: usize,
}

/// Boots it, and prints medians and ratios.
pub(super) fn run(folder: &Path, guest: &Guest) -> Outcome<()> {
    let folder = folder.join("guest");
    remove(&folder)?;
    let initramfs = initramfs(&folder, guest)?;
    let said = boot(guest, &initramfs)?;
    let times = |name: &str| times(&said, name, guest.starts);
    let own = median(times("farrier")?);
    println!(
        "\nin a virtual machine with cgroup v2, medians of {} starts in turn",
        guest.starts
    );
    println!(
        "{:<24} {:>8} {:>16}",
        "start to first line", "ms", "farrier's ratio"
    );
    println!("{:<24} {:>8.1}", "farrier", own.as_secs_f64() * 1e3);
    for name in PEERS {
        let peer = median(times(name)?);
        println!(
            "{:<24} {:>8.1} {:>16.2}",
            format!("{name} run"),
            peer.as_secs_f64() * 1e3,
            own.as_secs_f64() / peer.as_secs_f64()
        );
    }
    Ok(())
}

/// What init says of one of them: a line `NAME: MICROSECONDS …` for each start.
fn times(said: &str, name: &str, starts: usize) -> Outcome<Vec<Duration>> {
    let times: Vec<_> = said
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(": "))
        .filter_map(|rest| rest.split(' ').next()?.parse().ok())
        .map(Duration::from_micros)
        .collect();
    match times.len() == starts {
        true => Ok(times),
        false => Err(format!(
            "the guest told {} of {starts} starts of {name}; it said:\n{said}",
            times.len()
        )),
    }
}

fn boot(guest: &Guest, initramfs: &Path) -> Outcome<String> {
    let seconds = SECONDS_OF_A_BOOT + SECONDS_OF_A_START * (guest.starts * 3) as u64;
    output(
        Command::new("timeout")
            .arg(seconds.to_string())
            .arg("qemu-system-x86_64")
            .args(["-machine", "q35,accel=tcg", "-cpu", "max"])
            .args([
                "-smp",
                "2",
                "-m",
                "1024",
                "-nodefaults",
                "-no-reboot",
                "-display",
                "none",
            ])
            .args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1"])
            .arg("-kernel")
            .arg(guest.boot.join("vmlinuz"))
            .arg("-initrd")
            .arg(initramfs)
            .stdin(Stdio::null()),
    )
}

/// A root that copies itself to a tmpfs first: `pivot_root` is not for an initramfs.
fn initramfs(folder: &Path, guest: &Guest) -> Outcome<PathBuf> {
    let tree = folder.join("tree");
    let root = tree.join("root");
    for name in ["bin", "proc", "sys", "dev", "tmp", "run"] {
        make(&root.join(name))?;
    }
    make(&tree.join("new"))?;
    for program in ["/bin/busybox", "crun", "runc"] {
        install(&root, Path::new(program))?;
    }
    for program in [guest.start_image, guest.agent] {
        install(&root, program)?;
    }
    output(
        Command::new("cp")
            .arg("-a")
            .arg(guest.bundle)
            .arg(root.join("bundle")),
    )?;
    overlay(guest.boot, folder, &root)?;
    script(
        &tree.join("init"),
        "#!/root/bin/busybox sh\n\
         b=/root/bin/busybox\n\
         $b mount -t tmpfs -o size=512m,mode=755 tmpfs /new\n\
         $b cp -a /root/. /new\n\
         exec $b switch_root /new /run.sh\n",
    )?;
    script(&root.join("run.sh"), &measures(guest.starts))?;
    let initramfs = folder.join("initramfs.img");
    let pack = format!(
        "cd '{}' && find . | cpio --quiet -o -H newc -R 0:0 > '{}'",
        tree.display(),
        initramfs.display()
    );
    output(Command::new("sh").args(["-c", &pack]))?;
    Ok(initramfs)
}

/// Init of the guest. The console's own lines may come between: each line of a figure stands alone.
fn measures(starts: usize) -> String {
    let peers: String = PEERS
        .iter()
        .map(|name| {
            format!(
                "echo \"{name}: $(start_image --peer /bin/{name} run --bundle /bundle {name}-bench 2>&1)\"\n"
            )
        })
        .collect();
    format!(
        "#!/bin/busybox sh\n\
         export PATH=/bin\n\
         /bin/busybox --install -s /bin\n\
         mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         insmod /overlay.ko\n\
         i=0; while [ $i -lt {starts} ]; do i=$((i + 1))\n\
         echo \"farrier: $(start_image /bin/farrier-agent /bundle/rootfs 1 /bin/busybox echo started 2>&1)\"\n\
         {peers}\
         done\n\
         reboot -f\n"
    )
}

/// A program of this host, by path or by name, with the libraries that it links.
fn install(root: &Path, program: &Path) -> Outcome<()> {
    let found = match program.is_absolute() {
        true => program.to_owned(),
        false => {
            let words = format!("command -v {}", program.display());
            PathBuf::from(output(Command::new("sh").args(["-c", &words]))?)
        }
    };
    let name = found.file_name().ok_or("a program has no name")?;
    copy(&found, &root.join("bin").join(name))?;
    // It fails for a program that links nothing.
    let linked = output(Command::new("ldd").arg(&found).stderr(Stdio::null())).unwrap_or_default();
    let libraries: BTreeSet<&str> = linked
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .collect();
    for library in libraries {
        copy(Path::new(library), &root.join(library.trim_start_matches('/')))?;
    }
    Ok(())
}

/// Farrier's root of an action is an overlay; the lab's kernel has that as a module.
fn overlay(boot: &Path, folder: &Path, root: &Path) -> Outcome<()> {
    let modules = folder.join("modules");
    make(&modules)?;
    let unpack = format!(
        "cd '{}' && cpio --quiet -i -d '*/overlayfs/*' < '{}' && find . -name 'overlay.ko.xz' -exec xz -dc {{}} + > '{}'",
        modules.display(),
        boot.join("modules.cpio").display(),
        root.join("overlay.ko").display()
    );
    output(Command::new("sh").args(["-c", &unpack])).map(|_| ())
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    if let Some(parent) = to.parent() {
        make(parent)?;
    }
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|error| format!("copying {}: {error}", from.display()))
}

fn script(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|error| format!("writing {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_that_is_missing_is_an_error_with_what_the_guest_said() {
        let said = "[    1.2] x\r\nfarrier: 4100 9000\r\ncrun: 90000\r\nfarrier: 3900 8000\r\ncrun: start_image: no\r\n";
        let micros = |times: Vec<Duration>| times.iter().map(Duration::as_micros).collect::<Vec<_>>();
        assert_eq!(times(said, "farrier", 2).map(micros), Ok(vec![4100, 3900]));
        let error = times(said, "crun", 2).unwrap_err();
        assert!(
            error.starts_with("the guest told 1 of 2 starts of crun") && error.contains("start_image: no"),
            "{error}"
        );
    }
}
