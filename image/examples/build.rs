//! Builds a boot image directory: `cargo run -p image --example build -- AGENT OUTPUT CACHE`.

use std::path::PathBuf;

use image::{Options, Profile, Progress};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [agent, output, cache] = &arguments[..] else {
        anyhow::bail!("usage: build AGENT OUTPUT CACHE");
    };
    let options = Options {
        agent: agent.clone(),
        output: output.clone(),
        others: image::Others::Refuse,
        cache: cache.clone(),
        profile: Profile::Lab,
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
    for file in &manifest.files {
        println!("{:>12} B  {}  {}", file.bytes, &file.sha256[..16], file.name);
    }
    Ok(())
}
