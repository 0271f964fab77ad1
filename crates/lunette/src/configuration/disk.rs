//! A disk as it is wished for: the address of its store, and what initiators are to see of it.

use crate::failure::Failure;
use lun::{DeviceType, Rate};

/// The largest LUN in the single-level form that everybody understands (SAM-5 4.7.7.5, flat space).
pub const MAXIMUM_LUN: u16 = 16383;

/// What an address may say about the disk rather than its store.
pub const OPTIONS: &[&str] = &["lun", "serial", "vendor", "product", "removable", "type"];

/// A wish for one disk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The address of its store, without its size where that is said by itself.
    pub address: String,
    /// How large it is to be, in bytes; as large as its store where nothing is said.
    pub size: Option<u64>,
    /// It stays so large when what is behind it grows by other hands. What only its address says is a size to begin
    /// with.
    pub fixed: bool,
    /// It is there and answers that it is not ready.
    pub offline: bool,
    /// Nobody may write it.
    pub read_only: bool,
    /// Whether writes may wait in the system's cache; initiators' own choice where nothing is said.
    pub write_cache: Option<bool>,
    /// What its initiators may do with it in a second, all together.
    pub limit: Rate,
    /// Its number.
    pub number: u16,
    /// Its serial number, if not one made from its identity.
    pub serial: Option<String>,
    /// Its vendor.
    pub vendor: Option<String>,
    /// Its product name.
    pub product: Option<String>,
    /// Its product revision.
    pub revision: Option<String>,
    /// What it says of itself in the place of what it would.
    pub shown: lun::Shown,
    /// Whether the medium can be removed.
    pub removable: bool,
    /// Disk or drive.
    pub device_type: DeviceType,
    /// Where it is configured, for messages; nothing where the address says enough.
    pub place: Option<String>,
}

impl Disk {
    /// The disk of this address, with its options taken off, and its number where it says one.
    pub fn from_address(text: &str) -> Result<(Disk, Option<u16>), Failure> {
        let (address, options) = stores::take_options(text, OPTIONS);
        let device_type = device_type(&address);
        let wrong = |what: String| Failure::input(format!("{text}: {what}"));
        let (address, size) = sized(&address).map_err(|why| wrong(format!("size={why}")))?;
        let mut disk = Disk { address, size, device_type, ..Disk::default() };
        let mut number = None;
        for (name, value) in options {
            let value = value.filter(|value| !value.is_empty());
            match (name.as_str(), value) {
                ("removable", None) => disk.removable = true,
                ("removable", Some(_)) => return Err(wrong("removable takes no value; write only removable".into())),
                (_, None) => return Err(wrong(format!("{name} needs a value; write {name}=…"))),
                ("lun", Some(value)) => match value.parse() {
                    Ok(lun) if lun <= MAXIMUM_LUN => number = Some(lun),
                    _ => return Err(wrong(format!("lun={value} is no LUN; use 0 to {MAXIMUM_LUN}"))),
                },
                ("type", Some(value)) => {
                    let named = type_named(&value).map_err(|error| wrong(format!("type={value} {error}")))?;
                    disk.device_type = named;
                }
                (name, Some(value)) => {
                    let fits = ascii(name, value).map_err(|(value, error)| wrong(format!("{name}={value} {error}")))?;
                    match name {
                        "serial" => disk.serial = Some(fits),
                        "vendor" => disk.vendor = Some(fits),
                        _ => disk.product = Some(fits),
                    }
                }
            }
        }
        Ok((disk, number))
    }
}

/// An address without the size that it says of a file or device, and that size in bytes. Memory is made of its
/// size, which stays.
pub fn sized(address: &str) -> Result<(String, Option<u64>), String> {
    if crate::remote::is_remote(address) || is_memory(address) {
        return Ok((address.to_owned(), None));
    }
    let (rest, options) = stores::take_options(address, &["size"]);
    match &options[..] {
        [] => Ok((address.to_owned(), None)),
        [(_, Some(text))] if !text.is_empty() => Ok((rest, Some(stores::parse_size(text)?))),
        // Whoever opens it says what is wrong.
        _ => Ok((address.to_owned(), None)),
    }
}

/// Whether it is memory, whose size is its place.
pub fn is_memory(address: &str) -> bool {
    ["ram:", "null:"].iter().any(|kind| address.starts_with(kind))
}

/// What a store at this address is where nothing is said of it.
pub fn device_type(address: &str) -> DeviceType {
    if stores::is_image(address) { DeviceType::Optical } else { DeviceType::Disk }
}

/// The type of this name.
pub fn type_named(text: &str) -> Result<DeviceType, &'static str> {
    match text {
        "cd" => Ok(DeviceType::Optical),
        "disk" => Ok(DeviceType::Disk),
        _ => Err("is nothing that is served; use disk or cd"),
    }
}

/// A text that INQUIRY can hold in the place of this name. The error gives it back.
pub fn ascii(name: &str, value: String) -> Result<String, (String, String)> {
    let most = match name {
        "vendor" => 8,
        "product" => 16,
        "revision" => 4,
        "t10-id" => 200,
        _ => 64,
    };
    let printable = value.bytes().all(|byte| matches!(byte, 0x20..=0x7E));
    match printable && value.len() <= most {
        true => Ok(value),
        false => Err((value, format!("does not fit; use at most {most} printable ASCII characters"))),
    }
}

/// An NAA designator (SPC-5 7.7.6.6): hexadecimal digits.
pub fn naa(text: &str) -> Result<Box<[u8]>, &'static str> {
    const WRONG: &str = "is no NAA designator; use 16 hexadecimal digits that begin with 2, 3 or 5, or 32 with 6";
    let digits = text.strip_prefix("naa.").unwrap_or(text);
    let kind = digits.chars().next().unwrap_or_default();
    let fits = matches!((digits.len(), kind), (16, '2' | '3' | '5') | (32, '6'));
    if !fits || !digits.is_ascii() {
        return Err(WRONG);
    }
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>().map(Vec::into_boxed_slice).ok_or(WRONG)
}

/// A kind of medium: `solid`, or revolutions a minute.
pub fn rotation(text: &str) -> Result<block::Rotation, &'static str> {
    match (text, text.parse::<u16>()) {
        ("solid", _) => Ok(block::Rotation::NonRotating),
        ("unknown", _) => Ok(block::Rotation::NotReported),
        (_, Ok(rate @ 0x401..=0xfffe)) => Ok(block::Rotation::Rate(rate)),
        _ => Err("is no kind of medium; use \"solid\", \"unknown\", or revolutions a minute: \"7200\""),
    }
}

/// The numbers of all disks of a target: those that were said, and the lowest free ones from 1 on, in order.
/// The error is the place in the list of one whose number is taken, or where there is none left.
pub fn numbers(wishes: &[Option<u16>]) -> Result<Vec<u16>, usize> {
    let mut taken: Vec<u16> = Vec::new();
    for (at, wish) in wishes.iter().enumerate() {
        let Some(number) = wish else { continue };
        if taken.contains(number) {
            return Err(at);
        }
        taken.push(*number);
    }
    let mut numbers = Vec::new();
    let mut next = 1;
    for (at, wish) in wishes.iter().enumerate() {
        let number = wish.unwrap_or_else(|| {
            while taken.contains(&next) {
                next += 1;
            }
            taken.push(next);
            next
        });
        if number > MAXIMUM_LUN {
            return Err(at);
        }
        numbers.push(number);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_number_from_one_around_those_that_were_numbered() {
        assert_eq!(numbers(&[None, Some(1), None, Some(0)]), Ok(vec![2, 1, 3, 0]));
        assert_eq!(numbers(&[Some(4), None, Some(4)]), Err(2));
    }

    #[test]
    fn what_an_inquiry_cannot_hold_is_refused() {
        for text in
            ["ram:1M,vendor=much-too-long", "ram:1M,serial=ü", "ram:1M,lun=16384", "ram:1M,lun", "a,removable=1"]
        {
            assert!(Disk::from_address(text).unwrap_err().to_string().starts_with(text), "{text}");
        }
        assert_eq!(Disk::from_address("ram:1M,serial=a b").unwrap().0.serial.unwrap(), "a b");
    }

    #[test]
    fn an_image_is_a_cd_unless_it_is_said_otherwise() {
        let kind = |text: &str| Disk::from_address(text).unwrap().0.device_type;
        assert_eq!((kind("a.iso"), kind("a.iso,lun=3")), (DeviceType::Optical, DeviceType::Optical));
        assert_eq!((kind("a.img"), kind("a.iso,type=disk")), (DeviceType::Disk, DeviceType::Disk));
        assert_eq!((kind("a.img,type=cd"), kind("/dev/sr0,type=cd")), (DeviceType::Optical, DeviceType::Optical));
        assert!(Disk::from_address("a.img,type=tape").unwrap_err().to_string().contains("use disk or cd"));
    }
}
