//! GET EVENT STATUS NOTIFICATION (MMC-6 6.7) and MECHANISM STATUS (MMC-6 6.9).

/// What happened to the medium, as one initiator has still to be told (MMC-6 table of media events).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MediaEvent {
    /// Somebody wants the medium out, which an initiator has locked in: he may let go of it, and eject it.
    EjectRequested = 1,
    /// A medium was put in and is ready.
    New = 2,
    /// The medium was taken out.
    Removed = 3,
}

impl MediaEvent {
    /// The event of this number.
    pub fn from_code(code: u8) -> Option<MediaEvent> {
        [MediaEvent::EjectRequested, MediaEvent::New, MediaEvent::Removed]
            .into_iter()
            .find(|event| *event as u8 == code)
    }
}

/// What the drive is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drive {
    /// A medium is in it.
    pub present: bool,
    /// The tray is open.
    pub open: bool,
}

/// Notification classes: operational change, power management, media, device busy.
const CLASSES: u8 = 1 << OPERATIONAL | 1 << POWER | 1 << MEDIA | 1 << BUSY;
const OPERATIONAL: u8 = 1;
const POWER: u8 = 2;
const MEDIA: u8 = 4;
const BUSY: u8 = 6;
/// NEA: no class that was asked for is there.
const NO_EVENT_AVAILABLE: u8 = 0x80;

/// Appends the answer to a poll for the classes of `requested`, a bit each. True where it tells of
/// `pending`, which is then told.
pub fn encode(requested: u8, pending: Option<MediaEvent>, drive: Drive, out: &mut Vec<u8>) -> bool {
    let asked = requested & CLASSES;
    if asked == 0 {
        out.extend_from_slice(&[0, 2, NO_EVENT_AVAILABLE, CLASSES]);
        return false;
    }
    let told = pending.filter(|_| asked & 1 << MEDIA != 0);
    // Where something happened, that; else the class of highest priority, to say that nothing did.
    let class = if told.is_some() { MEDIA } else { asked.trailing_zeros() as u8 };
    let event = match class {
        POWER => [0, 1, 0, 0], // active
        MEDIA => {
            let status = u8::from(drive.open) | u8::from(drive.present) << 1;
            [told.map_or(0, |event| event as u8), status, 0, 0]
        }
        // Nothing changes how the drive operates; no command keeps it from taking others.
        _ => [0, 0, 0, 0],
    };
    out.extend_from_slice(&[0, 6, class, CLASSES]);
    out.extend_from_slice(&event);
    told.is_some()
}

/// Appends the answer of MECHANISM STATUS: idle, one slot, which is the tray.
pub fn encode_mechanism(drive: Drive, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, u8::from(drive.open) << 4, 0, 0, 0, 1, 0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Drive = Drive { present: true, open: false };
    const OPEN: Drive = Drive { present: false, open: true };

    fn poll(requested: u8, pending: Option<MediaEvent>, drive: Drive) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let told = encode(requested, pending, drive, &mut out);
        (out, told)
    }

    #[test]
    fn an_event_is_told_to_who_asks_for_its_class() {
        assert_eq!(poll(0x10, Some(MediaEvent::New), FULL), (vec![0, 6, 4, 0x56, 2, 2, 0, 0], true));
        assert_eq!(poll(0x10, Some(MediaEvent::EjectRequested), FULL), (vec![0, 6, 4, 0x56, 1, 2, 0, 0], true));
        assert_eq!(poll(0x7E, Some(MediaEvent::Removed), OPEN), (vec![0, 6, 4, 0x56, 3, 1, 0, 0], true));
        assert_eq!(poll(0x10, None, FULL), (vec![0, 6, 4, 0x56, 0, 2, 0, 0], false));
        assert_eq!(poll(0x02, Some(MediaEvent::New), FULL), (vec![0, 6, 1, 0x56, 0, 0, 0, 0], false));
        assert_eq!(poll(0x14, None, FULL), (vec![0, 6, 2, 0x56, 0, 1, 0, 0], false), "active");
    }

    #[test]
    fn a_class_that_is_not_there_is_no_event() {
        for requested in [0x00, 0x08, 0x20, 0x80] {
            assert_eq!(poll(requested, Some(MediaEvent::New), FULL), (vec![0, 2, 0x80, 0x56], false));
        }
    }

    #[test]
    fn the_mechanism_tells_of_its_door() {
        let mut out = Vec::new();
        encode_mechanism(FULL, &mut out);
        encode_mechanism(OPEN, &mut out);
        assert_eq!(out, [0, 0, 0, 0, 0, 1, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0]);
    }
}
