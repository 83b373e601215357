//! An image as whoever runs it needs it: layers that lie there unpacked, and what it says of its process.
//!
//! Source: OCI image specification 1.1, config.md; Docker's `image/spec/v1.2` has the same names.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::cache::Layer;
use crate::digest::Digest;

/// An image that lies here, ready to be mounted.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of the manifest for this machine's platform: two images with the same digest are the same.
    pub digest: Digest,
    /// What is run in it, and how.
    pub config: ImageConfig,
    /// Folders, the lowest first, as overlayfs takes them: what a layer removes is a character device 0:0, a folder
    /// that hides those below has the attribute `trusted.overlay.opaque`, "y".
    pub layers: Vec<PathBuf>,
    /// As long as this is here, the layers stay.
    pub(crate) _held: Vec<Arc<Layer>>,
}

/// What an image says of its process. Names and meaning are Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Comes before the arguments, always.
    pub entrypoint: Vec<String>,
    /// The arguments where nobody gives others.
    pub cmd: Vec<String>,
    /// `NAME=VALUE`, in the image's order.
    pub env: Vec<String>,
    /// `user`, `user:group`, by number or by the names in the image's own files; empty is root.
    pub user: String,
    /// Empty is `/`. Made where it is missing.
    pub working_dir: String,
    /// `SIGTERM`, `TERM` or a number; none is SIGTERM.
    pub stop_signal: Option<String>,
    /// What it was built for.
    pub platform: Platform,
}

/// What an image runs on, in Go's words for it: `linux/amd64`, `linux/arm/v7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    /// `v7` of ARM, `v8` of ARM64, `v2` of AMD64; empty where there is none.
    pub variant: String,
}

/// A configuration of an image is not read beyond this. Docker's own limit on a manifest is the same.
pub const CONFIG_LIMIT_BYTES: usize = 4 << 20;

/// An image's configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// It is no JSON, or a field is of another kind.
    #[error("the image's configuration is not one: {0}")]
    Json(#[from] serde_json::Error),
    /// A text has a zero byte, with which no process can be started.
    #[error("the image's configuration has a zero byte in {field}: {value:?}")]
    ZeroByte { field: &'static str, value: String },
    /// It is longer than anything that is one.
    #[error("the image's configuration has {bytes} B; {CONFIG_LIMIT_BYTES} B are read at most")]
    TooLong { bytes: usize },
}

/// The file, as far as it is of interest here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<Process>,
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

impl Image {
    /// An image of folders that somebody else keeps, the lowest first.
    pub fn of_folders(digest: Digest, config: ImageConfig, layers: Vec<PathBuf>) -> Image {
        Image {
            digest,
            config,
            layers,
            _held: Vec::new(),
        }
    }
}

impl ImageConfig {
    /// Reads an image's configuration: what it says of its process, and the digest of each layer's archive as it is
    /// without compression, the lowest first.
    ///
    /// # Errors
    /// [`BadConfig`], with what is wrong.
    ///
    /// Source: OCI image specification 1.1, config.md.
    pub fn read(json: &[u8]) -> Result<(ImageConfig, Vec<Digest>), BadConfig> {
        if json.len() > CONFIG_LIMIT_BYTES {
            return Err(BadConfig::TooLong { bytes: json.len() });
        }
        let file: File = serde_json::from_slice(json)?;
        let process = file.config.unwrap_or_default();
        let config = ImageConfig {
            entrypoint: process.entrypoint.unwrap_or_default(),
            cmd: process.cmd.unwrap_or_default(),
            env: process.env.unwrap_or_default(),
            user: process.user.unwrap_or_default(),
            working_dir: process.working_dir.unwrap_or_default(),
            stop_signal: process.stop_signal.filter(|signal| !signal.is_empty()),
            platform: Platform {
                os: file.os,
                architecture: file.architecture,
                variant: file.variant.unwrap_or_default(),
            },
        };
        config.has_no_zero_byte()?;
        Ok((config, file.rootfs.diff_ids))
    }

    fn has_no_zero_byte(&self) -> Result<(), BadConfig> {
        let lists = [
            ("Entrypoint", &self.entrypoint),
            ("Cmd", &self.cmd),
            ("Env", &self.env),
        ];
        let lists = lists
            .into_iter()
            .flat_map(|(field, values)| values.iter().map(move |value| (field, value)));
        let single = [
            ("User", Some(&self.user)),
            ("WorkingDir", Some(&self.working_dir)),
            ("StopSignal", self.stop_signal.as_ref()),
        ];
        let single = single
            .into_iter()
            .filter_map(|(field, value)| Some((field, value?)));
        match lists.chain(single).find(|(_, value)| value.contains('\0')) {
            Some((field, value)) => Err(BadConfig::ZeroByte {
                field,
                value: value.chars().take(100).collect(),
            }),
            None => Ok(()),
        }
    }
}

impl Platform {
    /// Of this machine, as far as the compiler knows it.
    pub fn here() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            same => (same, ""),
        };
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_with_its_layers() {
        let layer = Digest::of(b"layer");
        let json = format!(
            r#"{{"architecture":"arm64","os":"linux","variant":"v8","created":"2026-01-01T00:00:00Z",
                "config":{{"Entrypoint":["/docker-entrypoint.sh"],"Cmd":["nginx","-g"],"Env":["PATH=/bin","A=b=c"],
                "User":"www-data:33","WorkingDir":"/srv","StopSignal":"SIGQUIT","Labels":{{"a":"b"}}}},
                "rootfs":{{"type":"layers","diff_ids":["{layer}"]}},"history":[{{"created_by":"x"}}]}}"#
        );
        let (config, layers) = ImageConfig::read(json.as_bytes()).expect("it is one");
        assert_eq!(layers, [layer]);
        assert_eq!(config.platform.to_string(), "linux/arm64/v8");
        assert_eq!(config.entrypoint, ["/docker-entrypoint.sh"]);
        assert_eq!(config.cmd, ["nginx", "-g"]);
        assert_eq!(config.env, ["PATH=/bin", "A=b=c"]);
        assert_eq!(config.user, "www-data:33");
        assert_eq!(config.working_dir, "/srv");
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    }

    #[test]
    fn nulls_and_missing_fields_say_nothing() {
        let json = r#"{"config":{"Entrypoint":null,"Cmd":null,"Env":null,"User":null,"StopSignal":""},
                       "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let (config, layers) = ImageConfig::read(json.as_bytes()).expect("it is one");
        assert_eq!(config, ImageConfig::default());
        assert!(layers.is_empty());
        let (config, _) =
            ImageConfig::read(br#"{"config":null,"rootfs":{"diff_ids":[]}}"#).expect("it is one");
        assert_eq!(config, ImageConfig::default());
    }

    #[test]
    fn what_no_process_can_have_and_what_is_no_configuration_is_refused() {
        let zero = r#"{"config":{"Env":["A=\u0000"]},"rootfs":{"diff_ids":[]}}"#;
        let refused = ImageConfig::read(zero.as_bytes()).expect_err("a zero byte");
        assert!(refused.to_string().contains("zero byte in Env"), "{refused}");
        for bad in [
            &b""[..],
            b"[]",
            b"{}",
            br#"{"rootfs":{"diff_ids":["sha256:1"]}}"#,
            br#"{"config":{"Cmd":"sh -c"},"rootfs":{"diff_ids":[]}}"#,
        ] {
            assert!(
                ImageConfig::read(bad).is_err(),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
        let long = vec![b' '; CONFIG_LIMIT_BYTES + 1];
        assert!(matches!(ImageConfig::read(&long), Err(BadConfig::TooLong { .. })));
    }
}
