//! tgt's accounts as those of a document: one list for all targets, bound to targets and to discovery.

use super::paper::{Values, place, text, texts};
use crate::configuration::edit::{Edit, Fields, Place, TargetView, View};
use compat::tgt::{Error, Failure};
use serde_json::Map;
use toml_edit::{Array, Value};

/// An account more. One that is there takes the new password where that is wished for.
pub fn new(view: &View, user: &str, password: &str, replaces: bool) -> Result<Vec<Edit>, Failure> {
    let is_there = exists(view, user);
    if is_there && !replaces {
        return Err(Error::AccountExists.into());
    }
    if let Err(error) = iscsi::auth::Secret::new(password.as_bytes()) {
        return Err(Failure::because(Error::InvalidRequest, format!("the password of {user}: {error}")));
    }
    let place = Place::Account(user.to_owned());
    let fields = Fields::new().with("secret", password);
    Ok(vec![if is_there { Edit::Set(place, fields) } else { Edit::Add(place, fields) }])
}

/// An account less, also where it is bound.
pub fn delete(view: &View, user: Option<&str>) -> Result<Vec<Edit>, Failure> {
    let user = user.filter(|user| exists(view, user)).ok_or(Error::NoAccount)?;
    let mut edits = Vec::new();
    for target in &view.targets {
        edits.extend(without(&target.values, place(target), user));
    }
    edits.extend(without(&view.discovery, Place::Section("discovery"), user));
    edits.push(Edit::Remove(Place::Account(user.to_owned())));
    Ok(edits)
}

/// It is asked for, or shown.
pub fn bind(view: &View, of: Option<&TargetView>, user: &str, outgoing: bool) -> Result<Vec<Edit>, Failure> {
    if !exists(view, user) {
        return Err(Error::NoAccount.into());
    }
    let (values, place) = whose(view, of);
    let mut accounts = texts(values, "accounts");
    let fields = match outgoing {
        true if text(values, "mutual").is_some() => return Err(Error::OutgoingExists.into()),
        true if accounts.is_empty() => {
            let why = "who shows himself asks first: bind an account without --outgoing before";
            return Err(Failure::because(Error::InvalidRequest, why));
        }
        true => Fields::new().with("mutual", user),
        false if accounts.iter().any(|known| known == user) => return Err(Error::AccountExists.into()),
        false => {
            accounts.push(user.to_owned());
            Fields::new().with("accounts", list(&accounts))
        }
    };
    Ok(vec![Edit::Put(place, fields)])
}

/// It is not asked for any more, or not shown.
pub fn unbind(view: &View, of: Option<&TargetView>, user: &str, outgoing: bool) -> Result<Vec<Edit>, Failure> {
    let (values, place) = whose(view, of);
    let bound = match outgoing {
        true => text(values, "mutual") == Some(user),
        false => texts(values, "accounts").iter().any(|known| known == user),
    };
    match bound {
        true if outgoing => Ok(vec![Edit::Set(place, Fields::new().without("mutual"))]),
        true => {
            let mut accounts = texts(values, "accounts");
            accounts.retain(|known| known != user);
            Ok(vec![with(values, place, &accounts)])
        }
        false => Err(Error::NoAccount.into()),
    }
}

fn exists(view: &View, user: &str) -> bool {
    view.accounts.iter().any(|(name, _)| name == user)
}

fn whose<'v>(view: &'v View, of: Option<&'v TargetView>) -> (&'v Values, Place) {
    match of {
        Some(target) => (&target.values, place(target)),
        None => (&view.discovery, Place::Section("discovery")),
    }
}

/// The edit that takes the account out of an entry, where it stands in it.
fn without(values: &Map<String, serde_json::Value>, place: Place, user: &str) -> Option<Edit> {
    let mut accounts = texts(values, "accounts");
    let before = accounts.len();
    accounts.retain(|known| known != user);
    match (accounts.len() < before, text(values, "mutual") == Some(user)) {
        (true, _) => Some(with(values, place, &accounts)),
        (false, true) => Some(Edit::Set(place, Fields::new().without("mutual"))),
        (false, false) => None,
    }
}

/// The entry with these accounts. Where none is left, nobody is shown either: who shows himself asks first.
fn with(values: &Values, place: Place, accounts: &[String]) -> Edit {
    let only = values.keys().all(|key| matches!(key.as_str(), "accounts" | "mutual"));
    match (accounts.is_empty(), &place) {
        (true, Place::Section(_)) if only => Edit::Remove(place),
        (true, _) => Edit::Set(place, Fields::new().without("accounts").without("mutual")),
        (false, _) => Edit::Set(place, Fields::new().with("accounts", list(accounts))),
    }
}

fn list(names: &[String]) -> Value {
    Value::Array(names.iter().map(String::as_str).collect::<Array>())
}
