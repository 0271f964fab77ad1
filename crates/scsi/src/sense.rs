//! Sense data (SPC-5 4.4).

/// Encoded sense data, fixed or descriptor format, at most 252 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sense(Box<[u8]>);

impl Sense {
    /// Its bytes as they go on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
