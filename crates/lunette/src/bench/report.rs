//! What a run took, as a table or as JSON.

use hdrhistogram::Histogram;
use std::fmt::Write;
use std::time::Duration;

/// Latencies in nanoseconds up to a minute, three digits exact.
pub fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 60_000_000_000, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants: {error}"),
    }
}

/// Processor time of all threads of a process so far, in nanoseconds, where the system tells.
pub fn processor_time(process: u32) -> Option<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let one = |path: std::path::PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    Some(tasks.flatten().filter_map(|task| one(task.path())).sum())
}

/// The same of this process.
pub fn own_processor_time() -> Option<u64> {
    processor_time(std::process::id())
}

/// What a run took.
pub struct Report {
    what: &'static str,
    count: u64,
    bytes: u64,
    time: Duration,
    latencies: Histogram<u64>,
    /// The slowest connection's share of the mean.
    fairness: f64,
    server: Option<u64>,
    own: Option<u64>,
}

impl Report {
    /// Of commands.
    pub fn commands(
        block: u64,
        time: Duration,
        sessions: &[&Histogram<u64>],
        server: Option<u64>,
        own: Option<u64>,
    ) -> Report {
        let mut latencies = histogram();
        for session in sessions {
            // The bounds are the same everywhere.
            let _ = latencies.add(*session);
        }
        let count = latencies.len();
        let worst = sessions.iter().map(|session| session.len()).min().unwrap_or(0);
        let fairness = worst as f64 * sessions.len() as f64 / count.max(1) as f64;
        Report { what: "commands", count, bytes: count * block, time, latencies, fairness, server, own }
    }

    /// Of logins.
    pub fn logins(time: Duration, latencies: Histogram<u64>, server: Option<u64>) -> Report {
        let count = latencies.len();
        Report { what: "logins", count, bytes: 0, time, latencies, fairness: 1.0, server, own: None }
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }

    fn microseconds(&self, percentile: f64) -> f64 {
        self.latencies.value_at_quantile(percentile) as f64 / 1000.0
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{:<16} {:>12.0} /s", self.what, self.rate());
        if self.bytes > 0 {
            let _ =
                writeln!(out, "{:<16} {:>12.1} MiB/s", "data", self.bytes as f64 / 1048576.0 / self.time.as_secs_f64());
        }
        for (name, percentile) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("longest", 1.0)] {
            let _ = writeln!(out, "{name:<16} {:>12.1} µs", self.microseconds(percentile));
        }
        let each = |nanoseconds: u64| nanoseconds as f64 / 1000.0 / self.count.max(1) as f64;
        if self.what == "commands" {
            let _ = writeln!(out, "{:<16} {:>12.2} of the mean", "slowest session", self.fairness);
        }
        if let Some(server) = self.server {
            let _ = writeln!(out, "{:<16} {:>12.2} µs processor time each", "server", each(server));
        }
        if let Some(own) = self.own {
            let _ = writeln!(out, "{:<16} {:>12.2} µs processor time each", "load", each(own));
        }
        out.truncate(out.trim_end().len());
        out
    }

    /// For programs.
    pub fn json(&self) -> String {
        let each = |nanoseconds: u64| nanoseconds as f64 / 1000.0 / self.count.max(1) as f64;
        serde_json::json!({
            "what": self.what,
            "count": self.count,
            "seconds": self.time.as_secs_f64(),
            "per_second": self.rate(),
            "bytes_per_second": self.bytes as f64 / self.time.as_secs_f64(),
            "median_us": self.microseconds(0.5),
            "p99_us": self.microseconds(0.99),
            "p999_us": self.microseconds(0.999),
            "longest_us": self.microseconds(1.0),
            "fairness": self.fairness,
            "server_us_each": self.server.map(each),
            "load_us_each": self.own.map(each),
        })
        .to_string()
    }
}
