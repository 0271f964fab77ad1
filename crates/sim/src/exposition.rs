//! Reads Prometheus' text format as strictly as `promtool check metrics` does, for tests of what a daemon exports.

use std::collections::{BTreeMap, BTreeSet};

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name of its line: the family's, or that with `_bucket`, `_sum`, `_count`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

/// What a daemon exports.
#[derive(Debug, Default)]
pub struct Exported {
    /// The kinds of its families.
    pub kinds: BTreeMap<String, String>,
    /// Its numbers.
    pub samples: Vec<Sample>,
}

impl Exported {
    /// The number with this name and these labels among its own.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|own| own == value))
        };
        self.samples.iter().find(fits).map(|sample| sample.value)
    }

    /// Reads it. The error says what is wrong with it, with its line.
    pub fn read(text: &str) -> Result<Exported, String> {
        let mut exported = Exported::default();
        let (mut helped, mut seen, mut family) = (BTreeSet::new(), BTreeSet::new(), String::new());
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |why: &str| Err(format!("line {number}: {why}: {line}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let Some((name, help)) = rest.split_once(' ') else { return wrong("no help") };
                if !helped.insert(name.to_owned()) || help.trim().is_empty() {
                    return wrong("twice, or nothing said");
                }
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else { return wrong("no kind") };
                if !helped.contains(name) {
                    return wrong("a family without HELP");
                }
                if let Some(why) = lint(name, kind) {
                    return wrong(&why);
                }
                if exported.kinds.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return wrong("a family twice");
                }
                family = name.to_owned();
            } else {
                let sample = match sample(line) {
                    Ok(sample) => sample,
                    Err(why) => return wrong(&why),
                };
                let histogram = exported.kinds.get(&family).is_some_and(|kind| kind == "histogram");
                let end = sample.name.strip_prefix(&family);
                let fits = match histogram {
                    true => matches!(end, Some("_bucket" | "_sum" | "_count")),
                    false => end == Some(""),
                };
                if !fits {
                    return wrong("it does not belong to the family that it stands in");
                }
                if !seen.insert(format!("{} {:?}", sample.name, sample.labels)) {
                    return wrong("it is there twice");
                }
                exported.samples.push(sample);
            }
        }
        exported.histograms()?;
        Ok(exported)
    }

    /// Buckets ascend and end with all.
    fn histograms(&self) -> Result<(), String> {
        for (family, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
            for sample in self.samples.iter().filter(|sample| sample.name == format!("{family}_bucket")) {
                let mut labels = sample.labels.clone();
                let Some(bound) = labels.remove("le") else { return Err(format!("{family}: a bucket without le")) };
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| bound)? };
                let (before, count) =
                    last.insert(format!("{labels:?}"), (bound, sample.value)).unwrap_or((f64::NEG_INFINITY, 0.0));
                if bound <= before || sample.value < count {
                    return Err(format!("{family}: buckets do not ascend: {sample:?}"));
                }
            }
            for sample in self.samples.iter().filter(|sample| sample.name == format!("{family}_count")) {
                if last.get(&format!("{:?}", sample.labels)) != Some(&(f64::INFINITY, sample.value)) {
                    return Err(format!("{family}: the last bucket is not all: {sample:?}"));
                }
            }
        }
        Ok(())
    }
}

/// What promtool says of a family's name and kind.
fn lint(name: &str, kind: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.chars().all(legal) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some("no name of a metric".to_owned());
    }
    let not_base =
        ["_milliseconds", "_ms", "_microseconds", "_us", "_kilobytes", "_kb", "_megabytes", "_mb", "_percent"];
    if let Some(unit) = not_base.iter().find(|unit| name.ends_with(*unit) || name.contains(&format!("{unit}_"))) {
        return Some(format!("{unit} is no base unit"));
    }
    if ["_bucket", "_sum", "_count", "_info_total"].iter().any(|end| name.ends_with(end)) {
        return Some("a name that means something else".to_owned());
    }
    match (kind, name.ends_with("_total")) {
        ("counter", false) => Some("a counter without _total".to_owned()),
        ("gauge" | "histogram", true) => Some("_total, and no counter".to_owned()),
        ("counter" | "gauge" | "histogram", _) => None,
        _ => Some("a kind that is not there".to_owned()),
    }
}

fn sample(line: &str) -> Result<Sample, String> {
    let name_end = line.find(['{', ' ']).ok_or("no number")?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, value) = rest.split_once("=\"").ok_or("no label")?;
            if label.is_empty() || label.starts_with("__") || !label.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            {
                return Err(format!("no name of a label: {label}"));
            }
            let (mut text, mut chars) = (String::new(), value.char_indices());
            let end = loop {
                match chars.next().ok_or("a label without an end")? {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().ok_or("a label without an end")?.1 {
                        'n' => text.push('\n'),
                        c @ ('\\' | '"') => text.push(c),
                        c => return Err(format!("\\{c} is no escape")),
                    },
                    (_, c) => text.push(c),
                }
            };
            if labels.insert(label.to_owned(), text).is_some() {
                return Err(format!("the label {label} twice"));
            }
            let after = value.get(end + 1..).unwrap_or_default();
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}').ok_or("labels without an end")?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no number")?.parse().map_err(|_| "no number")?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_promtool_would_refuse_is_refused() {
        let good = "# HELP a_total h\n# TYPE a_total counter\na_total{x=\"1\\\"\\n\"} 5\na_total{x=\"2\"} 1e3\n\
                    # HELP b_seconds h\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"0.5\"} 1\n\
                    b_seconds_bucket{le=\"+Inf\"} 2\nb_seconds_sum 3.5\nb_seconds_count 2\n";
        let read = Exported::read(good).unwrap();
        assert_eq!(read.value("a_total", &[("x", "1\"\n")]), Some(5.0));
        for (from, to) in [
            ("a_total", "a"),
            ("counter", "gauge"),
            ("# HELP a_total h\n", ""),
            ("x=\"2\"", "x=\"1\\\"\\n\""),
            ("} 5", "}5"),
            ("\"0.5\"} 1", "\"0.5\"} 3"),
            ("seconds_count 2", "seconds_count 3"),
            ("b_seconds", "b_ms"),
            ("b_seconds_sum", "c_sum"),
            ("x=\"2\"", "x=\"2\",x=\"3\""),
        ] {
            assert!(Exported::read(&good.replace(from, to)).is_err(), "{from} to {to}");
        }
    }
}
