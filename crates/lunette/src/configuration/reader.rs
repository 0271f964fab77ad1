//! Reads tables key by key, and reports each key that nobody has asked for. A file with errors is read to its
//! end, so that all of them are told at once; what could not be read is `None`.

use super::finding::{Findings, suggest};
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table of the file.
pub struct Table<'a> {
    findings: &'a Findings<'a>,
    entries: &'a DeTable<'a>,
    /// Where it begins.
    pub at: Range<usize>,
    /// What people call it: `[[target]]`.
    name: String,
    asked: RefCell<Vec<&'static str>>,
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub struct Said<T> {
    /// What was said.
    pub value: T,
    /// Where.
    pub at: Range<usize>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub fn root(findings: &'a Findings<'a>, entries: &'a DeTable<'a>) -> Table<'a> {
        Table { findings, entries, at: 0..0, name: "the file".to_owned(), asked: RefCell::default() }
    }

    fn inner(&self, entries: &'a DeTable<'a>, at: Range<usize>, name: String) -> Table<'a> {
        Table { findings: self.findings, entries, at, name, asked: RefCell::default() }
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key);
        self.entries.get(key)
    }

    /// Whether the key is there.
    pub fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Where the value of a key stands; the table where it is not there.
    pub fn place(&self, key: &'static str) -> Range<usize> {
        self.entries.get(key).map_or_else(|| self.at.clone(), Spanned::span)
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Option<Said<String>> {
        self.said_text(key, self.get(key)?)
    }

    /// A text that has to be there.
    pub fn needed(&self, key: &'static str, example: &str) -> Option<Said<String>> {
        let value = self.get(key);
        if value.is_none() {
            let what = format!("{} has no `{key}`", self.name);
            self.findings.error(self.at.clone(), what, format!("add {key} = {example}"));
        }
        self.said_text(key, value?)
    }

    /// A text that this makes something of. The error says what is wrong with it, and after a `;` what would
    /// be right.
    pub fn understood<T, E: Display>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Said<T>> {
        let text = self.text(key)?;
        self.take(&text, parse)
    }

    /// What this makes of a text.
    pub fn take<T, E: Display>(&self, text: &Said<String>, parse: impl Fn(&str) -> Result<T, E>) -> Option<Said<T>> {
        match parse(&text.value) {
            Ok(value) => Some(Said { value, at: text.at.clone() }),
            Err(error) => {
                self.refuse(text, error);
                None
            }
        }
    }

    /// Reports what is wrong with a text.
    pub fn refuse(&self, text: &Said<String>, error: impl Display) {
        let error = error.to_string();
        let (what, help) = error.split_once("; ").unwrap_or((&error, ""));
        self.findings.error(text.at.clone(), format!("`{}`: {what}", text.value), help);
    }

    /// A whole number of this range.
    pub fn number(&self, key: &'static str, range: RangeInclusive<u16>) -> Option<Said<u16>> {
        self.said_number(key, self.get(key)?, range)
    }

    /// A number, or a text that says one with its unit (`128`, `"64K"`, `"500ms"`), of which this makes something.
    pub fn amount<T, E: Display>(&self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Option<Said<T>> {
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::String(text) => text.to_string(),
            _ => {
                self.wrong(key, value, "a number or a text, 128 or \"64K\"");
                return None;
            }
        };
        self.take(&Said { value: text, at: value.span() }, parse)
    }

    /// A whole number of this range, where that is a wide one.
    pub fn wide_number(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<Said<u32>> {
        let value = self.get(key)?;
        let number =
            value.get_ref().as_integer().and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
        match number.filter(|number| range.contains(number)) {
            Some(value_of) => Some(Said { value: value_of, at: value.span() }),
            None => {
                self.wrong(key, value, &format!("a whole number from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// True or false; false where it is not there.
    pub fn flag(&self, key: &'static str) -> bool {
        let Some(value) = self.get(key) else { return false };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong(key, value, "true or false");
            false
        })
    }

    /// A text, or a list of them.
    pub fn texts(&self, key: &'static str) -> Option<Vec<Said<String>>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Array(list) => Some(list.iter().filter_map(|one| self.said_text(key, one)).collect()),
            _ => Some(self.said_text(key, value)?).map(|one| vec![one]),
        }
    }

    /// A list of whole numbers of this range.
    pub fn numbers(&self, key: &'static str, range: RangeInclusive<u16>) -> Option<Vec<Said<u16>>> {
        let value = self.get(key)?;
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list of numbers, [1, 2]");
            return None;
        };
        Some(list.iter().filter_map(|one| self.said_number(key, one, range.clone())).collect())
    }

    /// A list of numbers and tables: each is given to whom it concerns.
    pub fn mixed<T>(
        &self,
        key: &'static str,
        range: RangeInclusive<u16>,
        number: impl Fn(Said<u16>) -> Option<T>,
        table: impl Fn(Table<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.get(key)?;
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list, [1, 2]");
            return None;
        };
        let one = |one: &'a Spanned<DeValue<'a>>| match one.get_ref() {
            DeValue::Table(entries) => table(self.inner(entries, one.span(), format!("an entry of `{key}`"))),
            _ => number(self.said_number(key, one, range.clone())?),
        };
        Some(list.iter().filter_map(one).collect())
    }

    /// A text, or a table: either is given to whom it concerns.
    pub fn either<T>(
        &self,
        key: &'static str,
        text: impl Fn(Said<String>) -> Option<T>,
        table: impl Fn(Table<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => table(self.inner(entries, value.span(), format!("`{key}`"))),
            _ => text(self.said_text(key, value)?),
        }
    }

    /// A table.
    pub fn table(&self, key: &'static str) -> Option<Table<'a>> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(entries) => Some(self.inner(entries, value.span(), format!("[{key}]"))),
            None => {
                self.wrong(key, value, &format!("a table, [{key}]"));
                None
            }
        }
    }

    /// Tables of one kind, `[[key]]`.
    pub fn tables(&self, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let name = if self.at == (0..0) { format!("[[{key}]]") } else { format!("{}'s `{key}`", self.name) };
        let mut tables = Vec::new();
        match value.get_ref().as_array() {
            Some(list) => {
                for one in list.iter() {
                    match one.get_ref().as_table() {
                        Some(entries) => tables.push(self.inner(entries, one.span(), name.clone())),
                        None => self.wrong(key, one, &format!("a table, [[{key}]]")),
                    }
                }
            }
            None => self.wrong(key, value, &format!("a list of tables; write [[{key}]] with two brackets")),
        }
        tables
    }

    /// All entries, for a table whose keys are names.
    pub fn named(&self) -> Vec<(Said<String>, Table<'a>)> {
        let mut all = Vec::new();
        for (key, value) in self.entries.iter() {
            let name = key.get_ref().to_string();
            match value.get_ref().as_table() {
                Some(entries) => {
                    let table = self.inner(entries, key.span(), format!("account {name}"));
                    all.push((Said { value: name, at: key.span() }, table));
                }
                None => self.wrong(&name, value, "a table"),
            }
        }
        all.sort_by_key(|(name, _)| name.at.start);
        all
    }

    /// All entries as texts, for a table whose values say themselves what they are.
    pub fn settings(&self) -> Vec<(Said<String>, Said<String>)> {
        let mut all = Vec::new();
        for (key, value) in self.entries.iter() {
            let name = Said { value: key.get_ref().to_string(), at: key.span() };
            let text = match value.get_ref() {
                DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            };
            match text {
                Some(value_text) => all.push((name, Said { value: value_text, at: value.span() })),
                None => self.wrong(&name.value, value, "a number or a text, 128 or \"64K\""),
            }
        }
        all.sort_by_key(|(name, _)| name.at.start);
        all
    }

    /// Reports the keys that nobody has asked for.
    pub fn finish(self) {
        let mut known = self.asked.into_inner();
        known.sort_unstable();
        known.dedup();
        #[cfg(test)]
        self.findings.note_asked(&self.name, &known);
        for (key, _) in self.entries.iter() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let what = format!("{} has no key `{name}`", self.name);
                self.findings.error(key.span(), what, suggest(name, known.iter().copied()));
            }
        }
    }

    fn said_text(&self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Said<String>> {
        match value.get_ref().as_str() {
            Some(text) => Some(Said { value: text.to_owned(), at: value.span() }),
            None => {
                self.wrong(key, value, "a text in quotes");
                None
            }
        }
    }

    fn said_number(&self, key: &str, value: &'a Spanned<DeValue<'a>>, range: RangeInclusive<u16>) -> Option<Said<u16>> {
        let integer = value.get_ref().as_integer();
        let number = integer.and_then(|number| u16::from_str_radix(number.as_str(), number.radix()).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(Said { value: number, at: value.span() }),
            None => {
                self.wrong(key, value, &format!("a number from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "this number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.findings.error(value.span(), format!("`{key}` does not take {found}"), format!("write {wanted}"));
    }
}
