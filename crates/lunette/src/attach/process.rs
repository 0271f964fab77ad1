//! Which process a number means: a process is its number and the moment it began, so that a number that was
//! given to another one since is not mistaken for it.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;

/// A process of this machine, as far as this process can see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// When it began, in the kernel's ticks since the machine started.
    pub began: u64,
    /// Which start of the machine.
    pub boot: String,
    /// In which process namespace the number is one.
    pub namespace: String,
}

impl Process {
    /// This process.
    pub fn own() -> Process {
        let id = std::process::id();
        Process { id, began: began(id).unwrap_or(0), boot: boot(), namespace: namespace("pid") }
    }

    /// Whether it belongs to an earlier start of the machine: all that it had in the kernel is gone.
    pub fn is_of_another_boot(&self) -> bool {
        self.boot != boot()
    }

    /// Whether this very process is there. One of another namespace cannot be seen.
    pub fn is_there(&self) -> bool {
        self.began != 0
            && !self.is_of_another_boot()
            && self.namespace == namespace("pid")
            && began(self.id) == Some(self.began)
    }

    /// Ends it at once. Whether it was there.
    pub fn kill(&self) -> bool {
        let id = i32::try_from(self.id).ok().and_then(Pid::from_raw);
        self.is_there() && id.is_some_and(|id| kill_process(id, Signal::KILL).is_ok())
    }

    /// For the record.
    pub fn to_json(&self) -> Value {
        json!({ "pid": self.id, "began": self.began, "boot": self.boot, "namespace": self.namespace })
    }

    /// What [`Process::to_json`] wrote.
    pub fn from_json(value: &Value) -> Option<Process> {
        let text = |name: &str| Some(value[name].as_str()?.to_owned());
        Some(Process {
            id: u32::try_from(value["pid"].as_u64()?).ok()?,
            began: value["began"].as_u64()?,
            boot: text("boot")?,
            namespace: text("namespace")?,
        })
    }
}

/// The namespace of this kind (`net`, `pid`, `mnt`) that this process is in; empty where the system does not tell.
pub fn namespace(kind: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
    link.to_string_lossy().trim_start_matches(kind).trim_matches([':', '[', ']']).to_owned()
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// When a process began: the 22nd field of its `stat` (proc(5)), unless it has ended already and only waits for its
/// parent.
fn began(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name stands in brackets and may have any character in it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_another_process_has_now_is_not_the_process() {
        let own = Process::own();
        assert!(own.is_there(), "{own:?}");
        assert_eq!(Process::from_json(&own.to_json()), Some(own.clone()));
        let reused = Process { began: own.began + 1, ..own.clone() };
        let of_another_boot = Process { boot: "another".into(), ..own.clone() };
        let unseen = Process { namespace: "1".into(), ..own };
        for other in [reused, of_another_boot, unseen] {
            assert!(!other.is_there() && !other.kill(), "{other:?}");
        }
    }

    #[test]
    fn one_that_has_ended_is_not_there_though_nobody_has_asked_for_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process { id: child.id(), began: began(child.id()).unwrap(), ..Process::own() };
        assert!(process.is_there() && process.kill());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while process.is_there() {
            assert!(std::time::Instant::now() < end);
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
