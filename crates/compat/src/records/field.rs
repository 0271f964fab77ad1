//! Every field of a record, once: its name, what its values are, what it is where nobody set it.
//!
//! The order of the rows is the order in which records are printed and written.

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text, and empty where nobody set it.
    Text,
    /// A text that is shown as asterisks.
    Secret,
    /// A whole number, which may be negative.
    Number,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// CHAP algorithms in the order of preference, with commas between them.
    Algorithms,
}

/// A field of a record.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its whole name.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// Its value where nobody set it; empty means that it is not there.
    pub default: &'static str,
}

const fn text(name: &'static str, default: &'static str) -> Field {
    Field { name, kind: Kind::Text, default }
}

const fn secret(name: &'static str) -> Field {
    Field { name, kind: Kind::Secret, default: "" }
}

const fn number(name: &'static str, default: &'static str) -> Field {
    Field { name, kind: Kind::Number, default }
}

const fn choice(name: &'static str, words: &'static [&'static str], default: &'static str) -> Field {
    Field { name, kind: Kind::Choice(words), default }
}

const STARTUP: &[&str] = &["manual", "automatic", "onboot"];
const YES_NO: &[&str] = &["Yes", "No"];
const DIGEST: &[&str] = &["None", "CRC32C", "CRC32C,None", "None,CRC32C"];
const AUTHENTICATION: &[&str] = &["None", "CHAP"];
const ALGORITHMS: Field = Field { name: "node.session.auth.chap_algs", kind: Kind::Algorithms, default: "MD5" };

/// The words of a list of CHAP algorithms.
pub const ALGORITHM_NAMES: &[&str] = &["MD5", "SHA1", "SHA256", "SHA3-256"];

/// A node record before its interface.
pub const NODE_HEAD: &[Field] = &[
    text("node.name", ""),
    number("node.tpgt", "-1"),
    choice("node.startup", STARTUP, "manual"),
    choice("node.leading_login", YES_NO, "No"),
];

/// An interface before what depends on the version of IP.
pub const IFACE_HEAD: &[Field] = &[
    text("iface.iscsi_ifacename", "default"),
    text("iface.net_ifacename", ""),
    text("iface.ipaddress", ""),
    number("iface.prefix_len", "0"),
    text("iface.hwaddress", ""),
    text("iface.transport_name", "tcp"),
    text("iface.initiatorname", ""),
    text("iface.state", ""),
    number("iface.vlan_id", "0"),
    number("iface.vlan_priority", "0"),
    text("iface.vlan_state", ""),
    number("iface.iface_num", "0"),
    number("iface.mtu", "0"),
    number("iface.port", "0"),
];

/// What an interface has for version 4 of IP, and where no version was told.
pub const IFACE_IPV4: &[Field] = &[
    text("iface.bootproto", ""),
    text("iface.subnet_mask", ""),
    text("iface.gateway", ""),
    text("iface.dhcp_alt_client_id_state", ""),
    text("iface.dhcp_alt_client_id", ""),
    text("iface.dhcp_dns", ""),
    text("iface.dhcp_learn_iqn", ""),
    text("iface.dhcp_req_vendor_id_state", ""),
    text("iface.dhcp_vendor_id_state", ""),
    text("iface.dhcp_vendor_id", ""),
    text("iface.dhcp_slp_da", ""),
    text("iface.fragmentation", ""),
    text("iface.gratuitous_arp", ""),
    text("iface.incoming_forwarding", ""),
    text("iface.tos_state", ""),
    number("iface.tos", "0"),
    number("iface.ttl", "0"),
];

/// What an interface may have for version 6: shown and written where somebody set one of them.
pub const IFACE_IPV6: &[Field] = &[
    text("iface.ipv6_autocfg", ""),
    text("iface.linklocal_autocfg", ""),
    text("iface.router_autocfg", ""),
    text("iface.ipv6_linklocal", ""),
    text("iface.ipv6_router", ""),
    number("iface.dup_addr_detect_cnt", ""),
    number("iface.flow_label", ""),
    text("iface.gratuitous_neighbor_adv", ""),
    number("iface.hop_limit", ""),
    text("iface.mld", ""),
    number("iface.nd_reachable_tmo", ""),
    number("iface.nd_rexmit_time", ""),
    number("iface.nd_stale_tmo", ""),
    number("iface.router_adv_link_mtu", ""),
    number("iface.traffic_class", ""),
];

/// The rest of an interface.
pub const IFACE_TAIL: &[Field] = &[
    text("iface.delayed_ack", ""),
    text("iface.tcp_nagle", ""),
    text("iface.tcp_wsf_state", ""),
    number("iface.tcp_wsf", "0"),
    number("iface.tcp_timer_scale", "0"),
    text("iface.tcp_timestamp", ""),
    text("iface.redirect", ""),
    number("iface.def_task_mgmt_timeout", "0"),
    text("iface.header_digest", ""),
    text("iface.data_digest", ""),
    text("iface.immediate_data", ""),
    text("iface.initial_r2t", ""),
    text("iface.data_seq_inorder", ""),
    text("iface.data_pdu_inorder", ""),
    number("iface.erl", "0"),
    number("iface.max_receive_data_len", "0"),
    number("iface.first_burst_len", "0"),
    number("iface.max_outstanding_r2t", "0"),
    number("iface.max_burst_len", "0"),
    text("iface.chap_auth", ""),
    text("iface.bidi_chap", ""),
    text("iface.strict_login_compliance", ""),
    text("iface.discovery_auth", ""),
    text("iface.discovery_logout", ""),
];

/// A node record behind its interface.
pub const NODE_TAIL: &[Field] = &[
    text("node.discovery_address", ""),
    number("node.discovery_port", "0"),
    choice("node.discovery_type", &["send_targets", "isns", "offload_send_targets", "slp", "static", "fw"], "static"),
    number("node.session.initial_cmdsn", "0"),
    number("node.session.initial_login_retry_max", "4"),
    number("node.session.xmit_thread_priority", "-20"),
    number("node.session.cmds_max", "128"),
    number("node.session.queue_depth", "32"),
    number("node.session.nr_sessions", "1"),
    choice("node.session.auth.authmethod", AUTHENTICATION, "None"),
    text("node.session.auth.username", ""),
    secret("node.session.auth.password"),
    text("node.session.auth.username_in", ""),
    secret("node.session.auth.password_in"),
    ALGORITHMS,
    number("node.session.timeo.replacement_timeout", "120"),
    number("node.session.err_timeo.abort_timeout", "15"),
    number("node.session.err_timeo.lu_reset_timeout", "30"),
    number("node.session.err_timeo.tgt_reset_timeout", "30"),
    number("node.session.err_timeo.host_reset_timeout", "60"),
    choice("node.session.iscsi.FastAbort", YES_NO, "Yes"),
    choice("node.session.iscsi.InitialR2T", YES_NO, "No"),
    choice("node.session.iscsi.ImmediateData", YES_NO, "Yes"),
    number("node.session.iscsi.FirstBurstLength", "262144"),
    number("node.session.iscsi.MaxBurstLength", "16776192"),
    number("node.session.iscsi.DefaultTime2Retain", "0"),
    number("node.session.iscsi.DefaultTime2Wait", "2"),
    number("node.session.iscsi.MaxConnections", "1"),
    number("node.session.iscsi.MaxOutstandingR2T", "1"),
    number("node.session.iscsi.ERL", "0"),
    choice("node.session.scan", &["manual", "auto"], "auto"),
    number("node.session.reopen_max", "0"),
    text("node.conn[0].address", ""),
    number("node.conn[0].port", "3260"),
    choice("node.conn[0].startup", STARTUP, "manual"),
    number("node.conn[0].tcp.window_size", "524288"),
    number("node.conn[0].tcp.type_of_service", "0"),
    number("node.conn[0].timeo.logout_timeout", "15"),
    number("node.conn[0].timeo.login_timeout", "30"),
    number("node.conn[0].timeo.auth_timeout", "45"),
    number("node.conn[0].timeo.noop_out_interval", "5"),
    number("node.conn[0].timeo.noop_out_timeout", "5"),
    number("node.conn[0].iscsi.MaxXmitDataSegmentLength", "0"),
    number("node.conn[0].iscsi.MaxRecvDataSegmentLength", "262144"),
    choice("node.conn[0].iscsi.HeaderDigest", DIGEST, "None"),
    choice("node.conn[0].iscsi.DataDigest", DIGEST, "None"),
    choice("node.conn[0].iscsi.IFMarker", YES_NO, "No"),
    choice("node.conn[0].iscsi.OFMarker", YES_NO, "No"),
];

/// A record of a discovery by SendTargets.
pub const SEND_TARGETS: &[Field] = &[
    choice("discovery.startup", STARTUP, "manual"),
    choice("discovery.type", &["sendtargets", "isns"], "sendtargets"),
    text("discovery.sendtargets.address", ""),
    number("discovery.sendtargets.port", "3260"),
    choice("discovery.sendtargets.auth.authmethod", AUTHENTICATION, "None"),
    text("discovery.sendtargets.auth.username", ""),
    secret("discovery.sendtargets.auth.password"),
    text("discovery.sendtargets.auth.username_in", ""),
    secret("discovery.sendtargets.auth.password_in"),
    ALGORITHMS,
    number("discovery.sendtargets.timeo.login_timeout", "15"),
    choice("discovery.sendtargets.use_discoveryd", YES_NO, "No"),
    number("discovery.sendtargets.discoveryd_poll_inval", "30"),
    number("discovery.sendtargets.reopen_max", "5"),
    number("discovery.sendtargets.timeo.auth_timeout", "45"),
    number("discovery.sendtargets.timeo.active_timeout", "30"),
    number("discovery.sendtargets.iscsi.MaxRecvDataSegmentLength", "32768"),
];

/// A record of a discovery by iSNS. Its place is called so in files too.
pub const ISNS: &[Field] = &[
    choice("discovery.startup", STARTUP, "manual"),
    choice("discovery.type", &["sendtargets", "isns"], "isns"),
    text("discovery.sendtargets.address", ""),
    number("discovery.sendtargets.port", "3205"),
    choice("discovery.isns.use_discoveryd", YES_NO, "No"),
    number("discovery.isns.discoveryd_poll_inval", "-1"),
];

/// The order of an interface's fields in records of the version 6.2.0-873.
pub const IFACE_873: &[&str] = &[
    "iface.hwaddress",
    "iface.ipaddress",
    "iface.iscsi_ifacename",
    "iface.net_ifacename",
    "iface.transport_name",
    "iface.initiatorname",
    "iface.bootproto",
    "iface.subnet_mask",
    "iface.gateway",
    "iface.ipv6_autocfg",
    "iface.linklocal_autocfg",
    "iface.router_autocfg",
    "iface.ipv6_linklocal",
    "iface.ipv6_router",
    "iface.state",
    "iface.vlan_id",
    "iface.vlan_priority",
    "iface.vlan_state",
    "iface.iface_num",
    "iface.mtu",
    "iface.port",
];

/// What a node record of the version 6.2.0-873 does not show.
pub const NOT_IN_873: &[&str] =
    &["node.session.auth.chap_algs", "node.session.scan", "node.session.reopen_max", "node.conn[0].iscsi.DataDigest"];

/// What finds a record, and is not changed in it.
pub const KEYS: &[&str] = &[
    "node.name",
    "node.tpgt",
    "node.conn[0].address",
    "node.conn[0].port",
    "node.discovery_address",
    "node.discovery_port",
    "node.discovery_type",
    "discovery.type",
    "discovery.sendtargets.address",
    "discovery.sendtargets.port",
];

/// What records there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A portal of a target, seen through an interface.
    Node,
    /// An interface.
    Iface,
    /// A place to ask for targets.
    SendTargets,
    /// An iSNS server.
    Isns,
}

impl Class {
    /// All fields of such records, in their order.
    pub fn fields(self) -> impl Iterator<Item = &'static Field> {
        let rows: [&'static [Field]; 6] = match self {
            Class::Node => [NODE_HEAD, IFACE_HEAD, IFACE_IPV4, IFACE_IPV6, IFACE_TAIL, NODE_TAIL],
            Class::Iface => [&[], IFACE_HEAD, IFACE_IPV4, IFACE_IPV6, IFACE_TAIL, &[]],
            Class::SendTargets => [&[], &[], &[], &[], &[], SEND_TARGETS],
            Class::Isns => [&[], &[], &[], &[], &[], ISNS],
        };
        rows.into_iter().flatten()
    }

    /// The field of this name.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().find(|field| field.name == name)
    }
}

impl Field {
    /// The value as it is written, or what is wrong with it.
    ///
    /// # Errors
    /// The value is none of this field's.
    pub fn accept(&self, value: &str) -> Result<String, Unacceptable> {
        let one_line = !value.contains(['\n', '\r', '\0']) && value.len() <= LENGTH_MAX;
        match self.kind {
            _ if !one_line => Err(Unacceptable::Format),
            Kind::Text | Kind::Secret => Ok(value.to_owned()),
            Kind::Number => match value.parse::<i64>() {
                Ok(number) if i32::try_from(number).is_ok() || u32::try_from(number).is_ok() => Ok(number.to_string()),
                _ => Err(Unacceptable::Format),
            },
            Kind::Choice(words) => {
                // Both orders of spaces were in use behind the comma.
                let value: String = value.split_whitespace().collect();
                let word = words.iter().find(|word| **word == value).or_else(|| {
                    // Digests were told by a list too, in lower case.
                    words.iter().find(|word| word.eq_ignore_ascii_case(&value))
                });
                word.map(|word| (*word).to_owned()).ok_or(Unacceptable::Format)
            }
            Kind::Algorithms => {
                let names: Vec<&str> = value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
                match names.iter().all(|name| ALGORITHM_NAMES.contains(name)) && !names.is_empty() {
                    true => Ok(names.join(",")),
                    false => Err(Unacceptable::Ignored),
                }
            }
        }
    }
}

/// Characters of a value.
const LENGTH_MAX: usize = 1024;

/// Why a value is none of a field's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unacceptable {
    /// It has not the form.
    Format,
    /// It is not known, and what was there stays.
    Ignored,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_field() {
        for class in [Class::Node, Class::SendTargets, Class::Isns] {
            for field in class.fields().filter(|field| !field.default.is_empty()) {
                assert_eq!(field.accept(field.default).as_deref(), Ok(field.default), "{}", field.name);
            }
        }
        assert_eq!(Class::Iface.fields().count() - IFACE_IPV6.len(), 55, "features.md 4.5");
        for name in IFACE_873.iter().chain(NOT_IN_873) {
            assert!(Class::Node.field(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_value_of_another_form_is_refused() {
        let field = |name| Class::Node.field(name).expect("a field");
        assert_eq!(field("node.startup").accept("wrong"), Err(Unacceptable::Format));
        assert_eq!(field("node.session.cmds_max").accept("12x"), Err(Unacceptable::Format));
        assert_eq!(field("node.session.queue_depth").accept("99999999999"), Err(Unacceptable::Format));
        assert_eq!(field("node.session.auth.chap_algs").accept("MD4"), Err(Unacceptable::Ignored));
        assert_eq!(
            field("node.session.auth.password").accept("a\nnode.startup = automatic"),
            Err(Unacceptable::Format)
        );
        assert_eq!(field("node.session.auth.chap_algs").accept("SHA256, MD5").as_deref(), Ok("SHA256,MD5"));
        assert_eq!(field("node.conn[0].iscsi.HeaderDigest").accept("CRC32C, None").as_deref(), Ok("CRC32C,None"));
    }
}
