//! `lunette events`: what happens at a daemon, as it happens.

use super::client::{Error, Whom};
use super::command::print;
use super::show;
use crate::failure::Failure;
use clap::Args;
use serde_json::Value;

/// Arguments of `lunette events`.
#[derive(Args)]
#[command(after_help = "Logins, logouts, refused logins, changes, sizes, units that are gone: each a line, until \
    Ctrl-C. Who reads too slowly loses some and is told how many.\n\nExamples:\n  lunette events\n  \
    lunette events --kind login,logout\n  lunette events --json | jq -r 'select(.kind==\"refused\") | .fields.peer'")]
pub struct Arguments {
    #[command(flatten)]
    whom: Whom,
    /// Only events of these kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// End after so many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Each as JSON in a line
    #[arg(long)]
    json: bool,
}

/// Reads them to their end.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let client = arguments.whom.client()?;
    let kinds: Vec<String> = arguments.kind.iter().map(|kind| super::client::segment(kind)).collect();
    let path = match kinds.is_empty() {
        true => "/v1/events".to_owned(),
        false => format!("/v1/events?kind={}", kinds.join(",")),
    };
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let told = |line: &str| {
        let Some(data) = line.strip_prefix("data: ") else { return Ok(left > 0) };
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        print(&match arguments.json {
            true => format!("{event}\n"),
            false => format!("{}\n", show::event(&event)),
        })?;
        left -= 1;
        Ok(left > 0)
    };
    client.lines(&path, told).map_err(Error::failure)
}
