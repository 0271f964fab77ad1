//! Mode pages as an initiator reads and writes them.

use super::*;

const FACTS: Facts = Facts { volatile_cache: true, thresholds: true, optical: false };
const BLOCKS: BlockDescriptor = BlockDescriptor { blocks: 1 << 33, block_length: 512 };
const FORMS: [ListLength; 2] = [ListLength::Six, ListLength::Ten];

fn request(length: ListLength, control: PageControl, page: u8, subpage: u8) -> SenseRequest {
    SenseRequest { length, descriptor: None, long_descriptor: false, control, page, subpage }
}

fn sense(values: &Values, request: SenseRequest) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    let device = DeviceParameter { write_protected: true, dpo_fua: true };
    values.sense(request, device, Saving::Supported, &mut out).map(|answered| {
        assert!(answered);
        out
    })
}

fn select(values: &Values, length: ListLength, list: &[u8]) -> Result<Values, Refusal> {
    values.select(length, false, BLOCKS, list, Saving::Supported)
}

/// What an initiator sends back after it has read one page: the reserved header fields cleared.
fn list_of(values: &Values, length: ListLength, page: (u8, u8)) -> Vec<u8> {
    let mut list = sense(values, request(length, PageControl::Current, page.0, page.1)).unwrap();
    let header = if length == ListLength::Six { 4 } else { 8 };
    list[..header].fill(0);
    list[header] &= 0x7F;
    list
}

#[test]
fn spc_06_all_pages_and_subpages_in_ascending_order_with_true_lengths() {
    let values = Values::new(FACTS);
    for length in FORMS {
        for control in [PageControl::Current, PageControl::Changeable, PageControl::Default, PageControl::Saved] {
            let bytes = sense(&values, request(length, control, 0x3F, 0xFF)).unwrap();
            let read = parse(length, &bytes).unwrap();
            let listed: Vec<_> = read.pages.iter().map(|(code, subpage, _)| (*code, *subpage)).collect();
            assert_eq!(listed, [(0x01, 0), (0x08, 0), (0x0A, 0), (0x0A, 1), (0x1C, 0), (0x1C, 2)]);
            assert_eq!(read.device, DeviceParameter { write_protected: true, dpo_fua: true });
            for cut in 0..bytes.len() {
                assert_eq!(parse(length, &bytes[..cut]), Err(ParseError), "{cut}");
            }
            let plain = parse(length, &sense(&values, request(length, control, 0x3F, 0)).unwrap()).unwrap();
            assert!(plain.pages.iter().all(|(_, subpage, _)| *subpage == 0) && plain.pages.len() == 4);
        }
    }
}

#[test]
fn spc_06_pages_that_are_not_there_are_refused_where_they_are_named() {
    let values = Values::new(Facts { thresholds: false, ..FACTS });
    for page in 0..0x3F {
        let exists = FACTS.pages().iter().any(|(code, _)| *code == page);
        let answer = sense(&values, request(ListLength::Six, PageControl::Current, page, 0));
        assert_eq!(answer.err(), (!exists).then_some(Refusal::InvalidCdbField(2)), "{page:02x}");
    }
    let answer = sense(&values, request(ListLength::Six, PageControl::Current, 0x1C, 2));
    assert_eq!(answer, Err(Refusal::InvalidCdbField(3)));
    assert_eq!(
        sense(&values, request(ListLength::Six, PageControl::Current, 0x3F, 1)),
        Err(Refusal::InvalidCdbField(3))
    );
}

#[test]
fn spc_06_saved_values_are_refused_where_nobody_saves() {
    let values = Values::new(FACTS);
    let saved = request(ListLength::Ten, PageControl::Saved, 0x3F, 0);
    assert_eq!(values.sense(saved, DeviceParameter::default(), Saving::Unsupported, &mut Vec::new()), Ok(false));
    let list = list_of(&values, ListLength::Ten, (0x0A, 0));
    let refused = values.select(ListLength::Ten, true, BLOCKS, &list, Saving::Unsupported);
    assert_eq!(refused, Err(Refusal::InvalidCdbField(1)));
}

#[test]
fn spc_06_block_descriptors_short_and_long() {
    let values = Values::new(FACTS);
    let mut ask = request(ListLength::Ten, PageControl::Current, 0x08, 0);
    ask.descriptor = Some(BLOCKS);
    let short = parse(ListLength::Ten, &sense(&values, ask).unwrap()).unwrap();
    assert_eq!(short.descriptor, Some(BlockDescriptor { blocks: 0xFFFF_FFFF, block_length: 512 }));
    ask.long_descriptor = true;
    let bytes = sense(&values, ask).unwrap();
    assert_eq!(parse(ListLength::Ten, &bytes).unwrap().descriptor, Some(BLOCKS));
    // What was read may be written back with its descriptor; another block length may not.
    let mut list = bytes;
    list[..4].fill(0);
    assert_eq!(select(&values, ListLength::Ten, &list), Ok(values.clone()));
    list[8 + 14] = 0x10;
    assert_eq!(select(&values, ListLength::Ten, &list), Err(Refusal::InvalidListField { byte: 8 + 12, bit: None }));
}

#[test]
fn spc_07_every_bit_of_every_page_changes_exactly_where_the_mask_says() {
    let values = Values::new(FACTS);
    for length in FORMS {
        for (code, subpage) in FACTS.pages() {
            let list = list_of(&values, length, (code, subpage));
            let mask = sense(&values, request(length, PageControl::Changeable, code, subpage)).unwrap();
            let body = if length == ListLength::Six { 4 } else { 8 } + if subpage == 0 { 2 } else { 4 };
            for at in body..list.len() {
                for bit in 0..8 {
                    let mut changed = list.clone();
                    changed[at] ^= 1 << bit;
                    let answer = select(&values, length, &changed);
                    if mask[at] & 1 << bit == 0 {
                        let byte = u16::try_from(at).unwrap();
                        assert_eq!(answer, Err(Refusal::InvalidListField { byte, bit: Some(bit) }));
                    } else {
                        let after = answer.unwrap();
                        assert_ne!(after, values);
                        assert_eq!(list_of(&after, length, (code, subpage))[body..], changed[body..]);
                    }
                }
            }
        }
    }
}

#[test]
fn spc_07_a_truncated_list_is_a_length_error_and_a_wrong_page_length_a_field() {
    let values = Values::new(FACTS);
    for length in FORMS {
        let header = if length == ListLength::Six { 4 } else { 8 };
        for page in FACTS.pages() {
            let list = list_of(&values, length, page);
            assert_eq!(select(&values, length, &list), Ok(values.clone()));
            for cut in 0..list.len() {
                let answer = select(&values, length, &list[..cut]);
                // Nothing at all, and a header alone, are complete lists.
                if cut == 0 || cut == header {
                    assert_eq!(answer, Ok(values.clone()), "{cut}");
                } else {
                    assert_eq!(answer, Err(Refusal::ListLength), "{cut}");
                }
            }
            let mut longer = list.clone();
            let at = if page.1 == 0 { header + 1 } else { header + 3 };
            longer[at] += 1;
            longer.push(0);
            assert!(matches!(select(&values, length, &longer), Err(Refusal::InvalidListField { .. })));
        }
    }
}

#[test]
fn spc_07_a_list_is_taken_whole_or_not_at_all() {
    let values = Values::new(FACTS);
    let mut list = list_of(&values, ListLength::Ten, (0x08, 0));
    list[10] ^= 0x04; // WCE off
    let mut both = list.clone();
    both.extend_from_slice(&list_of(&values, ListLength::Ten, (0x01, 0))[8..]);
    let last = both.len() - 1;
    both[last] ^= 1;
    assert!(select(&values, ListLength::Ten, &both).is_err());
    assert!(values.write_cache_enabled());
    assert!(!select(&values, ListLength::Ten, &list).unwrap().write_cache_enabled());
}

#[test]
fn the_switches_do_what_their_bits_say() {
    let values = Values::new(FACTS);
    let mut list = list_of(&values, ListLength::Six, (0x0A, 0));
    assert!(!values.descriptor_sense() && !values.software_write_protected() && !values.task_aborted_status());
    (list[6], list[8], list[9]) = (0x04, 0x08, 0x40);
    let after = select(&values, ListLength::Six, &list).unwrap();
    assert!(after.descriptor_sense() && after.software_write_protected() && after.task_aborted_status());

    let mut list = list_of(&values, ListLength::Six, (0x1C, 2));
    assert_eq!(values.provisioning_threshold(), None);
    (list[20], list[27]) = (list[20] | 0x80, 9);
    assert_eq!(select(&values, ListLength::Six, &list).unwrap().provisioning_threshold(), Some(9));
}

#[test]
fn without_a_cache_there_is_nothing_to_switch() {
    let values = Values::new(Facts { volatile_cache: false, ..FACTS });
    let mut list = list_of(&values, ListLength::Six, (0x08, 0));
    assert!(!values.write_cache_enabled());
    list[6] |= 0x04;
    assert_eq!(select(&values, ListLength::Six, &list), Err(Refusal::InvalidListField { byte: 6, bit: Some(2) }));
}

#[test]
fn saved_values_come_back_after_a_restart_and_current_ones_end_with_a_reset() {
    let values = Values::new(FACTS);
    let mut list = list_of(&values, ListLength::Six, (0x0A, 0));
    list[6] = 0x04;
    let mut unsaved = select(&values, ListLength::Six, &list).unwrap();
    unsaved.reset();
    assert_eq!(unsaved, values);

    // SP with an empty list saves what is current; a reset and a restart come to the same.
    let current = select(&values, ListLength::Six, &list).unwrap();
    let mut kept = current.select(ListLength::Six, true, BLOCKS, &[], Saving::Supported).unwrap();
    kept.reset();
    assert_eq!((kept.descriptor_sense(), &Values::restore(FACTS, &kept.to_saved())), (true, &kept));

    let saved = values.select(ListLength::Six, true, BLOCKS, &list, Saving::Supported).unwrap();
    let mut restored = Values::restore(FACTS, &saved.to_saved());
    assert_eq!(restored, saved);
    restored.reset();
    assert!(restored.descriptor_sense());
    for cut in 0..saved.to_saved().len() {
        let _ = Values::restore(FACTS, &saved.to_saved()[..cut]);
    }
    let hostile: Vec<u8> = FACTS
        .pages()
        .iter()
        .flat_map(|&(code, subpage)| [vec![code, subpage, 255], vec![0xFF; 255]].concat())
        .collect();
    let restored = Values::restore(FACTS, &hostile);
    assert!(restored.descriptor_sense() && restored.software_write_protected());
    assert_eq!(restored.byte(0x01, 0, 0), 0xC0, "what cannot be changed is not taken from saved bytes either");
}

proptest::proptest! {
    #[test]
    fn no_list_harms_the_parsers(bytes in proptest::collection::vec(0u8.., 0..120)) {
        for length in FORMS {
            let _ = select(&Values::new(FACTS), length, &bytes);
            let _ = parse(length, &bytes);
        }
        let _ = Values::restore(FACTS, &bytes);
    }
}

#[test]
fn a_cd_drive_has_the_pages_that_mmc_asks_for_and_none_of_a_disk() {
    let facts = Facts { volatile_cache: false, thresholds: false, optical: true };
    let codes: Vec<u8> = facts.pages().into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [0x01, 0x0A, 0x0A, 0x1A, 0x1C, 0x1D, 0x2A]);
    let mut values = Values::new(facts);
    let request = SenseRequest {
        length: ListLength::Ten,
        descriptor: None,
        long_descriptor: false,
        control: PageControl::Current,
        page: 0x2A,
        subpage: 0,
    };
    let lock_state = |values: &Values| {
        let mut out = Vec::new();
        values.sense(request, DeviceParameter::default(), Saving::Unsupported, &mut out).unwrap();
        assert_eq!(out[..10], [0, 28, 0, 0, 0, 0, 0, 0, 0x2A, 20]);
        out[8 + 6]
    };
    assert_eq!(lock_state(&values), 0x29, "a tray that can be locked and ejects");
    values.show_locked(true);
    assert_eq!(lock_state(&values), 0x2B);
}
