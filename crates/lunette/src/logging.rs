//! Events on standard error: one line each, for people or for machines.

use crate::control::events::Events;
use clap::ValueEnum;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

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
static LEVEL: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts writing events of this level and above it; LUNETTE_LOG, a filter as tracing's EnvFilter reads it,
/// goes before it. Whatever of it is written, those who read the events of the administration have all of theirs.
pub fn start(format: Format, level: &str) {
    let by_hand = EnvFilter::try_from_env("LUNETTE_LOG").ok();
    let changes = by_hand.is_none();
    let (filter, handle) = reload::Layer::new(by_hand.unwrap_or_else(|| EnvFilter::new(level)));
    if changes {
        let _ = LEVEL.set(handle);
    }
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let events = Events.with_filter(filter_fn(Events::concerns));
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(events).init();
}

/// Tells what is of this level or above it from now on, unless LUNETTE_LOG says otherwise.
pub fn set_level(level: &str) {
    if let Some(handle) = LEVEL.get() {
        let _ = handle.reload(EnvFilter::new(level));
    }
}
