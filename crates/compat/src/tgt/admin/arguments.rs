//! The command line of tgt-admin.

use crate::tgt::getopt::{Grammar, Item, Long};

const GRAMMAR: Grammar = Grammar {
    program: "tgt-admin",
    letters: "esC:c:fpvh",
    longs: &[
        Long { name: "execute", argument: false, letter: 'e' },
        Long { name: "delete", argument: true, letter: 'D' },
        Long { name: "offline", argument: true, letter: 'O' },
        Long { name: "ready", argument: true, letter: 'R' },
        Long { name: "update", argument: true, letter: 'U' },
        Long { name: "show", argument: false, letter: 's' },
        Long { name: "control-port", argument: true, letter: 'C' },
        Long { name: "conf", argument: true, letter: 'c' },
        Long { name: "ignore-errors", argument: false, letter: 'i' },
        Long { name: "force", argument: false, letter: 'f' },
        Long { name: "pretend", argument: false, letter: 'p' },
        Long { name: "dump", argument: false, letter: 'd' },
        Long { name: "verbose", argument: false, letter: 'v' },
        Long { name: "help", argument: false, letter: 'h' },
    ],
};

/// What tgt-admin is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// To do what.
    pub action: Action,
    /// The daemon's control port, where it is said.
    pub control_port: Option<u16>,
    /// Another file than the usual one.
    pub conf: Option<String>,
    /// To go on behind what fails.
    pub ignore_errors: bool,
    /// Also what is in use.
    pub force: bool,
    /// Only to print what would be done.
    pub pretend: bool,
    /// To print what is done.
    pub verbose: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing was said.
    #[default]
    None,
    /// Help.
    Help,
    /// The listing.
    Show,
    /// What runs, as a file that makes it again.
    Dump,
    /// What is in the file and does not run.
    Execute,
    /// These targets are deleted.
    Delete(Which),
    /// These targets are as the file says.
    Update(Which),
    /// These targets take no logins, or do.
    State(&'static str, Which),
}

/// Which targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// How to say it.
    Help,
    /// All.
    All,
    /// By its number.
    Tid(String),
    /// By its name.
    Name(String),
}

impl Which {
    fn of(text: String) -> Which {
        match text.as_str() {
            "help" => Which::Help,
            "ALL" => Which::All,
            _ => match text.strip_prefix("tid=") {
                Some(tid) => Which::Tid(tid.to_owned()),
                None => Which::Name(text),
            },
        }
    }
}

/// Reads the words behind the program's name; the error is what is wrong with them.
pub fn read(words: &[String]) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    if words.is_empty() {
        arguments.action = Action::Help;
        return Ok(arguments);
    }
    let (items, rest) = GRAMMAR.read(words);
    // Of several actions the one counts that tgt-admin looks for first.
    let mut actions: Vec<(u8, Action)> = Vec::new();
    for item in items {
        let (letter, value) = match item {
            Item::Wrong(line) => return Err(line),
            Item::Option(letter, value) => (letter, value.unwrap_or_default()),
        };
        match letter {
            'h' => actions.push((0, Action::Help)),
            's' => actions.push((1, Action::Show)),
            'e' => actions.push((2, Action::Execute)),
            'D' => actions.push((3, Action::Delete(Which::of(value)))),
            'U' => actions.push((4, Action::Update(Which::of(value)))),
            'd' => actions.push((5, Action::Dump)),
            'O' => actions.push((6, Action::State("offline", Which::of(value)))),
            'R' => actions.push((6, Action::State("ready", Which::of(value)))),
            'C' => {
                let port =
                    value.parse().map_err(|_| format!("tgt-admin: {value} is no control port; use 0 to 65535"))?;
                arguments.control_port = Some(port);
            }
            'c' => arguments.conf = Some(value),
            'i' => arguments.ignore_errors = true,
            'f' => arguments.force = true,
            'p' => arguments.pretend = true,
            _ => arguments.verbose = true,
        }
    }
    if let Some(extra) = rest.first() {
        return Err(format!("tgt-admin: unrecognized option '{extra}'"));
    }
    if actions.iter().filter(|(order, _)| *order == 6).count() > 1 {
        return Err("Invalid value (you can't use both ready and offline)!".to_owned());
    }
    actions.sort_by_key(|(order, _)| *order);
    arguments.action = actions.into_iter().next().map(|(_, action)| action).unwrap_or_default();
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Arguments, String> {
        read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_units_and_people_say_is_understood() {
        let conf = Some("/etc/tgt/targets.conf".to_owned());
        let execute = Arguments { action: Action::Execute, conf: conf.clone(), ..Arguments::default() };
        assert_eq!(read_line("-e -c /etc/tgt/targets.conf").unwrap(), execute);
        let update = Action::Update(Which::All);
        let forced = Arguments { action: update, conf, force: true, ..Arguments::default() };
        assert_eq!(read_line("--update ALL -c /etc/tgt/targets.conf -f").unwrap(), forced);
        assert_eq!(read_line("--delete tid=4").unwrap().action, Action::Delete(Which::Tid("4".into())));
        assert_eq!(read_line("--offline iqn.a -C 3").unwrap().control_port, Some(3));
        assert_eq!(read_line("").unwrap().action, Action::Help);
        assert_eq!(read_line("-v").unwrap().action, Action::None);
        assert_eq!(read_line("-x").unwrap_err(), "tgt-admin: invalid option -- 'x'");
        assert!(read_line("--offline ALL --ready ALL").is_err());
    }
}
