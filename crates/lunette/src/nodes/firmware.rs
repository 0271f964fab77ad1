//! What the firmware booted from over iSCSI: the iBFT, as /sys shows it.

use std::fs;
use std::path::Path;

/// The origin of an address that DHCP gave, as the table has it.
const BY_DHCP: &str = "3";

/// Of each target of the table what is known of it and of its network device, as fields of records.
pub fn targets(sys: &Path) -> Vec<Vec<(String, String)>> {
    let table = sys.join("firmware/ibft");
    let entries = fs::read_dir(&table).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.strip_prefix("target").is_some_and(|number| number.parse::<u8>().is_ok()));
    names.sort();
    names.iter().filter_map(|name| target(&table, &table.join(name))).collect()
}

fn target(table: &Path, target: &Path) -> Option<Vec<(String, String)>> {
    let word = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let of = |name: &str| word(&target.join(name));
    let number = of("nic-assoc").parse::<u8>().unwrap_or(0);
    let device = table.join(format!("ethernet{number}"));
    let on = |name: &str| word(&device.join(name));
    let link = fs::read_dir(device.join("device/net")).into_iter().flatten().flatten().next();
    let link = link.and_then(|entry| entry.file_name().into_string().ok()).unwrap_or_default();
    let address = on("ip-addr");
    let method = match (address.is_empty(), on("origin").as_str()) {
        (true, _) => "",
        (false, BY_DHCP) => "DHCP",
        (false, _) => "STATIC",
    };
    let prefix = Some(on("prefix-len")).filter(|text| !text.is_empty()).unwrap_or("-1".to_owned());
    let fields = [
        ("iface.initiatorname", word(&table.join("initiator/initiator-name"))),
        ("iface.transport_name", "tcp".to_owned()),
        ("iface.hwaddress", on("mac")),
        ("iface.bootproto", method.to_owned()),
        ("iface.ipaddress", address.clone()),
        ("iface.prefix_len", if address.is_empty() { String::new() } else { prefix }),
        ("iface.subnet_mask", on("subnet-mask")),
        ("iface.gateway", on("gateway")),
        ("iface.primary_dns", on("primary-dns")),
        ("iface.secondary_dns", on("secondary-dns")),
        ("iface.vlan_id", on("vlan")),
        ("iface.net_ifacename", link),
        ("node.name", of("target-name")),
        ("node.conn[0].address", of("ip-addr")),
        ("node.conn[0].port", of("port")),
        ("node.session.auth.username", of("chap-name")),
        ("node.session.auth.password", of("chap-secret")),
        ("node.session.auth.username_in", of("rev-chap-name")),
        ("node.session.auth.password_in", of("rev-chap-name-secret")),
    ];
    let known = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let known: Vec<(String, String)> = known.map(|(name, value)| (name.to_owned(), value)).collect();
    known.iter().any(|(name, _)| name == "node.name").then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_the_kernel_shows_it() {
        let folder = sim::daemon::Folder::new();
        assert!(targets(folder.path()).is_empty());
        for (name, text) in [
            ("initiator/initiator-name", "iqn.boot:me"),
            ("target0/target-name", "iqn.boot:disk"),
            ("target0/ip-addr", "10.0.0.1"),
            ("target0/port", "3260"),
            ("target0/nic-assoc", "0"),
            ("target0/chap-name", "me"),
            ("target0/chap-secret", "secretsecret"),
            ("target1/flags", "0"),
            ("ethernet0/mac", "52:54:00:12:34:56"),
            ("ethernet0/ip-addr", "10.0.0.2"),
            ("ethernet0/subnet-mask", "255.255.255.0"),
            ("ethernet0/origin", "3"),
            ("ethernet0/vlan", "0"),
        ] {
            let path = folder.path().join("firmware/ibft").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let found = targets(folder.path());
        let [fields] = found.as_slice() else { panic!("{found:?}") };
        // As open-iscsi 2.1.8 was seen to print this table.
        let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        assert_eq!(
            lines,
            [
                "iface.initiatorname = iqn.boot:me",
                "iface.transport_name = tcp",
                "iface.hwaddress = 52:54:00:12:34:56",
                "iface.bootproto = DHCP",
                "iface.ipaddress = 10.0.0.2",
                "iface.prefix_len = -1",
                "iface.subnet_mask = 255.255.255.0",
                "iface.vlan_id = 0",
                "node.name = iqn.boot:disk",
                "node.conn[0].address = 10.0.0.1",
                "node.conn[0].port = 3260",
                "node.session.auth.username = me",
                "node.session.auth.password = secretsecret",
            ]
        );
    }
}
