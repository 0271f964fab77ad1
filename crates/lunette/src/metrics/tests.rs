//! What is exported keeps to Prometheus' conventions, and the pages and the dashboard know all of it and nothing else.

use super::*;
use lun::{GroupSettings, Identity, LogicalUnit, LunEntry, LunMap, Options, TargetPortGroups};
use scsi::inquiry::TargetPortGroupSupport;
use sim::exposition::Exported;
use std::sync::Arc;
use target::{Access, Discovery, Door, Limits, Target, Targets};

/// A door to one target with LUN 3.
fn door() -> Arc<Door> {
    let identity = Identity {
        uuid: [7; 16],
        vendor: "LUNETTE".into(),
        product: "Memory".into(),
        revision: "0001".into(),
        serial: "1".into(),
    };
    let unit = LogicalUnit::new(identity, Options::default(), block::pure::Ram::new(512, 2048));
    unit.limiter().set(lun::Rate { operations: 500, ..lun::Rate::default() });
    let target = Target {
        name: "iqn.2026-11.com.example:disk".into(),
        alias: None,
        offline: false,
        access: Access::default(),
        portals: Vec::new(),
        groups: TargetPortGroups::new(&[GroupSettings::new(1)], TargetPortGroupSupport::Both),
        units: Arc::new(LunMap { entries: vec![LunEntry { number: 3, unit, read_only: false }] }),
    };
    let targets = Targets::new(vec![target], Discovery::Open, Vec::new());
    Door::new(targets, Arc::new(Limits::default()), Vec::new())
}

#[test]
fn what_is_exported_is_what_promtool_takes() {
    let exported = Exported::read(&text(&door())).unwrap();
    let lun = [("target", "iqn.2026-11.com.example:disk"), ("lun", "3")];
    assert_eq!(exported.value("lunette_lun_size_bytes", &lun), Some(1048576.0));
    assert_eq!(exported.value("lunette_lun_limit_operations", &lun), Some(500.0));
    assert_eq!(exported.value("lunette_lun_limit_bytes", &lun), None);
    assert_eq!(exported.value("lunette_lun_latency_seconds_count", &lun), Some(0.0), "before the first command");
    assert_eq!(exported.value("lunette_sessions", &lun[..1]), Some(0.0));
    assert!(exported.value("process_resident_memory_bytes", &[]).unwrap() > 1e6);
    assert!(exported.value("process_cpu_seconds_total", &[]).unwrap() > 0.0);
    let told: Vec<_> = exported.kinds.keys().map(String::as_str).collect();
    let mut known: Vec<_> = METRICS.iter().map(|metric| metric.family.name).collect();
    known.sort_unstable();
    assert_eq!(told, known, "every family is told, each once");
    assert!(known.iter().all(|name| name.starts_with("lunette_") || name.starts_with("process_")));
}

#[test]
fn labels_that_are_told_are_those_of_the_table() {
    let exported = Exported::read(&text(&door())).unwrap();
    for sample in &exported.samples {
        let of = |metric: &&Metric| {
            let end = sample.name.strip_prefix(metric.family.name);
            matches!(end, Some("" | "_bucket" | "_sum" | "_count"))
        };
        let family = METRICS.iter().find(of).unwrap().family;
        let labels: Vec<_> = sample.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
        let mut known = family.labels.to_vec();
        known.sort_unstable();
        assert_eq!(labels, known, "{}", sample.name);
    }
}

/// The table of docs/observing.md, made from [`METRICS`].
fn table() -> String {
    let mut table = String::from("| metric | kind | labels | what it tells |\n|---|---|---|---|\n");
    for Metric { family, .. } in METRICS {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        table += &format!("| `{}` | {} | {} | {} |\n", family.name, family.kind.name(), labels.join(", "), family.help);
    }
    table
}

#[test]
fn docs_observing_md_has_this_table() {
    const BEGIN: &str = "<!-- metrics: made from the code; LUNETTE_WRITE=1 cargo test -p lunette metrics -->\n";
    const END: &str = "<!-- end of metrics -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/observing.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for it");
    let (written, after) = rest.split_once(END).expect("the place has an end");
    if std::env::var_os("LUNETTE_WRITE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert!(written == table(), "docs/observing.md is not what the code says; write it with LUNETTE_WRITE=1");
    }
}

/// The names that an expression of PromQL uses.
fn names(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("lunette_") || word.starts_with("process_")).collect()
}

#[test]
fn the_dashboard_asks_only_for_what_is_exported() {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/grafana/lunette.json"));
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    let (mut expressions, mut used) = (0, std::collections::BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels with one number");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let names = names(expression);
            assert!(!names.is_empty(), "{expression}");
            expressions += 1;
            for name in names {
                let family = METRICS.iter().find(|metric| {
                    let end = name.strip_prefix(metric.family.name);
                    match metric.family.kind {
                        Kind::Histogram => matches!(end, Some("_bucket" | "_sum" | "_count")),
                        _ => end == Some(""),
                    }
                });
                let family = family.unwrap_or_else(|| panic!("{name} is not exported: {expression}")).family;
                // A counter is looked at by its rate, and labels in use are there.
                if family.kind == Kind::Counter {
                    assert!(expression.contains("rate(") || expression.contains("increase("), "{expression}");
                }
                used.insert(family.name);
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["query"].as_str().unwrap_or_default();
        for name in names(query) {
            assert!(METRICS.iter().any(|metric| metric.family.name == name), "{query}");
        }
    }
    assert!(expressions >= 10 && used.len() >= 10, "{expressions}, {used:?}");
}
