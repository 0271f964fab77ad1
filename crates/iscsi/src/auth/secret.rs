//! Secrets, and the accounts that have them.

use zeroize::Zeroizing;

/// The fewest bytes of a secret that is used without a warning (RFC 7143 §9.2.1: 96 bits).
const MINIMUM: usize = 12;
/// The most bytes of a secret.
const MAXIMUM: usize = 255;

/// A CHAP secret. It is wiped when it is dropped and shows nothing when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a secret is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Fewer than 96 bits.
    #[error(
        "the secret has {0} bytes; CHAP needs at least 12 (96 bits), because whoever hears a login can try shorter ones"
    )]
    TooShort(usize),
    /// More than 255 bytes.
    #[error("the secret has {0} bytes; the longest is 255")]
    TooLong(usize),
}

impl Secret {
    /// A secret of at least 96 bits.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Secret, SecretError> {
        let secret = Zeroizing::new(secret.into());
        match secret.len() {
            length if length < MINIMUM => Err(SecretError::TooShort(length)),
            length if length > MAXIMUM => Err(SecretError::TooLong(length)),
            _ => Ok(Secret(secret)),
        }
    }

    /// A secret of any length; for the initiator's side of a target that was set up so, and for who has
    /// said that he knows what he does.
    pub fn weak(secret: impl Into<Vec<u8>>) -> Secret {
        Secret(Zeroizing::new(secret.into()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret itself, for whoever hands it to another process of his. Never for a log or a listing.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A CHAP name with its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// CHAP_N, taken literally.
    pub user: String,
    /// What it knows.
    pub secret: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chp_11_a_secret_below_96_bits_is_refused_and_says_why() {
        let error = Secret::new("short").unwrap_err();
        assert_eq!(error, SecretError::TooShort(5));
        assert!(error.to_string().contains("at least 12"), "{error}");
        assert_eq!(Secret::new("x".repeat(256)).unwrap_err(), SecretError::TooLong(256));
        for length in [12, 16, 32, 255] {
            assert!(Secret::new("x".repeat(length)).is_ok(), "chp_10: {length} bytes");
        }
    }

    #[test]
    fn chp_18_a_secret_shows_nothing() {
        let account = Account { user: "alice".into(), secret: Secret::new("alice-secret-12").unwrap() };
        assert!(!format!("{account:?}").contains("secret-12"));
    }
}
