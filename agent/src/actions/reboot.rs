//! `reboot` and `poweroff`: the machine leaves once the server has acknowledged that it will.

use super::Done;

pub(super) fn power_off() -> Done {
    Done::Leaving("poweroff")
}

pub(super) fn reboot() -> Done {
    Done::Leaving("reboot")
}
