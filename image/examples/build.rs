//! Builds a boot image directory: `cargo run -p image --example build -- AGENT OUTPUT CACHE [PROFILE]`.

use std::path::PathBuf;

use image::{Options, Profile, Progress};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let ([agent, output, cache], profile) = match &arguments[..] {
        [agent, output, cache] => ([agent, output, cache], Profile::default()),
        [agent, output, cache, profile] => ([agent, output, cache], profile.to_string_lossy().parse()?),
        _ => anyhow::bail!("usage: build AGENT OUTPUT CACHE [PROFILE]"),
    };
    let options = Options {
        agent: agent.clone(),
        output: output.clone(),
        others: image::Others::Refuse,
        cache: cache.clone(),
        profiles: profile.into(),
        firmware: None,
        suite: image::apt::Suite::default(),
        kernel_package: None,
        mirror: std::env::var(image::apt::MIRROR_VARIABLE).ok(),
        refresh: false,
        ca_files: Vec::new(),
        kernel: None,
    };
    let manifest = image::build(&options, &mut |progress| match progress {
        Progress::Began { step, .. } => println!("{step} ..."),
        Progress::Noted { text } => println!("  {text}"),
        Progress::Advanced { .. } | Progress::Ended { .. } => {}
    })?;
    for family in &manifest.families {
        let (name, bytes, budget) = (&family.name, family.bytes, family.budget_bytes);
        println!("{bytes:>12} B of {budget:>8}  {:<8} {name}", family.delivery);
    }
    for file in &manifest.files {
        println!("{:>12} B  {}  {}", file.bytes, &file.sha256[..16], file.name);
    }
    Ok(())
}
