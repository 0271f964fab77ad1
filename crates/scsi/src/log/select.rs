//! What LOG SELECT asks for (SPC-5 6.8): counters that begin again, and application client parameters.

use super::application_client::{self, BYTES, Notes};
use super::{ALL_SUBPAGES, Facts, SPF, SUPPORTED, pages, statistics};
use crate::field;

/// Why a LOG SELECT is refused, ILLEGAL REQUEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// INVALID FIELD IN CDB, 24h/00h, at this byte and, where it is one bit, this bit.
    #[error("invalid field in byte {0} of the CDB")]
    InvalidCdbField(u8, Option<u8>),
    /// PARAMETER LIST LENGTH ERROR, 1Ah/00h.
    #[error("the log parameter list is cut off")]
    ListLength,
    /// INVALID FIELD IN PARAMETER LIST, 26h/00h, at this byte.
    #[error("invalid field at byte {0} of the log parameter list")]
    InvalidListField(u16),
}

/// A LOG SELECT command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectRequest {
    /// PCR: parameters begin again with their defaults.
    pub reset: bool,
    /// SP: parameters are to be saved; nothing here can be.
    pub save: bool,
    /// PC, 0 to 3.
    pub control: u8,
    /// PAGE CODE.
    pub page: u8,
    /// SUBPAGE CODE.
    pub subpage: u8,
    /// PARAMETER LIST LENGTH.
    pub length: u16,
}

/// What a command without a parameter list resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reset {
    /// The counters of page 19h.
    pub statistics: bool,
    /// The parameters of page 0Fh.
    pub notes: bool,
}

impl SelectRequest {
    /// Checks the CDB; `None` where a parameter list follows.
    pub fn check(self, facts: &Facts<'_>) -> Result<Option<Reset>, Refusal> {
        // To save defaults is to save nothing; there is nothing that could be saved otherwise.
        if self.save && (self.length > 0 || self.control & 2 == 0) {
            return Err(Refusal::InvalidCdbField(1, Some(0)));
        }
        if self.length > 0 {
            // The list names its pages itself.
            return match self {
                SelectRequest { reset: true, .. } => Err(Refusal::InvalidCdbField(1, Some(1))),
                SelectRequest { page: 0, subpage: 0, .. } => Ok(None),
                SelectRequest { page: 0, .. } => Err(Refusal::InvalidCdbField(3, None)),
                _ => Err(Refusal::InvalidCdbField(2, Some(5))),
            };
        }
        let known = self.page == SUPPORTED || pages(facts).any(|page| page.code == self.page);
        if !known {
            return Err(Refusal::InvalidCdbField(2, Some(5)));
        }
        if !matches!(self.subpage, 0 | ALL_SUBPAGES) {
            return Err(Refusal::InvalidCdbField(3, None));
        }
        // 00h/00h is all pages; 00h/FFh is what lists them, which has nothing to set.
        let named = |code| self.page == code || self.page == SUPPORTED && self.subpage == 0;
        // PC 11b sets cumulative values to their defaults; parameters that are lists take no notice of it.
        let counters = self.reset || self.control == DEFAULT_CUMULATIVE;
        Ok(Some(Reset {
            statistics: counters && named(statistics::CODE),
            notes: self.reset && named(application_client::CODE),
        }))
    }
}

/// The notes after this parameter list. They are values without thresholds, so that PC says nothing of them.
pub fn select(list: &[u8], notes: &Notes) -> Result<Notes, Refusal> {
    let mut notes = notes.clone();
    let mut rest = list;
    let mut last_page = None;
    while !rest.is_empty() {
        let at = list.len() - rest.len();
        let [first, subpage, high, low] = field::array::<4>(rest, 0).ok_or(Refusal::ListLength)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let body = rest.get(4..4 + length).ok_or(Refusal::ListLength)?;
        // What is counted here nobody can set, and what is measured even less. Pages ascend.
        let page = first & 0x3F;
        if page != application_client::CODE || last_page.is_some_and(|last| page <= last) {
            return Err(invalid(at));
        }
        if first & SPF != 0 || subpage != 0 {
            return Err(invalid(at + 1));
        }
        parameters(body, at + 4, &mut notes)?;
        last_page = Some(page);
        rest = rest.get(4 + length..).unwrap_or_default();
    }
    Ok(notes)
}

fn parameters(body: &[u8], start: usize, notes: &mut Notes) -> Result<(), Refusal> {
    let mut rest = body;
    let mut last = None;
    while !rest.is_empty() {
        let at = start + body.len() - rest.len();
        let [high, low, control, length] = field::array::<4>(rest, 0).ok_or(invalid(at))?;
        let code = u16::from_be_bytes([high, low]);
        if last.is_some_and(|last| code <= last) {
            return Err(invalid(at));
        }
        // FORMAT AND LINKING: a binary list, and nothing that compares it with a threshold.
        if control & 0x1F != super::BINARY_LIST {
            return Err(invalid(at + 2));
        }
        if usize::from(length) != BYTES {
            return Err(invalid(at + 3));
        }
        let value = field::array::<BYTES>(rest, 4).ok_or(invalid(at + 3))?;
        if !notes.set(code, value) {
            return Err(invalid(at));
        }
        last = Some(code);
        rest = rest.get(4 + BYTES..).unwrap_or_default();
    }
    Ok(())
}

fn invalid(at: usize) -> Refusal {
    Refusal::InvalidListField(u16::try_from(at).unwrap_or(u16::MAX))
}

/// PC 11b.
const DEFAULT_CUMULATIVE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SelectRequest {
        SelectRequest { reset: false, save: false, control: 1, page: 0, subpage: 0, length: 0 }
    }

    fn page(codes: &[u16]) -> Vec<u8> {
        let mut list = vec![0x0F, 0];
        list.extend_from_slice(&(codes.len() as u16 * 256).to_be_bytes());
        for code in codes {
            list.extend_from_slice(&code.to_be_bytes());
            list.extend_from_slice(&[0x83, 252]);
            list.extend_from_slice(&[*code as u8 + 1; 252]);
        }
        list
    }

    #[test]
    fn spc_12_what_is_reset_is_what_was_named() {
        let notes = Notes::default();
        let facts = Facts { statistics: Some(Default::default()), notes: Some(&notes), ..Facts::default() };
        let reset = |statistics, notes| Ok(Some(Reset { statistics, notes }));
        let check = |request: SelectRequest| request.check(&facts);
        assert_eq!(check(request()), reset(false, false));
        assert_eq!(check(SelectRequest { reset: true, ..request() }), reset(true, true));
        assert_eq!(check(SelectRequest { reset: true, page: 0x19, ..request() }), reset(true, false));
        assert_eq!(check(SelectRequest { reset: true, page: 0x0F, ..request() }), reset(false, true));
        assert_eq!(check(SelectRequest { reset: true, page: 0x2F, ..request() }), reset(false, false));
        assert_eq!(check(SelectRequest { control: 3, ..request() }), reset(true, false));
        let refused = |byte, bit| Err(Refusal::InvalidCdbField(byte, bit));
        assert_eq!(check(SelectRequest { save: true, ..request() }), refused(1, Some(0)));
        assert_eq!(check(SelectRequest { reset: true, length: 4, ..request() }), refused(1, Some(1)));
        assert_eq!(check(SelectRequest { page: 0x0F, length: 4, ..request() }), refused(2, Some(5)));
        assert_eq!(check(SelectRequest { reset: true, page: 0x15, ..request() }), refused(2, Some(5)));
        assert_eq!(check(SelectRequest { subpage: 1, ..request() }), refused(3, None));
        assert_eq!(check(SelectRequest { length: 4, ..request() }), Ok(None));
    }

    #[test]
    fn spc_12_a_list_is_taken_whole_or_refused_where_it_is_wrong() {
        let list = page(&[0, 5, 63]);
        let notes = select(&list, &Notes::default()).unwrap();
        assert_eq!((notes.get(5), notes.get(63), notes.get(6)), ([6; 252], [64; 252], [0; 252]));
        for cut in 1..list.len() {
            assert_eq!(select(&list[..cut], &notes), Err(Refusal::ListLength), "{cut}");
        }
        let wrong = |at: usize, byte: u8| {
            let mut list = page(&[0, 5]);
            list[at] = byte;
            select(&list, &notes)
        };
        assert_eq!(wrong(0, 0x19), Err(Refusal::InvalidListField(0)), "counters are not set");
        assert_eq!(wrong(1, 1), Err(Refusal::InvalidListField(1)));
        assert_eq!(wrong(6, 0x80), Err(Refusal::InvalidListField(6)));
        assert_eq!(wrong(7, 251), Err(Refusal::InvalidListField(7)));
        assert_eq!(wrong(261, 64), Err(Refusal::InvalidListField(260)));
        assert_eq!(wrong(261, 0), Err(Refusal::InvalidListField(260)), "not ascending");
        let twice = [page(&[0]), page(&[1])].concat();
        assert_eq!(select(&twice, &notes), Err(Refusal::InvalidListField(260)));
    }
}
