//! What libFuzzer runs: one target, named by `FUZZ_TARGET`. Started by `cargo xtask fuzz`.
#![no_main]

use std::sync::LazyLock;

use bailiwick_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().copied().find(|target| target.name == name).unwrap_or_else(|| {
        eprintln!("FUZZ_TARGET names no target: `{name}`");
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (TARGET.run)(bytes);
});
