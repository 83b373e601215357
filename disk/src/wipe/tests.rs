use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;
use crate::testing::LoopDevice;

const MIB: u64 = 1 << 20;

/// A disk that answers as it was recorded, and may misbehave.
#[derive(Default)]
struct Peer {
    path: PathBuf,
    nvme: Option<(u8, u8, u8, Vec<u32>)>,
    /// Words 82 and 128.
    ata: Option<(u16, u16)>,
    /// It does what it says that it does.
    is_honest: bool,
    /// Sanitizing fails at so many 65536ths.
    fails_at: Option<u16>,
    sanitizing: Option<u16>,
    ata_fails: bool,
    refuses_password: bool,
    discards: bool,
    erased: u8,
    asked: Vec<String>,
}

impl Peer {
    fn of(disk: &LoopDevice) -> Peer {
        Peer {
            path: disk.path().to_owned(),
            is_honest: true,
            discards: true,
            ..Peer::default()
        }
    }

    fn nvme(disk: &LoopDevice, oacs: u8, sanicap: u8, fna: u8) -> Peer {
        Peer {
            nvme: Some((oacs, sanicap, fna, vec![1])),
            ..Peer::of(disk)
        }
    }

    fn ata(disk: &LoopDevice, word_128: u16) -> Peer {
        Peer {
            ata: Some((2, word_128)),
            ..Peer::of(disk)
        }
    }

    /// Everything is something else now: as after a change of the key.
    fn erase(&mut self) {
        self.erased += 1;
        if self.is_honest {
            fill(&self.path, 0x5c + self.erased);
        }
    }
}

fn fill(path: &Path, with: u8) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let len = crate::device::size_bytes(&file).unwrap();
    for at in (0..len).step_by(MIB as usize) {
        let block: Vec<u8> = (0..MIB).map(|byte| (byte / 600) as u8 ^ with).collect();
        file.write_all_at(&block, at).unwrap();
    }
    file.sync_all().unwrap();
}

impl Commands for Peer {
    fn says(&mut self) -> io::Result<Says> {
        if let Some((oacs, sanicap, fna, namespaces)) = &self.nvme {
            let mut controller = vec![0; 4096];
            (controller[256], controller[328], controller[524]) = (*oacs, *sanicap, *fna);
            return Ok(Says::Nvme {
                controller,
                namespaces: namespaces.clone(),
            });
        }
        match self.ata {
            Some(_) => Ok(Says::Ata(self.identify_ata()?)),
            None => Ok(Says::Nothing("it has no commands of NVMe or ATA".to_owned())),
        }
    }

    fn identify_ata(&mut self) -> io::Result<Vec<u8>> {
        let (word_82, word_128) = self.ata.unwrap_or_default();
        let mut identify = vec![0; 512];
        identify[164..166].copy_from_slice(&word_82.to_le_bytes());
        identify[256..258].copy_from_slice(&word_128.to_le_bytes());
        identify[178] = 4;
        Ok(identify)
    }

    fn ata(&mut self, command: AtaSecurityCommand, _: Duration) -> io::Result<()> {
        self.asked.push(format!("{command:?}"));
        let Some((_, word)) = &mut self.ata else {
            return Err(io::Error::other("no ATA"));
        };
        match command {
            AtaSecurityCommand::SetPassword => *word |= 2,
            AtaSecurityCommand::Unlock if self.refuses_password => return Err(io::Error::other("aborted")),
            AtaSecurityCommand::Unlock => *word &= !4,
            AtaSecurityCommand::ErasePrepare => {}
            AtaSecurityCommand::EraseUnit { .. } if self.ata_fails => {
                return Err(io::Error::other("aborted"));
            }
            AtaSecurityCommand::EraseUnit { .. } => {
                *word &= !2;
                self.erase();
            }
            AtaSecurityCommand::DisablePassword => *word &= !2,
        }
        Ok(())
    }

    fn format(&mut self, secure_erase: u32) -> io::Result<()> {
        self.asked.push(format!("format {secure_erase}"));
        self.erase();
        Ok(())
    }

    fn sanitize(&mut self, action: u32) -> io::Result<()> {
        if self.sanitizing.is_some_and(|at| at < 60_000) {
            return Err(io::Error::other("the disk answers with status 0x1d"));
        }
        self.asked.push(format!("sanitize {action}"));
        self.sanitizing = Some(0);
        Ok(())
    }

    fn sanitize_log(&mut self) -> io::Result<Vec<u8>> {
        let mut log = vec![0; 512];
        let status = match self.sanitizing {
            None => 0,
            Some(at) if self.fails_at.is_some_and(|fails| at >= fails) => 3,
            Some(at) if at >= 60_000 => {
                self.erase();
                1
            }
            Some(at) => {
                log[..2].copy_from_slice(&at.to_le_bytes());
                self.sanitizing = Some(at.saturating_add(6554));
                2
            }
        };
        log[2] = status;
        Ok(log)
    }

    fn discard(&mut self, at: u64, len: u64) -> io::Result<()> {
        self.asked.push("discard".to_owned());
        match self.discards {
            true => self.zero_out(at, len),
            false => Ok(()),
        }
    }

    fn zero_out(&mut self, at: u64, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        crate::passthrough::zero_out(&file, [at, len])
    }

    fn wait(&mut self, _: Duration) {}
}

fn full(mib: u64) -> LoopDevice {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(mib * MIB).unwrap();
    let device = LoopDevice::over(file, 512, &[]);
    fill(device.path(), 0x11);
    device
}

fn request(disk: &LoopDevice, method: Option<Method>) -> WipeRequest {
    WipeRequest {
        disk: disk.path().to_owned(),
        transport: None,
        erasure: Erasure { method, samples: 8 },
        seed: 7,
        touched: Arc::default(),
    }
}

fn run(disk: &LoopDevice, peer: &mut Peer, method: Option<Method>) -> Result<Wiped, WipeError> {
    let request = request(disk, method);
    let mut target = open(disk.path());
    let done = carry_out(&mut target, peer, &request, &mut |_| {}, &|| false);
    assert!(
        done.is_ok()
            || done
                .as_ref()
                .is_err_and(|e| !e.to_string().contains("nothing was written"))
                == request.touched.load(Ordering::Relaxed)
    );
    done
}

/// losetup of another test may hold a device that is in use already, for a moment.
fn open(path: &Path) -> Target {
    for _ in 0..100 {
        if let Ok(target) = Target::open(path) {
            return target;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Target::open(path).unwrap()
}

#[track_caller]
fn fails(done: Result<Wiped, WipeError>, reason: &str, words: &[&str]) {
    let error = done.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// No table, no boot code, no backup.
fn has_no_ends(disk: &LoopDevice) -> bool {
    let content = disk.content();
    let (head, tail) = (&content[..MIB as usize], &content[content.len() - MIB as usize..]);
    head.iter().chain(tail).all(|byte| *byte == 0)
}

#[test]
fn a_disk_without_commands_is_overwritten_and_every_byte_is_zero() {
    for method in [None, Some(Method::ZeroOut), Some(Method::Discard)] {
        let disk = full(17);
        let mut kernel = Kernel::new(
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(disk.path())
                .unwrap(),
            None,
        );
        let mut target = open(disk.path());
        let request = request(&disk, method);
        let mut steps = Vec::new();
        let wiped = carry_out(
            &mut target,
            &mut kernel,
            &request,
            &mut |step| steps.push(step),
            &|| false,
        )
        .unwrap();
        drop(target);
        assert_eq!(wiped.method, method.unwrap_or(Method::Overwrite));
        assert_eq!((wiped.size_bytes, wiped.samples, wiped.note), (17 * MIB, 8, None));
        assert!(disk.content().iter().all(|byte| *byte == 0), "{method:?}");
        assert!(steps.iter().any(|step| step.done == step.total), "{steps:?}");
    }
}

#[test]
fn a_discard_after_which_something_is_read_is_no_erasure_and_is_followed_by_an_overwrite() {
    let disk = full(17);
    let mut peer = Peer::of(&disk);
    peer.discards = false;
    let wiped = run(&disk, &mut peer, Some(Method::Discard)).unwrap();
    assert_eq!(
        (wiped.method, wiped.standard),
        (Method::Overwrite, Standard::Clear)
    );
    assert!(
        wiped
            .note
            .unwrap()
            .contains("does not read as zeros: the disk was overwritten")
    );
    assert!(disk.content().iter().all(|byte| *byte == 0));
}

#[test]
fn an_overwrite_that_is_stopped_leaves_nothing_that_boots_and_begins_again() {
    let disk = full(33);
    let request = request(&disk, None);
    let mut target = open(disk.path());
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() == 4
    };
    let done = carry_out(&mut target, &mut Peer::of(&disk), &request, &mut |_| {}, &stop);
    drop(target);
    fails(done, "Stopped", &["stopped at byte 9437184"]);
    assert!(has_no_ends(&disk));
    assert!(disk.content()[20 << 20..21 << 20].iter().any(|byte| *byte != 0));
    run(&disk, &mut Peer::of(&disk), None).unwrap();
    assert!(disk.content().iter().all(|byte| *byte == 0));
}

#[test]
fn an_nvme_disk_is_sanitized_or_formatted_and_its_ends_are_zeros() {
    for (oacs, sanicap, fna, asked, method) in [
        (2, 2, 4, "sanitize 2", Method::SanitizeBlock),
        (2, 1, 4, "sanitize 4", Method::SanitizeCrypto),
        (2, 0, 4, "format 1", Method::Format),
    ] {
        let disk = full(17);
        let mut peer = Peer::nvme(&disk, oacs, sanicap, fna);
        let wiped = run(&disk, &mut peer, None).unwrap();
        assert_eq!((wiped.method, wiped.standard), (method, Standard::Purge));
        assert_eq!(peer.asked, [asked]);
        assert!(has_no_ends(&disk));
    }
}

#[test]
fn sanitizing_that_fails_on_its_way_is_told_and_one_that_runs_is_waited_for() {
    let disk = full(17);
    let mut peer = Peer::nvme(&disk, 2, 2, 0);
    peer.fails_at = Some(26_214);
    fails(
        run(&disk, &mut peer, None),
        "WipeFailed",
        &["sanitize-block", "30 % of it were done", "boots nothing"],
    );
    assert!(has_no_ends(&disk));
    // As after a loss of power: it goes on by itself, and is asked again when it is done.
    let mut peer = Peer::nvme(&disk, 2, 2, 0);
    peer.sanitizing = Some(50_000);
    run(&disk, &mut peer, None).unwrap();
    assert_eq!(peer.asked, ["sanitize 2"]);
}

#[test]
fn a_disk_that_lies_is_found_out_whatever_it_was_asked() {
    for peer in [
        |disk: &LoopDevice| Peer::nvme(disk, 2, 2, 0),
        |disk: &LoopDevice| Peer::nvme(disk, 2, 0, 0),
        |disk: &LoopDevice| Peer::ata(disk, 0x21),
    ] {
        let disk = full(17);
        let mut peer = peer(&disk);
        peer.is_honest = false;
        fails(
            run(&disk, &mut peer, None),
            "NotErased",
            &["what was there before is read", "METHOD: overwrite"],
        );
    }
}

#[test]
fn an_ata_disk_is_erased_with_a_password_that_is_gone_afterwards() {
    let disk = full(17);
    let mut peer = Peer::ata(&disk, 0x21);
    let wiped = run(&disk, &mut peer, None).unwrap();
    assert_eq!(
        (wiped.method, wiped.standard),
        (Method::AtaEnhancedErase, Standard::Purge)
    );
    assert_eq!(
        peer.asked,
        ["SetPassword", "ErasePrepare", "EraseUnit { enhanced: true }"]
    );
    fill(disk.path(), 0x11);
    let mut peer = Peer::ata(&disk, 0x01);
    let wiped = run(&disk, &mut peer, None).unwrap();
    assert_eq!(
        (wiped.method, wiped.standard),
        (Method::AtaErase, Standard::Clear)
    );
}

#[test]
fn a_password_that_a_loss_of_power_has_left_is_used_again() {
    let disk = full(17);
    // Supported, enabled, locked.
    let mut peer = Peer::ata(&disk, 0x07);
    run(&disk, &mut peer, None).unwrap();
    assert_eq!(
        peer.asked,
        ["Unlock", "ErasePrepare", "EraseUnit { enhanced: false }"]
    );
    let mut peer = Peer::ata(&disk, 0x07);
    peer.refuses_password = true;
    fails(
        run(&disk, &mut peer, None),
        "DiskLocked",
        &["a password that this action has not set"],
    );
}

#[test]
fn an_erase_that_is_refused_leaves_no_password() {
    let disk = full(17);
    let mut peer = Peer::ata(&disk, 0x01);
    peer.ata_fails = true;
    fails(
        run(&disk, &mut peer, None),
        "WipeFailed",
        &["ata-erase: aborted."],
    );
    assert_eq!(peer.asked.last().map(String::as_str), Some("DisablePassword"));
    assert_eq!(peer.ata, Some((2, 0x01)));
}

#[test]
fn a_method_that_the_disk_has_not_is_refused_with_those_that_it_has() {
    let disk = full(17);
    let before = disk.content();
    fails(
        run(&disk, &mut Peer::ata(&disk, 0x09), Some(Method::AtaErase)),
        "MethodMissing",
        &["has frozen its security", "It has overwrite, zero-out, discard"],
    );
    assert!(disk.content() == before);
}

#[test]
fn blocks_that_are_read_back_lie_between_the_ends_and_within_the_disk() {
    for (size, samples) in [
        (1, 8),
        (MIB, 8),
        (2 * MIB, 8),
        (3 * MIB + 5, 8),
        (1000 * MIB, 64),
        (1000 * MIB + 1, 2000),
    ] {
        let places = places(size, samples, 3);
        assert!(places.len() <= samples as usize);
        assert!(
            places.iter().all(|(at, len)| *at >= MIB && at + len <= size),
            "{size}"
        );
    }
    assert_eq!(places(1000 * MIB, 64, 3).len(), 64);
    assert_ne!(places(1000 * MIB, 64, 3), places(1000 * MIB, 64, 4));
}
