//! Mode parameter lists: header, block descriptor and pages, for MODE SENSE and MODE SELECT of both
//! lengths (SPC-5 6.14 to 6.16, 7.5.5 to 7.5.7; SBC-4 6.5.2).

use super::{Facts, Page, Refusal, Saving, Values, pages};
use crate::field;

/// Which of the two forms of the command, which have two forms of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListLength {
    /// MODE SENSE (6), MODE SELECT (6).
    Six,
    /// MODE SENSE (10), MODE SELECT (10).
    Ten,
}

impl ListLength {
    fn header(self) -> usize {
        match self {
            ListLength::Six => 4,
            ListLength::Ten => 8,
        }
    }
}

/// PC: which values are asked for (SPC-5 6.15.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageControl {
    /// 00b.
    Current,
    /// 01b: a mask of what can be changed.
    Changeable,
    /// 10b.
    Default,
    /// 11b.
    Saved,
}

/// A block descriptor's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDescriptor {
    /// Number of logical blocks.
    pub blocks: u64,
    /// Bytes of a logical block.
    pub block_length: u32,
}

/// DEVICE-SPECIFIC PARAMETER of a disk (SBC-4 6.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceParameter {
    /// WP: writing is refused, for whatever reason.
    pub write_protected: bool,
    /// DPOFUA: DPO and FUA are accepted.
    pub dpo_fua: bool,
}

/// A MODE SENSE command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenseRequest {
    /// Its form.
    pub length: ListLength,
    /// The block descriptor, `None` where DBD forbids it.
    pub descriptor: Option<BlockDescriptor>,
    /// LLBAA: the descriptor may be the long one.
    pub long_descriptor: bool,
    /// PC.
    pub control: PageControl,
    /// PAGE CODE, 3Fh for all.
    pub page: u8,
    /// SUBPAGE CODE, FFh for all.
    pub subpage: u8,
}

impl Values {
    /// Appends the data of MODE SENSE, which the caller cuts at the allocation length; MODE DATA LENGTH
    /// is the full one. `Ok(false)` where saved values were asked for and are not kept: SAVING
    /// PARAMETERS NOT SUPPORTED, 05h/39h/00h.
    pub fn sense(
        &self,
        request: SenseRequest,
        device: DeviceParameter,
        saving: Saving,
        out: &mut Vec<u8>,
    ) -> Result<bool, Refusal> {
        if request.control == PageControl::Saved && saving == Saving::Unsupported {
            return Ok(false);
        }
        let asked = |page: &Page| {
            let all_pages = request.page == ALL_PAGES;
            (all_pages || page.code == request.page)
                && match request.subpage {
                    0x00 => page.subpage == 0x00,
                    ALL_SUBPAGES => true,
                    subpage => !all_pages && page.subpage == subpage,
                }
        };
        if !pages(self.facts).any(asked) {
            let known = pages(self.facts).any(|page| page.code == request.page) || request.page == ALL_PAGES;
            return Err(Refusal::InvalidCdbField(if known { 3 } else { 2 }));
        }
        let start = out.len();
        let device = u8::from(device.write_protected) << 7 | u8::from(device.dpo_fua) << 4;
        let mut descriptor = Vec::new();
        if let Some(block) = request.descriptor {
            push_descriptor(block, request.long_descriptor && request.length == ListLength::Ten, &mut descriptor);
        }
        let long = u8::from(descriptor.len() == 16);
        let descriptor_length = u8::try_from(descriptor.len()).unwrap_or(0);
        match request.length {
            ListLength::Six => out.extend_from_slice(&[0, 0, device, descriptor_length]),
            ListLength::Ten => out.extend_from_slice(&[0, 0, 0, device, long, 0, 0, descriptor_length]),
        }
        out.extend_from_slice(&descriptor);
        for page in pages(self.facts).filter(|page| asked(page)) {
            let savable = if saving == Saving::Supported { PS } else { 0 };
            push_page(page, &self.bytes_of(page, request.control), savable, out);
        }
        match request.length {
            ListLength::Six => {
                let length = u8::try_from(out.len() - start - 1).unwrap_or(u8::MAX);
                if let Some(field) = out.get_mut(start) {
                    *field = length;
                }
            }
            ListLength::Ten => field::set_length16(out, start),
        }
        Ok(true)
    }

    fn bytes_of(&self, page: &Page, control: PageControl) -> Vec<u8> {
        let stored = match control {
            PageControl::Current => Some(&self.current),
            PageControl::Saved => self.saved.as_ref(),
            PageControl::Changeable => return (page.changeable)(self.facts),
            PageControl::Default => None,
        };
        let stored =
            stored.and_then(|list| list.iter().find(|one| (one.code, one.subpage) == (page.code, page.subpage)));
        stored.map_or_else(|| (page.defaults)(self.facts), |one| one.bytes.clone())
    }

    /// The values after a MODE SELECT with this list, PF 1 and this SP; `self` stays as it is, so that
    /// the caller can save before he answers. All or nothing. Other nexuses are owed 2Ah/01h where the
    /// result differs from `self`.
    pub fn select(
        &self,
        length: ListLength,
        save: bool,
        blocks: BlockDescriptor,
        list: &[u8],
        saving: Saving,
    ) -> Result<Values, Refusal> {
        if save && saving == Saving::Unsupported {
            return Err(Refusal::InvalidCdbField(1));
        }
        let mut next = self.clone();
        if !list.is_empty() {
            let mut at = check_header(length, blocks, list)?;
            while at < list.len() {
                at = next.select_page(list, at)?;
            }
        }
        if save {
            next.saved = Some(next.current.clone());
        }
        Ok(next)
    }

    /// Takes the page at this offset; returns the offset behind it.
    fn select_page(&mut self, list: &[u8], at: usize) -> Result<usize, Refusal> {
        let first = field::byte(list, at).ok_or(Refusal::ListLength)?;
        let code = first & 0x3F;
        let (subpage, header, length) = if first & SPF == 0 {
            (0, 2, usize::from(field::byte(list, at + 1).ok_or(Refusal::ListLength)?))
        } else {
            let subpage = field::byte(list, at + 1).ok_or(Refusal::ListLength)?;
            (subpage, 4, usize::from(field::be16(list, at + 2).ok_or(Refusal::ListLength)?))
        };
        // PS is reserved here; targets are to ignore it, since initiators send back what they were sent.
        let facts = self.facts;
        let page = pages(facts)
            .find(|page| page.code == code && page.subpage == subpage && (header == 4) == (page.subpage != 0))
            .ok_or_else(|| invalid(at, None))?;
        let changeable = (page.changeable)(facts);
        if length != changeable.len() {
            return Err(invalid(at + header - if header == 4 { 2 } else { 1 }, None));
        }
        let body = at + header;
        let new = list.get(body..body + length).ok_or(Refusal::ListLength)?;
        let current = self
            .current
            .iter_mut()
            .find(|one| (one.code, one.subpage) == (code, subpage))
            .ok_or_else(|| invalid(at, None))?;
        for (index, ((old, new), mask)) in current.bytes.iter().zip(new).zip(&changeable).enumerate() {
            let wrong = (old ^ new) & !mask;
            if wrong != 0 {
                return Err(invalid(body + index, u8::try_from(wrong.ilog2()).ok()));
            }
        }
        current.bytes.copy_from_slice(new);
        Ok(body + length)
    }
}

/// Checks header and block descriptor of a MODE SELECT list; returns where the pages begin. A
/// descriptor may only repeat what is: capacity and block length are not the initiator's to change.
fn check_header(length: ListLength, blocks: BlockDescriptor, list: &[u8]) -> Result<usize, Refusal> {
    let header = list.get(..length.header()).ok_or(Refusal::ListLength)?;
    let (medium_at, flags, descriptor) = match length {
        ListLength::Six => (1, 0, usize::from(field::byte(header, 3).unwrap_or(0))),
        ListLength::Ten => (2, field::byte(header, 4).unwrap_or(0), usize::from(field::be16(header, 6).unwrap_or(0))),
    };
    // MODE DATA LENGTH and the device-specific parameter are reserved for MODE SELECT.
    if field::byte(header, medium_at).unwrap_or(0) != 0 {
        return Err(invalid(medium_at, None));
    }
    let long = flags & 1 != 0;
    let start = length.header();
    if descriptor == 0 {
        return Ok(start);
    }
    if descriptor != if long { 16 } else { 8 } {
        return Err(invalid(start - 1, None));
    }
    let bytes = list.get(start..start + descriptor).ok_or(Refusal::ListLength)?;
    let (count, block_length, length_at) = if long {
        (field::be64(bytes, 0).unwrap_or(0), field::be32(bytes, 12).unwrap_or(0), 12)
    } else {
        let count = u64::from(field::be32(bytes, 0).unwrap_or(0));
        (count, field::be32(bytes, 4).unwrap_or(0) & 0x00FF_FFFF, 5)
    };
    let all_ones = if long { u64::MAX } else { u64::from(u32::MAX) };
    // 0 is "as it is", all ones is "as many as there are" (SBC-4 6.5.2).
    if count != 0 && count != all_ones && count != blocks.blocks {
        return Err(invalid(start, None));
    }
    if block_length != blocks.block_length {
        return Err(invalid(start + length_at, None));
    }
    Ok(start + descriptor)
}

fn push_descriptor(block: BlockDescriptor, long: bool, out: &mut Vec<u8>) {
    if long {
        out.extend_from_slice(&block.blocks.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&block.block_length.to_be_bytes());
    } else {
        out.extend_from_slice(&u32::try_from(block.blocks).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&(block.block_length & 0x00FF_FFFF).to_be_bytes());
    }
}

fn push_page(page: &Page, bytes: &[u8], savable: u8, out: &mut Vec<u8>) {
    if page.subpage == 0 {
        out.extend_from_slice(&[savable | page.code, u8::try_from(bytes.len()).unwrap_or(u8::MAX)]);
    } else {
        out.extend_from_slice(&[savable | SPF | page.code, page.subpage]);
        out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    }
    out.extend_from_slice(bytes);
}

fn invalid(byte: usize, bit: Option<u8>) -> Refusal {
    Refusal::InvalidListField { byte: u16::try_from(byte).unwrap_or(u16::MAX), bit }
}

/// Why an answer of MODE SENSE cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mode data is cut off")]
pub struct ParseError;

/// An answer of MODE SENSE as an initiator reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// WP and DPOFUA.
    pub device: DeviceParameter,
    /// The first block descriptor.
    pub descriptor: Option<BlockDescriptor>,
    /// Code, subpage and content of each page, without headers.
    pub pages: Vec<(u8, u8, Vec<u8>)>,
}

/// Reads the data of MODE SENSE. Every page that it announces must have come.
pub fn parse(length: ListLength, bytes: &[u8]) -> Result<Header, ParseError> {
    let (total, device, long, descriptors) = match length {
        ListLength::Six => {
            let [total, _, device, descriptors] = field::array::<4>(bytes, 0).ok_or(ParseError)?;
            (usize::from(total) + 1, device, false, usize::from(descriptors))
        }
        ListLength::Ten => {
            let total = usize::from(field::be16(bytes, 0).ok_or(ParseError)?) + 2;
            let [device, flags] = field::array::<2>(bytes, 3).ok_or(ParseError)?;
            (total, device, flags & 1 != 0, usize::from(field::be16(bytes, 6).ok_or(ParseError)?))
        }
    };
    let bytes = bytes.get(..total).ok_or(ParseError)?;
    let start = length.header();
    let block = bytes.get(start..start + descriptors).ok_or(ParseError)?;
    let descriptor = if long {
        field::be64(block, 0).zip(field::be32(block, 12))
    } else {
        field::be32(block, 0).map(u64::from).zip(field::be32(block, 4).map(|word| word & 0x00FF_FFFF))
    };
    let mut rest = bytes.get(start + descriptors..).ok_or(ParseError)?;
    let mut pages = Vec::new();
    while let Some(first) = field::byte(rest, 0) {
        let second = field::byte(rest, 1).ok_or(ParseError)?;
        let (subpage, header, length) = if first & SPF == 0 {
            (0, 2, usize::from(second))
        } else {
            (second, 4, usize::from(field::be16(rest, 2).ok_or(ParseError)?))
        };
        let body = rest.get(header..header + length).ok_or(ParseError)?;
        pages.push((first & 0x3F, subpage, body.to_vec()));
        rest = rest.get(header + length..).unwrap_or_default();
    }
    Ok(Header {
        device: DeviceParameter { write_protected: device & 0x80 != 0, dpo_fua: device & 0x10 != 0 },
        descriptor: descriptor.map(|(blocks, block_length)| BlockDescriptor { blocks, block_length }),
        pages,
    })
}

impl Facts {
    /// The pages that a unit of these facts has, as code and subpage, ascending.
    pub fn pages(self) -> Vec<(u8, u8)> {
        pages(self).map(|page| (page.code, page.subpage)).collect()
    }
}

const ALL_PAGES: u8 = 0x3F;
const ALL_SUBPAGES: u8 = 0xFF;
const PS: u8 = 0x80;
const SPF: u8 = 0x40;
