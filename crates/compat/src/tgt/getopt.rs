//! Words of a command line, read as the C library's getopt_long reads them: long options may be cut short, options may
//! stand behind other words, and each kind of mistake has its own line.

/// A long option, and the letter that it stands for.
#[derive(Debug, Clone, Copy)]
pub struct Long {
    /// Without its dashes.
    pub name: &'static str,
    /// Whether it takes an argument.
    pub argument: bool,
    /// What it is to the program.
    pub letter: char,
}

/// The options of a program.
#[derive(Debug, Clone, Copy)]
pub struct Grammar {
    /// Its name, which stands before what is wrong.
    pub program: &'static str,
    /// The letters; a colon behind one that takes an argument.
    pub letters: &'static str,
    /// The long options.
    pub longs: &'static [Long],
}

/// What the words are, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An option with its argument.
    Option(char, Option<String>),
    /// Something is wrong, and this line says what. Nothing comes behind it.
    Wrong(String),
}

impl Grammar {
    /// The options in their order, and what is none.
    pub fn read(&self, words: &[String]) -> (Vec<Item>, Vec<String>) {
        let (mut items, mut rest) = (Vec::new(), Vec::new());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let read = match word.strip_prefix("--") {
                Some("") => {
                    rest.extend(words.cloned());
                    break;
                }
                Some(long) => self.long(long, &mut words).map(|item| vec![item]),
                None => match word.strip_prefix('-') {
                    Some("") | None => {
                        rest.push(word.clone());
                        continue;
                    }
                    Some(letters) => self.letters(letters, &mut words),
                },
            };
            match read {
                Ok(more) => items.extend(more),
                Err((before, line)) => {
                    items.extend(before);
                    items.push(Item::Wrong(line));
                    break;
                }
            }
        }
        (items, rest)
    }

    fn long<'a>(&self, text: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<Item, (Vec<Item>, String)> {
        let wrong = |line: String| (Vec::new(), format!("{}: {line}", self.program));
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        let found = match self.longs.iter().find(|long| long.name == name) {
            Some(exact) => exact,
            None => {
                let fitting: Vec<&Long> = self.longs.iter().filter(|long| long.name.starts_with(name)).collect();
                match fitting[..] {
                    [one] => one,
                    [] => return Err(wrong(format!("unrecognized option '--{text}'"))),
                    _ => {
                        let names: String = fitting.iter().map(|long| format!(" '--{}'", long.name)).collect();
                        return Err(wrong(format!("option '--{text}' is ambiguous; possibilities:{names}")));
                    }
                }
            }
        };
        match (found.argument, value) {
            (true, None) => match words.next() {
                Some(next) => Ok(Item::Option(found.letter, Some(next.clone()))),
                None => Err(wrong(format!("option '--{}' requires an argument", found.name))),
            },
            (true, value) => Ok(Item::Option(found.letter, value)),
            (false, None) => Ok(Item::Option(found.letter, None)),
            (false, Some(_)) => Err(wrong(format!("option '--{}' doesn't allow an argument", found.name))),
        }
    }

    fn letters<'a>(
        &self,
        letters: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<Vec<Item>, (Vec<Item>, String)> {
        let mut items = Vec::new();
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let argument = self.argument_of(letter);
            match argument {
                None => return Err((items, format!("{}: invalid option -- '{letter}'", self.program))),
                Some(false) => items.push(Item::Option(letter, None)),
                Some(true) => {
                    let inner = rest.as_str();
                    let value = if inner.is_empty() { words.next().cloned() } else { Some(inner.to_owned()) };
                    let Some(value) = value else {
                        let line = format!("{}: option requires an argument -- '{letter}'", self.program);
                        return Err((items, line));
                    };
                    items.push(Item::Option(letter, Some(value)));
                    break;
                }
            }
        }
        Ok(items)
    }

    /// Whether this letter takes an argument; `None` where there is no such letter.
    fn argument_of(&self, letter: char) -> Option<bool> {
        let (_, behind) = self.letters.split_once(letter).filter(|_| letter != ':')?;
        Some(behind.starts_with(':'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAMMAR: Grammar = Grammar {
        program: "prog",
        letters: "dt:F",
        longs: &[
            Long { name: "debug", argument: false, letter: 'd' },
            Long { name: "tid", argument: true, letter: 't' },
            Long { name: "sid", argument: true, letter: 's' },
            Long { name: "size", argument: true, letter: 'z' },
            Long { name: "force", argument: false, letter: 'F' },
        ],
    };

    fn read(words: &[&str]) -> (Vec<Item>, Vec<String>) {
        GRAMMAR.read(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn option(letter: char, value: &str) -> Item {
        Item::Option(letter, Some(value.to_owned()))
    }

    #[test]
    fn options_are_found_in_every_form_and_behind_other_words() {
        let (items, rest) = read(&["-dt1", "extra", "--tid=2", "--ti", "3", "--", "-F"]);
        let expected = [Item::Option('d', None), option('t', "1"), option('t', "2"), option('t', "3")];
        assert_eq!(items, expected);
        assert_eq!(rest, ["extra", "-F"]);
        assert_eq!(read(&["--tid", "-1"]).0, [option('t', "-1")]);
        assert_eq!(read(&["--tid="]).0, [option('t', "")]);
    }

    #[test]
    fn each_mistake_has_the_line_of_the_c_library() {
        for (words, line) in [
            (&["--foo=1"][..], "unrecognized option '--foo=1'"),
            (&["-x"], "invalid option -- 'x'"),
            (&["-:"], "invalid option -- ':'"),
            (&["-t"], "option requires an argument -- 't'"),
            (&["--tid"], "option '--tid' requires an argument"),
            (&["--force=1"], "option '--force' doesn't allow an argument"),
            (&["--si", "1"], "option '--si' is ambiguous; possibilities: '--sid' '--size'"),
        ] {
            assert_eq!(read(words).0, [Item::Wrong(format!("prog: {line}"))]);
        }
        assert_eq!(read(&["-dx"]).0, [Item::Option('d', None), Item::Wrong("prog: invalid option -- 'x'".into())]);
    }
}
