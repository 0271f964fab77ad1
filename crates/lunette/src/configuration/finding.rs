//! What is wrong in a configuration file: where, what, and how to mend it.

use super::machine::Look;
use std::cell::RefCell;
use std::ops::Range;

/// Whether a finding keeps the file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It is told, and no more.
    Warning,
}

impl Severity {
    /// As compilers call it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A finding by itself, for whoever shows it or sends it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The first letter of the line that is meant, from 1.
    pub column: usize,
    /// The letter behind the last one that is meant.
    pub end_column: usize,
    /// Whether it keeps the file from being used.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty where there is nothing to say.
    pub help: String,
    /// The line, without its secret.
    pub shown: String,
}

impl Found {
    /// In a line: `FILE:LINE:COLUMN: what; help`.
    pub fn in_a_line(&self) -> String {
        let Found { file, line, column, what, help, .. } = self;
        let help = if help.is_empty() { String::new() } else { format!("; {help}") };
        format!("{file}:{line}:{column}: {what}{help}")
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "end_column": self.end_column,
            "severity": self.severity.name(),
            "message": self.what,
            "help": self.help,
            "text": self.shown,
        })
    }
}

/// A line that begins with its place, the text that is meant, and beneath it what would be right.
impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Found { file, line, column, severity, what, help, shown, .. } = self;
        writeln!(f, "{file}:{line}:{column}: {}: {what}", severity.name())?;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // What is marked stays on its line, and within what is shown of it.
        let room = (shown.chars().count() + 1).saturating_sub(*column).max(1);
        let before: String = shown.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let marks = "^".repeat(self.end_column.saturating_sub(*column).clamp(1, room));
        let marked = format!("{margin} | {before}{marks} {help}");
        writeln!(f, "{margin} |\n{number} | {shown}\n{}", marked.trim_end())
    }
}

/// All of them, as compilers show them.
pub fn text(all: &[Found]) -> String {
    all.iter().map(Found::to_string).collect()
}

#[derive(Debug)]
struct Finding {
    at: Range<usize>,
    severity: Severity,
    what: String,
    help: String,
}

/// The findings of one file, in the order in which they were made.
pub struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    list: RefCell<Vec<Finding>>,
    looks: RefCell<Vec<(Range<usize>, Look)>>,
    #[cfg(test)]
    asked: RefCell<Vec<(String, Vec<&'static str>)>>,
}

impl<'a> Findings<'a> {
    /// None yet, for the file of this name and content.
    pub fn new(file: &'a str, text: &'a str) -> Findings<'a> {
        Findings {
            file,
            text,
            list: RefCell::default(),
            looks: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// These bytes speak of something of this machine, for who looks whether it is there.
    pub fn look_at(&self, at: Range<usize>, look: Look) {
        self.looks.borrow_mut().push((at, look));
    }

    /// All that is to be looked at.
    pub fn looks(&self) -> Vec<(Range<usize>, Look)> {
        self.looks.borrow().clone()
    }

    /// A table that was read whole, and the keys that it may have.
    #[cfg(test)]
    pub fn note_asked(&self, table: &str, keys: &[&'static str]) {
        self.asked.borrow_mut().push((table.to_owned(), keys.to_vec()));
    }

    /// All of them.
    #[cfg(test)]
    pub fn asked(&self) -> Vec<(String, Vec<&'static str>)> {
        self.asked.borrow().clone()
    }

    /// These bytes of the file are wrong; `help` says what would be right.
    pub fn error(&self, at: Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        let (what, help) = (what.into(), help.into());
        self.list.borrow_mut().push(Finding { at, severity: Severity::Error, what, help });
    }

    /// These bytes of the file are hardly what is meant.
    pub fn warn(&self, at: Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        let (what, help) = (what.into(), help.into());
        self.list.borrow_mut().push(Finding { at, severity: Severity::Warning, what, help });
    }

    /// Whether there is an error among them.
    pub fn has_errors(&self) -> bool {
        self.list.borrow().iter().any(|finding| finding.severity == Severity::Error)
    }

    /// `FILE:LINE:COLUMN` of a byte.
    pub fn place(&self, at: usize) -> String {
        let (line, column, _) = self.line(at);
        format!("{}:{line}:{column}", self.file)
    }

    /// All findings by their places.
    pub fn all(&self) -> Vec<Found> {
        let mut list = self.list.borrow_mut();
        list.sort_by_key(|finding| finding.at.start);
        list.iter().map(|finding| self.found(finding)).collect()
    }

    fn found(&self, finding: &Finding) -> Found {
        let (line, column, content) = self.line(finding.at.start);
        let length =
            self.text.get(finding.at.clone()).map_or(1, |text| text.lines().next().unwrap_or("").chars().count());
        Found {
            file: self.file.to_owned(),
            line,
            column,
            end_column: column + length.max(1),
            severity: finding.severity,
            what: finding.what.clone(),
            help: finding.help.clone(),
            shown: without_secret(content),
        }
    }

    /// Line and column of a byte, from 1, and the line.
    fn line(&self, at: usize) -> (usize, usize, &'a str) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = self.text.get(start..).unwrap_or_default();
        let content = rest.lines().next().unwrap_or_default();
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1, content)
    }
}

/// The line as it may be shown: the value of a key `secret` is nobody's business.
fn without_secret(line: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    for (at, word) in line.match_indices("secret") {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let value = after.trim_start_matches(['"', '\'']).trim_start();
        if !before.ends_with(is_word) && !after.starts_with(is_word) && value.starts_with('=') {
            return format!("{}= …", &line[..line.len() - value.len()]);
        }
    }
    // Nor is one in the address of a remote store.
    if let Some(at) = line.to_ascii_lowercase().find("iscsi://")
        && crate::remote::without_secrets(&line[at..], "") != line[at..]
    {
        return format!("{}…", &line[..at + "iscsi://".len()]);
    }
    line.to_owned()
}

/// "did you mean …", where something known is near enough; otherwise what is known.
pub fn suggest<'k>(said: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known.iter().map(|one| (distance(said, one), *one)).min_by_key(|(distance, _)| *distance);
    match near {
        Some((distance, one)) if distance <= (said.chars().count() / 4).max(1) => format!("did you mean `{one}`?"),
        _ => there_are(known),
    }
}

/// What there is, where nothing that was said could be near it.
pub fn there_are<T: ToString>(known: impl IntoIterator<Item = T>) -> String {
    let known: Vec<String> = known.into_iter().map(|one| one.to_string()).collect();
    match known.len() {
        0 => "there are none".to_owned(),
        1..=12 => format!("there are {}", known.join(", ")),
        _ => format!("there are {}, …", known[..12].join(", ")),
    }
}

/// How many letters have to be put in, left out, changed or exchanged with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().take(64).flat_map(char::to_lowercase).collect();
    let other: Vec<char> = other.chars().take(64).flat_map(char::to_lowercase).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_what_is_near() {
        let known = ["listen", "group", "advertise"];
        assert_eq!(suggest("lisetn", known), "did you mean `listen`?");
        assert_eq!(suggest("Group", known), "did you mean `group`?");
        assert_eq!(suggest("advertize", known), "did you mean `advertise`?");
        assert_eq!(suggest("colour", known), "there are listen, group, advertise");
        assert_eq!(suggest("colour", []), "there are none");
    }

    #[test]
    fn chp_18_a_line_is_shown_without_its_secret() {
        assert_eq!(without_secret("secret = \"alice-secret-12\"  # mine"), "secret = …");
        assert_eq!(without_secret("alice = { user = \"a\", \"secret\"='x' }"), "alice = { user = \"a\", \"secret\"= …");
        assert_eq!(without_secret("store = \"iscsi://a%sesame@h/t/1\""), "store = \"iscsi://…");
        for line in ["secret-file = \"/etc/a\"", "# a secret", "listen = \"secret\"", "store = \"iscsi://a@h/t/1\""] {
            assert_eq!(without_secret(line), line);
        }
        let content = "\n\tsecret = \"alice-secret-12\"";
        let findings = Findings::new("l.toml", content);
        findings.error(11..28, "is wrong", "mend it");
        assert_eq!(
            text(&findings.all()),
            "l.toml:2:11: error: is wrong\n  |\n2 | \tsecret = …\n  | \t         ^ mend it\n"
        );
    }
}
