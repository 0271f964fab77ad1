//! From root to a user who may do nothing: the user is found, what he has to write is made his, and then there is
//! no way back. All of it happens before the process has a second thread, so that it holds for every one.

use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::Path;

/// Capabilities that the opener keeps: to open what root may open, and to leave a file's owner as it was.
const OF_OPENER: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER);
/// Numbers of capabilities that there may be.
const CAPABILITIES: u32 = 64;

/// Who the daemon becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// His name, or number, as it was said.
    pub name: String,
    uid: u32,
    gid: u32,
    /// All his groups.
    groups: Vec<u32>,
}

impl Account {
    /// A user of this machine, by name or number, with all groups that he is in; or with this group alone
    /// beside them.
    pub fn find(user: &str, group: Option<&str>) -> Result<Account, String> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Account::find_in(&read("/etc/passwd"), &read("/etc/group"), user, group)
    }

    fn find_in(passwd: &str, groups: &str, user: &str, group: Option<&str>) -> Result<Account, String> {
        let entry =
            passwd.lines().map(fields).find(|fields| fields.first() == Some(&user) || fields.get(2) == Some(&user));
        let numbers = |fields: &[&str]| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?));
        let (uid, own_group) = match (&entry, user.parse()) {
            (Some(fields), _) => numbers(fields).ok_or_else(|| format!("{user} has no numbers in /etc/passwd"))?,
            // A number needs no entry: so it is in containers.
            (None, Ok(number)) => (number, number),
            (None, Err(_)) => {
                return Err(format!("there is no user {user}; make him: useradd --system --user-group {user}"));
            }
        };
        let name = entry.as_ref().and_then(|fields| fields.first()).copied().unwrap_or(user);
        let list: Vec<Vec<&str>> = groups.lines().map(fields).collect();
        let gid = match group {
            None => own_group,
            Some(group) => {
                let found = list.iter().find(|fields| fields.first() == Some(&group));
                let found = found.and_then(|fields| fields.get(2)?.parse().ok()).or_else(|| group.parse().ok());
                found.ok_or_else(|| format!("there is no group {group}; make it: groupadd --system {group}"))?
            }
        };
        let is_member =
            |fields: &&Vec<&str>| fields.get(3).is_some_and(|members| members.split(',').any(|one| one == name));
        let mut all: Vec<u32> =
            list.iter().filter(is_member).filter_map(|fields| fields.get(2)?.parse().ok()).collect();
        all.push(gid);
        all.sort_unstable();
        all.dedup();
        Ok(Account { name: name.to_owned(), uid, gid, groups: all })
    }

    /// Whether this process is that user already.
    pub fn is_own(&self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }

    /// Makes a directory that this user has to write, or where it is there and empty, makes it his.
    pub fn prepare(&self, directory: &Path) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        match std::fs::metadata(directory) {
            Ok(found) => {
                let fresh = found.uid() == 0 && std::fs::read_dir(directory).is_ok_and(|mut all| all.next().is_none());
                if !fresh || found.uid() == self.uid {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        chown(directory, Some(self.uid), Some(self.gid)).map_err(failed)
    }

    /// Makes a socket his.
    pub fn own(&self, socket: &Path) {
        if let Err(error) = chown(socket, Some(self.uid), Some(self.gid)) {
            tracing::debug!("{}: {error}", socket.display());
        }
    }

    /// Becomes that user, in this thread and in all that it starts.
    pub fn become_it(&self) -> Result<(), String> {
        let step = |what: &str, done: rustix::io::Result<()>| done.map_err(|error| format!("{what}: {error}"));
        forget_capabilities_but(CapabilitySet::empty());
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        step("its groups cannot be taken", rustix::thread::set_thread_groups(&groups))?;
        step("its group cannot be taken", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
        step("it cannot be become", rustix::thread::set_thread_res_uid(uid, uid, uid))?;
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        step("its capabilities cannot be dropped", rustix::thread::set_capabilities(None, sets))?;
        if uid.as_raw() != 0 && rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() {
            return Err("root could be become again".to_owned());
        }
        Ok(())
    }

    /// Whether all of a directory can be written by who we have become. The error says how to mend it.
    pub fn check(&self, what: &str, directory: &Path) -> Result<(), String> {
        let writable = |path: &Path| {
            let wanted = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
            rustix::fs::access(path, wanted)
        };
        let inside = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        // A socket that a daemon left behind is taken away, for which the directory's permissions count.
        let inside = inside.filter(|path| std::fs::metadata(path).is_ok_and(|found| found.is_file()));
        for path in std::iter::once(directory.to_owned()).chain(inside) {
            if let Err(error) = writable(&path) {
                return Err(format!(
                    "{what} {}: the user {} cannot use it: {}: {error}; mend it with: chown -R {}: {}",
                    directory.display(),
                    self.name,
                    path.display(),
                    self.name,
                    directory.display()
                ));
            }
        }
        Ok(())
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

/// Nothing that this process or a program that it starts could ever get back.
fn forget_capabilities_but(kept: CapabilitySet) {
    for number in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if !kept.contains(one) {
            // Who has no right to take one away has none that it would matter for.
            let _ = rustix::thread::remove_capability_from_bounding_set(one);
        }
    }
    let _ = rustix::thread::clear_ambient_capability_set();
}

/// The opener's: it may open files, and nothing else of what root may.
pub fn keep_what_opens() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    forget_capabilities_but(OF_OPENER);
    let Ok(now) = rustix::thread::capabilities(None) else { return };
    let kept = now.permitted.intersection(OF_OPENER);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    let _ = rustix::thread::set_capabilities(None, sets);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nlunette:x:990:985:iSCSI:/:/usr/sbin/nologin\nbad:x:y:z\n";
    const GROUP: &str = "root:x:0:\ndisk:x:6:me,lunette\nlunette:x:985:\nlunettes:x:1:lunettes\n";

    fn find(user: &str, group: Option<&str>) -> Result<(u32, u32, Vec<u32>), String> {
        Account::find_in(PASSWD, GROUP, user, group).map(|found| (found.uid, found.gid, found.groups))
    }

    #[test]
    fn a_user_is_found_with_his_groups_by_name_or_number() {
        assert_eq!(find("lunette", None), Ok((990, 985, vec![6, 985])));
        assert_eq!(find("990", Some("disk")), Ok((990, 6, vec![6])));
        assert_eq!(find("65534", None), Ok((65534, 65534, vec![65534])), "one of a container");
        assert!(find("nobody-here", None).unwrap_err().contains("useradd"));
        assert!(find("lunette", Some("none")).unwrap_err().contains("groupadd"));
        assert!(find("bad", None).unwrap_err().contains("no numbers"));
    }
}
