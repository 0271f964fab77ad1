//! SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS (SPC-5 6.42, 6.22): the default self-test, and a list of
//! diagnostic pages that has none but itself.

use super::{Outcome, field};
use crate::lane::Execution;
use crate::operation::{Ending, Verdict, Work};
use scsi::{Condition, SenseKey};

/// PAGE CODE of the supported diagnostic pages.
const SUPPORTED_PAGES: u8 = 0x00;

/// SEND DIAGNOSTIC.
pub(super) fn send(execution: &mut Execution<'_>) -> Outcome {
    let (flags, length) = (field(execution.cdb, 1, 1), field(execution.cdb, 3, 2) as usize);
    let (page_format, self_test) = (flags & 0x10 != 0, flags & 0x04 != 0);
    // No self-test runs in the background, nor is there a longer one; so there is none to abort either.
    if flags >> 5 != 0 {
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(7)));
    }
    match (self_test, length) {
        (true, 0) => execution.long(self_test_of),
        (true, _) => Outcome::Check(Condition::invalid_cdb_field(3, Some(7))),
        // Nothing is asked for, and that is no error.
        (false, 0) => Outcome::Good,
        // PF 0: parameters of a vendor's own format, which there are not.
        (false, _) if !page_format => Outcome::Check(Condition::invalid_cdb_field(1, Some(4))),
        (false, length) => execution.long(move |work| page_of(work, length)),
    }
}

/// Reads the first, the middle and the last block, where there is a medium: whatever serves commands is
/// gone through once. LOGICAL UNIT FAILED SELF-TEST otherwise.
async fn self_test_of(work: Work) -> Verdict {
    let away = work.unit.medium_refusal().is_some();
    let (blocks, length) = (work.limits.blocks, work.block());
    if !away && blocks > 0 {
        let mut scratch = work.scratch(length).await?;
        for block in [0, blocks / 2, blocks - 1] {
            let read = work.read(scratch, 0..length as usize, block * length).await;
            scratch = read.map_err(|_| Condition::new(SenseKey::HardwareError, 0x3e, 0x03))?;
        }
    }
    Ending::good(0)
}

async fn page_of(work: Work, length: usize) -> Verdict {
    let list = work.parameter_list(length).await?;
    // A page that its list cuts off, or does not fill, is a matter of the CDB (SPC-5 6.42).
    if length < 4 || 4 + field(&list, 2, 2) as usize != length {
        return Err(Condition::invalid_cdb_field(3, Some(7)));
    }
    match list.iter().position(|byte| *byte != SUPPORTED_PAGES) {
        // The page has a code and no content; RECEIVE DIAGNOSTIC RESULTS answers it.
        None => Ending::good(length as u64),
        Some(at) => Err(Condition::invalid_parameter(at as u16, None)),
    }
}

/// RECEIVE DIAGNOSTIC RESULTS. Without PCV it is the page of the last SEND DIAGNOSTIC, and that is the one
/// there is.
pub(super) fn receive_results(execution: &mut Execution<'_>) -> Outcome {
    if field(execution.cdb, 2, 1) as u8 != SUPPORTED_PAGES {
        return Outcome::Check(Condition::invalid_cdb_field(2, Some(7)));
    }
    execution.data.extend_from_slice(&[SUPPORTED_PAGES, 0, 0, 1, SUPPORTED_PAGES]);
    Outcome::Data(field(execution.cdb, 3, 2) as usize)
}
