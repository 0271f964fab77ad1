//! Golden dumps: an exchange as annotated hex, compared byte for byte with a file.
//!
//! `LUNETTE_GOLDEN=write` writes the files anew; whoever does so reads the difference.

use crate::capture::Side;
use crate::frame::{Digests, Frame};
use std::fmt::Write as _;
use std::path::Path;

/// The exchange as text: for each PDU who sent it, one line of what it is, its bytes, its text.
pub fn dump(frames: &[(Side, Frame)]) -> String {
    let mut out = String::new();
    for (side, frame) in frames {
        let arrow = if *side == Side::Initiator { "initiator" } else { "target" };
        let _ = writeln!(out, "# {arrow}: {}", frame.summary());
        let bytes = frame.encode(Digests::default());
        for (row, line) in bytes.chunks(16).enumerate() {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let text: String =
                line.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
            let _ = writeln!(out, "{:04x}  {:<47}  {text}", row * 16, hex.join(" "));
        }
        out.push('\n');
    }
    out
}

/// Compares an exchange with the file, or writes it.
pub fn compare(path: &Path, frames: &[(Side, Frame)]) {
    let seen = dump(frames);
    if std::env::var("LUNETTE_GOLDEN").is_ok_and(|word| word == "write") {
        return std::fs::write(path, seen).expect("the golden file is written");
    }
    let golden = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; LUNETTE_GOLDEN=write makes it", path.display()));
    for (number, (was, is)) in golden.lines().zip(seen.lines()).enumerate() {
        assert_eq!(was, is, "{}:{}: the wire changed", path.display(), number + 1);
    }
    assert_eq!(golden.lines().count(), seen.lines().count(), "{}: the wire changed in length", path.display());
}
