//! Fuzz targets: whatever reads bytes from outside, given bytes by a fuzzer. `cargo xtask fuzz` builds and runs them.
//!
//! A target says with assertions what must hold for every input; besides, none may panic, hang or take all memory.

#![forbid(unsafe_code)]

mod access_list;
mod access_token;
mod agent_messages;
mod archive;
mod boot_entry;
mod boot_image;
mod boot_manifest;
mod command_lines;
mod container_layer;
mod container_manifest;
mod container_name;
mod deb;
mod dhcp_decode;
mod driver_lists;
mod elf;
mod erasure;
mod event_decode;
mod export;
mod expression;
mod filesystem;
mod gpt_parse;
mod grub_cfg;
mod http_range;
mod image_journal;
mod image_server;
mod image_start;
mod image_unpack;
mod image_user;
mod machine_tables;
mod machine_yaml;
mod mbr_parse;
mod partition_layout;
mod qcow2_file;
mod redacted_text;
mod registry_archive;
mod registry_challenge;
mod registry_request;
mod resume_token;
mod router_solicitation;
mod seed;
mod ssh_banner;
mod template_render;
mod tftp_packet;
mod tools_archive;

/// A parser of bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its file here, and of its folder in `seeds/`.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
}

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    target("access_list", access_list::run),
    target("access_token", access_token::run),
    target("agent_messages", agent_messages::run),
    target("archive", archive::run),
    target("boot_entry", boot_entry::run),
    target("boot_image", boot_image::run),
    target("boot_manifest", boot_manifest::run),
    target("command_lines", command_lines::run),
    target("container_layer", container_layer::run),
    target("container_manifest", container_manifest::run),
    target("container_name", container_name::run),
    target("deb", deb::run),
    target("dhcp_decode", dhcp_decode::run),
    target("driver_lists", driver_lists::run),
    target("elf", elf::run),
    target("erasure", erasure::run),
    target("event_decode", event_decode::run),
    target("export", export::run),
    target("expression", expression::run),
    target("filesystem", filesystem::run),
    target("gpt_parse", gpt_parse::run),
    target("grub_cfg", grub_cfg::run),
    target("http_range", http_range::run),
    target("image_journal", image_journal::run),
    target("image_server", image_server::run),
    target("image_start", image_start::run),
    target("image_unpack", image_unpack::run),
    target("image_user", image_user::run),
    target("machine_tables", machine_tables::run),
    target("machine_yaml", machine_yaml::run),
    target("mbr_parse", mbr_parse::run),
    target("partition_layout", partition_layout::run),
    target("qcow2_file", qcow2_file::run),
    target("redacted_text", redacted_text::run),
    target("registry_archive", registry_archive::run),
    target("registry_challenge", registry_challenge::run),
    target("registry_request", registry_request::run),
    target("resume_token", resume_token::run),
    target("router_solicitation", router_solicitation::run),
    target("seed", seed::run),
    target("ssh_banner", ssh_banner::run),
    target("template_render", template_render::run),
    target("tftp_packet", tftp_packet::run),
    target("tools_archive", tools_archive::run),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The text at the beginning of `bytes`, up to the first that are no UTF-8.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn names_in(folder: &str) -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let names = fs::read_dir(folder).unwrap();
        names
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .filter(|name| name != "lib" && name != "main")
            .collect()
    }

    /// What fuzzing found is among the seeds, so every test run tries it again.
    #[test]
    fn every_seed_of_every_target_holds() {
        for target in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("seeds")
                .join(target.name);
            let mut tried = 0;
            for seed in fs::read_dir(&folder).unwrap() {
                (target.run)(&fs::read(seed.unwrap().path()).unwrap());
                tried += 1;
            }
            assert!(tried > 0, "{} has no seed", folder.display());
            // What every parser meets first.
            (target.run)(b"");
        }
    }

    #[test]
    fn every_file_is_a_target_with_seeds_and_a_line_in_the_readme() {
        let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(names_in("src"), names);
        assert_eq!(names_in("seeds"), names);
        let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
        for name in names {
            assert!(
                readme.contains(&format!("| `{name}` |")),
                "README.md has no line for {name}"
            );
        }
    }
}
