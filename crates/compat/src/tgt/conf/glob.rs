//! Patterns of file names as a shell has them: `*`, `?`, `[a-z]`, `{a,b}`.

use std::path::{Path, PathBuf};

/// Names that braces can make of one pattern.
const ALTERNATIVES: usize = 256;

/// Whether this is a pattern, rather than a name.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// The files that fit, in the order of their names.
pub fn files(pattern: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for pattern in braces(pattern) {
        let root = if pattern.starts_with('/') { "/" } else { "" };
        let mut places = vec![PathBuf::from(root)];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            places = places.iter().flat_map(|place| below(place, part)).collect();
        }
        found.extend(places.into_iter().filter(|place| !place.as_os_str().is_empty()));
    }
    found
}

fn below(place: &Path, part: &str) -> Vec<PathBuf> {
    if !is_pattern(part) {
        let path = place.join(part);
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let folder = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let part: Vec<char> = part.chars().collect();
    let fits = |name: &String| {
        (!name.starts_with('.') || part.first() == Some(&'.')) && fits(&part, &name.chars().collect::<Vec<_>>())
    };
    let mut fitting: Vec<String> = names.filter(fits).collect();
    fitting.sort();
    fitting.into_iter().map(|name| place.join(name)).collect()
}

/// The patterns without braces that one with them means.
fn braces(pattern: &str) -> Vec<String> {
    let (mut done, mut open) = (Vec::new(), vec![pattern.to_owned()]);
    while let Some(pattern) = open.pop() {
        let whole = pattern.split_once('{').and_then(|(before, rest)| {
            let (inner, after) = rest.split_once('}')?;
            Some((before, inner, after))
        });
        match whole {
            Some((before, inner, after)) if open.len() + done.len() < ALTERNATIVES => {
                open.extend(inner.split(',').rev().map(|one| format!("{before}{one}{after}")));
            }
            _ => done.push(pattern),
        }
    }
    done
}

/// Whether the name fits. Tries a star's shortest reach first and comes back to the last one only: no pattern takes
/// longer than the product of both lengths.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, seen));
                at += 1;
                continue;
            }
            Some(_) => one(pattern.get(at..).unwrap_or_default(), name.get(seen).copied().unwrap_or_default()),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (at, seen) = (at + length, seen + 1),
            (None, Some((behind, reach))) => {
                (at, seen) = (behind, reach + 1);
                star = Some((behind, reach + 1));
            }
            (None, None) => return false,
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|letter| *letter == '*'))
}

/// The length of the pattern's first element, where it fits this letter.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == letter).then_some(2),
        ['[', rest @ ..] => {
            let (negated, set) = match rest {
                ['!' | '^', set @ ..] => (true, set),
                set => (false, set),
            };
            let end = set.iter().skip(1).position(|letter| *letter == ']')? + 1;
            let inner = set.get(..end)?;
            let mut within = inner.contains(&letter);
            for range in inner.windows(3) {
                if let [low, '-', high] = range {
                    within |= (*low..=*high).contains(&letter);
                }
            }
            (within != negated).then_some(end + 2 + usize::from(negated))
        }
        [own, ..] => (*own == letter).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str) -> bool {
        fits(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name) in
            [("*.conf", "a.conf"), ("a*b*c", "aXbXbc"), ("?.x", "é.x"), ("[a-c][!0-9]", "bx"), ("\\*", "*"), ("*", "")]
        {
            assert!(check(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.conf", "a.config"), ("[a-c]", "d"), ("[!a]", "a"), ("?", ""), ("a", "ab")] {
            assert!(!check(pattern, name), "{pattern} {name}");
        }
        assert_eq!(braces("/a/{b,c}{1,2}"), ["/a/b1", "/a/b2", "/a/c1", "/a/c2"]);
    }
}
