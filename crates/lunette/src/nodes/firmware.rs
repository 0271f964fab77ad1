//! What the firmware booted from over iSCSI: the iBFT, as /sys shows it.

use compat::records::{Class, Record};
use std::fs;
use std::path::Path;

/// A node record for each target of the table, with what the network device of it has.
pub fn targets(sys: &Path) -> Vec<Record> {
    let table = sys.join("firmware/ibft");
    let entries = fs::read_dir(&table).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.strip_prefix("target").is_some_and(|number| number.parse::<u8>().is_ok()));
    names.sort();
    names.iter().filter_map(|name| target(&table, &table.join(name))).collect()
}

fn target(table: &Path, target: &Path) -> Option<Record> {
    let word = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let name = Some(word(&target.join("target-name"))).filter(|name| !name.is_empty())?;
    let device = table.join(format!("ethernet{}", word(&target.join("nic-assoc")).parse::<u8>().unwrap_or(0)));
    let mut record = Record::new(Class::Node);
    let mut set = |field: &str, value: String| {
        if !value.is_empty() {
            record.set(field, &value);
        }
    };
    set("node.name", name);
    set("iface.initiatorname", word(&table.join("initiator/initiator-name")));
    set("iface.transport_name", "tcp".to_owned());
    set("iface.hwaddress", word(&device.join("mac")));
    set("iface.ipaddress", word(&device.join("ip-addr")));
    set("iface.subnet_mask", word(&device.join("subnet-mask")));
    set("iface.gateway", word(&device.join("gateway")));
    set("iface.vlan_id", word(&device.join("vlan")));
    let link = fs::read_dir(device.join("device/net")).into_iter().flatten().flatten().next();
    set("iface.net_ifacename", link.and_then(|entry| entry.file_name().into_string().ok()).unwrap_or_default());
    set("node.conn[0].address", word(&target.join("ip-addr")));
    set("node.conn[0].port", word(&target.join("port")));
    set("node.session.auth.username", word(&target.join("chap-name")));
    set("node.session.auth.password", word(&target.join("chap-secret")));
    set("node.session.auth.username_in", word(&target.join("rev-chap-name")));
    set("node.session.auth.password_in", word(&target.join("rev-chap-name-secret")));
    Some(record)
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
            ("ethernet0/mac", "52:54:00:12:34:56"),
            ("ethernet0/ip-addr", "10.0.0.2"),
        ] {
            let path = folder.path().join("firmware/ibft").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let found = targets(folder.path());
        let [record] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(record.value("node.name"), "iqn.boot:disk");
        assert_eq!(record.value("iface.hwaddress"), "52:54:00:12:34:56");
        assert_eq!(record.value("node.session.auth.password"), "secretsecret");
        assert!(!format!("{record:?}").contains("secretsecret"));
    }
}
