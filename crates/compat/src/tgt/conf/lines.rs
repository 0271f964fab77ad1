//! The lines of targets.conf as Perl's Config::General has them: comments gone, continued lines joined, here-documents
//! gathered, files included, each with the place where it begins.

use super::finding::{Finding, Place};
use super::glob;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files within files.
const DEPTH: usize = 16;
/// Files in all.
const FILES: usize = 4096;
/// Bytes of all files.
const BYTES: u64 = 64 << 20;

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it begins.
    pub at: Place,
    /// What it says, without what stands around it.
    pub text: Said,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Anything.
    Words(String),
    /// A key with the text of a here-document.
    Document(String, String),
}

/// How files are read.
pub struct Reader<'a> {
    lines: Vec<Line>,
    findings: &'a mut Vec<Finding>,
    files: usize,
    bytes: u64,
}

/// All lines of this file and of those that it includes.
pub fn read(path: &Path, findings: &mut Vec<Finding>) -> Vec<Line> {
    let mut reader = Reader { lines: Vec::new(), findings, files: 0, bytes: 0 };
    reader.file(path, None, 0);
    reader.lines
}

/// All lines of this text, of a file by that name.
#[cfg(test)]
pub fn of_text(name: &str, text: &str, findings: &mut Vec<Finding>) -> Vec<Line> {
    let mut reader = Reader { lines: Vec::new(), findings, files: 0, bytes: 0 };
    reader.text(&Arc::from(name), text, 0);
    reader.lines
}

impl Reader<'_> {
    /// `from` is where it is included.
    fn file(&mut self, path: &Path, from: Option<&Place>, depth: usize) {
        let name: Arc<str> = path.display().to_string().into();
        let at = from.cloned().unwrap_or(Place { file: Arc::clone(&name), line: 1 });
        let mut wrong = |what: String| self.findings.push(Finding::error(at.clone(), what));
        if depth > DEPTH {
            return wrong(format!("{name} is included {DEPTH} files deep; does it include itself?"));
        }
        self.files += 1;
        if self.files > FILES {
            return wrong(format!("more than {FILES} files are included"));
        }
        let length = match std::fs::metadata(path) {
            Ok(facts) => facts.len(),
            Err(error) => return wrong(format!("{name}: {error}")),
        };
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > BYTES {
            return wrong(format!("{name} makes more than {} MiB of configuration", BYTES >> 20));
        }
        match std::fs::read(path) {
            // Old files are in any encoding; what is no UTF-8 shows in the findings of what it stands in.
            Ok(bytes) => self.text(&name, &String::from_utf8_lossy(&bytes), depth),
            Err(error) => wrong(format!("{name}: {error}")),
        }
    }

    fn text(&mut self, file: &Arc<str>, text: &str, depth: usize) {
        let place = |index: usize| Place { file: Arc::clone(file), line: index + 1 };
        let mut within_comment: Option<Place> = None;
        let mut document: Option<(Place, String, String, Vec<&str>)> = None;
        let mut long: Option<(Place, String)> = None;
        for (index, whole) in text.lines().enumerate() {
            if let Some((at, key, end, inner)) = &mut document {
                if whole.trim() != *end {
                    inner.push(whole);
                    continue;
                }
                // Where the end is indented, so much is taken off each line.
                let indent = whole.get(..whole.len() - whole.trim_start().len()).unwrap_or_default();
                let inner: Vec<&str> = inner.iter().map(|line| line.strip_prefix(indent).unwrap_or(line)).collect();
                let said = Said::Document(std::mem::take(key), inner.join("\n"));
                self.lines.push(Line { at: at.clone(), text: said });
                document = None;
                continue;
            }
            let Some(line) = self.without_comments(whole, &place(index), &mut within_comment) else { continue };
            if line.ends_with('\\') && !line.ends_with("\\\\") {
                let part = line.get(..line.len() - 1).unwrap_or_default().trim_start();
                long.get_or_insert_with(|| (place(index), String::new())).1.push_str(part);
                continue;
            }
            if let Some((at, mut joined)) = long.take() {
                joined.push_str(line.trim_start());
                self.words(at, &joined, depth);
                continue;
            }
            match here_document(&line) {
                Some((key, end)) => document = Some((place(index), key, end, Vec::new())),
                None => self.words(place(index), &line, depth),
            }
        }
        if let Some((at, joined)) = long {
            self.words(at, &joined, depth);
        }
        if let Some((at, key, end, _)) = document {
            self.findings.push(Finding::error(at, format!("the text of `{key}` has no end: there is no line `{end}`")));
        }
        if let Some(at) = within_comment {
            self.findings.push(Finding::error(at, "the comment has no end: there is no `*/`"));
        }
    }

    /// The line without its comments; nothing where it is one.
    fn without_comments(&mut self, whole: &str, at: &Place, within: &mut Option<Place>) -> Option<String> {
        let mut line = whole.to_owned();
        if let Some((before, rest)) = line.split_once("/*")
            && let Some((_, after)) = rest.rsplit_once("*/")
        {
            line = format!("{}{}", before.trim_end(), after.trim_start());
        } else if line.trim_start().starts_with("/*") {
            *within = Some(at.clone());
        } else if let Some((_, after)) = line.rsplit_once("*/") {
            if within.take().is_none() {
                self.findings.push(Finding::warning(at.clone(), "a comment ends here that does not begin"));
            }
            line = after.to_owned();
        }
        if within.is_some() {
            return None;
        }
        // A # begins a comment unless a backslash stands before it.
        let mut before = None;
        for (index, letter) in line.char_indices() {
            if letter == '#' && before != Some('\\') {
                line.truncate(index);
                break;
            }
            before = Some(letter);
        }
        (!line.trim().is_empty()).then_some(line)
    }

    fn words(&mut self, at: Place, line: &str, depth: usize) {
        let line = line.trim();
        match included(line) {
            Some((path, optional)) => self.include(&at, &path, optional, depth),
            None if line.is_empty() => {}
            None => self.lines.push(Line { at, text: Said::Words(line.to_owned()) }),
        }
    }

    fn include(&mut self, at: &Place, pattern: &str, optional: bool, depth: usize) {
        let paths: Vec<PathBuf> = match glob::is_pattern(pattern) {
            true => glob::files(pattern),
            false if optional && !Path::new(pattern).exists() => Vec::new(),
            false => vec![PathBuf::from(pattern)],
        };
        for path in paths {
            self.file(&path, Some(at), depth + 1);
        }
    }
}

/// The path of an `include`, and whether it may be absent.
fn included(line: &str) -> Option<(String, bool)> {
    let (word, rest) = line.split_at_checked(line.find(|letter: char| !letter.is_ascii_alphabetic())?)?;
    let optional = word.eq_ignore_ascii_case("includeoptional");
    if !optional && !word.eq_ignore_ascii_case("include") {
        return None;
    }
    let path = rest.trim();
    let quoted = |quote: char| path.strip_prefix(quote).and_then(|path| path.strip_suffix(quote));
    match quoted('"').or_else(|| quoted('\'')) {
        Some(path) => Some((path.to_owned(), optional)),
        None if rest.starts_with(char::is_whitespace) && !path.is_empty() => Some((path.to_owned(), optional)),
        None => None,
    }
}

/// The key of `key <<END` or `key = <<END`, and the END.
fn here_document(line: &str) -> Option<(String, String)> {
    let (key, end) = line.split_once("<<")?;
    let (key, end) = (key.trim(), end.trim());
    let key = key.strip_suffix('=').map_or(key, str::trim_end);
    let is_key = !key.is_empty() && !key.contains(char::is_whitespace);
    (is_key && !end.is_empty()).then(|| (key.to_owned(), end.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        let mut findings = Vec::new();
        let lines = of_text("t", text, &mut findings);
        assert_eq!(findings, [], "{text}");
        let shown = |text| match text {
            Said::Words(words) => words,
            Said::Document(key, text) => format!("{key}<<{text}"),
        };
        lines.into_iter().map(|line| (line.at.line, shown(line.text))).collect()
    }

    fn line(number: usize, text: &str) -> (usize, String) {
        (number, text.to_owned())
    }

    #[test]
    fn comments_of_each_kind_are_gone() {
        let text = "# one\na 1 # two\n  b 2#three\n/* four */ c 3\n/* five\nsix\n*/ d 4\ne a\\#b\n\n/* x */\n";
        let expected = [line(2, "a 1"), line(3, "b 2"), line(4, "c 3"), line(7, "d 4"), line(8, "e a\\#b")];
        assert_eq!(lines(text), expected);
    }

    #[test]
    fn lines_go_on_behind_a_backslash_and_here_documents_have_their_text() {
        let text =
            "a one \\\n   two\\\n three\nb = <<EOT\n  x # no comment\n y\nEOT\nc <<END\n    z\n      w\n    END\nd 1";
        let expected =
            [line(1, "a one twothree"), line(4, "b<<  x # no comment\n y"), line(8, "c<<z\n  w"), line(12, "d 1")];
        assert_eq!(lines(text), expected);
    }

    #[test]
    fn files_are_included_by_name_and_by_pattern_in_each_others_midst() {
        let folder = sim::daemon::Folder::new();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("conf.d")).unwrap();
        for (name, text) in [("conf.d/b.conf", "in-b 1\n"), ("conf.d/a.conf", "in-a 1\n"), ("conf.d/c.txt", "no 1\n")] {
            std::fs::write(path(name), text).unwrap();
        }
        let pattern = path("conf.d/*.conf").display().to_string();
        let named = path("conf.d/c.txt").display().to_string();
        let text = format!("first 1\nInclude {pattern}\n<t x>\ninclude \"{named}\"\n</t>\nincludeoptional /no/such\n");
        std::fs::write(path("main"), text).unwrap();
        let mut findings = Vec::new();
        let said: Vec<String> = read(&path("main"), &mut findings)
            .into_iter()
            .filter_map(|line| match line.text {
                Said::Words(words) => Some(words),
                Said::Document(..) => None,
            })
            .collect();
        assert_eq!(findings, []);
        assert_eq!(said, ["first 1", "in-a 1", "in-b 1", "<t x>", "no 1", "</t>"]);
    }

    #[test]
    fn what_is_not_there_or_never_ends_is_told_with_its_place() {
        let folder = sim::daemon::Folder::new();
        let path = folder.path().join("main");
        let itself = path.display().to_string();
        for (text, line, what) in [
            ("a 1\ninclude /no/such/file\n".to_owned(), 2, "/no/such/file: "),
            ("a <<EOT\nb\n".to_owned(), 1, "has no end"),
            ("a 1\n\n/* b\n".to_owned(), 3, "has no end"),
            (format!("a 1\ninclude {itself}\n"), 2, "include itself"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let mut findings = Vec::new();
            read(&path, &mut findings);
            let told = findings.first().map(ToString::to_string).unwrap_or_default();
            assert!(told.starts_with(&format!("{itself}:{line}: ")) && told.contains(what), "{told}");
        }
    }
}
