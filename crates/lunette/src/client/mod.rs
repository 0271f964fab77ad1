//! The commands of the initiator: what they share, and a module for each.

pub mod capacity;
pub mod copy;
pub mod discover;
pub mod dump;
mod failure;
pub mod inquiry;
mod login;
pub mod ls;
pub mod perf;
pub mod ping;
pub mod reserve;
mod units;

use crate::failure::Failure;
use std::io::{ErrorKind, Write};

/// Runs what a command does, on this thread.
fn run<T>(what: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::runtime(format!("cannot start: {error}")))?.block_on(what)
}

/// Prints. Whoever asked may have closed the pipe: then there is nobody to tell anything.
fn print(text: &str) -> Result<(), Failure> {
    bytes_out(text.as_bytes())
}

/// The same with bytes.
fn bytes_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::runtime(format!("standard output: {error}"))),
    }
}

/// One JSON value, on lines that people can read.
fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Bytes where 0 is a number like any other.
fn bytes_or_none(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { stores::parse_size(text) }
}

/// A size for people, as exact as it is round: `4 GiB`, `1.5 MiB`, `1000 bytes`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (bytes.max(1).ilog2() / 10) as usize;
    let Some(unit) = power.checked_sub(1).and_then(|at| UNITS.get(at)) else { return format!("{bytes} bytes") };
    let value = bytes as f64 / (1u64 << (10 * power)) as f64;
    match value.fract() == 0.0 {
        true => format!("{value:.0} {unit}"),
        false => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_largest_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (4 << 30, "4 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
