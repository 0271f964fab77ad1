//! Where an address's secrets come from when the URL has none: a file, or the environment.

use super::{Address, AddressError};
use iscsi::auth::Secret;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// More than a file with a secret has.
const MAXIMUM_BYTES: u64 = 64 << 10;
/// The permissions of others than the owner and his group.
const OTHERS: u32 = 0o007;

const USER: [&str; 2] = ["LUNETTE_CHAP_USER", "LIBISCSI_CHAP_USERNAME"];
const SECRET: [&str; 2] = ["LUNETTE_CHAP_SECRET", "LIBISCSI_CHAP_PASSWORD"];
const TARGET_USER: [&str; 2] = ["LUNETTE_CHAP_MUTUAL_USER", "LIBISCSI_CHAP_TARGET_USERNAME"];
const TARGET_SECRET: [&str; 2] = ["LUNETTE_CHAP_MUTUAL_SECRET", "LIBISCSI_CHAP_TARGET_PASSWORD"];

impl Address {
    /// The address with names and secrets that it does not have itself: of `secret_file` and
    /// `target_secret_file`, then of the environment (`LUNETTE_CHAP_USER` and `_SECRET`, `LUNETTE_CHAP_MUTUAL_USER`
    /// and `_SECRET`; then libiscsi's `LIBISCSI_CHAP_USERNAME`, `_PASSWORD`, `_TARGET_USERNAME`, `_TARGET_PASSWORD`).
    ///
    /// A name without a secret is an error: who names himself is meant to be asked who he is.
    pub fn resolve(self) -> Result<Address, AddressError> {
        self.resolve_with(|variable| std::env::var(variable).ok())
    }

    /// The same with another environment.
    pub fn resolve_with(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Address, AddressError> {
        let find =
            |names: [&str; 2]| names.into_iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        self.user = self.user.or_else(|| find(USER));
        self.target_user = self.target_user.or_else(|| find(TARGET_USER));
        let secret = |has: Option<Secret>, file: &Option<PathBuf>, names| match (has, file) {
            (Some(secret), _) => Ok(Some(secret)),
            (None, Some(path)) => read_secret_file(path).map(|secret| Some(Secret::weak(secret.as_bytes()))),
            (None, None) => Ok(find(names).map(|secret| Secret::weak(secret.into_bytes()))),
        };
        if let Some(user) = &self.user {
            self.secret = secret(self.secret, &self.secret_file, SECRET)?;
            if self.secret.is_none() {
                let how = "set LUNETTE_CHAP_SECRET, or add ?secret_file=PATH to the address";
                return Err(AddressError::new(format!("there is no secret of {user}; {how}")));
            }
        } else if self.secret_file.is_some() {
            return Err(AddressError::new("secret_file is given but no user; write iscsi://USER@HOST"));
        }
        if let Some(user) = &self.target_user {
            self.target_secret = secret(self.target_secret, &self.target_secret_file, TARGET_SECRET)?;
            if self.target_secret.is_none() {
                let how = "set LUNETTE_CHAP_MUTUAL_SECRET, or add target_secret_file=PATH to the address";
                return Err(AddressError::new(format!("there is no secret of the target {user}; {how}")));
            }
            if self.user.is_none() {
                let why = "a target shows who it is only to an initiator that does so too";
                return Err(AddressError::new(format!("target_user is given but no user; {why}")));
            }
        }
        Ok(self)
    }
}

/// The secret in the first line of a file that only those can read who may know it.
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<String>, AddressError> {
    read_secret(path, std::fs::File::open(path))
}

/// The same of a file that somebody else has opened.
pub fn read_secret(path: &Path, file: std::io::Result<std::fs::File>) -> Result<Zeroizing<String>, AddressError> {
    let name = path.display();
    let failed =
        |error: std::io::Error| AddressError::new(format!("{name}: {error}; its first line has to be the secret"));
    let mut file = file.map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & OTHERS != 0 {
        let mend = format!("mend it with: chmod 600 {name}");
        return Err(AddressError::new(format!("{name}: everybody can read this secret; {mend}")));
    }
    let mut text = Zeroizing::new(String::new());
    (&mut file).take(MAXIMUM_BYTES).read_to_string(&mut text).map_err(failed)?;
    let line = text.lines().next().unwrap_or_default();
    match line.is_empty() {
        true => Err(AddressError::new(format!("{name}: the first line is empty; it has to be the secret"))),
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}
