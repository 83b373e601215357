//! What a build has before it: which packages are to be fetched, how many bytes they are, and how long it will take.

use crate::apt::{AptError, Archive};
use crate::boot_image::{BuildError, Options};
use crate::grub::Grub;
use crate::kernel;
use crate::profile::{Profile, Profiles};
use crate::progress::{Progress, Report, step};
use crate::tools;

/// Fetches all packages that the build will ask for, after it has said how long all of it will take.
///
/// # Errors
/// [`BuildError::Apt`] for a package that is not to be had; firmware that the suite does not have is passed over, and said later.
pub(crate) fn fetch_all(
    options: &Options,
    archive: &mut Archive,
    report: &mut Report<'_>,
) -> Result<(), BuildError> {
    let missing = missing(options, archive, report)?;
    let bytes = missing.iter().map(|(_, bytes)| bytes).sum();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    report(Progress::Noted {
        text: &in_words(bytes, options.profiles, cores),
    });
    if missing.is_empty() {
        return Ok(());
    }
    step(report, "packages", Some(bytes), |report| {
        missing
            .iter()
            .try_for_each(|(name, _)| archive.package(name, report).map(|_| ()))
    })?;
    Ok(())
}

/// The packages that have to be fetched, each with its size.
fn missing(
    options: &Options,
    archive: &mut Archive,
    report: &mut Report<'_>,
) -> Result<Vec<(String, u64)>, AptError> {
    let mut missing = Vec::new();
    if options.kernel.is_none() {
        let asked = options.kernel_package();
        let mut seen = vec![asked.to_string()];
        let mut open = seen.clone();
        while let Some(name) = open.pop() {
            let (package, kept) = archive.look(&name, report)?;
            for part in kernel::parts_of(&package, kernel::is_exact(asked)) {
                if !seen.contains(&part) {
                    seen.push(part.clone());
                    open.push(part);
                }
            }
            if !kept {
                missing.push((name, package.bytes));
            }
        }
    }
    for name in options.firmware().packages() {
        match archive.look(name, report) {
            Err(AptError::NoPackage { .. }) | Ok((_, true)) => {}
            Ok((package, false)) => missing.push((name.to_string(), package.bytes)),
            Err(error) => return Err(error),
        }
    }
    for name in ["ipxe"].into_iter().chain(Grub::package_names()) {
        if let (package, false) = archive.look(name, report)? {
            missing.push((name.to_string(), package.bytes));
        }
    }
    for wanted in tools::Wanted::of_lists(options.profiles.containerd) {
        for (name, package, kept) in wanted.packages(archive, report)? {
            // GRUB's are here already.
            if !kept && missing.iter().all(|(known, _)| *known != name) {
                missing.push((name, package.bytes));
            }
        }
    }
    Ok(missing)
}

/// What is said before the work begins.
fn in_words(fetch_bytes: u64, profiles: Profiles, cores: usize) -> String {
    let cores = cores.clamp(1, MOST_CORES) as u64;
    let work_s = match profiles.machines {
        Profile::Lab => LAB_CORE_S,
        Profile::Server => SERVER_CORE_S,
    };
    let work_s = work_s + if profiles.containerd { CONTAINERD_CORE_S } else { 0 };
    let work_s = work_s.div_ceil(cores);
    if fetch_bytes == 0 {
        return format!(
            "all packages are kept here already; the rest takes about {}",
            time(work_s)
        );
    }
    let fetch_s = fetch_bytes / FETCH_BYTES_PER_S + 1;
    format!(
        "{} MB of packages are fetched first, {} at {} MB/s; all of it takes about {}",
        fetch_bytes.div_ceil(1_000_000),
        time(fetch_s),
        FETCH_BYTES_PER_S / 1_000_000,
        time(fetch_s + work_s)
    )
}

fn time(seconds: u64) -> String {
    match seconds {
        0..=90 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    }
}

/// Measured: what one core of an AMD EPYC takes to unpack, choose and compress.
const LAB_CORE_S: u64 = 30;
const SERVER_CORE_S: u64 = 120;
const CONTAINERD_CORE_S: u64 = 60;
/// Compression does not use more at these sizes.
const MOST_CORES: usize = 4;
const FETCH_BYTES_PER_S: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_with_what_is_to_be_fetched_and_shrinks_with_cores() {
        assert_eq!(
            in_words(0, Profile::Lab.into(), 2),
            "all packages are kept here already; the rest takes about 15 s"
        );
        assert_eq!(
            in_words(120_400_000, Profile::Server.into(), 2),
            "121 MB of packages are fetched first, 13 s at 10 MB/s; all of it takes about 73 s"
        );
        assert!(in_words(120_400_000, Profile::Server.into(), 1).ends_with("about 3 min"));
        assert!(in_words(0, Profile::Server.into(), 1000).ends_with("about 30 s"));
        assert!(in_words(0, Profile::Server.into(), 0).ends_with("about 2 min"));
    }
}
