//! Where the load goes: the URL of a disk, or of a floor server.

use std::net::{SocketAddr, ToSocketAddrs};

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub kind: Kind,
}

/// What a server speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// iSCSI: this target, this LUN.
    Iscsi {
        /// The target's name.
        target: String,
        /// The LUN.
        number: u16,
    },
    /// Messages of the same sizes, without a login, over a file of so many bytes (`cargo xtask bench`).
    Floor {
        /// Bytes.
        capacity: u64,
    },
}

impl Place {
    /// `iscsi://HOST[:PORT]/TARGET/LUN` or `floor://HOST:PORT/BYTES`.
    pub fn parse(url: &str) -> Result<Place, String> {
        let wrong = |why: &str| format!("{url}: {why}; write iscsi://HOST[:PORT]/TARGET/LUN");
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("is no URL"))?;
        let (host, path) = rest.split_once('/').ok_or_else(|| wrong("names no target"))?;
        let kind = match (scheme, path.rsplit_once('/')) {
            ("floor", _) => Kind::Floor { capacity: path.parse().map_err(|_| wrong("has no size"))? },
            ("iscsi", Some((target, number))) => {
                let number = number.parse().ok().filter(|number| *number < 16384).ok_or_else(|| wrong("has no LUN"))?;
                Kind::Iscsi { target: target.to_owned(), number }
            }
            ("iscsi", None) => return Err(wrong("has no LUN")),
            _ => return Err(wrong("is of another kind")),
        };
        // With the port of iSCSI where none is given.
        let resolved = host.to_socket_addrs().or_else(|_| (host.trim_matches(['[', ']']), 3260).to_socket_addrs());
        let mut addresses = resolved.map_err(|error| wrong(&error.to_string()))?;
        let address = addresses.next().ok_or_else(|| wrong("has no address"))?;
        Ok(Place { address, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_portal_a_target_and_a_lun() {
        let place = Place::parse("iscsi://127.0.0.1/iqn.2026-11.com.example:a/7").unwrap();
        assert_eq!(place.address.to_string(), "127.0.0.1:3260");
        assert_eq!(place.kind, Kind::Iscsi { target: "iqn.2026-11.com.example:a".into(), number: 7 });
        assert_eq!(Place::parse("iscsi://[::1]:9/t/0").unwrap().address.to_string(), "[::1]:9");
        assert_eq!(Place::parse("floor://127.0.0.1:9/4096").unwrap().kind, Kind::Floor { capacity: 4096 });
        for wrong in
            ["", "iscsi://127.0.0.1", "iscsi://127.0.0.1/t", "iscsi://127.0.0.1/t/99999", "nbd://127.0.0.1/a/1"]
        {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
