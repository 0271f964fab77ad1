//! Events on standard error: one line each, for people or for machines.

use clap::ValueEnum;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Time, level, what happened, the facts.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least of what can be told.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Sets another least level of what is told.
type SetLevel = dyn Fn(&str) + Send + Sync;

static LEVEL: OnceLock<Box<SetLevel>> = OnceLock::new();

/// Starts writing events of this level and above it; LUNETTE_LOG, a filter as tracing's EnvFilter reads it,
/// goes before it.
pub fn start(format: Format, level: &str) {
    let by_hand = EnvFilter::try_from_env("LUNETTE_LOG").ok();
    let changes = by_hand.is_none();
    let filter = by_hand.unwrap_or_else(|| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => {
            let builder = builder.with_filter_reloading();
            keep(changes, builder.reload_handle());
            builder.init();
        }
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            keep(changes, builder.reload_handle());
            builder.init();
        }
    }
}

/// Keeps the way to change the level, where it may change.
fn keep<S: 'static>(changes: bool, handle: Handle<EnvFilter, S>) {
    if changes {
        let set = move |level: &str| {
            let _ = handle.reload(EnvFilter::new(level));
        };
        let _ = LEVEL.set(Box::new(set));
    }
}

/// Tells what is of this level or above it from now on, unless LUNETTE_LOG says otherwise.
pub fn set_level(level: &str) {
    if let Some(set) = LEVEL.get() {
        set(level);
    }
}
