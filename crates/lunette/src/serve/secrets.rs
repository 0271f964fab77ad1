//! Where CHAP secrets come from: a file, the environment or a prompt, never the command line.

use crate::failure::Failure;
use iscsi::auth::{Account, Secret};
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

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
            return Ok((read(path)?, path.display().to_string()));
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

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| Failure::input(format!("{name}: {error}; its first line has to be the secret")))?;
    if let Ok(found) = std::fs::metadata(path)
        && found.permissions().mode() & 0o077 != 0
    {
        tracing::warn!("{name} can be read by others; mend it with: chmod 600 {name}");
    }
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}
