//! Commands that the kernel passes on to a disk as they are: NVMe admin commands, and ATA's within SCSI's.
//!
//! Source: linux/nvme_ioctl.h; scsi/sg.h; SAT-4, section 12.2.2 (ATA PASS-THROUGH (16)).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// What a disk is given to answer where nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
const SENSE_BYTES: usize = 32;

/// `struct nvme_passthru_cmd`.
#[repr(C)]
#[derive(Default)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    words_2_3: [u32; 2],
    metadata: u64,
    data: u64,
    metadata_bytes: u32,
    data_bytes: u32,
    words_10_15: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

/// `struct sg_io_hdr`.
#[repr(C)]
struct ScsiCommand {
    interface: i32,
    direction: i32,
    command_bytes: u8,
    max_sense_bytes: u8,
    segments: u16,
    data_bytes: u32,
    data: *mut u8,
    command: *mut u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    id: i32,
    user: *mut u8,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_bytes: u8,
    host_status: u16,
    driver_status: u16,
    left_bytes: i32,
    took_ms: u32,
    info: u32,
}

mod ioctl {
    nix::ioctl_readwrite!(admin, b'N', 0x41, super::NvmeCommand);
    nix::ioctl_none!(id, b'N', 0x40);
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, super::ScsiCommand);
    nix::ioctl_write_ptr_bad!(blkdiscard, nix::request_code_none!(0x12, 119), [u64; 2]);
    nix::ioctl_write_ptr_bad!(blkzeroout, nix::request_code_none!(0x12, 127), [u64; 2]);
}

/// An ATA command without parameters of its own.
pub(crate) struct Ata {
    pub(crate) command: u8,
}

/// One sector that goes with a command.
pub(crate) enum Transfer<'a> {
    None,
    FromDisk(&'a mut [u8; 512]),
    ToDisk(&'a mut [u8; 512]),
}

fn timeout_ms(timeout: Option<Duration>) -> u32 {
    u32::try_from(timeout.unwrap_or(PATIENCE).as_millis()).unwrap_or(u32::MAX)
}

/// An NVMe admin command, with words 10 to 15; what it reads goes to `data`.
///
/// # Errors
/// The kernel's, or the status with which the disk refuses.
pub(crate) fn nvme(
    device: &File,
    opcode: u8,
    namespace: u32,
    words_10_15: [u32; 6],
    data: &mut [u8],
    timeout: Option<Duration>,
) -> io::Result<()> {
    let mut command = NvmeCommand {
        opcode,
        namespace,
        data: if data.is_empty() {
            0
        } else {
            data.as_mut_ptr() as u64
        },
        data_bytes: u32::try_from(data.len()).unwrap_or(0),
        words_10_15,
        timeout_ms: timeout_ms(timeout),
        ..NvmeCommand::default()
    };
    // SAFETY: the structure is the kernel's; the place that it points to lives as long as the call, and has the length that it says.
    let status = unsafe { ioctl::admin(device.as_raw_fd(), &raw mut command) }?;
    match status {
        0 => Ok(()),
        refused => Err(io::Error::other(format!(
            "the disk answers with status {refused:#x}"
        ))),
    }
}

/// The number of the namespace that a device node is.
pub(crate) fn nvme_namespace(device: &File) -> io::Result<u32> {
    // SAFETY: the descriptor is open for the call, which takes no argument.
    let number = unsafe { ioctl::id(device.as_raw_fd()) }?;
    u32::try_from(number).map_err(io::Error::other)
}

/// An ATA command, with one sector of data or none.
///
/// # Errors
/// The kernel's, or that the disk aborts it.
pub(crate) fn ata(
    device: &File,
    ata: &Ata,
    transfer: Transfer<'_>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    // SG_DXFER_NONE, _FROM_DEV and _TO_DEV; the protocol; what the length counts and where it stands.
    let (direction, protocol, length, sectors, data) = match transfer {
        Transfer::None => (-1, 3, 0, 0, None),
        Transfer::FromDisk(data) => (-3, 4, 0x0e, 1, Some(data)),
        Transfer::ToDisk(data) => (-2, 5, 0x06, 1, Some(data)),
    };
    let mut command = [0_u8; 16];
    command[0] = 0x85; // ATA PASS-THROUGH (16)
    command[1] = protocol << 1;
    command[2] = length;
    command[6] = sectors;
    command[14] = ata.command;
    match scsi(device, &mut command, direction, data, timeout)? {
        Answer {
            status: 0, host: 0, ..
        } => Ok(()),
        Answer { status, host, .. } => Err(io::Error::other(format!(
            "the disk does not take command {:#04x}: status {status:#04x}, host status {host:#04x}",
            ata.command
        ))),
    }
}

/// How a SCSI command ended.
pub(crate) struct Answer {
    status: u8,
    host: u16,
    pub(crate) sense: Vec<u8>,
}

/// A SCSI command; the direction is one of SG_DXFER_*.
pub(crate) fn scsi(
    device: &File,
    command: &mut [u8; 16],
    direction: i32,
    data: Option<&mut [u8; 512]>,
    timeout: Option<Duration>,
) -> io::Result<Answer> {
    let mut sense = vec![0_u8; SENSE_BYTES];
    let mut request = ScsiCommand {
        interface: i32::from(b'S'),
        direction,
        command_bytes: 16,
        max_sense_bytes: SENSE_BYTES as u8,
        segments: 0,
        data_bytes: if data.is_some() { 512 } else { 0 },
        data: data.map_or(std::ptr::null_mut(), |data| data.as_mut_ptr()),
        command: command.as_mut_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: timeout_ms(timeout),
        flags: 0,
        id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_bytes: 0,
        host_status: 0,
        driver_status: 0,
        left_bytes: 0,
        took_ms: 0,
        info: 0,
    };
    // SAFETY: the structure is the kernel's; command, sense and data live as long as the call, and have the lengths that it says.
    unsafe { ioctl::sg_io(device.as_raw_fd(), &raw mut request) }?;
    sense.truncate(usize::from(request.sense_bytes));
    Ok(Answer {
        status: request.status,
        host: request.host_status,
        sense,
    })
}

/// Tells the disk that it may forget a range. What is read there afterwards is not said.
pub(crate) fn discard(device: &File, range: [u64; 2]) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the kernel reads two u64 behind the pointer.
    unsafe { ioctl::blkdiscard(device.as_raw_fd(), &raw const range) }?;
    Ok(())
}

/// Has a range read as zeros, by a command of the disk where it has one, else by zeros that the kernel writes.
pub(crate) fn zero_out(device: &File, range: [u64; 2]) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the kernel reads two u64 behind the pointer.
    unsafe { ioctl::blkzeroout(device.as_raw_fd(), &raw const range) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel counts them on 64 bits: the numbers of both calls have these sizes in them.
    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!((size_of::<NvmeCommand>(), size_of::<ScsiCommand>()), (72, 88));
    }
}
