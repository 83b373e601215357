//! Who an image's user is, by the files in its snapshot: looked up with the snapshot as the root.
//!
//! A thread of its own does it, with a root, a working folder and mounts of its own: links in the image lead nowhere else, and
//! nothing is mounted where anybody sees it.

use std::io;
use std::path::{Path, PathBuf};

use container::user::User;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};

use crate::api::types::Mount;

const NONE: Option<&str> = None;

/// Whom `spec` means in the image below a snapshot that nobody has written to yet. Blocks.
///
/// # Errors
/// The snapshot cannot be seen, or the image does not know the user; in words.
pub(crate) fn find_user(mounts: &[Mount], spec: &str) -> io::Result<User> {
    let layers = layers(mounts)?;
    let spec = spec.to_owned();
    let looked_up = std::thread::Builder::new()
        .name("accounts".to_owned())
        .spawn(move || {
            enter(&layers)?;
            container::accounts::find_user(&spec)
        })?
        .join();
    looked_up.unwrap_or_else(|_| Err(io::Error::other("looking a user up in the image failed")))
}

/// The folders that a snapshot is made of, the topmost first. Pure.
fn layers(mounts: &[Mount]) -> io::Result<Vec<PathBuf>> {
    let folders = match mounts {
        [mount] if mount.r#type == "bind" => vec![PathBuf::from(&mount.source)],
        [mount] if mount.r#type == "overlay" => {
            let lower = mount
                .options
                .iter()
                .find_map(|option| option.strip_prefix("lowerdir="));
            lower.unwrap_or_default().split(':').map(PathBuf::from).collect()
        }
        _ => Vec::new(),
    };
    match folders.iter().all(|folder| folder.is_absolute()) && !folders.is_empty() {
        true => Ok(folders),
        false => Err(io::Error::other(format!(
            "containerd mounts snapshots in a way that is not known here: {mounts:?}"
        ))),
    }
}

/// Makes the layers this thread's root, and nobody else's.
fn enter(layers: &[PathBuf]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    if let [only] = layers {
        chroot(only)?;
    } else {
        let below = common(layers);
        // All of them have to fit into one page: from the folder that they have in common on.
        chdir(&below)?;
        let short: Vec<String> = layers
            .iter()
            .map(|layer| layer.strip_prefix(&below).unwrap_or(layer).display().to_string())
            .collect();
        let options = format!("lowerdir={}", short.join(":"));
        mount(
            Some("overlay"),
            &below,
            Some("overlay"),
            MsFlags::MS_RDONLY,
            Some(options.as_str()),
        )?;
        chroot(&below)?;
    }
    chdir("/")?;
    Ok(())
}

/// The folder that all of them are in. Pure.
fn common(layers: &[PathBuf]) -> PathBuf {
    let mut common = layers
        .first()
        .and_then(|layer| layer.parent())
        .unwrap_or(Path::new("/"))
        .to_owned();
    while !layers.iter().all(|layer| layer.starts_with(&common)) {
        if !common.pop() {
            break;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(lower: &str) -> Vec<Mount> {
        let options = [
            "index=off",
            "workdir=/r/9/work",
            "upperdir=/r/9/fs",
            &format!("lowerdir={lower}"),
        ];
        vec![Mount {
            r#type: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: options.map(str::to_owned).to_vec(),
        }]
    }

    #[test]
    fn a_snapshot_is_the_layers_below_it() {
        let found = layers(&overlay("/r/2/fs:/r/1/fs")).expect("layers");
        assert_eq!(found, [PathBuf::from("/r/2/fs"), PathBuf::from("/r/1/fs")]);
        assert_eq!(common(&found), PathBuf::from("/r"));
        assert!(layers(&overlay("relative")).is_err());
        assert!(layers(&[]).is_err());
    }
}
