//! Whether a link is there, and that it was away, however shortly.
//!
//! Source: Linux Documentation/ABI/testing/sysfs-class-net: `carrier`, `carrier_up_count`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

const POLL: Duration = Duration::from_millis(200);

/// What has happened to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Lost,
    /// It was away, and is there.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    is_up: bool,
    /// How often it has come.
    ups: u64,
}

/// The link of one interface.
pub(super) struct Carrier {
    folder: PathBuf,
    seen: Seen,
}

impl Carrier {
    pub(super) fn of(name: &str) -> Carrier {
        Carrier::in_folder(Path::new("/sys/class/net").join(name))
    }

    fn in_folder(folder: PathBuf) -> Carrier {
        Carrier {
            seen: read(&folder),
            folder,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.seen.is_up
    }

    /// What has changed since the last look.
    pub(super) fn look(&mut self) -> Option<Change> {
        let before = std::mem::replace(&mut self.seen, read(&self.folder));
        changed(before, self.seen)
    }

    /// Waits for the next change. Cancel safe.
    pub(super) async fn changed(&mut self) -> Change {
        loop {
            sleep(POLL).await;
            if let Some(change) = self.look() {
                return change;
            }
        }
    }
}

/// A link that is there and has come since was away between two looks.
fn changed(before: Seen, now: Seen) -> Option<Change> {
    match (before.is_up, now.is_up) {
        (_, true) if now.ups != before.ups || !before.is_up => Some(Change::Back),
        (true, false) => Some(Change::Lost),
        _ => None,
    }
}

/// An interface that is off, or has no carrier to speak of, says nothing of it (EINVAL): it is not waited for.
fn read(folder: &Path) -> Seen {
    let text = |name: &str| std::fs::read_to_string(folder.join(name));
    Seen {
        is_up: !text("carrier").is_ok_and(|text| text.trim() == "0"),
        ups: text("carrier_up_count").map_or(0, |text| text.trim().parse().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_was_away_between_two_looks_is_back() {
        let folder = tempfile::tempdir().expect("folder");
        let put = |carrier: &str, ups: &str| {
            std::fs::write(folder.path().join("carrier"), carrier).expect("written");
            std::fs::write(folder.path().join("carrier_up_count"), ups).expect("written");
        };
        put("0\n", "0\n");
        let mut carrier = Carrier::in_folder(folder.path().to_owned());
        assert!(!carrier.is_up());
        for (is_up, ups, want) in [
            ("0", "0", None),
            ("1", "1", Some(Change::Back)),
            ("1", "1", None),
            ("1", "2", Some(Change::Back)),
            ("0", "2", Some(Change::Lost)),
            ("0", "3", None),
            ("1", "4", Some(Change::Back)),
        ] {
            put(is_up, ups);
            assert_eq!(carrier.look(), want, "{is_up} {ups}");
        }
        // Off.
        std::fs::remove_file(folder.path().join("carrier")).expect("removed");
        assert_eq!((carrier.look(), carrier.is_up()), (None, true));
    }
}
