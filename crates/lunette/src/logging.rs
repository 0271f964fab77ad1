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

/// How events are written, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As the journal keeps them where standard error is the journal; text elsewhere.
    Auto,
    /// Time, level, what happened, the facts.
    Text,
    /// One JSON object a line.
    Json,
    /// To systemd's journal, each fact a field: `journalctl LUNETTE_TARGET=iqn.…`.
    Journald,
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
    let journal = match format {
        Format::Journald => Some(journal()),
        Format::Auto if stderr_is_the_journal() => Some(journal()),
        _ => None,
    };
    let mut no_journal = None;
    let lines = match format {
        Format::Auto | Format::Journald | Format::Text => match journal {
            Some(Ok(journal)) => journal.boxed(),
            Some(Err(error)) => {
                no_journal = Some(error);
                lines.boxed()
            }
            None => lines.boxed(),
        },
        Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let events = Events.with_filter(filter_fn(Events::concerns));
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(events).init();
    if let Some(error) = no_journal {
        tracing::warn!("events are written to standard error: systemd's journal does not take them: {error}");
    }
}

/// Events as the journal keeps them, each fact a field.
fn journal() -> std::io::Result<tracing_journald::Layer> {
    let layer = tracing_journald::layer()?;
    Ok(layer.with_field_prefix(Some("LUNETTE".to_owned())).with_syslog_identifier("lunette".to_owned()))
}

/// Whether standard error is the journal: systemd says which file it gave us for it (systemd.exec(5), $JOURNAL_STREAM),
/// and a program that was started with another one has inherited the variable alone.
fn stderr_is_the_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Ok(own) = rustix::fs::fstat(std::io::stderr()) else { return false };
    is_stream(&told, own.st_dev, own.st_ino)
}

fn is_stream(told: &str, device: u64, inode: u64) -> bool {
    let numbers = told.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    numbers == Some((device, inode))
}

/// Tells what is of this level or above it from now on, unless LUNETTE_LOG says otherwise.
pub fn set_level(level: &str) {
    if let Some(handle) = LEVEL.get() {
        let _ = handle.reload(EnvFilter::new(level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_told_by_the_numbers_of_the_file_that_it_gave() {
        assert!(is_stream("8:12345", 8, 12345));
        for told in ["", "8", "8:12346", "9:12345", "x:y"] {
            assert!(!is_stream(told, 8, 12345), "{told}");
        }
    }
}
