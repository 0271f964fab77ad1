//! What a document says, entry by entry, as JSON: keys have underscores, and secrets stay where they are.

use super::{Kind, Wrong, find, table_like};
use crate::remote;
use serde_json::{Map, Value as Json};
use toml_edit::{DocumentMut, Item, TableLike, Value};

/// What stands for a secret that nobody is shown. It is too short to be one.
pub const KEPT: &str = "(kept)";

/// The entries of a document in its order.
#[derive(Debug, Default)]
pub struct View {
    /// The targets.
    pub targets: Vec<TargetView>,
    /// The accounts with their names; nothing of their secrets but where they are.
    pub accounts: Vec<(String, Map<String, Json>)>,
    /// The portals that it says.
    pub portals: Vec<Map<String, Json>>,
    /// Whether it says anything of portals.
    pub says_portals: bool,
    /// What it says of groups.
    pub groups: Vec<Map<String, Json>>,
    /// `[log]`.
    pub log: Map<String, Json>,
    /// `[discovery]`.
    pub discovery: Map<String, Json>,
}

/// A target of a document.
#[derive(Debug, Default)]
pub struct TargetView {
    /// Its own keys.
    pub values: Map<String, Json>,
    /// Its disks with their numbers.
    pub luns: Vec<(u16, Map<String, Json>)>,
    /// Its rules.
    pub rules: Vec<Map<String, Json>>,
}

impl TargetView {
    /// Its name, as it is written.
    pub fn name(&self) -> &str {
        self.values.get("name").and_then(Json::as_str).unwrap_or_default()
    }
}

/// Reads the entries of a document.
pub fn view(text: &str) -> Result<View, Wrong> {
    let document = parse(text)?;
    let root = document.as_table();
    let mut view = View { says_portals: root.contains_key("portal"), ..View::default() };
    for (at, table) in find::entries(root, "target").into_iter().enumerate() {
        let numbers = find::lun_numbers(&document, at)?;
        let luns = find::entries(table, "lun").into_iter().map(|lun| object(lun, &[]));
        view.targets.push(TargetView {
            values: object(table, &["lun", "rule"]),
            luns: numbers.into_iter().zip(luns).collect(),
            rules: find::entries(table, "rule").into_iter().map(|rule| object(rule, &[])).collect(),
        });
    }
    let accounts = root.get("account").and_then(table_like);
    for (name, account) in accounts.into_iter().flat_map(|accounts| accounts.iter()) {
        let Some(account) = account.as_table_like() else { continue };
        let mut values = object(account, &["secret"]);
        let from = ["secret", "secret-file", "secret-env", "secret-credential"];
        let from = from.into_iter().find(|key| account.contains_key(key));
        let from = match from {
            Some("secret") => "document",
            Some("secret-file") => "file",
            Some("secret-env") => "environment",
            Some(_) => "credential",
            None => "nowhere",
        };
        values.insert("secret_from".to_owned(), from.into());
        view.accounts.push((name.to_owned(), values));
    }
    let list = |name| find::entries(root, name).into_iter().map(|one| object(one, &[])).collect();
    (view.portals, view.groups) = (list("portal"), list("group"));
    let section = |name| root.get(name).and_then(table_like).map(|table| object(table, &[])).unwrap_or_default();
    (view.log, view.discovery) = (section("log"), section("discovery"));
    Ok(view)
}

/// The text with [`KEPT`] in the place of every secret.
pub fn without_secrets(text: &str) -> Result<String, Wrong> {
    let mut document = parse(text)?;
    each_secret(&mut document, &mut |_, secret| {
        *secret = kept_in_place_of(secret, KEPT);
        Ok(())
    })?;
    each_store(&mut document, &mut |store, said| {
        let shown = remote::without_secrets(said, KEPT);
        if shown != said {
            *store = kept_in_place_of(store, &shown);
        }
        Ok(())
    })?;
    Ok(document.to_string())
}

/// The text with the secrets of another one where it says [`KEPT`].
pub fn with_secrets_of(text: &str, known: &str) -> Result<String, Wrong> {
    if !text.contains(KEPT) {
        return Ok(text.to_owned());
    }
    let mut document = parse(text)?;
    let mut secrets: Vec<(String, String)> = Vec::new();
    each_secret(&mut parse(known)?, &mut |name, secret| {
        secrets.extend(secret.as_str().map(|secret| (name.to_owned(), secret.to_owned())));
        Ok(())
    })?;
    each_secret(&mut document, &mut |name, secret| {
        if secret.as_str() != Some(KEPT) {
            return Ok(());
        }
        let own = secrets.iter().find(|(known, _)| known == name).map(|(_, secret)| secret);
        let own = own.ok_or_else(|| {
            let what = format!("account {name} is to keep its secret and has none");
            Wrong::new(Kind::Edit, what, "write the secret, or name its place by secret-file")
        })?;
        *secret = kept_in_place_of(secret, own);
        Ok(())
    })?;
    let mut stores: Vec<(String, String)> = Vec::new();
    each_store(&mut parse(known)?, &mut |_, said| {
        stores.push((remote::without_secrets(said, KEPT), said.to_owned()));
        Ok(())
    })?;
    each_store(&mut document, &mut |store, said| {
        if !said.contains(KEPT) {
            return Ok(());
        }
        let own = stores.iter().find(|(shown, _)| shown == said).map(|(_, own)| own);
        let own = own.ok_or_else(|| {
            let what = format!("the store {said} is to keep its secret, and there is none like it");
            Wrong::new(Kind::Edit, what, "write the secret, or name its place by secret_file")
        })?;
        *store = kept_in_place_of(store, own);
        Ok(())
    })?;
    Ok(document.to_string())
}

/// A text in the place of another, with what stands around that.
fn kept_in_place_of(old: &Value, new: &str) -> Value {
    let mut value = Value::from(new);
    *value.decor_mut() = old.decor().clone();
    value
}

fn each_secret(
    document: &mut DocumentMut,
    act: &mut dyn FnMut(&str, &mut Value) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let accounts = document.get_mut("account").and_then(Item::as_table_like_mut);
    for (name, account) in accounts.into_iter().flat_map(|accounts| accounts.iter_mut()) {
        let secret = account.as_table_like_mut().and_then(|account| account.get_mut("secret"));
        if let Some(secret) = secret.and_then(Item::as_value_mut) {
            act(name.get(), secret)?;
        }
    }
    Ok(())
}

/// What is done with a store: the value, and the address that it is.
type WithStore<'a> = &'a mut dyn FnMut(&mut Value, &str) -> Result<(), Wrong>;

/// The stores of other machines, in whose addresses secrets may stand.
fn each_store(document: &mut DocumentMut, act: WithStore<'_>) -> Result<(), Wrong> {
    for target in tables(document.get_mut("target")) {
        for lun in tables(target.get_mut("lun")) {
            let Some(Item::Value(store)) = lun.get_mut("store") else { continue };
            let said = store.as_str().filter(|said| remote::is_remote(said)).map(str::to_owned);
            if let Some(said) = said {
                act(store, &said)?;
            }
        }
    }
    Ok(())
}

fn tables(item: Option<&mut Item>) -> Vec<&mut dyn TableLike> {
    match item {
        Some(Item::ArrayOfTables(list)) => list.iter_mut().map(|table| table as &mut dyn TableLike).collect(),
        Some(Item::Value(Value::Array(list))) => {
            let tables = list.iter_mut().filter_map(Value::as_inline_table_mut);
            tables.map(|table| table as &mut dyn TableLike).collect()
        }
        _ => Vec::new(),
    }
}

fn parse(text: &str) -> Result<DocumentMut, Wrong> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let what = format!("the document is no TOML: {}", error.message().replace('\n', ", "));
        Wrong::new(Kind::Document, what, "lunette check shows where")
    })
}

fn object(table: &dyn TableLike, without: &[&str]) -> Map<String, Json> {
    let entries = table.iter().filter(|(key, _)| !without.contains(key));
    entries.map(|(key, item)| (key.replace('-', "_"), json(item))).collect()
}

fn json(item: &Item) -> Json {
    match item {
        Item::Value(value) => value_json(value),
        Item::Table(table) => Json::Object(object(table, &[])),
        Item::ArrayOfTables(list) => list.iter().map(|one| Json::Object(object(one, &[]))).collect(),
        Item::None => Json::Null,
    }
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::String(text.value().clone()),
        Value::Integer(number) => (*number.value()).into(),
        Value::Float(number) => (*number.value()).into(),
        Value::Boolean(flag) => (*flag.value()).into(),
        Value::Datetime(time) => time.value().to_string().into(),
        Value::Array(list) => list.iter().map(value_json).collect(),
        Value::InlineTable(table) => Json::Object(object(table, &[])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chp_18_secrets_stay_where_they_are() {
        let text = "[account.a] # one\nsecret = \"alice-secret-12\" # known\n[account.b]\nsecret-file = \"/b\"\n";
        let shown = without_secrets(text).unwrap();
        assert_eq!(shown, text.replace("alice-secret-12", KEPT));
        assert_eq!(with_secrets_of(&shown, text).unwrap(), text);
        let view = view(text).unwrap();
        assert!(!format!("{view:?}").contains("alice-secret"), "{view:?}");
        assert_eq!(
            (&view.accounts[0].1["secret_from"], &view.accounts[1].1["secret_from"]),
            (&"document".into(), &"file".into())
        );
        let moved = shown.replace("account.a", "account.c");
        assert!(with_secrets_of(&moved, text).unwrap_err().to_string().contains("account c is to keep"));
    }

    #[test]
    fn chp_18_secrets_in_addresses_of_stores_stay_where_they_are() {
        let text = "[[target]]\nname = \"iqn.a\"\n[[target.lun]]\nstore = \"iscsi://a%sesame-open@h/t/1\" # far\n\
                    [[target]]\nname = \"iqn.b\"\nlun = [{ store = \"/srv/x%sesame-open@y\" }]\n";
        let shown = without_secrets(text).unwrap();
        assert_eq!(shown, text.replace("a%sesame-open@h", "a%(kept)@h"));
        assert_eq!(with_secrets_of(&shown, text).unwrap(), text);
        let moved = shown.replace("h/t/1", "h/t/2");
        assert!(with_secrets_of(&moved, text).unwrap_err().to_string().contains("is to keep its secret"));
    }

    #[test]
    fn disks_are_told_with_the_numbers_that_they_have() {
        let text = "[[target]]\nname = \"iqn.a\"\ntarget-reset = 1\n[[target.lun]]\nstore = \"x\"\nread-only = true\n\
                    [[target.lun]]\nstore = \"y\"\nnumber = 0\n[[target.rule]]\ninitiators = [\"any\"]\n";
        let view = view(text).unwrap();
        let target = &view.targets[0];
        assert_eq!((target.name(), target.luns[0].0, target.luns[1].0), ("iqn.a", 1, 0));
        assert_eq!(target.luns[0].1["read_only"], true);
        assert_eq!(target.rules[0]["initiators"], serde_json::json!(["any"]));
        assert!(!view.says_portals);
    }
}
