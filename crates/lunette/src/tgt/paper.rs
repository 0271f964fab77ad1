//! What tgtadm changes, as edits of a `lunette.toml` document. Nobody is asked and nothing runs here: a text goes in,
//! and a text comes out.

use super::access::{Access, Combining};
use super::{account, target, unit};
use crate::configuration::edit::{self, Edit, Fields, Place, TargetView, View, Wrong};
use compat::tgt::{Change, Error, Failure};
use serde_json::{Map, Value};

/// A document that is being changed.
#[derive(Debug, Clone)]
pub struct Paper {
    text: String,
    /// How addresses and names of an access list go together.
    combining: Combining,
    /// An account that is there takes another password, instead of being refused.
    pub replaces_passwords: bool,
}

/// The keys of an entry.
pub type Values = Map<String, Value>;

impl Paper {
    /// This document.
    pub fn new(text: &str, combining: Combining) -> Paper {
        Paper { text: text.to_owned(), combining, replaces_passwords: false }
    }

    /// The document as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    pub fn view(&self) -> Result<View, Failure> {
        edit::view(&self.text).map_err(wrong)
    }

    /// Makes a change, whole or not at all.
    pub fn apply(&mut self, change: &Change) -> Result<(), Failure> {
        let view = self.view()?;
        let edits = match change {
            Change::NewTarget { tid, name, driver } => target::new(&view, *tid, name, driver)?,
            Change::DeleteTarget { tid, .. } => vec![Edit::Remove(place(find(&view, *tid)?))],
            Change::Target { tid, name, value } => target::set(find(&view, *tid)?, name, value)?,
            Change::Bind { tid, who } => {
                let target = find(&view, *tid)?;
                let mut access = Access::of(target)?;
                access.add(who, self.combining)?;
                access.edits(target)
            }
            Change::Unbind { tid, who } => {
                let target = find(&view, *tid)?;
                let mut access = Access::of(target)?;
                access.remove(who)?;
                access.edits(target)
            }
            Change::NewUnit(new) => unit::new(find(&view, new.tid)?, new)?,
            Change::DeleteUnit { tid, lun } => {
                // tgt does not tell a target that is not there from a unit that is not.
                let target = find(&view, *tid).map_err(|_| Failure::from(Error::NoUnit))?;
                vec![Edit::Remove(unit::find(target, *lun)?.0)]
            }
            Change::Unit { tid, lun, parameters } => {
                let target = find(&view, *tid).map_err(|_| Failure::from(Error::NoUnit))?;
                unit::set(target, *lun, parameters)?
            }
            Change::NewAccount { user, password } => account::new(&view, user, password, self.replaces_passwords)?,
            Change::DeleteAccount { user } => account::delete(&view, user.as_deref())?,
            Change::BindAccount { tid, user, outgoing } => {
                let of = tid.map(|tid| find(&view, tid)).transpose()?;
                account::bind(&view, of, user, *outgoing)?
            }
            Change::UnbindAccount { tid, user, outgoing } => {
                let of = tid.map(|tid| find(&view, tid)).transpose()?;
                account::unbind(&view, of, user, *outgoing)?
            }
            Change::NewPortal { portal } => {
                vec![Edit::Add(Place::Portal(portal_of(portal)?), Fields::new())]
            }
            Change::DeletePortal { portal } => {
                let listen = portal_of(portal)?;
                if view.portals.len() <= 1 {
                    return Err(Failure::because(Error::InvalidRequest, "the last portal stays: nobody could come in"));
                }
                vec![Edit::Remove(Place::Portal(listen))]
            }
            Change::System { name, value } => target::system(&self.text, name, value)?,
            Change::CloseConnection { .. } | Change::End | Change::StartDriver | Change::StopDriver => {
                return Err(Failure::because(Error::InvalidRequest, "this is no change of the configuration"));
            }
        };
        self.text = edit::apply(&self.text, &edits).map_err(wrong)?;
        Ok(())
    }
}

/// That an edit was not possible, in tgt's words as far as it has some.
pub fn wrong(wrong: Wrong) -> Failure {
    Failure::because(Error::InvalidRequest, wrong)
}

/// The number of each target, in the order of the document: what it says, and the lowest free ones for those that say
/// none.
pub fn tids(view: &View) -> Vec<u32> {
    let said: Vec<Option<u32>> = view.targets.iter().map(|target| number(&target.values, "tid")).collect();
    let mut next = 1;
    let mut free = || {
        while said.contains(&Some(next)) {
            next += 1;
        }
        next += 1;
        next - 1
    };
    said.iter().map(|tid| tid.unwrap_or_else(&mut free)).collect()
}

/// The target of this number.
pub fn find(view: &View, tid: u32) -> Result<&TargetView, Failure> {
    let at = tids(view).iter().position(|known| *known == tid);
    at.and_then(|at| view.targets.get(at)).ok_or(Failure::from(Error::NoTarget))
}

/// Where the target stands.
pub fn place(target: &TargetView) -> Place {
    Place::Target(target.name().to_owned())
}

/// A text of an entry.
pub fn text<'v>(values: &'v Values, key: &str) -> Option<&'v str> {
    values.get(key).and_then(Value::as_str)
}

/// A number of an entry.
pub fn number(values: &Values, key: &str) -> Option<u32> {
    values.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
}

/// Whether an entry says so.
pub fn flag(values: &Values, key: &str) -> Option<bool> {
    values.get(key).and_then(Value::as_bool)
}

/// A text or a list of them.
pub fn texts(values: &Values, key: &str) -> Vec<String> {
    match values.get(key) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// `portal=ADDRESS[:PORT]`.
fn portal_of(text: &str) -> Result<String, Failure> {
    let address = text.strip_prefix("portal=").filter(|address| !address.is_empty() && !address.contains(','));
    let refused = |why: String| Failure::because(Error::InvalidRequest, why);
    let address = address.ok_or_else(|| refused("write portal=ADDRESS, or portal=ADDRESS:PORT".to_owned()))?;
    crate::configuration::portal(address).map_err(|why| refused(format!("{address} {why}")))?;
    Ok(address.to_owned())
}
