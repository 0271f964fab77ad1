//! Where CHAP secrets come from: a file, the environment or a prompt, never the command line.

use crate::failure::Failure;
use iscsi::auth::{Account, Secret};
use std::io::IsTerminal;
use std::path::Path;
use zeroize::Zeroizing;

/// The permissions of others than the owner and his group.
const OTHERS: u32 = 0o007;

/// Whether others than the owner and his group may read a document, in which no secret can stand then.
pub fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    stores::host::metadata(path).is_ok_and(|facts| facts.permissions().mode() & OTHERS != 0)
}

/// Where one secret is looked for.
pub struct Source<'a> {
    /// The option with the user's name, for messages.
    pub option: &'static str,
    /// A file that was named.
    pub file: Option<&'a Path>,
    /// The environment's variable.
    pub variable: &'static str,
}

impl Source<'_> {
    /// The account of this user.
    pub fn account(&self, user: &str) -> Result<Account, Failure> {
        let option = self.option;
        if user.is_empty() {
            return Err(Failure::input(format!("--{option}: the user's name is empty")));
        }
        let (secret, place) = self.find(user)?;
        let secret = Secret::new(secret.as_bytes())
            .map_err(|error| Failure::input(format!("{place}: {error}; make one with: openssl rand -hex 16")))?;
        Ok(Account { user: user.to_owned(), secret })
    }

    fn find(&self, user: &str) -> Result<(Zeroizing<String>, String), Failure> {
        if let Some(path) = self.file {
            return Ok((read(path).map_err(Failure::input)?, path.display().to_string()));
        }
        match std::env::var(self.variable) {
            Ok(secret) => return Ok((Zeroizing::new(secret), self.variable.to_owned())),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Failure::input(format!("{}: is not UTF-8 text", self.variable)));
            }
            Err(std::env::VarError::NotPresent) => {}
        }
        let Source { option, variable, .. } = self;
        if !std::io::stdin().is_terminal() {
            return Err(Failure::input(format!(
                "--{option} {user}: there is no secret; set {variable}, or name a file with --{option}-secret-file"
            )));
        }
        let secret = rpassword::prompt_password(format!("Secret of {user} (--{option}): "))
            .map_err(|error| Failure::input(format!("--{option} {user}: the secret could not be read: {error}")))?;
        Ok((Zeroizing::new(secret), format!("--{option} {user}")))
    }
}

/// The secret in the first line of a file that only those can read who may know it.
pub fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let file = stores::host::host().open(path, stores::host::How::READ);
    initiator::address::read_secret(path, file).map_err(|error| error.to_string())
}
