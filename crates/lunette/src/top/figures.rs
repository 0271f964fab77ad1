//! Numbers as people read them: short, with a unit, never wider than six letters.

use std::time::Duration;

/// A count or a rate: 7, 950, 12.3k, 4.56M.
pub fn count(value: f64) -> String {
    match value {
        _ if !value.is_finite() || value <= 0.0 => "0".to_owned(),
        _ if value < 9.95 && (value - value.round()).abs() > 0.05 => format!("{value:.1}"),
        _ if value < 999.5 => format!("{value:.0}"),
        _ => scaled(value, 1000.0, &["", "k", "M", "G", "T", "P"]),
    }
}

/// Bytes, in powers of 1024: 512, 4.0K, 12M, 1.5G.
pub fn bytes(value: f64) -> String {
    match value {
        _ if !value.is_finite() || value < 0.5 => "0".to_owned(),
        _ if value < 999.5 => format!("{value:.0}"),
        _ => scaled(value, 1024.0, &["", "K", "M", "G", "T", "P", "E"]),
    }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if value < 9.95 {
        2
    } else if value < 99.5 {
        1
    } else {
        0
    };
    format!("{value:.digits$}{}", units[unit])
}

/// A latency: 87µ, 1.20m, 15.2m, 2.50s; a dash where there was none.
pub fn latency(value: Option<Duration>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let microseconds = value.as_secs_f64() * 1e6;
    match microseconds {
        _ if microseconds < 9.95 => format!("{microseconds:.1}µ"),
        _ if microseconds < 999.5 => format!("{microseconds:.0}µ"),
        _ if microseconds < 9_995.0 => format!("{:.2}m", microseconds / 1e3),
        _ if microseconds < 99_950.0 => format!("{:.1}m", microseconds / 1e3),
        _ if microseconds < 999_500.0 => format!("{:.0}m", microseconds / 1e3),
        _ if microseconds < 99_950_000.0 => format!("{:.2}s", microseconds / 1e6),
        _ => format!("{:.0}s", microseconds / 1e6),
    }
}

/// Commands in flight on average.
pub fn depth(value: f64) -> String {
    match value {
        _ if !value.is_finite() || value < 0.005 => "0".to_owned(),
        _ if value < 9.95 => format!("{value:.2}"),
        _ if value < 99.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A text of at most this many letters: the end of a name tells more than its middle, and its start a little.
pub fn shortened(text: &str, width: usize, mark: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(mark.chars().count());
    let start = room / 3;
    let end = room - start;
    let from = letters.len() - end;
    letters[..start].iter().collect::<String>()
        + if room > 0 { mark } else { "" }
        + &letters[from..].iter().collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_none_is_wider_than_its_column() {
        assert_eq!(
            [0.0, 0.4, 7.0, 999.4, 12_345.0, 4_560_000.0].map(count),
            ["0", "0.4", "7", "999", "12.3k", "4.56M"]
        );
        assert_eq!([0.0, 512.0, 4096.0, 1.5e9, 3e15].map(bytes), ["0", "512", "4.00K", "1.40G", "2.66P"]);
        let times = [0, 900, 87_000, 1_200_000, 15_200_000, 2_500_000_000, 120_000_000_000];
        let shown = times.map(|nanoseconds| latency(Some(Duration::from_nanos(nanoseconds))));
        assert_eq!(shown, ["0.0µ", "0.9µ", "87µ", "1.20m", "15.2m", "2.50s", "120s"]);
        assert_eq!(latency(None), "-");
        for power in 0..20 {
            for digit in [1.0, 4.999, 9.949, 9.96, 9.996] {
                let value = digit * 10f64.powi(power);
                for shown in [count(value), bytes(value)] {
                    assert!(shown.chars().count() <= 6 || power > 17, "{shown}");
                }
            }
        }
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(shortened("iqn.2026-01.org.example:disk", 16, "…"), "iqn.2…ample:disk");
        assert_eq!(shortened("short", 16, "…"), "short");
        assert_eq!([0, 2, 3].map(|width| shortened("long", width, "…")), ["", "…g", "…ng"]);
        assert_eq!(shortened("äöüßäöüß", 5, ".."), "ä..üß");
    }
}
