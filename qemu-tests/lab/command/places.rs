//! Where the lab looks for what was not named: beside the `farrier` binary, in /usr/lib/farrier, in the cache.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use image::Profile;
use image::apt::Suite;

use super::PathOptions;

/// Where a Debian package of Farrier puts its files.
const INSTALLED: &str = "/usr/lib/farrier";

/// The running `farrier` binary.
pub(super) fn farrier() -> anyhow::Result<PathBuf> {
    env::current_exe().context("finding the farrier binary")
}

/// The static agent.
pub(super) fn agent(options: &PathOptions) -> anyhow::Result<PathBuf> {
    if let Some(named) = &options.agent {
        ensure!(
            named.is_file(),
            "there is no agent at {} (--agent)",
            named.display()
        );
        return absolute(named);
    }
    let beside = farrier()?.with_file_name("farrier-agent");
    let installed = Path::new(INSTALLED).join("farrier-agent");
    [&beside, &installed].into_iter().find(|path| path.is_file()).cloned().with_context(|| {
        format!(
            "no farrier-agent found: looked for {} and {}; name it with --agent, or run `cargo xtask lab`, which builds it",
            beside.display(),
            installed.display()
        )
    })
}

/// A boot image directory that need not be built: what was installed with Farrier is that of virtual machines.
pub(super) fn boot_dir(options: &PathOptions, profile: Profile) -> anyhow::Result<Option<PathBuf>> {
    if let Some(named) = &options.boot_dir {
        ensure!(
            named.join("manifest.json").is_file(),
            "{} is no boot image directory: it has no manifest.json (`farrier image build` makes one)",
            named.display()
        );
        return absolute(named).map(Some);
    }
    let installed = Path::new(INSTALLED).join("boot");
    let fits = options.agent.is_none() && profile == Profile::default() && options.suite == Suite::default();
    Ok((fits && installed.join("manifest.json").is_file()).then_some(installed))
}

/// Where images are built and kept.
pub(super) fn work_dir(options: &PathOptions) -> anyhow::Result<PathBuf> {
    let named = options.work_dir.clone();
    let cache = || env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let path = named.or_else(|| Some(cache().or_else(home)?.join("farrier")));
    let path = path.unwrap_or_else(|| PathBuf::from("/var/cache/farrier"));
    std::fs::create_dir_all(&path).with_context(|| format!("making {} (--work-dir)", path.display()))?;
    absolute(&path)
}

pub(super) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("resolving {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_that_is_not_there_is_an_error_that_names_the_flag() {
        let options = PathOptions {
            agent: Some("/no/agent".into()),
            ..Default::default()
        };
        assert_eq!(
            agent(&options).unwrap_err().to_string(),
            "there is no agent at /no/agent (--agent)"
        );
        let options = PathOptions {
            boot_dir: Some("/proc".into()),
            ..Default::default()
        };
        assert!(
            boot_dir(&options, Profile::Lab)
                .unwrap_err()
                .to_string()
                .contains("no manifest.json")
        );
    }
}
