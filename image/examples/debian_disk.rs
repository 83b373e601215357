//! Builds the Debian disk image: `cargo run -p image --example debian_disk -- OUTPUT CACHE`.

use std::path::PathBuf;
use std::time::Instant;

use image::Progress;
use image::debian_disk::{self, Options};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [output, cache] = &arguments[..] else {
        anyhow::bail!("usage: debian_disk OUTPUT CACHE");
    };
    let mirror = std::env::var(image::apt::MIRROR_VARIABLE).ok();
    let options = Options {
        output: output.clone(),
        suite: image::apt::Suite::default(),
        profile: image::Profile::default(),
        cache: cache.clone(),
        mirror,
        rebuild: false,
    };
    let mut began = Instant::now();
    let image = debian_disk::build(&options, &mut |progress| match progress {
        Progress::Began { step, .. } => {
            println!("{step} ...");
            began = Instant::now();
        }
        Progress::Noted { text } => println!("  {text}"),
        Progress::Advanced { .. } => {}
        Progress::Ended { step } => println!("{step}: {:.1} s", began.elapsed().as_secs_f64()),
    })?;
    println!(
        "{} B, {} B raw, sha256 {}: {}",
        image.bytes,
        image.raw_bytes,
        image.sha256,
        image.path.display()
    );
    Ok(())
}
