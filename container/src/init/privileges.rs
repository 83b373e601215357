//! What the action's first process gives up before it becomes the program, in the one order that works.

use std::io;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use super::named;
use crate::confinement;
use crate::user::User;

/// Becomes the user, and confined where it is to be.
pub(super) fn take(user: &User, confined: bool) -> io::Result<()> {
    if confined {
        // While it may: what is out of this set no program gets, set-user-id or not.
        for capability in CapabilitySet::all().difference(confinement::CAPABILITIES).iter() {
            match thread::remove_capability_from_bounding_set(capability) {
                // Of a newer kernel than this one.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&groups).map_err(|e| named("taking the user's groups", e))?;
    setresgid(gid, gid, gid).map_err(|e| named("taking the user's group", e))?;
    setresuid(uid, uid, uid).map_err(|e| named("becoming the user", e))?;
    if confined {
        confine(user.uid == 0)?;
    }
    // The kernel forgets it whenever the user or what it may do changes.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| named("following the keeper", e))?;
    if confined {
        for filter in confinement::filters().map_err(io::Error::other)? {
            seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

fn confine(is_root: bool) -> io::Result<()> {
    let kept = if is_root {
        confinement::CAPABILITIES
    } else {
        CapabilitySet::empty()
    };
    thread::clear_ambient_capability_set()?;
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    thread::set_no_new_privs(true)?;
    Ok(())
}
