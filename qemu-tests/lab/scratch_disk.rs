//! A machine's disk: a sparse file without a name, so that nothing is left when its last user dies.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::Context;

/// A disk that outlives power cuts of its machine but not the lab.
#[derive(Debug)]
pub struct ScratchDisk {
    file: File,
    size_bytes: u64,
}

impl ScratchDisk {
    /// An empty disk in `directory`, which should be on a real filesystem: it fills up as it is written.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(directory: &Path, size_bytes: u64) -> anyhow::Result<ScratchDisk> {
        let file = nameless(directory)
            .with_context(|| format!("making a disk of {size_bytes} B in {}", directory.display()))?;
        file.set_len(size_bytes)?;
        Ok(ScratchDisk { file, size_bytes })
    }

    /// Its size.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The descriptor to hand to QEMU; it stays ours.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Reads `length` bytes from `offset`, as the machine has left them.
    ///
    /// # Errors
    /// Past the end.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Puts `content` at the start of the disk: a machine with something installed.
    ///
    /// # Errors
    /// When writing fails.
    pub fn fill(&mut self, content: &mut impl io::Read) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(0))?;
        let copied = io::copy(content, &mut self.file)?;
        self.file.flush()?;
        Ok(copied)
    }

    /// Whether firmware would find something to boot: a boot signature in the first sector, or a GPT header.
    ///
    /// # Errors
    /// When reading fails.
    pub fn looks_bootable(&self) -> io::Result<bool> {
        let start = self.read(0, 1024)?;
        Ok(start.get(510..512) == Some(&[0x55, 0xaa]) || start.get(512..520) == Some(b"EFI PART"))
    }

    /// How many bytes the machine has really written: what the sparse file takes.
    ///
    /// # Errors
    /// When the file cannot be examined.
    pub fn written_bytes(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata()?.blocks() * 512)
    }
}

/// Where scratch disks go: `FARRIER_LAB_TMP`, else /var/tmp (not /tmp, which may be in memory).
pub fn directory() -> PathBuf {
    env::var_os("FARRIER_LAB_TMP").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn nameless(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().custom_flags(libc::O_TMPFILE).open(directory) {
        Ok(file) => Ok(file),
        // Filesystems without O_TMPFILE (overlayfs before Linux 6.3, NFS): a name for an instant.
        Err(_) => {
            let path = directory.join(format!(".farrier-disk-{}", uuid::Uuid::new_v4()));
            let file = options.create_new(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_no_name_and_takes_no_space_until_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = ScratchDisk::create(directory.path(), 1 << 33).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(disk.written_bytes().unwrap(), 0);
        assert!(!disk.looks_bootable().unwrap());
        let mut sector = [0; 512];
        sector[510] = 0x55;
        sector[511] = 0xaa;
        disk.fill(&mut sector.as_slice()).unwrap();
        assert!(disk.looks_bootable().unwrap());
    }
}
