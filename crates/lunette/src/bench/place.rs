//! Where the load goes: the address of a disk, or of a floor server.

use initiator::Address;
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
        if let Some(rest) = url.strip_prefix("floor://") {
            let wrong = || format!("{url}: write floor://HOST:PORT/BYTES");
            let (portal, bytes) = rest.split_once('/').ok_or_else(wrong)?;
            let capacity = bytes.parse().map_err(|_| wrong())?;
            let address = portal.parse().map_err(|_| wrong())?;
            return Ok(Place { address, kind: Kind::Floor { capacity } });
        }
        let address: Address = url.parse().map_err(|error: initiator::AddressError| error.to_string())?;
        if address.user.is_some() {
            return Err(format!("{address}: the load logs in without CHAP; measure with `lunette perf` instead"));
        }
        let (Some(target), Some(number)) = (&address.target, address.lun) else {
            return Err(format!("{address}: the target or the LUN is missing; write iscsi://HOST[:PORT]/TARGET/LUN"));
        };
        let mut found = (address.host.as_str(), address.port)
            .to_socket_addrs()
            .map_err(|error| format!("{address}: {}: {error}", address.host))?;
        let socket = found.next().ok_or_else(|| format!("{address}: {} has no address", address.host))?;
        Ok(Place { address: socket, kind: Kind::Iscsi { target: target.clone(), number } })
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
        for wrong in [
            "",
            "iscsi://127.0.0.1",
            "iscsi://127.0.0.1/t",
            "iscsi://127.0.0.1/t/99999",
            "iscsi://a%b@127.0.0.1/t/0",
            "nbd://127.0.0.1/a/1",
            "floor://127.0.0.1:9",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
