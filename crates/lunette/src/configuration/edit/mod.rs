//! Edits of a `lunette.toml` document: entries are added, changed and removed, and the comments and the order of
//! all others stay.
//!
//! What an entry may say is not known here: fields are keys of the document with their values, and whether the
//! result is right says the reader. A comment above an entry outlives it, what stands within its lines goes with it.

mod fields;
mod find;
mod tree;
mod view;

pub use fields::Fields;
pub use find::{DEFAULT_PORTAL, same_name, same_portal};
pub use view::{KEPT, TargetView, View, view, with_secrets_of, without_secrets};

use find::Found;
use toml_edit::{DocumentMut, Item, Table, TableLike};

/// One change of a document.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Puts an entry there that was not there.
    Add(Place, Fields),
    /// Changes keys of an entry that is there.
    Set(Place, Fields),
    /// The same, where it is made if it is not there.
    Put(Place, Fields),
    /// Takes an entry out.
    Remove(Place),
}

/// An entry of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The target of this name.
    Target(String),
    /// A disk of a target. Where one is added without a number, the lowest free one from 1 on is taken.
    Lun(String, Option<u16>),
    /// A rule of a target by its position, from 1. Where one is added, it comes before the rule that has this position
    /// now; at the end where nothing is said.
    Rule(String, Option<usize>),
    /// `[account.NAME]`.
    Account(String),
    /// The portal that listens there.
    Portal(String),
    /// `[[group]]` of this number.
    Group(u16),
    /// A table that is there once: `log`, `limits`, `daemon`, `discovery`, `chap`, `isns`.
    Section(&'static str),
}

/// Why an edit could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The kind of it, for programs.
    pub kind: Kind,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub help: String,
}

/// Kinds of what can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The document is no TOML, or not in a form that can be edited.
    Document,
    /// There is no such entry.
    Missing,
    /// There is one already.
    Exists,
    /// The edit itself makes no sense.
    Edit,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.help.is_empty() {
            true => f.write_str(&self.what),
            false => write!(f, "{}; {}", self.what, self.help),
        }
    }
}

impl Wrong {
    fn new(kind: Kind, what: impl Into<String>, help: impl Into<String>) -> Wrong {
        Wrong { kind, what: what.into(), help: help.into() }
    }
}

/// The text with these edits made, in turn. Where one of them cannot be made, none is.
pub fn apply(text: &str, edits: &[Edit]) -> Result<String, Wrong> {
    let mut text = text.to_owned();
    for edit in edits {
        text = one(&text, edit)?;
    }
    Ok(text)
}

/// Every edit begins with a document that was read, in which each table knows its position.
fn one(text: &str, edit: &Edit) -> Result<String, Wrong> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        let what = format!("the document is no TOML: {}", error.message().replace('\n', ", "));
        Wrong::new(Kind::Document, what, "mend it first: lunette check")
    })?;
    match edit {
        Edit::Add(place, fields) => add(&mut document, place, fields)?,
        Edit::Set(place, fields) => set(&mut document, place, fields)?,
        Edit::Put(place, fields) => match is_there(&document, place)? {
            true => set(&mut document, place, fields)?,
            false => add(&mut document, place, fields)?,
        },
        Edit::Remove(place) => remove(&mut document, place)?,
    }
    Ok(document.to_string())
}

/// Whether the entry is there.
fn is_there(document: &DocumentMut, place: &Place) -> Result<bool, Wrong> {
    match find::find(document, place) {
        Ok(_) => Ok(true),
        Err(wrong) if wrong.kind == Kind::Missing => Ok(false),
        Err(wrong) => Err(wrong),
    }
}

fn add(document: &mut DocumentMut, place: &Place, fields: &Fields) -> Result<(), Wrong> {
    let exists = |what: String| Wrong::new(Kind::Exists, what, "");
    match place {
        Place::Target(name) => {
            if is_there(document, place)? {
                return Err(exists(format!("there is a target {name} already")));
            }
            let fields = Fields::new().with("name", name.as_str()).and(fields);
            tree::insert(document, &[], "target", usize::MAX, &fields)
        }
        Place::Lun(target, number) => {
            let at = find::target(document, target)?;
            let numbers = find::lun_numbers(document, at)?;
            let number = match number {
                Some(number) if numbers.contains(number) => {
                    return Err(exists(format!("{target} has a LUN {number} already")));
                }
                Some(number) => *number,
                None => find::free(&numbers),
            };
            let fields = Fields::new().with("number", i64::from(number)).and(fields);
            tree::insert(document, &[("target", at)], "lun", usize::MAX, &fields)?;
            pin(document, at, &[&numbers[..], &[number]].concat())
        }
        Place::Rule(target, position) => {
            let at = find::target(document, target)?;
            let index = match position {
                None => usize::MAX,
                Some(position) => {
                    let count = find::entries(find::target_table(document, at)?, "rule").len();
                    let fits = position.checked_sub(1).filter(|index| *index <= count);
                    fits.ok_or_else(|| {
                        let what = format!("{target} has {count} rules; there is no place {position}");
                        Wrong::new(Kind::Edit, what, format!("use 1 to {}", count + 1))
                    })?
                }
            };
            tree::insert(document, &[("target", at)], "rule", index, fields)
        }
        Place::Account(name) => {
            if is_there(document, place)? {
                return Err(exists(format!("there is an account {name} already")));
            }
            tree::insert_named(document, "account", name, fields)
        }
        Place::Portal(listen) => {
            if is_there(document, place)? {
                return Err(exists(format!("it listens at {listen} already")));
            }
            // Whoever adds one does not mean to lose the one that is there because none was said.
            if !document.contains_key("portal") && !find::covers(listen, find::DEFAULT_PORTAL) {
                let own = Fields::new().with("listen", find::DEFAULT_PORTAL);
                tree::insert(document, &[], "portal", usize::MAX, &own)?;
                *document = document.to_string().parse().map_err(|_| find::odd("portal"))?;
            }
            let fields = Fields::new().with("listen", listen.as_str()).and(fields);
            tree::insert(document, &[], "portal", usize::MAX, &fields)
        }
        Place::Group(number) => {
            if is_there(document, place)? {
                return Err(exists(format!("there is a group {number} already")));
            }
            let fields = Fields::new().with("number", i64::from(*number)).and(fields);
            tree::insert(document, &[], "group", usize::MAX, &fields)
        }
        Place::Section(name) => {
            if is_there(document, place)? {
                return Err(exists(format!("there is [{name}] already")));
            }
            tree::insert_section(document, name, fields)
        }
    }
}

fn set(document: &mut DocumentMut, place: &Place, fields: &Fields) -> Result<(), Wrong> {
    if let Place::Target(name) = place
        && let Some(other) = fields.text("name")
        && !find::same_name(name, other)
        && is_there(document, &Place::Target(other.to_owned()))?
    {
        return Err(Wrong::new(Kind::Exists, format!("there is a target {other} already"), ""));
    }
    let found = find::find(document, place)?;
    let mut numbers = None;
    if let Found::Lun { target, index } = found {
        let mut before = find::lun_numbers(document, target)?;
        if let (Some(wanted), Some(own)) = (fields.number("number"), before.get_mut(index)) {
            *own = wanted;
        }
        numbers = Some((target, before));
    }
    tree::set(document, &found, fields)?;
    match numbers {
        Some((target, numbers)) => pin(document, target, &numbers),
        None => Ok(()),
    }
}

fn remove(document: &mut DocumentMut, place: &Place) -> Result<(), Wrong> {
    if let Place::Portal(listen) = place
        && !document.contains_key("portal")
        && find::same_portal(listen, find::DEFAULT_PORTAL)
    {
        document.insert("portal", toml_edit::value(toml_edit::Array::new()));
        return Ok(());
    }
    let found = find::find(document, place)?;
    match found {
        Found::Lun { target, index } => {
            let mut numbers = find::lun_numbers(document, target)?;
            if index < numbers.len() {
                numbers.remove(index);
            }
            tree::remove(document, &[("target", target)], "lun", index)?;
            pin(document, target, &numbers)
        }
        Found::Rule { target, index } => tree::remove(document, &[("target", target)], "rule", index),
        Found::Listed { list, index } => {
            tree::remove(document, &[], list, index)?;
            // Without any `portal` one would be there that nobody has asked for.
            if list == "portal" && find::entries(document.as_table(), list).is_empty() {
                document.remove(list);
                document.insert(list, toml_edit::value(toml_edit::Array::new()));
            }
            Ok(())
        }
        Found::Account(name) => tree::remove_named(document, Some("account"), &name),
        Found::Section(name) => tree::remove_named(document, None, name),
    }
}

/// Gives the disks of a target these numbers, in the order of the document, where they would not have them: a disk
/// that says none has the lowest free one, and would change it with those around it.
fn pin(document: &mut DocumentMut, target: usize, wanted: &[u16]) -> Result<(), Wrong> {
    // From the first on: what one says of its number changes what those behind it have.
    for (index, wanted) in wanted.iter().enumerate() {
        let now = find::lun_numbers(document, target);
        if now.ok().and_then(|now| now.get(index).copied()) != Some(*wanted) {
            let fields = Fields::new().with("number", i64::from(*wanted));
            tree::set(document, &Found::Lun { target, index }, &fields)?;
        }
    }
    Ok(())
}

/// A table of the document, whichever way it is written.
fn table_like(item: &Item) -> Option<&dyn TableLike> {
    item.as_table_like()
}

/// Every table below this one that has a header, in no order that matters.
fn each(table: &mut Table, act: &mut dyn FnMut(&mut Table)) {
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(inner) => {
                if !inner.is_dotted() {
                    act(inner);
                }
                each(inner, act);
            }
            Item::ArrayOfTables(list) => list.iter_mut().for_each(|inner| {
                act(inner);
                each(inner, act);
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
