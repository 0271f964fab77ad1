//! Sessions that the kernel has, in iscsiadm's words: those of open-iscsi beside us, and those that we made it have.

use attach::kernel::KnownSession;
use compat::iscsiadm::{Session, Unit};
use compat::records::{Portal, TAG_UNKNOWN};
use std::fs;

/// All of them, by their numbers.
pub fn sessions() -> Vec<Session> {
    attach::kernel::sessions().into_iter().map(session).collect()
}

fn session(known: KnownSession) -> Session {
    let of = |name: &str| known.session_attributes.get(name).cloned().unwrap_or_default();
    let of_connection = |name: &str| known.connection_attributes.get(name).cloned().unwrap_or_default();
    let tag = known.portal_group_tag.map_or(TAG_UNKNOWN, i32::from);
    let portal = |address: &str, port: &str| Portal {
        address: of_connection(address),
        port: of_connection(port).parse().unwrap_or(3260),
        tag,
    };
    let persistent = portal("persistent_address", "persistent_port");
    // One that is not connected has no other.
    let current = Some(portal("address", "port")).filter(|portal| !portal.address.is_empty());
    let host_file = known.host.map(|host| format!("/sys/class/iscsi_host/host{host}/ipaddress"));
    let yes = |value: String| if value == "1" { "Yes" } else { "No" }.to_owned();
    let digest = |value: String| if value == "1" { "CRC32C" } else { "None" }.to_owned();
    let negotiated = [
        ("HeaderDigest", digest(of_connection("header_digest"))),
        ("DataDigest", digest(of_connection("data_digest"))),
        ("MaxRecvDataSegmentLength", of_connection("max_recv_dlength")),
        ("MaxXmitDataSegmentLength", of_connection("max_xmit_dlength")),
        ("FirstBurstLength", of("first_burst_len")),
        ("MaxBurstLength", of("max_burst_len")),
        ("ImmediateData", yes(of("immediate_data"))),
        ("InitialR2T", yes(of("initial_r2t"))),
        ("MaxOutstandingR2T", of("max_outstanding_r2t")),
    ];
    let (connection_state, internal_state) = match known.state.as_str() {
        "LOGGED_IN" => ("LOGGED IN", "NO CHANGE"),
        "FAILED" => ("TRANSPORT WAIT", "REOPEN"),
        _ => ("FREE", "NO CHANGE"),
    };
    let secret = |name: &str| word(&format!("/sys/class/iscsi_session/session{}/{name}", known.session));
    let with = known.disks.iter().map(|disk| Unit {
        lun: disk.lun,
        device: Some(disk.name.clone()),
        state: disk.state.clone(),
    });
    let without = known.others.iter().map(|(lun, state)| Unit { lun: *lun, device: None, state: state.clone() });
    let mut units: Vec<Unit> = with.chain(without).collect();
    units.sort_by_key(|unit| unit.lun);
    Session {
        id: known.session,
        handle: "kernel".to_owned(),
        transport: "tcp".to_owned(),
        portal: current.unwrap_or_else(|| persistent.clone()),
        persistent,
        iface: if known.interface.is_empty() { "default".to_owned() } else { known.interface.clone() },
        initiator_name: known.initiator.clone(),
        ip_address: host_file.map(|path| word(&path)).unwrap_or_default(),
        // What a session is bound to stands in its record; the kernel has one word for that it is to nothing.
        hardware_address: "default".to_owned(),
        network_device: "default".to_owned(),
        connection_state: connection_state.to_owned(),
        session_state: known.state.clone(),
        internal_state: internal_state.to_owned(),
        timeouts: ["recovery_tmo", "tgt_reset_tmo", "lu_reset_tmo", "abort_tmo"].map(|name| of(name).parse().ok()),
        chap: [of("username"), secret("password"), of("username_in"), secret("password_in")],
        negotiated: negotiated.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        host: known.host,
        host_state: known.host_state.clone(),
        units,
        target: known.target,
    }
}

/// What a file of /sys says; empty where it says nothing.
fn word(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    match text.trim() {
        "(null)" | "<NULL>" => String::new(),
        word => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attach::kernel::Disk;

    #[test]
    fn a_session_of_the_kernel_is_told_with_its_disks() {
        let attributes = |rows: &[(&str, &str)]| rows.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let told = session(KnownSession {
            session: 7,
            target: "iqn.a".into(),
            initiator: "iqn.me".into(),
            portal: "10.0.0.1:3260".into(),
            portal_group_tag: Some(1),
            interface: "default".into(),
            state: "LOGGED_IN".into(),
            host: Some(3),
            replacement_timeout: Some(120),
            host_state: "running".into(),
            session_attributes: attributes(&[("recovery_tmo", "120"), ("immediate_data", "1"), ("initial_r2t", "0")]),
            connection_attributes: attributes(&[
                ("persistent_address", "10.0.0.1"),
                ("persistent_port", "3261"),
                ("header_digest", "1"),
            ]),
            disks: vec![Disk { lun: 1, address: "3:0:0:1".into(), name: "sdb".into(), state: "running".into() }],
            others: vec![(0, "running".into())],
        });
        assert_eq!((told.id, told.host, told.portal.to_string().as_str()), (7, Some(3), "10.0.0.1:3261,1"));
        assert_eq!(
            told.units,
            [
                Unit { lun: 0, device: None, state: "running".into() },
                Unit { lun: 1, device: Some("sdb".into()), state: "running".into() },
            ]
        );
        let agreed = |name: &str, value: &str| told.negotiated.contains(&(name.to_owned(), value.to_owned()));
        assert!(agreed("HeaderDigest", "CRC32C") && agreed("ImmediateData", "Yes") && agreed("InitialR2T", "No"));
        assert_eq!((told.timeouts[0], told.timeouts[1]), (Some(120), None));
    }
}
