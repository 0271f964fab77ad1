//! The answer to SendTargets: names, each with its addresses (RFC 7143 §4.3, Appendix C).

use super::{Target, TargetPortal, add};
use crate::Portal;
use crate::address::PORT;
use iscsi::name::Name;
use iscsi::text;

/// The targets of an answer that came from this portal. The error says what is wrong with it.
pub(super) fn targets(answer: &[u8], asked: &TargetPortal) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    let mut open: Option<(Name, Vec<TargetPortal>)> = None;
    let mut close = |open: Option<(Name, Vec<TargetPortal>)>| {
        if let Some((name, mut portals)) = open {
            // A target without an address is where it was asked for (Appendix C).
            if portals.is_empty() {
                portals.push(asked.clone());
            }
            add(&mut targets, name, portals);
        }
    };
    for pair in text::pairs(answer) {
        match pair.map_err(|error| format!("its list of targets has {error}"))? {
            ("TargetName", name) => {
                let name = Name::lenient(name).map_err(|error| format!("its list of targets has a name: {error}"))?;
                close(open.replace((name, Vec::new())));
            }
            ("TargetAddress", address) => {
                let Some((_, portals)) = &mut open else {
                    return Err("its list of targets has an address before the first name".into());
                };
                portals.push(portal(address, asked)?);
            }
            ("SendTargets", answer) => return Err(format!("it does not do SendTargets ({})", printable(answer))),
            // Keys that a target adds (TargetAlias by some) are not asked for and do no harm.
            _ => {}
        }
    }
    close(open);
    Ok(targets)
}

/// `domainname[:port][,portal-group-tag]`; a number of IPv6 stands in brackets (§13.8).
fn portal(text: &str, asked: &TargetPortal) -> Result<TargetPortal, String> {
    let wrong = || format!("its list of targets has an address that is none: {}", printable(text));
    let (place, group) = match text.rsplit_once(',') {
        Some((place, tag)) => (place, Some(decimal(tag).ok_or_else(wrong)?)),
        None => (text, None),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or_else(wrong)?;
            // A link's own number is of no use without the link.
            let address = host.split('%').next().unwrap_or_default();
            address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (host, behind.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            // Some write IPv6 without brackets, which leaves no room for a port.
            Some(_) if place.parse::<std::net::Ipv6Addr>().is_ok() => (place, None),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:_%".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(legal) {
        return Err(wrong());
    }
    let port = port.map_or(Some(PORT), decimal).filter(|port| *port != 0).ok_or_else(wrong)?;
    // 0.0.0.0 and [::] say that it listens everywhere, and so where it was asked.
    let anywhere = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified());
    let host = if anywhere { asked.portal.host.clone() } else { host.to_owned() };
    Ok(TargetPortal { portal: Portal { host, port }, group })
}

fn decimal(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A stranger's words as one line of bounded length.
fn printable(text: &str) -> String {
    let mut line: String = text.chars().take(80).map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if text.chars().count() > 80 {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> TargetPortal {
        TargetPortal { portal: Portal::new("192.0.2.1", 3260), group: None }
    }

    fn answer(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        pairs.iter().for_each(|(key, value)| text::push(&mut out, key, value));
        out
    }

    #[test]
    fn dsc_names_and_addresses_of_every_form() {
        let text = answer(&[
            ("TargetName", "iqn.2026-11.com.example:a"),
            ("TargetAddress", "192.0.2.7:3261,1"),
            ("TargetAddress", "[2001:db8::7]:3260,2"),
            ("TargetAddress", "nas.example.com"),
            ("TargetAddress", "[2001:db8::8],65535"),
            ("TargetAddress", "0.0.0.0:3262,1"),
            ("TargetName", "iqn.2026-11.com.example:b"),
            ("TargetName", "iqn.2026-11.com.example:a"),
            ("TargetAddress", "192.0.2.7:3261,1"),
        ]);
        let found = targets(&text, &asked()).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|target| {
                (target.name.as_str(), target.portals.iter().map(TargetPortal::to_string).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            told,
            [
                (
                    "iqn.2026-11.com.example:a",
                    vec![
                        "192.0.2.7:3261,1".to_owned(),
                        "[2001:db8::7]:3260,2".into(),
                        "nas.example.com:3260".into(),
                        "[2001:db8::8]:3260,65535".into(),
                        "192.0.2.1:3262,1".into(),
                    ]
                ),
                ("iqn.2026-11.com.example:b", vec!["192.0.2.1:3260".to_owned()]),
            ]
        );
        assert_eq!(targets(&[], &asked()), Ok(Vec::new()));
    }

    #[test]
    fn dsc_what_is_no_list_of_targets_is_said_in_one_line() {
        for pairs in [
            &[("TargetAddress", "192.0.2.7:3260,1")][..],
            &[("TargetName", "two words")],
            &[("TargetName", "iqn.a"), ("TargetAddress", "192.0.2.7:99999")],
            &[("TargetName", "iqn.a"), ("TargetAddress", "192.0.2.7:0")],
            &[("TargetName", "iqn.a"), ("TargetAddress", "[192.0.2.7]:3260")],
            &[("TargetName", "iqn.a"), ("TargetAddress", "192.0.2.7,65536")],
            &[("TargetName", "iqn.a"), ("TargetAddress", "")],
            &[("TargetName", "iqn.a"), ("TargetAddress", "a\nb")],
            &[("SendTargets", "NotUnderstood")],
            &[("SendTargets", "Reject")],
        ] {
            let error = targets(&answer(pairs), &asked()).unwrap_err();
            assert!(!error.contains('\n') && !error.is_empty(), "{pairs:?}: {error}");
        }
        assert!(targets(b"TargetName=iqn.a", &asked()).unwrap_err().contains("closing null byte"));
    }
    proptest::proptest! {
        #[test]
        fn dsc_whatever_a_portal_says_is_a_list_or_one_line(
            pairs in proptest::collection::vec(("TargetName|TargetAddress|SendTargets|X", "[\\[\\]:%,.0-9a-z\\PC]{0,40}"), 0..8),
            garbage in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        ) {
            let mut text = Vec::new();
            pairs.iter().for_each(|(key, value)| text::push(&mut text, key, value));
            for text in [text.clone(), [text, garbage].concat()] {
                match targets(&text, &asked()) {
                    Ok(targets) => {
                        for portal in targets.iter().flat_map(|target| &target.portals) {
                            assert!(portal.portal.port != 0 && !portal.portal.host.is_empty(), "{portal}");
                            // What is written is read again as the same.
                            assert_eq!(super::portal(&portal.to_string(), &asked()).as_ref(), Ok(portal));
                        }
                        assert!(targets.iter().all(|target| !target.portals.is_empty()));
                    }
                    Err(line) => assert!(!line.is_empty() && line.lines().count() == 1, "{line}"),
                }
            }
        }
    }
}
