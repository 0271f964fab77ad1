//! Standard INQUIRY data (SPC-5 6.7.2), and the [`Facts`] from which it and every VPD page is made.

use crate::field;

/// PERIPHERAL DEVICE TYPE (SPC-5 6.7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum DeviceType {
    /// A direct access block device (SBC-4).
    #[default]
    Disk = 0x00,
    /// A CD/DVD device (MMC-6).
    Optical = 0x05,
}

/// What the identity pages of a logical unit say, as seen through one target port. Blocks are
/// logical blocks; 0 in a limit means "no limit is reported" unless the field says otherwise.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The identity from which the NAA and EUI-64 designators are made; the same for the life of the disk.
    pub uuid: [u8; 16],
    /// T10 vendor identification, cut at 8 ASCII bytes.
    pub vendor: &'a str,
    /// Product identification, cut at 16 ASCII bytes.
    pub product: &'a str,
    /// Product revision level, cut at 4 ASCII bytes.
    pub revision: &'a str,
    /// Unit serial number, cut at 252 ASCII bytes.
    pub serial: &'a str,
    /// The designator with T10 vendor identification, where it is not made of vendor, product and serial number.
    pub t10_id: Option<&'a str>,
    /// The NAA designator, where it is not made of the identity: 8 or 16 bytes.
    pub naa: Option<&'a [u8]>,
    /// What it is.
    pub device_type: DeviceType,
    /// RMB: the medium can be removed.
    pub removable: bool,
    /// The medium's kind.
    pub rotation: Rotation,
    /// WACEREQ: the unit can forget the key of its data, and what it reads then is noise.
    pub cryptographic_erase: bool,
    /// V_SUP: writes may rest in a volatile cache.
    pub volatile_cache: bool,
    /// B0h.
    pub limits: BlockLimits,
    /// Whether space can be given back, and how.
    pub unmap: Option<Unmap>,
    /// 3PC and the page 8Fh.
    pub third_party_copy: Option<ThirdPartyCopy<'a>>,
    /// TPGS.
    pub target_port_groups: TargetPortGroupSupport,
    /// The target ports of the device, ascending by relative identifier.
    pub ports: &'a [Port<'a>],
    /// Relative identifier of the port by which the question came.
    pub this_port: u16,
    /// The session's iSCSIProtocolLevel (RFC 7144), which the iSCSI version descriptor carries.
    pub protocol_level: u8,
}

/// A target port (RFC 7143 §4.4.2: a portal group of a target).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port<'a> {
    /// The iSCSI name of the target.
    pub target_name: &'a str,
    /// The portal group tag.
    pub portal_group_tag: u16,
    /// Relative target port identifier, from 1.
    pub relative_identifier: u16,
    /// The target port group it is in.
    pub target_port_group: u16,
}

impl Port<'_> {
    /// The SCSI port name, `NAME,t,0xTTTT` (RFC 7143 §4.4.2).
    pub fn name(&self) -> String {
        format!("{},t,0x{:04x}", self.target_name, self.portal_group_tag)
    }
}

/// MEDIUM ROTATION RATE (SBC-4 6.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Nothing is known.
    NotReported,
    /// Solid state, memory.
    NonRotating,
    /// Revolutions a minute.
    Rate(u16),
}

/// How asymmetric access states are managed (SPC-5 6.7.2, TPGS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TargetPortGroupSupport {
    /// All ports are equal.
    None = 0,
    /// States change by the target's own decision.
    Implicit = 1,
    /// States change by SET TARGET PORT GROUPS only.
    Explicit = 2,
    /// Both.
    Both = 3,
}

/// Limits that commands enforce (SBC-4 6.6.4). All in logical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockLimits {
    /// COMPARE AND WRITE's largest number; 0 says that the command is absent.
    pub compare_and_write: u8,
    /// Transfers in multiples of this are best.
    pub optimal_granularity: u16,
    /// The largest transfer that is accepted.
    pub maximum_transfer: u32,
    /// The transfer length that is best.
    pub optimal_transfer: u32,
    /// The largest PRE-FETCH.
    pub maximum_prefetch: u32,
    /// The largest WRITE SAME.
    pub write_same: u64,
    /// WSNZ: WRITE SAME of zero blocks is refused.
    pub write_same_refuses_zero: bool,
    /// WRITE ATOMIC's limits; absent where the command is.
    pub atomic: Option<AtomicLimits>,
}

/// Limits of WRITE ATOMIC (SBC-4 6.6.4). In logical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtomicLimits {
    /// The longest.
    pub maximum: u32,
    /// Where it may start.
    pub alignment: u32,
    /// What its length is a multiple of.
    pub granularity: u32,
    /// The longest with a boundary.
    pub maximum_with_boundary: u32,
    /// The largest boundary.
    pub maximum_boundary: u32,
}

/// UNMAP's limits and what reading afterwards gives (SBC-4 6.6.4, 6.6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmap {
    /// The most blocks of one command.
    pub maximum_blocks: u32,
    /// The most descriptors of one command.
    pub maximum_descriptors: u32,
    /// Blocks in the smallest extent that really frees space.
    pub granularity: u32,
    /// First block on that granularity.
    pub alignment: u32,
    /// Unmapped blocks read as zeros.
    pub reads_zeros: bool,
    /// Blocks can be anchored.
    pub anchors: bool,
    /// Thresholds count in sets of 2 to the power of this many blocks; 0 where there are none.
    pub threshold_exponent: u8,
}

/// What third-party copy can do (SPC-5 7.7.18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThirdPartyCopy<'a> {
    /// Operation code and service actions of each command, ascending.
    pub commands: &'a [(u8, &'a [u8])],
    /// Token copies; absent where POPULATE TOKEN is.
    pub tokens: Option<TokenLimits>,
    /// Parameter lists of EXTENDED COPY; absent where the command is.
    pub lists: Option<CopyListLimits<'a>>,
}

/// Limits of POPULATE TOKEN and WRITE USING TOKEN (SBC-4, block device ROD limits descriptor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimits {
    /// Bytes of a block.
    pub block_length: u32,
    /// Most block device range descriptors.
    pub maximum_ranges: u16,
    /// Longest inactivity timeout, in seconds.
    pub maximum_inactivity_s: u32,
    /// Inactivity timeout where none was asked for, in seconds.
    pub default_inactivity_s: u32,
    /// Most blocks of one token.
    pub maximum_blocks: u64,
    /// The number of blocks that is best.
    pub optimal_blocks: u64,
}

/// Limits of EXTENDED COPY's parameter list (SPC-5 7.7.18, parameter data descriptor).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyListLimits<'a> {
    /// Most CSCD descriptors.
    pub maximum_cscds: u16,
    /// Most segment descriptors.
    pub maximum_segments: u16,
    /// Most bytes of both descriptor lists.
    pub maximum_descriptor_bytes: u32,
    /// Most bytes of inline data.
    pub maximum_inline_bytes: u32,
    /// Descriptor type codes, ascending.
    pub descriptor_types: &'a [u8],
    /// Copies that may run at once.
    pub concurrent: u32,
    /// Most bytes of one segment.
    pub maximum_segment_bytes: u32,
}

/// Appends standard INQUIRY data for a connected device: 96 bytes, of which
/// the caller sends as many as the allocation length allows.
pub fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let third_party_copy = u8::from(facts.third_party_copy.is_some()) << 3;
    out.extend_from_slice(&[
        facts.device_type as u8,        // qualifier 000b
        u8::from(facts.removable) << 7, // RMB
        VERSION_SPC_4,
        0x12, // HISUP, response data format 2
        u8::try_from(LENGTH - 5).unwrap_or(u8::MAX),
        (facts.target_port_groups as u8) << 4 | third_party_copy, // no protection information: PROTECT 0
        u8::from(facts.ports.len() > 1) << 4,                     // MULTIP
        0x02,                                                     // CMDQUE
    ]);
    field::push_ascii(out, facts.vendor, 8);
    field::push_ascii(out, facts.product, 16);
    field::push_ascii(out, facts.revision, 4);
    out.resize(out.len() + 22, 0); // vendor specific 36..55 and two reserved bytes
    let commands: &[u16] = match facts.device_type {
        DeviceType::Disk => &[SBC_4, SBC_3],
        DeviceType::Optical => &[MMC_6],
    };
    let descriptors = [SAM_5, SPC_5, SPC_4].iter().chain(commands).copied();
    out.extend(descriptors.chain([ISCSI + u16::from(facts.protocol_level.min(31))]).flat_map(u16::to_be_bytes));
    out.resize(start + LENGTH, 0);
}

/// Appends what INQUIRY answers for a LUN behind which there is nothing (SPC-5 6.7.2, qualifier
/// 011b and type 1Fh): 36 bytes.
pub fn encode_absent(vendor: &str, product: &str, revision: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x7F, 0x00, VERSION_SPC_4, 0x12, 31, 0x00, 0x00, 0x02]);
    field::push_ascii(out, vendor, 8);
    field::push_ascii(out, product, 16);
    field::push_ascii(out, revision, 4);
}

/// Standard INQUIRY data as an initiator reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// PERIPHERAL QUALIFIER: 0 connected, 1 nothing here now, 3 nothing possible.
    pub qualifier: u8,
    /// PERIPHERAL DEVICE TYPE: 00h is a disk.
    pub device_type: u8,
    /// RMB.
    pub removable: bool,
    /// VERSION.
    pub version: u8,
    /// TPGS.
    pub target_port_groups: u8,
    /// 3PC.
    pub third_party_copy: bool,
    /// PROTECT.
    pub protection: bool,
    /// CMDQUE.
    pub command_queuing: bool,
    /// Vendor, without padding.
    pub vendor: String,
    /// Product, without padding.
    pub product: String,
    /// Revision, without padding.
    pub revision: String,
    /// Version descriptors other than zero.
    pub descriptors: Vec<u16>,
}

/// Reads standard INQUIRY data. `None` where fewer than the 36 mandatory bytes came; fields beyond
/// what came, or beyond the additional length, read as absent.
pub fn parse(bytes: &[u8]) -> Option<Inquiry> {
    let total = usize::from(field::byte(bytes, 4)?) + 5;
    let bytes = bytes.get(..total.min(bytes.len()))?;
    let [type_byte, rmb, version, _, _, flags, _, queue] = field::array::<8>(bytes, 0)?;
    Some(Inquiry {
        qualifier: type_byte >> 5,
        device_type: type_byte & 0x1F,
        removable: rmb & 0x80 != 0,
        version,
        target_port_groups: flags >> 4 & 3,
        third_party_copy: flags & 0x08 != 0,
        protection: flags & 0x01 != 0,
        command_queuing: queue & 0x02 != 0,
        vendor: field::ascii(bytes.get(8..16)?),
        product: field::ascii(bytes.get(16..32)?),
        revision: field::ascii(bytes.get(32..36)?),
        descriptors: (58..74).step_by(2).filter_map(|at| field::be16(bytes, at)).filter(|&word| word != 0).collect(),
    })
}

/// Bytes of standard INQUIRY data.
const LENGTH: usize = 96;
/// VERSION (SPC-5 6.7.2): SPC-4, to which a unit of SPC-5 conforms too. Clients in the field do not know the
/// number of SPC-5, and some take a number that they do not know for an older device.
const VERSION_SPC_4: u8 = 0x06;
/// Version descriptors, each "no version claimed" (SPC-5, version descriptor values).
const SAM_5: u16 = 0x00A0;
const SPC_5: u16 = 0x05C0;
const SPC_4: u16 = 0x0460;
const SBC_4: u16 = 0x0600;
const SBC_3: u16 = 0x04C0;
const MMC_6: u16 = 0x04E0;
const ISCSI: u16 = 0x0960;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PORTS: &[Port<'static>] = &[
        Port {
            target_name: "iqn.2026-01.org.example:disk",
            portal_group_tag: 1,
            relative_identifier: 1,
            target_port_group: 1,
        },
        Port {
            target_name: "iqn.2026-01.org.example:disk",
            portal_group_tag: 2,
            relative_identifier: 2,
            target_port_group: 1,
        },
    ];

    pub(crate) fn facts() -> Facts<'static> {
        Facts {
            uuid: [0xF4, 0x7A, 0xC1, 0x0B, 0x58, 0xCC, 0x43, 0x72, 0xA5, 0x67, 0x0E, 0x02, 0xB2, 0xC3, 0xD4, 0x79],
            vendor: "LUNETTE",
            product: "Disk",
            revision: "0001",
            serial: "S-42",
            t10_id: None,
            naa: None,
            device_type: DeviceType::Disk,
            removable: false,
            rotation: Rotation::NonRotating,
            cryptographic_erase: false,
            volatile_cache: true,
            limits: BlockLimits {
                compare_and_write: 255,
                optimal_granularity: 8,
                maximum_transfer: 8192,
                optimal_transfer: 2048,
                maximum_prefetch: 0,
                write_same: 1 << 33,
                write_same_refuses_zero: true,
                atomic: None,
            },
            unmap: Some(Unmap {
                maximum_blocks: 1 << 22,
                maximum_descriptors: 256,
                granularity: 8,
                alignment: 0,
                reads_zeros: true,
                anchors: false,
                threshold_exponent: 0,
            }),
            third_party_copy: None,
            target_port_groups: TargetPortGroupSupport::None,
            ports: PORTS,
            this_port: 2,
            protocol_level: 2,
        }
    }

    #[test]
    fn spc_01_the_standard_data_says_what_the_facts_say() {
        let mut out = Vec::new();
        encode(&facts(), &mut out);
        assert_eq!(out.len(), 96);
        assert_eq!(out[..8], [0x00, 0x00, 0x06, 0x12, 91, 0x00, 0x10, 0x02]);
        let read = parse(&out).unwrap();
        assert_eq!((read.vendor.as_str(), read.product.as_str(), read.revision.as_str()), ("LUNETTE", "Disk", "0001"));
        assert_eq!(read.descriptors, [0x00A0, 0x05C0, 0x0460, 0x0600, 0x04C0, 0x0962]);
        assert!(read.command_queuing && !read.removable && !read.third_party_copy && !read.protection);
    }

    #[test]
    fn spc_01_removable_copy_and_groups_appear_where_they_are_true() {
        let mut facts = facts();
        facts.removable = true;
        facts.target_port_groups = TargetPortGroupSupport::Implicit;
        facts.third_party_copy = Some(ThirdPartyCopy { commands: &[(0x83, &[0])], tokens: None, lists: None });
        let mut out = Vec::new();
        encode(&facts, &mut out);
        let read = parse(&out).unwrap();
        assert!(read.removable && read.third_party_copy);
        assert_eq!(read.target_port_groups, 1);
    }

    #[test]
    fn spc_01_a_cd_drive_says_its_type_and_its_command_set() {
        let facts = Facts { device_type: DeviceType::Optical, removable: true, ..facts() };
        let mut out = Vec::new();
        encode(&facts, &mut out);
        assert_eq!((out.len(), out[0], out[1]), (96, 0x05, 0x80));
        assert_eq!(parse(&out).unwrap().descriptors, [0x00A0, 0x05C0, 0x0460, 0x04E0, 0x0962]);
    }

    #[test]
    fn sam_01_nothing_there_is_qualifier_three_and_type_1f() {
        let mut out = Vec::new();
        encode_absent("LUNETTE", "", "", &mut out);
        let read = parse(&out).unwrap();
        assert_eq!((out.len(), read.qualifier, read.device_type), (36, 3, 0x1F));
    }

    #[test]
    fn every_truncation_is_read_without_harm() {
        let mut out = Vec::new();
        encode(&facts(), &mut out);
        for length in 0..out.len() {
            assert_eq!(parse(&out[..length]).is_some(), length >= 36, "{length}");
        }
    }
}
