//! POSIX access control lists, from text to the attribute that the kernel takes. Pure.
//!
//! Archives have them as text. Source: POSIX.1e draft 17, section 23.3 (long and short text form); acl(5); Linux,
//! include/uapi/linux/posix_acl_xattr.h.

/// More than this goes into no attribute of ext4 or XFS.
const LIMIT_ENTRIES: usize = 4096;
/// `POSIX_ACL_XATTR_VERSION`
const VERSION: u32 = 2;
/// `ACL_UNDEFINED_ID`
const NO_ID: u32 = u32::MAX;

/// A list that cannot be given to a file, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its access control list is not used: {0}")]
pub struct BadAccessList(String);

/// The value of `system.posix_acl_access` or `system.posix_acl_default` for a list in text form.
///
/// Entries are `user:1000:rw-` and its like, with line feeds or commas between them. Users and groups are numbers; star's
/// form with the number behind the permissions (`user:ann:rw-:1000`) does as well.
///
/// # Errors
/// In words: an entry that is none, one that has a name and no number, or too many of them.
pub fn encode(text: &[u8]) -> Result<Vec<u8>, BadAccessList> {
    let text = std::str::from_utf8(text).map_err(|_| BadAccessList("it is no text".to_owned()))?;
    let mut entries = Vec::new();
    for line in text.split(['\n', ',']) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if entries.len() == LIMIT_ENTRIES {
            return Err(BadAccessList(format!("it has more than {LIMIT_ENTRIES} entries")));
        }
        entries.push(entry(line)?);
    }
    // The kernel refuses another order.
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Ok(value)
}

fn entry(line: &str) -> Result<(u16, u32, u16), BadAccessList> {
    let shown: String = line.chars().take(100).collect();
    let bad = |why: &str| BadAccessList(format!("entry {shown:?} {why}"));
    let mut fields = line.split(':').map(str::trim);
    let mut field = || fields.next().unwrap_or_default();
    let (tag, who, permissions, number) = (field(), field(), field(), field());
    let (tag, named) = match tag {
        "user" | "u" => (0x01, Some(0x02)),
        "group" | "g" => (0x04, Some(0x08)),
        "mask" | "m" => (0x10, None),
        "other" | "o" => (0x20, None),
        _ => return Err(bad("is of no user, group, mask or other")),
    };
    let permissions = permissions_of(permissions).ok_or_else(|| bad("has no permissions such as r-x"))?;
    if who.is_empty() {
        return Ok((tag, NO_ID, permissions));
    }
    let Some(named) = named else {
        return Err(bad("names somebody, and is of all"));
    };
    let id = [number, who].iter().find_map(|text| text.parse::<u32>().ok());
    match id.filter(|id| *id != NO_ID) {
        Some(id) => Ok((named, id, permissions)),
        None => Err(bad(
            "has a name, and only a number is the same on every machine: make the archive with tar's --xattrs and --xattrs-include='*', \
             which write numbers",
        )),
    }
}

fn permissions_of(text: &str) -> Option<u16> {
    if text.is_empty() || text.len() > 3 {
        return None;
    }
    text.bytes().try_fold(0, |permissions, letter| match letter {
        b'r' => Some(permissions | 4),
        b'w' => Some(permissions | 2),
        b'x' => Some(permissions | 1),
        b'-' => Some(permissions),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_what_the_kernel_takes_in_its_order() {
        let value = encode(b"other::r--\nuser::rwx\nmask::r-x\ngroup::r-x\nuser:1000:rw-\t#effective:r--\n");
        let entry = |tag: u8, permissions: u8, id: u32| {
            let mut bytes = vec![tag, 0, permissions, 0];
            bytes.extend(id.to_le_bytes());
            bytes
        };
        let want = [
            vec![2, 0, 0, 0],
            entry(1, 7, u32::MAX),
            entry(2, 6, 1000),
            entry(4, 5, u32::MAX),
            entry(0x10, 5, u32::MAX),
            entry(0x20, 4, u32::MAX),
        ];
        assert_eq!(value, Ok(want.concat()));
        // The short form, and star's with the number behind.
        assert_eq!(
            encode(b"u::rwx,u:ann:rw:1000,g::rx,m::rx,o::r"),
            encode(b"user::rwx\nuser:1000:rw-\ngroup::r-x\nmask::r-x\nother::r--")
        );
        assert_eq!(encode(b""), Ok(vec![2, 0, 0, 0]));
    }

    #[test]
    fn what_is_no_list_is_named() {
        for (text, word) in [
            (&b"user:ann:rw-"[..], "--xattrs-include='*'"),
            (b"user:4294967295:rw-", "--xattrs-include='*'"),
            (b"mask:5:rw-", "mask:5"),
            (b"user::rwq", "permissions"),
            (b"user::", "permissions"),
            (b"nobody::rwx", "nobody"),
            (b"\xff", "no text"),
            (&b"u:1:r,".repeat(5000), "more than 4096"),
        ] {
            let said = encode(text).expect_err(word).to_string();
            assert!(said.contains(word), "{said}");
        }
    }
}
