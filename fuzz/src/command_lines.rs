//! Command lines that an agent is given: the kernel's, with what it says of the network, and that of `cexec`.

use agent::actions::command_line;
use agent::cmdline::{BootParameters, Cmdline, Ipam};

const TOKEN: &str = "farrier.token";

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let kernel = Cmdline::parse(text);
    let parameters = BootParameters::from_cmdline(&kernel);
    if let Some(bond) = parameters.bond {
        // What the kernel takes: a name with room for a VLAN's number, delays that are multiples of `miimon`.
        assert!((1..=10).contains(&bond.name.len()) && !bond.name.contains('/'));
        assert!(bond.miimon_ms > 0 && bond.updelay_ms % bond.miimon_ms == 0);
        assert!(bond.members.len() <= 32);
    }
    let _ = kernel.is_on(TOKEN);
    // What actions may see has no token, however it was written.
    assert_eq!(Cmdline::parse(&kernel.masked()).value(TOKEN), None);

    if let Ok(ipam) = Ipam::parse(text) {
        assert!(ipam.prefix <= 32 && ipam.vlan_id.is_none_or(|id| (1..=4094).contains(&id)));
    }

    if let Ok(commands) = command_line::commands(text, None) {
        assert!(!commands.is_empty() && commands.iter().all(|words| !words.is_empty()));
    }
    if let Ok(commands) = command_line::commands("true", Some(text)) {
        assert!(commands.len() == 1 && commands[0].len() >= 2);
    }
}
