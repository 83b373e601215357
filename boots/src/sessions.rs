//! Boot sessions: which conversations belong to one boot of one machine.
//!
//! A boot goes forward only: firmware, iPXE, its script, the system. Somebody who asks from further back has rebooted.
//! Pure: callers pass `now`.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use macaddr::MacAddr6;

use crate::bootfile::Program;
use crate::inventory::BootId;

/// The boots under way, the last one of each known machine.
#[derive(Debug, Default)]
pub struct BootSessions {
    by_mac: HashMap<MacAddr6, Session>,
}

#[derive(Debug)]
struct Session {
    id: BootId,
    reached: Step,
    /// When the step was reached.
    since: SystemTime,
    last_seen: SystemTime,
    xid: Option<u32>,
}

/// How far a boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Firmware,
    Ipxe,
    Script,
    System,
}

/// Conversations further apart than this are not the same boot.
pub const BOOT_WINDOW: Duration = Duration::from_secs(15 * 60);
/// DISCOVERs of the same program with another transaction id, but no further apart than this, are retries.
pub const RETRY_WINDOW: Duration = Duration::from_secs(60);

impl BootSessions {
    /// The boot that a DISCOVER belongs to; begins one where the machine has started anew.
    /// `None` for a system that asks outside a boot.
    pub fn on_discover(
        &mut self,
        now: SystemTime,
        mac: MacAddr6,
        program: Program,
        xid: u32,
    ) -> Option<BootId> {
        let step = step_of(program);
        let goes_on = self.by_mac.get(&mac).is_some_and(|session| {
            session.is_current(now)
                && match step.cmp(&session.reached) {
                    std::cmp::Ordering::Less => false,
                    std::cmp::Ordering::Equal => {
                        step == Step::System
                            || session.xid == Some(xid)
                            || elapsed(session.since, now) <= RETRY_WINDOW
                    }
                    std::cmp::Ordering::Greater => true,
                }
        });
        if !goes_on {
            if step == Step::System {
                return None;
            }
            self.begin(now, mac, step);
        }
        let session = self.by_mac.get_mut(&mac)?;
        session.xid = Some(xid);
        session.reach(now, step);
        Some(session.id.clone())
    }

    /// The boot that a script request belongs to, and whether it had to begin here: the server was restarted in
    /// mid-boot, or the machine did not ask this server for its address.
    pub fn on_script(&mut self, now: SystemTime, mac: MacAddr6) -> (BootId, Began) {
        let current = self
            .by_mac
            .get(&mac)
            .is_some_and(|session| session.is_current(now));
        // A system that runs does not ask for a script: what asks is a boot whose beginning was not seen.
        let went_back = self
            .by_mac
            .get(&mac)
            .is_some_and(|session| session.reached == Step::System);
        let began = if current && !went_back {
            Began::Before
        } else {
            Began::Here
        };
        if began == Began::Here {
            self.begin(now, mac, Step::Script);
        }
        let session = self.by_mac.get_mut(&mac).expect("it was just looked up or begun");
        session.reach(now, Step::Script);
        (session.id.clone(), began)
    }

    /// The boot that anything else of this machine belongs to, and that it is still going on.
    pub fn on_activity(&mut self, now: SystemTime, mac: MacAddr6) -> Option<BootId> {
        let session = self
            .by_mac
            .get_mut(&mac)
            .filter(|session| session.is_current(now))?;
        session.last_seen = session.last_seen.max(now);
        Some(session.id.clone())
    }

    /// Whether any boot reached no further than its script and was seen within `window`: a machine is booting.
    pub fn any_booting(&self, now: SystemTime, window: Duration) -> bool {
        self.by_mac
            .values()
            .any(|session| session.reached <= Step::Script && elapsed(session.last_seen, now) <= window)
    }

    fn begin(&mut self, now: SystemTime, mac: MacAddr6, step: Step) {
        let id = boot_id(now, mac);
        let session = Session {
            id,
            reached: step,
            since: now,
            last_seen: now,
            xid: None,
        };
        self.by_mac.insert(mac, session);
    }
}

/// Whether a boot was known when its script was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    Before,
    Here,
}

impl Session {
    fn is_current(&self, now: SystemTime) -> bool {
        elapsed(self.last_seen, now) <= BOOT_WINDOW
    }

    fn reach(&mut self, now: SystemTime, step: Step) {
        self.last_seen = self.last_seen.max(now);
        if step > self.reached {
            self.reached = step;
            self.since = now;
        }
    }
}

fn step_of(program: Program) -> Step {
    match program {
        Program::HttpFirmware | Program::PxeFirmware => Step::Firmware,
        Program::Ipxe | Program::IpxeWithoutHttp => Step::Ipxe,
        Program::OperatingSystem => Step::System,
    }
}

/// Sorts by time, and cannot be another machine's.
fn boot_id(now: SystemTime, mac: MacAddr6) -> BootId {
    let unix_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mac: String = mac.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    BootId(format!("{unix_ms}-{mac}").into())
}

/// A clock that was set back counts as no time passed.
fn elapsed(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr6 = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b);

    fn at(s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + s)
    }

    #[test]
    fn one_boot_from_firmware_to_agent() {
        let mut boots = BootSessions::default();
        let id = boots.on_discover(at(0), MAC, Program::PxeFirmware, 1).unwrap();
        assert_eq!(&*id.0, "1700000000000-52540077000b");
        assert_eq!(boots.on_discover(at(5), MAC, Program::Ipxe, 2), Some(id.clone()));
        assert_eq!(boots.on_script(at(6), MAC), (id.clone(), Began::Before));
        assert_eq!(boots.on_script(at(9), MAC), (id.clone(), Began::Before));
        assert_eq!(
            boots.on_discover(at(20), MAC, Program::OperatingSystem, 3),
            Some(id.clone())
        );
        assert_eq!(boots.on_activity(at(600), MAC), Some(id));
    }

    #[test]
    fn a_reboot_is_another_boot_however_far_the_last_one_came() {
        let mut boots = BootSessions::default();
        let first = boots.on_discover(at(0), MAC, Program::Ipxe, 1);
        boots.on_script(at(1), MAC);
        let second = boots.on_discover(at(2), MAC, Program::Ipxe, 2);
        assert_ne!(first, second);
        boots.on_discover(at(3), MAC, Program::OperatingSystem, 3);
        let third = boots.on_discover(at(4), MAC, Program::PxeFirmware, 4);
        assert_ne!(second, third);
    }

    #[test]
    fn a_machine_that_tries_again_is_in_the_same_boot() {
        let mut boots = BootSessions::default();
        let first = boots.on_discover(at(0), MAC, Program::PxeFirmware, 1);
        assert_eq!(boots.on_discover(at(30), MAC, Program::PxeFirmware, 2), first);
        assert_eq!(boots.on_discover(at(400), MAC, Program::PxeFirmware, 2), first);
        assert_ne!(boots.on_discover(at(461), MAC, Program::PxeFirmware, 3), first);
    }

    #[test]
    fn a_system_that_renews_begins_no_boot() {
        let mut boots = BootSessions::default();
        assert_eq!(boots.on_discover(at(0), MAC, Program::OperatingSystem, 1), None);
        boots.on_discover(at(10), MAC, Program::PxeFirmware, 2);
        assert_eq!(
            boots.on_discover(at(10_000), MAC, Program::OperatingSystem, 3),
            None
        );
    }

    #[test]
    fn a_script_request_after_a_restart_begins_a_boot() {
        let mut boots = BootSessions::default();
        let (id, began) = boots.on_script(at(0), MAC);
        assert_eq!(began, Began::Here);
        assert_eq!(boots.on_script(at(30), MAC), (id, Began::Before));
    }

    proptest! {
        #[test]
        fn retries_within_a_boot_get_the_same_id(
            retries in proptest::collection::vec((any::<u32>(), 0u64..4), 1..15),
            script_waits in proptest::collection::vec(0u64..600, 1..10),
        ) {
            let mut boots = BootSessions::default();
            let mut now = 0;
            let id = boots.on_discover(at(now), MAC, Program::PxeFirmware, 7);
            for program in [Program::PxeFirmware, Program::IpxeWithoutHttp, Program::Ipxe] {
                for &(xid, wait_s) in &retries {
                    now += wait_s / 3;
                    prop_assert_eq!(&boots.on_discover(at(now), MAC, program, xid), &id);
                }
            }
            for wait_s in script_waits {
                now += wait_s;
                prop_assert_eq!(Some(boots.on_script(at(now), MAC).0), id.clone());
            }
        }
    }
}
