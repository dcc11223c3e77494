//! Sets the cfg under which protections can be taken out, for this package alone.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(apikey_faults)");
    println!("cargo::rustc-cfg=apikey_faults");
    println!("cargo::rerun-if-changed=build.rs");
}
