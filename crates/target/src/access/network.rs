//! An address, or a network in CIDR notation (RFC 4632, RFC 4291).

use std::net::IpAddr;
use std::str::FromStr;

/// The addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// How many bits count.
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor one with a length behind a slash.
    #[error("is no address and no network; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
    Form,
    /// More bits than an address has.
    #[error("has more bits than the {0} of its address")]
    Prefix(u8),
    /// Bits behind the prefix.
    #[error("has bits behind its length; write {0}, or only the address")]
    Host(Network),
}

impl Network {
    /// Whether this address is one of its own. An IPv4 address that came by IPv6 is one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, own_bits) = number(self.address);
        let (other, other_bits) = number(address.to_canonical());
        own_bits == other_bits && (own ^ other) & mask(own_bits, self.prefix) == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let (value, bits) = number(address);
        let Some(prefix) = prefix else {
            return Ok(Network { address: address.to_canonical(), prefix: number(address.to_canonical()).1 });
        };
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|_| digits).ok_or(NetworkError::Form)?;
        if prefix > bits {
            return Err(NetworkError::Prefix(bits));
        }
        let network = value & mask(bits, prefix);
        if network != value {
            let address = match address {
                IpAddr::V4(_) => IpAddr::V4((network as u32).into()),
                IpAddr::V6(_) => IpAddr::V6(network.into()),
            };
            return Err(NetworkError::Host(Network { address, prefix }));
        }
        Ok(Network { address, prefix })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match number(self.address).1 == self.prefix {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

/// An address as a number, and how many bits it has.
fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}

/// The first `prefix` of `bits` bits.
fn mask(bits: u8, prefix: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(bits - prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_networks() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "::1", "192.0.2.1"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "2001:db8::1"),
            ("::ffff:192.0.2.9", "192.0.2.9", "192.0.2.8"),
            ("10.0.0.0/9", "10.127.0.1", "10.128.0.1"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_says_what_would_be_one() {
        for text in ["", "192.0.2", "192.0.2.0/", "192.0.2.0/+8", "192.0.2.0/x", "host.example", "192.0.2.0/24/1"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Form), "{text}");
        }
        assert_eq!("192.0.2.0/33".parse::<Network>(), Err(NetworkError::Prefix(32)));
        assert_eq!("::/129".parse::<Network>(), Err(NetworkError::Prefix(128)));
        let error = "192.0.2.7/24".parse::<Network>().unwrap_err();
        assert_eq!(error.to_string(), "has bits behind its length; write 192.0.2.0/24, or only the address");
        assert_eq!("192.0.2.7/32".parse::<Network>().unwrap().to_string(), "192.0.2.7");
    }
}
