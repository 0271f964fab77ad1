//! A name of initiators, or a pattern that many fit.

use iscsi::name::{Name, NameError};
use std::str::FromStr;

/// A name in its prepared form, in which each `*` stands for any characters, also for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It has no `*` and is no name.
    #[error("{0}")]
    Name(#[from] NameError),
    /// It begins as no name does, so that nothing could fit it.
    #[error("a pattern begins as a name does, with iqn., eui. or naa.")]
    Kind,
    /// It would fit everybody.
    #[error("fits every initiator; where that is meant, write \"any\"")]
    Everybody,
}

impl NamePattern {
    /// Whether this prepared name fits.
    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(last) = parts.next_back() else { return name == first };
        let Some(middle) = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
        // Each part at the first place where it stands leaves the most for those that follow.
        let mut rest = middle;
        parts.all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<NamePattern, PatternError> {
        if !text.contains('*') {
            return Ok(NamePattern(Name::parse(text)?.into()));
        }
        if text.bytes().all(|byte| byte == b'*') {
            return Err(PatternError::Everybody);
        }
        let prepared = String::from(Name::lenient(text)?);
        // What stands before the first star decides which kind of name it is.
        let first = prepared.split('*').next().unwrap_or_default();
        let kinds = ["iqn.", "eui.", "naa."];
        match kinds.iter().any(|kind| first.starts_with(kind)) {
            true => Ok(NamePattern(prepared)),
            false => Err(PatternError::Kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        pattern.parse::<NamePattern>().unwrap().fits(name)
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, wanted) in [
            ("iqn.2026-01.com.example:*", "iqn.2026-01.com.example:", true),
            ("iqn.2026-01.com.example:*", "iqn.2026-01.com.example:node7", true),
            ("iqn.2026-01.com.example:*", "iqn.2026-01.com.example.evil:node7", false),
            ("iqn.2026-01.com.example:node*-disk", "iqn.2026-01.com.example:node17-disk", true),
            ("iqn.2026-01.com.example:node*-disk", "iqn.2026-01.com.example:node17-disk2", false),
            ("iqn.2026-01.com.example:a*b*c", "iqn.2026-01.com.example:a-b-b-c", true),
            ("iqn.2026-01.com.example:a*b*c", "iqn.2026-01.com.example:ac", false),
            ("iqn.2026-01.com.example:ab*ba", "iqn.2026-01.com.example:aba", false),
            ("IQN.2026-01.COM.EXAMPLE:A*", "iqn.2026-01.com.example:ab", true),
            ("iqn.2026-01.com.example:a", "iqn.2026-01.com.example:a", true),
            ("iqn.2026-01.com.example:a", "iqn.2026-01.com.example:ab", false),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn everybody_has_to_be_written_out() {
        assert_eq!("*".parse::<NamePattern>(), Err(PatternError::Everybody));
        assert_eq!("*:disk".parse::<NamePattern>(), Err(PatternError::Kind));
        assert!(matches!("node7".parse::<NamePattern>(), Err(PatternError::Name(NameError::Kind))));
    }
}
