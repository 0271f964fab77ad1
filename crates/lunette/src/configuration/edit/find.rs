//! Finds entries of a document by what people call them.

use super::{Kind, Place, Wrong, table_like};
use crate::configuration::disk;
use crate::configuration::finding::{suggest, there_are};
use iscsi::name::Name;
use std::net::{IpAddr, SocketAddr};
use toml_edit::{DocumentMut, Item, TableLike};

/// The portal that is meant where a document says nothing of any.
pub const DEFAULT_PORTAL: &str = "127.0.0.1:3260";

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A disk of the target at this index.
    Lun {
        /// Which target.
        target: usize,
        /// Which disk.
        index: usize,
    },
    /// A rule of the target at this index.
    Rule {
        /// Which target.
        target: usize,
        /// Which rule.
        index: usize,
    },
    /// An entry of a list at the top.
    Listed {
        /// The list.
        list: &'static str,
        /// Which of it.
        index: usize,
    },
    /// An account by the name that the document has.
    Account(String),
    /// A table at the top.
    Section(&'static str),
}

/// Where this entry stands.
pub fn find(document: &DocumentMut, place: &Place) -> Result<Found, Wrong> {
    let missing = |what: String, help: String| Wrong::new(Kind::Missing, what, help);
    match place {
        Place::Target(name) => Ok(Found::Listed { list: "target", index: target(document, name)? }),
        Place::Lun(name, number) => {
            let target = target(document, name)?;
            let numbers = lun_numbers(document, target)?;
            let number = number.ok_or_else(|| Wrong::new(Kind::Edit, "no LUN is named", "say which"))?;
            let index = numbers.iter().position(|known| *known == number);
            let index = index.ok_or_else(|| {
                let mut known = numbers.clone();
                known.sort_unstable();
                missing(format!("{name} has no LUN {number}"), there_are(known))
            })?;
            Ok(Found::Lun { target, index })
        }
        Place::Rule(name, position) => {
            let target = target(document, name)?;
            let count = entries(target_table(document, target)?, "rule").len();
            let position = position.ok_or_else(|| Wrong::new(Kind::Edit, "no rule is named", "say which"))?;
            match position.checked_sub(1).filter(|index| *index < count) {
                Some(index) => Ok(Found::Rule { target, index }),
                None => {
                    let help = match count {
                        0 => "it has none".to_owned(),
                        1 => "it has one".to_owned(),
                        _ => format!("it has 1 to {count}"),
                    };
                    Err(missing(format!("{name} has no rule {position}"), help))
                }
            }
        }
        Place::Account(name) => {
            let known = document.get("account").and_then(table_like);
            let names: Vec<&str> = known.iter().flat_map(|table| table.iter()).map(|(name, _)| name).collect();
            match names.contains(&name.as_str()) {
                true => Ok(Found::Account(name.clone())),
                false => Err(missing(format!("there is no account {name}"), suggest(name, names))),
            }
        }
        Place::Portal(listen) => {
            let known: Vec<&str> =
                entries(document.as_table(), "portal").into_iter().map(|one| text(one, "listen")).collect();
            let index = known.iter().position(|one| same_portal(one, listen));
            let index = index.ok_or_else(|| {
                let known = if document.contains_key("portal") { known } else { vec![DEFAULT_PORTAL] };
                missing(format!("no portal listens at {listen}"), suggest(listen, known))
            })?;
            Ok(Found::Listed { list: "portal", index })
        }
        Place::Group(number) => {
            let known: Vec<i64> = entries(document.as_table(), "group")
                .into_iter()
                .map(|one| one.get("number").and_then(Item::as_integer).unwrap_or_default())
                .collect();
            let index = known.iter().position(|one| *one == i64::from(*number));
            let index = index.ok_or_else(|| missing(format!("there is no [[group]] {number}"), there_are(known)))?;
            Ok(Found::Listed { list: "group", index })
        }
        Place::Section(name) => match document.get(name) {
            Some(item) if item.is_table_like() => Ok(Found::Section(name)),
            Some(_) => Err(odd(name)),
            None => Err(missing(format!("there is no [{name}]"), String::new())),
        },
    }
}

/// The index of the target of this name.
pub fn target(document: &DocumentMut, name: &str) -> Result<usize, Wrong> {
    let names: Vec<&str> = entries(document.as_table(), "target").into_iter().map(|one| text(one, "name")).collect();
    names.iter().position(|one| same_name(one, name)).ok_or_else(|| no_target(name, names))
}

/// That there is no such target, with the nearest.
pub fn no_target<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Wrong {
    Wrong::new(Kind::Missing, format!("there is no target {name}"), suggest(name, known))
}

/// The table of the target at this index.
pub fn target_table(document: &DocumentMut, at: usize) -> Result<&dyn TableLike, Wrong> {
    entries(document.as_table(), "target").get(at).copied().ok_or_else(|| odd("target"))
}

/// The numbers of a target's disks, in the order of the document.
pub fn lun_numbers(document: &DocumentMut, target: usize) -> Result<Vec<u16>, Wrong> {
    let wishes: Vec<Option<u16>> = entries(target_table(document, target)?, "lun")
        .into_iter()
        .map(|one| one.get("number").and_then(Item::as_integer).and_then(|number| u16::try_from(number).ok()))
        .collect();
    let wrong =
        |_| Wrong::new(Kind::Document, "two disks of the target have one number", "mend it first: lunette check");
    disk::numbers(&wishes).map_err(wrong)
}

/// The lowest number from 1 on that is free.
pub fn free(numbers: &[u16]) -> u16 {
    (1..=u16::MAX).find(|number| !numbers.contains(number)).unwrap_or(u16::MAX)
}

/// The entries of a list, whichever way it is written.
pub fn entries<'a>(parent: &'a dyn TableLike, key: &str) -> Vec<&'a dyn TableLike> {
    match parent.get(key) {
        Some(Item::ArrayOfTables(list)) => list.iter().map(|one| one as &dyn TableLike).collect(),
        Some(Item::Value(toml_edit::Value::Array(list))) => {
            list.iter().filter_map(|one| one.as_inline_table()).map(|one| one as &dyn TableLike).collect()
        }
        _ => Vec::new(),
    }
}

/// That an entry is written in a way that cannot be edited.
pub fn odd(key: &str) -> Wrong {
    let help = "write it as docs/configuration.md does";
    Wrong::new(Kind::Document, format!("`{key}` is not written in a way that can be edited"), help)
}

/// Whether two texts are one iSCSI name (RFC 3722).
pub fn same_name(one: &str, other: &str) -> bool {
    one == other || matches!((Name::parse(one), Name::parse(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether two texts are one portal.
pub fn same_portal(one: &str, other: &str) -> bool {
    canonical(one) == canonical(other)
}

/// Whether listening at the first takes the second as well.
pub fn covers(listen: &str, other: &str) -> bool {
    let address = |text: &str| canonical(text).parse::<SocketAddr>().ok();
    match (address(listen), address(other)) {
        (Some(all), Some(one)) => all.ip().is_unspecified() && all.port() == one.port() || all == one,
        _ => false,
    }
}

/// A portal with its port. Names stay names: nobody is asked for their addresses.
fn canonical(listen: &str) -> String {
    let inner = listen.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(listen);
    match (listen.parse::<SocketAddr>(), inner.parse::<IpAddr>()) {
        (Ok(address), _) => address.to_string(),
        (_, Ok(address)) => SocketAddr::new(address, target::ISCSI_PORT).to_string(),
        _ if listen.contains(':') => listen.to_ascii_lowercase(),
        _ => format!("{}:{}", listen.to_ascii_lowercase(), target::ISCSI_PORT),
    }
}

fn text<'a>(table: &'a dyn TableLike, key: &str) -> &'a str {
    table.get(key).and_then(Item::as_str).unwrap_or_default()
}
