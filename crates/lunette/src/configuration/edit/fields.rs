//! What an edit says of an entry: keys with their values, or that a key is to go.

use super::{Kind, Wrong};
use serde_json::Value as Json;
use toml_edit::{Array, InlineTable, Value};

/// Keys in the order in which they are to stand; `None` takes one out.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, Option<Value>)>);

impl Fields {
    /// None yet.
    pub fn new() -> Fields {
        Fields::default()
    }

    /// These with one more.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Fields {
        self.0.push((key.to_owned(), Some(value.into())));
        self
    }

    /// These, and that this key is to go.
    pub fn without(mut self, key: &str) -> Fields {
        self.0.push((key.to_owned(), None));
        self
    }

    /// These, and those others that are not among them.
    pub fn and(mut self, others: &Fields) -> Fields {
        for (key, value) in &others.0 {
            if !self.0.iter().any(|(known, _)| known == key) {
                self.0.push((key.clone(), value.clone()));
            }
        }
        self
    }

    /// One more from JSON; `null` takes the key out.
    pub fn push_json(&mut self, key: &str, value: &Json) -> Result<(), Wrong> {
        let value = match value {
            Json::Null => None,
            value => Some(from_json(key, value)?),
        };
        self.0.push((key.to_owned(), value));
        Ok(())
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Value>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_ref()))
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_str()
    }

    /// The number of a key, if it is one that fits.
    pub fn number(&self, key: &str) -> Option<u16> {
        self.value(key)?.as_integer().and_then(|number| u16::try_from(number).ok())
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(known, _)| known == key)?.1.as_ref()
    }
}

/// A value as the document writes it. Keys of tables within it are the document's, with hyphens.
fn from_json(key: &str, value: &Json) -> Result<Value, Wrong> {
    let wrong = |what: &str| Wrong::new(Kind::Edit, format!("`{key}` does not take {what}"), "");
    Ok(match value {
        Json::Null => return Err(wrong("nothing")),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => Value::from(number.as_i64().ok_or_else(|| wrong("this number"))?),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => {
            let mut array = Array::new();
            for one in list {
                array.push(from_json(key, one)?);
            }
            Value::from(array)
        }
        Json::Object(object) => {
            let mut table = InlineTable::new();
            for (inner, value) in object {
                // What says nothing is not written.
                if !value.is_null() {
                    table.insert(inner.replace('_', "-"), from_json(inner, value)?);
                }
            }
            Value::from(table)
        }
    })
}
