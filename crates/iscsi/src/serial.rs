//! Serial number arithmetic (RFC 1982, RFC 7143 §4.2.2): numbers of 32 bits that wrap.

/// Whether `a` comes before `b`.
pub fn precedes(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// Whether `a` comes before `b` or is the same.
pub fn at_most(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csn_01_numbers_compare_across_the_wrap() {
        assert!(precedes(u32::MAX, 0));
        assert!(precedes(0x7fff_ffff, 0x8000_0000));
        assert!(!precedes(0, u32::MAX));
        assert!(!precedes(5, 5));
        assert!(at_most(5, 5));
        assert!(at_most(u32::MAX - 1, 3));
    }
}
