//! Filesystems in templates: what no program makes is said with its place, before anything runs.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use workflow::language::{Devices, native, render};

/// The problems of an action of version 1, whose input begins in line 6.
#[track_caller]
fn check(input: &str, want: &[&str]) {
    check_of("mkfs", "dest_disk: /dev/vda1", input, want);
}

#[track_caller]
fn check_of(action: &str, first: &str, input: &str, want: &[&str]) {
    let text = format!(
        "version: \"1\"\nname: w\ninputs: {{label: much-too-long-for-it}}\ntasks:\n- {{name: t, worker: w, actions: [{{name: a, image: \
         {action}, input: {{{first},\n{input}}}}}]}}\n"
    );
    let devices = Devices {
        devices: Default::default(),
        hardware: Value::Null,
    };
    let problems = render(&text, &devices).err().unwrap_or_default();
    let said: Vec<String> = problems
        .iter()
        .map(|problem| &problem.finding)
        .map(|finding| {
            format!(
                "{}, {}: {}",
                finding.place.line, finding.place.column, finding.message
            )
        })
        .collect();
    assert_eq!(said, want, "{input}");
}

#[test]
fn what_no_program_makes_is_told_at_its_field() {
    check("fs_type: ext4, label: root, options: [-m, 1]", &[]);
    check(
        "fs_type: zfs",
        &["6, 10: fs_type \"zfs\" cannot be made: it is one of btrfs, ext2, ext3, ext4, swap, vfat, xfs"],
    );
    check(
        "fs_type: xfs, label: a-label-too-long,\nuuid: 7C3A-91E0, options: [-F]",
        &[
            "6, 22: label \"a-label-too-long\" has 16 B, and one of xfs has 12 B at most",
            "7, 7: uuid \"7C3A-91E0\" is none of xfs: write 32 hexadecimal digits in groups of 8-4-4-4-12, not all of them 0",
            "7, 27: option \"-F\" is none that mkfs.xfs is given here for xfs: it takes -b, -d, -i, -K, -l, -m, -n, -s; label, uuid and type \
             have fields of their own",
        ],
    );
    check(
        "fs_type: ext4, labl: a",
        &["6, 16: \"labl\" is no variable of mkfs; did you mean \"label\"?"],
    );
}

#[test]
fn what_an_expression_gives_is_not_known_yet_and_the_rest_is() {
    check("fs_type: xfs, label: '${{ inputs.label }}'", &[]);
    check(
        "fs_type: vfat, label: '${{ inputs.label }}', uuid: nil",
        &[
            "6, 52: uuid \"nil\" is none of vfat: write 8 hexadecimal digits, such as 7C3A-91E0, not all of them 0",
        ],
    );
}

#[test]
fn an_erasure_that_no_disk_has_is_told_at_its_field() {
    let check = |input: &str, want: &[&str]| check_of("wipe", "dest_disk: /dev/vda", input, want);
    check("method: sanitize-block, samples: 200", &[]);
    check("method: '${{ inputs.label }}'", &[]);
    check(
        "method: shred, samples: many",
        &[
            "6, 9: method \"shred\" is not known: it is auto, or one of sanitize-block, sanitize-crypto, format, format-crypto, \
             ata-enhanced-erase, ata-erase, overwrite, zero-out, discard",
            "6, 25: samples \"many\" is none: write a number of blocks of 1 MiB, 65536 at most",
        ],
    );
}

#[test]
fn a_partition_that_no_table_has_is_told_at_its_field() {
    let check = |input: &str, want: &[&str]| check_of("growpart", "dest_disk: /dev/vda", input, want);
    check("partition: 3, partition_only: true", &[]);
    check(
        "number: 3",
        &["6, 1: \"number\" is no variable of growpart: they are dest_disk, partition, partition_only"],
    );
    check(
        "partition: root",
        &["6, 12: partition \"root\" is none: write its number, 1 to 1024, or leave it out"],
    );
}

#[test]
fn a_luks_header_that_there_is_not_is_told_at_its_field() {
    let check = |input: &str, want: &[&str]| check_of("luks", "dest_disk: /dev/vda", input, want);
    check(
        "name: data, label: data, passphrase: a, options: [--pbkdf, pbkdf2]",
        &[],
    );
    check("name: '${{ inputs.label }}', passphrase: a", &[]);
    check(
        "name: a/b, passphrase: a, options: [--header]",
        &[
            "6, 7: name \"a/b\" is none of a mapping: write letters, digits, \".\", \"_\", \"-\" and \"+\", a letter or digit first, 127 B at most, \
             and not \"control\"",
            "6, 36: option \"--header\" is none that cryptsetup luksFormat is given here for LUKS: it takes -c, --cipher, -s, --key-size, -h, \
             --hash, -i, --iter-time, --pbkdf, --pbkdf-memory, --pbkdf-parallel, --pbkdf-force-iterations, --sector-size; label, uuid and \
             type have fields of their own",
        ],
    );
}

#[test]
fn an_array_that_md_does_not_have_is_told_at_its_field() {
    let check = |input: &str, want: &[&str]| check_of("raid", "name: root", input, want);
    check("level: 1, devices: [/dev/vda2, /dev/vdb2], metadata: '1.0'", &[]);
    check(
        "level: 5, devices: [PARTLABEL=a, PARTLABEL=b], bitmap: external",
        &[
            "6, 20: devices has 2, and RAID 5 needs 3 members at least",
            "6, 56: bitmap \"external\" is none: it is internal or none",
        ],
    );
}

#[test]
fn options_are_told_to_the_action_as_json() {
    let input = json!({"fs_type": "ext4", "options": ["-m", 1]});
    let set = native("mkfs")
        .unwrap()
        .set_by(input.as_object().unwrap())
        .unwrap();
    assert_eq!(set["OPTIONS"], r#"["-m",1]"#);
}

#[test]
fn a_seed_that_nobody_reads_is_told_at_its_field() {
    let check = |input: &str, want: &[&str]| check_of("seed", "dest_disk: LABEL=root", input, want);
    check("user_data: '#cloud-config'", &[]);
    check("datasource: '${{ inputs.label }}', user_data: nothing", &[]);
    check(
        "user_data: 'hostname: a', form: iso9660, fs_type: ext4",
        &[
            "6, 12: user_data begins with \"hostname: a\", by which cloud-init does not know what it is, and would leave it aside: write \
             \"#cloud-config\", \"#!\", \"#include\", \"#cloud-boothook\", \"#part-handler\", \"## template: jinja\" or a MIME message first",
            "6, 51: fs_type is of form files, and this is iso9660: leave it out",
        ],
    );
    check(
        "datasource: ignition, user_data: '{}', metadata: a",
        &["6, 40: \"metadata\" is no variable of seed; did you mean \"meta_data\"?"],
    );
}

#[test]
fn a_boot_entry_that_no_firmware_has_is_told_at_its_field() {
    let check = |input: &str, want: &[&str]| check_of("bootentry", "dest_disk: /dev/vda", input, want);
    check(
        "label: debian, loader: /EFI/debian/shimx64.efi, order: [debian], remove: [old]",
        &[],
    );
    check(
        "label: '${{ inputs.label }}', loader: /EFI/x.efi, order: first",
        &[],
    );
    check(
        "label: debian, loader: shimx64.efi, order: soon",
        &[
            "6, 24: loader \"shimx64.efi\" does not begin at the top of its partition: write a path such as /EFI/debian/shimx64.efi",
            "6, 44: order \"soon\" is not known: it is first, keep, last, or a list of labels",
        ],
    );
}
