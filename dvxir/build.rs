//! Links the unwinder in. Left to itself, a program for glibc loads `libgcc_s.so` at every start, and finding
//! and mapping one more library takes a tenth of the time in which a `credentials get` is over.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|given| given == value);
    let static_already = env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|list| list.contains("crt-static"));
    if is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && !static_already
        && has_static_unwinder()
    {
        // Before the shared library on the command line, which is then not needed.
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Whether the linker driver has it; where it has not, the program is merely slower.
fn has_static_unwinder() -> bool {
    let driver = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    let Ok(output) = Command::new(driver).arg("-print-file-name=libgcc_eh.a").output() else { return false };
    let path = String::from_utf8_lossy(&output.stdout);
    // A driver that does not find it repeats its name.
    Path::new(path.trim()).is_absolute() && Path::new(path.trim()).exists()
}
