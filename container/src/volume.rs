//! Volumes as templates write them, in Docker's bind syntax: `SOURCE:TARGET[:OPTIONS]`. Pure.

use std::path::{Component, Path, PathBuf};

use super::plan::PlanError;

/// Those that change nothing here: SELinux labels, hints for other systems, and what is so in any case.
const WITHOUT_EFFECT: [&str; 11] = [
    "Z",
    "bind",
    "cached",
    "consistent",
    "delegated",
    "nocopy",
    "private",
    "rbind",
    "rprivate",
    "volume-nocopy",
    "z",
];

/// A folder or file of the machine that the action sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) source: PathBuf,
    /// Absolute, without `.` and `..`.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// Reads one volume.
///
/// # Errors
/// A source that is no absolute path: there are no named volumes. A target that is none, or the root. An option that
/// would change something and is not known.
pub(crate) fn parse(text: &str) -> Result<Volume, PlanError> {
    let bad = |why: String| PlanError::Volume {
        volume: text.to_owned(),
        why,
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => {
            return Err(bad(
                "write /on/machine:/in/container or /on/machine:/in/container:ro".to_owned(),
            ));
        }
    };
    if !source.starts_with('/') {
        return Err(bad(format!(
            "{source:?} is no absolute path, and there are no named volumes: hand data over in /workflow, or name a folder of the machine"
        )));
    }
    let target = clean(target).map_err(|why| bad(format!("its target {target:?} {why}")))?;
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            // As upstream: the last one counts.
            "ro" | "readonly" => read_only = true,
            "rw" => read_only = false,
            "shared" | "rshared" | "slave" | "rslave" => {
                return Err(bad(format!(
                    "its option {option} is not offered: what an action mounts ends with it"
                )));
            }
            option if WITHOUT_EFFECT.contains(&option) => {}
            option => return Err(bad(format!("its option {option:?} is not known: write ro or rw"))),
        }
    }
    Ok(Volume {
        source: PathBuf::from(source),
        target,
        read_only,
    })
}

/// An absolute path in the container, made plain: `..` of the root is the root.
pub(crate) fn clean(path: &str) -> Result<PathBuf, &'static str> {
    if !path.starts_with('/') {
        return Err("is no absolute path");
    }
    let mut plain = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir | Component::Prefix(_) | Component::RootDir => {}
        }
    }
    match plain.parent() {
        None => Err("is the root of the container, which is the image's"),
        Some(_) => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, source: &str, target: &str, read_only: bool) {
        let want = Volume {
            source: source.into(),
            target: target.into(),
            read_only,
        };
        assert_eq!(parse(text), Ok(want), "{text}");
    }

    #[test]
    fn bind_syntax_is_dockers() {
        check("/dev:/dev", "/dev", "/dev", false);
        check("/a:/b:ro", "/a", "/b", true);
        check("/a:/b:ro,z,rw", "/a", "/b", false);
        check("/a:/b:", "/a", "/b", false);
        check(
            "/var/run/docker.sock:/var/run/docker.sock",
            "/var/run/docker.sock",
            "/var/run/docker.sock",
            false,
        );
        check("/a:/b/./c/../../../d//e/", "/a", "/d/e", false);
    }

    #[track_caller]
    fn check_refused(text: &str, words: &str) {
        let refused = parse(text).expect_err(text).to_string();
        assert!(refused.contains(words) && refused.contains(text), "{refused}");
    }

    #[test]
    fn what_is_no_volume_is_refused_in_words() {
        check_refused("data:/data", "no named volumes");
        check_refused("/data", "/on/machine:/in/container");
        check_refused("/a:/b:ro:z", "/on/machine:/in/container");
        check_refused("/a:b", "is no absolute path");
        check_refused("/a:/", "is the root of the container");
        check_refused("/a:/b/..", "is the root of the container");
        check_refused("/a:/b:rshared", "not offered");
        check_refused("/a:/b:r0", "not known");
    }
}
