//! What a node record says, in the words of a holder's request.

use crate::attach::hold::{Request, Via};
use compat::records::{Node, Record};
use initiator::{Account, Algorithm, Chap, DigestOffer, Options, Portal, Secret};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Patience without an end, as far as clocks go.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The largest length of a key of the login (RFC 7143 §13).
const LENGTH_MAX: u32 = (1 << 24) - 1;
/// The most that a wait between logins may be here.
const WAIT_MAX: u32 = 3600;

/// A request for all disks of a node. `name` is ours where the interface has none.
pub fn request(
    node: &Node,
    name: &str,
    alias: Option<&str>,
    via: Via,
    state_dir: Option<PathBuf>,
) -> Result<Request, String> {
    let record = &node.record;
    let transport = record.value("iface.transport_name");
    if transport != "tcp" {
        return Err(format!("iface {}: the transport {transport} is not offered; tcp is", node.iface));
    }
    let portal = Portal::new(node.portal.address.clone(), node.portal.port);
    let mut options = Options::new(portal, node.target.clone());
    bind(&mut options, record, name)?;
    options.initiator_alias = alias.map(str::to_owned);
    options.chap = chap(record, "node.session.auth")?;
    let session = |key: &str| format!("node.session.iscsi.{key}");
    let connection = |key: &str| format!("node.conn[0].iscsi.{key}");
    let yes = |key: &str| record.value(&session(key)) == "Yes";
    let number = |name: &str, low: u32, high: u32| match record.number::<i64>(name) {
        Some(value) => Ok(u32::try_from(value.clamp(low.into(), high.into())).unwrap_or(low)),
        None => Err(format!("{name} = {}: a number is expected", record.value(name))),
    };
    options.initial_r2t = yes("InitialR2T");
    options.immediate_data = yes("ImmediateData");
    options.max_burst_length = number(&session("MaxBurstLength"), 512, LENGTH_MAX)?;
    options.first_burst_length = number(&session("FirstBurstLength"), 512, options.max_burst_length)?;
    options.max_outstanding_r2t = number(&session("MaxOutstandingR2T"), 1, 65_535)?;
    options.time_2_wait = number(&session("DefaultTime2Wait"), 0, WAIT_MAX)?;
    options.time_2_retain = number(&session("DefaultTime2Retain"), 0, WAIT_MAX)?;
    options.connections = u16::try_from(number(&session("MaxConnections"), 1, 64)?).unwrap_or(1);
    options.error_recovery_level = u8::try_from(number(&session("ERL"), 0, 2)?).unwrap_or(0);
    options.max_recv_data_segment_length = number(&connection("MaxRecvDataSegmentLength"), 512, LENGTH_MAX)?;
    options.header_digest = digest(record.value(&connection("HeaderDigest")));
    options.data_digest = digest(record.value(&connection("DataDigest")));
    options.queue_depth = number("node.session.cmds_max", 1, 65_536)?;
    let seconds = |name: &str, low: u32| Ok::<_, String>(Duration::from_secs(number(name, low, 86_400)?.into()));
    options.login_timeout = seconds("node.conn[0].timeo.login_timeout", 1)?;
    options.logout_timeout = seconds("node.conn[0].timeo.logout_timeout", 1)?;
    options.nop_interval = seconds("node.conn[0].timeo.noop_out_interval", 0)?;
    options.nop_timeout = seconds("node.conn[0].timeo.noop_out_timeout", 1)?;
    options.replacement_timeout = match record.number::<i64>("node.session.timeo.replacement_timeout") {
        Some(value) if value < 0 => FOREVER,
        _ => seconds("node.session.timeo.replacement_timeout", 0)?,
    };
    Ok(Request {
        login_retries: number("node.session.initial_login_retry_max", 0, 1000)?,
        via,
        state_dir,
        record: Some(label(node, 1)),
        ..Request::new(options)
    })
}

/// Our name, and what the session's connections are bound to.
pub fn bind(options: &mut Options, record: &Record, name: &str) -> Result<(), String> {
    let bound = |field: &str| match record.value(field) {
        "" | "default" => None,
        value => Some(value.to_owned()),
    };
    options.initiator_name = bound("iface.initiatorname").unwrap_or_else(|| name.to_owned());
    if let Some(address) = bound("iface.ipaddress") {
        let address: IpAddr = address.parse().map_err(|_| format!("iface.ipaddress = {address}: no address"))?;
        options.local_address = Some(address);
    }
    options.device = match (bound("iface.net_ifacename"), bound("iface.hwaddress")) {
        (Some(device), _) => Some(device),
        (None, Some(hardware)) => Some(
            device_of(&hardware).ok_or_else(|| format!("iface.hwaddress = {hardware}: no network device has it"))?,
        ),
        (None, None) => None,
    };
    Ok(())
}

/// The network device with this hardware address.
fn device_of(hardware: &str) -> Option<String> {
    fs::read_dir("/sys/class/net").ok()?.flatten().find_map(|entry| {
        let address = fs::read_to_string(entry.path().join("address")).ok()?;
        address.trim().eq_ignore_ascii_case(hardware).then(|| entry.file_name().into_string().ok())?
    })
}

/// How a record has us show who we are; `prefix` is what its fields begin with.
pub fn chap(record: &Record, prefix: &str) -> Result<Option<Chap>, String> {
    let value = |name: &str| record.value(&format!("{prefix}.{name}"));
    if value("authmethod") != "CHAP" {
        return Ok(None);
    }
    if value("username").is_empty() || value("password").is_empty() {
        return Err(format!("{prefix}.authmethod is CHAP, and {prefix}.username or {prefix}.password is not set"));
    }
    let account = |user: &str, secret: &str| Account {
        user: value(user).to_owned(),
        secret: Secret::weak(value(secret).as_bytes().to_vec()),
    };
    let mutual = !value("password_in").is_empty();
    let names = record.value("node.session.auth.chap_algs");
    let algorithms: Vec<Algorithm> = names.split(',').filter_map(|name| Algorithm::from_name(name.trim())).collect();
    Ok(Some(Chap {
        account: account("username", "password"),
        mutual: mutual.then(|| account("username_in", "password_in")),
        algorithms: if algorithms.is_empty() { vec![Algorithm::Md5] } else { algorithms },
    }))
}

fn digest(word: &str) -> DigestOffer {
    match word {
        "CRC32C" => DigestOffer::Required,
        "CRC32C,None" => DigestOffer::Preferred,
        "None,CRC32C" => DigestOffer::Allowed,
        _ => DigestOffer::None,
    }
}

/// What a session's directory says of the record that it was made of: as links between records are named, and behind
/// it which of the record's sessions it is, where it is not the first.
pub fn label(node: &Node, number: u32) -> String {
    let which = if number > 1 { format!("#{number}") } else { String::new() };
    format!("{},{},{},{}{which}", node.target, node.portal.with_comma(), node.portal.tag, node.iface)
}

/// What [`label`] wrote: the portal and the interface's name.
pub fn of_label(label: &str) -> Option<(compat::records::Portal, String)> {
    let label = label.split('#').next()?;
    let (rest, iface) = label.rsplit_once(',')?;
    let (_, portal) = rest.split_once(',')?;
    Some((compat::records::Portal::of_name(portal)?, iface.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use compat::records::{Class, Database, Portal, TAG_UNKNOWN};

    fn node(fields: &[(&str, &str)]) -> Node {
        let mut defaults = Record::new(Class::Node);
        fields.iter().for_each(|(name, value)| defaults.set(name, value));
        let portal = Portal { address: "fe80::1".to_owned(), port: 3261, tag: TAG_UNKNOWN };
        let iface = Database::open(None).iface("default").unwrap();
        Node::new(&defaults, "iqn.a:b", &portal, &iface).unwrap()
    }

    fn options(fields: &[(&str, &str)]) -> Options {
        request(&node(fields), "iqn.me", None, Via::Auto, None).unwrap().options
    }

    #[test]
    fn every_setting_of_a_record_reaches_the_login() {
        let plain = request(&node(&[]), "iqn.me", Some("alias"), Via::Fuse, None).unwrap();
        assert_eq!(plain.options.portal.to_string(), "[fe80::1]:3261");
        assert_eq!((plain.options.initiator_name.as_str(), plain.login_retries), ("iqn.me", 4));
        assert_eq!((plain.options.first_burst_length, plain.options.max_burst_length), (262_144, 16_776_192));
        assert_eq!(plain.options.replacement_timeout, Duration::from_secs(120));
        assert!(plain.options.chap.is_none());
        let set = options(&[
            ("node.session.iscsi.InitialR2T", "Yes"),
            ("node.session.iscsi.ERL", "2"),
            ("node.session.iscsi.MaxConnections", "4"),
            ("node.conn[0].iscsi.HeaderDigest", "CRC32C,None"),
            ("node.conn[0].iscsi.DataDigest", "CRC32C"),
            ("node.conn[0].timeo.noop_out_interval", "0"),
            ("node.session.timeo.replacement_timeout", "-1"),
            ("node.session.cmds_max", "64"),
            ("node.session.auth.authmethod", "CHAP"),
            ("node.session.auth.username", "me"),
            ("node.session.auth.password", "my secret of 18"),
            ("node.session.auth.password_in", "their secret"),
            ("node.session.auth.chap_algs", "SHA256,MD5"),
        ]);
        assert!(set.initial_r2t && set.immediate_data);
        assert_eq!((set.error_recovery_level, set.connections, set.queue_depth), (2, 4, 64));
        assert_eq!((set.header_digest, set.data_digest), (DigestOffer::Preferred, DigestOffer::Required));
        assert_eq!((set.nop_interval, set.replacement_timeout), (Duration::ZERO, FOREVER));
        let chap = set.chap.unwrap();
        assert_eq!(chap.algorithms, [Algorithm::Sha256, Algorithm::Md5]);
        assert!(chap.account.user == "me" && chap.mutual.is_some());
    }

    #[test]
    fn what_cannot_be_done_is_told_and_not_left_out() {
        let refused = |fields: &[(&str, &str)]| {
            let mut node = node(&[]);
            fields.iter().for_each(|(name, value)| node.record.set(name, value));
            request(&node, "iqn.me", None, Via::Auto, None).unwrap_err()
        };
        assert!(refused(&[("iface.transport_name", "iser")]).contains("iser"));
        assert!(refused(&[("iface.hwaddress", "02:00:00:00:00:77")]).contains("02:00:00:00:00:77"));
        assert!(refused(&[("node.session.auth.authmethod", "CHAP")]).contains("node.session.auth.username"));
        assert!(refused(&[("node.session.cmds_max", "many")]).contains("many"));
    }

    #[test]
    fn a_sessions_label_leads_back_to_its_record() {
        let node = node(&[]);
        for number in [1, 2] {
            let (portal, iface) = of_label(&label(&node, number)).unwrap();
            assert_eq!((&portal, iface.as_str()), (&node.portal, "default"));
        }
        assert_ne!(label(&node, 1), label(&node, 2));
    }
}
