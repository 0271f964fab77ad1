//! Remote disks as stores: the kind `iscsi` of `lunette serve`, which the initiator brings and not `stores`.
//!
//! The sessions live on a thread of their own with its own runtime, so that they are there before the daemon's
//! runtime is, and answer while a worker is busy.

use block::Backend;
use block::layer::ReadOnly;
use initiator::{Address, Group, GroupOptions, Lun, Options, Policy, RemoteDisk, Session};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stores::host::{How, host};
use stores::{OpenError, Opened};
use tokio::runtime::Handle;

/// An address of this kind, for help texts.
pub const EXAMPLE: &str = "iscsi://192.0.2.7/iqn.2026-11.com.example:disk/1";

/// What an address may say beside the URL.
const OPTIONS: &[&str] = &["ro", "path", "policy", "no-path-timeout", "replacement-timeout"];

/// Whether a store's address is of this kind.
pub fn is_remote(address: &str) -> bool {
    address.trim_start().get(..8).is_some_and(|start| start.eq_ignore_ascii_case("iscsi://"))
}

/// What an address says.
#[derive(Debug)]
struct Wanted {
    paths: Vec<(Address, u16)>,
    read_only: bool,
    policy: Policy,
    /// How long requests wait for a disk that cannot be reached.
    patience: Option<Duration>,
}

impl Wanted {
    fn parse(text: &str) -> Result<Wanted, OpenError> {
        let (rest, options) = stores::take_options(text, OPTIONS);
        let rest = rest.replace("\\,", ",");
        let place = shown(&rest);
        let wrong = |what: String| OpenError::new(place.clone(), what);
        let mut wanted =
            Wanted { paths: vec![path(&rest)?], read_only: false, policy: Policy::default(), patience: None };
        for (name, value) in options {
            match (name.as_str(), value.as_deref()) {
                ("ro", None) => wanted.read_only = true,
                ("ro", Some(_)) => return Err(wrong("ro takes no value".into()).remedy("write only ro")),
                ("path", Some(value)) if !value.is_empty() => wanted.paths.push(path(value)?),
                ("policy", Some("round-robin")) => wanted.policy = Policy::RoundRobin,
                ("policy", Some("least-queue")) => wanted.policy = Policy::LeastQueue,
                ("policy", _) => {
                    let error = wrong("policy names how several paths are used".into());
                    return Err(error.remedy("write policy=least-queue or policy=round-robin"));
                }
                ("no-path-timeout" | "replacement-timeout", Some(value)) => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds <= 86_400);
                    let remedy = format!("write {name}=SECONDS, at most 86400");
                    let seconds = seconds.ok_or_else(|| wrong(format!("{name}={value} is no time")).remedy(remedy))?;
                    wanted.patience = Some(Duration::from_secs(seconds));
                }
                (name, _) => return Err(wrong(format!("{name} needs a value")).remedy(format!("write {name}=…"))),
            }
        }
        if let Some(left) = rest.split(',').nth(1) {
            let error = wrong(format!("'{}' is no option of a remote disk", left.split('=').next().unwrap_or(left)));
            return Err(error.remedy(format!("there are {}", OPTIONS.join(", "))));
        }
        Ok(wanted)
    }

    /// All paths, for people.
    fn name(&self) -> String {
        let names: Vec<String> = self.paths.iter().map(|(address, _)| address.to_string()).collect();
        names.join(",path=")
    }
}

/// A path's address, which names a target and a LUN, with its secrets.
fn path(text: &str) -> Result<(Address, u16), OpenError> {
    let place = shown(text);
    let wrong = |error: initiator::AddressError| OpenError::new(place.clone(), error.to_string());
    let url = text.split(',').next().unwrap_or(text);
    let address = Address::from_str(url).map_err(wrong)?;
    if address.secret.is_some() || address.target_secret.is_some() {
        tracing::warn!("{address}: the secret in the URL can be seen in the list of processes; {INSTEAD}");
    }
    let (Some(_), Some(lun)) = (&address.target, address.lun) else {
        let error = OpenError::new(place.clone(), "names no disk: target and LUN are needed");
        return Err(error.remedy(format!("for example {EXAMPLE}")));
    };
    // What stands in LUNETTE_CHAP_SECRET is the secret of those who log in here, and no business of another target.
    let elsewhere = |name: &str| (!name.starts_with("LUNETTE_")).then(|| std::env::var(name).ok()).flatten();
    let has_secret = address.secret.is_some() || address.secret_file.is_some() || elsewhere(PASSWORD).is_some();
    if let Some(user) = address.user.as_ref().filter(|_| !has_secret) {
        return Err(OpenError::new(place, format!("there is no secret of {user}")).remedy(INSTEAD));
    }
    let address = with_secrets_of_files(address).map_err(wrong)?;
    Ok((address.resolve_with(elsewhere).map_err(wrong)?, lun))
}

/// The address with what stands in the files that it names, opened by who opens files for this process.
fn with_secrets_of_files(mut address: Address) -> Result<Address, initiator::AddressError> {
    let read = |path: &std::path::Path| {
        let secret = initiator::address::read_secret(path, host().open(path, How::READ))?;
        Ok(iscsi::auth::Secret::weak(secret.as_bytes()))
    };
    if let (None, Some(path), Some(_)) = (&address.secret, &address.secret_file, &address.user) {
        address.secret = Some(read(path)?);
    }
    if let (None, Some(path), Some(_)) = (&address.target_secret, &address.target_secret_file, &address.target_user) {
        address.target_secret = Some(read(path)?);
    }
    Ok(address)
}

/// Where a secret for another target stands in the environment.
const PASSWORD: &str = "LIBISCSI_CHAP_PASSWORD";
const INSTEAD: &str = "set LIBISCSI_CHAP_PASSWORD, or add ?secret_file=PATH to the address";

/// An address without its secret, for messages about one that cannot be read.
fn shown(text: &str) -> String {
    let url = text.split(',').next().unwrap_or_default();
    match url.rsplit_once('@') {
        None => url.to_owned(),
        Some((account, rest)) => {
            let user = account.split('%').next().unwrap_or_default();
            format!("{user}@{rest}")
        }
    }
}

/// An address for everybody's eyes: with `instead` in the place of every secret that is written in it. One without
/// secrets, and one of another kind, stays as it was said.
pub fn without_secrets(address: &str, instead: &str) -> String {
    if !is_remote(address) {
        return address.to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    for part in address.split(',') {
        match parts.last_mut().filter(|last| last.ends_with('\\')) {
            // A comma that is a part's own.
            Some(last) => *last = format!("{last},{part}"),
            None => parts.push(part.to_owned()),
        }
    }
    let shown = parts.iter().map(|part| if part.contains("://") { url_without(part, instead) } else { part.clone() });
    shown.collect::<Vec<_>>().join(",")
}

/// A URL, with what stands before it, without its secrets.
fn url_without(url: &str, instead: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    // A secret may have an @, a slash and a question mark in it.
    let (who, rest) = rest.rsplit_once('@').map_or((None, rest), |(who, rest)| (Some(who), rest));
    let who = who.map_or(String::new(), |who| match who.find(['%', ':']) {
        Some(at) => format!("{}{instead}@", &who[..=at]),
        None => format!("{who}@"),
    });
    let (place, arguments) = rest.split_once('?').map_or((rest, None), |(place, rest)| (place, Some(rest)));
    let arguments = arguments.map_or(String::new(), |arguments| {
        let shown = arguments.split('&').map(|argument| match argument.split_once('=') {
            Some((key, _)) if key.contains("password") => format!("{key}={instead}"),
            _ => argument.to_owned(),
        });
        format!("?{}", shown.collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{who}{place}{arguments}")
}

/// Whether an address is one that could be opened, as far as it says by itself.
pub fn check(text: &str) -> Result<(), OpenError> {
    Wanted::parse(text).map(drop)
}

/// Connects and opens the disk.
///
/// Fails with one line that says what is wrong, where, and what would mend it.
pub fn open(text: &str) -> Result<Opened, OpenError> {
    let wanted = Wanted::parse(text)?;
    let name = wanted.name();
    let failed = |error: initiator::Error| OpenError::new(name.clone(), error.to_string());
    let handle = runtime().ok_or_else(|| OpenError::new(name.clone(), "the system has no thread for the session"))?;
    let (identity, backend) = handle.block_on(connect(&wanted, &name)).map_err(failed)?;
    for (address, _) in &wanted.paths {
        if let Some(serial) = address.serial_number.as_deref().filter(|wanted| !identity.answers_to(wanted)) {
            let found = identity.name().unwrap_or_else(|| "a disk without a name".into());
            return Err(OpenError::new(name, format!("is {found}, not {serial}: another disk is not taken")));
        }
    }
    let backend = if wanted.read_only { ReadOnly::new(backend) as Arc<dyn Backend> } else { backend };
    // What it is called there, and not by which path: the same name, then, whoever serves it on.
    let identity = identity.name().map(|identity| format!("remote {identity}"));
    Ok(Opened { backend, created: false, identity })
}

async fn connect(wanted: &Wanted, name: &str) -> Result<(initiator::Identity, Arc<dyn Backend>), initiator::Error> {
    if let [(address, lun)] = &wanted.paths[..] {
        let mut options = Session::builder(address);
        options.replacement_timeout = wanted.patience.unwrap_or(options.replacement_timeout);
        let session = options.connect().await?;
        let disk = RemoteDisk::open(session.unit(*lun), name).await?;
        return Ok((disk.identity(), Arc::new(disk)));
    }
    let paths = wanted.paths.iter().map(|(address, lun)| (Options::of(address), Lun::from(*lun))).collect();
    let mut options = GroupOptions { policy: wanted.policy, ..GroupOptions::default() };
    options.no_path_timeout = wanted.patience.unwrap_or(options.no_path_timeout);
    let group = Group::connect(paths, name, options).await?;
    Ok((group.identity(), Arc::new(group)))
}

/// The runtime of all sessions of this process, on its own thread.
fn runtime() -> Option<&'static Handle> {
    static RUNTIME: OnceLock<Option<Handle>> = OnceLock::new();
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let handle = runtime.handle().clone();
        let drive = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("initiator".into()).spawn(drive).ok()?;
        Some(handle)
    };
    RUNTIME.get_or_init(start).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Wanted::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn chp_18_what_is_shown_of_an_address_has_no_secret() {
        for (said, shown) in [
            ("iscsi://h/iqn.a:b/1", "iscsi://h/iqn.a:b/1"),
            ("iscsi://a@h/t/1?secret_file=/s", "iscsi://a@h/t/1?secret_file=/s"),
            ("iscsi://a%sesame@h/t/1,ro", "iscsi://a%(kept)@h/t/1,ro"),
            ("ISCSI://a:ses%a/m@e@[::1]:1/t/1", "ISCSI://a:(kept)@[::1]:1/t/1"),
            (
                "iscsi://a%sesame@h/t/1?target_user=t&target_password=sesame&auth=md5,path=iscsi://a%sesame@i/t/1",
                "iscsi://a%(kept)@h/t/1?target_user=t&target_password=(kept)&auth=md5,path=iscsi://a%(kept)@i/t/1",
            ),
            ("iscsi://a%ses\\,ame@h/t/1,policy=round-robin", "iscsi://a%(kept)@h/t/1,policy=round-robin"),
            ("/srv/a%b@c://d@e", "/srv/a%b@c://d@e"),
        ] {
            assert_eq!(without_secrets(said, "(kept)"), shown);
        }
    }

    #[test]
    fn an_address_is_a_url_with_options_and_further_paths() {
        let text = "iscsi://192.0.2.7/iqn.a:b/1,path=iscsi://[::1]:3261/iqn.a:b/1,policy=round-robin,ro";
        let wanted = Wanted::parse(text).unwrap();
        assert_eq!((wanted.paths.len(), wanted.policy, wanted.read_only), (2, Policy::RoundRobin, true));
        assert_eq!(wanted.name(), "iscsi://192.0.2.7/iqn.a:b/1,path=iscsi://[::1]:3261/iqn.a:b/1");
        assert!(is_remote("ISCSI://h/t/1") && !is_remote("iscsi") && !is_remote("file:iscsi://h"));
    }

    #[test]
    fn what_cannot_be_is_refused_in_one_line_without_the_secret() {
        assert!(refused("iscsi://192.0.2.7/iqn.a:b").contains("target and LUN are needed"));
        assert!(refused("iscsi://192.0.2.7/iqn.a:b/1,path=iscsi://h/iqn.a:b").contains("target and LUN"));
        assert!(refused("iscsi://h/iqn.a:b/1,policy=best").contains("policy=least-queue"));
        assert!(refused("iscsi://h/iqn.a:b/1,no-path-timeout=soon").contains("=SECONDS"));
        assert!(refused("iscsi://h/iqn.a:b/1,direct").contains("'direct' is no option of a remote disk"));
        assert!(refused("iscsi://h/iqn.a:b/1,ro=yes").contains("write only ro"));
        let line = refused("iscsi://me%sesame-open-up@h/iqn.a:b");
        assert!(line.contains("me@h") && !line.contains("sesame"), "{line}");
    }
}
