//! docs/how-to/switch-machines-on.md: whom the script asks for what. Its `ipmitool` writes down how it was called.

use std::fs;

use crate::page::all_blocks;
use crate::world::{World, in_a_world};

const PAGE: &str = "switch-machines-on.md";
const MACHINES: &str = "\
machine: node1
mac: 52:54:00:77:00:0b
address: 10.77.0.11/24
---
machine: node2
mac: 52:54:00:77:00:0c
address: 10.77.0.12/24
labels: {rack: r7, bmc: 10.99.0.12}
---
machine: node3
mac: 52:54:00:77:00:0d
address: 10.77.0.13/24
labels: {rack: r8, bmc: 10.99.0.13}
";

fn called(world: &World) -> Vec<String> {
    let calls = fs::read_to_string(world.at("calls")).unwrap_or_default();
    let _ = fs::remove_file(world.at("calls"));
    calls.lines().map(str::to_owned).collect()
}

fn switched_on(bmc: &str) -> [String; 2] {
    ["bootdev pxe", "power on"].map(|what| format!("... -I lanplus -H {bmc} -U admin -E chassis {what}"))
}

#[test]
fn the_script_switches_on_what_it_is_told_by_the_bmc_that_is_known() {
    in_a_world(|world| {
        world.network(&[]);
        world.server("");
        world.writes("machines.yaml", MACHINES);
        world.types("farrier machine apply -f machines.yaml");
        let calls = world.at("calls");
        world.program(
            "ipmitool",
            &format!("#!/bin/sh\necho \"$IPMI_PASSWORD $*\" >> {}\n", calls.display()),
        );
        let [label, switch, look] = all_blocks(PAGE, "sh");
        let [script] = all_blocks(PAGE, "text power-on");
        world.writes("power-on", &script);
        // Before its address is known, the machine is named, with what to do.
        let refused = world.tries("IPMI_PASSWORD=x sh power-on node1");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(
            !refused.status.success() && said.contains("farrier machine label node1 bmc="),
            "{said}"
        );
        assert_eq!(called(world), [""; 0]);
        world.types(&label);
        world.types(&switch);
        assert_eq!(
            called(world),
            [switched_on("10.99.0.11"), switched_on("10.99.0.12")].concat()
        );
        let said = world.types(&look);
        assert!(said.contains("node1") && said.contains("Boots next:"), "{said}");
    });
}
