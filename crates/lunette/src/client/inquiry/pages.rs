//! What the bytes of INQUIRY data and VPD pages say, as names and values: one list for people and programs.

use crate::client::units::{designator, device_type};
use scsi::inquiry::Rotation;
use scsi::port_groups::{AccessState, Group};
use scsi::vpd::designation::{Association, Designator};
use scsi::vpd::{self, ParseError};
use serde_json::{Map, Value, json};

/// Names and values, in their order.
pub struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// As a JSON object.
    pub fn value(&self) -> Value {
        Value::Object(self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Map<_, _>>())
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut out = String::new();
        for (name, value) in &self.0 {
            let name = name.replace('_', " ");
            match value {
                // Each of a list of objects has its line.
                Value::Array(list) if list.first().is_some_and(Value::is_object) => {
                    for one in list {
                        let parts = one.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
                        let parts: Vec<_> =
                            parts.map(|(name, value)| format!("{} {}", name.replace('_', " "), plain(value))).collect();
                        out += &format!("  {name:width$}  {}\n", parts.join(", "));
                    }
                }
                value => out += &format!("  {name:width$}  {}\n", plain(value)),
            }
        }
        out
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
    .trim_end()
    .to_owned()
}

/// The name of a VPD page.
pub fn name(code: u8) -> &'static str {
    match code {
        0x00 => "supported VPD pages",
        0x80 => "unit serial number",
        0x83 => "device identification",
        0x84 => "software interface identification",
        0x85 => "management network addresses",
        0x86 => "extended INQUIRY data",
        0x87 => "mode page policy",
        0x88 => "SCSI ports",
        0x89 => "ATA information",
        0x8a => "power condition",
        0x8b => "device constituents",
        0x8d => "power consumption",
        0x8f => "third-party copy",
        0x90 => "protocol specific logical unit information",
        0x91 => "protocol specific port information",
        0xb0 => "block limits",
        0xb1 => "block device characteristics",
        0xb2 => "logical block provisioning",
        0xb3 => "referrals",
        0xb5 => "block device characteristics extension",
        0xb6 => "zoned block device characteristics",
        0xb7 => "block limits extension",
        0xc0.. => "of the vendor",
        _ => "unknown",
    }
}

/// Standard INQUIRY data.
pub fn standard(bytes: &[u8]) -> Result<Fields, String> {
    let inquiry = scsi::inquiry::parse(bytes).ok_or("it is cut off")?;
    let version = match inquiry.version {
        0 => "none claimed",
        3 => "SPC",
        4 => "SPC-2",
        5 => "SPC-3",
        6 => "SPC-4",
        7 => "SPC-5",
        8 => "SPC-6",
        _ => "unknown",
    };
    let groups = ["none", "implicit", "explicit", "implicit and explicit"];
    Ok(Fields(vec![
        ("type", device_type(inquiry.device_type).into()),
        ("vendor", inquiry.vendor.into()),
        ("product", inquiry.product.into()),
        ("revision", inquiry.revision.into()),
        ("version", version.into()),
        ("removable", inquiry.removable.into()),
        ("asymmetric_access", groups[usize::from(inquiry.target_port_groups & 3)].into()),
        ("third_party_copy", inquiry.third_party_copy.into()),
        ("protection", inquiry.protection.into()),
        ("command_queuing", inquiry.command_queuing.into()),
        ("standards", inquiry.descriptors.into_iter().map(standard_name).collect::<Vec<_>>().into()),
    ]))
}

/// What a version descriptor claims: the standard, of whichever version.
fn standard_name(descriptor: u16) -> String {
    const NAMES: [(u16, &str); 15] = [
        (0x0020, "SAM"),
        (0x0040, "SAM-2"),
        (0x0060, "SAM-3"),
        (0x0080, "SAM-4"),
        (0x00a0, "SAM-5"),
        (0x00c0, "SAM-6"),
        (0x0260, "SPC-2"),
        (0x0300, "SPC-3"),
        (0x0320, "SBC-2"),
        (0x0460, "SPC-4"),
        (0x04c0, "SBC-3"),
        (0x04e0, "MMC-6"),
        (0x05c0, "SPC-5"),
        (0x0600, "SBC-4"),
        (0x0960, "iSCSI"),
    ];
    let base = descriptor & !0x1f;
    let known = NAMES.iter().find(|(number, _)| *number == base).map(|(_, name)| (*name).to_owned());
    known.unwrap_or_else(|| format!("{descriptor:04x}h"))
}

/// A VPD page with its header.
pub fn vpd(code: u8, bytes: &[u8]) -> Result<Fields, String> {
    let words = |error: ParseError| error.to_string();
    let body = bytes.get(4..).unwrap_or_default();
    Ok(Fields(match code {
        0x00 => {
            let pages = vpd::supported::parse(bytes).map_err(words)?;
            let pages: Vec<_> = pages.into_iter().map(|page| format!("{page:02x}")).collect();
            vec![("pages", pages.into())]
        }
        0x80 => vec![("serial_number", vpd::serial_number::parse(bytes).map_err(words)?.into())],
        0x83 => {
            let list = vpd::designation::parse(bytes).map_err(words)?;
            vec![("designators", list.iter().map(designator_value).collect::<Vec<_>>().into())]
        }
        0x86 => {
            let page = vpd::extended_inquiry::parse(bytes).map_err(words)?;
            vec![
                ("simple_tasks", page.simple.into()),
                ("ordered_tasks", page.ordered.into()),
                ("head_of_queue_tasks", page.head_of_queue.into()),
                ("volatile_cache", page.volatile_cache.into()),
                ("maximum_sense_bytes", page.maximum_sense.into()),
            ]
        }
        0x87 => vec![("policies", body.chunks_exact(4).map(policy).collect::<Vec<_>>().into())],
        0x88 => {
            let ports = vpd::ports::parse(bytes).map_err(words)?;
            let port = |port: &vpd::ports::ReportedPort| {
                let names: Vec<_> = port.designators.iter().map(designator).collect();
                json!({ "port": port.relative_identifier, "name": names.join(" ") })
            };
            vec![("ports", ports.iter().map(port).collect::<Vec<_>>().into())]
        }
        0x8a => power(body)?,
        0x8f => vec![("descriptors", third_party(body)?.into())],
        0xb0 => block_limits(bytes).map_err(words)?,
        0xb1 => {
            let rotation = match vpd::characteristics::parse(bytes).map_err(words)? {
                Rotation::NotReported => "not reported".to_owned(),
                Rotation::NonRotating => "none (solid state)".to_owned(),
                Rotation::Rate(rate) => format!("{rate} a minute"),
            };
            let form = body.get(3).map_or(0, |byte| byte & 0x0f);
            let form = ["not reported", "5.25 inch", "3.5 inch", "2.5 inch", "1.8 inch", "less than 1.8 inch"]
                .get(usize::from(form))
                .copied();
            vec![("rotation", rotation.into()), ("form_factor", form.unwrap_or("unknown").into())]
        }
        0xb2 => {
            let page = vpd::provisioning::parse(bytes).map_err(words)?;
            let kinds = ["full or not told", "resource", "thin"];
            let kind = kinds.get(usize::from(page.provisioning_type)).copied().unwrap_or("unknown");
            vec![
                ("provisioning", kind.into()),
                ("unmap", page.unmap.into()),
                ("write_same_16_unmaps", page.write_same_16.into()),
                ("write_same_10_unmaps", page.write_same_10.into()),
                ("reads_zeros", page.reads_zeros.into()),
                ("anchors", page.anchors.into()),
                ("threshold_exponent", page.threshold_exponent.into()),
            ]
        }
        _ => return Err("this page is not known here".to_owned()),
    }))
}

fn designator_value(one: &Designator) -> Value {
    let of = match one.association {
        Association::LogicalUnit => "unit",
        Association::TargetPort => "port",
        Association::TargetDevice => "target",
        Association::Reserved => "reserved",
    };
    let kind = match one.designator_type {
        0 => "vendor",
        1 => "T10",
        2 => "EUI-64",
        3 => "NAA",
        4 => "relative port",
        5 => "port group",
        6 => "unit group",
        7 => "MD5",
        8 => "SCSI name",
        9 => "protocol",
        10 => "UUID",
        _ => "unknown",
    };
    json!({ "of": of, "type": kind, "value": designator(one) })
}

/// A mode page policy descriptor (SPC-5 7.7.9).
fn policy(bytes: &[u8]) -> Value {
    let [page, subpage, flags, _] = *bytes else { return Value::Null };
    let words = ["shared", "per target port", "obsolete", "per nexus"];
    let every = page & 0x3f == 0x3f && subpage == 0xff;
    let name = if every { "all".to_owned() } else { format!("{:02x}/{subpage:02x}", page & 0x3f) };
    json!({ "page": name, "policy": words[usize::from(flags & 3)], "multiple_units_share": flags & 0x80 != 0 })
}

/// Power conditions (SPC-5 7.7.13).
fn power(body: &[u8]) -> Result<Vec<(&'static str, Value)>, String> {
    let [standby, idle, ..] = *body else { return Err(ParseError::Truncated.to_string()) };
    let bits = [
        (standby & 2, "standby_y"),
        (standby & 1, "standby_z"),
        (idle & 1, "idle_a"),
        (idle & 2, "idle_b"),
        (idle & 4, "idle_c"),
    ];
    let has: Vec<_> = bits.into_iter().filter(|(bit, _)| *bit != 0).map(|(_, name)| name).collect();
    let mut fields = vec![("conditions", has.into())];
    let names = ["stopped_ms", "standby_z_ms", "standby_y_ms", "idle_a_ms", "idle_b_ms", "idle_c_ms"];
    let (times, _) = body.get(2..).unwrap_or_default().as_chunks::<2>();
    fields.extend(names.into_iter().zip(times).map(|(name, time)| (name, u16::from_be_bytes(*time).into())));
    Ok(fields)
}

/// Third-party copy descriptors (SPC-5 7.7.18): which there are.
fn third_party(mut rest: &[u8]) -> Result<Vec<Value>, String> {
    let mut list = Vec::new();
    while let [a, b, c, d, ..] = *rest {
        let (kind, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let name = match kind {
            0x0000 => "block device limits",
            0x0001 => "supported commands",
            0x0004 => "parameter data",
            0x0008 => "supported descriptors",
            0x000c => "supported CSCD IDs",
            0x0106 => "ROD token features",
            0x0108 => "supported ROD types",
            0x8001 => "general copy operations",
            0x9101 => "stream copy operations",
            _ => "other",
        };
        let end = 4 + usize::from(length);
        let body = rest.get(4..end).ok_or_else(|| ParseError::Truncated.to_string())?;
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        list.push(json!({ "type": format!("{kind:04x}"), "name": name, "value": hex }));
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(list)
}

fn block_limits(bytes: &[u8]) -> Result<Vec<(&'static str, Value)>, ParseError> {
    let (limits, unmap) = vpd::block_limits::parse(bytes)?;
    let mut fields: Vec<(&'static str, Value)> = vec![
        ("compare_and_write_blocks", limits.compare_and_write.into()),
        ("optimal_granularity_blocks", limits.optimal_granularity.into()),
        ("maximum_transfer_blocks", limits.maximum_transfer.into()),
        ("optimal_transfer_blocks", limits.optimal_transfer.into()),
        ("maximum_prefetch_blocks", limits.maximum_prefetch.into()),
        ("maximum_write_same_blocks", limits.write_same.into()),
        ("write_same_refuses_zero", limits.write_same_refuses_zero.into()),
    ];
    if let Some(unmap) = unmap {
        fields.extend([
            ("maximum_unmap_blocks", unmap.maximum_blocks.into()),
            ("maximum_unmap_ranges", unmap.maximum_descriptors.into()),
            ("unmap_granularity_blocks", unmap.granularity.into()),
            ("unmap_alignment_blocks", unmap.alignment.into()),
        ]);
    }
    if let Some(atomic) = limits.atomic {
        fields.extend([
            ("maximum_atomic_blocks", Value::from(atomic.maximum)),
            ("atomic_alignment_blocks", atomic.alignment.into()),
            ("atomic_granularity_blocks", atomic.granularity.into()),
        ]);
    }
    Ok(fields)
}

/// REPORT TARGET PORT GROUPS.
pub fn port_groups(groups: &[Group]) -> Fields {
    let group = |group: &Group| {
        let state = match (AccessState::from_code(group.state), group.state) {
            (Some(state), _) => state.name().to_owned(),
            (None, 0x4) => "logical-block-dependent".to_owned(),
            (None, 0xe) => "offline".to_owned(),
            (None, 0xf) => "transitioning".to_owned(),
            (None, code) => format!("{code:x}h"),
        };
        json!({ "group": group.number, "state": state, "preferred": group.preferred, "ports": group.ports })
    };
    Fields(vec![("groups", groups.iter().map(group).collect::<Vec<_>>().into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_harm_what_is_told() {
        let mut seed = 1u64;
        for round in 0..4000 {
            let bytes: Vec<u8> = (0..round % 120)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (seed >> 33) as u8
                })
                .collect();
            for code in [0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8a, 0x8f, 0xb0, 0xb1, 0xb2, 0xb6] {
                let mut page = vec![0, code, 0, bytes.len() as u8];
                page.extend(&bytes);
                for page in [&page[..], &bytes] {
                    if let Ok(fields) = vpd(code, page) {
                        let _ = (fields.text(), fields.value());
                    }
                }
            }
            let _ = standard(&bytes).map(|fields| fields.text());
        }
    }

    #[test]
    fn a_page_is_a_list_of_names_and_values() {
        let mut page = vec![0, 0xb2, 0, 4, 0, 0xe4, 2, 0];
        let fields = vpd(0xb2, &page).map_err(drop).unwrap();
        assert_eq!(fields.value()["provisioning"], "thin");
        assert!(fields.text().contains("  reads zeros           yes\n"), "{}", fields.text());
        page[3] = 5;
        assert!(vpd(0xb2, &page).is_err());
        assert_eq!(standard_name(0x0966), "iSCSI");
        assert_eq!(standard_name(0x1fff), "1fffh");
    }
}
