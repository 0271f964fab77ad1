//! Where the records are: the directories, and who may change them at a time.

use super::files::{self, Lock};
use super::{Class, Error, Record, lines};
use std::path::{Path, PathBuf};

/// The directory that open-iscsi has its settings in, and on Debian its records too.
const SETTINGS: &str = "/etc/iscsi";
/// The directory of the records elsewhere.
const RECORDS: &str = "/var/lib/iscsi";
/// The directory of open-iscsi's lock.
const LOCK: &str = "/run/lock/iscsi";

/// The records of this machine, or of a directory.
#[derive(Debug, Clone)]
pub struct Database {
    /// Records are here.
    pub(super) root: PathBuf,
    /// iscsid.conf and initiatorname.iscsi are here.
    pub(super) settings: PathBuf,
    lock: PathBuf,
}

impl Database {
    /// The records in this directory, which has the settings too; without one, the machine's: /var/lib/iscsi where
    /// records are there and none are in /etc/iscsi, as Red Hat has it, else /etc/iscsi.
    pub fn open(root: Option<&Path>) -> Database {
        match root {
            Some(root) => {
                // Links between records are whole paths.
                let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
                Database { settings: root.clone(), lock: root.join(".lock"), root }
            }
            None => {
                let has =
                    |root: &str| ["nodes", "ifaces", "send_targets"].iter().any(|d| Path::new(root).join(d).is_dir());
                let root = if has(RECORDS) && !has(SETTINGS) { RECORDS } else { SETTINGS };
                Database { root: root.into(), settings: SETTINGS.into(), lock: LOCK.into() }
            }
        }
    }

    /// The directory of the records.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn lock(&self) -> Result<Lock, Error> {
        Lock::take(&self.lock, &self.root)
    }

    /// A new record with what iscsid.conf says where it is not the fields' own default.
    ///
    /// # Errors
    /// iscsid.conf is there and cannot be read.
    pub fn defaults(&self, class: Class) -> Result<Record, Error> {
        let mut record = Record::new(class);
        let text = files::read(&self.settings.join("iscsid.conf"))?.unwrap_or_default();
        for (name, value) in lines(&text) {
            // A value of another form is nobody's default; the field's own stays.
            if let Some(value) = class.field(name).and_then(|field| field.accept(value).ok()) {
                record.set(name, &value);
            }
        }
        Ok(record)
    }

    /// What iscsid.conf says of something that is no field of a record, for instance `iscsid.safe_logout`.
    pub fn setting(&self, name: &str) -> Option<String> {
        let text = files::read(&self.settings.join("iscsid.conf")).ok()??;
        lines(&text).filter(|(known, _)| *known == name).last().map(|(_, value)| value.to_owned())
    }
}
