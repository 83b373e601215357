//! What takes minutes, and what is built from packages that nothing else needs: each test is a step of
//! `cargo xtask test --all --only machines`. The ordinary command leaves them out by the name of this file.

use crate::{controllers, deaths, hotplug, kernels, nics};

#[test]
fn machines_boot_from_each_card_with_its_driver_alone() {
    nics::machines_boot_from_each_card_with_its_driver_alone();
}

#[test]
fn a_disk_on_every_controller_is_written_read_and_told_of() {
    controllers::a_disk_on_every_controller_is_written_read_and_told_of();
}

#[test]
fn a_worker_that_was_killed_and_a_kernel_that_panicked_are_told_of() {
    deaths::a_worker_that_was_killed_and_a_kernel_that_panicked_are_told_of();
}

#[test]
fn a_machine_boots_from_an_adapter_on_usb_by_an_ipxe_of_its_own() {
    nics::a_machine_boots_from_an_adapter_on_usb_by_an_ipxe_of_its_own();
}

#[test]
fn a_kernel_that_panicked_on_uefi_is_told_of() {
    deaths::a_kernel_that_panicked_on_uefi_is_told_of();
}

#[test]
fn a_card_gets_firmware_that_is_fetched_and_none_that_was_changed() {
    hotplug::a_card_gets_firmware_that_is_fetched_and_none_that_was_changed();
}

#[test]
fn the_server_image_of_debian_12_netboots() {
    kernels::the_server_image_of_debian_12_netboots();
}

#[test]
fn the_kernel_of_backports_netboots() {
    kernels::the_kernel_of_backports_netboots();
}

#[test]
fn a_kernel_of_a_version_that_is_named_is_that_one() {
    kernels::a_kernel_of_a_version_that_is_named_is_that_one();
}

#[test]
fn a_kernel_of_ones_own_netboots() {
    kernels::a_kernel_of_ones_own_netboots();
}
