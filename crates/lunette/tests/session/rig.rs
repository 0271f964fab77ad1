//! A target for sessions of the library, and a runtime for them.

use initiator::{Options, Portal};
use sim::Daemon;
use sim::daemon::TARGET;
use std::future::Future;
use std::time::Duration;

pub const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// Options of a session with this target, in which nothing takes long.
pub fn options(daemon: &Daemon) -> Options {
    let address = daemon.address();
    Options::new(Portal::new(address.ip().to_string(), address.port()), TARGET)
        .command_timeout(Duration::from_secs(20))
        .replacement_timeout(Duration::from_secs(30))
}

/// Runs this on a runtime of its own thread, and ends it where it hangs.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends") })
}

/// A block whose content tells its number and its generation.
pub fn pattern(block: u64, generation: u64) -> Vec<u8> {
    let word = block.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation;
    word.to_le_bytes().repeat(64)
}
