//! One program for all targets, so that everything is linked once: `FUZZ_TARGET` names the one that runs.

#![no_main]

use std::sync::OnceLock;

use fuzz::{TARGETS, Target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let chosen = TARGETS.iter().find(|target| target.name == name);
        // Nothing hides it: the panic hook of the fuzzer is not told of what is wrong before the first input.
        let Some(chosen) = chosen else {
            eprintln!("fuzz: FUZZ_TARGET is {name:?}; it must be one of:");
            TARGETS.iter().for_each(|target| eprintln!("  {}", target.name));
            std::process::exit(2);
        };
        let _ = CHOSEN.set(*chosen);
    },
    |bytes: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.run)(bytes);
        }
    }
);
