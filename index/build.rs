//! The migrations are compiled in: a change of them is a change of the crate.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
