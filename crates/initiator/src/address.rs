//! Where a disk is: the URL of a portal, a target or a logical unit, and with whose secret one logs in there.
//!
//! ```
//! let address: initiator::Address = "iscsi://alice%alice-secret-12@[::1]:3261/iqn.2026-11.com.example:disk/1".parse()?;
//! assert_eq!(address.to_string(), "iscsi://alice@[::1]:3261/iqn.2026-11.com.example:disk/1");
//! assert_eq!((address.portal(), address.lun), ("[::1]:3261".to_owned(), Some(1)));
//! # Ok::<_, initiator::AddressError>(())
//! ```

mod parse;
mod secrets;

pub use secrets::{read_secret, read_secret_file};

use iscsi::auth::{Account, Algorithm, Secret};
use iscsi::login::initiator::DigestOffer;
use std::path::PathBuf;

/// The port of iSCSI where none is given (RFC 7143 §15).
pub const PORT: u16 = 3260;
/// The largest LUN of single level addressing (SAM-5 §4.7).
pub const MAXIMUM_LUN: u16 = 0x3fff;

/// Where a portal, a target or a logical unit is, and how one logs in there.
///
/// It is read from libiscsi's URL `iscsi://[USER[%SECRET]@]HOST[:PORT][/TARGET[/LUN]][?ARGUMENTS]` or from QEMU's
/// list `driver=iscsi,portal=…,target=…,lun=…`. As with libiscsi, only the target's name (and paths of secrets) is
/// percent-decoded: in USER and SECRET every character stands for itself. Shown or logged it never has a secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// A name or a number of either family, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The target's name.
    pub target: Option<String>,
    /// The logical unit's number, at most [`MAXIMUM_LUN`].
    pub lun: Option<u16>,
    /// Our CHAP name.
    pub user: Option<String>,
    /// What we know.
    pub secret: Option<Secret>,
    /// Where our secret stands (argument `secret_file`).
    pub secret_file: Option<PathBuf>,
    /// The target's CHAP name, where it must show who it is (argument `target_user`).
    pub target_user: Option<String>,
    /// What the target knows (argument `target_password`).
    pub target_secret: Option<Secret>,
    /// Where the target's secret stands (argument `target_secret_file`).
    pub target_secret_file: Option<PathBuf>,
    /// The only CHAP algorithm that is offered (argument `auth`).
    pub algorithm: Option<Algorithm>,
    /// HeaderDigest, where the URL says something of it (argument `header_digest`).
    pub header_digest: Option<DigestOffer>,
    /// DataDigest (argument `data_digest`).
    pub data_digest: Option<DigestOffer>,
    /// Our own iSCSI name (argument `initiator_name`).
    pub initiator_name: Option<String>,
    /// The serial number that the disk must have (argument `force_usn`).
    pub serial_number: Option<String>,
    /// Seconds until a command that has no answer has failed (argument `timeout`).
    pub timeout: Option<u32>,
}

/// Why a text is no address, or a secret is not to be had, in one line that has no secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

impl AddressError {
    fn new(line: impl Into<String>) -> AddressError {
        AddressError(line.into())
    }
}

impl Address {
    /// The portal of a host.
    pub fn new(host: impl Into<String>, port: u16) -> Address {
        Address {
            host: host.into(),
            port,
            target: None,
            lun: None,
            user: None,
            secret: None,
            secret_file: None,
            target_user: None,
            target_secret: None,
            target_secret_file: None,
            algorithm: None,
            header_digest: None,
            data_digest: None,
            initiator_name: None,
            serial_number: None,
            timeout: None,
        }
    }

    /// The same portal and login, with this target and LUN.
    pub fn with(&self, target: Option<&str>, lun: Option<u16>) -> Address {
        Address { target: target.map(str::to_owned), lun, ..self.clone() }
    }

    /// Host and port as people write them, with brackets where they are needed.
    pub fn portal(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Who we are, once [`Address::resolve`] has found the secret.
    pub fn account(&self) -> Option<Account> {
        let (user, secret) = self.user.clone().zip(self.secret.clone())?;
        Some(Account { user, secret })
    }

    /// Who the target must be.
    pub fn target_account(&self) -> Option<Account> {
        let (user, secret) = self.target_user.clone().zip(self.target_secret.clone())?;
        Some(Account { user, secret })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("iscsi://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match (self.port, self.host.contains(':')) {
            (PORT, true) => write!(f, "[{}]", self.host)?,
            (PORT, false) => f.write_str(&self.host)?,
            _ => f.write_str(&self.portal())?,
        }
        if let Some(target) = &self.target {
            write!(f, "/{}", parse::encoded(target))?;
        }
        if let Some(lun) = self.lun {
            write!(f, "/{lun}")?;
        }
        let mut between = '?';
        let path = |path: &PathBuf| parse::encoded(&path.to_string_lossy());
        for (key, value) in [
            ("secret_file", self.secret_file.as_ref().map(path)),
            ("target_user", self.target_user.clone()),
            ("target_secret_file", self.target_secret_file.as_ref().map(path)),
            ("auth", self.algorithm.map(|algorithm| algorithm.name().to_ascii_lowercase())),
            ("header_digest", self.header_digest.map(|offer| parse::digest_word(offer).to_owned())),
            ("data_digest", self.data_digest.map(|offer| parse::digest_word(offer).to_owned())),
            ("initiator_name", self.initiator_name.clone()),
            ("force_usn", self.serial_number.clone()),
            ("timeout", self.timeout.map(|seconds| seconds.to_string())),
        ] {
            if let Some(value) = value {
                write!(f, "{between}{key}={value}")?;
                between = '&';
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({self})")
    }
}
