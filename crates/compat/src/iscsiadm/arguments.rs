//! iscsiadm's command line, read as getopt_long reads it: in any order, long names shortened, letters together.

use super::Code;

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    pub mode: Option<String>,
    /// The letters that were given, in their order; `?` for what is no option.
    pub letters: Vec<char>,
    pub portal: Option<String>,
    pub target: Option<String>,
    pub ifaces: Vec<String>,
    pub operations: Vec<Operation>,
    pub kind: Option<String>,
    /// Names and values of `-n` and `-v`, in their order.
    pub pairs: Vec<(String, Option<String>)>,
    pub host: Option<String>,
    pub session: Option<String>,
    pub level: Option<i64>,
    pub login_all: Option<String>,
    pub logout_all: Option<String>,
    pub submode: Option<String>,
    pub address: Option<String>,
    pub count: Option<u32>,
    pub interval: Option<u32>,
    pub size: Option<u32>,
    /// Values that were told before any name.
    pub value_without_name: bool,
}

/// What shall be done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    New,
    Delete,
    Update,
    Show,
    Nonpersistent,
    Apply,
    ApplyAll,
    Login,
    Logout,
}

impl Operation {
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(_, operation)| *operation == self).map_or("", |(word, _)| word)
    }
}

const WORDS: &[(&str, Operation)] = &[
    ("new", Operation::New),
    ("delete", Operation::Delete),
    ("update", Operation::Update),
    ("show", Operation::Show),
    ("nonpersistent", Operation::Nonpersistent),
    ("apply", Operation::Apply),
    ("applyall", Operation::ApplyAll),
    ("login", Operation::Login),
    ("logout", Operation::Logout),
];

/// Long names, letters, and whether a value follows.
const OPTIONS: &[(&str, char, bool)] = &[
    ("mode", 'm', true),
    ("portal", 'p', true),
    ("targetname", 'T', true),
    ("interface", 'I', true),
    ("op", 'o', true),
    ("type", 't', true),
    ("name", 'n', true),
    ("value", 'v', true),
    ("host", 'H', true),
    ("sid", 'r', true),
    ("rescan", 'R', false),
    ("print", 'P', true),
    ("discover", 'D', false),
    ("login", 'l', false),
    ("loginall", 'L', true),
    ("logout", 'u', false),
    ("logoutall", 'U', true),
    ("stats", 's', false),
    ("killiscsid", 'k', true),
    ("debug", 'd', true),
    ("show", 'S', false),
    ("version", 'V', false),
    ("help", 'h', false),
    ("submode", 'C', true),
    ("ip", 'a', true),
    ("packetsize", 'b', true),
    ("count", 'c', true),
    ("interval", 'i', true),
    ("index", 'x', true),
    ("portal_type", 'A', true),
    ("no_wait", 'W', false),
];

/// What a command line comes to.
pub(super) enum Read {
    Arguments(Box<Arguments>),
    /// `-h`.
    Help,
    /// `-V`.
    Version,
    /// `-k`: there is no daemon to be stopped.
    Stop,
    /// Nothing that can be done.
    Wrong(Code, Vec<String>),
}

/// Reads the words behind the program's name.
pub(super) fn read(words: &[String]) -> Read {
    let mut arguments = Arguments::default();
    let mut complaints = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        let mut found: Vec<(char, Option<String>)> = Vec::new();
        let complained = complaints.len();
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            match by_name(name) {
                Ok((full, letter, true)) => match value.or_else(|| words.next().cloned()) {
                    Some(value) => found.push((letter, Some(value))),
                    None => complaints.push(format!("option '--{full}' requires an argument")),
                },
                Ok((_, letter, false)) if value.is_none() => found.push((letter, None)),
                Ok((full, _, false)) => complaints.push(format!("option '--{full}' doesn't allow an argument")),
                Err(Some(line)) => complaints.push(line),
                Err(None) => complaints.push(format!("unrecognized option '--{name}'")),
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                match OPTIONS.iter().find(|(_, known, _)| *known == letter) {
                    Some((_, _, false)) => found.push((letter, None)),
                    Some((_, _, true)) => {
                        let value = Some(rest.as_str().to_owned()).filter(|value| !value.is_empty());
                        rest = "".chars();
                        match value.or_else(|| words.next().cloned()) {
                            Some(value) => found.push((letter, Some(value))),
                            None => complaints.push(format!("option requires an argument -- '{letter}'")),
                        }
                    }
                    None => complaints.push(format!("invalid option -- '{letter}'")),
                }
            }
        }
        // A word that is no option is passed over, as it always was.
        if complaints.len() > complained {
            found.push(('?', None));
        }
        for (letter, value) in found {
            match letter {
                'h' => return Read::Help,
                'V' => return Read::Version,
                'k' => return Read::Stop,
                _ => {}
            }
            arguments.letters.push(letter);
            if let Err(line) = arguments.put(letter, value.unwrap_or_default()) {
                complaints.push(line);
                return Read::Wrong(Code::INVALID, prefixed(complaints));
            }
        }
    }
    arguments.verdict(complaints)
}

impl Arguments {
    fn put(&mut self, letter: char, value: String) -> Result<(), String> {
        match letter {
            'm' => self.mode = Some(value),
            'p' => self.portal = Some(value).filter(|portal| !portal.is_empty()),
            'T' => self.target = Some(value),
            'I' => self.ifaces.push(value),
            'o' => match WORDS.iter().find(|(word, _)| *word == value) {
                Some((_, operation)) => self.operations.push(*operation),
                None => return Err(format!("can not recognize operation: '{value}'")),
            },
            't' => self.kind = Some(value),
            'n' => self.pairs.push((value, None)),
            'v' => match self.pairs.last_mut() {
                Some((_, old)) => *old = Some(value),
                None => self.value_without_name = true,
            },
            'H' => self.host = Some(value),
            'r' => self.session = Some(value),
            // What is no number counts as none, as it always did.
            'P' => self.level = Some(value.parse().unwrap_or(0)),
            'L' => self.login_all = Some(value),
            'U' => self.logout_all = Some(value),
            'C' => self.submode = Some(value),
            'a' => self.address = Some(value),
            'b' => self.size = value.parse().ok(),
            'c' => self.count = value.parse().ok(),
            'i' => self.interval = value.parse().ok(),
            _ => {}
        }
        Ok(())
    }

    /// Whether it can be done at all.
    fn verdict(self, complaints: Vec<String>) -> Read {
        const TRY: &str = "Try `iscsiadm --help' for more information.";
        let mut lines = prefixed(complaints);
        for (all, what) in [(&self.login_all, "loginall"), (&self.logout_all, "logoutall")] {
            if let Some(all) = all.as_ref().filter(|all| !STARTUPS.contains(&all.as_str())) {
                lines.push(format!("iscsiadm: Invalid {what} option {all}."));
                lines.push(TRY.to_owned());
                return Read::Wrong(Code::INVALID, lines);
            }
        }
        let Some(mode) = &self.mode else {
            lines.push(TRY.to_owned());
            return Read::Wrong(Code::INVALID, lines);
        };
        let Some((_, allowed)) = MODES.iter().find(|(name, _)| name == mode) else {
            lines.push("iscsiadm: mode -1 is not yet supported".to_owned());
            return Read::Wrong(Code::INVALID, lines);
        };
        if let Some(letter) = self.letters.iter().find(|letter| !allowed.contains(**letter)) {
            lines.push(format!("iscsiadm: {mode} mode: option '-{letter}' is not allowed/supported"));
            return Read::Wrong(Code::INVALID, lines);
        }
        Read::Arguments(Box::new(self))
    }

    pub fn has(&self, letter: char) -> bool {
        self.letters.contains(&letter)
    }

    /// The one operation that was asked for.
    pub fn operation(&self) -> Option<Operation> {
        self.operations.last().copied()
    }

    /// Names with their values; none where one lacks the other.
    pub fn changes(&self) -> Option<Vec<(String, String)>> {
        let pairs: Option<Vec<_>> =
            self.pairs.iter().map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        pairs.filter(|pairs| !pairs.is_empty() && !self.value_without_name)
    }
}

const STARTUPS: &[&str] = &["all", "manual", "automatic", "onboot"];

const MODES: &[(&str, &str)] = &[
    ("discovery", "DSIPdmntplovW"),
    ("discoverydb", "DSIPdmntplovW"),
    ("node", "RsPIdmlSonvupTULW"),
    ("session", "PiRdrmusonSv"),
    ("iface", "HIdnvmPoCabci"),
    ("host", "CHdmPotnvxA"),
    ("fw", "dmlWnv"),
];

fn prefixed(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| format!("iscsiadm: {line}")).collect()
}

/// The option with this name or the only one that begins so.
fn by_name(name: &str) -> Result<(&'static str, char, bool), Option<String>> {
    if let Some(option) = OPTIONS.iter().find(|(full, _, _)| *full == name) {
        return Ok(*option);
    }
    let near: Vec<_> = OPTIONS.iter().filter(|(full, _, _)| full.starts_with(name) && !name.is_empty()).collect();
    match near.as_slice() {
        [option] => Ok(**option),
        [] => Err(None),
        several => {
            let names: Vec<String> = several.iter().map(|(full, _, _)| format!("'--{full}'")).collect();
            Err(Some(format!("option '--{name}' is ambiguous; possibilities: {}", names.join(" "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn refused(line: &str) -> Vec<String> {
        match read(&words(line)) {
            Read::Wrong(Code::INVALID, lines) => lines,
            _ => panic!("{line} was taken"),
        }
    }

    #[test]
    fn every_form_of_getopt_is_read() {
        for line in [
            "-m node -T iqn.a -p 1.2.3.4 -l",
            "--mode node --targetname iqn.a --portal 1.2.3.4 --login",
            "--mode=node --target=iqn.a --portal=1.2.3.4 --login",
            "-mnode -lTiqn.a -p1.2.3.4",
            "word -l -m node -p 1.2.3.4 -T iqn.a another",
        ] {
            let Read::Arguments(read) = read(&words(line)) else { panic!("{line} was not taken") };
            assert_eq!((read.mode.as_deref(), read.target.as_deref()), (Some("node"), Some("iqn.a")), "{line}");
            assert!(read.portal.as_deref() == Some("1.2.3.4") && read.has('l'), "{line}");
        }
    }

    #[test]
    fn several_changes_are_paired_in_their_order() {
        let Read::Arguments(read) = read(&words("-m node -o update -n a -v 1 -n b -v=2 -v -5")) else {
            panic!("not taken")
        };
        assert_eq!(read.changes(), Some(vec![("a".into(), "1".into()), ("b".into(), "-5".into())]));
    }

    #[test]
    fn what_is_wrong_is_told_as_iscsiadm_tells_it() {
        const TRY: &str = "Try `iscsiadm --help' for more information.";
        for (line, told) in [
            ("", &[TRY][..]),
            ("foo", &[TRY]),
            ("-m bogus", &["iscsiadm: mode -1 is not yet supported"]),
            ("--nosuch", &["iscsiadm: unrecognized option '--nosuch'", TRY]),
            ("-m node -x 1", &["iscsiadm: node mode: option '-x' is not allowed/supported"]),
            ("-m node -D", &["iscsiadm: node mode: option '-D' is not allowed/supported"]),
            ("-m discovery -u", &["iscsiadm: discovery mode: option '-u' is not allowed/supported"]),
            ("-m node -o bogus", &["iscsiadm: can not recognize operation: 'bogus'"]),
            ("-m node -L bogus", &["iscsiadm: Invalid loginall option bogus.", TRY]),
            (
                "-m node -z",
                &["iscsiadm: invalid option -- 'z'", "iscsiadm: node mode: option '-?' is not allowed/supported"],
            ),
            (
                "-m node -T",
                &[
                    "iscsiadm: option requires an argument -- 'T'",
                    "iscsiadm: node mode: option '-?' is not allowed/supported",
                ],
            ),
        ] {
            assert_eq!(refused(line), told, "{line}");
        }
    }
}
