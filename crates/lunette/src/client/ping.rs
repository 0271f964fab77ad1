//! `lunette ping`: how long a target takes to answer a NOP-Out.

use super::login::{Login, Needed, leave};
use super::{print, print_json};
use crate::failure::{Cause, Failure};
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  lunette ping iscsi://192.0.2.7/iqn.2026-11.com.example:disk
  lunette ping -c 1000 -i 0 -s 4096 iscsi://192.0.2.7/iqn.2026-11.com.example:disk

Exit codes: 0 every ping was answered, 1 some were not, 3 none was.";

/// Arguments of `lunette ping`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The target: iscsi://HOST[:PORT]/TARGET
    #[arg(value_name = "URL")]
    url: String,
    /// So many pings; 0: until it is interrupted
    #[arg(long, short, value_name = "NUMBER", default_value_t = 4)]
    count: u64,
    /// Seconds between them
    #[arg(long, short, value_name = "SECONDS", default_value_t = 1.0)]
    interval: f64,
    /// Bytes of a ping
    #[arg(long, short, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=8192))]
    size: u32,
    /// Seconds for an answer
    #[arg(long, short = 'W', value_name = "SECONDS", default_value_t = 5.0)]
    wait: f64,
    /// Only the statistics
    #[arg(long, short)]
    quiet: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// Pings and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = arguments.login.address(&arguments.url, Needed::Target)?;
    let seconds = |value: f64, name: &str| {
        Duration::try_from_secs_f64(value)
            .map_err(|_| Failure::input(format!("--{name} {value}: give seconds from 0 on")))
    };
    let (interval, wait) = (seconds(arguments.interval, "interval")?, seconds(arguments.wait, "wait")?);
    super::run(async {
        let session = arguments.login.connect(&address).await?;
        let information = session.information();
        let peer = information.connections.first().map_or_else(|| address.portal(), |first| first.peer.to_string());
        let talks = !arguments.json && !arguments.quiet;
        if talks {
            print(&format!("PING {} ({peer}): NOP-Out with {} bytes\n", information.target, arguments.size))?;
        }
        let mut times: Vec<f64> = Vec::new();
        let mut sent = 0;
        let mut next = tokio::time::Instant::now();
        while arguments.count == 0 || sent < arguments.count {
            // Whoever interrupts it wants the statistics.
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                _ = tokio::signal::ctrl_c() => break,
            }
            sent += 1;
            next += interval;
            let data: Vec<u8> = (0..arguments.size).map(|byte| (byte as u8).wrapping_add(sent as u8)).collect();
            let begun = Instant::now();
            let answer = tokio::select! {
                answer = tokio::time::timeout(wait, session.ping(&data)) => answer,
                _ = tokio::signal::ctrl_c() => { sent -= 1; break }
            };
            let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
            let line = match answer {
                Ok(Ok(back)) if back == data => {
                    times.push(milliseconds);
                    format!("{} bytes from {peer}: seq={sent} time={milliseconds:.3} ms", back.len())
                }
                Ok(Ok(back)) => format!("{} other bytes from {peer}: seq={sent}", back.len()),
                Ok(Err(error)) => format!("no answer: seq={sent}: {error}"),
                Err(_) => format!("no answer within {wait:?}: seq={sent}"),
            };
            if talks {
                print(&format!("{line}\n"))?;
            }
        }
        leave(&session).await;
        tell(arguments, &information.target, sent, &times)
    })
}

fn tell(arguments: &Arguments, target: &str, sent: u64, times: &[f64]) -> Result<(), Failure> {
    let answered = times.len() as u64;
    let [least, mean, most, deviation] = statistics(times);
    if arguments.json {
        print_json(&json!({
            "target": target,
            "sent": sent,
            "answered": answered,
            "min_ms": least,
            "avg_ms": mean,
            "max_ms": most,
            "mdev_ms": deviation,
            "times_ms": times,
        }))?;
    } else {
        let lost = (sent - answered) as f64 * 100.0 / sent.max(1) as f64;
        let mut text = format!("--- {target}\n{sent} sent, {answered} answered, {lost:.0} % lost\n");
        if answered > 0 {
            text += &format!("round trip min/avg/max/mdev = {least:.3}/{mean:.3}/{most:.3}/{deviation:.3} ms\n");
        }
        print(&text)?;
    }
    match answered {
        _ if answered == sent => Ok(()),
        0 => Err(Failure::because(Cause::Unreachable, format!("{target}: no ping was answered"))),
        _ => Err(Failure::runtime(format!("{target}: {} of {sent} pings were not answered", sent - answered))),
    }
}

/// Least, mean, most and mean deviation, as ping(8) tells them.
fn statistics(times: &[f64]) -> [f64; 4] {
    if times.is_empty() {
        return [0.0; 4];
    }
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let deviation = (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count).sqrt();
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    [least, mean, times.iter().copied().fold(0.0, f64::max), deviation]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_ping() {
        assert_eq!(statistics(&[]), [0.0; 4]);
        assert_eq!(statistics(&[1.0, 3.0]), [1.0, 2.0, 3.0, 1.0]);
    }
}
