//! The modules and the firmware that this boot's archives have not: fetched from the boot server one by one, each held against its digest
//! before it is used.

use std::io;
use std::path::{Path, PathBuf};

use drivers::{ARCHIVE_FILE, CATALOGUE_FILE, Catalogue, Entry, Seal};
use reqwest::Client;

use super::{Modules, index, packing, plan};
use crate::boot_server::{checked, client, fetch, of_another_image};

/// What the boot server has for this kernel.
#[derive(Debug)]
pub(crate) struct Store {
    client: Client,
    /// `http://HOST:PORT/boot`.
    url: String,
    list: Catalogue,
    places: Places,
}

/// Where things lie on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The list of what is fetched, once it is known to be right: for processes that the kernel starts.
    list: PathBuf,
    /// Where the kernel looks for firmware.
    firmware: PathBuf,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            list: "/run/farrier-agent/modules.list.zst".into(),
            firmware: "/lib/firmware".into(),
        }
    }
}

impl Store {
    /// Fetches the list, and keeps it for whoever else asks on this machine.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn open(http: &str, seal: &Seal, places: Places) -> Result<Store, String> {
        let client = client()?;
        let url = format!("{}/boot", http.trim_end_matches('/'));
        let address = format!("{url}/{CATALOGUE_FILE}");
        let packed = fetch(&client, &address, None, seal.bytes, &mut |_| {}).await?;
        checked(&packed, seal).map_err(|what| of_another_image(&address, &what))?;
        let list = list_of(&packed)?;
        // Without it whatever the kernel asks for by name is not found.
        write_whole(&places.list, &packed)
            .map_err(|e| format!("{} cannot be written: {e}", places.list.display()))?;
        Ok(Store {
            client,
            url,
            list,
            places,
        })
    }

    /// With the list that was kept; `None`: it was not, or it is another one.
    pub(crate) fn kept(http: &str, seal: &Seal, places: Places) -> Option<Store> {
        let packed = std::fs::read(&places.list).ok()?;
        checked(&packed, seal).ok()?;
        Some(Store {
            client: client().ok()?,
            url: format!("{}/boot", http.trim_end_matches('/')),
            list: list_of(&packed).ok()?,
            places,
        })
    }

    /// The modules that serve a device, or answer to a name.
    pub(crate) fn for_modalias(&self, modalias: &str) -> Vec<String> {
        let named = self.list.module(modalias).map(|_| index::normal(modalias));
        let served = self.list.for_modalias(modalias).into_iter().map(str::to_owned);
        named.into_iter().chain(served).collect()
    }

    /// Loads a module with what it needs, in order; what the archives of this boot have is taken from there. Gives the names of those that
    /// were fetched.
    ///
    /// # Errors
    /// In words, of the first one that could not be had or that the kernel refused; what comes after it is not loaded.
    pub(crate) async fn load(&self, name: &str, here: &mut Modules) -> Result<Vec<String>, String> {
        let mut fetched = Vec::new();
        for name in plan::order(name, &|name| here.has(name), &[&self.list]) {
            if here.has(&name) {
                here.load_blocking(&name).await;
                continue;
            }
            let Some((entry, _)) = self.list.module(&name) else {
                continue;
            };
            if !here.tried.insert(name.clone()) {
                continue;
            }
            for firmware in self.list.firmware_of(&name) {
                self.put_firmware(firmware).await?;
            }
            let packed = self.bytes_of(entry).await?;
            let loading = entry.clone();
            let loaded = tokio::task::spawn_blocking(move || Modules::load_fetched(&loading, &packed));
            let loaded = loaded.await.map_err(|e| format!("loading {name}: {e}"))?;
            loaded.map_err(|what| format!("module {} {what}", entry.path))?;
            fetched.push(name);
        }
        Ok(fetched)
    }

    /// Puts firmware where the kernel looks for it, before the module that asks for it.
    async fn put_firmware(&self, entry: &Entry) -> Result<(), String> {
        let place = self.places.firmware.join(entry.plain_path());
        if place.exists() {
            return Ok(());
        }
        let packed = self.bytes_of(entry).await?;
        let about = |e: io::Error| format!("firmware {}: {e}", entry.path);
        let content = packing::unpack(&entry.path, &packed[..]).map_err(about)?;
        write_whole(&place, &content).map_err(about)
    }

    async fn bytes_of(&self, entry: &Entry) -> Result<Vec<u8>, String> {
        let url = format!("{}/{ARCHIVE_FILE}", self.url);
        let bytes = fetch(&self.client, &url, Some(entry.offset), entry.bytes, &mut |_| {}).await;
        let bytes = bytes.map_err(|why| format!("{}: {why}", entry.path))?;
        let seal = Seal {
            bytes: entry.bytes,
            sha256: entry.sha256.clone(),
        };
        let of = format!("{} of {url}", entry.path);
        checked(&bytes, &seal).map_err(|what| of_another_image(&of, &what))?;
        Ok(bytes)
    }
}

fn list_of(packed: &[u8]) -> Result<Catalogue, String> {
    let about = |what: String| format!("{CATALOGUE_FILE}: {what}");
    let text = packing::unpack(CATALOGUE_FILE, packed).map_err(|e| about(e.to_string()))?;
    let text = String::from_utf8(text).map_err(|e| about(e.to_string()))?;
    Catalogue::parse(&text).map_err(|e| about(e.to_string()))
}

/// Whoever looks at the file sees all of it or nothing.
fn write_whole(place: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut beside = place.as_os_str().to_owned();
    beside.push(format!(".{}", crate::entropy::name()));
    let beside = PathBuf::from(beside);
    let written = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, place));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use sha2::{Digest, Sha256};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

    fn seal(bytes: &[u8]) -> Seal {
        Seal {
            bytes: bytes.len() as u64,
            sha256: Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        }
    }

    /// A boot server with these files, which knows ranges; gives its URL.
    async fn serve(files: Files) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut path, mut range) = (String::new(), None);
                let (read, mut write) = stream.split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let line = line.to_lowercase();
                    if let Some(asked) = line.strip_prefix("get ") {
                        path = asked.split(' ').next().unwrap_or_default().to_owned();
                    } else if let Some((first, last)) = line
                        .strip_prefix("range: bytes=")
                        .and_then(|range| range.split_once('-'))
                    {
                        range = Some((
                            first.parse::<usize>().expect("first"),
                            last.parse::<usize>().expect("last"),
                        ));
                    } else if line.is_empty() {
                        break;
                    }
                }
                let content = files.lock().expect("files").get(&path).cloned();
                let (status, body) = match (content, range) {
                    (None, _) => ("404 Not Found", Vec::new()),
                    (Some(content), None) => ("200 OK", content),
                    (Some(content), Some((first, last))) => match content.get(first..=last) {
                        Some(part) => ("206 Partial Content", part.to_vec()),
                        None => ("416 Range Not Satisfiable", Vec::new()),
                    },
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = write.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        });
        url
    }

    struct Scene {
        files: Files,
        seal: Seal,
        url: String,
        folder: tempfile::TempDir,
    }

    impl Scene {
        /// A server that has one module and its firmware.
        async fn new() -> Scene {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let module = zstd::encode_all(&b"a module"[..], 1).expect("packed");
            let firmware = zstd::encode_all(&b"its firmware"[..], 1).expect("packed");
            let line = |kind: &str, path: &str, offset: usize, content: &[u8]| {
                format!(
                    "{kind} {path} {offset} {} {}\n",
                    content.len(),
                    seal(content).sha256
                )
            };
            let list = [
                "farrier modules 1\n".to_owned(),
                line("module", "kernel/a-b.ko.zst", 100, &module),
                line("firmware", "x/y.fw.zst", 100 + module.len(), &firmware),
                "alias pci:v00008086d* a_b\nasks a_b x/y.fw\n".to_owned(),
            ];
            let list = zstd::encode_all(list.concat().as_bytes(), 1).expect("packed");
            let seal = seal(&list);
            let archive = [vec![0; 100], module, firmware].concat();
            let files: Files = Arc::default();
            files.lock().expect("files").extend([
                ("/boot/modules.list.zst".to_owned(), list),
                ("/boot/modules.cpio".to_owned(), archive),
            ]);
            Scene {
                url: serve(files.clone()).await,
                files,
                seal,
                folder: tempfile::tempdir().expect("folder"),
            }
        }

        fn places(&self) -> Places {
            Places {
                list: self.folder.path().join("run/list"),
                firmware: self.folder.path().join("firmware"),
            }
        }

        async fn open(&self) -> Result<Store, String> {
            Store::open(&self.url, &self.seal, self.places()).await
        }
    }

    #[tokio::test]
    async fn a_module_and_its_firmware_come_as_the_list_says() {
        let scene = Scene::new().await;
        let store = scene.open().await.expect("the list");
        assert_eq!(store.for_modalias("pci:v00008086d00001572"), ["a_b"]);
        assert_eq!(store.for_modalias("a-b"), ["a_b"], "the kernel asks by name");
        let (entry, _) = store.list.module("a_b").expect("module");
        let packed = store.bytes_of(entry).await.expect("bytes");
        assert_eq!(
            packing::unpack(&entry.path, &packed[..]).expect("unpacked"),
            b"a module"
        );
        for firmware in store.list.firmware_of("a_b") {
            store.put_firmware(firmware).await.expect("firmware");
        }
        let firmware = scene.folder.path().join("firmware/x/y.fw");
        assert_eq!(std::fs::read(&firmware).expect("there"), b"its firmware");
        let beside = std::fs::read_dir(firmware.parent().expect("folder"))
            .expect("folder")
            .count();
        assert_eq!(beside, 1, "nothing half-written stays");
        // Whoever comes later needs no server for the list.
        let kept = Store::kept("http://127.0.0.1:1", &scene.seal, scene.places()).expect("kept");
        assert_eq!(kept.list, store.list);
        assert!(Store::kept(&scene.url, &seal(b"another image's"), scene.places()).is_none());
    }

    #[tokio::test]
    async fn what_is_not_of_this_boot_image_is_not_used_and_told() {
        let scene = Scene::new().await;
        let store = scene.open().await.expect("the list");
        let (entry, _) = store.list.module("a_b").expect("module");
        if let Some(archive) = scene.files.lock().expect("files").get_mut("/boot/modules.cpio") {
            archive[110] ^= 1;
        }
        let error = store.bytes_of(entry).await.expect_err("another digest");
        assert!(
            error.starts_with("kernel/a-b.ko.zst of http://127.0.0.1:")
                && error.contains("has the SHA-256")
                && error.contains("start the machine again"),
            "{error}"
        );
        scene
            .files
            .lock()
            .expect("files")
            .insert("/boot/modules.cpio".to_owned(), vec![0; 50]);
        let error = store.bytes_of(entry).await.expect_err("shorter");
        assert!(error.contains("416 Range Not Satisfiable"), "{error}");
        scene.files.lock().expect("files").insert(
            "/boot/modules.list.zst".to_owned(),
            vec![0; scene.seal.bytes as usize],
        );
        let error = scene.open().await.expect_err("another list");
        assert!(error.contains("modules.list.zst has the SHA-256"), "{error}");
        scene.files.lock().expect("files").clear();
        let error = scene.open().await.expect_err("no list");
        assert!(error.contains("404 Not Found"), "{error}");
    }
}
