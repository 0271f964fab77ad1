//! The `lunette` binary.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    eprintln!("lunette: no command is built yet (see README.md)");
    std::process::ExitCode::from(2)
}
