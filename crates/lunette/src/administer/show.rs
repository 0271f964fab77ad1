//! What is shown to people: tables of all, one thing whole, and what a change does.

use super::kind::{self, KINDS};
use comfy_table::{Table, presets};
use serde_json::Value;
use std::fmt::Write;

/// Letters of a cell: what is longer is shown whole by `show`.
const CELL: usize = 60;

/// What stands in a column.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    /// The value of a key, `-` where there is none; of a list all of it.
    Text(&'static str),
    /// The same, with a word where there is none.
    Or(&'static str, &'static str),
    /// The same, with the value of another key where there is none.
    OrKey(&'static str, &'static str),
    /// How many there are.
    Count(&'static str),
    /// Bytes.
    Bytes(&'static str),
    /// A word for true and one for false.
    Flag(&'static str, &'static str, &'static str),
    /// A key of the first of a list.
    First(&'static str, &'static str),
    /// LUNs as a rule shows them.
    Units(&'static str),
    /// Accounts: an empty list asks for none.
    Accounts(&'static str),
}

impl Column {
    fn key(self) -> &'static str {
        match self {
            Column::Text(key)
            | Column::Or(key, _)
            | Column::OrKey(key, _)
            | Column::Count(key)
            | Column::Bytes(key)
            | Column::Flag(key, ..)
            | Column::First(key, _)
            | Column::Units(key)
            | Column::Accounts(key) => key,
        }
    }

    fn cell(self, row: &Value) -> String {
        let or = |value: &Value, word: &str| match text(value) {
            none if none.is_empty() => word.to_owned(),
            text => text,
        };
        let cell = match self {
            Column::Text(key) => or(&row[key], "-"),
            Column::Or(key, word) => or(&row[key], word),
            Column::OrKey(key, other) => or(&row[key], &text(&row[other])),
            Column::Count(key) => row[key].as_array().map_or(0, Vec::len).to_string(),
            Column::Bytes(key) => row[key].as_u64().map_or("-".to_owned(), size),
            Column::Flag(key, yes, no) => match row[key].as_bool() {
                Some(true) => yes.to_owned(),
                // What the configuration does not say is false.
                Some(false) | None => no.to_owned(),
            },
            Column::First(key, inner) => or(&row[key][0][inner], "-"),
            Column::Units(key) => match &row[key] {
                Value::Array(all) => all.iter().map(unit).collect::<Vec<_>>().join(" "),
                _ => "all".to_owned(),
            },
            Column::Accounts(key) => match &row[key] {
                Value::Array(none) if none.is_empty() => "none".to_owned(),
                value => or(value, "the target's"),
            },
        };
        shortened(&printable(&cell))
    }
}

/// A LUN as a rule shows it: `2`, `2:0,ro`.
fn unit(unit: &Value) -> String {
    let Value::Object(unit) = unit else { return text(unit) };
    let shown_as = unit.get("as").map(|number| format!(":{number}")).unwrap_or_default();
    let read_only = if unit.get("read_only") == Some(&Value::Bool(true)) { ",ro" } else { "" };
    format!("{}{shown_as}{read_only}", unit.get("lun").unwrap_or(&Value::Null))
}

/// All of them, a line each. A table without rows has its head.
pub fn table(columns: &[(&str, Column)], rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|(head, _)| *head));
    for row in rows {
        table.add_row(columns.iter().map(|(_, column)| column.cell(row)));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    let lines: Vec<&str> = lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    format!("{}\n", lines.join("\n"))
}

/// One thing whole: its keys with their values, those of its table first, and lists of tables below.
pub fn whole(columns: &[(&str, Column)], thing: &Value) -> String {
    let Value::Object(thing) = thing else { return format!("{}\n", text(thing)) };
    let mut out = String::new();
    let place = |key: &str| columns.iter().position(|(_, column)| column.key() == key).unwrap_or(columns.len());
    let mut plain: Vec<(&String, &Value)> = thing.iter().filter(|(key, value)| inner(key, value).is_none()).collect();
    plain.sort_by_key(|(key, _)| place(key));
    let width = plain.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in plain {
        let value = match (key.as_str(), value) {
            (key, Value::Number(number)) if key.ends_with("bytes") || key.ends_with("_length") => {
                match size(number.as_u64().unwrap_or(0)) {
                    small if small.ends_with(" bytes") => small,
                    size => format!("{number} ({size})"),
                }
            }
            ("luns", Value::Array(units)) if !units.is_empty() => units.iter().map(unit).collect::<Vec<_>>().join(" "),
            ("accounts" | "registrations" | "luns" | "rules" | "connections", Value::Array(none))
                if none.is_empty() =>
            {
                "none".to_owned()
            }
            (_, value) => match text(value) {
                none if none.is_empty() => "-".to_owned(),
                text => text,
            },
        };
        let _ = writeln!(out, "{:<width$}  {}", key.replace('_', " "), printable(&value));
    }
    for (key, value) in thing {
        let Some(columns) = inner(key, value) else { continue };
        let rows = value.as_array().cloned().unwrap_or_default();
        let table = table(&columns, &rows);
        let lines = table.lines().map(|line| format!("  {line}\n"));
        let _ = write!(out, "\n{}\n{}", key.replace('_', " ").to_uppercase(), lines.collect::<String>());
    }
    out
}

/// The columns of a list of things within a thing; nothing where it is another list, or an empty one.
fn inner(key: &str, value: &Value) -> Option<Vec<(&'static str, Column)>> {
    let first = value.as_array()?.first()?.as_object()?;
    let of = |kind: usize, without: &[&str]| {
        let columns = KINDS.get(kind).into_iter().flat_map(|kind| kind.columns.iter().copied());
        columns.filter(|(head, _)| !without.contains(head)).collect()
    };
    match key {
        "luns" if first.contains_key("number") => Some(of(kind::LUN, &["TARGET"])),
        "rules" => Some(of(kind::ACL, &["TARGET"])),
        "connections" => Some(of(kind::CONNECTION, &["SESSION", "INITIATOR"])),
        "registrations" => Some(vec![
            ("INITIATOR", Column::Text("initiator")),
            ("KEY", Column::Text("key")),
            ("HOLDS", Column::Flag("holds", "yes", "no")),
            ("TARGET PORT", Column::Text("relative_port")),
        ]),
        _ => None,
    }
}

/// What a change has done, or would do.
pub fn plan(plan: &Value) -> String {
    let lines = |key: &str| -> Vec<String> {
        plan[key].as_array().into_iter().flatten().filter_map(|one| Some(one["line"].as_str()?.to_owned())).collect()
    };
    let would = if plan["done"] == true { "" } else { "would " };
    let mut out: Vec<String> = lines("steps").iter().map(|line| format!("{would}{line}")).collect();
    out.extend(lines("stuck"));
    if out.is_empty() {
        out.push("nothing changes".to_owned());
    }
    if plan["done"] != true && plan["needs_force"] == true {
        out.push("somebody uses it: it needs --force".to_owned());
    }
    out.iter().map(|line| format!("{}\n", printable(line))).collect()
}

/// What people should hear beside it.
pub fn remarks(plan: &Value) -> Vec<String> {
    let warnings = plan["warnings"].as_array().into_iter().flatten().map(|warning| {
        let text = |key: &str| warning[key].as_str().unwrap_or_default();
        let help = if text("help").is_empty() { String::new() } else { format!("; {}", text("help")) };
        format!("{}:{}:{}: warning: {}{help}", text("file"), warning["line"], warning["column"], text("message"))
    });
    let remarks = plan["remarks"].as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned));
    warnings.chain(remarks).map(|line| printable(&line)).collect()
}

/// An event in a line.
pub fn event(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or("-");
    let fields = event["fields"].as_object().into_iter().flatten();
    let plain = fields.filter(|(_, value)| !value.is_array() && !value.is_object());
    let facts: Vec<String> = plain.map(|(key, value)| format!("{key}={}", self::text(value))).collect();
    let line = format!(
        "{}  {:<5}  {:<12}  {}  {}",
        text("time"),
        text("level"),
        text("kind"),
        text("message"),
        facts.join(" ")
    );
    printable(line.trim_end())
}

/// A value in a line.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(all) => {
            all.iter().map(|(key, value)| format!("{key} {}", text(value))).collect::<Vec<_>>().join(", ")
        }
        number => number.to_string(),
    }
}

/// In binary units, as configurations have them.
fn size(bytes: u64) -> String {
    crate::client::size(bytes)
}

/// Nothing that a peer has said acts on a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn shortened(text: &str) -> String {
    match text.chars().count() > CELL {
        true => text.chars().take(CELL - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
