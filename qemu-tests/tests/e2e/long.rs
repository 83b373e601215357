//! What takes minutes, and what is built from packages that nothing else needs: each test is a step of
//! `cargo xtask test --all --only machines`. The ordinary command leaves them out by the name of this file.

use crate::{containerd, controllers, deaths, hotplug, install, kernels, links, nics};

#[test]
fn machines_boot_from_each_card_with_its_driver_alone() {
    nics::machines_boot_from_each_card_with_its_driver_alone();
}

#[test]
fn a_disk_on_every_controller_is_written_read_and_told_of() {
    controllers::a_disk_on_every_controller_is_written_read_and_told_of();
}

#[test]
fn a_boot_image_with_containerd_runs_by_it_what_the_agent_runs_by_itself() {
    containerd::a_boot_image_with_containerd_runs_by_it_what_the_agent_runs_by_itself();
}

#[test]
fn a_worker_that_was_killed_and_a_kernel_that_panicked_are_told_of() {
    deaths::a_worker_that_was_killed_and_a_kernel_that_panicked_are_told_of();
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

#[test]
fn a_machine_netboots_over_lacp_and_a_vlan_and_works_while_a_cable_is_pulled() {
    links::long::a_machine_netboots_over_lacp_and_a_vlan_and_works_while_a_cable_is_pulled();
}

#[test]
fn without_a_partner_a_machine_works_through_the_card_that_booted_and_says_so() {
    links::long::without_a_partner_a_machine_works_through_the_card_that_booted_and_says_so();
}

#[test]
fn a_backup_takes_over_when_the_card_that_booted_loses_its_cable() {
    links::long::a_backup_takes_over_when_the_card_that_booted_loses_its_cable();
}

#[test]
fn a_machine_of_256_mib_gets_debian_and_boots_it() {
    install::a_machine_of_256_mib_gets_debian_and_boots_it();
}

#[test]
fn debian_boots_from_every_other_controller() {
    install::debian_boots_from_every_other_controller();
}
