//! `--isns HOST[:PORT][,OPTION…]`, or `[isns]` in the file: the iSNS server at which the targets are registered, and the listeners for
//! what it asks and tells.

use crate::failure::Failure;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use target::{IsnsSettings, Notified, Portal};

/// Seconds after which a server is asked to forget us when it has heard nothing.
pub const PERIOD: u16 = 300;
/// What may be asked for: from a server that is asked every second to one that remembers for most of a day.
pub const PERIODS: std::ops::RangeInclusive<u16> = 3..=u16::MAX;
/// The longest identifier of an entity (RFC 4171 §6.2.1).
const MAXIMUM_ENTITY: usize = 255;

/// What one option says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isns {
    /// The server and what is asked of it.
    pub settings: IsnsSettings,
    /// The port at which the server reaches us, 0 for a free one; `None`: not at all.
    pub notify: Option<u16>,
}

/// Reads the option.
pub fn parse(text: &str) -> Result<Isns, String> {
    let mut parts = text.split(',');
    let server = server(parts.next().unwrap_or_default())?;
    let (mut entity, mut period, mut notify) = (None, None, None);
    for option in parts {
        let twice = match option.split_once('=') {
            Some(("entity", value)) => entity.replace(self::entity(value)?).is_some(),
            Some(("period", value)) => {
                let seconds = value.parse().ok().filter(|seconds| PERIODS.contains(seconds));
                let wrong = || format!("'{value}' is no period; use {} to {} seconds", PERIODS.start(), PERIODS.end());
                period.replace(seconds.ok_or_else(wrong)?).is_some()
            }
            Some(("notify", "off")) => notify.replace(None).is_some(),
            Some(("notify", value)) => {
                let wrong = || format!("'{value}' is no port; use 0 to 65535 (0: a free one) or off");
                notify.replace(Some(value.parse().map_err(|_| wrong())?)).is_some()
            }
            _ => {
                return Err(format!("'{option}' is no option; there are entity=NAME, period=SECONDS, notify=PORT|off"));
            }
        };
        if twice {
            return Err(format!("{option} says again what was said"));
        }
    }
    let settings = IsnsSettings { server, entity, period: period.unwrap_or(PERIOD).into() };
    Ok(Isns { settings, notify: notify.unwrap_or(Some(0)) })
}

/// A server, `HOST:PORT`, of a text that need not have the port.
pub fn server(text: &str) -> Result<String, String> {
    let port = iscsi::isns::PORT;
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = inner.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port).to_string());
    }
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) => {
            let number = digits.parse::<u16>().ok().filter(|number| *number != 0);
            (host, number.ok_or_else(|| format!("'{digits}' is no port; use 1 to 65535"))?)
        }
        None => (text, port),
    };
    let domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match !host.is_empty() && host.chars().all(domain) {
        true => Ok(format!("{host}:{port}")),
        false => Err("is no server; write isns.example.com, 192.0.2.7:3205 or [2001:db8::7]:3205".into()),
    }
}

/// The identifier of an entity.
pub fn entity(text: &str) -> Result<String, String> {
    // Those the server makes itself.
    if text.to_ascii_lowercase().starts_with("isns:") {
        return Err("names of entities that begin with isns: are the server's own; choose another".into());
    }
    match (1..=MAXIMUM_ENTITY).contains(&text.len()) && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => Ok(text.to_owned()),
        false => Err(format!("the name of an entity has 1 to {MAXIMUM_ENTITY} bytes without blanks")),
    }
}

impl Isns {
    /// One listener for each address of the portals; only one where one of them takes all.
    pub fn bind(&self, portals: &[Portal]) -> Result<Vec<Notified>, Failure> {
        let Some(port) = self.notify else { return Ok(Vec::new()) };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in portals.iter().map(|portal| portal.address.ip()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let wild: HashSet<bool> =
            addresses.iter().filter(|address| address.is_unspecified()).map(IpAddr::is_ipv4).collect();
        addresses.retain(|address| address.is_unspecified() || !wild.contains(&address.is_ipv4()));
        // [::] takes IPv4 too, unless somebody else is to.
        let v4 = addresses.iter().any(IpAddr::is_ipv4);
        let bind = |address: IpAddr| {
            let listener = super::listen(SocketAddr::new(address, port), v4).map_err(|error| {
                Failure::input(format!(
                    "iSNS: port {port} at {address}, where the server is to reach us: {error}; choose another port"
                ))
            })?;
            Ok(Notified { address, listener })
        };
        addresses.into_iter().map(bind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_options() {
        let of = |text| parse(text).map(|isns| (isns.settings.server, isns.settings.period, isns.notify));
        let ok = |server: &str, period, notify| Ok((server.to_owned(), period, notify));
        assert_eq!(of("isns.example.com"), ok("isns.example.com:3205", 300, Some(0)));
        assert_eq!(of("192.0.2.7:99,period=60,notify=off"), ok("192.0.2.7:99", 60, None));
        assert_eq!(of("2001:db8::7,notify=3206"), ok("[2001:db8::7]:3205", 300, Some(3206)));
        assert_eq!(of("[2001:db8::7]:99"), ok("[2001:db8::7]:99", 300, Some(0)));
        assert_eq!(parse("host,entity=nas.example.com").unwrap().settings.entity.as_deref(), Some("nas.example.com"));
        for (text, why) in [
            ("", "no server"),
            ("a b", "no server"),
            ("host:0", "no port"),
            ("host:x", "no port"),
            ("host,period=2", "no period"),
            ("host,notify=65536", "no port"),
            ("host,period=60,period=60", "says again"),
            ("host,entity=isns:0001", "the server's own"),
            ("host,entity=", "1 to 255"),
            ("host,colour=red", "no option"),
        ] {
            let line = parse(text).unwrap_err();
            assert!(line.contains(why), "{text}: {line}");
        }
    }

    #[test]
    fn one_listener_for_each_address_or_one_for_all() {
        let isns = parse("host").unwrap();
        let bound = |portals: &[&str]| -> Vec<String> {
            let portal = |text: &&str| Portal { address: text.parse().unwrap(), group: 1, advertise: None };
            let portals: Vec<_> = portals.iter().map(portal).collect();
            isns.bind(&portals).unwrap().iter().map(|notified| notified.address.to_string()).collect()
        };
        assert_eq!(bound(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.2:1"]), ["127.0.0.1", "127.0.0.2"]);
        assert_eq!(bound(&["127.0.0.1:1", "0.0.0.0:2"]), ["0.0.0.0"]);
        assert!(parse("host,notify=off").unwrap().bind(&[]).unwrap().is_empty());
    }
}
