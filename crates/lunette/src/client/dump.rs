//! `lunette dump`: the bytes of a disk as `hexdump -C` shows them, or as they are.

use super::copy::{Place, open_source};
use super::login::Login;
use super::{bytes_or_none, bytes_out, print, print_json};
use crate::failure::Failure;
use block::Buf;
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use stores::parse_size;

/// Bytes that are read at a time.
const STEP: u64 = 256 << 10;
/// Bytes of a line.
const LINE: usize = 16;

const EXAMPLES: &str = "\
Examples:
  lunette dump iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0
  lunette dump --lba 2048 --blocks 8 iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0
  lunette dump --raw --offset 1M --length 64K iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0 | file -";

/// Arguments of `lunette dump`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The disk: iscsi://HOST[:PORT]/TARGET/LUN, a file or a block device
    #[arg(value_name = "DISK")]
    disk: String,
    /// From this byte on
    #[arg(long, short = 's', value_name = "SIZE", default_value = "0", value_parser = bytes_or_none)]
    offset: u64,
    /// So many bytes [default: one block]
    #[arg(long, short = 'n', value_name = "SIZE", value_parser = parse_size)]
    length: Option<u64>,
    /// From this block on
    #[arg(long, value_name = "NUMBER", conflicts_with = "offset")]
    lba: Option<u64>,
    /// So many blocks
    #[arg(long, value_name = "NUMBER", conflicts_with = "length")]
    blocks: Option<u64>,
    /// The bytes as they are
    #[arg(long)]
    raw: bool,
    /// Lines that are equal to the one before too, instead of one *
    #[arg(long, short = 'v')]
    no_squeezing: bool,
    /// One JSON object with the bytes as hexadecimal digits
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// Reads and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    super::run(dump(arguments))
}

async fn dump(arguments: &Arguments) -> Result<(), Failure> {
    let place = open_source(&arguments.login, &arguments.disk).await?;
    // Files have no blocks; what people mean by one is this.
    let block = place.block_length().max(512);
    let wrong = || Failure::input(format!("{}: it has {} bytes, which is before that", place.name(), place.bytes()));
    let offset = match arguments.lba {
        Some(lba) => lba.checked_mul(block).ok_or_else(wrong)?,
        None => arguments.offset,
    };
    let length = match (arguments.blocks, arguments.length) {
        (Some(blocks), _) => blocks.checked_mul(block).ok_or_else(wrong)?,
        (None, Some(length)) => length,
        (None, None) => block,
    };
    if offset >= place.bytes() {
        return Err(wrong());
    }
    let end = offset.saturating_add(length).min(place.bytes());
    let mut hex = Hex::new(offset, !arguments.no_squeezing);
    let mut digits = String::new();
    let result = async {
        let mut at = offset;
        let mut buffer = Buf::new((STEP + 2 * block) as usize).ok_or_else(|| Failure::runtime("there is no memory"))?;
        while at < end {
            let next = (at + STEP).min(end);
            // Whole blocks around what was asked for.
            let block = place.block_length();
            let first = at / block * block;
            let last = next.next_multiple_of(block).min(place.bytes());
            buffer = place.read(first, buffer, (last - first) as usize).await?;
            let bytes = buffer.as_slice().get((at - first) as usize..(next - first) as usize).unwrap_or_default();
            if arguments.raw {
                bytes_out(bytes)?;
            } else if arguments.json {
                digits.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
            } else {
                let mut lines = String::new();
                hex.push(bytes, &mut lines);
                print(&lines)?;
            }
            at = next;
        }
        Ok(())
    }
    .await;
    if let Place::Disk(disk) = &place {
        disk.leave().await;
    }
    result?;
    match (arguments.raw, arguments.json) {
        (true, _) => Ok(()),
        (_, true) => print_json(&json!({ "offset": offset, "length": end - offset, "hex": digits })),
        _ => print(&hex.end()),
    }
}

/// All of these bytes as lines.
pub fn hex_lines(bytes: &[u8]) -> String {
    let mut hex = Hex::new(0, false);
    let mut out = String::new();
    hex.push(bytes, &mut out);
    out + &hex.end()
}

/// The lines of `hexdump -C`.
struct Hex {
    offset: u64,
    squeezes: bool,
    /// What does not fill a line yet.
    rest: Vec<u8>,
    last: Option<Vec<u8>>,
    starred: bool,
}

impl Hex {
    fn new(offset: u64, squeezes: bool) -> Hex {
        Hex { offset, squeezes, rest: Vec::new(), last: None, starred: false }
    }

    fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        for line in rest.chunks(LINE) {
            match line.len() {
                LINE => self.line(line, out),
                _ => self.rest = line.to_vec(),
            }
        }
    }

    fn line(&mut self, line: &[u8], out: &mut String) {
        if self.squeezes && self.last.as_deref() == Some(line) {
            if !self.starred {
                out.push_str("*\n");
            }
            self.starred = true;
        } else {
            self.starred = false;
            let _ = write!(out, "{:08x}  ", self.offset);
            for at in 0..LINE {
                match line.get(at) {
                    Some(byte) => out.push_str(&format!("{byte:02x} ")),
                    None => out.push_str("   "),
                }
                if at == LINE / 2 - 1 {
                    out.push(' ');
                }
            }
            out.push_str(" |");
            out.extend(line.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }));
            out.push_str("|\n");
            self.last = Some(line.to_vec());
        }
        self.offset += line.len() as u64;
    }

    /// The last line, which may be short, and where it ends.
    fn end(mut self) -> String {
        let mut out = String::new();
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest, &mut out);
        }
        let _ = writeln!(out, "{:08x}", self.offset);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_hexdump() {
        let mut bytes = b"Lunette\0\xff~ 0123456789".to_vec();
        bytes.resize(96, 0);
        bytes.extend(b"end");
        let mut hex = Hex::new(0, true);
        let mut out = String::new();
        for chunk in bytes.chunks(7) {
            hex.push(chunk, &mut out);
        }
        out.push_str(&hex.end());
        let expected = "\
00000000  4c 75 6e 65 74 74 65 00  ff 7e 20 30 31 32 33 34  |Lunette..~ 01234|
00000010  35 36 37 38 39 00 00 00  00 00 00 00 00 00 00 00  |56789...........|
00000020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000060  65 6e 64                                          |end|
00000063
";
        assert_eq!(out, expected);
        let mut whole = Hex::new(1 << 40, false);
        let mut out = String::new();
        whole.push(&[0; 32], &mut out);
        assert_eq!(out.lines().count(), 2);
        assert!(out.starts_with("10000000000  00"), "{out}");
    }
}
