//! Where a command logs in and as whom: the address, and the options that every command has for it.

use super::failure;
use crate::failure::Failure;
use clap::Args;
use initiator::{Address, Options, Session, Unit};
use scsi::blocks::Capacity;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

/// The file in which a machine has its iSCSI name.
const NAME_FILE: &str = "/etc/iscsi/initiatorname.iscsi";

/// Options of everything that logs in.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Login")]
pub struct Login {
    /// Our iSCSI name [default: the machine's of /etc/iscsi/initiatorname.iscsi, or one of our own]
    #[arg(long, value_name = "NAME")]
    initiator_name: Option<String>,
    /// File whose first line is the secret of the address's user
    #[arg(long, value_name = "PATH")]
    secret_file: Option<PathBuf>,
    /// Seconds until a connection that does not come, or a command without an answer, has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
    /// Seconds for which a session that is lost is taken up again before it has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    replacement_timeout: u32,
}

/// What must be in an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// A portal.
    Portal,
    /// A target.
    Target,
    /// A logical unit.
    Unit,
}

impl Login {
    /// The address of this text, with the secrets that belong to it.
    pub fn address(&self, text: &str, needed: Needed) -> Result<Address, Failure> {
        let mut address: Address = text.parse().map_err(Failure::input)?;
        if needed != Needed::Portal && address.target.is_none() {
            let how = format!("add one to it, as in iscsi://{}/TARGET/LUN; see `lunette ls`", address.portal());
            return Err(Failure::input(format!("{address}: there is no target in it; {how}")));
        }
        if needed == Needed::Unit && address.lun.is_none() {
            return Err(Failure::input(format!("{address}: there is no LUN in it; see `lunette ls {address}`")));
        }
        if let Some(path) = &self.secret_file {
            address.secret = None;
            address.secret_file = Some(path.clone());
        }
        if let Some(name) = &self.initiator_name {
            iscsi::name::Name::parse(name)
                .map_err(|error| Failure::input(format!("--initiator-name {name}: {error}")))?;
        }
        let resolved = address.clone().resolve();
        let mut address = match (resolved, &address.user) {
            (Ok(address), _) => address,
            (Err(_), Some(user)) if address.secret_file.is_none() && std::io::stdin().is_terminal() => {
                let secret = rpassword::prompt_password(format!("Secret of {user} for {}: ", address.portal()))
                    .map_err(|error| Failure::input(format!("{address}: the secret could not be read: {error}")))?;
                address.secret = Some(iscsi::auth::Secret::weak(secret.into_bytes()));
                address.resolve().map_err(Failure::input)?
            }
            (Err(error), _) => return Err(Failure::input(error)),
        };
        if self.secret_file.is_some() {
            // It was said beside the address, and has no place in what is shown of it.
            address.secret_file = None;
        }
        Ok(address)
    }

    /// The options of a session with it.
    pub fn options(&self, address: &Address) -> Options {
        let mut options =
            Session::builder(address).replacement_timeout(Duration::from_secs(self.replacement_timeout.into()));
        let name = match &address.initiator_name {
            _ if self.initiator_name.is_some() => self.initiator_name.clone(),
            Some(_) => None,
            None => machine_name(),
        };
        options.initiator_name = name.unwrap_or(options.initiator_name);
        options.login_timeout = Duration::from_secs(self.timeout.into());
        if address.timeout.is_none() {
            // Commands may work for a while; what is not answered at all is found out by pings.
            options.command_timeout = Duration::from_secs(u64::from(self.timeout).max(60));
        }
        options
    }

    /// A session.
    pub async fn connect(&self, address: &Address) -> Result<Session, Failure> {
        self.options(address).connect().await.map_err(|error| failure::of(address, &error))
    }

    /// A unit that is there, with its session.
    pub async fn unit(&self, address: &Address) -> Result<Unit, Failure> {
        let session = self.connect(address).await?;
        Ok(session.unit(address.lun.unwrap_or(0)))
    }

    /// A disk and its capacity.
    pub async fn disk(&self, address: &Address) -> Result<(Unit, Capacity), Failure> {
        let unit = self.unit(address).await?;
        match unit.capacity().await {
            Ok(capacity) => Ok((unit, capacity)),
            Err(error) => {
                leave(unit.session()).await;
                Err(failure::of(address, &error))
            }
        }
    }
}

/// The name that the machine's other initiator has: targets that know the machine know us.
fn machine_name() -> Option<String> {
    let text = std::fs::read_to_string(NAME_FILE).ok()?;
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("InitiatorName="));
    let name = names.map(str::trim).next()?;
    iscsi::name::Name::lenient(name).ok().map(String::from)
}

/// Logs out; the command has what it wanted, and a target that does not answer this any more changes nothing.
pub async fn leave(session: &Session) {
    let _ = session.logout().await;
}
