//! A management controller that has a network: OpenIPMI's simulator, to which QEMU's KCS interface is wired.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use qemu_tests::lab::process::Guarded;
use qemu_tests::lab::run_dir::RunDir;

/// Its address.
pub(crate) const ADDRESS: &str = "10.77.9.9";
/// Its MAC.
pub(crate) const MAC: &str = "52:54:00:77:09:09";
/// Its firmware's version: the minor one is in decimal digits (IPMI 2.0, section 20.1).
pub(crate) const VERSION: &str = "2.45";

/// What connects a machine to it.
pub(crate) const WIRED: [&str; 6] = [
    "-chardev",
    "socket,id=bmc,host=127.0.0.1,port=9002,reconnect=1",
    "-device",
    "ipmi-bmc-extern,id=bmc0,chardev=bmc",
    "-device",
    "isa-ipmi-kcs,bmc=bmc0",
];

/// Starts one, in the lab's namespace of networks; it ends when it is dropped.
pub(crate) fn start(run_dir: &RunDir) -> Guarded {
    let directory = run_dir.sub("controller").unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    // It asks a program for what it says of its LAN.
    let lan = write(
        "lan",
        &format!(
            "#!/bin/sh\nshift\nfor what; do\n  case $what in\n    ip_addr) echo {ADDRESS} ;;\n    ip_addr_src) echo dhcp ;;\n    \
             mac_addr) echo {MAC} ;;\n    *) echo 0.0.0.0 ;;\n  esac | sed \"s/^/$what:/\"\ndone\n"
        ),
    );
    fs::set_permissions(&lan, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = write(
        "lan.conf",
        &format!(
            "name \"lab\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 9001\n    priv_limit admin\n    \
             lan_config_program \"{}\"\n  endlan\n  serial 15 127.0.0.1 9002 codec VM ipmb 0x20\n",
            lan.display()
        ),
    );
    let controller = write(
        "lab.emu",
        "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 2 0x45 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n",
    );
    let mut simulator = Command::new("ipmi_sim");
    simulator
        .arg("-n")
        .arg("-c")
        .arg(settings)
        .arg("-f")
        .arg(controller)
        .arg("-s")
        .arg(run_dir.sub("controller-state").unwrap())
        .stdin(Stdio::null());
    Guarded::start(&mut simulator).unwrap()
}
