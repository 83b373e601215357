//! Upstream Tinkerbell's own functions (`tink/controller/internal/workflow/template_funcs.go`).

use std::net::Ipv4Addr;
use std::path::Path;

use super::arguments::{Arguments, string};
use super::encoding::to_json;
use super::{Answer, Entry};

pub(super) const TABLE: &[Entry] = &[
    ("formatPartition", format_partition),
    ("netmaskToPrefixLength", netmask_to_prefix_length),
    ("toYaml", to_yaml),
    ("fromYaml", from_yaml),
];

/// The device of a partition: `/dev/disk/by-id/x` → `-part1`, `/dev/nvme0n1` → `p1`, `/dev/sda` → `1`.
///
/// What is no path is something said of a disk (`serial=x`), to which the agent lets `-part1` be added.
fn format_partition(arguments: &Arguments<'_>) -> Answer {
    let [device, number] = arguments.exactly()?;
    let (device, number) = (arguments.text(device)?, arguments.int(number)?);
    let persistent = Path::new(device).starts_with("/dev/disk");
    let separator = if persistent || !(device.starts_with('/') || is_kernel_name(device)) {
        "-part"
    } else if device.ends_with(|last: char| last.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    string(format!("{device}{separator}{number}"))
}

/// `sda`, `nvme0n1`: as the kernel calls disks, without `/dev/`.
fn is_kernel_name(device: &str) -> bool {
    let rest = ["mmcblk", "nvme", "loop", "xvd", "md", "sd", "vd", "hd"]
        .iter()
        .find_map(|kind| device.strip_prefix(kind));
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// `255.255.255.0` → `24`; a mask with holes is 0 upstream, an error here.
fn netmask_to_prefix_length(arguments: &Arguments<'_>) -> Answer {
    let [mask] = arguments.exactly()?;
    let bits: Option<u32> = arguments.text(mask)?.parse::<Ipv4Addr>().ok().map(u32::from);
    match bits {
        Some(bits) if bits.count_ones() == bits.leading_ones() => string(bits.leading_ones().to_string()),
        _ => Err(arguments.wrong_type("an IPv4 netmask like 255.255.255.0", mask)),
    }
}

fn to_yaml(arguments: &Arguments<'_>) -> Answer {
    let [value] = arguments.exactly()?;
    let json = to_json(value).ok_or_else(|| arguments.error("a function has no YAML form"))?;
    let text = serde_saphyr::to_string(&json).map_err(|error| arguments.error(error))?;
    string(text.trim_end_matches('\n'))
}

fn from_yaml(arguments: &Arguments<'_>) -> Answer {
    let [text] = arguments.exactly()?;
    let text = arguments.text(text)?;
    if text.is_empty() {
        return Err(arguments.error("the text is empty"));
    }
    let limits = yaml::Limits {
        nodes: 10_000,
        bytes: 1 << 20,
    };
    let parsed = yaml::value(text, limits).map_err(|found| {
        let yaml::Place { line, column } = found.place;
        arguments.error(format!(
            "line {line}, column {column} of the text: {}",
            found.message
        ))
    })?;
    gotmpl::to_value(&parsed)
}
