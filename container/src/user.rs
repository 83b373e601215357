//! Who an image's process is: `user`, `uid`, `user:group` and so on, looked up in the image's own `/etc/passwd` and
//! `/etc/group`. Pure; the texts come from inside the image and may be anything.
//!
//! Source: Dockerfile reference, `USER`; passwd(5), group(5). As Docker: a name has to be known, a number has not; groups
//! that list the user are taken along where no group is named.

use thiserror::Error;

/// The highest id that the kernel takes.
const MAX_ID: u32 = i32::MAX as u32;
/// The most supplementary groups that a process may have (NGROUPS_MAX).
const MAX_GROUPS: usize = 65_536;
/// The most that is read of either file.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Without `gid`.
    pub groups: Vec<u32>,
    /// Its home folder; `/` where the image knows none.
    pub home: String,
}

/// Why an image's user is nobody.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UserError {
    #[error("{whose} {id} is too large: the highest that there is is {MAX_ID}")]
    Id { whose: &'static str, id: String },
    #[error(
        "the image's /etc/group has no group {group:?}, which its user {spec:?} names: name one that it has, or a number"
    )]
    NoGroup { spec: String, group: String },
    #[error("the image's /etc/passwd has no user {user:?}: name one that it has, or a number")]
    NoUser { user: String },
}

/// The user that `spec` means; an empty one is root.
///
/// # Errors
/// A name that the image does not know, a number that is none of an id.
pub fn resolve(spec: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (who, of_group) = match spec.split_once(':') {
        Some((who, group)) => (who, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let who = if who.is_empty() { "0" } else { who };
    let number = id(who, "user")?;
    let known = accounts(passwd).find(|account| match number {
        Some(uid) => account.uid == uid,
        None => account.name == who,
    });
    let uid = match (&known, number) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(UserError::NoUser { user: who.to_owned() }),
    };
    let gid = match of_group {
        Some(name) => group_id(spec, name, group)?,
        None => known.as_ref().map_or(0, |account| account.gid),
    };
    let name = known.as_ref().map(|account| account.name);
    let mut groups: Vec<u32> = match (of_group, name) {
        (None, Some(name)) => entries(group)
            .filter(|found| found.members.split(',').any(|member| member == name))
            .map(|found| found.gid)
            .filter(|found| *found != gid)
            .take(MAX_GROUPS)
            .collect(),
        _ => Vec::new(),
    };
    groups.sort_unstable();
    groups.dedup();
    let home = known
        .map(|account| account.home)
        .filter(|home| home.starts_with('/'));
    Ok(User {
        uid,
        gid,
        groups,
        home: home.unwrap_or("/").to_owned(),
    })
}

fn group_id(spec: &str, name: &str, group: &str) -> Result<u32, UserError> {
    if let Some(gid) = id(name, "group")? {
        return Ok(gid);
    }
    let found = entries(group).find(|entry| entry.name == name);
    found.map(|entry| entry.gid).ok_or_else(|| UserError::NoGroup {
        spec: spec.to_owned(),
        group: name.to_owned(),
    })
}

/// The number that a text is; `None`: it is a name.
fn id(text: &str, whose: &'static str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::Id {
            whose,
            id: text.to_owned(),
        }),
    }
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Lines that are none are passed over, as libc does.
fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let uid = plain_id(fields.next()?)?;
        let gid = plain_id(fields.next()?)?;
        let _comment = fields.next();
        Some(Account {
            name,
            uid,
            gid,
            home: fields.next().unwrap_or_default(),
        })
    })
}

struct Entry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn entries(group: &str) -> impl Iterator<Item = Entry<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        Some(Entry {
            name,
            gid: plain_id(fields.next()?)?,
            members: fields.next().unwrap_or_default(),
        })
    })
}

fn plain_id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # no account\n\
        broken:x:one:1::/:\n\
        web:x:33:33:www:/srv/web:/bin/false\n\
        web:x:34:34:second:/:\n\
        bare:x:1000:100\n";
    const GROUP: &str =
        "root:x:0:\nweb:x:33:\ndisk:x:6:root,web\nvideo:x:44:web\nbroken:x:\nusers:x:100:bare";

    #[track_caller]
    fn check(spec: &str, want: (u32, u32, &[u32], &str)) {
        let user = resolve(spec, PASSWD, GROUP).expect(spec);
        let User {
            uid,
            gid,
            groups,
            home,
        } = &user;
        assert_eq!((*uid, *gid, groups.as_slice(), home.as_str()), want, "{spec}");
    }

    #[test]
    fn a_user_is_found_as_docker_finds_it() {
        check("", (0, 0, &[6], "/root"));
        check("root", (0, 0, &[6], "/root"));
        check("web", (33, 33, &[6, 44], "/srv/web"));
        check("33", (33, 33, &[6, 44], "/srv/web"));
        // A group that is named stands alone.
        check("web:disk", (33, 6, &[], "/srv/web"));
        check("web:4711", (33, 4711, &[], "/srv/web"));
        check("web:", (33, 33, &[6, 44], "/srv/web"));
        check(":disk", (0, 6, &[], "/root"));
        // A number need not be known.
        check("4711", (4711, 0, &[], "/"));
        check("4711:4712", (4711, 4712, &[], "/"));
        check("bare", (1000, 100, &[], "/"));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let refused = |spec: &str| resolve(spec, PASSWD, GROUP).expect_err(spec).to_string();
        assert!(refused("nobody").contains("no user \"nobody\""));
        assert!(refused("broken").contains("no user \"broken\""));
        assert!(refused("web:nogroup").contains("no group \"nogroup\""));
        assert!(refused("4294967296").contains("user 4294967296 is too large"));
        assert!(refused("0:2147483648").contains("group 2147483648 is too large"));
        assert!(resolve("web", "", "").is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(spec in ".{0,20}", passwd in "[a-z0-9:\n,]{0,200}", group in "[a-z0-9:\n,]{0,200}") {
            if let Ok(user) = resolve(&spec, &passwd, &group) {
                prop_assert!(user.uid <= MAX_ID && user.gid <= MAX_ID);
                prop_assert!(user.home.starts_with('/') && !user.groups.contains(&user.gid));
            }
        }
    }
}
