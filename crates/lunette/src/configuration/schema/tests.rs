//! That the schema and the reader say the same: the same keys, and the same of what may stand there.

use super::*;
use crate::configuration::file;
use crate::configuration::finding::Findings;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The tables as the reader names them in its messages, and where the schema has them.
const TABLES: &[(&str, &str)] = &[
    ("the file", ""),
    ("[log]", "/properties/log"),
    ("[daemon]", "/properties/daemon"),
    ("[sandbox]", "/properties/sandbox"),
    ("[administration]", "/properties/administration"),
    ("[metrics]", "/properties/metrics"),
    ("[limit]", "/properties/target/items/properties/lun/items/properties/limit"),
    ("[isns]", "/properties/isns"),
    ("[chap]", "/properties/chap"),
    ("[discovery]", "/properties/discovery"),
    ("[[portal]]", "/properties/portal/items"),
    ("[[group]]", "/properties/group/items"),
    ("[[target]]", "/properties/target/items"),
    ("[[target]]'s `lun`", "/properties/target/items/properties/lun/items"),
    ("[[target]]'s `rule`", "/properties/target/items/properties/rule/items"),
    ("an entry of `luns`", "/properties/target/items/properties/rule/items/properties/luns/items/anyOf/1"),
    ("`redirect`", "/properties/target/items/properties/redirect/anyOf/1"),
    ("account NAME", "/properties/account/additionalProperties"),
];

/// Every document that there is: those of the golden file, of the tests, and of the manual.
fn documents() -> Vec<String> {
    let cases = include_str!("../file/cases.txt").split("=== ").skip(1);
    let cases = cases.filter_map(|case| Some(case.split_once('\n')?.1.split_once("---\n")?.0.to_owned()));
    let manual = include_str!("../../../../../docs/configuration.md").split("```toml\n").skip(1);
    let manual = manual.filter_map(|block| Some(block.split_once("```")?.0.to_owned()));
    cases.chain(manual).chain([file::tests::WHOLE.to_owned()]).collect()
}

/// The document as JSON, where it is TOML.
fn as_json(text: &str) -> Option<Value> {
    fn value(item: &toml::de::DeValue<'_>) -> Value {
        use toml::de::DeValue;
        match item {
            DeValue::String(text) => json!(text.to_string()),
            DeValue::Integer(number) => {
                json!(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
            }
            DeValue::Float(number) => json!(number.as_str().parse::<f64>().unwrap_or_default()),
            DeValue::Boolean(flag) => json!(flag),
            DeValue::Datetime(date) => json!({ "date": date.to_string() }),
            DeValue::Array(list) => list.iter().map(|one| value(one.get_ref())).collect(),
            DeValue::Table(table) => {
                Value::Object(table.iter().map(|(key, item)| (key.to_string(), value(item.get_ref()))).collect())
            }
        }
    }
    let (document, errors) = toml::de::DeTable::parse_recoverable(text);
    let entries = document.get_ref().iter().map(|(key, item)| (key.to_string(), value(item.get_ref())));
    errors.is_empty().then(|| Value::Object(entries.collect()))
}

/// What is wrong with a value by a schema, of the words that ours has. Another word ends the test.
fn wrong(schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    for (word, of) in schema.as_object().expect("a schema is an object") {
        match word.as_str() {
            "$schema" | "title" | "description" | "default" | "examples" => {}
            "type" => {
                let fits = match of.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    other => panic!("type {other}"),
                };
                if !fits {
                    out.push(format!("{at}: is no {of}"));
                }
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    match (of.get(key), &schema["additionalProperties"]) {
                        (Some(schema), _) => wrong(schema, inner, &format!("{at}/{key}"), out),
                        (None, Value::Bool(false)) => out.push(format!("{at}: has no key {key}")),
                        (None, _) => panic!("{at}: {key}"),
                    }
                }
            }
            "additionalProperties" => {
                if of.is_object() {
                    for (key, inner) in value.as_object().into_iter().flatten() {
                        wrong(of, inner, &format!("{at}/{key}"), out);
                    }
                }
            }
            "required" => {
                for key in of.as_array().unwrap() {
                    if value.is_object() && value.get(key.as_str().unwrap()).is_none() {
                        out.push(format!("{at}: lacks {key}"));
                    }
                }
            }
            "items" => {
                for (number, inner) in value.as_array().into_iter().flatten().enumerate() {
                    wrong(of, inner, &format!("{at}/{number}"), out);
                }
            }
            "minItems" => {
                if value.as_array().is_some_and(|list| (list.len() as u64) < of.as_u64().unwrap()) {
                    out.push(format!("{at}: has too few"));
                }
            }
            "enum" => {
                if !of.as_array().unwrap().contains(value) {
                    out.push(format!("{at}: is none of {of}"));
                }
            }
            "minimum" | "maximum" => {
                let (number, bound) = (value.as_i64(), of.as_i64().unwrap());
                let fits = |number: i64| if word == "minimum" { number >= bound } else { number <= bound };
                if number.is_some_and(|number| !fits(number)) {
                    out.push(format!("{at}: is beyond {bound}"));
                }
            }
            "anyOf" => {
                let any = of.as_array().unwrap().iter().any(|schema| {
                    let mut inner = Vec::new();
                    wrong(schema, value, at, &mut inner);
                    inner.is_empty()
                });
                if !any {
                    out.push(format!("{at}: fits none"));
                }
            }
            other => panic!("the test does not know the word {other}"),
        }
    }
}

fn refused(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(value) = as_json(text) {
        wrong(&schema(), &value, "", &mut out);
    }
    out
}

#[test]
fn the_published_schema_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lunette.schema.json");
    if std::env::var_os("LUNETTE_WRITE").is_some() {
        std::fs::write(&path, text()).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap_or_default();
    assert!(published == text(), "docs/lunette.schema.json is another; LUNETTE_WRITE=1 writes it anew");
}

#[test]
fn the_schema_has_exactly_the_keys_that_the_reader_asks_for() {
    let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for text in documents() {
        let findings = Findings::new("lunette.toml", &text);
        let _ = file::read_into(&findings, &text, None);
        for (table, keys) in findings.asked() {
            let table = if table.starts_with("account ") { "account NAME".to_owned() } else { table };
            asked.entry(table).or_default().extend(keys.into_iter().map(str::to_owned));
        }
    }
    // Its entries are found by their names, and tested with the bounds.
    let named = |table: &&String| !["[limits]", "[account]"].contains(&table.as_str());
    let schema = schema();
    for table in asked.keys().filter(named) {
        let (_, pointer) =
            TABLES.iter().find(|(name, _)| name == table).unwrap_or_else(|| panic!("{table} is not in the schema"));
        let keys = &schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"))["properties"];
        let has: BTreeSet<String> = keys.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        assert_eq!(has, asked[table], "{table}");
    }
    for (table, _) in TABLES {
        assert!(asked.contains_key(*table), "no document has {table}");
    }
}

#[test]
fn what_the_reader_takes_the_schema_takes() {
    for text in documents() {
        let errors = file::read("lunette.toml", &text, None).findings;
        let errors: Vec<_> =
            errors.iter().filter(|found| found.severity == crate::configuration::Severity::Error).collect();
        let by_schema = refused(&text);
        // Secrets of the manual are not on this machine, which the schema cannot know.
        if errors.iter().all(|found| found.what.contains("/etc/lunette/")) {
            assert_eq!(by_schema, [] as [String; 0], "{text}");
        }
        // What has the wrong type or an unknown name the editor shows as well.
        let by_shape =
            |what: &str| what.contains("does not take") || what.contains("has no key") || what.contains("has no `");
        if errors.iter().any(|found| by_shape(&found.what)) {
            assert_ne!(by_schema, [] as [String; 0], "{text}");
        }
    }
}
