//! What is asked of a disk to erase itself: the commands as bytes, and the kernel's way to give them.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::method::Says;
use crate::passthrough::{self, Ata, Transfer};

/// Of ATA's security feature set; set by us and gone with the erase. A disk that is found locked is opened with it.
pub(super) const PASSWORD: &[u8] = b"farrier wipes this disk";

/// What a disk is asked. A peer of its own answers in tests.
pub trait Commands {
    fn says(&mut self) -> io::Result<Says>;
    /// IDENTIFY DEVICE, anew.
    fn identify_ata(&mut self) -> io::Result<Vec<u8>>;
    fn ata(&mut self, command: AtaSecurityCommand, timeout: Duration) -> io::Result<()>;
    /// Format NVM of this namespace: 1 erases user data, 2 throws the key away.
    fn format(&mut self, secure_erase: u32) -> io::Result<()>;
    /// Sanitize: 2 erases blocks, 4 throws the key away. Returns when it has begun.
    fn sanitize(&mut self, action: u32) -> io::Result<()>;
    /// The sanitize status log page.
    fn sanitize_log(&mut self) -> io::Result<Vec<u8>>;
    /// Tells the disk that it may forget so many bytes from an offset.
    fn discard(&mut self, at: u64, len: u64) -> io::Result<()>;
    /// Has them read as zeros, without sending the zeros where the disk can do so.
    fn zero_out(&mut self, at: u64, len: u64) -> io::Result<()>;
    fn wait(&mut self, time: Duration);
}

/// Source: ACS-3, sections 7.35 to 7.40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtaSecurityCommand {
    DisablePassword,
    ErasePrepare,
    EraseUnit { enhanced: bool },
    SetPassword,
    Unlock,
}

impl AtaSecurityCommand {
    fn code(self) -> u8 {
        match self {
            AtaSecurityCommand::SetPassword => 0xf1,
            AtaSecurityCommand::Unlock => 0xf2,
            AtaSecurityCommand::ErasePrepare => 0xf3,
            AtaSecurityCommand::EraseUnit { .. } => 0xf4,
            AtaSecurityCommand::DisablePassword => 0xf6,
        }
    }

    /// The sector that goes with it: the user's password, in words 1 to 16.
    fn data(self) -> Option<[u8; 512]> {
        let mut data = [0; 512];
        match self {
            AtaSecurityCommand::ErasePrepare => return None,
            // Word 0, bit 1.
            AtaSecurityCommand::EraseUnit { enhanced: true } => data[0] = 2,
            _ => {}
        }
        for (to, from) in data.iter_mut().skip(2).zip(PASSWORD) {
            *to = *from;
        }
        Some(data)
    }
}

/// Where sanitizing is. Source: NVM Express base specification 2.0, section 5.16.1.19 (log page 81h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sanitizing {
    Never,
    Done,
    /// In 65536ths.
    Running(u16),
    Failed,
}

impl Sanitizing {
    /// `None`: it is shorter than a log page, or says what the specification does not have.
    pub fn read(log: &[u8]) -> Option<Sanitizing> {
        let [progress_low, progress_high, status, ..] = *log else {
            return None;
        };
        match status & 7 {
            0 => Some(Sanitizing::Never),
            1 | 4 => Some(Sanitizing::Done),
            2 => Some(Sanitizing::Running(u16::from_le_bytes([
                progress_low,
                progress_high,
            ]))),
            3 => Some(Sanitizing::Failed),
            _ => None,
        }
    }
}

/// A disk, by the kernel's ioctls.
#[derive(Debug)]
pub struct Kernel {
    device: File,
    /// `nvme`, `ata`, or something else.
    transport: Option<String>,
}

/// A format may erase every cell there is.
const FORMAT_WITHIN: Duration = Duration::from_secs(12 * 3600);
const IDENTIFY: u8 = 0x06;
const GET_LOG_PAGE: u8 = 0x02;
const FORMAT_NVM: u8 = 0x80;
const SANITIZE: u8 = 0x84;

impl Kernel {
    pub fn new(device: File, transport: Option<String>) -> Kernel {
        Kernel { device, transport }
    }

    fn nvme_data(&self, opcode: u8, namespace: u32, words: [u32; 2], len: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; len];
        let [word_10, word_11] = words;
        let words = [word_10, word_11, 0, 0, 0, 0];
        passthrough::nvme(&self.device, opcode, namespace, words, &mut data, None)?;
        Ok(data)
    }
}

impl Commands for Kernel {
    fn says(&mut self) -> io::Result<Says> {
        match self.transport.as_deref() {
            Some("nvme") => {
                let controller = self.nvme_data(IDENTIFY, 0, [1, 0], 4096)?;
                let list = self.nvme_data(IDENTIFY, 0, [2, 0], 4096)?;
                let numbers = list
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|bytes| u32::from_le_bytes(*bytes));
                Ok(Says::Nvme {
                    controller,
                    namespaces: numbers.take_while(|number| *number != 0).collect(),
                })
            }
            Some("ata") => Ok(Says::Ata(self.identify_ata()?)),
            _ => Ok(Says::Nothing("it has no commands of NVMe or ATA".to_owned())),
        }
    }

    fn identify_ata(&mut self) -> io::Result<Vec<u8>> {
        let mut data = [0; 512];
        let transfer = Transfer::FromDisk(&mut data);
        passthrough::ata(&self.device, &Ata { command: 0xec }, transfer, None)?;
        Ok(data.to_vec())
    }

    fn ata(&mut self, command: AtaSecurityCommand, timeout: Duration) -> io::Result<()> {
        let ata = Ata {
            command: command.code(),
        };
        match command.data() {
            Some(mut data) => {
                passthrough::ata(&self.device, &ata, Transfer::ToDisk(&mut data), Some(timeout))
            }
            None => passthrough::ata(&self.device, &ata, Transfer::None, Some(timeout)),
        }
    }

    /// As it is formatted now: the same sectors, metadata and protection.
    fn format(&mut self, secure_erase: u32) -> io::Result<()> {
        let namespace = passthrough::nvme_namespace(&self.device)?;
        let identify = self.nvme_data(IDENTIFY, namespace, [0, 0], 4096)?;
        let [flbas, dps] = [26, 29].map(|at| u32::from(identify.get(at).copied().unwrap_or(0)));
        // Source: NVM Express base specification 2.0, figure 318: LBAFL, MSET, PI, PIL, SES, LBAFU.
        let word_10 = (flbas & 0xf)
            | (flbas & 0x10)
            | (dps & 7) << 5
            | (dps & 8) << 5
            | (secure_erase & 7) << 9
            | (flbas >> 5 & 3) << 12;
        let words = [word_10, 0, 0, 0, 0, 0];
        passthrough::nvme(
            &self.device,
            FORMAT_NVM,
            namespace,
            words,
            &mut [],
            Some(FORMAT_WITHIN),
        )
    }

    fn sanitize(&mut self, action: u32) -> io::Result<()> {
        passthrough::nvme(
            &self.device,
            SANITIZE,
            0,
            [action & 7, 0, 0, 0, 0, 0],
            &mut [],
            None,
        )
    }

    fn sanitize_log(&mut self) -> io::Result<Vec<u8>> {
        // The length counts double words, from 0.
        self.nvme_data(GET_LOG_PAGE, u32::MAX, [0x81 | (512 / 4 - 1) << 16, 0], 512)
    }

    fn discard(&mut self, at: u64, len: u64) -> io::Result<()> {
        passthrough::discard(&self.device, [at, len])
    }

    fn zero_out(&mut self, at: u64, len: u64) -> io::Result<()> {
        passthrough::zero_out(&self.device, [at, len])
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}
