//! The decoders of single PDUs and of text: every header view of both directions, the walk over
//! additional header segments, pairs, numbers, names.

use iscsi::name::Name;
use iscsi::text;
use iscsi::wire::{
    AdditionalHeader, AdditionalHeaders, AsyncEvent, AsyncMessage, BHS_BYTES, DataIn, DataOut, Header, LoginRequest,
    LoginResponse, LogoutRequest, LogoutResponse, NopIn, NopOut, Opcode, Pdu, ReadyToTransfer, Reject, RejectReason,
    ScsiCommand, ScsiResponse, SnackRequest, TaskManagementRequest, TaskManagementResponse, TextRequest, TextResponse,
    extended_cdb, padding,
};
use zerocopy::{FromBytes, IntoBytes};

/// A basic header segment, its additional ones, and what is left as text.
pub fn run(bytes: &[u8]) {
    if let Ok((header, behind)) = Header::ref_from_prefix(bytes) {
        views(header);
        assert_eq!(header.data_segment_bytes() + padding(header.data_segment_bytes()), {
            let length = header.data_segment_bytes();
            length.next_multiple_of(4)
        });
        let additional = behind.get(..header.additional_bytes()).unwrap_or(behind);
        walk(header, additional);
        pairs(behind.get(additional.len()..).unwrap_or(&[]));
    }
    // The same bytes as other parts see them.
    walk(Header::ref_from_bytes(&[0; BHS_BYTES]).expect("48 bytes"), bytes);
    pairs(bytes);
}

fn views(header: &Header) {
    fn view<P: Pdu + Copy + std::fmt::Debug>(header: &Header) {
        let pdu = *P::view(header);
        assert_eq!(pdu.as_bytes(), header.as_bytes(), "a view loses nothing");
        assert_eq!(pdu.header().as_bytes(), header.as_bytes());
        let mut shorter = pdu;
        shorter.set_data_segment_bytes(header.data_segment_bytes());
        assert_eq!(shorter.as_bytes(), header.as_bytes(), "a length is written as it was read");
    }
    view::<NopOut>(header);
    view::<ScsiCommand>(header);
    view::<TaskManagementRequest>(header);
    view::<LoginRequest>(header);
    view::<TextRequest>(header);
    view::<DataOut>(header);
    view::<LogoutRequest>(header);
    view::<SnackRequest>(header);
    view::<NopIn>(header);
    view::<ScsiResponse>(header);
    view::<TaskManagementResponse>(header);
    view::<LoginResponse>(header);
    view::<TextResponse>(header);
    view::<DataIn>(header);
    view::<LogoutResponse>(header);
    view::<ReadyToTransfer>(header);
    view::<AsyncMessage>(header);
    view::<Reject>(header);
    let opcode = Opcode::from_number(header.opcode());
    assert!(opcode.is_none_or(|opcode| opcode as u8 == header.opcode() && header.opcode() < 0x40));
    for number in [header.flags, header.specific[0]] {
        assert!(RejectReason::from_number(number).is_none_or(|reason| reason as u8 == number));
        assert!(AsyncEvent::from_number(number).is_none_or(|event| event as u8 == number));
    }
    let login = LoginRequest::view(header);
    assert!(login.current_stage() < 4 && login.next_stage() < 4);
    assert!(ScsiCommand::view(header).attribute() < 8);
}

/// The walk ends, says nothing after an error, and gives nothing that was not there.
fn walk(header: &Header, additional: &[u8]) {
    let (mut taken, mut failed) = (0, false);
    for segment in AdditionalHeaders::new(additional) {
        assert!(!failed, "a segment behind an error");
        match segment {
            Err(()) => failed = true,
            Ok(segment) => {
                // The head of three bytes, and at least the specific byte.
                taken += 4;
                if let AdditionalHeader::ExtendedCdb(rest) = segment {
                    let range = additional.as_ptr_range();
                    assert!(range.contains(&rest.as_ptr()) && rest.as_ptr_range().end <= range.end);
                    taken += rest.len().next_multiple_of(4);
                    let start = &ScsiCommand::view(header).cdb;
                    let cdb = extended_cdb(start, rest);
                    assert_eq!((&cdb[..16], &cdb[16..]), (&start[..], rest));
                }
            }
        }
        assert!(taken <= additional.len().next_multiple_of(4), "{taken} bytes of {}", additional.len());
    }
}

fn pairs(bytes: &[u8]) {
    let (mut failed, mut length, mut again) = (false, 0, Vec::new());
    for pair in text::pairs(bytes) {
        assert!(!failed, "a pair behind an error");
        let Ok((key, value)) = pair else {
            failed = true;
            continue;
        };
        assert!((1..=63).contains(&key.len()) && !value.contains('\0'));
        length += key.len() + value.len() + 2;
        assert!(length <= bytes.len(), "pairs are no longer than their text");
        text::push(&mut again, key, value);
        if let Some(number) = text::number(value) {
            assert_eq!(text::number(&number.to_string()), Some(number));
            assert_eq!(text::number(&format!("{number:#x}")), Some(number));
        }
        name(value);
        assert_eq!(
            iscsi::key::find(key).map(|row| row.name),
            iscsi::key::KEYS.iter().map(|row| row.name).find(|n| *n == key)
        );
    }
    if !failed {
        // What was understood and said again is understood the same.
        let first: Vec<_> = text::pairs(bytes).collect();
        assert_eq!(text::pairs(&again).collect::<Vec<_>>(), first);
    }
}

/// Preparing a name twice gives what preparing it once gave (NAM-04).
fn name(value: &str) {
    if let Ok(name) = Name::lenient(value) {
        let prepared: String = name.into();
        assert!(prepared.len() <= 223, "{} bytes of a name", prepared.len());
        let again = Name::lenient(&prepared).map(String::from);
        assert_eq!(again.ok().as_deref(), Some(prepared.as_str()), "a prepared name is a name");
    }
}
