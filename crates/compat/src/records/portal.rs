//! Where a target is reached, as it is written on command lines and in names of files.

use std::fmt;

/// The tag of a portal group that nobody told.
pub const TAG_UNKNOWN: i32 = -1;

/// An address, a port, and the portal group's tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Portal {
    /// An IPv4 or IPv6 address without brackets, or a host's name.
    pub address: String,
    /// The TCP port.
    pub port: u16,
    /// The portal group's tag; [`TAG_UNKNOWN`] where it is not known.
    pub tag: i32,
}

/// What a portal on a command line leaves open, it leaves open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortalPattern {
    /// An address without brackets, or a host's name.
    pub address: String,
    /// The TCP port, where it was told.
    pub port: Option<u16>,
    /// The portal group's tag, where it was told.
    pub tag: Option<i32>,
}

impl PortalPattern {
    /// Reads `address[:port][,tag]`, an IPv6 address in brackets where a port follows; none where it is no portal.
    pub fn read(text: &str) -> Option<PortalPattern> {
        let (place, tag) = match text.rsplit_once(',') {
            Some((place, tag)) => (place, Some(tag.parse().ok().filter(|tag| (-1..=65535).contains(tag))?)),
            None => (text, None),
        };
        let (address, port) = if let Some(rest) = place.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok().or_else(|| scoped(address))?;
            match rest {
                "" => (address, None),
                _ => (address, Some(rest.strip_prefix(':')?)),
            }
        } else if place.parse::<std::net::Ipv6Addr>().is_ok() || scoped(place).is_some() {
            (place, None)
        } else {
            match place.split_once(':') {
                Some((address, port)) => (address, Some(port)),
                None => (place, None),
            }
        };
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
            None => None,
        };
        is_component(address).then(|| PortalPattern { address: address.to_owned(), port, tag })
    }

    /// Whether a portal is one of those that are meant. A tag is no part of it: iscsiadm looks for address and port.
    pub fn fits(&self, portal: &Portal) -> bool {
        self.address.eq_ignore_ascii_case(&portal.address) && self.port.is_none_or(|port| port == portal.port)
    }

    /// The portal, with these where nothing was told.
    pub fn or(&self, port: u16, tag: i32) -> Portal {
        Portal { address: self.address.clone(), port: self.port.unwrap_or(port), tag: self.tag.unwrap_or(tag) }
    }
}

/// An IPv6 address with its zone.
fn scoped(address: &str) -> Option<std::net::Ipv6Addr> {
    let (address, zone) = address.split_once('%')?;
    (!zone.is_empty()).then(|| address.parse().ok())?
}

/// Whether a text may be a part of a path: it is no other directory, and not hidden.
pub fn is_component(text: &str) -> bool {
    let visible = !text.is_empty() && !text.starts_with('.') && text.len() <= 223;
    visible && !text.contains(|c: char| c == '/' || c.is_control() || c == ' ')
}

impl Portal {
    /// `address,port`, as it names directories and stands in messages.
    pub fn with_comma(&self) -> String {
        format!("{},{}", self.address, self.port)
    }

    /// `address:port`, with brackets around an IPv6 address.
    pub fn with_colon(&self) -> String {
        match self.address.contains(':') {
            true => format!("[{}]:{}", self.address, self.port),
            false => format!("{}:{}", self.address, self.port),
        }
    }

    /// What a name of a file or directory says: `address,port` or `address,port,tag`.
    pub fn of_name(name: &str) -> Option<Portal> {
        let mut parts = name.rsplitn(3, ',');
        let (last, middle, first) = (parts.next()?, parts.next()?, parts.next());
        match first {
            Some(address) => {
                Some(Portal { address: address.to_owned(), port: middle.parse().ok()?, tag: last.parse().ok()? })
            }
            None => Some(Portal { address: middle.to_owned(), port: last.parse().ok()?, tag: TAG_UNKNOWN }),
        }
    }
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.with_colon(), self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portals_of_command_lines_are_read() {
        let read = |text| PortalPattern::read(text).map(|p| (p.address, p.port, p.tag));
        let told = |address: &str, port, tag| Some((address.to_owned(), port, tag));
        assert_eq!(read("192.168.1.11"), told("192.168.1.11", None, None));
        assert_eq!(read("192.168.1.11:99,2"), told("192.168.1.11", Some(99), Some(2)));
        assert_eq!(read("[fe80::1]:3260,1"), told("fe80::1", Some(3260), Some(1)));
        assert_eq!(read("fe80::1"), told("fe80::1", None, None));
        assert_eq!(read("[fe80::1%eth0]:1"), told("fe80::1%eth0", Some(1), None));
        assert_eq!(read("host.name"), told("host.name", None, None));
        for wrong in ["", "1.2.3.4:99999", "1.2.3.4:abc", "1.2.3.4,abc", "[::1", "[x]:1", "../up", "a/b:1", "1.2.3.4:0"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_directories_are_portals() {
        let portal = Portal::of_name("fe80::1,3260,2").expect("a portal");
        assert_eq!(portal.to_string(), "[fe80::1]:3260,2");
        assert_eq!(Portal::of_name("192.168.1.11,3260").expect("a portal").tag, TAG_UNKNOWN);
        assert_eq!(Portal::of_name("st_config"), None);
    }
}
