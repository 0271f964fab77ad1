//! The `lunette` binary.
fn main() {}
