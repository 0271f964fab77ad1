//! Node records of this machine, and sessions made of them: `lunette node`, `lunette boot`, `lunette iscsiadm`.
//!
//! The records are open-iscsi's (`compat::records`); who logs in is a holder of `lunette attach` for each session
//! ([`machine`]). Sessions that the kernel has of somebody else are told too.

pub mod boot;
pub mod command;
mod discover;
mod firmware;
pub mod iscsiadm;
mod kernel;
mod machine;
mod names;
mod order;
pub mod record;
mod told;

pub use names::{iscsi_gen_initiatorname, iscsi_iname};

use crate::attach::hold::Via;
use crate::attach::state::Place;
use crate::failure::Failure;
use compat::records::Database;
use std::path::{Path, PathBuf};

/// The directory of the records, where it is not the machine's.
pub const ROOT: &str = "LUNETTE_ISCSI_ROOT";
/// What offers disks to this machine, where it is not the best.
const VIA: &str = "LUNETTE_VIA";
/// Where what is attached is kept account of, where not in the usual place.
const STATE_DIR: &str = "LUNETTE_ATTACHED";

/// Where records are and how sessions are made of them.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// The directory of the records [default: LUNETTE_ISCSI_ROOT; /etc/iscsi, or /var/lib/iscsi where only that has some]
    #[arg(long, value_name = "DIR", global = true)]
    pub root: Option<PathBuf>,
    /// What offers the disks to this machine [default: LUNETTE_VIA; the best that it has]
    #[arg(long, value_enum, global = true)]
    pub via: Option<Via>,
    /// Where what is attached is kept account of [default: LUNETTE_ATTACHED; /run/lunette/attached]
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
}

impl Settings {
    /// What the environment says.
    pub fn of_environment() -> Result<Settings, Failure> {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let via = match of(VIA) {
            Some(word) => {
                let word = word.to_string_lossy().into_owned();
                let wrong = || Failure::input(format!("{VIA}={word}: it is auto, kernel, ublk, nbd or fuse"));
                Some(Via::named(&word).ok_or_else(wrong)?)
            }
            None => None,
        };
        Ok(Settings { root: of(ROOT).map(PathBuf::from), via, state_dir: of(STATE_DIR).map(PathBuf::from) })
    }

    /// These, and what the environment says of the others.
    fn with_environment(&self) -> Result<Settings, Failure> {
        let environment = Settings::of_environment()?;
        Ok(Settings {
            root: self.root.clone().or(environment.root),
            via: self.via.or(environment.via),
            state_dir: self.state_dir.clone().or(environment.state_dir),
        })
    }

    fn database(&self) -> Database {
        Database::open(self.root.as_deref())
    }

    fn machine(&self, database: &Database) -> Result<machine::Machine, Failure> {
        let state_dir = self.state_dir.as_ref().map(std::path::absolute).transpose().map_err(Failure::input)?;
        // iscsid refuses to log out of what is mounted unless this is off, which was its default once.
        let careful = database.setting("iscsid.safe_logout").is_none_or(|word| !word.eq_ignore_ascii_case("no"));
        // Who has no place for sessions of his own may look at records all the same; a login says what is wrong.
        let place = Place::of(state_dir.as_deref()).or_else(|_| Place::of(Some(Path::new("/run/lunette/attached"))))?;
        Ok(machine::Machine {
            place,
            state_dir,
            via: self.via.unwrap_or(Via::Auto),
            careful,
            alias: database.initiator_alias().map_err(Failure::runtime)?.or_else(host_name),
        })
    }
}

/// What this machine is called, for targets to tell people.
fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(name).filter(|name| !name.is_empty())
}
