//! Where to listen, and in which portal group with which access state: `ADDR[:PORT][,group=N][,state=STATE]
//! [,preferred]`.

use crate::failure::Failure;
use lun::GroupSettings;
use scsi::port_groups::AccessState;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use target::{HostPort, ISCSI_PORT as PORT};

/// The portal group of a portal that names none.
pub const GROUP: u16 = 1;

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// Its portal group.
    pub group: u16,
    /// Where initiators reach it, if that is somewhere else.
    pub advertise: Option<HostPort>,
    /// What says so, for messages.
    pub said: String,
}

/// What one option says of its group.
struct Options {
    group: u16,
    state: Option<AccessState>,
    preferred: bool,
}

/// The addresses of all options, and the groups that they make.
pub fn parse(texts: &[String]) -> Result<(Vec<Listen>, Vec<GroupSettings>), Failure> {
    let mut listens: Vec<Listen> = Vec::new();
    let mut groups: Vec<(GroupSettings, Option<&str>)> = Vec::new();
    for text in texts {
        let (place, rest) = text.split_once(',').map_or((text.as_str(), None), |(place, rest)| (place, Some(rest)));
        let Options { group, state, preferred } = options(text, rest)?;
        let wrong = |error| Failure::input(format!("--listen {text}: {error}"));
        for address in portal(place).map_err(wrong)? {
            if address.port() != 0 && listens.iter().any(|other| other.address == address) {
                return Err(Failure::input(format!("--listen {text}: is given twice")));
            }
            listens.push(Listen { address, group, advertise: None, said: format!("--listen {text}") });
        }
        let at = groups.iter().position(|(settings, _)| settings.number == group).unwrap_or_else(|| {
            groups.push((GroupSettings::new(group), None));
            groups.len() - 1
        });
        let (settings, said_by) = &mut groups[at];
        settings.preferred |= preferred;
        if let Some(state) = state {
            if let Some(other) = said_by.filter(|_| settings.state != state) {
                return Err(Failure::input(format!(
                    "--listen {text}: group {group} is {} by --listen {other}; a group has one state",
                    settings.state.name()
                )));
            }
            (settings.state, *said_by) = (state, Some(text.as_str()));
        }
    }
    Ok((listens, groups.into_iter().map(|(settings, _)| settings).collect()))
}

/// The states by their names, for people who have mistyped one.
pub fn states() -> String {
    AccessState::ALL.map(AccessState::name).join(", ")
}

fn options(text: &str, rest: Option<&str>) -> Result<Options, Failure> {
    let wrong = |why: String| Failure::input(format!("--listen {text}: {why}"));
    let (mut group, mut state, mut preferred) = (None, None, false);
    for option in rest.into_iter().flat_map(|rest| rest.split(',')) {
        let twice = || wrong(format!("{option} says again what was said"));
        match option.split_once('=') {
            Some(("group", value)) => {
                let number = value.parse::<u16>().ok().filter(|number| *number != 0);
                let number = number.ok_or_else(|| wrong(format!("'{value}' is no portal group; use 1 to 65535")))?;
                if group.replace(number).is_some() {
                    return Err(twice());
                }
            }
            Some(("state", value)) => {
                let named = AccessState::from_name(value);
                let named = named.ok_or_else(|| wrong(format!("'{value}' is no state; there are {}", states())))?;
                if state.replace(named).is_some() {
                    return Err(twice());
                }
            }
            None if option == "preferred" => preferred = true,
            _ => return Err(wrong(format!("'{option}' is no option; there are group=N, state=STATE and preferred"))),
        }
    }
    Ok(Options { group: group.unwrap_or(GROUP), state, preferred })
}

/// The addresses of a portal, with the port that is meant where none is given; a name can have several.
pub fn portal(place: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = place.parse() {
        return Ok(vec![address]);
    }
    let inner = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(place);
    if let Ok(address) = inner.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, PORT)]);
    }
    let wrong = |why: &str| {
        let help = "give an address or a name, with or without a port: 192.0.2.7, [2001:db8::7]:3260, san.example.com";
        format!("{why}; {help}")
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong(&format!("'{port}' is no port")))?),
        None => (place, PORT),
    };
    let named = host.split('.').all(|label| !label.is_empty()) && host.contains(|c: char| c.is_ascii_alphabetic());
    if !named || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
        return Err(wrong("is no address"));
    }
    let mut addresses: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| wrong(&error.to_string()))?.collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn nam_05_the_port_of_iscsi_is_meant_where_none_is_given() {
        for (text, meant) in [
            ("127.0.0.1", "127.0.0.1:3260"),
            ("0.0.0.0:3261", "0.0.0.0:3261"),
            ("::1", "[::1]:3260"),
            ("[::]", "[::]:3260"),
            ("[2001:db8::7]:1", "[2001:db8::7]:1"),
        ] {
            assert_eq!(portal(text).unwrap(), [meant.parse().unwrap()]);
        }
        let local = portal("localhost:7").unwrap();
        assert!(!local.is_empty() && local.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
        for text in ["", "1.2.3", "no such host", "1.2.3.4:", "1.2.3.4:99999", "[::", "::1]"] {
            assert!(portal(text).unwrap_err().contains("give an address"), "{text}");
        }
    }

    #[test]
    fn portals_of_one_group_share_its_state() {
        let texts = texts(&[
            "192.0.2.1",
            "192.0.2.2:7,group=20,state=non-optimized",
            "192.0.2.3,group=20,preferred",
            "[2001:db8::7],group=20,state=active-non-optimized",
        ]);
        let (listens, groups) = parse(&texts).unwrap();
        let listens: Vec<_> = listens.iter().map(|one| (one.address.to_string(), one.group)).collect();
        let place = |text: &str, group: u16| (text.to_owned(), group);
        assert_eq!(
            listens,
            [
                place("192.0.2.1:3260", 1),
                place("192.0.2.2:7", 20),
                place("192.0.2.3:3260", 20),
                place("[2001:db8::7]:3260", 20)
            ]
        );
        let second = GroupSettings { number: 20, state: AccessState::ActiveNonOptimized, preferred: true };
        assert_eq!(groups, [GroupSettings::new(1), second]);
    }

    #[test]
    fn what_contradicts_or_is_unknown_is_refused_with_its_option() {
        let refused = |all: &[&str]| parse(&texts(all)).unwrap_err().to_string();
        let line = refused(&["192.0.2.1,state=standby", "192.0.2.2,group=1,state=unavailable"]);
        assert_eq!(
            line,
            "--listen 192.0.2.2,group=1,state=unavailable: group 1 is standby by --listen 192.0.2.1,state=standby; a \
             group has one state"
        );
        for (text, why) in [
            ("192.0.2.1,group=0", "no portal group"),
            ("192.0.2.1,group=65536", "no portal group"),
            ("192.0.2.1,group", "no option"),
            ("192.0.2.1,", "no option"),
            ("192.0.2.1,preferred=1", "no option"),
            ("192.0.2.1,state=active", "no state; there are active-optimized"),
            ("192.0.2.1,group=1,group=2", "says again"),
            (",group=1", "give an address"),
        ] {
            let line = refused(&[text]);
            assert!(line.starts_with(&format!("--listen {text}: ")) && line.contains(why), "{line}");
        }
        assert!(refused(&["192.0.2.1", "192.0.2.1:3260,group=2"]).contains("given twice"));
    }
}
