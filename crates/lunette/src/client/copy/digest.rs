//! What was copied, as one number that grows with it: for the journal, for --verify and for people.

use clap::ValueEnum;
use io::crc32c::Crc32c;
use sha2::{Digest as _, Sha256};

/// Which checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checksum {
    /// What sha256sum says of the same bytes
    Sha256,
    /// Finds accidents, costs next to nothing
    Crc32c,
}

impl Checksum {
    /// As it is called in JSON and in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Checksum::Sha256 => "sha256",
            Checksum::Crc32c => "crc32c",
        }
    }
}

/// A checksum of the bytes so far.
#[derive(Clone)]
pub enum Running {
    /// SHA-256.
    Sha256(Box<Sha256>),
    /// CRC-32C.
    Crc32c(Box<Crc32c>),
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

/// Zeros that holes are counted with.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Running {
    /// Of nothing.
    pub fn new(kind: Checksum) -> Running {
        match kind {
            Checksum::Sha256 => Running::Sha256(Box::default()),
            Checksum::Crc32c => Running::Crc32c(Box::new(Crc32c::new())),
        }
    }

    /// Of these bytes too.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Running::Sha256(hash) => hash.update(bytes),
            Running::Crc32c(crc) => crc.update(bytes),
        }
    }

    /// Of so many zeros too.
    pub fn update_zeros(&mut self, mut length: u64) {
        while length > 0 {
            let step = length.min(ZEROS.len() as u64);
            self.update(&ZEROS[..step as usize]);
            length -= step;
        }
    }

    /// As hexadecimal digits.
    pub fn text(&self) -> String {
        match self {
            Running::Sha256(hash) => hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            Running::Crc32c(crc) => format!("{:08x}", crc.finish()),
        }
    }
}

/// Whether there are zeros only.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}
