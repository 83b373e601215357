//! The files of the Debian system: bootstrapped into a tar archive by mmdebstrap, made an ext4 filesystem by mke2fs.
//!
//! As root this runs plainly; without root both run in user namespaces, which mmdebstrap sets up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{KEYRING, MIRROR_VARIABLE, Mirror, Suite, host_acquire_settings};
use crate::command;
use crate::debian_disk::DiskImageError;
use crate::debian_disk::recipe::{
    EPOCH_S, FIRST_FILES, LAST_COMMANDS, PATH_RULES, ROOT_LABEL, ROOT_UUID, lacking, last_files, packages,
};
use crate::files::{self, About, FileError};
use crate::profile::Profile;

/// Installs the packages of the recipe and returns the tar archive of the system.
///
/// # Errors
/// [`DiskImageError`]: mmdebstrap's own words, and [`DiskImageError::Unusable`] for a system that nobody could log in to.
pub(super) fn bootstrap(
    mirror: &Mirror,
    suite: &Suite,
    profile: Profile,
    work: &Path,
) -> Result<PathBuf, DiskImageError> {
    let tar = work.join("tree.tar");
    let first = work.join("first.sh");
    write_script(
        &first,
        &script_of(
            FIRST_FILES
                .iter()
                .map(|(path, text)| (*path, (*text).to_string())),
            "",
        ),
    )?;
    let last = work.join("last.sh");
    write_script(&last, &script_of(last_files(suite), LAST_COMMANDS))?;
    let apt = work.join("apt.conf");
    let settings = host_acquire_settings();
    files::write(
        &apt,
        format!("{settings}Acquire::Languages \"none\";\nAPT::Install-Recommends \"false\";\n"),
    )?;

    let mut command = Command::new("mmdebstrap");
    command.env("SOURCE_DATE_EPOCH", EPOCH_S.to_string());
    command.arg(if is_root() {
        "--mode=root"
    } else {
        "--mode=unshare"
    });
    command.args([
        "--quiet",
        "--variant=apt",
        "--format=tar",
        "--architectures=amd64",
    ]);
    command.arg(format!("--include={}", packages(profile).join(",")));
    command.arg(format!("--aptopt={}", apt.display()));
    command.args(PATH_RULES.iter().map(|rule| format!("--dpkgopt={rule}")));
    command
        .arg(format!("--setup-hook={}", first.display()))
        .arg(format!("--customize-hook={}", last.display()));
    command
        .arg(suite.release())
        .arg(&tar)
        .args(sources(mirror, suite.release()));
    command::run(&mut command, "mmdebstrap").map_err(|source| DiskImageError::Command {
        action: format!(
            "install the packages of Debian {suite} from {} (another mirror: --mirror URL or {MIRROR_VARIABLE})",
            mirror.archive
        ),
        source,
    })?;
    let files = files_of(&tar).about("read", &tar)?;
    let lacking = lacking(files.iter().map(String::as_str));
    if lacking.is_empty() {
        return Ok(tar);
    }
    Err(DiskImageError::Unusable {
        suite: suite.clone(),
        lacking: lacking.join(", "),
    })
}

/// The paths of an archive, relative to its root.
fn files_of(tar: &Path) -> io::Result<Vec<String>> {
    let mut archive = tar::Archive::new(fs::File::open(tar)?);
    let mut files = Vec::new();
    // Contents are skipped by seeking: they are half a gigabyte.
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        files.push(path.trim_start_matches("./").trim_start_matches('/').to_owned());
    }
    Ok(files)
}

/// Turns the tar archive into an ext4 filesystem with room to spare, and returns its file.
pub(super) fn filesystem(tar: &Path, work: &Path) -> Result<PathBuf, DiskImageError> {
    let image = work.join("root.ext4");
    files::write(&work.join("mke2fs.conf"), MKE2FS_CONF)?;
    let content = fs::metadata(tar).about("look at", tar)?.len();
    let bytes = (content + content / 4 + SPARE_BYTES).next_multiple_of(4 << 20);
    let mut command = if is_root() {
        Command::new("sh")
    } else {
        Command::new("mmdebstrap")
    };
    if !is_root() {
        command.args(["--unshare-helper", "sh"]);
    }
    command
        .arg("-euc")
        .arg(FILESYSTEM_SCRIPT)
        .arg("filesystem")
        .arg(work);
    command
        .arg(ROOT_LABEL)
        .arg(ROOT_UUID)
        .arg(format!("{}k", bytes / 1024));
    command
        .env("MKE2FS_CONFIG", work.join("mke2fs.conf"))
        .env("E2FSPROGS_FAKE_TIME", EPOCH_S.to_string());
    command::run(&mut command, "e2fsprogs").map_err(|source| DiskImageError::Command {
        action: "make the root filesystem".to_string(),
        source,
    })?;
    Ok(image)
}

fn sources(mirror: &Mirror, release: &str) -> [String; 3] {
    let line = |url: &str, suite: &str| format!("deb [signed-by={KEYRING}] {url} {suite} main");
    [
        line(&mirror.archive, release),
        line(&mirror.archive, &format!("{release}-updates")),
        line(&mirror.security, &format!("{release}-security")),
    ]
}

/// A shell script that writes the files below `$1` and then runs the commands.
fn script_of<'a>(files: impl IntoIterator<Item = (&'a str, String)>, commands: &str) -> String {
    let mut script = String::from("#!/bin/sh\nset -eu\n");
    for (path, text) in files {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        script += &format!("mkdir -p \"$1/{directory}\"\nrm -f \"$1/{path}\"\n");
        script += &format!("cat > \"$1/{path}\" <<'END OF FILE'\n{text}END OF FILE\n");
    }
    script + commands
}

fn write_script(path: &Path, script: &str) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;

    files::write(path, script)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).about("make executable", path)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Room for logs and packages until the filesystem has grown to the size of its disk.
const SPARE_BYTES: u64 = 192 << 20;
/// `$1` directory, `$2` label, `$3` UUID, `$4` size.
/// Device nodes stay out: only root can make them, and the kernel's own /dev is mounted over them.
const FILESYSTEM_SCRIPT: &str = r#"
cd "$1"
mkdir tree
tar --anchored --exclude='./dev/?*' --exclude='dev/?*' --extract --file=tree.tar --directory=tree --numeric-owner \
    --same-permissions --xattrs --xattrs-include='*'
mke2fs -q -F -t ext4 -L "$2" -U "$3" -m 1 -J size=16 -d tree \
    -E "hash_seed=$3,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0" root.ext4 "$4"
chmod 0666 root.ext4
rm -rf tree tree.tar
"#;
/// The host's own file differs from release to release, and newer ones ask for what the GRUB of the release may not read.
const MKE2FS_CONF: &str = "[defaults]\n\
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr\n\
    default_mntopts = acl,user_xattr\nenable_periodic_fsck = 0\nblocksize = 4096\ninode_size = 256\ninode_ratio = 16384\n\
    [fs_types]\next4 = {\n\
    features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize\n}\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_writes_the_files_and_runs_the_commands() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let script = directory.path().join("script.sh");
        let files = [
            ("etc/a file", "$one 'two'\n".to_string()),
            ("top", "x\n".to_string()),
        ];
        write_script(&script, &script_of(files, "touch \"$1/ran\"\n")).unwrap();
        assert!(Command::new(&script).arg(&root).status().unwrap().success());
        assert_eq!(
            fs::read_to_string(root.join("etc/a file")).unwrap(),
            "$one 'two'\n"
        );
        assert!(root.join("top").exists() && root.join("ran").exists());
    }

    #[test]
    fn filesystem_holds_the_archive() {
        let work = tempfile::tempdir().unwrap();
        let mut archive = tar::Builder::new(fs::File::create(work.path().join("tree.tar")).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(6);
        header.set_mode(0o640);
        archive
            .append_data(&mut header, "etc/fstab", &b"words\n"[..])
            .unwrap();
        let mut folder = tar::Header::new_gnu();
        folder.set_entry_type(tar::EntryType::Directory);
        folder.set_size(0);
        folder.set_mode(0o755);
        archive.append_data(&mut folder, "./dev/", &b""[..]).unwrap();
        let mut device = tar::Header::new_gnu();
        device.set_entry_type(tar::EntryType::Char);
        device.set_size(0);
        device.set_mode(0o600);
        device.set_device_major(5).unwrap();
        device.set_device_minor(1).unwrap();
        archive
            .append_data(&mut device, "./dev/console", &b""[..])
            .unwrap();
        archive.into_inner().unwrap();
        let listed = files_of(&work.path().join("tree.tar")).unwrap();
        assert_eq!(listed, ["etc/fstab", "dev/", "dev/console"]);
        if !is_root() {
            return println!("not root: mmdebstrap's user namespaces are tried by the lab");
        }
        let image = filesystem(&work.path().join("tree.tar"), work.path()).unwrap();
        let debugfs = |request| {
            let output = Command::new("/usr/sbin/debugfs")
                .args(["-R", request])
                .arg(&image)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert_eq!(debugfs("cat /etc/fstab"), "words\n");
        assert!(debugfs("ls -p /").contains("/dev/"), "{}", debugfs("ls -p /"));
        assert!(
            !debugfs("ls -p /dev").contains("console"),
            "{}",
            debugfs("ls -p /dev")
        );
    }
}
