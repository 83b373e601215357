//! Programs that the boot image has apart, in archives (`tools.img`: those that actions run; `containerd.img`): fetched when one is first
//! needed, held against the digest that the base of the boot image has of the archive, and mounted at `/usr`, where nothing else is. A
//! second archive is unpacked beside the first.
//!
//! What lies below `/usr` then is a Debian: programs in `sbin`, which `PATH` names, and the libraries that they link.

mod unpack;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drivers::{CONTAINERD_FILE, Seals, TOOLS_FILE};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::sync::Mutex;

use crate::boot_server::{checked, client, fetch, of_another_image};

/// Where the archive is mounted.
const USR: &str = "/usr";
/// It is put together here first: nobody sees half of it. The supervisor has mounted a tmpfs on /run.
const FRESH: &str = "/run/farrier-agent/tools";
/// The name of its filesystem in /proc/self/mounts.
const SOURCE: &str = "farrier-tools";
/// What is left for everything else on a machine when the programs are unpacked.
const SPARE_BYTES: u64 = 32 << 20;
/// A file takes whole pages.
const PAGE_BYTES: u64 = 4096;

/// The programs of this boot's image. Clones share what was fetched.
#[derive(Clone, Debug, Default)]
pub struct Tools(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// `farrier.http`.
    http: Option<String>,
    archives: Vec<Archive>,
    /// Which archives are there, by their places in the list.
    mounted: Mutex<Vec<usize>>,
}

#[derive(Debug)]
struct Archive {
    /// As the boot server has it.
    file: &'static str,
    sealed: drivers::Tools,
}

/// Why a program cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolsError {
    /// The archive did not come.
    #[error("{program} is not here: {why}")]
    Away { program: String, why: String },
    /// It came, and is another one.
    #[error("{program} is not used: {why}")]
    Differs { program: String, why: String },
    /// The machine is too small.
    #[error(
        "{program} needs {} MiB of memory for the programs of the boot image, and this machine has {} MiB left: give it more memory, or \
         run an image that has the program", need_bytes.div_ceil(1 << 20), have_bytes >> 20
    )]
    NoMemory {
        program: String,
        need_bytes: u64,
        have_bytes: u64,
    },
    /// It is whole, and could not be unpacked or mounted.
    #[error("{program} is not here: {file} could not be unpacked: {why}")]
    NotUnpacked {
        program: String,
        file: &'static str,
        why: String,
    },
}

impl ToolsError {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            ToolsError::Away { .. } => "ToolsAway",
            ToolsError::Differs { .. } => "ToolsDiffer",
            ToolsError::NoMemory { .. } => "ToolsNoMemory",
            ToolsError::NotUnpacked { .. } => "ToolsNotUnpacked",
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of an archive are there, of so many.
    Fetched {
        file: &'static str,
        bytes: u64,
        of_bytes: u64,
    },
    /// All of it are mounted, and take so much memory.
    Mounted { file: &'static str, bytes: u64 },
}

impl Tools {
    /// Those that the base of the running boot image names; none where it names none.
    pub fn of_this_boot(seals: Seals, http: Option<String>) -> Tools {
        let archive = |file, sealed: Option<drivers::Tools>| sealed.map(|sealed| Archive { file, sealed });
        let archives: Vec<Archive> = [
            archive(TOOLS_FILE, seals.tools),
            archive(CONTAINERD_FILE, seals.containerd),
        ]
        .into_iter()
        .flatten()
        .collect();
        // A worker before this one may have mounted them.
        let mounted = match is_mounted() {
            true => (0..archives.len())
                .filter(|&place| {
                    archives
                        .get(place)
                        .is_some_and(|archive| archive.is_below(Path::new(USR)))
                })
                .collect(),
            false => Vec::new(),
        };
        Tools(Arc::new(Inner {
            http,
            archives,
            mounted: Mutex::new(mounted),
        }))
    }

    /// Whether the boot image has a program of this name.
    pub fn has(&self, program: &str) -> bool {
        self.0.place_of(program).is_some()
    }

    /// Sees to it that `program` can be run by its name. At once where the boot image has no such program, and when a program of the same
    /// archive was asked for before: all of an archive come together. Cancel safe: what was half fetched is fetched again.
    ///
    /// # Errors
    /// [`ToolsError`]; nothing of the archive is there then.
    pub async fn needed(
        &self,
        program: &str,
        report: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(), ToolsError> {
        let inner = &self.0;
        let Some((place, archive)) = inner.place_of(program) else {
            return Ok(());
        };
        let mut mounted = inner.mounted.lock().await;
        if mounted.contains(&place) {
            return Ok(());
        }
        let packed = inner.fetched(archive, program, report).await?;
        let room = Room {
            own_bytes: archive.room_bytes(),
            others_bytes: mounted
                .iter()
                .filter_map(|&place| inner.archives.get(place))
                .map(Archive::room_bytes)
                .sum(),
        };
        let unpacked = tokio::task::spawn_blocking(move || mount_all(&packed, room));
        let unpacked = unpacked.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        unpacked.map_err(|e| ToolsError::NotUnpacked {
            program: program.to_owned(),
            file: archive.file,
            why: e.to_string(),
        })?;
        mounted.push(place);
        report(Step::Mounted {
            file: archive.file,
            bytes: archive.sealed.unpacked_bytes,
        });
        Ok(())
    }
}

impl Archive {
    /// What the unpacked files may take.
    fn room_bytes(&self) -> u64 {
        // Some hundred files and folders, each with the end of a page.
        self.sealed.unpacked_bytes + 256 * PAGE_BYTES
    }

    /// Whether it was unpacked there.
    fn is_below(&self, usr: &Path) -> bool {
        let programs = &self.sealed.programs;
        programs.iter().all(|name| usr.join("sbin").join(name).exists())
    }
}

impl Inner {
    /// The archive that has a program, and its place in the list.
    fn place_of(&self, program: &str) -> Option<(usize, &Archive)> {
        let has = |archive: &Archive| archive.sealed.programs.iter().any(|name| name == program);
        self.archives.iter().enumerate().find(|(_, archive)| has(archive))
    }

    /// An archive, as the base seals it.
    async fn fetched(
        &self,
        archive: &Archive,
        program: &str,
        report: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Vec<u8>, ToolsError> {
        let away = |why: String| ToolsError::Away {
            program: program.to_owned(),
            why,
        };
        let (seal, file) = (&archive.sealed.seal, archive.file);
        let have_bytes = available_bytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default());
        enough(program, seal.bytes + archive.room_bytes(), have_bytes)?;
        let http = self.http.as_ref().ok_or_else(|| {
            away("the kernel command line has no farrier.http=URL to fetch it from".to_owned())
        })?;
        let url = format!("{}/boot/{file}", http.trim_end_matches('/'));
        let client = client().map_err(away)?;
        let of_bytes = seal.bytes;
        let mut advanced = |bytes| {
            report(Step::Fetched {
                file,
                bytes,
                of_bytes,
            })
        };
        let packed = fetch(&client, &url, None, of_bytes, &mut advanced)
            .await
            .map_err(away)?;
        // Seconds where a processor is emulated: not on the worker's thread.
        let seal = seal.clone();
        let judged = tokio::task::spawn_blocking(move || checked(&packed, &seal).map(|()| packed)).await;
        let judged = judged.unwrap_or_else(|e| Err(e.to_string()));
        judged.map_err(|what| ToolsError::Differs {
            program: program.to_owned(),
            why: of_another_image(&url, &what),
        })
    }
}

/// # Errors
/// [`ToolsError::NoMemory`].
fn enough(program: &str, need_bytes: u64, have_bytes: u64) -> Result<(), ToolsError> {
    let need_bytes = need_bytes.saturating_add(SPARE_BYTES);
    if have_bytes >= need_bytes {
        return Ok(());
    }
    Err(ToolsError::NoMemory {
        program: program.to_owned(),
        need_bytes,
        have_bytes,
    })
}

/// `MemAvailable` of /proc/meminfo; all there may be where it does not say.
fn available_bytes(meminfo: &str) -> u64 {
    let found = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = found.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

/// What archives may take at [`USR`].
#[derive(Clone, Copy, Debug)]
struct Room {
    /// The one that comes.
    own_bytes: u64,
    /// Those that are there.
    others_bytes: u64,
}

const READ_ONLY: MsFlags = MsFlags::MS_RDONLY
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOSUID);

/// Unpacks into a filesystem of its own, and moves that to its place when it is whole; or beside what is there.
fn mount_all(packed: &[u8], room: Room) -> io::Result<()> {
    match room.others_bytes {
        0 => mount_first(packed, room.own_bytes)?,
        _ => unpack_beside(packed, room)?,
    }
    links(Path::new("/"), Path::new(USR))
}

fn mount_first(packed: &[u8], room_bytes: u64) -> io::Result<()> {
    let none: Option<&str> = None;
    let fresh = Path::new(FRESH);
    std::fs::create_dir_all(fresh)?;
    let options = format!("size={room_bytes},mode=755");
    mount(
        Some(SOURCE),
        fresh,
        Some("tmpfs"),
        MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
        Some(options.as_str()),
    )?;
    let moved = unpack::unpack(packed, fresh, room_bytes).and_then(|()| {
        mount(none, fresh, none, MsFlags::MS_REMOUNT | READ_ONLY, none)?;
        Ok(mount(Some(fresh), USR, none, MsFlags::MS_MOVE, none)?)
    });
    if moved.is_err() {
        let _ = umount2(fresh, MntFlags::MNT_DETACH);
    }
    let _ = std::fs::remove_dir(fresh);
    moved
}

/// The filesystem is made larger, and can be written to as long as this takes. What runs out of it goes on.
fn unpack_beside(packed: &[u8], room: Room) -> io::Result<()> {
    let none: Option<&str> = None;
    let size = format!("size={}", room.own_bytes + room.others_bytes);
    let writable = MsFlags::MS_REMOUNT | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(none, USR, none, writable, Some(size.as_str()))?;
    let unpacked = unpack::unpack(packed, Path::new(USR), room.own_bytes);
    mount(none, USR, none, MsFlags::MS_REMOUNT | READ_ONLY, none)?;
    unpacked
}

/// What programs and the kernel name beside `/usr`: the loader, `/sbin`, and what they read in `/etc`. What is there stays.
fn links(root: &Path, usr: &Path) -> io::Result<()> {
    let link = |target: PathBuf, at: PathBuf| match std::os::unix::fs::symlink(target, at) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    for name in ["bin", "lib64", "sbin"] {
        link(Path::new("usr").join(name), root.join(name))?;
    }
    for entry in std::fs::read_dir(usr.join("etc")).into_iter().flatten() {
        let name = entry?.file_name();
        link(Path::new("../usr/etc").join(&name), root.join("etc").join(name))?;
    }
    Ok(())
}

/// As people are told it.
fn what_is_in(file: &str) -> &'static str {
    match file {
        CONTAINERD_FILE => "containerd",
        _ => "the programs",
    }
}

fn is_mounted() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.starts_with(&format!("{SOURCE} {USR} ")))
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: &u64| bytes.div_ceil(1_000_000);
        match self {
            Step::Fetched { file, of_bytes, .. } => {
                write!(
                    formatter,
                    "farrier: fetching {} of the boot image, {} MB",
                    what_is_in(file),
                    megabytes(of_bytes)
                )
            }
            Step::Mounted { file, bytes } => write!(
                formatter,
                "farrier: {} of the boot image {} at {USR}, {} MB of memory",
                what_is_in(file),
                if *file == CONTAINERD_FILE { "is" } else { "are" },
                megabytes(bytes)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use drivers::Seal;
    use sha2::{Digest, Sha256};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers everything with this.
    async fn serve(status: &'static str, body: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
            }
        });
        url
    }

    fn tools(http: Option<String>, content: &[u8]) -> Tools {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let digest = Sha256::digest(content);
        let archive = drivers::Tools {
            seal: Seal {
                bytes: content.len() as u64,
                sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
            unpacked_bytes: 1 << 20,
            programs: vec!["mkfs.xfs".to_owned()],
        };
        let seals = Seals {
            tools: Some(archive),
            ..Seals::default()
        };
        Tools::of_this_boot(seals, http)
    }

    async fn asked(tools: &Tools, program: &str) -> Result<(), ToolsError> {
        tools.needed(program, &mut |_| {}).await
    }

    #[tokio::test]
    async fn what_the_image_has_not_is_not_asked_for() {
        let tools = tools(None, b"archive");
        assert!(tools.has("mkfs.xfs") && !tools.has("mkfs.zfs"));
        assert_eq!(asked(&tools, "mkfs.zfs").await, Ok(()));
        assert_eq!(asked(&Tools::default(), "mkfs.xfs").await, Ok(()));
        let refused = asked(&tools, "mkfs.xfs").await.expect_err("no server");
        assert_eq!(refused.reason(), "ToolsAway");
        assert!(refused.to_string().contains("farrier.http"), "{refused}");
    }

    #[tokio::test]
    async fn an_archive_that_is_not_there_or_another_one_is_refused_with_the_cure() {
        let away = tools(Some(serve("404 Not Found", b"").await), b"archive");
        let refused = asked(&away, "mkfs.xfs").await.expect_err("not there");
        let said = refused.to_string();
        assert_eq!(refused.reason(), "ToolsAway");
        assert!(
            said.contains("/boot/tools.img is not fetched: the server answers 404")
                && said.contains("Start the machine again"),
            "{said}"
        );
        let other = tools(Some(serve("200 OK", b"another").await), b"archive");
        let refused = asked(&other, "mkfs.xfs").await.expect_err("another one");
        let said = refused.to_string();
        assert_eq!(refused.reason(), "ToolsDiffer");
        assert!(
            said.contains("mkfs.xfs is not used:") && said.contains("has the SHA-256"),
            "{said}"
        );
    }

    #[test]
    fn a_machine_that_is_too_small_is_told_what_is_missing() {
        assert_eq!(enough("mdadm", 40 << 20, 72 << 20), Ok(()));
        let said = enough("mdadm", 40 << 20, 71 << 20)
            .expect_err("too small")
            .to_string();
        assert!(
            said.starts_with("mdadm needs 72 MiB of memory") && said.contains("has 71 MiB left"),
            "{said}"
        );
        assert_eq!(
            available_bytes("MemFree: 1 kB\nMemAvailable:     400 kB\n"),
            400 << 10
        );
        assert_eq!(available_bytes(""), u64::MAX);
    }

    #[test]
    fn what_programs_name_beside_usr_leads_there_and_what_is_there_stays() {
        let root = tempfile::tempdir().expect("folder");
        let usr = root.path().join("usr");
        for folder in ["etc", "usr/etc", "usr/lib64", "usr/sbin", "bin"] {
            std::fs::create_dir_all(root.path().join(folder)).expect("folder");
        }
        for (path, text) in [
            ("usr/etc/mke2fs.conf", "theirs"),
            ("usr/lib64/ld", "loader"),
            ("usr/etc/hosts", "theirs"),
            ("etc/hosts", "ours"),
        ] {
            std::fs::write(root.path().join(path), text).expect("written");
        }
        links(root.path(), &usr).expect("linked");
        links(root.path(), &usr).expect("linked again");
        let read = |path: &str| std::fs::read_to_string(root.path().join(path)).expect("read");
        assert_eq!(
            (read("etc/mke2fs.conf"), read("lib64/ld"), read("etc/hosts")),
            ("theirs".into(), "loader".into(), "ours".into())
        );
        assert!(root.path().join("bin").is_dir() && root.path().join("sbin").is_symlink());
    }
}
