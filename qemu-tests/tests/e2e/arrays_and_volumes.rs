//! A netbooted machine gets arrays of every level, a volume group of two of them, and a filesystem on a volume: once, also over a loss
//! of power.

use std::time::Duration;

use proto::v1::Workflow;
use qemu_tests::lab::machine::{Blueprint, Machine};

use crate::scene::{Scene, has, lines, scene};

const MIB: u64 = 1 << 20;
const WITHIN: Duration = Duration::from_secs(300);

#[test]
fn arrays_of_every_level_carry_volumes_that_are_made_once_and_activated_after_another_boot() {
    scene(|scene| {
        let mut blueprint = Blueprint::numbered(1).memory_mib(768);
        for _ in 0..4 {
            blueprint = blueprint.disk(96 * MIB);
        }
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(&machine, "");
        machine.power_on().unwrap();

        let first = lines(scene, &run(scene, &machine));
        has(
            &first,
            &[
                "is a new RAID 0 of /dev/vda1, /dev/vdb1",
                "is a new RAID 5 of /dev/vda2, /dev/vdb2, /dev/vdc2",
                "is a new RAID 6 of /dev/vda3, /dev/vdb3, /dev/vdc3, /dev/vdd3",
                "is a new RAID 10 of /dev/vda4, /dev/vdb4, /dev/vdc4, /dev/vdd4",
                "with root, data",
                "/dev/vg0/root has a new ext4",
                // What others say of it.
                "Raid Level : raid6",
                "Raid Level : raid10",
                // 16 MiB are four extents, and data has what is left.
                "root:4:vg0",
                "vg0:0",
            ],
        );

        // Once more: all is there.
        let left = [
            "is this RAID 0 of /dev/vda1, /dev/vdb1 already: nothing was written",
            "is this RAID 5 of /dev/vda2, /dev/vdb2, /dev/vdc2 already: nothing was written",
            "is this RAID 6 of /dev/vda3, /dev/vdb3, /dev/vdc3, /dev/vdd3 already: nothing was written",
            "is this RAID 10 of /dev/vda4, /dev/vdb4, /dev/vdc4, /dev/vdd4 already: nothing was written",
            "vg0 is this volume group of",
            "/dev/vg0/root has this ext4 already: nothing was written",
        ];
        let second = lines(scene, &run(scene, &machine));
        has(&second, &left);
        let makes = |line: &&String| {
            ["mdadm --create", "lvm pvcreate", "lvm vgcreate", "lvm lvcreate"]
                .iter()
                .any(|program| line.starts_with(program))
        };
        assert_eq!(second.iter().find(makes), None);

        // Two of its volumes' devices are a part of a group that nobody named: they are not overwritten.
        let refused = scene.world.api.run_template(&other_group(&machine)).unwrap();
        let why = scene.failure_of(&refused);
        assert!(
            why.contains("is a part of the volume group vg0, which has other devices too"),
            "{why}"
        );

        // After a loss of power nothing runs, and all is put together again.
        machine.power_cut();
        machine.power_on().unwrap();
        let third = lines(scene, &run(scene, &machine));
        has(&third, &left);
        has(&third, &["mdadm --assemble /dev/md/five", "lvm vgchange -ay vg0"]);
        assert_eq!(third.iter().find(makes), None);

        // What is in use is refused with what holds it, and taken apart where that is asked for.
        let busy = scene.world.api.run_template(&wiped(&machine, false)).unwrap();
        let why = scene.failure_of(&busy);
        assert!(
            why.starts_with("DiskBusy") && why.contains("vda2 is part of md"),
            "{why}"
        );
        let apart = scene.world.api.run_template(&wiped(&machine, true)).unwrap();
        let done = scene.world.api.wait_for_workflow(&apart.id, "SUCCESS", WITHIN);
        done.unwrap_or_else(|error| panic!("{error:#}: {:#?}", lines(scene, &apart)));
        let said = lines(scene, &apart);
        has(
            &said,
            &[
                "closing the mapping vg0-root",
                "closing the mapping vg0-data",
                "stopping the array /dev/md",
            ],
        );
        let first = |words: &str| said.iter().position(|line| line.contains(words));
        let last = |words: &str| said.iter().rposition(|line| line.contains(words));
        assert!(
            first("closing the mapping vg0-data") < last("stopping the array"),
            "{said:#?}"
        );
        // Nothing is left to be stopped for the others.
        let stopped = said
            .iter()
            .filter(|line| line.starts_with("stopping the array"))
            .count();
        assert_eq!(stopped, 4, "{said:#?}");
    });
}

fn run(scene: &Scene, machine: &Machine) -> Workflow {
    let mac = machine.mac();
    let mut text = format!(
        "version: \"1\"\nname: arrays\ntasks:\n  - name: tables\n    worker: \"{mac}\"\n    actions:\n"
    );
    for disk in ["vda", "vdb", "vdc", "vdd"] {
        text += &format!(
            "      - {{name: {disk}, image: partition, timeout: 60, input: {{dest_disk: /dev/{disk}, partitions: [{}]}}}}\n",
            ["{size: 20MiB, type: raid}"; 4].join(", ")
        );
    }
    for (name, level, disks, partition) in [
        ("zero", 0, "ab", 1),
        ("five", 5, "abc", 2),
        ("six", 6, "abcd", 3),
        ("ten", 10, "abcd", 4),
    ] {
        let devices: Vec<String> = disks
            .chars()
            .map(|disk| format!("/dev/vd{disk}{partition}"))
            .collect();
        text += &format!(
            "  - name: {name}\n    worker: \"{mac}\"\n    actions:\n      - {{name: raid, image: raid, timeout: 120, input: {{name: {name}, \
             level: {level}, devices: [{}]}}}}\n",
            devices.join(", ")
        );
    }
    text += &format!(
        r#"
  - name: group
    worker: "{mac}"
    actions:
      - name: lvm
        image: lvm
        timeout: 120
        input:
          name: vg0
          devices: ["${{{{ tasks.five.outputs.path }}}}", "${{{{ tasks.six.outputs.path }}}}"]
          volumes: [{{name: data, size: rest}}, {{name: root, size: 16MiB}}]
  - name: content
    worker: "{mac}"
    actions:
      - name: make
        image: mkfs
        timeout: 120
        input:
          dest_disk: "${{{{ tasks.group.outputs.paths.root }}}}"
          fs_type: ext4
          uuid: 5c1f5b6e-3b0d-4a53-9a43-0e6d9c7c9a11
      - name: look
        image: cexec
        timeout: 120
        environment:
          BLOCK_DEVICE: "${{{{ tasks.group.outputs.paths.root }}}}"
          FS_TYPE: ext4
          CMD_LINE: >-
            mdadm --detail ${{{{ tasks.six.outputs.path }}}}; mdadm --detail ${{{{ tasks.ten.outputs.path }}}};
            lvs --noheadings --separator : -o lv_name,seg_size_pe,vg_name vg0; vgs --noheadings --separator : -o vg_name,vg_free_count vg0
"#
    );
    let workflow = scene.world.api.run_template(&text).unwrap();
    let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
    done.unwrap_or_else(|error| panic!("{error:#}: {:#?}", lines(scene, &workflow)))
}

/// Every disk is erased.
fn wiped(machine: &Machine, stop_users: bool) -> String {
    let mac = machine.mac();
    let mut text = format!(
        "version: \"1\"\nname: wiped\ntasks:\n  - name: wiped\n    worker: \"{mac}\"\n    actions:\n"
    );
    for disk in ["vda", "vdb", "vdc", "vdd"] {
        text += &format!(
            "      - {{name: {disk}, image: wipe, timeout: 120, input: {{dest_disk: /dev/{disk}, method: overwrite, stop_users: {stop_users}}}}}\n"
        );
    }
    text
}

fn other_group(machine: &Machine) -> String {
    let mac = machine.mac();
    format!(
        "version: \"1\"\nname: other\ntasks:\n  - name: group\n    worker: \"{mac}\"\n    actions:\n      - {{name: lvm, image: lvm, timeout: 60, \
         input: {{name: vg1, devices: [/dev/md/five]}}}}\n"
    )
}
