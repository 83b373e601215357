//! Processors, by what the kernel says of their topology, and memory.
//!
//! Source: Documentation/admin-guide/cputopology.rst, proc_meminfo(5).

use std::collections::BTreeSet;
use std::path::Path;

use disk::probe::System;
use proto::inventory::cleaned;
use proto::v1::Processor;

use super::files;

/// No kernel is built for more.
const MAX_CPUS: usize = 16_384;
const MAX_CPUINFO: u64 = 16 << 20;

pub(super) fn read(system: &System) -> Processor {
    let cpuinfo = files::bytes(&system.proc.join("cpuinfo"), MAX_CPUINFO);
    let cpuinfo = String::from_utf8_lossy(&cpuinfo);
    let (mut sockets, mut cores, mut threads) = (BTreeSet::new(), BTreeSet::new(), 0);
    let folder = system.sys.join("devices/system/cpu");
    for name in files::names(&folder, MAX_CPUS) {
        let number = name.strip_prefix("cpu").map(str::parse::<u32>);
        let topology = folder.join(&name).join("topology");
        // Those that are switched off have none.
        let (Some(Ok(_)), true) = (number, topology.is_dir()) else {
            continue;
        };
        let id = |file: &str| files::line(&topology.join(file));
        let socket = id("physical_package_id");
        cores.insert((socket.clone(), id("die_id"), id("core_id")));
        sockets.insert(socket);
        threads += 1;
    }
    if threads == 0 {
        threads = cpuinfo
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Processor {
        model: model(&cpuinfo),
        architecture: std::env::consts::ARCH.to_owned(),
        sockets: count(sockets.len()),
        cores: count(cores.len()),
        threads: count(threads),
    }
}

/// x86 has a `model name`; other architectures tell less, in other words.
fn model(cpuinfo: &str) -> String {
    let value = |key: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| cleaned(value))
    };
    let keys = ["model name", "Model", "cpu model", "Processor"];
    keys.into_iter().find_map(value).unwrap_or_default()
}

/// `MemTotal` of /proc/meminfo, which counts KiB.
pub(super) fn memory_bytes(proc: &Path) -> u64 {
    let meminfo = files::bytes(&proc.join("meminfo"), 64 << 10);
    total_bytes(&String::from_utf8_lossy(&meminfo))
}

fn total_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_in_bytes() {
        assert_eq!(
            total_bytes("MemTotal:         482912 kB\nMemFree: 1 kB\n"),
            482_912 * 1024
        );
        assert_eq!(total_bytes("rubbish"), 0);
    }

    #[test]
    fn a_processor_is_named_as_its_kernel_names_it() {
        assert_eq!(
            model("processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7B13\n"),
            "AMD EPYC 7B13"
        );
        assert_eq!(
            model("processor : 0\nModel\t\t: Raspberry Pi 4\n"),
            "Raspberry Pi 4"
        );
        assert_eq!(model(""), "");
    }
}
