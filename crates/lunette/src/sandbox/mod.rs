//! What the daemon gives up before it listens to strangers: other users' rights, files that are not its own,
//! system calls that it has no use for. docs/security.md says what that keeps out.
//!
//! All of it is put on by the first thread before there is a second one, and so holds for every thread. What the
//! configuration names is opened by the [`opener`], now and later, so that there is one way to open a store.

mod attempts;
mod landlock;
mod opener;
mod privileges;
mod seccomp;

pub use attempts::{Arguments, run};
pub use opener::run as run_opener;

use crate::failure::Failure;
use landlock::Held;
use opener::{Client, Policy};
use privileges::Account;
use seccomp::Whose;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The user that the daemon becomes, by name or number.
    pub user: Option<String>,
    /// His group, where it is not his own.
    pub group: Option<String>,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether files are kept out of reach.
    pub landlock: bool,
    /// Where stores may be opened while the daemon runs; anywhere but among the system's files where this is empty.
    pub allow: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { user: None, group: None, seccomp: true, landlock: true, allow: Vec::new() }
    }
}

impl Settings {
    /// Without any of it.
    pub const NONE: Settings = Settings { user: None, group: None, seccomp: false, landlock: false, allow: Vec::new() };
}

/// What the daemon still needs.
#[derive(Debug, Default)]
pub struct Needs {
    /// Directories that it writes, each with the name of its setting.
    pub directories: Vec<(&'static str, PathBuf)>,
    /// Sockets that are its own, and open.
    pub sockets: Vec<PathBuf>,
    /// What the configuration names to be opened.
    pub named: Vec<PathBuf>,
    /// The configuration file.
    pub configuration: Option<PathBuf>,
}

/// What is in force.
#[derive(Debug, Clone, Default)]
struct InForce {
    seccomp: bool,
    landlock: Option<Held>,
    /// Who the daemon became.
    user: Option<String>,
}

static IN_FORCE: OnceLock<InForce> = OnceLock::new();
static OPENER: OnceLock<Client> = OnceLock::new();

/// Makes the directories that the daemon writes, and where they are new, whose it becomes.
pub fn prepare(settings: &Settings, directories: &[(&'static str, PathBuf)]) -> Result<(), Failure> {
    is_root();
    let account = account(settings)?;
    if !settings.landlock && account.is_none() {
        return Ok(());
    }
    for (what, directory) in directories {
        let made = match &account {
            Some(account) => account.prepare(directory),
            None => make(directory),
        };
        // What needs the directory tells what is missing.
        if let Err(why) = made {
            tracing::debug!("{what}: {why}");
        }
    }
    Ok(())
}

/// Goes into the sandbox for good. To be called while there is one thread.
pub fn enter(settings: &Settings, needs: &Needs) -> Result<(), Failure> {
    is_root();
    let account = account(settings)?;
    if !settings.seccomp && !settings.landlock && account.is_none() {
        let _ = IN_FORCE.set(InForce::default());
        return Ok(());
    }
    if threads().is_some_and(|count| count > 1) {
        return Err(Failure::runtime("the sandbox goes up before the first thread is started: this is a defect"));
    }
    let mut in_force = InForce::default();
    if settings.landlock || account.is_some() {
        let named = needs.named.iter().filter_map(|path| std::path::absolute(path).ok()).collect();
        let configuration = needs.configuration.as_ref().and_then(|path| std::path::absolute(path).ok());
        let policy = Policy { allow: settings.allow.clone(), named, configuration };
        let client = opener::start(&policy).map_err(|error| {
            Failure::runtime(format!("the sandbox needs a second process: {error}; without it: --no-sandbox"))
        })?;
        let client = OPENER.get_or_init(|| client);
        stores::host::delegate(Box::new(client));
    }
    if let Some(account) = &account {
        needs.sockets.iter().for_each(|socket| account.own(socket));
        account.become_it().map_err(|why| Failure::runtime(format!("user {}: {why}", account.name)))?;
        for (what, directory) in needs.directories.iter().filter(|(_, directory)| directory.exists()) {
            account.check(what, directory).map_err(Failure::Input)?;
        }
        in_force.user = Some(account.name.clone());
    }
    if settings.landlock {
        let places = needs.directories.iter().map(|(_, directory)| directory.clone());
        // A socket's name is taken away at the end.
        let places: Vec<_> = places.chain(needs.sockets.iter().filter_map(|path| policy_directory(path))).collect();
        let files: Vec<_> = needs.configuration.iter().filter_map(|path| policy_directory(path)).collect();
        let held = landlock::restrict(&places, &files);
        let held = held.map_err(|error| Failure::runtime(format!("landlock: {error}; without it: --no-sandbox")))?;
        match held {
            Held::Whole => {}
            Held::Partly => tracing::info!("this kernel knows a part of landlock; that part is in force"),
            Held::Not => tracing::warn!(
                "this kernel has no landlock (CONFIG_SECURITY_LANDLOCK, lsm=landlock): the daemon can open what its \
                 user may"
            ),
        }
        in_force.landlock = Some(held).filter(|held| *held != Held::Not);
    }
    if settings.seccomp {
        match seccomp::restrict(Whose::Daemon) {
            Ok(()) => in_force.seccomp = true,
            Err(why) => tracing::warn!("system calls are not filtered: {why}"),
        }
    }
    let _ = IN_FORCE.set(in_force);
    Ok(())
}

/// What the opener's process gives up.
fn confine_opener() {
    privileges::keep_what_opens();
    let _ = rustix::thread::set_no_new_privs(true);
    // Whoever has no filter has an opener that knows no network all the same.
    let _ = seccomp::restrict(Whose::Opener);
}

/// Replaces the configuration file whole, by whoever opens files for this process: written beside, flushed, renamed, and
/// the directory flushed. Owner and permissions stay; a link stays a link, and the file behind it is replaced. The last
/// thing before it is renamed is the question whether it still `may` be; returns the answer.
pub fn replace_configuration(path: &Path, content: &[u8], may: impl FnOnce() -> bool) -> std::io::Result<bool> {
    replace_by(stores::host::host(), path, content, may)
}

fn replace_by(
    host: &dyn stores::host::Host,
    path: &Path,
    content: &[u8],
    may: impl FnOnce() -> bool,
) -> std::io::Result<bool> {
    use std::io::Write;
    let path = stores::host::canonicalize(path)?;
    let beside = path.with_added_extension(opener::FRESH);
    // One that a process left that was killed.
    let _ = host.remove(&beside);
    let mut file = host.create_like(&beside, &path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| match may() {
        true => host.rename(&beside, &path).map(|()| true),
        false => Ok(false),
    });
    if !matches!(renamed, Ok(true)) {
        let _ = host.remove(&beside);
        return renamed;
    }
    // Without this the rename may be lost with the power: then the old text is there, which is whole too. The new one is
    // what everybody reads from here on, so that this is no reason to undo anything.
    if let Err(error) = host.sync_directory(path.parent().unwrap_or(Path::new("/"))) {
        tracing::warn!("{}: was replaced, and may be the old one after a loss of power: {error}", path.display());
    }
    Ok(true)
}

/// What is in force, for the administration.
pub fn view() -> Value {
    let in_force = IN_FORCE.get().cloned().unwrap_or_default();
    let landlock = match in_force.landlock {
        Some(Held::Whole) => "on",
        Some(Held::Partly) => "partly",
        Some(Held::Not) | None => "off",
    };
    json!({
        "seccomp": if in_force.seccomp { "on" } else { "off" },
        "landlock": landlock,
        "opener": OPENER.get().is_some(),
        "user": in_force.user,
        "uid": rustix::process::geteuid().as_raw(),
    })
}

/// The same in a line for people.
pub fn line(view: &Value) -> String {
    let text = |name: &str| view[name].as_str().unwrap_or("off").to_owned();
    let user = match (view["user"].as_str(), view["uid"].as_u64()) {
        (Some(user), _) => format!("user {user}"),
        (None, Some(0)) => "user root".to_owned(),
        (None, uid) => format!("user {}", uid.unwrap_or_default()),
    };
    format!("{user}, seccomp {}, landlock {}", text("seccomp"), text("landlock"))
}

fn account(settings: &Settings) -> Result<Option<Account>, Failure> {
    let Some(user) = &settings.user else {
        return match &settings.group {
            Some(group) => Err(Failure::input(format!("group {group}: there is no user beside it; name one"))),
            None => Ok(None),
        };
    };
    let account = Account::find(user, settings.group.as_deref());
    let account = account.map_err(|why| Failure::input(format!("user {user}: {why}")))?;
    match account.is_own() {
        true => Ok(None),
        false if !rustix::process::geteuid().is_root() => Err(Failure::input(format!(
            "user {user}: only root can become another user; leave it out, or start as root"
        ))),
        false => Ok(Some(account)),
    }
}

/// The directory of a configuration file, where it is one of its own.
fn policy_directory(path: &Path) -> Option<PathBuf> {
    let directory = std::path::absolute(path).ok()?.parent()?.to_owned();
    Policy::is_narrow(&directory).then_some(directory)
}

fn make(directory: &Path) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| format!("{}: {error}", directory.display()))
}

/// Whether this process was root when it was started: places that depend on that stay where they are.
pub fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| rustix::process::geteuid().is_root())
}

fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Result;
    use stores::host::{Direct, Host, How};

    /// A host whose directories cannot be flushed.
    struct Unflushed;

    impl Host for Unflushed {
        fn open(&self, path: &Path, how: How) -> Result<File> {
            Direct.open(path, how)
        }
        fn reopen(&self, file: &File, how: How) -> Result<File> {
            Direct.reopen(file, how)
        }
        fn create_like(&self, path: &Path, other: &Path) -> Result<File> {
            Direct.create_like(path, other)
        }
        fn remove(&self, path: &Path) -> Result<()> {
            Direct.remove(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> Result<()> {
            Direct.rename(from, to)
        }
        fn sync_directory(&self, _: &Path) -> Result<()> {
            Err(std::io::Error::other("the disk is ill"))
        }
        fn attribute(&self, file: &File, name: &str) -> Result<Vec<u8>> {
            Direct.attribute(file, name)
        }
        fn set_attribute(&self, file: &File, name: &str, value: Option<&[u8]>, new: bool) -> Result<()> {
            Direct.set_attribute(file, name, value, new)
        }
    }

    #[test]
    fn a_file_that_was_renamed_is_replaced_although_its_directory_is_not_flushed() {
        let folder = sim::daemon::Folder::new();
        let path = folder.path().join("lunette.toml");
        std::fs::write(&path, "old").unwrap();
        assert!(!replace_by(&Direct, &path, b"new", || false).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old", "what may not be replaced stays");
        assert!(replace_by(&Unflushed, &path, b"new", || true).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
