//! The last response of a login that joins a session: it waits for the session's word, which is put into it
//! before it is sent.

use super::Status;
use crate::wire::{BHS_BYTES, LoginResponse, Pdu};
use zerocopy::FromBytes;

/// Tells the numbers of the session instead of those that a new one would begin with (RFC 7143 §11.13): the
/// command window belongs to all of its connections.
pub fn tell_numbers(response: &mut [u8], exp_cmd_sn: u32, max_cmd_sn: u32) {
    if let Ok((header, _)) = LoginResponse::mut_from_prefix(response) {
        header.exp_cmd_sn = exp_cmd_sn.into();
        header.max_cmd_sn = max_cmd_sn.into();
    }
}

/// Turns the response into a refusal, which carries no text and no numbers (§11.13.5).
pub fn refuse(response: &mut Vec<u8>, status: Status) {
    response.truncate(BHS_BYTES);
    if let Ok((header, _)) = LoginResponse::mut_from_prefix(response) {
        header.flags = 0;
        header.set_data_segment_bytes(0);
        header.stat_sn = 0.into();
        header.exp_cmd_sn = 0.into();
        header.max_cmd_sn = 0.into();
        (header.status_class, header.status_detail) = (status.0, status.1);
    }
}
