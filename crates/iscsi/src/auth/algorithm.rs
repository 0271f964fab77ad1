//! The hash functions of CHAP, by their IANA numbers.

use super::Secret;
use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use sha3::Sha3_256;
// All four crates are of one family and share this trait.
use sha2::Digest;

/// A CHAP algorithm (RFC 7143 §12.1.3; IANA, iSCSI CHAP algorithms).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// 5. What every implementation has; broken as a hash, still without a practical attack as CHAP uses it.
    Md5 = 5,
    /// 6.
    Sha1 = 6,
    /// 7.
    Sha256 = 7,
    /// 8.
    Sha3_256 = 8,
}

impl Algorithm {
    /// All of them, strongest first.
    pub const ALL: [Algorithm; 4] = [Algorithm::Sha3_256, Algorithm::Sha256, Algorithm::Sha1, Algorithm::Md5];

    /// The algorithm of a number of CHAP_A. The number is decimal or hexadecimal without leading words.
    pub fn from_number(number: u64) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| *algorithm as u64 == number)
    }

    /// The algorithm of a name, as people write it: `SHA-1`, `sha1`.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        let plain = |name: &str| name.replace('-', "").to_ascii_lowercase();
        Algorithm::ALL.into_iter().find(|algorithm| plain(algorithm.name()) == plain(name))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha1 => "SHA-1",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha3_256 => "SHA3-256",
        }
    }

    /// Bytes of a response, and the fewest of a challenge (CHP-07).
    pub fn digest_bytes(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Sha3_256 => 32,
        }
    }

    /// The response: the hash of identifier, secret and challenge (RFC 1994 §4.1).
    pub fn response(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
        fn over<D: Digest>(identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
            let mut hash = D::new();
            hash.update([identifier]);
            hash.update(secret.bytes());
            hash.update(challenge);
            hash.finalize().to_vec()
        }
        match self {
            Algorithm::Md5 => over::<Md5>(identifier, secret, challenge),
            Algorithm::Sha1 => over::<Sha1>(identifier, secret, challenge),
            Algorithm::Sha256 => over::<Sha256>(identifier, secret, challenge),
            Algorithm::Sha3_256 => over::<Sha3_256>(identifier, secret, challenge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// "abc" as identifier 'a', secret "b", challenge "c": the known answers of each hash of "abc".
    #[test]
    fn chp_03_every_algorithm_gives_its_known_answer() {
        let secret = Secret::weak("b");
        let of = |algorithm: Algorithm| hex(&algorithm.response(b'a', &secret, b"c"));
        assert_eq!(of(Algorithm::Md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(of(Algorithm::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(of(Algorithm::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(of(Algorithm::Sha3_256), "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532");
        for algorithm in Algorithm::ALL {
            assert_eq!(of(algorithm).len(), algorithm.digest_bytes() * 2);
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
    }
}
