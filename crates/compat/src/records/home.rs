//! The name of this initiator, in open-iscsi's file.

use super::files;
use super::{Database, Error, lines};

/// What names that we make begin with, as open-iscsi's do.
const PREFIX: &str = "iqn.2016-04.com.open-iscsi";

/// A name that nobody else has: the prefix (or open-iscsi's), and twelve digits at random.
///
/// # Errors
/// The system gives no random numbers.
pub fn random_name(prefix: Option<&str>) -> Result<String, Error> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| Error::Files(format!("no random numbers: {error}")))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}:{digits}", prefix.unwrap_or(PREFIX)))
}

impl Database {
    /// The name that initiatorname.iscsi gives us; none where it gives none.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn initiator_name(&self) -> Result<Option<String>, Error> {
        self.named("InitiatorName")
    }

    /// The alias that initiatorname.iscsi gives us.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn initiator_alias(&self) -> Result<Option<String>, Error> {
        self.named("InitiatorAlias")
    }

    /// Our name; where there is no file of it, it is made now, with a name at random.
    ///
    /// # Errors
    /// The file can be neither read nor made.
    pub fn name_or_new(&self) -> Result<String, Error> {
        match self.initiator_name()? {
            Some(name) => Ok(name),
            None => {
                let name = random_name(None)?;
                self.name_as(&name)?;
                Ok(name)
            }
        }
    }

    /// Puts our name into initiatorname.iscsi.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn name_as(&self, name: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        let text = format!(
            "# The name of this initiator, which targets know it by. Each machine has its own: make another\n\
             # before you clone this one.\nInitiatorName={name}\n"
        );
        files::write(&self.settings, &self.settings.join("initiatorname.iscsi"), 0o600, &text)
    }

    fn named(&self, what: &str) -> Result<Option<String>, Error> {
        let text = files::read(&self.settings.join("initiatorname.iscsi"))?.unwrap_or_default();
        let value = lines(&text).find(|(name, _)| *name == what).map(|(_, value)| value.to_owned());
        Ok(value.filter(|value| !value.is_empty()))
    }
}
