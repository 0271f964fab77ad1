//! What is served changes while it is served: the file is edited and applied, and whoever is logged in goes on.

mod checked;
mod commands;
mod killed;
mod living;

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
