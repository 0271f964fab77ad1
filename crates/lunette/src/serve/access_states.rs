//! `--access-states FILE`: the access states of portal groups, by which a cluster manager drives a failover
//! while the daemon runs. Lines are `GROUP STATE`; what follows a `#` is a comment.

use super::administrator::Administrator;
use crate::configuration;
use crate::failure::Failure;
use scsi::port_groups::AccessState;
#[cfg(test)]
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stores::host;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// More than any file of 65,535 groups has.
const MAXIMUM_BYTES: u64 = 4 << 20;

/// States of groups.
type States = Vec<(u16, AccessState)>;

/// The file as it was when last looked at: which one, when it was changed, what stands in it; or why it
/// could not be read.
type Seen = Result<([i64; 6], String), String>;

/// The file, and what was last seen of it.
pub struct AccessStates {
    path: PathBuf,
    groups: Vec<u16>,
    seen: Seen,
}

impl AccessStates {
    /// Reads the file for the first time, when an error in it is an error of the command line.
    pub fn open(path: PathBuf, groups: Vec<u16>) -> Result<(AccessStates, States), Failure> {
        let mut file = AccessStates { path, groups, seen: Err(String::new()) };
        let states = file.look().unwrap_or_else(|| Ok(States::new()));
        let states = states.map_err(|line| Failure::input(format!("--access-states {line}")))?;
        Ok((file, states))
    }

    /// What the file says, where it is another than at the last look or was written again. A file with an
    /// error says nothing but the error, and that once.
    fn look(&mut self) -> Option<Result<States, String>> {
        let seen = self.read();
        if seen == self.seen {
            return None;
        }
        let place = self.path.display();
        let said = match &seen {
            Ok((_, text)) => parse(text, &self.groups).map_err(|(line, why)| format!("{place}:{line}: {why}")),
            Err(error) => Err(format!("{place}: {error}")),
        };
        self.seen = seen;
        Some(said)
    }

    fn read(&self) -> Seen {
        let text = |error: std::io::Error| error.to_string();
        // Asked before it is opened: a pipe would keep us waiting for its other end.
        let facts = host::metadata(&self.path).map_err(text)?;
        if !facts.is_file() || facts.len() > MAXIMUM_BYTES {
            return Err("is no file of a few lines".to_owned());
        }
        let file = host::host().open(&self.path, host::How::READ).map_err(text)?;
        let facts = file.metadata().map_err(text)?;
        let mut content = String::new();
        file.take(MAXIMUM_BYTES).read_to_string(&mut content).map_err(text)?;
        let which = [facts.dev().cast_signed(), facts.ino().cast_signed()];
        let when = [facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec()];
        Ok(([which[0], which[1], when[0], when[1], when[2], when[3]], content))
    }
}

/// Looks at the file for ever, and changes the states of the groups as it says.
pub async fn watch(mut file: AccessStates, administrator: Administrator) {
    loop {
        tokio::time::sleep(LOOK).await;
        let looked = tokio::task::spawn_blocking(move || {
            let said = file.look();
            (file, said)
        });
        let Ok((again, said)) = looked.await else { return };
        file = again;
        match said {
            None => {}
            Some(Ok(states)) => {
                // Each of them, although one that has changed already says it.
                let changed = administrator.served().targets.iter().fold(false, |any, target| {
                    let units: Vec<_> = target.units.iter().map(|unit| Arc::clone(&unit.unit)).collect();
                    target.groups.change(&states, &units) | any
                });
                let list: Vec<_> = states.iter().map(|(group, state)| format!("{group} {}", state.name())).collect();
                tracing::info!(changed, states = list.join(", "), "the file of access states was read");
            }
            Some(Err(line)) => tracing::error!("access states stay as they are: {line}"),
        }
    }
}

/// All lines, or the number of the first that is wrong and why.
fn parse(text: &str, groups: &[u16]) -> Result<States, (usize, String)> {
    let mut states = States::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |why: String| (at + 1, why);
        let line = line.split_once('#').map_or(line, |(line, _)| line);
        let words: Vec<_> = line.split_whitespace().collect();
        let (group, state) = match words[..] {
            [] => continue,
            [group, state] => (group, state),
            _ => return Err(wrong("a line is GROUP STATE".to_owned())),
        };
        let number = group.parse().ok().filter(|number| groups.contains(number));
        let number = number.ok_or_else(|| wrong(format!("'{group}' is no portal group")))?;
        let state = AccessState::from_name(state)
            .ok_or_else(|| wrong(format!("'{state}' is no state; there are {}", configuration::states())))?;
        if states.iter().any(|(other, _)| *other == number) {
            return Err(wrong(format!("group {number} stands there twice")));
        }
        states.push((number, state));
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_a_group_and_its_state() {
        let text = "# failover\n1 standby\n\n 20\toptimized # now here\n";
        assert_eq!(parse(text, &[1, 20]), Ok(vec![(1, AccessState::Standby), (20, AccessState::ActiveOptimized)]));
        assert_eq!(parse("", &[1]), Ok(Vec::new()));
        for (text, line, why) in [
            ("1 standby\n2 standby", 2, "'2' is no portal group"),
            ("\n\n1 asleep", 3, "'asleep' is no state; there are active-optimized"),
            ("1", 1, "GROUP STATE"),
            ("1 standby now", 1, "GROUP STATE"),
            ("1 standby\n1 standby", 2, "twice"),
            ("x standby", 1, "'x' is no portal group"),
        ] {
            let (at, said) = parse(text, &[1]).unwrap_err();
            assert!(at == line && said.contains(why), "{text}: {at} {said}");
        }
    }

    #[test]
    fn a_file_is_said_once_and_again_when_it_was_written_again() {
        let folder = std::env::temp_dir().join(format!("lunette-states-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("states");
        let missing = AccessStates::open(path.clone(), vec![1]).err().unwrap().to_string();
        assert!(missing.starts_with(&format!("--access-states {}: ", path.display())), "{missing}");
        fs::write(&path, "1 standby\n").unwrap();
        let (mut file, states) = AccessStates::open(path.clone(), vec![1]).unwrap();
        assert_eq!(states, [(1, AccessState::Standby)]);
        assert_eq!(file.look(), None);
        let replace = |text: &str| {
            fs::write(folder.join("new"), text).unwrap();
            fs::rename(folder.join("new"), &path).unwrap();
        };
        replace("1 standby\n");
        assert_eq!(file.look(), Some(Ok(vec![(1, AccessState::Standby)])), "the same, said again");
        replace("nonsense\n");
        assert!(file.look().unwrap().unwrap_err().contains("states:1: a line is"));
        assert_eq!(file.look(), None, "told once");
        fs::remove_file(&path).unwrap();
        assert!(file.look().unwrap().is_err());
        assert_eq!(file.look(), None);
        replace("1 unavailable\n");
        assert_eq!(file.look(), Some(Ok(vec![(1, AccessState::Unavailable)])));
        let _ = fs::remove_dir_all(&folder);
    }
}
