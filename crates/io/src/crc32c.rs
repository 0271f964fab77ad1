//! CRC32C, the digest of RFC 7143 §13.1: one type before whichever crate computes it.

/// A running CRC32C over bytes that come in pieces.
#[derive(Clone)]
pub struct Crc32c {
    digest: crc_fast::Digest,
}

impl Crc32c {
    /// Over nothing yet.
    pub fn new() -> Crc32c {
        Crc32c { digest: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi) }
    }

    /// The digest of these bytes. On the wire it is little-endian (RFC 7143 Appendix A).
    pub fn over(bytes: &[u8]) -> u32 {
        crc_fast::crc32_iscsi(bytes)
    }

    /// Further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(&self) -> u32 {
        self.digest.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Crc32c::new()
    }
}

impl std::fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc32c({:08x})", self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dig_01_vectors_of_the_standard() {
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        let vectors: [(&[u8], [u8; 4]); 4] = [
            (&[0; 32], [0xaa, 0x36, 0x91, 0x8a]),
            (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (&up, [0x4e, 0x79, 0xdd, 0x46]),
            (&down, [0x5c, 0xdb, 0x3f, 0x11]),
        ];
        for (bytes, wire) in vectors {
            assert_eq!(Crc32c::over(bytes).to_le_bytes(), wire);
        }
    }

    #[test]
    fn dig_01_pieces_give_what_the_whole_gives() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let whole = Crc32c::over(&bytes);
        for cut in [0, 1, 3, 48, 4096, 9_999] {
            let mut crc = Crc32c::new();
            crc.update(&bytes[..cut]);
            crc.update(&bytes[cut..]);
            assert_eq!(crc.finish(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn dig_01_two_implementations_agree() {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for length in (0..300).chain([4095, 4096, 4097, 65_536, 262_144]) {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            assert_eq!(Crc32c::over(&bytes), crc32c::crc32c(&bytes), "{length} bytes");
        }
    }
}
