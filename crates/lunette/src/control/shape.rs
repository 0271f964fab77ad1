//! What a JSON value looks like: said once, it makes the schema of the OpenAPI document, checks what is asked, and
//! checks what is answered.

use crate::configuration::finding::suggest;
use serde_json::{Map, Value, json};

/// Levels of a value that are looked at; no answer has as many.
const DEPTH: usize = 16;

/// The shape of a value.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A text.
    Text,
    /// A text that names one of these.
    Word(Vec<&'static str>),
    /// A whole number from here to there.
    Number(i64, i64),
    /// A number with a fraction.
    Decimal,
    /// True or false.
    Flag,
    /// A list.
    List(Box<Shape>),
    /// Any of these.
    Either(Vec<Shape>),
    /// A shape by its name among [`super::shapes::named`].
    Named(&'static str),
    /// A table whose keys are names.
    Map(Box<Shape>),
    /// A table with these keys and no others.
    Object(Vec<Field>),
    /// Whatever it is.
    Any,
}

/// A key of a table.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What stands there.
    pub shape: Shape,
    /// What it is.
    pub about: &'static str,
    /// It is always there.
    pub needed: bool,
    /// It may be `null`.
    pub nullable: bool,
}

/// A whole number that counts something.
pub fn count() -> Shape {
    Shape::Number(0, i64::MAX)
}

/// A list of these.
pub fn list(of: Shape) -> Shape {
    Shape::List(Box::new(of))
}

/// A key that is always there.
pub fn always(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, about, needed: true, nullable: false }
}

/// A key that is there where there is something to say.
pub fn perhaps(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, about, needed: false, nullable: false }
}

/// A key that is always there, and `null` where there is nothing to say.
pub fn nullable(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, about, needed: true, nullable: true }
}

impl Shape {
    /// As JSON Schema (2020-12) says it.
    pub fn schema(&self) -> Value {
        match self {
            Shape::Text => json!({ "type": "string" }),
            Shape::Word(words) => json!({ "type": "string", "enum": words }),
            Shape::Number(least, most) => {
                let mut schema = json!({ "type": "integer", "minimum": least });
                if *most != i64::MAX {
                    schema["maximum"] = (*most).into();
                }
                schema
            }
            Shape::Decimal => json!({ "type": "number" }),
            Shape::Flag => json!({ "type": "boolean" }),
            Shape::List(of) => json!({ "type": "array", "items": of.schema() }),
            Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(Shape::schema).collect::<Vec<_>>() }),
            Shape::Named(name) => json!({ "$ref": format!("#/components/schemas/{name}") }),
            Shape::Map(of) => json!({ "type": "object", "additionalProperties": of.schema() }),
            Shape::Object(fields) => {
                let mut properties = Map::new();
                for field in fields {
                    properties.insert(field.name.to_owned(), field.schema());
                }
                let needed: Vec<&str> = fields.iter().filter(|field| field.needed).map(|field| field.name).collect();
                let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
                if !needed.is_empty() {
                    schema["required"] = needed.into();
                }
                schema
            }
            Shape::Any => json!({}),
        }
    }

    /// Whether a value has this shape. The error says where it has not, and what would be right.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.check_at(value, "", DEPTH)
    }

    fn check_at(&self, value: &Value, at: &str, depth: usize) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or("it is nested too deep")?;
        let wrong = |wanted: String| {
            let place = if at.is_empty() { "the body".to_owned() } else { format!("`{at}`") };
            Err(format!("{place} does not take {}; give {wanted}", told(value)))
        };
        match (self, value) {
            (Shape::Any, _)
            | (Shape::Text, Value::String(_))
            | (Shape::Flag, Value::Bool(_))
            | (Shape::Decimal, Value::Number(_)) => Ok(()),
            (Shape::Word(words), Value::String(word)) => match words.contains(&word.as_str()) {
                true => Ok(()),
                false => Err(format!("`{at}` does not take {word:?}; {}", suggest(word, words.iter().copied()))),
            },
            (Shape::Number(least, most), Value::Number(number)) => {
                let fits = match number.as_i64() {
                    Some(number) => (*least..=*most).contains(&number),
                    // Counters go beyond i64; nothing that is asked for does.
                    None => number.is_u64() && *most == i64::MAX,
                };
                if fits { Ok(()) } else { wrong(self.wanted()) }
            }
            (Shape::List(of), Value::Array(all)) => {
                all.iter().enumerate().try_for_each(|(n, one)| of.check_at(one, &format!("{at}[{n}]"), depth))
            }
            (Shape::Map(of), Value::Object(all)) => {
                all.iter().try_for_each(|(key, one)| of.check_at(one, &inner(at, key), depth))
            }
            (Shape::Named(name), _) => match super::shapes::find(name) {
                Some(shape) => shape.check_at(value, at, depth),
                None => Err(format!("there is no shape {name}")),
            },
            (Shape::Either(shapes), _) => match shapes.iter().any(|shape| shape.check_at(value, at, depth).is_ok()) {
                true => Ok(()),
                false => wrong(self.wanted()),
            },
            (Shape::Object(fields), Value::Object(all)) => {
                for (key, one) in all {
                    let at = inner(at, key);
                    match fields.iter().find(|field| field.name == key) {
                        Some(field) if one.is_null() && field.nullable => {}
                        Some(field) => field.shape.check_at(one, &at, depth)?,
                        None => {
                            let help = suggest(key, fields.iter().map(|field| field.name));
                            return Err(format!("there is no key `{at}`; {help}"));
                        }
                    }
                }
                match fields.iter().find(|field| field.needed && !all.contains_key(field.name)) {
                    Some(field) => Err(format!("`{}` is missing; it is {}", inner(at, field.name), field.about)),
                    None => Ok(()),
                }
            }
            _ => wrong(self.wanted()),
        }
    }

    /// What people are told that it takes.
    fn wanted(&self) -> String {
        match self {
            Shape::Text => "a text".to_owned(),
            Shape::Word(words) => format!("one of {}", words.join(", ")),
            Shape::Number(0, i64::MAX) => "a whole number".to_owned(),
            Shape::Number(least, most) => format!("a whole number from {least} to {most}"),
            Shape::Decimal => "a number".to_owned(),
            Shape::Flag => "true or false".to_owned(),
            Shape::List(of) => format!("a list, each {}", of.wanted()),
            Shape::Either(shapes) => shapes.iter().map(Shape::wanted).collect::<Vec<_>>().join(", or "),
            Shape::Named(_) | Shape::Map(_) | Shape::Object(_) => "a table".to_owned(),
            Shape::Any => "anything".to_owned(),
        }
    }
}

impl Field {
    fn schema(&self) -> Value {
        let mut schema = self.shape.schema();
        if self.nullable {
            schema = match schema.get("type").cloned() {
                Some(Value::String(kind)) if schema.get("enum").is_none() => {
                    schema["type"] = json!([kind, "null"]);
                    schema
                }
                _ => json!({ "anyOf": [schema, { "type": "null" }] }),
            };
        }
        schema["description"] = self.about.into();
        schema
    }
}

fn inner(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// A value as an error names it: never whole, it may be a secret.
fn told(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "this number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_its_place_and_what_would() {
        let shape = Shape::Object(vec![
            always("store", Shape::Text, "where it lies"),
            perhaps("number", Shape::Number(0, 9), "its number"),
            Field { nullable: true, ..perhaps("cache", Shape::Word(vec!["on", "off"]), "its cache") },
            perhaps("luns", list(Shape::Either(vec![Shape::Number(0, 9), Shape::Flag])), "disks"),
        ]);
        let said = |value: Value| shape.check(&value).err().unwrap_or_default();
        assert_eq!(said(json!({ "store": "x", "number": 9, "cache": null, "luns": [1, true] })), "");
        assert_eq!(said(json!({})), "`store` is missing; it is where it lies");
        assert_eq!(said(json!({ "store": 1 })), "`store` does not take this number; give a text");
        assert_eq!(
            said(json!({ "store": "", "number": 10 })),
            "`number` does not take this number; give a whole number from 0 to 9"
        );
        assert_eq!(said(json!({ "store": "", "numbr": 1 })), "there is no key `numbr`; did you mean `number`?");
        assert_eq!(said(json!({ "store": "", "cache": "of" })), "`cache` does not take \"of\"; did you mean `on`?");
        assert_eq!(
            said(json!({ "store": "", "luns": [1, "a"] })),
            "`luns[1]` does not take a text; give a whole number from 0 to 9, or true or false"
        );
        assert_eq!(said(json!([])), "the body does not take a list; give a table");
        let schema = shape.schema();
        assert_eq!(schema["required"], json!(["store"]));
        assert_eq!(schema["properties"]["cache"]["anyOf"][1], json!({ "type": "null" }));
        assert_eq!(
            schema["properties"]["number"],
            json!({ "type": "integer", "minimum": 0, "maximum": 9, "description": "its number" })
        );
    }
}
