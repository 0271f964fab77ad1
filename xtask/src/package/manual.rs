//! lunette.toml(5) out of docs/configuration.md, and pages by which old names lead to ours.

use super::{OLD_NAMES, write};
use std::path::Path;

/// The page of the configuration file.
pub fn page(markdown: &str, version: &str) -> String {
    let mut page = format!(
        ".TH LUNETTE.TOML 5 \"\" \"lunette {version}\" \"Lunette: iSCSI, both ends of the wire\"\n\
         .SH NAME\nlunette.toml \\- what the daemon of Lunette serves\n.SH SYNOPSIS\n\
         .I /etc/lunette/lunette.toml\n.SH DESCRIPTION\n"
    );
    let (mut code, mut paragraph) = (false, true);
    for line in markdown.lines().skip_while(|line| line.starts_with("# ") || line.is_empty()) {
        if line.starts_with("```") {
            code = !code;
            page += if code { ".PP\n.nf\n" } else { ".fi\n" };
            paragraph = true;
            continue;
        }
        if code {
            page += &format!("    {}\n", text(line));
            continue;
        }
        if line.trim().is_empty() {
            paragraph = false;
            continue;
        }
        // The next line of what came before, unless it is something of its own.
        let mut begin = || {
            if !std::mem::replace(&mut paragraph, true) {
                page += ".PP\n";
            }
        };
        if let Some(heading) = line.strip_prefix("## ") {
            page += &format!(".SH \"{}\"\n", marks(heading).to_uppercase());
            paragraph = true;
        } else if let Some(heading) = line.strip_prefix("### ") {
            page += &format!(".SS \"{}\"\n", marks(heading));
            paragraph = true;
        } else if let Some(indented) = line.strip_prefix("    ") {
            begin();
            page += &format!(".nf\n    {}\n.fi\n", text(indented));
        } else if let Some(row) = line.strip_prefix('|') {
            let cells: Vec<&str> =
                row.trim_end_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('|')).collect();
            if cells.iter().all(|cell| cell.chars().all(|c| "-|:".contains(c))) {
                continue;
            }
            let (key, rest) = cells.split_first().unwrap_or((&"", &[]));
            page += &format!(".TP\n\\fB{}\\fR\n", marks(key));
            let rest: Vec<_> = rest.iter().filter(|cell| !cell.is_empty()).map(|cell| marks(cell)).collect();
            page += &format!("{}\n", guard(&if rest.is_empty() { "\\&".to_owned() } else { rest.join(". ") }));
            paragraph = false;
        } else if let Some(item) = line.strip_prefix("* ").or_else(|| line.strip_prefix("- ")) {
            page += &format!(".IP \\(bu 2\n{}\n", guard(&marks(item)));
            paragraph = true;
        } else {
            begin();
            page += &format!("{}\n", guard(&marks(line)));
        }
    }
    let page = page + ".SH FILES\n.I /etc/lunette/lunette.toml\n.SH \"SEE ALSO\"\nlunette(1), lunette\\-serve(1)\n";
    // Not every roff reads UTF-8.
    let one = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", u32::from(c)) };
    page.chars().map(one).collect()
}

/// For each old name a page that is ours.
pub fn old_names(folder: &Path) -> Result<(), String> {
    for (name, section) in OLD_NAMES {
        let own = folder.join(format!("lunette-{name}.1"));
        let page = match own.is_file() {
            true => format!(".so man1/lunette-{name}.1\n"),
            false => ".so man1/lunette.1\n".to_owned(),
        };
        write(&folder.join(format!("{name}.{section}")), page.as_bytes())?;
    }
    Ok(())
}

/// Text as it is.
fn text(line: &str) -> String {
    guard(&line.replace('\\', "\\e").replace('-', "\\-"))
}

/// A line that begins no request.
fn guard(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// Markdown's marks within a line: code is bold, links are their text.
fn marks(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['`', '[', '*']) {
        let (before, mark) = rest.split_at(at);
        out += &text(before).replacen("\\&", "", 1);
        let inner = mark.get(1..).unwrap_or_default();
        let (open, close) = match mark.chars().next() {
            Some('`') => ("\\fB", inner.find('`')),
            Some('*') if inner.starts_with('*') => {
                rest = inner.get(1..).unwrap_or_default();
                continue;
            }
            Some('[') if inner.contains("](") => ("", inner.find("](")),
            _ => ("", None),
        };
        let Some(end) = close else {
            out += &text(mark.get(..1).unwrap_or_default());
            rest = inner;
            continue;
        };
        let (word, after) = inner.split_at(end);
        let word = word.replace('\\', "\\e").replace('-', "\\-");
        match open.is_empty() {
            true => {
                out += &word.replace('`', "");
                rest = after.split_once(')').map_or("", |(_, rest)| rest);
            }
            false => {
                out += &format!("{open}{word}\\fR");
                rest = after.get(1..).unwrap_or_default();
            }
        }
    }
    out + &text(rest).replacen("\\&", "", usize::from(!line.is_empty() && rest.len() < line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_a_page() {
        let page = page(
            "# lunette.toml\n\nFirst `a-b` and [a link](x.md#y).\n.hidden\n\n## Keys\n\n| `[[t]]` | default | |\n\
             |---|---|---|\n| `name` | none | its **name** |\n\n```toml\na = \"\\\\n\"\n```\n* one\n",
            "1",
        );
        for part in [
            "First \\fBa\\-b\\fR and a link.\n",
            "\\&.hidden\n",
            ".SH \"KEYS\"\n",
            ".TP\n\\fB\\fBname\\fR\\fR\nnone. its name\n",
            ".nf\n    a = \"\\e\\en\"\n.fi\n",
            ".IP \\(bu 2\none\n",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
    }
}
