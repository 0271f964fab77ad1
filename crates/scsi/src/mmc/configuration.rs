//! GET CONFIGURATION (MMC-6 6.6, features of 5.3): what the drive can, and what of it the medium allows.

use super::{BLOCK_LENGTH, Medium};

/// RT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// 00b: every feature.
    All,
    /// 01b: those that are current.
    Current,
    /// 10b: the one that is named.
    One,
}

impl Requested {
    /// The request of this code; 11b is reserved.
    pub fn of(code: u8) -> Option<Requested> {
        match code {
            0 => Some(Requested::All),
            1 => Some(Requested::Current),
            2 => Some(Requested::One),
            _ => None,
        }
    }
}

/// One feature.
struct Feature {
    code: u16,
    version: u8,
    /// Whether it is current with this medium; a feature that always is, is PERSISTENT.
    when: When,
    data: fn(Option<Medium>) -> Vec<u8>,
}

#[derive(PartialEq, Eq)]
enum When {
    Always,
    AnyMedium,
    Only(Medium),
}

/// All features, ascending.
const FEATURES: &[Feature] = &[
    Feature { code: 0x0000, version: 0, when: When::Always, data: profiles },
    // Core: SCSI; INQUIRY as SPC has it, and the event class of a busy device.
    Feature { code: 0x0001, version: 2, when: When::Always, data: |_| vec![0, 0, 0, 1, 0x03, 0, 0, 0] },
    // Morphing: events of operational changes can be asked for; only polling.
    Feature { code: 0x0002, version: 1, when: When::Always, data: |_| vec![0x02, 0, 0, 0] },
    // Removable medium: a tray that loads and ejects by command and can be locked; no jumper locks it.
    Feature { code: 0x0003, version: 2, when: When::Always, data: |_| vec![0x3D, 0, 0, 0] },
    // Random readable: any block by itself; the page of error recovery is there.
    Feature { code: 0x0010, version: 0, when: When::AnyMedium, data: random_readable },
    // CD read: no C2 pointers, no CD-TEXT, no digital audio.
    Feature { code: 0x001E, version: 2, when: When::Only(Medium::Cd), data: |_| vec![0, 0, 0, 0] },
    Feature { code: 0x001F, version: 0, when: When::Only(Medium::Dvd), data: |_| Vec::new() },
    // Power management, timeout.
    Feature { code: 0x0100, version: 0, when: When::Always, data: |_| Vec::new() },
    Feature { code: 0x0105, version: 1, when: When::Always, data: |_| vec![0, 0, 0, 0] },
];

fn profiles(medium: Option<Medium>) -> Vec<u8> {
    let each = [Medium::Dvd, Medium::Cd].map(|profile| {
        let [high, low] = (profile as u16).to_be_bytes();
        [high, low, u8::from(medium == Some(profile)), 0]
    });
    each.concat()
}

fn random_readable(medium: Option<Medium>) -> Vec<u8> {
    let [a, b, c, d] = BLOCK_LENGTH.to_be_bytes();
    // Blocks that are read together: the 16 of an ECC block of a DVD.
    let blocking = if medium == Some(Medium::Dvd) { 16 } else { 1 };
    vec![a, b, c, d, 0, blocking, 0x01, 0]
}

/// Appends the whole answer: the features from `first` on. `medium` is what lies in the drive.
pub fn encode(requested: Requested, first: u16, medium: Option<Medium>, out: &mut Vec<u8>) {
    let start = out.len();
    let [high, low] = medium.map_or(0, |medium| medium as u16).to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, high, low]);
    for feature in FEATURES {
        let current = match feature.when {
            When::Always => true,
            When::AnyMedium => medium.is_some(),
            When::Only(one) => medium == Some(one),
        };
        let asked = match requested {
            Requested::All => feature.code >= first,
            Requested::Current => feature.code >= first && current,
            Requested::One => feature.code == first,
        };
        if !asked {
            continue;
        }
        let persistent = feature.when == When::Always;
        let data = (feature.data)(medium);
        let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&feature.code.to_be_bytes());
        out.extend_from_slice(&[feature.version << 2 | u8::from(persistent) << 1 | u8::from(current), length]);
        out.extend(data);
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Current profile, and code and flags of each feature.
    fn answer(requested: Requested, first: u16, medium: Option<Medium>) -> (u16, Vec<(u16, u8)>) {
        let mut out = Vec::new();
        encode(requested, first, medium, &mut out);
        assert_eq!(u32::from_be_bytes(out[..4].try_into().unwrap()) as usize, out.len() - 4);
        let mut features = Vec::new();
        let mut rest = &out[8..];
        while let [high, low, flags, length, ..] = rest {
            features.push((u16::from_be_bytes([*high, *low]), flags & 3));
            assert_eq!(length % 4, 0);
            rest = &rest[4 + usize::from(*length)..];
        }
        (u16::from_be_bytes([out[6], out[7]]), features)
    }

    #[test]
    fn features_follow_the_medium() {
        let all: Vec<u16> = answer(Requested::All, 0, None).1.into_iter().map(|(code, _)| code).collect();
        assert_eq!(all, [0, 1, 2, 3, 0x10, 0x1E, 0x1F, 0x100, 0x105]);
        let current = |medium| {
            let (profile, features) = answer(Requested::Current, 4, medium);
            assert!(features.iter().all(|(_, flags)| flags & 1 == 1));
            (profile, features.into_iter().map(|(code, _)| code).collect::<Vec<_>>())
        };
        assert_eq!(current(None), (0, vec![0x100, 0x105]));
        assert_eq!(current(Some(Medium::Cd)), (8, vec![0x10, 0x1E, 0x100, 0x105]));
        assert_eq!(current(Some(Medium::Dvd)), (16, vec![0x10, 0x1F, 0x100, 0x105]));
    }

    #[test]
    fn one_feature_or_none_is_answered_by_its_number() {
        assert_eq!(answer(Requested::One, 0x1E, None), (0, vec![(0x1E, 0)]));
        assert_eq!(answer(Requested::One, 3, None), (0, vec![(3, 3)]));
        assert_eq!(answer(Requested::One, 0x21, Some(Medium::Cd)), (8, vec![]));
        assert_eq!(answer(Requested::All, 0xFFFF, None).1, []);
        assert_eq!(Requested::of(3), None);
    }

    #[test]
    fn the_profile_list_marks_what_is_in_the_drive() {
        let mut out = Vec::new();
        encode(Requested::One, 0, Some(Medium::Cd), &mut out);
        assert_eq!(out, [0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 3, 8, 0, 0x10, 0, 0, 0, 8, 1, 0]);
    }
}
