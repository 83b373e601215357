//! Finds one section of a 64-bit little-endian ELF file, which is all that reading a kernel module's metadata takes, and the libraries that
//! a program names in its dynamic section.
//!
//! Source: System V Application Binary Interface, "Object Files" and "Dynamic Section"; `elf(5)`.

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

/// Returns the names of the files that the system has to put beside this one to run it: the shared libraries that it links (`DT_NEEDED`),
/// and the dynamic loader, without its folder. None for a file that is linked statically.
///
/// # Errors
/// [`ElfError`] as [`section`], and for names that lie outside the file.
pub fn needed(file: &[u8]) -> Result<Vec<String>, ElfError> {
    let outside = |what| ElfError::OutOfBounds {
        what,
        len_bytes: file.len(),
    };
    let mut needed = Vec::new();
    if let Some(dynamic) = section(file, ".dynamic")? {
        let names = section(file, ".dynstr")?.unwrap_or_default();
        for entry in dynamic.chunks_exact(DYNAMIC_ENTRY_LEN) {
            let fields = Fields(entry);
            match (fields.u64(0), fields.u64(8)) {
                (Some(DT_NULL), _) => break,
                (Some(DT_NEEDED), Some(at)) => {
                    let name = usize::try_from(at).ok().and_then(|at| names.get(at..));
                    let name = name.and_then(text).ok_or(outside("the name of a library"))?;
                    needed.push(name);
                }
                _ => {}
            }
        }
    }
    if let Some(loader) = section(file, ".interp")? {
        let path = text(loader).ok_or(outside("the name of the loader"))?;
        needed.push(path.rsplit('/').next().unwrap_or_default().to_owned());
    }
    Ok(needed)
}

/// Whether a file begins as one that [`section`] reads.
pub(crate) fn is_elf(file: &[u8]) -> bool {
    file.starts_with(IDENTIFICATION)
}

/// The text up to the first zero byte.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    String::from_utf8(bytes.get(..end)?.to_vec()).ok()
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
const DYNAMIC_ENTRY_LEN: usize = 16;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;

/// A small ELF file with one section besides the names, for tests.
#[cfg(test)]
pub(crate) fn with_section(name: &str, content: &[u8]) -> Vec<u8> {
    with_sections(&[(name, content)])
}

/// A small ELF file with these sections besides the names, for tests.
#[cfg(test)]
pub(crate) fn with_sections(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = b"\0".to_vec();
    let mut file = IDENTIFICATION.to_vec();
    file.resize(64, 0);
    let mut headers = vec![[0; 64]];
    let mut add = |name: &str, content: &[u8]| {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        header[0x18..0x20].copy_from_slice(&(file.len() as u64).to_le_bytes());
        names.extend([name.as_bytes(), b"\0"].concat());
        // Those of the section itself are in it.
        let content = if name == ".shstrtab" { &names } else { content };
        header[0x20..0x28].copy_from_slice(&(content.len() as u64).to_le_bytes());
        file.extend(content);
        headers.push(header);
    };
    for (name, content) in sections {
        add(name, content);
    }
    add(".shstrtab", b"");
    let (count, table_at) = (headers.len() as u8, file.len() as u64);
    file[0x28..0x30].copy_from_slice(&table_at.to_le_bytes());
    file[0x3a..0x40].copy_from_slice(&[64, 0, count, 0, count - 1, 0]);
    file.extend(headers.concat());
    file
}

/// A program that links these libraries and is started by this loader, for tests.
#[cfg(test)]
pub(crate) fn program(libraries: &[&str], loader: Option<&str>) -> Vec<u8> {
    let (mut names, mut dynamic) = (vec![0], Vec::new());
    for library in libraries {
        dynamic.extend([DT_NEEDED.to_le_bytes(), (names.len() as u64).to_le_bytes()].concat());
        names.extend([library.as_bytes(), b"\0"].concat());
    }
    dynamic.extend([0; DYNAMIC_ENTRY_LEN]);
    let loader = loader.map(|loader| format!("{loader}\0"));
    let mut sections = vec![(".dynamic", &dynamic[..]), (".dynstr", &names[..])];
    sections.extend(loader.iter().map(|loader| (".interp", loader.as_bytes())));
    with_sections(&sections)
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
    fn a_program_names_its_libraries_and_its_loader() {
        let file = program(&["libxfs.so.1", "libc.so.6"], Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(
            needed(&file).unwrap(),
            ["libxfs.so.1", "libc.so.6", "ld-linux-x86-64.so.2"]
        );
        assert_eq!(
            needed(&with_section(".modinfo", b"")).unwrap(),
            Vec::<String>::new()
        );
        let dynamic = [DT_NEEDED.to_le_bytes(), 99_u64.to_le_bytes()].concat();
        let outside = with_sections(&[(".dynamic", &dynamic), (".dynstr", b"\0")]);
        assert!(matches!(needed(&outside), Err(ElfError::OutOfBounds { .. })));
    }

    /// As readelf(1) shows it of a program of this system.
    #[test]
    fn this_very_program_links_the_c_library() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        assert!(needed(&file).unwrap().iter().any(|name| name == "libc.so.6"));
    }

    #[test]
    fn no_truncation_of_a_file_panics() {
        let file = program(&["libc.so.6"], Some("/ld"));
        for len in IDENTIFICATION.len()..file.len() {
            assert!(section(&file[..len], ".dynamic").is_err(), "cut at {len} B");
            assert!(needed(&file[..len]).is_err(), "cut at {len} B");
        }
    }

    #[test]
    fn no_changed_byte_panics() {
        let file = program(&["libc.so.6"], Some("/ld"));
        for at in 0..file.len() {
            let mut broken = file.clone();
            broken[at] = 0xff;
            let _ = section(&broken, ".dynamic");
            let _ = needed(&broken);
        }
    }
}
