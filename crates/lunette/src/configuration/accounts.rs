//! CHAP accounts of a configuration file: `[account.NAME]`.

use super::finding::{Findings, suggest};
use super::reader::{Said, Table};
use super::secrets;
use iscsi::auth::{Account, Secret};
use std::cell::Cell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use target::Chap;

/// Where a secret comes from.
const SOURCES: [&str; 4] = ["secret", "secret-file", "secret-env", "secret-credential"];

/// The accounts of the file, by their names in it.
pub struct Accounts<'a> {
    findings: &'a Findings<'a>,
    list: Vec<Entry>,
}

struct Entry {
    name: String,
    at: Range<usize>,
    /// `None` where something is wrong with it, which was told.
    account: Option<Account>,
    /// Where it is one that initiators log in with, and where one that a target shows.
    inward: Cell<bool>,
    outward: Cell<bool>,
}

impl<'a> Accounts<'a> {
    /// Those of the file at this path.
    pub fn read(root: &Table<'a>, findings: &'a Findings<'a>, path: Option<&Path>) -> Accounts<'a> {
        let mut list = Vec::new();
        for (name, table) in root.table("account").iter().flat_map(Table::named) {
            let account = account(&name, &table, findings, path);
            table.finish();
            list.push(Entry {
                name: name.value,
                at: name.at,
                account,
                inward: Cell::default(),
                outward: Cell::default(),
            });
        }
        Accounts { findings, list }
    }

    /// All of which nothing is wrong, by their names in the file.
    pub fn all(&self) -> Vec<(String, Account)> {
        let entries = self.list.iter().filter_map(|entry| Some((entry.name.clone(), entry.account.clone()?)));
        entries.collect()
    }

    fn find(&self, name: &Said<String>) -> Option<&Entry> {
        let entry = self.list.iter().find(|entry| entry.name == name.value);
        if entry.is_none() {
            let help = suggest(&name.value, self.list.iter().map(|entry| entry.name.as_str()));
            self.findings.error(name.at.clone(), format!("there is no account `{}`", name.value), help);
        }
        entry
    }

    /// The accounts of these names, with which initiators log in.
    pub fn inward(&self, names: &[Said<String>]) -> Vec<Account> {
        let entries = names.iter().filter_map(|name| self.find(name));
        entries.inspect(|entry| entry.inward.set(true)).filter_map(|entry| entry.account.clone()).collect()
    }

    /// The account of this name, which a target shows.
    pub fn outward(&self, name: &Said<String>) -> Option<Account> {
        let entry = self.find(name)?;
        entry.outward.set(true);
        entry.account.clone()
    }

    /// What a table asks for by `accounts` and `mutual`; where it says nothing of one, what holds around it.
    /// An empty list asks for nothing.
    pub fn chap(&self, table: &Table<'a>, around: Option<&Wanted>) -> Wanted {
        let said = table.texts("accounts");
        let accounts = match &said {
            Some(names) => Some(self.inward(names)),
            None => around.and_then(|around| around.accounts.clone()),
        };
        let mutual = table.text("mutual");
        let asks = said.map_or_else(|| accounts.as_ref().is_some_and(|all| !all.is_empty()), |said| !said.is_empty());
        if let Some(mutual) = &mutual
            && !asks
        {
            let help = "name the accounts that log in: accounts = [\"…\"]";
            self.findings.error(mutual.at.clone(), "a target shows itself only to initiators that log in", help);
        }
        let own = match mutual {
            Some(name) => self.outward(&name),
            None => around.and_then(|around| around.own.clone()),
        };
        Wanted { accounts, own }
    }

    /// What only shows when all is read: secrets that are not secrets between two, accounts of nobody.
    pub fn check(&self) {
        for (at, entry) in self.list.iter().enumerate() {
            let (inward, outward) = (entry.inward.get(), entry.outward.get());
            let name = &entry.name;
            if inward && outward {
                let what = format!("account `{name}` is used for both directions");
                let help = "whoever knows it could play the other side; make one of its own for `mutual`";
                self.findings.error(entry.at.clone(), what, help);
            } else if !inward && !outward {
                let help = "name it in `accounts` or `mutual`, or take it out";
                self.findings.warn(entry.at.clone(), format!("nobody uses account `{name}`"), help);
            }
            let Some(account) = &entry.account else { continue };
            let same = |other: &&Entry| other.account.as_ref().is_some_and(|other| other.secret == account.secret);
            let Some(twin) = self.list.iter().take(at).find(same) else { continue };
            let what = format!("accounts `{}` and `{name}` have one secret", twin.name);
            let opposite = (inward && twin.outward.get()) || (outward && twin.inward.get());
            match opposite {
                true => self.findings.error(
                    entry.at.clone(),
                    what,
                    "whoever knows it could play the other side; use two: openssl rand -hex 16",
                ),
                // RFC 7143 §9.2.1 (CHP-14).
                false => self.findings.warn(
                    entry.at.clone(),
                    what,
                    "whoever knows it is both; give each its own: openssl rand -hex 16",
                ),
            }
        }
    }
}

/// What a table asks of initiators.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// One of these accounts; `None` where it is not said.
    pub accounts: Option<Vec<Account>>,
    /// What the target shows.
    pub own: Option<Account>,
}

impl Wanted {
    /// As a rule has it.
    pub fn chap(&self) -> Option<Chap> {
        let accounts = self.accounts.clone().filter(|accounts| !accounts.is_empty())?;
        Some(Chap { accounts, own: self.own.clone() })
    }
}

fn account(name: &Said<String>, table: &Table<'_>, findings: &Findings<'_>, path: Option<&Path>) -> Option<Account> {
    let user = table.text("user").unwrap_or_else(|| name.clone());
    if user.value.is_empty() {
        findings.error(user.at.clone(), "the user's name is empty", "say what the initiator sends as its name");
    }
    let said: Vec<_> = SOURCES.into_iter().filter(|key| table.has(key)).collect();
    let key = match said[..] {
        [key] => key,
        [] => {
            let what = format!("account `{}` has no secret", name.value);
            findings.error(name.at.clone(), what, format!("add one of {}", SOURCES.join(", ")));
            return None;
        }
        [_, second, ..] => {
            let help = format!("keep one of {}", said.join(", "));
            findings.error(table.place(second), format!("account `{}` has two secrets", name.value), help);
            return None;
        }
    };
    let said = table.text(key)?;
    let wrong = |what: String, help: &str| {
        // The place of the account: the secret itself is not shown.
        let at = if key == "secret" { name.at.clone() } else { said.at.clone() };
        findings.error(at, what, help);
    };
    let from_file = |path: PathBuf| match secrets::read(&path) {
        Ok(secret) => Some(secret),
        Err(line) => {
            let (what, help) = line.split_once("; ").unwrap_or((&line, ""));
            wrong(what.to_owned(), help);
            None
        }
    };
    let secret = match key {
        "secret" => {
            if let Some(path) = path.filter(|path| secrets::is_open(path)) {
                let file = path.display();
                let help = format!("chmod 600 {file}, or use secret-file");
                wrong(format!("everybody can read {file}, and the secret of `{}` in it", name.value), &help);
            }
            said.value.into()
        }
        "secret-file" => from_file(PathBuf::from(&said.value))?,
        "secret-credential" => {
            let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
                let help = "run by systemd with LoadCredential=, or use secret-file";
                wrong("there are no credentials: CREDENTIALS_DIRECTORY is not set".to_owned(), help);
                return None;
            };
            from_file(PathBuf::from(folder).join(&said.value))?
        }
        _ => match std::env::var(&said.value) {
            Ok(secret) => secret.into(),
            Err(_) => {
                wrong(format!("the environment has no text {}", said.value), "set it, or use secret-file");
                return None;
            }
        },
    };
    match Secret::new(secret.as_bytes()) {
        Ok(secret) => Some(Account { user: user.value, secret }),
        Err(error) => {
            wrong(format!("account `{}`: {error}", name.value), "make one with: openssl rand -hex 16");
            None
        }
    }
}
