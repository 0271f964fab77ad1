//! One manual page: what clap knows of a command, and out of its help the examples, exit codes and notes, each in
//! the section where people look for it.

use clap::Command;
use clap_mangen::Man;

/// The title in the middle of every page.
const MANUAL: &str = "Lunette: iSCSI, both ends of the wire";
/// Files of the daemon.
const OF_DAEMON: &[(&str, &str)] = &[
    ("/etc/lunette/lunette.toml", "what the packaged daemon serves, see lunette.toml(5)"),
    ("/var/lib/lunette", "reservations and saved settings; ~/.local/state/lunette where it is not root's"),
    ("/run/lunette/control.sock", "the daemon's administration; $XDG_RUNTIME_DIR/lunette where it is not root's"),
];
/// Files of the machine's initiator.
const OF_INITIATOR: &[(&str, &str)] = &[
    ("/etc/iscsi/initiatorname.iscsi", "the name of this machine's initiator"),
    ("/etc/iscsi/nodes, /var/lib/iscsi/nodes", "records of targets, open-iscsi's own"),
    ("/run/lunette/attached", "what is attached, and its processes"),
];
/// Commands of the initiator that have records and devices.
const INITIATORS: &[&str] = &["attach", "detach", "attached", "node", "boot", "iscsiadm"];

/// The page of a command, whose parents are these, the program first.
pub fn render(command: &Command, parents: &[&Command]) -> Vec<u8> {
    let program = parents.first().copied().unwrap_or(command);
    let mut name: Vec<&str> = parents.iter().map(|parent| parent.get_name()).collect();
    name.push(command.get_name());
    let title = name.join("-");
    let version = program.get_version().unwrap_or_default();
    let man = Man::new(command.clone()).title(title.to_uppercase()).source(format!("lunette {version}")).manual(MANUAL);
    let mut page = Vec::new();
    let help = Help::of(command);
    let fallback = Help::of(program);
    let mut written = || -> std::io::Result<()> {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        if command.get_arguments().any(|argument| !argument.is_hide_set()) {
            man.render_options_section(&mut page)?;
        }
        if command.get_subcommands().any(|inner| !inner.is_hide_set()) {
            man.render_subcommands_section(&mut page)?;
        }
        Ok(())
    };
    // Writing into memory does not fail.
    let _ = written();
    let mut rest = String::new();
    for (heading, lines) in &help.notes {
        section(&mut rest, heading, lines);
    }
    let examples = if help.examples.is_empty() && parents.is_empty() { program_examples() } else { help.examples };
    section(&mut rest, "EXAMPLES", &examples);
    let codes = if help.codes.is_empty() { fallback.codes } else { help.codes };
    rest += ".SH \"EXIT STATUS\"\n";
    for (code, meaning) in codes {
        rest += &format!(".TP\n.B {code}\n{}\n", text(&meaning));
    }
    rest += ".SH FILES\n";
    let of_initiator = name.get(1).is_some_and(|name| INITIATORS.contains(name));
    let own: &[&[_]] = match (parents.is_empty(), of_initiator) {
        (true, _) => &[OF_DAEMON, OF_INITIATOR],
        (false, true) => &[OF_INITIATOR],
        (false, false) => &[OF_DAEMON],
    };
    for (file, what) in own.iter().copied().flatten() {
        rest += &format!(".TP\n.I {}\n{}\n", text(file), text(what));
    }
    rest += ".SH \"SEE ALSO\"\n";
    let above = parents.iter().enumerate().map(|(depth, _)| name.get(..=depth).unwrap_or_default().join("-"));
    let mut others: Vec<String> = above.map(|name| format!("{name}(1)")).collect();
    others.push("lunette.toml(5)".to_owned());
    let list: Vec<_> = others.iter().map(|other| text(other)).collect();
    rest += &format!("{}\n", list.join(", "));
    page.extend(rest.into_bytes());
    ascii(&String::from_utf8_lossy(&page)).into_bytes()
}

/// The same with other characters as roff names them: not every roff reads UTF-8.
fn ascii(page: &str) -> String {
    let one = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", u32::from(c)) };
    page.chars().map(one).collect()
}

fn program_examples() -> Vec<String> {
    let lines = [
        "lunette serve disk.img,size=10G                a disk for whoever connects from this machine",
        "lunette serve --config /etc/lunette/lunette.toml",
        "lunette status                                 how the daemon is",
        "lunette ls iscsi://192.0.2.7                   targets and disks elsewhere",
        "lunette attach iscsi://192.0.2.7/iqn.2026-11.com.example:disk/1",
    ];
    lines.into_iter().map(|line| format!("  {line}")).collect()
}

/// What stands behind the options in `--help`, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Help {
    /// Paragraphs with their headings.
    notes: Vec<(String, Vec<String>)>,
    examples: Vec<String>,
    codes: Vec<(String, String)>,
}

impl Help {
    fn of(command: &Command) -> Help {
        let said = command.get_after_long_help().or_else(|| command.get_after_help());
        Help::parse(&said.map(ToString::to_string).unwrap_or_default())
    }

    fn parse(help: &str) -> Help {
        let mut found = Help::default();
        // A paragraph ends at an empty line, and before what begins a new one.
        let mut paragraphs: Vec<Vec<&str>> = vec![Vec::new()];
        for line in help.lines() {
            let begins = line.starts_with("Examples:") || line.starts_with("Exit codes:");
            if line.trim().is_empty() || begins {
                paragraphs.push(Vec::new());
            }
            if let Some(last) = paragraphs.last_mut().filter(|_| !line.trim().is_empty()) {
                last.push(line);
            }
        }
        for paragraph in paragraphs.iter().filter(|paragraph| !paragraph.is_empty()) {
            let joined = || paragraph.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            match paragraph.first().copied().unwrap_or_default() {
                first if first.starts_with("Examples:") => {
                    found.examples.extend(paragraph.iter().skip(1).map(|line| (*line).to_owned()));
                }
                first if first.starts_with("Exit codes:") => found.codes = codes(&joined()),
                _ => {
                    let lines = paragraph.iter().map(|line| (*line).to_owned());
                    match found.notes.last_mut() {
                        Some((_, notes)) => notes.extend(std::iter::once(String::new()).chain(lines)),
                        None => found.notes.push(("NOTES".to_owned(), lines.collect())),
                    }
                }
            }
        }
        found
    }
}

/// `Exit codes: 0 all went well, 1 it failed: why, 2 …`: each number with what is said of it.
fn codes(paragraph: &str) -> Vec<(String, String)> {
    let text = paragraph.trim_start_matches("Exit codes:").trim().trim_end_matches('.');
    let mut codes: Vec<(String, String)> = Vec::new();
    for part in text.split(", ") {
        let number = part.split(' ').next().unwrap_or_default();
        match number.parse::<u8>() {
            Ok(_) => {
                let meaning = part.get(number.len()..).unwrap_or_default().trim();
                codes.push((number.to_owned(), meaning.to_owned()));
            }
            Err(_) => {
                if let Some((_, meaning)) = codes.last_mut() {
                    *meaning += &format!(", {part}");
                }
            }
        }
    }
    codes
}

/// A section whose lines stay as they are.
fn section(page: &mut String, heading: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    *page += &format!(".SH {heading}\n.nf\n");
    for line in lines {
        *page += &format!("{}\n", text(line));
    }
    *page += ".fi\n";
}

/// Text that roff takes for nothing else.
fn text(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_taken_apart() {
        let help = "A note\nof two lines.\n\nExamples:\n  lunette x\n  lunette y\n\nAnother.\n\n\
                    Exit codes: 0 it went well, 1 it failed, as it may,\n2 wrong.";
        let found = Help::parse(help);
        assert_eq!(
            found.notes,
            [("NOTES".into(), vec!["A note".into(), "of two lines.".into(), "".into(), "Another.".into()])]
        );
        assert_eq!(found.examples, ["  lunette x", "  lunette y"]);
        let pair = |code: &str, meaning: &str| (code.to_owned(), meaning.to_owned());
        assert_eq!(found.codes, [pair("0", "it went well"), pair("1", "it failed, as it may"), pair("2", "wrong")]);
    }

    #[test]
    fn nothing_of_a_text_is_a_request() {
        assert_eq!(text(".so /etc/passwd"), "\\&.so /etc/passwd");
        assert_eq!(text("a\\,b --c"), "a\\e,b \\-\\-c");
        assert_eq!(ascii("so…"), "so\\[u2026]");
    }
}
