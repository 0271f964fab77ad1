//! `-o update`: which fields may be changed to what, and what is said of those that may not.

use super::{Code, Run};
use crate::records::{KEYS, Record, Unacceptable};

impl Run<'_> {
    /// Changes a record that is not an interface.
    pub(super) fn change(&mut self, record: &mut Record, changes: &[(String, String)]) -> Result<(), Code> {
        for (name, value) in changes {
            let Some(field) = record.class().field(name) else {
                return Err(self.refuse(Code::INVALID, format!("Cannot modify {name}. Invalid param name.")));
            };
            if KEYS.contains(&name.as_str()) {
                let why = "It is used to look up the record and cannot be changed.";
                return Err(self.refuse(Code::INVALID, format!("Cannot modify {name}. {why}")));
            }
            match field.accept(value) {
                Ok(value) => record.set(name, &value),
                Err(Unacceptable::Ignored) => self.complain(format!("Ignoring unknown value '{value}' for '{name}'")),
                Err(Unacceptable::Format) => {
                    self.complain(format!("unknown value format '{value}' for parameter name '{name}'"));
                    return Err(self.refuse(Code::INVALID, format!("Unknown parameter {name}.")));
                }
            }
        }
        Ok(())
    }
}
