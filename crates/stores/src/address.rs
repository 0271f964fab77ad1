//! An address taken apart: kind, place, options. Knows the options' names, not their meaning.

use crate::{KINDS, OpenError, StoreKind, parse_size};

/// The address of a store: `[kind:]place[,option[=value]]…`. A comma that belongs to the place is
/// written `\,`.
pub struct Address {
    /// The kind of store.
    pub kind: &'static StoreKind,
    /// A path, a size: what the kind makes of it.
    pub place: String,
    options: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("kind", &self.kind.name)
            .field("place", &self.place)
            .field("options", &self.options)
            .finish()
    }
}

impl Address {
    /// Takes an address apart. Looks at the place to tell a device from a file; opens nothing.
    pub fn parse(text: &str) -> Result<Address, OpenError> {
        let mut parts = split(text).into_iter();
        let first = parts.next().unwrap_or_default();
        if first.starts_with("iscsi:") {
            // Who may import the initiator takes addresses of remote disks out before they come here.
            return Err(OpenError::new(first, "is no file or device").remedy("remote disks: iscsi://HOST/TARGET/LUN"));
        }
        let named = first
            .split_once(':')
            .and_then(|(name, place)| KINDS.iter().find(|kind| kind.name == name).map(|kind| (kind, place.to_owned())));
        let (kind, place) = match named {
            Some(found) => found,
            None => match KINDS.iter().find(|kind| (kind.probe)(&first)) {
                Some(kind) => (kind, first),
                None => return Err(OpenError::new(text, "names no store").remedy(known_kinds())),
            },
        };
        if place.is_empty() {
            return Err(OpenError::new(text, "the place is missing").remedy(format!("for example {}", kind.example)));
        }
        let mut address = Address { kind, place, options: Vec::new() };
        for part in parts {
            address.add_option(text, &part)?;
        }
        Ok(address)
    }

    /// The value of an option, empty for one without a value.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|option| option.0 == name).map(|option| option.1.as_str())
    }

    /// Whether an option without a value was given.
    pub fn has(&self, name: &str) -> bool {
        self.option(name).is_some()
    }

    /// The option `size`, in bytes.
    pub fn size(&self) -> Result<Option<u64>, OpenError> {
        self.option("size").map(parse_size).transpose().map_err(|why| self.error(format!("size={why}")))
    }

    /// The option `block`: 512 or 4096.
    pub fn block_length(&self) -> Result<Option<u32>, OpenError> {
        match self.option("block") {
            None => Ok(None),
            Some("512") => Ok(Some(512)),
            Some("4096" | "4K" | "4k") => Ok(Some(4096)),
            Some(other) => Err(self.error(format!("block={other} is no block length")).remedy("use 512 or 4096")),
        }
    }

    /// The number of blocks of a size, which must be whole.
    pub fn blocks(&self, size: u64, block_length: u32) -> Result<u64, OpenError> {
        let block = u64::from(block_length);
        if size.is_multiple_of(block) {
            return Ok(size / block);
        }
        let next = size.next_multiple_of(block);
        Err(self
            .error(format!("size={size} is not a whole number of {block_length}-byte blocks"))
            .remedy(format!("size={next} would be")))
    }

    /// An error about this place.
    pub fn error(&self, problem: impl Into<String>) -> OpenError {
        OpenError::new(&self.place, problem)
    }

    fn add_option(&mut self, text: &str, part: &str) -> Result<(), OpenError> {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
        let Some(option) = self.kind.options.iter().find(|option| option.name == name) else {
            let error = OpenError::new(text, format!("'{name}' is no option of {}", self.kind.name));
            return Err(error.remedy(self.suggestion(name)));
        };
        let value = match (option.value, value) {
            (Some(_), Some(value)) if !value.is_empty() => value,
            (Some(form), _) => {
                return Err(
                    OpenError::new(text, format!("{name} needs a value")).remedy(format!("write {name}={form}"))
                );
            }
            (None, None) => "",
            (None, Some(_)) => {
                return Err(OpenError::new(text, format!("{name} takes no value")).remedy(format!("write only {name}")));
            }
        };
        if self.has(name) {
            return Err(OpenError::new(text, format!("{name} is given twice")));
        }
        self.options.push((option.name, value.to_owned()));
        Ok(())
    }

    fn suggestion(&self, name: &str) -> String {
        let names = || self.kind.options.iter().map(|option| option.name);
        match names().map(|known| (distance(name, known), known)).min() {
            Some((far, known)) if far <= 2 && far < known.len() => format!("did you mean {known}?"),
            _ => format!("there are {}; a comma in a path is written \\,", names().collect::<Vec<_>>().join(", ")),
        }
    }
}

fn known_kinds() -> String {
    let examples: Vec<_> = KINDS.iter().map(|kind| kind.example).collect();
    format!("for example {}", examples.join(" or "))
}

/// An option as it was written: its name, and its value where it has one.
pub type Written = (String, Option<String>);

/// Takes options of these names out of an address, for who gives them a meaning of his own. What is
/// left is an address again.
pub fn take_options(text: &str, names: &[&str]) -> (String, Vec<Written>) {
    let mut taken = Vec::new();
    let mut kept = Vec::new();
    for (index, part) in split(text).into_iter().enumerate() {
        let (name, value) = part.split_once('=').map_or((part.as_str(), None), |(name, value)| (name, Some(value)));
        match index > 0 && names.contains(&name) {
            true => taken.push((name.to_owned(), value.map(str::to_owned))),
            false => kept.push(part.replace(',', "\\,")),
        }
    }
    (kept.join(","), taken)
}

/// Parts between commas; `\,` is a comma and every other backslash is itself.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = letter == '\\' && letters.peek() == Some(&',');
        let letter = if escaped { letters.next().unwrap_or(',') } else { letter };
        if letter == ',' && !escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts
}

/// How many letters must be changed, put in or left out to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    // A word that long is no slip of the finger, and the work stays bounded.
    if one.len() > 32 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut next = vec![line + 1];
        for (column, pair) in row.windows(2).enumerate() {
            let [corner, above] = [pair[0], pair[1]];
            let left = next[column];
            let same = usize::from(other[column] != letter);
            next.push((corner + same).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Address::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_address_is_taken_apart() {
        let address = Address::parse("disk.img,size=10G,block=4096,ro").unwrap();
        assert_eq!((address.kind.name, address.place.as_str()), ("file", "disk.img"));
        assert_eq!(address.size().unwrap(), Some(10 << 30));
        assert_eq!(address.block_length().unwrap(), Some(4096));
        assert!(address.has("ro") && !address.has("direct"));
        assert_eq!(Address::parse("ram:1G").unwrap().kind.name, "ram");
    }

    #[test]
    fn options_of_another_are_taken_out_and_the_rest_stays_an_address() {
        let (rest, taken) = take_options(r"a\,b.img,size=1G,serial=x,removable", &["serial", "removable", "lun"]);
        assert_eq!(rest, r"a\,b.img,size=1G");
        assert_eq!(taken, [("serial".into(), Some("x".into())), ("removable".into(), None)]);
        assert_eq!(take_options("lun", &["lun"]), ("lun".into(), Vec::new()));
    }

    #[test]
    fn commas_and_colons_of_a_path_stay() {
        assert_eq!(Address::parse(r"a\,b.img,ro").unwrap().place, "a,b.img");
        assert_eq!(Address::parse(r"back\slash").unwrap().place, r"back\slash");
        assert_eq!(
            Address::parse("/dev/disk/by-path/pci-0000:00:04").unwrap().place,
            "/dev/disk/by-path/pci-0000:00:04"
        );
        assert_eq!(Address::parse("file:ram:1G").unwrap().place, "ram:1G");
    }

    #[test]
    fn a_wrong_option_is_met_with_the_nearest_right_one() {
        assert!(refused("disk.img,sise=10G").ends_with("did you mean size?"));
        assert!(refused("disk.img,readonly").contains("there are size, block, ro, direct"));
        assert!(refused("disk.img,ro=yes").contains("ro takes no value"));
        assert!(refused("disk.img,size").contains("write size=SIZE"));
        assert!(refused("disk.img,ro,ro").contains("given twice"));
        assert!(refused("ram:1G,direct").contains("'direct' is no option of ram"));
        assert!(refused("").contains("place is missing") || refused("").contains("names no store"));
        assert!(refused("ram:").contains("for example ram:"));
    }

    #[test]
    fn wrong_values_say_what_would_be_right() {
        let address = Address::parse("disk.img,size=1000,block=520").unwrap();
        assert!(address.block_length().unwrap_err().to_string().contains("use 512 or 4096"));
        assert!(address.blocks(1000, 512).unwrap_err().to_string().ends_with("size=1024 would be"));
    }
}
