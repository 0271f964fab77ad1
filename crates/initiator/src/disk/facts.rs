//! What a remote unit is and can do: asked by INQUIRY, READ CAPACITY and MODE SENSE, and turned into a store's
//! limits. Whatever it answers, the limits are such that nobody divides by zero or overflows.

use super::identity::Identity;
use crate::{Command, Error, Unit};
use block::{Limits, Rotation, UnmapLimits, WriteCache};
use scsi::blocks::{self, Capacity};
use scsi::{cdb, vpd};

/// Bytes that are asked of pages; none that we read is longer.
const PAGE_BYTES: u16 = 0x1000;
/// Bytes of READ CAPACITY(16)'s answer.
const CAPACITY_BYTES: usize = 32;
/// The longest transfer that is asked for where the unit names no bound of its own, in bytes.
const TRANSFER_BYTES: u32 = 4 << 20;
/// The longest extent that one command unmaps or makes zeros, so that none takes for ever. In bytes.
const EXTENT_BYTES: u64 = 1 << 30;

/// What was learnt of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub limits: Limits,
    pub abilities: Abilities,
    pub identity: Identity,
}

/// How it does what a store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// It knows commands of 16 bytes.
    pub long: bool,
    /// Bytes of one read or write at most.
    pub transfer: u32,
    /// A write may ask for stable storage (FUA).
    pub durable_writes: bool,
    /// How space is given back.
    pub unmap: Option<Unmap>,
    /// Bytes of one WRITE SAME at most.
    pub same: u64,
    /// WRITE SAME may give space back, and what it gives back reads as zeros.
    pub same_unmaps: bool,
}

/// A way to give space back, with the bytes that one command may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmap {
    /// UNMAP, after which an extent need not read as zeros.
    Unmap(u64),
    /// WRITE SAME with UNMAP, after which it does.
    WriteSame(u64),
}

/// What MODE SENSE says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    write_protected: bool,
    durable_writes: bool,
    cache: bool,
}

/// Who a unit is; every path to it can tell, even one that serves nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub identity: Identity,
    /// The target port group of the port by which it was asked, where the unit reports groups.
    pub port_group: Option<u16>,
    /// VPD pages that it has.
    pages: Vec<u8>,
}

/// Asks the unit who it is.
pub(crate) async fn identify(unit: &Unit) -> Result<Who, Error> {
    let inquiry = ask(unit, &cdb::inquiry(None, 0xff), 0xff).await?;
    let inquiry = scsi::inquiry::parse(&inquiry).ok_or_else(|| wrong("its INQUIRY data is too short"))?;
    match (inquiry.qualifier, inquiry.device_type) {
        (0, 0x00 | 0x05 | 0x07 | 0x0e) => {}
        (0, kind) => return Err(wrong(&format!("it is no disk but a device of type {kind:02x}h"))),
        _ => return Err(wrong("there is no unit of this number")),
    }
    let pages = page(unit, 0x00).await?.and_then(|bytes| vpd::supported::parse(&bytes).ok()).unwrap_or_default();
    let has = |code: u8| pages.contains(&code);
    let mut serial = String::new();
    if has(0x80) {
        serial = page(unit, 0x80).await?.and_then(|bytes| vpd::serial_number::parse(&bytes).ok()).unwrap_or_default();
    }
    let mut designators = Vec::new();
    if has(0x83) {
        designators =
            page(unit, 0x83).await?.and_then(|bytes| vpd::designation::parse(&bytes).ok()).unwrap_or_default();
    }
    let port_group = (inquiry.target_port_groups != 0).then(|| own_group(&designators)).flatten();
    Ok(Who { identity: Identity::new(&inquiry, serial, designators), port_group, pages })
}

/// Asks the unit who and what it is.
pub(crate) async fn learn(unit: &Unit) -> Result<Facts, Error> {
    let who = identify(unit).await?;
    learn_of(unit, who).await
}

/// Asks the unit what it is.
pub(crate) async fn learn_of(unit: &Unit, who: Who) -> Result<Facts, Error> {
    let has = |code: u8| who.pages.contains(&code);
    let limits = if has(0xb0) { page(unit, 0xb0).await? } else { None };
    let limits = limits.and_then(|bytes| vpd::block_limits::parse(&bytes).ok());
    let rotation = if has(0xb1) { page(unit, 0xb1).await? } else { None };
    let rotation = rotation.and_then(|bytes| vpd::characteristics::parse(&bytes).ok());
    let provisioning = if has(0xb2) { page(unit, 0xb2).await? } else { None };
    let provisioning = provisioning.and_then(|bytes| vpd::provisioning::parse(&bytes).ok());
    let (capacity, long) = capacity(unit).await?;
    let mode = mode(unit).await?;
    let (limits, abilities) = judge(&capacity, long, &mode, limits, rotation, provisioning)?;
    Ok(Facts { limits, abilities, identity: who.identity })
}

fn wrong(why: &str) -> Error {
    Error::Invalid(format!("this unit cannot be used as a disk: {why}"))
}

/// A command that brings bytes, and does not wait for whoever looks whether the unit is what it was: that is us.
async fn ask(unit: &Unit, cdb: &[u8], bytes: usize) -> Result<Vec<u8>, Error> {
    unit.execute(Command::new(cdb).reading(bytes).inspecting()).await.bytes()
}

/// The same, of a command that the unit need not know.
async fn ask_whether(unit: &Unit, cdb: &[u8], bytes: usize) -> Result<Option<Vec<u8>>, Error> {
    match ask(unit, cdb, bytes).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// ILLEGAL REQUEST.
pub(crate) fn is_refusal(error: &Error) -> bool {
    error.scsi().and_then(|scsi| scsi.condition()).is_some_and(|(key, ..)| key == 0x05)
}

async fn page(unit: &Unit, code: u8) -> Result<Option<Vec<u8>>, Error> {
    ask_whether(unit, &cdb::inquiry(Some(code), PAGE_BYTES), usize::from(PAGE_BYTES)).await
}

/// The capacity, and whether the unit knows commands of 16 bytes.
async fn capacity(unit: &Unit) -> Result<(Capacity, bool), Error> {
    let none = || wrong("its capacity is none");
    let long = cdb::read_capacity_16(CAPACITY_BYTES as u32);
    if let Some(long) = ask_whether(unit, &long, CAPACITY_BYTES).await? {
        return blocks::parse_capacity_16(&long).map(|capacity| (capacity, true)).ok_or_else(none);
    }
    let short = ask(unit, &cdb::READ_CAPACITY_10, 8).await?;
    blocks::parse_capacity_10(&short).flatten().map(|capacity| (capacity, false)).ok_or_else(none)
}

/// The caching page and the header before it. A unit that says nothing of its cache is taken to have one.
async fn mode(unit: &Unit) -> Result<Mode, Error> {
    let short = ask_whether(unit, &[0x1a, 0x08, 0x08, 0, 0xff, 0], 0xff).await?;
    if let Some(mode) = short.and_then(|bytes| parse_mode(&bytes, false)) {
        return Ok(mode);
    }
    let long = ask_whether(unit, &[0x5a, 0x08, 0x08, 0, 0, 0, 0, 0x01, 0, 0], 0x100).await?;
    let unknown = Mode { write_protected: false, durable_writes: false, cache: true };
    Ok(long.and_then(|bytes| parse_mode(&bytes, true)).unwrap_or(unknown))
}

fn parse_mode(bytes: &[u8], long: bool) -> Option<Mode> {
    let (specific, descriptors, header) = match long {
        false => (*bytes.get(2)?, usize::from(*bytes.get(3)?), 4),
        true => (*bytes.get(3)?, usize::from(u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?])), 8),
    };
    let page = bytes.get(header + descriptors..).unwrap_or_default();
    let cache = match *page {
        // WCE.
        [code, _, flags, ..] if code & 0x3f == 0x08 => flags & 0x04 != 0,
        _ => true,
    };
    Some(Mode { write_protected: specific & 0x80 != 0, durable_writes: specific & 0x10 != 0, cache })
}

/// The designator of the group of the port by which the page was asked.
fn own_group(designators: &[vpd::designation::Designator]) -> Option<u16> {
    const PORT_GROUP: u8 = 5;
    let is_it = |one: &&vpd::designation::Designator| {
        one.association == vpd::designation::Association::TargetPort && one.designator_type == PORT_GROUP
    };
    designators.iter().find(is_it).and_then(|one| match one.value[..] {
        [_, _, high, low] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    })
}

type BlockLimits = (scsi::inquiry::BlockLimits, Option<scsi::inquiry::Unmap>);

fn judge(
    capacity: &Capacity,
    long: bool,
    mode: &Mode,
    limits: Option<BlockLimits>,
    rotation: Option<scsi::inquiry::Rotation>,
    provisioning: Option<vpd::provisioning::Provisioning>,
) -> Result<(Limits, Abilities), Error> {
    let block = capacity.block_length;
    if !block.is_power_of_two() || !(512..=4096).contains(&block) {
        return Err(wrong(&format!("its blocks have {block} bytes; 512 to 4096 can be used")));
    }
    let size = capacity.blocks.checked_mul(u64::from(block)).filter(|size| *size < 1 << 63);
    size.ok_or_else(|| wrong("it says that it is larger than 8 EiB"))?;
    let bytes = |blocks: u32| u64::from(blocks) * u64::from(block);
    let (limits, unmap) = limits.unzip();
    let unmap = unmap.flatten();
    let maximum = limits.as_ref().map_or(0, |limits| limits.maximum_transfer);
    let own_bound = if maximum == 0 { u64::MAX } else { bytes(maximum) };
    let transfer = own_bound.min(u64::from(TRANSFER_BYTES)).max(u64::from(block)) as u32;
    // 10-byte commands count 65,535 blocks.
    let transfer = if long { transfer } else { transfer.min(65_535 * block) };
    let whole = |length: u64| length - length % u64::from(block);
    let write_same = limits.as_ref().map_or(0, |limits| limits.write_same);
    let same = match write_same {
        0 => EXTENT_BYTES,
        blocks => blocks.saturating_mul(u64::from(block)).min(EXTENT_BYTES),
    };
    let thin = provisioning.filter(|_| capacity.provisioning);
    let same_unmaps = thin.is_some_and(|thin| thin.write_same_16 && thin.reads_zeros);
    let ways = thin.and_then(|thin| {
        let unmap_bytes = unmap.map_or(EXTENT_BYTES, |unmap| bytes(unmap.maximum_blocks)).min(EXTENT_BYTES);
        match (same_unmaps, thin.unmap) {
            (true, _) => Some(Unmap::WriteSame(same)),
            (false, true) => Some(Unmap::Unmap(whole(unmap_bytes).max(u64::from(block)))),
            (false, false) => None,
        }
    });
    let granule = |blocks: u32| u32::try_from(bytes(blocks.max(1))).unwrap_or(block);
    let physical =
        block.checked_shl(u32::from(capacity.physical_exponent)).filter(|bytes| *bytes <= 1 << 20).unwrap_or(block);
    let optimal = limits.as_ref().map_or(0, |limits| bytes(limits.optimal_transfer));
    let store = Limits {
        block_length: block,
        blocks: capacity.blocks,
        physical_block_length: physical,
        lowest_aligned_block: u32::from(capacity.lowest_aligned) % (physical / block),
        optimal_transfer_length: u32::try_from(optimal).unwrap_or(0),
        unmap: ways.map(|way| UnmapLimits {
            granularity: granule(unmap.map_or(1, |unmap| unmap.granularity)),
            alignment: u32::try_from(unmap.map_or(0, |unmap| bytes(unmap.alignment))).unwrap_or(0),
            reads_zeros: matches!(way, Unmap::WriteSame(_)),
        }),
        write_cache: if mode.cache { WriteCache::Volatile } else { WriteCache::None },
        read_only: mode.write_protected,
        rotation: match rotation {
            Some(scsi::inquiry::Rotation::NonRotating) => Rotation::NonRotating,
            Some(scsi::inquiry::Rotation::Rate(rate)) => Rotation::Rate(rate),
            _ => Rotation::NotReported,
        },
        // Between us and the medium are a wire and commands that can be split.
        copies: false,
        cryptographic_erase: false,
        atomic: None,
    };
    let abilities = Abilities {
        long,
        transfer: whole(u64::from(transfer)) as u32,
        durable_writes: mode.durable_writes,
        unmap: ways,
        same: whole(same).max(u64::from(block)),
        same_unmaps,
    };
    Ok((store, abilities))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Capacity = Capacity {
        blocks: 1 << 20,
        block_length: 512,
        physical_exponent: 3,
        lowest_aligned: 9,
        provisioning: true,
        reads_zeros: true,
        protection: false,
    };
    const MODE: Mode = Mode { write_protected: false, durable_writes: true, cache: true };

    fn thin(unmap: bool, write_same_16: bool, reads_zeros: bool) -> vpd::provisioning::Provisioning {
        vpd::provisioning::parse(&[
            0,
            0xb2,
            0,
            4,
            0,
            u8::from(unmap) << 7 | u8::from(write_same_16) << 6 | u8::from(reads_zeros) << 2,
            2,
            0,
        ])
        .unwrap()
    }

    #[test]
    fn whatever_a_unit_says_the_limits_are_sound() {
        let mut limits = scsi::inquiry::BlockLimits { maximum_transfer: u32::MAX, ..Default::default() };
        limits.optimal_transfer = u32::MAX;
        limits.write_same = u64::MAX;
        let (store, abilities) = judge(&DISK, true, &MODE, Some((limits, None)), None, None).unwrap();
        assert_eq!((abilities.transfer, abilities.same), (TRANSFER_BYTES, EXTENT_BYTES));
        assert_eq!((store.optimal_transfer_length, store.unmap), (0, None));
        assert_eq!((store.physical_block_length, store.lowest_aligned_block), (4096, 1));
        let tiny = scsi::inquiry::BlockLimits { maximum_transfer: 1, write_same: 1, ..Default::default() };
        let unmap = scsi::inquiry::Unmap {
            maximum_blocks: 1,
            maximum_descriptors: 1,
            granularity: u32::MAX,
            alignment: u32::MAX,
            reads_zeros: false,
            anchors: false,
            threshold_exponent: 0,
        };
        let tiny = Some((tiny, Some(unmap)));
        let (store, abilities) = judge(&DISK, false, &MODE, tiny, None, Some(thin(true, false, false))).unwrap();
        assert_eq!((abilities.transfer, abilities.same, abilities.unmap), (512, 512, Some(Unmap::Unmap(512))));
        assert_eq!(store.unmap.unwrap(), UnmapLimits { granularity: 512, alignment: 0, reads_zeros: false });
        for capacity in [
            Capacity { block_length: 520, ..DISK },
            Capacity { block_length: 1 << 20, ..DISK },
            Capacity { blocks: 1 << 55, ..DISK },
        ] {
            assert!(judge(&capacity, true, &MODE, None, None, None).is_err(), "{capacity:?}");
        }
    }

    #[test]
    fn zeros_are_promised_only_by_a_way_that_makes_them() {
        let unmap = |thin| judge(&DISK, true, &MODE, None, None, Some(thin)).unwrap();
        let (store, abilities) = unmap(thin(true, true, true));
        assert!(store.unmap.unwrap().reads_zeros && matches!(abilities.unmap, Some(Unmap::WriteSame(_))));
        // UNMAP alone may leave what is not whole granules as it was.
        let (store, abilities) = unmap(thin(true, false, true));
        assert!(!store.unmap.unwrap().reads_zeros && matches!(abilities.unmap, Some(Unmap::Unmap(_))));
        assert_eq!(unmap(thin(false, false, true)).0.unmap, None);
        let thick = Capacity { provisioning: false, ..DISK };
        assert_eq!(judge(&thick, true, &MODE, None, None, Some(thin(true, true, true))).unwrap().0.unmap, None);
    }

    #[test]
    fn the_caching_page_is_found_behind_either_header() {
        let page = [0x88, 0x12, 0x04];
        let short = [&[15, 0, 0x90, 0][..], &page].concat();
        let long = [&[0, 15, 0, 0x10, 0, 0, 0, 8][..], &[0; 8], &page].concat();
        let mode = parse_mode(&short, false).unwrap();
        assert!(mode.write_protected && mode.durable_writes && mode.cache);
        let mode = parse_mode(&long, true).unwrap();
        assert!(!mode.write_protected && mode.durable_writes && mode.cache);
        assert!(!parse_mode(&[15, 0, 0, 0, 0x08, 0x12, 0], false).unwrap().cache);
        assert!(parse_mode(&[4, 0, 0, 200], false).unwrap().cache, "what lies beyond the end says nothing");
        assert_eq!(parse_mode(&[4, 0, 0], false), None);
    }
}
