//! The address of a portal as TargetAddress says it: a domain name, an IPv4 address or an IPv6 address in
//! brackets, with a port (RFC 7143 §13.8).

use std::net::{IpAddr, SocketAddr};

/// iSCSI's port (RFC 7143 §13.8).
pub const ISCSI_PORT: u16 = 3260;

/// A host with its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Address(IpAddr),
    Name(String),
}

/// Why a text is no address of a portal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostPortError {
    /// What stands behind the last colon is no port.
    #[error("'{0}' is no port; use 1 to 65535")]
    Port(String),
    /// Neither an address nor a name.
    #[error("is no address and no name; write nas.example.com, 192.0.2.7:3260 or [2001:db8::7]:3260")]
    Host,
    /// 0.0.0.0 and [::] lead nowhere.
    #[error("is an address to listen on, to which nobody can connect")]
    Wildcard,
}

impl HostPort {
    /// An address with a port, or with `port` where it says none. Domain names are not looked up.
    pub fn parse(text: &str, port: u16) -> Result<HostPort, HostPortError> {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = inner.parse::<IpAddr>() {
            return HostPort { host: Host::Address(address), port }.reachable();
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            let port = Some(address.port()).filter(|port| *port != 0);
            let port = port.ok_or_else(|| HostPortError::Port("0".into()))?;
            return HostPort { host: Host::Address(address.ip()), port }.reachable();
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, digits)) => {
                let number = digits.parse::<u16>().ok().filter(|port| *port != 0 && !digits.starts_with('+'));
                (host, number.ok_or_else(|| HostPortError::Port(digits.into()))?)
            }
            None => (text, port),
        };
        if !is_domain(host) {
            return Err(HostPortError::Host);
        }
        Ok(HostPort { host: Host::Name(host.to_ascii_lowercase()), port })
    }

    fn reachable(self) -> Result<HostPort, HostPortError> {
        match &self.host {
            Host::Address(address) if address.is_unspecified() => Err(HostPortError::Wildcard),
            _ => Ok(self),
        }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> HostPort {
        HostPort { host: Host::Address(address.ip()), port: address.port() }
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Labels of letters, digits and hyphens, of which one has a letter (RFC 1123 §2.1).
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nam_08_addresses_and_names_go_there_and_back() {
        for (text, wanted) in [
            ("192.0.2.7", "192.0.2.7:3260"),
            ("192.0.2.7:3261", "192.0.2.7:3261"),
            ("[2001:db8::7]:1", "[2001:db8::7]:1"),
            ("[2001:DB8::7]", "[2001:db8::7]:3260"),
            ("2001:db8::7", "[2001:db8::7]:3260"),
            ("NAS.Example.org", "nas.example.org:3260"),
            ("nas-1:860", "nas-1:860"),
        ] {
            let parsed = HostPort::parse(text, ISCSI_PORT).unwrap();
            assert_eq!(parsed.to_string(), wanted);
            assert_eq!(HostPort::parse(wanted, 1).unwrap(), parsed);
        }
    }

    #[test]
    fn nam_08_what_leads_nowhere_is_refused() {
        for text in ["", "1.2.3", "a_b", "-a.example", "a..b", "two words", "[::1", "host:3260,1"] {
            assert!(HostPort::parse(text, ISCSI_PORT).is_err(), "{text}");
        }
        for text in ["nas:0", "nas:65536", "nas:", "nas:+1", "192.0.2.7:0"] {
            assert!(matches!(HostPort::parse(text, ISCSI_PORT), Err(HostPortError::Port(_))), "{text}");
        }
        for text in ["0.0.0.0", "[::]:3260"] {
            assert_eq!(HostPort::parse(text, ISCSI_PORT), Err(HostPortError::Wildcard));
        }
    }
}
