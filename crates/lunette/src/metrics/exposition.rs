//! Prometheus' text format, version 0.0.4: the one that everything reads and promtool checks.
//!
//! Written by hand: every number is counted elsewhere already, so that a metrics library would have nothing to
//! keep, and the format is a line for each number.

use std::fmt::Write;

/// What the format is called.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of numbers a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They are what they are now.
    Gauge,
    /// Counts by upper bounds.
    Histogram,
}

impl Kind {
    /// Its name in the format.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A family of numbers with one name.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it tells.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

/// The text as it grows.
#[derive(Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// A family begins: its numbers follow.
    pub fn begin(&mut self, family: &Family) {
        let Family { name, kind, help, .. } = family;
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
    }

    /// A number of a family, with a value for each of its labels.
    pub fn number(&mut self, family: &Family, labels: &[&str], value: f64) {
        self.line(family.name, family.labels, labels, None, value);
    }

    /// A histogram: how many were below each bound, in ascending order, how many there were, and their sum.
    pub fn histogram(&mut self, family: &Family, labels: &[&str], below: &[(f64, u64)], count: u64, sum: f64) {
        let name = family.name;
        for (bound, count) in below {
            self.line(&format!("{name}_bucket"), family.labels, labels, Some(&number(*bound)), *count as f64);
        }
        self.line(&format!("{name}_bucket"), family.labels, labels, Some("+Inf"), count as f64);
        self.line(&format!("{name}_sum"), family.labels, labels, None, sum);
        self.line(&format!("{name}_count"), family.labels, labels, None, count as f64);
    }

    /// All of it.
    pub fn text(self) -> String {
        self.text
    }

    fn line(&mut self, name: &str, names: &[&str], values: &[&str], bound: Option<&str>, value: f64) {
        self.text.push_str(name);
        let labels = names.iter().zip(values).map(|(name, value)| (*name, *value)).chain(bound.map(|le| ("le", le)));
        let mut open = false;
        for (name, value) in labels {
            self.text.push(if open { ',' } else { '{' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{name}=\"{value}\"");
            open = true;
        }
        if open {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", number(value));
    }
}

/// A number as the format has it: whole ones without a fraction.
fn number(value: f64) -> String {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => format!("{}", value as i64),
        false => format!("{value}"),
    }
}
