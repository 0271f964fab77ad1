//! Changes the tree of a document, so that what was there is printed where and as it was.
//!
//! A table is printed by its position, of those with one position in the order of the tree. So a new table takes the
//! position of the one that it is to follow.

use super::find::{Found, odd};
use super::{Fields, Wrong, each};
use toml_edit::{Array, ArrayOfTables, Decor, DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// Ways to the entry in which a list stands: the list and the index, from the top.
type Path<'p> = [(&'p str, usize)];

/// Puts an entry into a list, at the end where the index is beyond it.
pub fn insert(
    document: &mut DocumentMut,
    path: &Path<'_>,
    list: &str,
    index: usize,
    fields: &Fields,
) -> Result<(), Wrong> {
    let last = last_position(document.as_table_mut());
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    let mut parent = walk(document.as_table_mut(), path)?;
    let behind = match &mut parent {
        _ if path.is_empty() => Some(last),
        Parent::Table(table) => Some(last_position(table)),
        Parent::Inline(_) => None,
    };
    let parent = parent.like();
    // `portal = []` gives way to [[portal]], unless somebody has written something into it.
    if let Some(Item::Value(Value::Array(array))) = parent.get(list)
        && array.is_empty()
        && behind.is_some()
        && !array.to_string().contains('#')
    {
        parent.remove(list);
    }
    if !parent.contains_key(list) {
        let empty = match behind {
            Some(_) => Item::ArrayOfTables(ArrayOfTables::new()),
            None => Item::Value(Value::Array(Array::new())),
        };
        parent.insert(list, empty);
    }
    let mut ends = false;
    match parent.get_mut(list) {
        Some(Item::ArrayOfTables(tables)) => {
            let index = index.min(tables.len());
            let next = tables.get(index).map(Table::position);
            let before = index.checked_sub(1).and_then(|before| tables.get_mut(before)).map(last_position);
            // The first of its list stands behind all of its parent.
            let position = next.unwrap_or(before.or(behind));
            ends = next.is_none() && position == Some(last);
            tables.insert(index, table(fields, position, if ends { &trailing } else { "" }));
        }
        Some(Item::Value(Value::Array(array))) => array.insert(index.min(array.len()), inline_table(fields)),
        _ => return Err(odd(list)),
    }
    if ends {
        forget_trailing(document);
    }
    Ok(())
}

/// Takes an entry out of a list. The comment above it stays with what follows.
pub fn remove(document: &mut DocumentMut, path: &Path<'_>, list: &str, index: usize) -> Result<(), Wrong> {
    let parent = walk(document.as_table_mut(), path)?.like();
    let kept = match parent.get_mut(list) {
        Some(Item::ArrayOfTables(tables)) if index < tables.len() => {
            let table = tables.get(index).map(|table| (table.position().unwrap_or(0), comment(table.decor())));
            tables.remove(index);
            table
        }
        Some(Item::Value(Value::Array(array))) if index < array.len() => {
            let removed = array.remove(index);
            if let Some(comment) = comment(removed.decor()) {
                match array.get_mut(index) {
                    Some(next) => prepend(next.decor_mut(), &comment),
                    None => {
                        let rest = array.trailing().as_str().unwrap_or_default().to_owned();
                        array.set_trailing(format!("{}{rest}", comment.trim_end_matches(' ')));
                    }
                }
            }
            None
        }
        _ => return Err(odd(list)),
    };
    if let Some((position, Some(comment))) = kept {
        keep_comment(document, position, &comment);
    }
    Ok(())
}

/// Puts a named table into a table at the top: `[account.NAME]`.
pub fn insert_named(document: &mut DocumentMut, within: &str, name: &str, fields: &Fields) -> Result<(), Wrong> {
    let last = last_position(document.as_table_mut());
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    if !document.contains_key(within) {
        let mut outer = Table::new();
        outer.set_implicit(true);
        outer.set_position(Some(last));
        document.insert(within, Item::Table(outer));
    }
    let mut ends = false;
    match document.get_mut(within) {
        Some(Item::Table(outer)) if !outer.is_dotted() => {
            let position = last_position(outer);
            ends = position == last;
            let table = table(fields, Some(position), if ends { &trailing } else { "" });
            outer.insert(name, Item::Table(table));
        }
        Some(item) => {
            let outer = item.as_table_like_mut().ok_or_else(|| odd(within))?;
            outer.insert(name, Item::Value(Value::from(inline_table(fields))));
        }
        None => return Err(odd(within)),
    }
    if ends {
        forget_trailing(document);
    }
    Ok(())
}

/// Puts a table at the top: `[limits]`.
pub fn insert_section(document: &mut DocumentMut, name: &str, fields: &Fields) -> Result<(), Wrong> {
    let last = last_position(document.as_table_mut());
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    document.insert(name, Item::Table(table(fields, Some(last), &trailing)));
    forget_trailing(document);
    Ok(())
}

/// Takes a table out of one at the top, or from the top itself.
pub fn remove_named(document: &mut DocumentMut, within: Option<&str>, name: &str) -> Result<(), Wrong> {
    let outer = match within {
        Some(within) => document.get_mut(within).and_then(Parent::of).ok_or_else(|| odd(within))?,
        None => Parent::Table(document.as_table_mut()),
    };
    let kept = take_key(outer, name);
    kept.into_iter().for_each(|(position, comment)| keep_comment(document, position, &comment));
    Ok(())
}

/// Changes keys of an entry.
pub fn set(document: &mut DocumentMut, found: &Found, fields: &Fields) -> Result<(), Wrong> {
    let mut kept = Vec::new();
    for (key, value) in fields.iter() {
        let root = document.as_table_mut();
        let entry = match found {
            Found::Lun { target, index } => walk(root, &[("target", *target), ("lun", *index)])?,
            Found::Rule { target, index } => walk(root, &[("target", *target), ("rule", *index)])?,
            Found::Listed { list, index } => walk(root, &[(list, *index)])?,
            Found::Account(name) => {
                let accounts = root.get_mut("account").and_then(Item::as_table_like_mut);
                let account = accounts.and_then(|accounts| accounts.get_mut(name)).and_then(Parent::of);
                account.ok_or_else(|| odd("account"))?
            }
            Found::Section(name) => root.get_mut(name).and_then(Parent::of).ok_or_else(|| odd(name))?,
        };
        match value {
            Some(value) => kept.extend(put(entry, key, value)),
            None => kept.extend(take_key(entry, key)),
        }
    }
    kept.into_iter().for_each(|(position, comment)| keep_comment(document, position, &comment));
    Ok(())
}

/// A comment that has lost its entry, and the position behind which it stood.
type Kept = (isize, String);

/// Gives a key this value. What stands around the old value, its comment, stays; a value that says the same stays as
/// it is written.
fn put(entry: Parent<'_>, key: &str, value: &Value) -> Option<Kept> {
    let table = match entry {
        Parent::Table(table) => table as &mut dyn TableLike,
        Parent::Inline(table) => table,
    };
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            if plain(old) != plain(value) {
                let decor = old.decor().clone();
                *old = value.clone();
                *old.decor_mut() = decor;
            }
            None
        }
        // A value that was written as a table of its own, [target.rule.redirect].
        Some(_) => {
            let kept = table.remove(key).and_then(own_comment);
            table.insert(key, Item::Value(value.clone()));
            kept
        }
        None => {
            table.insert(key, Item::Value(value.clone()));
            None
        }
    }
}

/// A value without anything around it.
fn plain(value: &Value) -> String {
    let mut value = value.clone();
    value.decor_mut().clear();
    match &value {
        Value::String(text) => format!("{:?}", text.value()),
        Value::Integer(number) => number.value().to_string(),
        other => other.to_string(),
    }
}

/// Takes a key out. A comment above it goes to the key behind it, or behind the one before it, or behind all of its
/// table.
fn take_key(entry: Parent<'_>, key: &str) -> Option<Kept> {
    let (table, position): (&mut dyn TableLike, isize) = match entry {
        Parent::Table(table) => {
            let position = table.position().unwrap_or(0);
            (table, position)
        }
        Parent::Inline(table) => (table, 0),
    };
    let values: Vec<String> =
        table.iter().filter(|(_, item)| item.is_value()).map(|(name, _)| name.to_owned()).collect();
    let at = values.iter().position(|name| name == key);
    let above = table.key(key).and_then(|key| comment(key.leaf_decor()));
    let removed = table.remove(key)?;
    let (Some(above), Some(at)) = (above, at) else { return own_comment(removed) };
    if let Some(mut next) = values.get(at + 1).and_then(|next| table.key_mut(next)) {
        prepend(next.leaf_decor_mut(), &above);
        return None;
    }
    let before = at.checked_sub(1).and_then(|at| values.get(at)).and_then(|before| table.get_mut(before));
    if let Some(before) = before.and_then(Item::as_value_mut) {
        // The printer ends the line of a value behind what follows it.
        let suffix = before.decor().suffix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned();
        before.decor_mut().set_suffix(format!("{suffix}\n{}", above.trim_end_matches('\n')));
        return None;
    }
    Some((position, above))
}

/// The comment above a table that was taken out.
fn own_comment(removed: Item) -> Option<Kept> {
    match removed {
        Item::Table(table) if !table.is_dotted() => Some((table.position().unwrap_or(0), comment(table.decor())?)),
        _ => None,
    }
}

/// A comment stays above what is printed behind this position; at the end where there is nothing.
fn keep_comment(document: &mut DocumentMut, position: isize, comment: &str) {
    let mut next: Option<isize> = None;
    each(document.as_table_mut(), &mut |table| {
        if let Some(own) = table.position().filter(|own| *own > position)
            && !(table.is_implicit() && table.get_values().is_empty())
        {
            next = Some(next.map_or(own, |known| known.min(own)));
        }
    });
    let Some(next) = next else {
        let rest = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing(format!("{comment}{rest}"));
        return;
    };
    each(document.as_table_mut(), &mut |table| {
        if table.position() == Some(next) {
            prepend(table.decor_mut(), comment);
        }
    });
}

/// What ended the document stands above a new entry now.
fn forget_trailing(document: &mut DocumentMut) {
    if document.trailing().as_str().is_some_and(|trailing| trailing.contains('#')) {
        document.set_trailing("");
    }
}

/// What stands above an entry, where there is a comment in it.
fn comment(decor: &Decor) -> Option<String> {
    decor.prefix()?.as_str().filter(|text| text.contains('#')).map(str::to_owned)
}

/// Puts a comment above one that is there, with an empty line between: it is not about the same.
fn prepend(decor: &mut Decor, comment: &str) {
    let own = decor.prefix().and_then(|raw| raw.as_str()).unwrap_or("\n").to_owned();
    let between = match own.starts_with('\n') || own.starts_with("\r\n") || comment.ends_with("\n\n") {
        true => "",
        false => "\n",
    };
    let newline = if comment.ends_with([' ', '\n', '\t']) { "" } else { "\n" };
    decor.set_prefix(format!("{comment}{newline}{between}{own}"));
}

/// The largest position of a table and of all below it.
fn last_position(table: &mut Table) -> isize {
    let mut last = table.position().unwrap_or(0);
    each(table, &mut |inner| last = last.max(inner.position().unwrap_or(0)));
    last
}

/// A new table at this position. A comment that ended the document until now stays above it.
fn table(fields: &Fields, position: Option<isize>, trailing: &str) -> Table {
    let mut table = Table::new();
    table.set_position(position);
    if trailing.contains('#') {
        let newline = if trailing.ends_with('\n') { "" } else { "\n" };
        table.decor_mut().set_prefix(format!("{trailing}{newline}\n"));
    }
    for (key, value) in fields.iter() {
        if let Some(value) = value {
            table.insert(key, Item::Value(value.clone()));
        }
    }
    table
}

fn inline_table(fields: &Fields) -> InlineTable {
    let mut table = InlineTable::new();
    for (key, value) in fields.iter() {
        if let Some(value) = value {
            table.insert(key, value.clone());
        }
    }
    table
}

/// An entry in which others stand, whichever way it is written.
enum Parent<'a> {
    Table(&'a mut Table),
    Inline(&'a mut InlineTable),
}

impl<'a> Parent<'a> {
    fn of(item: &'a mut Item) -> Option<Parent<'a>> {
        match item {
            Item::Table(table) => Some(Parent::Table(table)),
            Item::Value(Value::InlineTable(table)) => Some(Parent::Inline(table)),
            _ => None,
        }
    }

    fn like(self) -> &'a mut dyn TableLike {
        match self {
            Parent::Table(table) => table,
            Parent::Inline(table) => table,
        }
    }
}

fn walk<'a>(root: &'a mut Table, path: &Path<'_>) -> Result<Parent<'a>, Wrong> {
    let mut at = Parent::Table(root);
    for (list, index) in path {
        at = match at.like().get_mut(list) {
            Some(Item::ArrayOfTables(tables)) => tables.get_mut(*index).map(Parent::Table),
            Some(Item::Value(Value::Array(array))) => {
                array.get_mut(*index).and_then(Value::as_inline_table_mut).map(Parent::Inline)
            }
            _ => None,
        }
        .ok_or_else(|| odd(list))?;
    }
    Ok(at)
}
