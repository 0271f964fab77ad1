//! iSCSI names (RFC 7143 §4.2.7), prepared as RFC 3722 says.

/// The longest name, in bytes.
pub const MAXIMUM_NAME: usize = 223;

/// An iSCSI name in its prepared form. Two names that mean the same node are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is no iSCSI name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or more than 223 bytes.
    #[error("an iSCSI name has 1 to 223 bytes, this one has {0}")]
    Length(usize),
    /// A character that names must not have.
    #[error("an iSCSI name has no {0:?}; letters, digits, '-', '.' and ':' are allowed")]
    Character(char),
    /// Characters that cannot be prepared, such as letters of both directions in one label.
    #[error("the name cannot be prepared by RFC 3722: {0}")]
    Unpreparable(String),
    /// Another beginning than iqn., eui. or naa.
    #[error("an iSCSI name begins with iqn., eui. or naa., for example iqn.2026-11.com.example:disk")]
    Kind,
    /// After iqn. there is no year and month with a domain.
    #[error("after iqn. come year, month and a reversed domain name, for example iqn.2026-11.com.example:disk")]
    Qualified,
    /// After eui. there are not 16 hexadecimal digits.
    #[error("after eui. come 16 hexadecimal digits")]
    ExtendedUniqueIdentifier,
    /// After naa. there are not 16 or 32 hexadecimal digits.
    #[error("after naa. come 16 or 32 hexadecimal digits")]
    NetworkAddressAuthority,
}

impl Name {
    /// A name as configuration must have it: prepared, and of one of the three formats.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let name = Name::lenient(text)?;
        // RFC 3722 §5: ASCII punctuation but these is prohibited.
        let allowed = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
        if let Some(wrong) = name.0.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(wrong));
        }
        let is_hex = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let (kind, rest) = name.0.split_once('.').ok_or(NameError::Kind)?;
        match kind {
            "iqn" => qualified(rest)?,
            "eui" if rest.len() == 16 && is_hex(rest) => {}
            "eui" => return Err(NameError::ExtendedUniqueIdentifier),
            "naa" if matches!(rest.len(), 16 | 32) && is_hex(rest) => {}
            "naa" => return Err(NameError::NetworkAddressAuthority),
            _ => return Err(NameError::Kind),
        }
        Ok(name)
    }

    /// A peer's name: prepared, without what could be taken for something else, but of any format. What
    /// is in the field is not always what the standard says, and a name is only compared.
    pub fn lenient(text: &str) -> Result<Name, NameError> {
        if text.is_empty() || text.len() > MAXIMUM_NAME {
            return Err(NameError::Length(text.len()));
        }
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{3002}' | '"' | '\'' | '\\');
        if let Some(wrong) = text.chars().find(|c| forbidden(*c)) {
            return Err(NameError::Character(wrong));
        }
        let prepared = stringprep::nameprep(text).map_err(|error| NameError::Unpreparable(error.to_string()))?;
        // What became one of them only now is no better: a half-width full stop, a full-width quotation mark.
        if let Some(wrong) = prepared.chars().find(|c| forbidden(*c)) {
            return Err(NameError::Character(wrong));
        }
        // Characters that are younger than the profile (U+03F9) become ones that it would have mapped: such a name
        // would be another each time that it is prepared.
        let is_stable = |name: &str| stringprep::nameprep(name).is_ok_and(|again| again == name);
        if !prepared.is_ascii() && !is_stable(&prepared) {
            return Err(NameError::Unpreparable("it is not the same when it is prepared again".to_owned()));
        }
        match prepared.len() {
            1..=MAXIMUM_NAME => Ok(Name(prepared.into_owned())),
            length => Err(NameError::Length(length)),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

/// `yyyy-mm.` and a domain name of at least one label.
fn qualified(rest: &str) -> Result<(), NameError> {
    let (date, rest) = rest.split_once('.').ok_or(NameError::Qualified)?;
    let (year, month) = date.split_once('-').ok_or(NameError::Qualified)?;
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|digit| digit.is_ascii_digit());
    let month_fits = digits(month, 2) && (1..=12).contains(&month.parse::<u8>().unwrap_or(0));
    let domain = rest.split_once(':').map_or(rest, |(domain, _)| domain);
    let labels = domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    if digits(year, 4) && month_fits && labels { Ok(()) } else { Err(NameError::Qualified) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_changes_each_time_it_is_prepared_is_none() {
        assert!(matches!(Name::lenient("a\u{3f9}b"), Err(NameError::Unpreparable(_))));
        assert_eq!(Name::lenient("a\u{3a3}b").map(String::from).as_deref(), Ok("a\u{3c3}b"), "capital sigma");
    }

    #[test]
    fn nam_04_formats() {
        for good in [
            "iqn.2026-11.com.example",
            "iqn.2026-11.com.example:disk.1:a-b",
            "iqn.1991-05.com.microsoft:host",
            "eui.0123456789abcdef",
            "naa.0123456789abcdef",
            "naa.0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(Name::parse(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in [
            "iqn.2026-00.com.example",
            "iqn.2026-13.com.example",
            "iqn.26-11.com.example",
            "iqn.2026-11.",
            "iqn.2026-11.com..example",
            "iqn.2026-11.-com",
            "iqn",
            "eui.0123456789abcde",
            "eui.0123456789abcdef0",
            "eui.0123456789abcdeg",
            "naa.0123456789abcdef0",
            "disk",
            "iqn.2026-11.com.example:a_b",
            "iqn.2026-11.com.example:a/b",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nam_03_names_are_prepared_and_what_is_prohibited_is_refused() {
        let name = Name::parse("IQN.2026-01.COM.EXAMPLE:A").unwrap();
        assert_eq!(name.as_str(), "iqn.2026-01.com.example:a");
        for wrong in ["iqn.2026-01.com.example:a b", "iqn.2026-01.com.example:a\u{3002}b", "iqn.2026-01.com\u{7}"] {
            assert!(matches!(Name::lenient(wrong), Err(NameError::Character(_))), "{wrong:?}");
        }
        let prepared = |text: &str| Name::lenient(text).map(String::from);
        for (wrong, what) in [("a\u{ff61}b", '\u{3002}'), ("a\u{ff02}b", '"'), ("a\u{ff3c}b", '\\')] {
            assert_eq!(prepared(wrong), Err(NameError::Character(what)), "prohibited only once it is prepared");
        }
        // RFC 3722 §3 to §6 (RFC 3454): B.1 maps to nothing, B.2 folds case, C prohibits, section 6 forbids
        // both directions in one name, section 7 has no code points that Unicode 3.2 did not know.
        assert_eq!(prepared("iqn.2026-01.com.example:a\u{ad}\u{200d}b").as_deref(), Ok("iqn.2026-01.com.example:ab"));
        assert_eq!(prepared("iqn.2026-01.com.example:Stra\u{df}e").as_deref(), Ok("iqn.2026-01.com.example:strasse"));
        assert_eq!(prepared("iqn.2026-01.com.example:\u{212b}"), prepared("iqn.2026-01.com.example:a\u{30a}"));
        for wrong in [
            "a\u{e000}b",
            "a\u{fdd0}b",
            "a\u{fffd}b",
            "a\u{2ff0}b",
            "a\u{206a}b",
            "a\u{e0041}b",
            "a\u{5d0}b",
            "a\u{2c60}b",
        ] {
            assert!(matches!(prepared(wrong), Err(NameError::Unpreparable(_))), "{wrong:?}");
        }
        for wrong in "_!#$%&()*+,/;<=>?@[]^`{|}~".chars() {
            let name = format!("iqn.2026-01.com.example:a{wrong}b");
            assert_eq!(Name::parse(&name), Err(NameError::Character(wrong)), "RFC 3722 §6.2");
        }
        // Full-width letters are the same letters (NFKC).
        assert_eq!(Name::lenient("iqn.2026-01.com.example:\u{ff21}").unwrap().as_str(), "iqn.2026-01.com.example:a");
    }

    #[test]
    fn nam_02_up_to_223_bytes() {
        let of = |length: usize| format!("iqn.2026-01.com.example:{}", "a".repeat(length - 24));
        assert_eq!(Name::parse(&of(223)).unwrap().as_str().len(), 223);
        assert_eq!(Name::parse(&of(224)), Err(NameError::Length(224)));
        assert_eq!(Name::parse(""), Err(NameError::Length(0)));
    }

    proptest! {
        #[test]
        fn preparing_twice_is_preparing_once(text in "\\PC{0,80}") {
            if let Ok(name) = Name::lenient(&text) {
                prop_assert_eq!(Name::lenient(name.as_str()), Ok(name));
            }
        }
    }
}
