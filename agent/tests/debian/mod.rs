//! Debian's `docker-registry` with an image in it, for the agent to pull.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ephemeral::Digest;
use serde_json::json;

use crate::fake;

pub(crate) const USER: &str = "ali";

/// Of [`USER`]. Put together here, so that no program has it as it is.
pub(crate) fn password() -> String {
    ["open", " ", "sesame"].concat()
}

/// It, as htpasswd(1) writes it.
const HTPASSWD: &str = "ali:$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n";

/// Debian's registry, on loopback without TLS.
pub(crate) struct Registry {
    process: Child,
    pub(crate) host: String,
    folder: PathBuf,
    /// Of curl, for who pushes.
    login: Vec<String>,
}

impl Registry {
    pub(crate) fn start(folder: &Path) -> Registry {
        Registry::started(folder, "", &[])
    }

    /// One that wants a login: [`USER`] and the password that [`password`] gives.
    pub(crate) fn with_login(folder: &Path) -> Registry {
        let file = folder.join("htpasswd");
        fs::write(&file, HTPASSWD).expect("logins");
        let auth = format!("auth:\n  htpasswd: {{realm: lab, path: {}}}\n", file.display());
        // No command line has it, where tests that run meanwhile would find it.
        let netrc = folder.join("netrc");
        let login = format!("machine 127.0.0.1 login {USER} password \"{}\"\n", password());
        fs::write(&netrc, login).expect("login");
        let netrc = ["--netrc-file".to_owned(), netrc.display().to_string()];
        Registry::started(folder, &auth, &netrc)
    }

    fn started(folder: &Path, auth: &str, login: &[String]) -> Registry {
        let folder = folder.join("registry");
        fs::create_dir(&folder).expect("folder");
        // It tells nobody which port it took: one is found free, and given to it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
        let host = listener.local_addr().expect("address").to_string();
        drop(listener);
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}/store}}\n\
             http:\n  addr: {host}\n{auth}",
            folder.display()
        );
        fs::write(folder.join("config.yml"), config).expect("config");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).expect("log"))
            .spawn()
            .expect("Debian's docker-registry; `cargo xtask test` installs it");
        let registry = Registry {
            process,
            host,
            folder,
            login: login.to_vec(),
        };
        let deadline = Instant::now() + fake::DEADLINE;
        while std::net::TcpStream::connect(&registry.host).is_err() {
            assert!(
                Instant::now() < deadline,
                "{}",
                fs::read_to_string(registry.folder.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        registry
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let ran = Command::new("curl")
            .args(["-sS", "--fail", "-D", "-"])
            .args(&self.login)
            .args(arguments)
            .output()
            .expect("curl");
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// Stores a file, and says of it what a manifest does.
    fn push(&self, file: &Path, media_type: &str) -> serde_json::Value {
        let content = fs::read(file).expect("file");
        let digest = format!("sha256:{}", Digest::of(&content));
        let begun = self.curl(&[
            "-X",
            "POST",
            &format!("http://{}/v2/tools/box/blobs/uploads/", self.host),
        ]);
        let location = begun
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .expect("a place")
            .trim();
        self.curl(&[
            "-X",
            "PUT",
            "--data-binary",
            &format!("@{}", file.display()),
            "-H",
            "Content-Type: application/octet-stream",
            &format!("{location}&digest={digest}"),
        ]);
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Pushes an image of two layers: busybox, and a file that says hello. Gives the digest of its manifest.
    pub(crate) fn push_image(&self) -> String {
        self.push_image_of("web")
    }

    /// The same, whose process is of this user.
    pub(crate) fn push_image_of(&self, user: &str) -> String {
        let at = |name: &str| self.folder.join(name);
        for folder in ["base/bin", "top/etc"] {
            fs::create_dir_all(at(folder)).expect("layer");
        }
        fs::copy("/bin/busybox", at("base/bin/busybox")).expect("Debian's busybox-static");
        for applet in [
            "sh", "cat", "id", "echo", "sleep", "test", "dd", "tr", "grep", "find", "env", "mkdir",
        ] {
            symlink("busybox", at("base/bin").join(applet)).expect(applet);
        }
        fs::write(at("top/etc/hello"), "hello from a registry\n").expect("file");
        fs::write(at("top/etc/passwd"), "web:x:33:34::/srv:/bin/sh\n").expect("file");
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in ["base", "top"] {
            let tar = at(&format!("{layer}.tar"));
            let ran = Command::new("tar")
                .arg("-C")
                .arg(at(layer))
                .arg("-cf")
                .arg(&tar)
                .arg(".")
                .status();
            assert!(ran.expect("tar").success());
            diff_ids.push(format!("sha256:{}", Digest::of(&fs::read(&tar).expect("tar"))));
            assert!(
                Command::new("gzip")
                    .arg("-n")
                    .arg(&tar)
                    .status()
                    .expect("gzip")
                    .success()
            );
            layers.push(self.push(
                &at(&format!("{layer}.tar.gz")),
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ));
        }
        let config = json!({
            "os": "linux",
            "architecture": "amd64",
            "config": {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["cat /etc/hello; id -u"], "User": user, "Env": ["GREETING=yes"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        fs::write(at("config.json"), config.to_string()).expect("config");
        let config = self.push(&at("config.json"), "application/vnd.oci.image.config.v1+json");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers})
                .to_string();
        fs::write(at("manifest.json"), &manifest).expect("manifest");
        self.curl(&[
            "-X",
            "PUT",
            "--data-binary",
            &format!("@{}", at("manifest.json").display()),
            "-H",
            &format!("Content-Type: {media_type}"),
            &format!("http://{}/v2/tools/box/manifests/v1", self.host),
        ]);
        format!("sha256:{}", Digest::of(manifest.as_bytes()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
