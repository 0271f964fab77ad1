//! What tgtadm prints.

use super::manner::Manner;
use super::request::{Error, Failure, Show, Statistics};
use super::view::{Connection, Counters, Session, Target, Unit, View, Wire};
use std::fmt::Write;

/// The text of what shall be shown.
pub fn text(view: &View, show: Show, manner: Manner) -> Result<String, Failure> {
    let mut out = String::new();
    match show {
        Show::Targets => view.targets.iter().for_each(|one| target(&mut out, one, manner)),
        Show::Target(tid) => parameters(&mut out, view.target(tid)?),
        Show::System => system(&mut out, view),
        Show::Portals => {
            for portal in &view.portals {
                line(&mut out, format_args!("Portal: {},{}", portal.address, portal.group));
            }
        }
        // Without accounts not even the heading.
        Show::Accounts if view.accounts.is_empty() => {}
        Show::Accounts => {
            line(&mut out, format_args!("Account list:"));
            view.accounts.iter().for_each(|name| line(&mut out, format_args!("    {name}")));
        }
        Show::Drivers => {
            line(&mut out, format_args!("LLDs:"));
            line(&mut out, format_args!("    iscsi: ready"));
            for target in &view.targets {
                line(&mut out, format_args!("        Target {}: {}", target.tid, target.name));
            }
        }
        Show::Session(tid, sid) => {
            let session = view.target(tid).and_then(|target| target.session(sid));
            for (name, value) in &session.map_err(|_| Failure::from(Error::InvalidRequest))?.parameters {
                line(&mut out, format_args!("{name}={value}"));
            }
        }
        Show::Connections(tid) => {
            for session in &view.target(tid)?.sessions {
                line(&mut out, format_args!("Session: {}", session.sid));
                for connection in &session.connections {
                    line(&mut out, format_args!("    Connection: {}", connection.cid));
                    line(&mut out, format_args!("        Initiator: {}", session.initiator));
                    line(&mut out, format_args!("        IP Address: {}", connection.address));
                }
            }
        }
        Show::Statistics(whose) => statistics(&mut out, view, whose)?,
    }
    Ok(out)
}

fn line(out: &mut String, words: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _ = out.write_fmt(words);
    out.push('\n');
}

fn target(out: &mut String, target: &Target, manner: Manner) {
    let mut say = |depth: usize, words: std::fmt::Arguments<'_>| {
        out.extend(std::iter::repeat_n("    ", depth));
        line(out, words);
    };
    say(0, format_args!("Target {}: {}", target.tid, target.name));
    say(1, format_args!("System information:"));
    say(2, format_args!("Driver: iscsi"));
    say(2, format_args!("State: {}", state(target.ready)));
    if let Some((interval, count)) = target.nop.filter(|_| manner == Manner::V1_0_85) {
        say(2, format_args!("Nop interval: {interval}"));
        say(2, format_args!("Nop count: {count}"));
    }
    say(1, format_args!("I_T nexus information:"));
    for session in &target.sessions {
        say(2, format_args!("I_T nexus: {}", session.sid));
        let alias = session.alias.as_deref().unwrap_or("none");
        match manner {
            Manner::V1_0_85 => say(3, format_args!("Initiator: {} alias: {alias}", session.initiator)),
            Manner::V1_0_24 => say(3, format_args!("Initiator: {}", session.initiator)),
        }
        for connection in &session.connections {
            say(3, format_args!("Connection: {}", connection.cid));
            say(4, format_args!("IP Address: {}", connection.address));
        }
    }
    say(1, format_args!("LUN information:"));
    let controller = (!target.units.iter().any(|unit| unit.lun == 0)).then(|| Unit::controller(target.tid));
    for unit in controller.iter().chain(&target.units) {
        say(2, format_args!("LUN: {}", unit.lun));
        say(3, format_args!("Type: {}", unit.kind));
        say(3, format_args!("SCSI ID: {}", unit.scsi_id));
        say(3, format_args!("SCSI SN: {}", unit.scsi_sn));
        say(3, format_args!("Size: {} MB, Block size: {}", megabytes(unit.size), unit.block_size));
        say(3, format_args!("Online: {}", yes(unit.online)));
        say(3, format_args!("Removable media: {}", yes(unit.removable)));
        say(3, format_args!("Prevent removal: {}", yes(unit.prevent_removal)));
        say(3, format_args!("Readonly: {}", yes(unit.read_only)));
        if manner == Manner::V1_0_85 {
            say(3, format_args!("SWP: {}", yes(unit.software_write_protect)));
            say(3, format_args!("Thin-provisioning: {}", yes(unit.thin)));
        }
        say(3, format_args!("Backing store type: {}", unit.store));
        say(3, format_args!("Backing store path: {}", unit.path.as_deref().unwrap_or("None")));
        say(3, format_args!("Backing store flags: {}", unit.flags));
    }
    say(1, format_args!("Account information:"));
    for name in &target.incoming {
        say(2, format_args!("{name}"));
    }
    if let Some(name) = &target.outgoing {
        say(2, format_args!("{name} (outgoing)"));
    }
    say(1, format_args!("ACL information:"));
    for entry in target.addresses.iter().chain(&target.names) {
        say(2, format_args!("{entry}"));
    }
}

fn parameters(out: &mut String, target: &Target) {
    if let Some((address, port, reason)) = &target.redirect {
        for (name, value) in [("RedirectAddress", address), ("RedirectPort", port), ("RedirectReason", reason)] {
            line(out, format_args!("{name}={value}"));
        }
        return;
    }
    let (interval, count) = target.nop.unwrap_or((0, 0));
    line(out, format_args!("nop_interval={interval}"));
    line(out, format_args!("nop_count={count}"));
    target.parameters.iter().for_each(|(name, value)| line(out, format_args!("{name}={value}")));
}

fn system(out: &mut String, view: &View) {
    let system = &view.system;
    line(out, format_args!("System:"));
    line(out, format_args!("    State: {}", state(system.ready)));
    line(out, format_args!("    debug: {}", if system.debug { "on" } else { "off" }));
    line(out, format_args!("LLDs:"));
    line(out, format_args!("    iscsi: ready"));
    line(out, format_args!("Backing stores:"));
    for (name, flags) in &system.stores {
        match flags {
            Some(flags) => line(out, format_args!("    {name} (bsoflags {flags})")),
            None => line(out, format_args!("    {name}")),
        }
    }
    line(out, format_args!("Device types:"));
    system.device_types.iter().for_each(|name| line(out, format_args!("    {name}")));
    let on = |on| if on { "On" } else { "Off" };
    line(out, format_args!("iSNS:"));
    line(out, format_args!("    iSNS={}", on(system.isns.on)));
    line(out, format_args!("    iSNSServerIP={}", system.isns.server));
    line(out, format_args!("    iSNSServerPort={}", system.isns.port));
    line(out, format_args!("    iSNSAccessControl={}", on(system.isns.access_control)));
}

fn statistics(out: &mut String, view: &View, whose: Statistics) -> Result<(), Failure> {
    let header = "tgt lun sid rd_subm(bytes,cmds) rd_done(bytes,cmds) wr_subm(bytes,cmds) wr_done(bytes,cmds) errs";
    line(out, format_args!("{header}"));
    let mut rows = |target: &Target, lun: Option<u64>, sid: Option<u64>| {
        for unit in target.units.iter().filter(|unit| lun.is_none_or(|lun| lun == unit.lun)) {
            for (session, counters) in unit.counters.iter().filter(|(one, _)| sid.is_none_or(|sid| sid == *one)) {
                counted(out, target.tid, unit.lun, *session, counters);
            }
        }
    };
    match whose {
        Statistics::System => view.targets.iter().for_each(|target| rows(target, None, None)),
        Statistics::Target(tid) => rows(view.target(tid)?, None, None),
        Statistics::Unit(tid, lun) => rows(view.target(tid)?, Some(lun), None),
        Statistics::Session(tid, sid) | Statistics::Connection(tid, sid, _) => {
            let target = view.target(tid)?;
            let session = target.session(sid)?;
            rows(target, None, Some(sid));
            let cid = match whose {
                Statistics::Connection(_, _, cid) => Some(cid),
                _ => None,
            };
            connections(out, session, cid);
        }
    }
    Ok(())
}

fn counted(out: &mut String, tid: u32, lun: u64, sid: u64, counters: &Counters) {
    let Counters { read_submitted, read_done, write_submitted, write_done, errors } = counters;
    let pair = |(bytes, commands): &(u64, u64)| format!("{bytes:>12} {commands:>6}");
    let pairs = [read_submitted, read_done, write_submitted, write_done].map(pair).join(" ");
    line(out, format_args!("{tid:>3} {lun:>3} {sid:>3} {pairs} {errors:>4}"));
}

fn connections(out: &mut String, session: &Session, cid: Option<u32>) {
    let header = "sid cid rxdata_octets txdata_octets dataout_pdus datain_pdus cmd_pdus rsp_pdus";
    line(out, format_args!("\n{header}"));
    for Connection { cid: number, counters, .. } in
        session.connections.iter().filter(|one| cid.is_none_or(|cid| cid == one.cid))
    {
        let Wire { received_bytes, sent_bytes, data_out, data_in, commands, responses } = counters;
        line(
            out,
            format_args!(
                "{:>3} {number:>3} {received_bytes:>13} {sent_bytes:>13} {data_out:>12} {data_in:>11} {commands:>8} \
                 {responses:>8}",
                session.sid
            ),
        );
    }
}

fn state(ready: bool) -> &'static str {
    if ready { "ready" } else { "offline" }
}

fn yes(yes: bool) -> &'static str {
    if yes { "Yes" } else { "No" }
}

/// Bytes as tgt tells megabytes: near the decimal ones, by an integer rule of its own.
fn megabytes(bytes: u64) -> u64 {
    let blocks = i128::from(bytes / 512);
    let rounded = (blocks - (blocks / 625 - 974)) / 1950;
    u64::try_from(rounded).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The listing of the walk-through's fifth step, as tgt 1.0.85 prints it.
    const LISTING: &str = "\
Target 1: iqn.2014-09.com.example:target1
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
        I_T nexus: 2
            Initiator: iqn.1994-05.com.redhat:abc alias: none
            Connection: 0
                IP Address: 127.0.0.1
    LUN information:
        LUN: 0
            Type: controller
            SCSI ID: IET     00010000
            SCSI SN: beaf10
            Size: 0 MB, Block size: 1
            Online: Yes
            Removable media: No
            Prevent removal: No
            Readonly: No
            SWP: No
            Thin-provisioning: No
            Backing store type: null
            Backing store path: None
            Backing store flags: \n        LUN: 1
            Type: disk
            SCSI ID: IET     00010001
            SCSI SN: beaf11
            Size: 5369 MB, Block size: 512
            Online: Yes
            Removable media: No
            Prevent removal: No
            Readonly: No
            SWP: No
            Thin-provisioning: No
            Backing store type: rdwr
            Backing store path: /dev/VolGroup1/work
            Backing store flags: \n    Account information:
        alice
        tgtuser (outgoing)
    ACL information:
        192.168.1.0/24
        ALL
        iqn.1994-05.com.redhat:abc
";

    fn view() -> View {
        let connection =
            Connection { cid: 0, address: "127.0.0.1".into(), counters: Wire { commands: 7, ..Wire::default() } };
        let session = Session {
            sid: 2,
            initiator: "iqn.1994-05.com.redhat:abc".into(),
            connections: vec![connection],
            parameters: vec![("MaxBurstLength".into(), "262144".into())],
            ..Session::default()
        };
        let unit = Unit {
            lun: 1,
            kind: "disk",
            scsi_id: super::super::view::scsi_id(1, 1),
            scsi_sn: super::super::view::serial(1, 1),
            size: 5 << 30,
            block_size: 512,
            store: "rdwr".into(),
            path: Some("/dev/VolGroup1/work".into()),
            counters: vec![(2, Counters { read_done: (4096, 1), ..Counters::default() })],
            ..Unit::controller(1)
        };
        let target = Target {
            tid: 1,
            name: "iqn.2014-09.com.example:target1".into(),
            ready: true,
            sessions: vec![session],
            units: vec![unit],
            incoming: vec!["alice".into()],
            outgoing: Some("tgtuser".into()),
            addresses: vec!["192.168.1.0/24".into(), "ALL".into()],
            names: vec!["iqn.1994-05.com.redhat:abc".into()],
            ..Target::default()
        };
        View { targets: vec![target], accounts: vec!["b".into(), "a".into()], ..View::default() }
    }

    #[test]
    fn the_listing_is_that_of_the_walk_through_in_both_manners() {
        assert_eq!(text(&view(), Show::Targets, Manner::V1_0_85).unwrap(), LISTING);
        let old = text(&view(), Show::Targets, Manner::V1_0_24).unwrap();
        let without = |line: &&str| !line.contains("SWP:") && !line.contains("Thin-provisioning:");
        let expected: Vec<&str> = LISTING.lines().filter(without).collect();
        let expected = expected.join("\n").replace(" alias: none", "") + "\n";
        assert_eq!(old, expected);
        assert_eq!(text(&View::default(), Show::Targets, Manner::V1_0_85).unwrap(), "");
    }

    #[test]
    fn megabytes_are_those_of_tgt() {
        for (bytes, told) in [(0, 0), (5 << 30, 5369), (64 << 20, 67), (1 << 30, 1074), (512, 0), (1 << 40, 1_099_512)]
        {
            assert_eq!(megabytes(bytes), told, "{bytes}");
        }
    }

    #[test]
    fn the_other_listings_have_their_form() {
        let show = |what| text(&view(), what, Manner::V1_0_85).unwrap();
        assert_eq!(show(Show::Accounts), "Account list:\n    b\n    a\n");
        assert_eq!(show(Show::Drivers), "LLDs:\n    iscsi: ready\n        Target 1: iqn.2014-09.com.example:target1\n");
        assert_eq!(show(Show::Session(1, 2)), "MaxBurstLength=262144\n");
        let connections = "Session: 2\n    Connection: 0\n        Initiator: iqn.1994-05.com.redhat:abc\n        IP Address: 127.0.0.1\n";
        assert_eq!(show(Show::Connections(1)), connections);
        let counted = show(Show::Statistics(Statistics::Session(1, 2)));
        let lines: Vec<&str> = counted.lines().collect();
        assert_eq!(
            lines[1],
            "  1   1   2            0      0         4096      1            0      0            0      0    0"
        );
        assert_eq!(lines[2], "");
        assert_eq!(lines[4], "  2   0             0             0            0           0        7        0");
        let failure = text(&view(), Show::Target(2), Manner::V1_0_85).unwrap_err();
        assert_eq!(failure, super::super::request::Error::NoTarget.into());
    }
}
