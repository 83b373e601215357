//! A netbooted machine gets a RAID 1 of two partitions, LUKS on it, and a filesystem on that: once, also over a loss of power.

use std::time::Duration;

use proto::v1::Workflow;
use qemu_tests::lab::machine::{Blueprint, Machine};

use crate::scene::{Scene, has, lines, scene};

const MIB: u64 = 1 << 20;
const WITHIN: Duration = Duration::from_secs(240);

#[test]
fn a_mirror_is_made_and_encrypted_once_and_put_together_after_another_boot() {
    scene(|scene| {
        let blueprint = Blueprint::numbered(1)
            .memory_mib(768)
            .disk(64 * MIB)
            .disk(64 * MIB);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(&machine, "");
        machine.power_on().unwrap();

        let first = run(scene, &machine);
        let said = lines(scene, &first);
        has(
            &said,
            &[
                "is a new RAID 1 of /dev/vda1, /dev/vdb1",
                "/dev/md127 has a new LUKS header",
                "/dev/mapper/safe has a new ext4",
                // What others say of it.
                "Raid Level : raid1",
                "Raid Devices : 2",
                ":root",
                "type:    LUKS2",
                "device:  /dev/md127",
            ],
        );
        assert!(
            !said.iter().any(|line| line.contains("correct horse")),
            "{said:#?}"
        );

        // Once more: all is there, and open.
        let second = lines(scene, &run(scene, &machine));
        let left = [
            "/dev/vdb has this gpt table with 1 partition already: nothing was written",
            "is this RAID 1 of /dev/vda1, /dev/vdb1 already: nothing was written",
            "already, and is open as /dev/mapper/safe: nothing was written",
            "/dev/mapper/safe has this ext4 already: nothing was written",
        ];
        has(&second, &left);
        assert!(
            !second
                .iter()
                .any(|line| line.starts_with("mdadm --") || line.starts_with("cryptsetup luksFormat"))
        );

        // After a loss of power nothing runs, and all is put together again.
        machine.power_cut();
        machine.power_on().unwrap();
        let third = lines(scene, &run(scene, &machine));
        has(&third, &left);
        has(&third, &["mdadm --assemble /dev/md/root"]);
    });
}

fn run(scene: &Scene, machine: &Machine) -> Workflow {
    let mac = machine.mac();
    let text = format!(
        r#"
version: "1"
name: mirrored
tasks:
  - name: mirror
    worker: "{mac}"
    actions:
      - name: one
        image: partition
        timeout: 60
        input: {{dest_disk: /dev/vda, partitions: [{{size: rest, type: raid}}]}}
      - name: two
        image: partition
        timeout: 60
        input: {{dest_disk: /dev/vdb, partitions: [{{size: rest, type: raid}}]}}
      - {{name: raid, image: raid, timeout: 120, input: {{name: root, level: 1, devices: [/dev/vda1, /dev/vdb1]}}}}
  - name: safe
    worker: "{mac}"
    actions:
      - name: luks
        image: luks
        timeout: 180
        input:
          dest_disk: "${{{{ tasks.mirror.outputs.path }}}}"
          name: safe
          label: safe
          passphrase: correct horse
          options: [--pbkdf, pbkdf2, --pbkdf-force-iterations, 1000]
  - name: content
    worker: "{mac}"
    actions:
      - name: make
        image: mkfs
        timeout: 120
        input:
          dest_disk: "${{{{ tasks.safe.outputs.path }}}}"
          fs_type: ext4
          uuid: 5c1f5b6e-3b0d-4a53-9a43-0e6d9c7c9a11
      - name: look
        image: cexec
        timeout: 120
        environment:
          BLOCK_DEVICE: "${{{{ tasks.safe.outputs.path }}}}"
          FS_TYPE: ext4
          CMD_LINE: mdadm --detail ${{{{ tasks.mirror.outputs.path }}}}; cryptsetup status safe
"#
    );
    let workflow = scene.world.api.run_template(&text).unwrap();
    let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
    done.unwrap_or_else(|error| panic!("{error:#}: {:#?}", lines(scene, &workflow)))
}
