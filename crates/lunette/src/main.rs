//! The `lunette` binary.
#![forbid(unsafe_code)]

mod serve;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// iSCSI, both ends of the wire.
#[derive(Parser)]
#[command(name = "lunette", version)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Export stores as disks of one target.
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    let Line { command: Command::Serve(arguments) } = Line::parse();
    match serve::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lunette: {error}");
            ExitCode::from(2)
        }
    }
}
