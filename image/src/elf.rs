//! Finds one section of a 64-bit little-endian ELF file, which is all that reading a kernel module's
//! metadata takes.
//!
//! Source: System V Application Binary Interface, "Object Files"; `elf(5)`.

/// The bytes are not an ELF file in which sections can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// The identification says something else than 64-bit little-endian ELF.
    #[error("not a 64-bit little-endian ELF file")]
    NotElf64,
    /// A table or a section lies outside the file.
    #[error("{what} lies outside the file of {len_bytes} B")]
    OutOfBounds { what: &'static str, len_bytes: usize },
}

/// Returns the content of the section called `name`, or `None` if there is none.
///
/// # Errors
/// [`ElfError`] if the file is not 64-bit ELF, or says that its parts lie where it has no bytes.
pub fn section<'a>(file: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, ElfError> {
    if !file.starts_with(IDENTIFICATION) {
        return Err(ElfError::NotElf64);
    }
    let outside = |what| ElfError::OutOfBounds {
        what,
        len_bytes: file.len(),
    };
    let header = Fields(file);
    let table = header.u64(0x28).ok_or(outside("the file header"))?;
    let entry_size = header.u16(0x3a).ok_or(outside("the file header"))?;
    let count = header.u16(0x3c).ok_or(outside("the file header"))?;
    let names_index = header.u16(0x3e).ok_or(outside("the file header"))?;

    let entry = |index: u16| -> Option<Section> {
        let start = table.checked_add(u64::from(index) * u64::from(entry_size))?;
        let start = usize::try_from(start).ok()?;
        Section::read(file.get(start..start.checked_add(SECTION_HEADER_LEN)?)?)
    };
    let names = entry(names_index).ok_or(outside("the section name table's header"))?;
    let names = names.content(file).ok_or(outside("the section name table"))?;
    for index in 0..count {
        let section = entry(index).ok_or(outside("a section header"))?;
        if section.is_called(name, names) {
            return section.content(file).map(Some).ok_or(outside("a section"));
        }
    }
    Ok(None)
}

struct Section {
    name_offset: u32,
    offset: u64,
    len_bytes: u64,
}

impl Section {
    fn read(header: &[u8]) -> Option<Self> {
        let fields = Fields(header);
        Some(Self {
            name_offset: fields.u32(0)?,
            offset: fields.u64(0x18)?,
            len_bytes: fields.u64(0x20)?,
        })
    }

    fn content<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok()?;
        let end = start.checked_add(usize::try_from(self.len_bytes).ok()?)?;
        file.get(start..end)
    }

    fn is_called(&self, name: &str, names: &[u8]) -> bool {
        let Some(rest) = usize::try_from(self.name_offset)
            .ok()
            .and_then(|start| names.get(start..))
        else {
            return false;
        };
        rest.strip_prefix(name.as_bytes())
            .is_some_and(|after| after.first() == Some(&0))
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(&self, offset: usize) -> Option<u16> {
        Some(u16::from_le_bytes(*self.0.get(offset..)?.first_chunk()?))
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.0.get(offset..)?.first_chunk()?))
    }

    fn u64(&self, offset: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.0.get(offset..)?.first_chunk()?))
    }
}

/// Magic, ELFCLASS64, ELFDATA2LSB.
const IDENTIFICATION: &[u8] = b"\x7fELF\x02\x01";
const SECTION_HEADER_LEN: usize = 64;

/// A small ELF file with one section besides the names, for tests.
#[cfg(test)]
pub(crate) fn with_section(name: &str, content: &[u8]) -> Vec<u8> {
    let names = format!("\0{name}\0.shstrtab\0");
    let content_at = 64_u64;
    let names_at = content_at + content.len() as u64;
    let table_at = names_at + names.len() as u64;

    let mut file = IDENTIFICATION.to_vec();
    file.resize(64, 0);
    file[0x28..0x30].copy_from_slice(&table_at.to_le_bytes());
    file[0x3a..0x40].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
    file.extend(content);
    file.extend(names.as_bytes());
    let mut header = |name_offset: u32, offset: u64, len_bytes: u64| {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&name_offset.to_le_bytes());
        bytes[0x18..0x20].copy_from_slice(&offset.to_le_bytes());
        bytes[0x20..0x28].copy_from_slice(&len_bytes.to_le_bytes());
        file.extend(bytes);
    };
    header(0, 0, 0);
    header(1, content_at, content.len() as u64);
    header(name.len() as u32 + 2, names_at, names.len() as u64);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_section_by_its_whole_name() {
        let file = with_section(".modinfo", b"name=one\0");
        assert_eq!(section(&file, ".modinfo"), Ok(Some(&b"name=one\0"[..])));
        assert_eq!(section(&file, ".mod"), Ok(None));
    }

    #[test]
    fn refuses_what_is_not_elf() {
        assert_eq!(section(b"#!/bin/sh\n", ".modinfo"), Err(ElfError::NotElf64));
        assert_eq!(section(b"", ".modinfo"), Err(ElfError::NotElf64));
    }

    #[test]
    fn no_truncation_of_a_file_panics() {
        let file = with_section(".modinfo", b"name=one\0");
        for len in IDENTIFICATION.len()..file.len() {
            assert!(section(&file[..len], ".modinfo").is_err(), "cut at {len} B");
        }
    }

    #[test]
    fn no_changed_byte_panics() {
        let file = with_section(".modinfo", b"name=one\0");
        for at in 0..file.len() {
            let mut broken = file.clone();
            broken[at] = 0xff;
            let _ = section(&broken, ".modinfo");
        }
    }
}
