//! `limit = { operations = 5000, bytes = "100M", burst = "1s" }`: how much a LUN, or all whom a rule fits, may do in a
//! second; and times as people write them.

use super::finding::Findings;
use super::reader::Table;
use lun::{LEAST_BURST, LONGEST_BURST, Rate, USUAL_BURST};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The least that bytes can be limited to, so that the largest command is over before an initiator gives it up.
const LEAST_BYTES: u64 = 1 << 20;
/// More than anything does.
const MOST: u64 = 1 << 40;

/// The limit that a table has; no limit where it says nothing of one.
pub fn read(table: &Table<'_>, findings: &Findings<'_>) -> Rate {
    let Some(limit) = table.has("limit").then(|| table.table("limit")).flatten() else { return Rate::default() };
    let operations = limit.amount("operations", |text| amount(text, 1..=MOST)).map_or(0, |one| one.value);
    let bytes = limit.amount("bytes", |text| amount(text, LEAST_BYTES..=MOST)).map_or(0, |one| one.value);
    let burst = limit.amount("burst", burst).map_or(USUAL_BURST, |one| one.value);
    let of_operations = limit.amount("burst-operations", |text| amount(text, 1..=MOST)).map(|one| one.value);
    let of_bytes = limit.amount("burst-bytes", |text| amount(text, 1..=MOST)).map(|one| one.value);
    if operations == 0 && bytes == 0 && !limit.has("operations") && !limit.has("bytes") {
        let help = "write limit = { operations = 5000 }, or { bytes = \"100M\" }, or both";
        findings.error(limit.at.clone(), "the limit limits nothing", help);
    }
    limit.finish();
    Rate {
        operations,
        bytes,
        operations_burst: of_operations.map_or(burst, |count| lasting(count, operations)),
        bytes_burst: of_bytes.map_or(burst, |count| lasting(count, bytes)),
    }
}

/// A rate in words.
pub fn words(rate: &Rate) -> String {
    if rate.is_unlimited() {
        return "no limit".to_owned();
    }
    let mut parts = Vec::new();
    if rate.operations > 0 {
        parts.push(format!("{} operations/s{}", rate.operations, at_once(rate.operations_burst)));
    }
    if rate.bytes > 0 {
        parts.push(format!("{}/s{}", stores::Size(rate.bytes), at_once(rate.bytes_burst)));
    }
    parts.join(", ")
}

fn at_once(burst: Duration) -> String {
    match burst == USUAL_BURST {
        true => String::new(),
        false => format!(" (burst {} ms)", burst.as_millis()),
    }
}

/// In how long so many pass.
fn lasting(count: u64, rate: u64) -> Duration {
    match rate {
        0 => USUAL_BURST,
        rate => Duration::from_secs_f64(count as f64 / rate as f64).clamp(LEAST_BURST, LONGEST_BURST),
    }
}

/// A number that may end in K, M or G.
fn amount(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = match text.chars().all(|c| c.is_ascii_digit()) {
        true => text.parse().ok(),
        false => stores::parse_size(text).ok(),
    };
    let said = |number: &u64| if *number < 1 << 20 { number.to_string() } else { stores::Size(*number).to_string() };
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        format!(
            "is no such number; write one from {} to {}, as 5000 or \"100M\"",
            said(range.start()),
            said(range.end())
        )
    })
}

fn burst(text: &str) -> Result<Duration, String> {
    let range = LEAST_BURST..=LONGEST_BURST;
    let time = time(text).filter(|time| range.contains(time));
    time.ok_or_else(|| "is no time for a burst; write one from \"20ms\" to \"3600s\", as \"1s\"".to_owned())
}

/// What a slow command takes.
pub fn slow(text: &str) -> Result<Duration, &'static str> {
    let time = time(text).filter(|time| *time >= Duration::from_millis(1) && *time <= LONGEST_BURST);
    time.ok_or("is no time; write one from \"1ms\" to \"3600s\", as \"500ms\"")
}

/// Seconds, or a number with `ms` or `s`.
fn time(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().ok()?;
    match unit {
        "" | "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_said_as_people_do_and_within_their_bounds() {
        assert_eq!((amount("5000", 1..=MOST), amount("100M", LEAST_BYTES..=MOST)), (Ok(5000), Ok(100 << 20)));
        assert_eq!(amount("2K", 1..=MOST), Ok(2048));
        assert!(amount("0", 1..=MOST).is_err() && amount("64K", LEAST_BYTES..=MOST).is_err());
        assert!(amount("fast", 1..=MOST).unwrap_err().contains("write one from 1 to 1T"));
        assert_eq!(
            (burst("1s"), burst("50ms"), burst("2")),
            (Ok(Duration::from_secs(1)), Ok(Duration::from_millis(50)), Ok(Duration::from_secs(2)))
        );
        assert!(burst("1ms").is_err() && burst("1h").is_err());
        assert_eq!(slow("500ms"), Ok(Duration::from_millis(500)));
        assert!(slow("0").is_err());
    }

    #[test]
    fn a_burst_in_operations_lasts_as_long_as_they_take() {
        assert_eq!(lasting(500, 1000), Duration::from_millis(500));
        assert_eq!(lasting(1, 1000), LEAST_BURST);
        let rate = Rate { operations: 1000, bytes: 100 << 20, operations_burst: lasting(500, 1000), ..Rate::default() };
        assert_eq!(words(&rate), "1000 operations/s (burst 500 ms), 100M/s");
        assert_eq!(words(&Rate::default()), "no limit");
    }
}
