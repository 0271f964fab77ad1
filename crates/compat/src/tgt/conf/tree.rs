//! The blocks of targets.conf: keys with values, and blocks with more of them.

use super::finding::{Finding, Place};
use super::lines::{Line, Said};

/// Blocks within blocks.
const DEPTH: usize = 8;

/// A key with its value, or a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `key value`.
    Value(Value),
    /// `<name argument>` … `</name>`.
    Block(Block),
}

/// `key value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Where.
    pub at: Place,
    /// The key.
    pub key: String,
    /// The value; empty where there is none.
    pub value: String,
}

/// `<name argument>` … `</name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where it begins.
    pub at: Place,
    /// Its name.
    pub name: String,
    /// What stands behind the name.
    pub argument: String,
    /// What is in it.
    pub entries: Vec<Entry>,
}

/// The tree of these lines.
pub fn build(lines: &[Line], findings: &mut Vec<Finding>) -> Vec<Entry> {
    let mut open: Vec<Block> = Vec::new();
    let mut root = Vec::new();
    for line in lines {
        let at = line.at.clone();
        let entry = match &line.text {
            Said::Document(key, value) => Entry::Value(Value { at, key: key.clone(), value: value.clone() }),
            Said::Words(words) => match words.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')) {
                Some(inner) if inner.starts_with('/') => {
                    let name = inner.trim_start_matches('/').trim();
                    let Some(block) = open.pop() else {
                        findings.push(Finding::error(at, format!("<{inner}> ends nothing")));
                        continue;
                    };
                    if block.name != name {
                        let what = format!("<{inner}> ends <{}> of line {}", block.name, block.at.line);
                        findings.push(Finding::warning(at, what));
                    }
                    Entry::Block(block)
                }
                Some(inner) => {
                    let (inner, ended) = inner.strip_suffix('/').map_or((inner, false), |inner| (inner, true));
                    let (name, argument) = name_and_argument(inner.trim());
                    let block = Block { at: at.clone(), name, argument, entries: Vec::new() };
                    if !ended {
                        if open.len() >= DEPTH {
                            findings.push(Finding::error(at, format!("blocks stand {DEPTH} deep in each other")));
                            return root;
                        }
                        open.push(block);
                        continue;
                    }
                    Entry::Block(block)
                }
                None => Entry::Value(value(at, words)),
            },
        };
        match open.last_mut() {
            Some(block) => block.entries.push(entry),
            None => root.push(entry),
        }
    }
    for block in open {
        let Block { at, name, .. } = block;
        findings.push(Finding::error(at, format!("<{name}> has no end: there is no </{name}>")));
    }
    root
}

/// `name argument`, either of them in quotation marks.
fn name_and_argument(inner: &str) -> (String, String) {
    let unquoted = |text: &str| {
        let text = text.trim();
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned()
    };
    match inner.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((name, argument)) => (name.to_owned(), unquoted(argument)),
        None => {
            let (name, argument) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
            (name.to_owned(), unquoted(argument))
        }
    }
}

/// `key value` or `key = value`.
fn value(at: Place, words: &str) -> Value {
    let end = words.find(|letter: char| letter == '=' || letter.is_whitespace()).unwrap_or(words.len());
    let (key, rest) = words.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').map_or(rest, str::trim_start);
    let rest = rest.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(rest);
    Value { at, key: key.to_owned(), value: unescaped(rest) }
}

/// Backslashes before the letters that would mean something are gone.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letters.peek() {
            Some('#' | '$' | '"' | '\\') if letter == '\\' => out.extend(letters.next()),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::lines::of_text;
    use super::*;

    fn tree(text: &str) -> (Vec<Entry>, Vec<String>) {
        let mut findings = Vec::new();
        let lines = of_text("t", text, &mut findings);
        let tree = build(&lines, &mut findings);
        (tree, findings.iter().map(ToString::to_string).collect())
    }

    fn shown(entries: &[Entry]) -> String {
        let one = |entry: &Entry| match entry {
            Entry::Value(value) => format!("{}={}", value.key, value.value),
            Entry::Block(block) => format!("{}:{}[{}]", block.name, block.argument, shown(&block.entries)),
        };
        entries.iter().map(one).collect::<Vec<_>>().join(";")
    }

    #[test]
    fn keys_values_and_blocks_are_told_apart() {
        let text = "a 1 2\nb = \"x y\"\nc=d=e\np params=1\nq\n<target iqn.a>\n <backing-store /x y>\n  lun 3\n </backing-store>\n h a\\#b\n</target>\n<e/>";
        let (entries, findings) = tree(text);
        assert_eq!(findings, [""; 0]);
        let expected = "a=1 2;b=x y;c=d=e;p=params=1;q=;target:iqn.a[backing-store:/x y[lun=3];h=a#b];e:[]";
        assert_eq!(shown(&entries), expected);
    }

    #[test]
    fn blocks_that_do_not_end_or_do_not_begin_are_told_with_their_place() {
        assert_eq!(tree("<a>\nb 1\n").1, ["t:1: error: <a> has no end: there is no </a>"]);
        assert_eq!(tree("a 1\n</a>\n").1, ["t:2: error: </a> ends nothing"]);
        assert_eq!(tree("<a>\n</b>\n").1, ["t:2: note: </b> ends <a> of line 1"]);
        assert_eq!(tree(&"<a>\n".repeat(9)).1.len(), 1);
    }
}
