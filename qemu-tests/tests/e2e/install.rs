//! The main job: from an empty disk to a login on Debian, on both firmwares.

use std::fs;

use qemu_tests::lab::display::Display;
use qemu_tests::lab::documents::{ServedImage, install_debian};
use qemu_tests::lab::firmware::Firmware;
use qemu_tests::lab::journey::Journey;
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::wait::Look;

use crate::scene::scene;

#[test]
fn a_bios_machine_gets_debian_and_boots_it_from_its_disk() {
    install(Firmware::Bios);
}

#[test]
fn a_uefi_machine_gets_debian_and_boots_it_from_its_disk() {
    install(Firmware::Uefi);
}

#[track_caller]
fn install(firmware: Firmware) {
    scene(|scene| {
        let debian = std::path::PathBuf::from(std::env::var_os("FARRIER_LAB_DIR").unwrap())
            .join("images")
            .join(::image::debian_disk::FILE_NAME);
        assert!(
            debian.is_file(),
            "{} is not there: `farrier lab prepare` builds it",
            debian.display()
        );
        scene.serve_file(&debian, "debian.raw.zst");
        let sha256 = ::image::sha256_of_file(&debian).unwrap();

        let blueprint = Blueprint::numbered(1).firmware(firmware).disk(3 << 30);
        let mut machine = scene.world.machine(blueprint).unwrap();
        let image = ServedImage {
            file: "debian.raw.zst",
            sha256: &sha256,
        };
        let key = scene.world.key.clone();
        let template = install_debian(
            "debian",
            machine.name(),
            machine.mac(),
            machine.address(),
            &image,
            key.public(),
        );
        let template = scene.world.api.put_template(&template).unwrap();
        let workflow = scene
            .world
            .api
            .create_workflow(&template.name, &[("device_1", machine.mac())])
            .unwrap();

        let display = Display::new();
        let mut journey = Journey::new(&mut machine, &scene.world.api, &display, 1);
        journey.power_on().unwrap();
        journey.netboot().unwrap();
        let finished = journey.run_workflow(&workflow.id).unwrap();
        let attempts: Vec<_> = finished.tasks[0]
            .actions
            .iter()
            .map(|action| action.attempts)
            .collect();
        assert!(
            attempts.iter().all(|&attempts| attempts == 1),
            "attempts of the actions: {attempts:?}"
        );
        journey.boot_from_disk().unwrap();
        journey
            .until("login", 180, |machine| {
                match key.run(machine.address(), "hostname") {
                    Ok(hostname) => Look::Done(hostname.trim().len() as u64),
                    Err(error) => Look::not_yet(format!("{error:#}")),
                }
            })
            .unwrap();
        assert_eq!(key.run(machine.address(), "hostname").unwrap().trim(), "m1");
        let has_efi = key
            .run(
                machine.address(),
                "test -d /sys/firmware/efi && echo yes || echo no",
            )
            .unwrap();
        assert_eq!(has_efi.trim() == "yes", firmware == Firmware::Uefi);
        assert!(fs::metadata(machine.directory().join("net0.pcap")).unwrap().len() > 1000);
    });
}
