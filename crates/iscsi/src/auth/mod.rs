//! CHAP (RFC 7143 §12.1, RFC 1994): who a peer is, shown by what it knows.
//!
//! Both ends' halves of the exchange, without random source and without clock: challenges are given
//! by the caller. Secrets are wiped when they are dropped, never printed, and compared in constant time.

mod algorithm;
mod binary;
mod chap;
mod secret;

pub use algorithm::Algorithm;
pub use binary::{BinaryError, MAXIMUM_BINARY};
pub use chap::{Answer, AuthError, Challenge, Initiator, Keys, Rules, Target};
pub use secret::{Account, Secret, SecretError};
