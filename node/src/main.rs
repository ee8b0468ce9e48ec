//! filmroom
fn main() {}
