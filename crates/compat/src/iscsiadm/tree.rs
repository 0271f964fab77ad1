//! Lists of nodes and sessions, flat and as trees.

use super::Session;
use crate::records::{EMPTY, Manner, Node, Portal};
use std::fmt::Write as _;

/// A line for each node.
pub(super) fn flat(nodes: &[Node], manner: Manner) -> String {
    let line = |node: &Node| {
        let place = node.portal.with_colon();
        // A tag that is not known was printed as a number without a sign for some time.
        match manner {
            Manner::V218 => format!("{place},{} {}\n", node.portal.tag.cast_unsigned(), node.target),
            Manner::V873 => format!("{place},{} {}\n", node.portal.tag, node.target),
        }
    };
    nodes.iter().map(line).collect()
}

/// Targets, their portals, their interfaces.
pub(super) fn nodes(nodes: &[Node]) -> String {
    let mut out = String::new();
    let (mut target, mut portal): (Option<&String>, Option<&Portal>) = (None, None);
    for node in nodes {
        if target != Some(&node.target) {
            let _ = writeln!(out, "Target: {}", node.target);
            portal = None;
        }
        if portal != Some(&node.portal) {
            let _ = writeln!(out, "\tPortal: {}", node.portal);
        }
        let _ = writeln!(out, "\t\tIface Name: {}", node.iface);
        (target, portal) = (Some(&node.target), Some(&node.portal));
    }
    out
}

/// A line for each session.
pub(super) fn sessions(sessions: &[Session], manner: Manner) -> String {
    let flash = if manner == Manner::V218 { " (non-flash)" } else { "" };
    let line = |session: &Session| {
        let Session { transport, id, portal, target, .. } = session;
        format!("{transport}: [{id}] {portal} {target}{flash}\n")
    };
    sessions.iter().map(line).collect()
}

/// What a tree of sessions shows beyond their interfaces and states.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sections {
    pub timeouts: bool,
    pub chap: bool,
    pub negotiated: bool,
    pub units: bool,
    /// The SCSI host's number and state.
    pub host: bool,
    /// Secrets as they are.
    pub secrets: bool,
}

/// Sessions as a tree, each line behind `indent`.
pub(super) fn session_tree(sessions: &[Session], manner: Manner, sections: Sections, indent: &str) -> String {
    let mut sessions: Vec<&Session> = sessions.iter().collect();
    // Those of a target stand together, in the order of the first of each.
    let first = |target: &str, all: &[&Session]| all.iter().find(|s| s.target == target).map_or(0, |s| s.id);
    let unsorted = sessions.clone();
    sessions.sort_by_key(|session| (first(&session.target, &unsorted), session.id));
    let mut out = String::new();
    let mut before: Option<&Session> = None;
    for session in sessions {
        let flash = if manner == Manner::V218 { " (non-flash)" } else { "" };
        let same = before.is_some_and(|before| before.target == session.target);
        if !same {
            let _ = writeln!(out, "Target: {}{flash}", session.target);
        }
        match same && before.is_some_and(|b| b.portal == session.portal && b.persistent == session.persistent) {
            true => out.push('\n'),
            false => {
                let _ = writeln!(out, "\tCurrent Portal: {}", session.portal);
                let persistent = Portal { tag: session.portal.tag, ..session.persistent.clone() };
                let _ = writeln!(out, "\tPersistent Portal: {persistent}");
            }
        }
        one(&mut out, session, sections);
        before = Some(session);
    }
    match indent {
        "" => out,
        _ => out.lines().map(|line| format!("{indent}{line}\n")).collect(),
    }
}

fn one(out: &mut String, session: &Session, sections: Sections) {
    let title = |out: &mut String, stars: usize, text: &str| {
        let stars = "*".repeat(stars);
        let _ = writeln!(out, "\t\t{stars}\n\t\t{text}:\n\t\t{stars}");
    };
    title(out, 10, "Interface");
    let id = session.id.to_string();
    for (name, value) in [
        ("Iface Name", &session.iface),
        ("Iface Transport", &session.transport),
        ("Iface Initiatorname", &session.initiator_name),
        ("Iface IPaddress", &session.ip_address),
        ("Iface HWaddress", &session.hardware_address),
        ("Iface Netdev", &session.network_device),
        ("SID", &id),
        ("iSCSI Connection State", &session.connection_state),
        ("iSCSI Session State", &session.session_state),
        ("Internal iscsid Session State", &session.internal_state),
    ] {
        let _ = writeln!(out, "\t\t{name}: {}", or_empty(value));
    }
    if sections.timeouts {
        title(out, 9, "Timeouts");
        let names = ["Recovery Timeout", "Target Reset Timeout", "LUN Reset Timeout", "Abort Timeout"];
        for (name, seconds) in names.into_iter().zip(session.timeouts) {
            let seconds = seconds.map(|seconds| seconds.to_string()).unwrap_or_default();
            let _ = writeln!(out, "\t\t{name}: {}", or_empty(&seconds));
        }
    }
    if sections.chap {
        title(out, 5, "CHAP");
        // The last label is a slip of iscsiadm's that scripts know.
        let last = if sections.secrets { "password" } else { "password_in" };
        for (name, value) in ["username", "password", "username_in", last].into_iter().zip(&session.chap) {
            let masked = name.starts_with("password") && !sections.secrets;
            let _ = writeln!(out, "\t\t{name}: {}", if masked { "********" } else { or_empty(value) });
        }
    }
    if sections.negotiated {
        title(out, 24, "Negotiated iSCSI params");
        for (name, value) in &session.negotiated {
            let _ = writeln!(out, "\t\t{name}: {}", or_empty(value));
        }
    }
    if sections.units {
        title(out, 24, "Attached SCSI devices");
        let host = session.host.unwrap_or(session.id);
        if sections.host {
            let _ = writeln!(out, "\t\tHost Number: {host}\tState: {}", session.host_state);
        }
        for unit in &session.units {
            let _ = writeln!(out, "\t\tscsi{host} Channel 00 Id 0 Lun: {}", unit.lun);
            if let Some(device) = &unit.device {
                let _ = writeln!(out, "\t\t\tAttached scsi disk {device}\t\tState: {}", unit.state);
            }
        }
    }
}

pub(super) fn or_empty(text: &str) -> &str {
    if text.is_empty() { EMPTY } else { text }
}
