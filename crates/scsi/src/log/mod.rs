//! Log pages (SPC-5 7.3, SBC-4 6.4): one file a page, one list, and what LOG SENSE answers.

pub mod application_client;
pub mod exceptions;
pub mod provisioning;
mod select;
pub mod statistics;
pub mod temperature;

pub use select::{Refusal, Reset, SelectRequest, select};

use crate::field;

/// What the log pages of a unit say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts<'a> {
    /// Degrees Celsius of the medium; `None` where nobody measures.
    pub temperature: Option<temperature::Temperature>,
    /// Space of a thin unit; `None` where it is not thin or not known.
    pub space: Option<provisioning::Space>,
    /// Counts since power on; `None` where nobody counts.
    pub statistics: Option<statistics::Statistics>,
    /// What applications noted; `None` where they cannot.
    pub notes: Option<&'a application_client::Notes>,
}

/// One page.
pub struct Page {
    /// PAGE CODE. All of ours have subpage 00h only.
    pub code: u8,
    /// Whether a unit of these facts has it.
    pub applies: fn(&Facts<'_>) -> bool,
    /// Whether its parameters count, so that only cumulative values can be asked for (PC 01b).
    /// Codes of the parameters that count, which are answered as cumulative values alone.
    counters: &'static [u16],
    /// Its parameters, ascending.
    parameters: fn(&Facts<'_>) -> Vec<Parameter>,
}

/// A log parameter (SPC-5 7.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// PARAMETER CODE.
    pub code: u16,
    /// Its value, at most 255 bytes.
    pub value: Vec<u8>,
}

/// All pages but 00h, which is made from this list; ascending.
pub const PAGES: &[Page] =
    &[provisioning::PAGE, temperature::PAGE, application_client::PAGE, statistics::PAGE, exceptions::PAGE];

/// INVALID FIELD IN CDB, 05h/24h/00h, at this byte of LOG SENSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid field in byte {0} of the CDB")]
pub struct InvalidCdbField(pub u8);

/// A LOG SENSE command (SPC-5 6.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenseRequest {
    /// SP: parameters are to be saved; nothing here can be.
    pub save: bool,
    /// PC, 0 to 3.
    pub control: u8,
    /// PAGE CODE.
    pub page: u8,
    /// SUBPAGE CODE.
    pub subpage: u8,
    /// PARAMETER POINTER: only parameters from this code on.
    pub pointer: u16,
}

/// Appends the data of LOG SENSE, which the caller cuts at the allocation length; PAGE LENGTH is the
/// full one.
pub fn sense(request: SenseRequest, facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), InvalidCdbField> {
    if request.save {
        return Err(InvalidCdbField(1));
    }
    match (request.page, request.subpage) {
        (SUPPORTED, 0x00) => {
            let codes = pages(facts).map(|page| page.code);
            list(request, std::iter::once(SUPPORTED).chain(codes).map(|code| [code]), out)
        }
        (SUPPORTED, ALL_SUBPAGES) => {
            let own = [[SUPPORTED, 0x00], [SUPPORTED, ALL_SUBPAGES]];
            list(request, own.into_iter().chain(pages(facts).map(|page| [page.code, 0x00])), out)
        }
        (code, 0x00) => {
            let page = pages(facts).find(|page| page.code == code).ok_or(InvalidCdbField(2))?;
            if !page.counters.is_empty() && request.control != CUMULATIVE {
                return Err(InvalidCdbField(2));
            }
            let mut parameters = (page.parameters)(facts);
            if parameters.last().is_none_or(|last| request.pointer > last.code) {
                return Err(InvalidCdbField(5));
            }
            parameters.retain(|parameter| parameter.code >= request.pointer);
            push_page(code, page.counters, &parameters, out);
            Ok(())
        }
        (code, _) => {
            let known = code == SUPPORTED || pages(facts).any(|page| page.code == code);
            Err(InvalidCdbField(if known { 3 } else { 2 }))
        }
    }
}

/// One of the pages that list pages; they have no parameters to point at.
fn list<const N: usize>(
    request: SenseRequest,
    entries: impl Iterator<Item = [u8; N]>,
    out: &mut Vec<u8>,
) -> Result<(), InvalidCdbField> {
    if request.pointer != 0 {
        return Err(InvalidCdbField(5));
    }
    let start = out.len();
    let format = if request.subpage == 0 { 0 } else { SPF };
    out.extend_from_slice(&[format | request.page, request.subpage, 0, 0]);
    out.extend(entries.flatten());
    field::set_length16(out, start + 2);
    Ok(())
}

fn push_page(code: u8, counters: &[u16], parameters: &[Parameter], out: &mut Vec<u8>) {
    let start = out.len();
    // DS: nothing of the page is saved.
    out.extend_from_slice(&[DS | code, 0x00, 0, 0]);
    for parameter in parameters {
        out.extend_from_slice(&parameter.code.to_be_bytes());
        let length = parameter.value.len().min(255);
        let format = if counters.contains(&parameter.code) { COUNTER } else { BINARY_LIST };
        out.extend_from_slice(&[format, u8::try_from(length).unwrap_or(u8::MAX)]);
        out.extend(parameter.value.iter().take(length));
    }
    field::set_length16(out, start + 2);
}

/// A log page as an initiator reads it: its code, subpage and parameters. `None` where it is cut off.
pub fn parse(bytes: &[u8]) -> Option<(u8, u8, Vec<Parameter>)> {
    let [first, subpage] = field::array::<2>(bytes, 0)?;
    let length = usize::from(field::be16(bytes, 2)?);
    let mut rest = bytes.get(4..4 + length)?;
    let mut parameters = Vec::new();
    while !rest.is_empty() {
        let code = field::be16(rest, 0)?;
        let end = 4 + usize::from(field::byte(rest, 3)?);
        parameters.push(Parameter { code, value: rest.get(4..end)?.to_vec() });
        rest = rest.get(end..)?;
    }
    Some((first & 0x3F, if first & SPF == 0 { 0 } else { subpage }, parameters))
}

fn pages<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'static Page> + 'a {
    PAGES.iter().filter(move |page| (page.applies)(facts))
}

const SUPPORTED: u8 = 0x00;
const ALL_SUBPAGES: u8 = 0xFF;
const SPF: u8 = 0x40;
const DS: u8 = 0x80;
/// PC 01b.
const CUMULATIVE: u8 = 1;
/// FORMAT AND LINKING 11b: a list of binary values that nobody compares with a threshold.
const BINARY_LIST: u8 = 0x03;
/// FORMAT AND LINKING 10b, an unbounded data counter.
const COUNTER: u8 = 0x02;

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(notes: &application_client::Notes) -> Facts<'_> {
        Facts {
            temperature: Some(temperature::Temperature { current: 41, reference: 70 }),
            space: Some(provisioning::Space { available: Some(100), used: 28 }),
            statistics: Some(statistics::Statistics { read_commands: 3, write_commands: 4, ..Default::default() }),
            notes: Some(notes),
        }
    }

    fn ask(page: u8, subpage: u8, control: u8, pointer: u16) -> Result<Vec<u8>, InvalidCdbField> {
        let (mut out, notes) = (Vec::new(), application_client::Notes::default());
        sense(SenseRequest { save: false, control, page, subpage, pointer }, &facts(&notes), &mut out).map(|()| out)
    }

    #[test]
    fn spc_12_the_lists_name_exactly_the_pages_that_answer() {
        let listed = ask(0, 0, 1, 0).unwrap();
        assert_eq!(listed, [0x00, 0x00, 0, 6, 0x00, 0x0C, 0x0D, 0x0F, 0x19, 0x2F]);
        for page in 0..0x40 {
            assert_eq!(ask(page, 0, 1, 0).is_ok(), listed[4..].contains(&page), "{page:02x}");
        }
        assert_eq!(
            ask(0, 0xFF, 1, 0).unwrap(),
            [0x40, 0xFF, 0, 14, 0, 0, 0, 0xFF, 0x0C, 0, 0x0D, 0, 0x0F, 0, 0x19, 0, 0x2F, 0]
        );
        let mut few = Vec::new();
        let all = SenseRequest { save: false, control: 1, page: 0, subpage: 0, pointer: 0 };
        sense(all, &Facts::default(), &mut few).unwrap();
        assert_eq!(few[4..], [0x00, 0x2F]);
    }

    #[test]
    fn spc_12_parameters_are_whole_and_the_pointer_skips() {
        for page in [0x0C, 0x0D, 0x0F, 0x19, 0x2F] {
            let bytes = ask(page, 0, 1, 0).unwrap();
            let (code, _, parameters) = parse(&bytes).unwrap();
            assert_eq!(code, page);
            let last = parameters.last().unwrap().code;
            assert_eq!(parse(&ask(page, 0, 1, last).unwrap()).unwrap().2, parameters[parameters.len() - 1..]);
            assert_eq!(ask(page, 0, 1, last + 1), Err(InvalidCdbField(5)));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), None, "{cut}");
            }
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_where_it_stands() {
        assert_eq!(ask(0x19, 0, 0, 0), Err(InvalidCdbField(2)), "thresholds of counters");
        assert_eq!(ask(0x19, 1, 1, 0), Err(InvalidCdbField(3)));
        assert_eq!(ask(0x02, 0, 1, 0), Err(InvalidCdbField(2)));
        assert_eq!(ask(0x00, 0, 1, 1), Err(InvalidCdbField(5)));
        let save = SenseRequest { save: true, control: 1, page: 0, subpage: 0, pointer: 0 };
        assert_eq!(sense(save, &Facts::default(), &mut Vec::new()), Err(InvalidCdbField(1)));
    }

    #[test]
    fn the_values_are_where_the_standard_has_them() {
        assert_eq!(ask(0x0D, 0, 1, 0).unwrap(), [0x8D, 0, 0, 12, 0, 0, 3, 2, 0, 41, 0, 1, 3, 2, 0, 70]);
        let space = ask(0x0C, 0, 1, 0).unwrap();
        assert_eq!(space[4..12], [0, 1, 3, 8, 0, 0, 0, 100]);
        assert_eq!(space[16..24], [0, 2, 3, 8, 0, 0, 0, 28]);
        let counts = parse(&ask(0x19, 0, 1, 0).unwrap()).unwrap().2;
        assert_eq!((counts[0].value.len(), counts[0].value[7], counts[0].value[15]), (64, 3, 4));
        assert_eq!(ask(0x2F, 0, 1, 0).unwrap(), [0xAF, 0, 0, 8, 0, 0, 3, 4, 0, 0, 41, 70]);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_of_a_target_harms_the_decoder(mut bytes in proptest::collection::vec(0u8.., 0..120)) {
            if let Some(high) = bytes.get_mut(2) { *high = 0; }
            let _ = parse(&bytes);
        }
    }
}
