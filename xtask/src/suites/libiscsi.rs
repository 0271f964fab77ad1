//! libiscsi's tools, and its test suite against the table of docs/peers.md.
//!
//! The table names each test that does not simply pass on the first disk: which disk it wants, and
//! what comes of it with the cause. A test that does better than its line is a failure too: the line
//! is not true any more.

use super::Outcome;
use super::served::{self, Served, TARGET, command, succeeds};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The disks, from LUN 1 on. docs/peers.md names them by number.
const DISKS: &[&str] = &[
    "disk.img,size=64M",
    "blocks.img,size=64M,block=4096",
    "sealed.img,ro",
    "ram:64M,removable",
    "ram:16M",
    "secret.img,size=64M,key=secret.key",
    "null:64M,lun=8",
];
/// The number of a disk so large that overwriting it takes seconds, at a target of its own that does not
/// ping: the test that wants it sleeps for a minute and answers nothing meanwhile.
const PATIENT: u16 = 7;
/// The main target wants CHAP.
const USER: &str = "suite";
const SECRET: &str = "a-secret-of-tests";

/// What a test came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Skip,
    Fail,
}

/// What is expected of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    disk: u16,
    second_portal: bool,
    result: Verdict,
}

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let binary = served::build(root)?;
    let path = root.join("docs/peers.md");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let expected = lines(&text)?;
    // A disk that is only read has to be there before.
    let (folder, sealed) = (std::env::temp_dir(), format!("lunette-sealed-{}.img", std::process::id()));
    let sealed = folder.join(sealed);
    std::fs::File::create(&sealed).and_then(|file| file.set_len(64 << 20)).map_err(|error| error.to_string())?;
    let sealed_address = format!("{},ro", sealed.display());
    let disks: Vec<&str> =
        DISKS.iter().map(|disk| if *disk == "sealed.img,ro" { &*sealed_address } else { disk }).collect();
    let secret = folder.join(format!("lunette-secret-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&secret);
    written.and_then(|mut file| file.write_all(SECRET.as_bytes())).map_err(|error| error.to_string())?;
    let secret_file = secret.display().to_string();
    let two_portals = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"];
    let login = ["--chap", USER, "--chap-secret-file", &secret_file];
    let mut served = Served::start(&binary, "libiscsi", &disks, &[&two_portals[..], &login].concat())?;
    served.account = format!("{USER}%{SECRET}@");
    let large = format!("null:16T,lun={PATIENT}");
    let patient =
        Served::start(&binary, "libiscsi-patient", &[&large], &["--nop-interval", "0", "--listen", "127.0.0.1:0"])?;
    tools(&served, outcome);
    suite(&served, &patient, &expected, outcome);
    outcome.count(
        "lunette ends with exit code 0",
        match served.stop() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{status}")),
            Err(why) => Err(why),
        },
    );
    let _ = (std::fs::remove_file(sealed), std::fs::remove_file(secret));
    Ok(())
}

fn tools(served: &Served, outcome: &mut Outcome) {
    let portal = format!("iscsi://{}{}", served.account, served.portals[0]);
    let url = served.url(1);
    let says = |result: Result<String, String>, words: &[&str]| {
        result.and_then(|text| match words.iter().find(|word| !text.contains(**word)) {
            None => Ok(()),
            Some(word) => Err(format!("its output does not say {word}")),
        })
    };
    outcome.count("iscsi-ls -s", says(succeeds(20, "iscsi-ls", &["-s", &portal]), &[TARGET, "Lun:1", "Size:63M"]));
    outcome.count("iscsi-inq", says(succeeds(20, "iscsi-inq", &[&url]), &["DIRECT_ACCESS", "LUNETTE"]));
    outcome.count(
        "iscsi-inq, device identification",
        says(succeeds(20, "iscsi-inq", &["-e", "1", "-c", "131", &url]), &["NAA"]),
    );
    outcome.count("iscsi-readcapacity16", says(succeeds(20, "iscsi-readcapacity16", &[&url]), &["512"]));
    outcome.count("iscsi-perf, 2 s", succeeds(20, "iscsi-perf", &["-t", "2", "-m", "16", &url]).map(|_| ()));
}

fn suite(served: &Served, patient: &Served, expected: &HashMap<String, Line>, outcome: &mut Outcome) {
    let names = match command(20, "iscsi-test-cu", &["--list"]) {
        (true, text) => names(&text),
        (false, text) => return outcome.count("iscsi-test-cu --list", Err(text)),
    };
    for unknown in expected.keys().filter(|name| !names.contains(name)) {
        outcome.count(unknown, Err("docs/peers.md has a line for a test that does not exist".into()));
    }
    let simple = Line { disk: 1, second_portal: false, result: Verdict::Pass };
    let line = |name: &String| expected.get(name).unwrap_or(&simple);
    let (slow, quick): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| line(name).disk == PATIENT);
    // The slow ones sleep most of the time, beside the others and at another target.
    let results = std::thread::scope(|scope| {
        let slow =
            scope.spawn(|| slow.into_iter().map(|name| (name, one(patient, name, line(name)))).collect::<Vec<_>>());
        let mut results: Vec<_> = quick.into_iter().map(|name| (name, one(served, name, line(name)))).collect();
        results.extend(slow.join().unwrap_or_default());
        results
    });
    if results.len() != names.len() {
        outcome.count("the slow tests", Err("a thread has died".into()));
    }
    for (name, (result, text)) in results {
        match (result, line(name).result) {
            (Verdict::Pass, Verdict::Pass) => outcome.passed += 1,
            (Verdict::Skip, Verdict::Skip) | (Verdict::Fail, Verdict::Fail) => outcome.skipped += 1,
            (now, then) => {
                let facts: Vec<&str> =
                    text.lines().filter(|line| line.contains("SKIPPED") || line.contains("FAILED")).take(2).collect();
                outcome.count(name, Err(format!("{now:?}, expected {then:?}: {}", facts.join(" | ").trim())));
            }
        }
    }
    println!("  {} tests of iscsi-test-cu", names.len());
}

/// Runs one test: what came of it, and what it said.
fn one(served: &Served, name: &str, line: &Line) -> (Verdict, String) {
    let (url, last) = (served.url_at(0, line.disk), served.portals.len() - 1);
    let second = served.url_at(last, line.disk);
    let selection = format!("--test={name}");
    let mut arguments = vec!["--dataloss", "--allow-sanitize", "--Verbose-scsi", &selection, &url];
    if line.second_portal {
        arguments.push(&second);
    }
    let (ended, text) = command(180, "iscsi-test-cu", &arguments);
    (if ended { judge(&text) } else { Verdict::Fail }, text)
}

/// The names that `iscsi-test-cu --list` prints, as `--test` takes them.
fn names(list: &str) -> Vec<String> {
    let words = list.lines().map(str::trim);
    // The list has each test under ALL too.
    let ours = |line: &&str| line.starts_with("SCSI.") || line.starts_with("iSCSI.");
    words.filter(|line| ours(line) && line.matches('.').count() == 2).map(str::to_owned).collect()
}

/// CUnit's summary, and the suite's own word for a skipped test.
fn judge(text: &str) -> Verdict {
    let mut counts = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let tests = counts.find(|words| words.first() == Some(&"tests") && words.len() == 6);
    match tests.as_deref() {
        Some(["tests", _, ran, _, "0", _]) if *ran != "0" => match text.contains("[SKIPPED]") {
            true => Verdict::Skip,
            false => Verdict::Pass,
        },
        _ => Verdict::Fail,
    }
}

/// The table's lines: `` | `Name` | disk | result | cause | ``.
fn lines(text: &str) -> Result<HashMap<String, Line>, String> {
    let mut found = HashMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `SCSI.") || line.starts_with("| `iSCSI.")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let wrong = || format!("docs/peers.md: {row}: a line is | `test` | disk | result | cause |");
        let [name, disk, result, cause] = cells[..] else { return Err(wrong()) };
        let (disk, second_portal) = match disk.strip_suffix("+2nd portal") {
            Some(disk) => (disk, true),
            None => (disk, false),
        };
        let result = match result {
            "pass" => Verdict::Pass,
            "skip" => Verdict::Skip,
            "fail" => Verdict::Fail,
            _ => return Err(wrong()),
        };
        if cause.is_empty() {
            return Err(wrong());
        }
        let disk = disk.trim().parse().map_err(|_| wrong())?;
        found.insert(name.trim_matches('`').to_owned(), Line { disk, second_portal, result });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_decides_not_the_words_in_between() {
        let summary = |failed: &str| {
            format!(
                " [FAILED] on the way\n   tests      1      1      1      {failed}        0\n asserts 2 2 2 0 n/a\n"
            )
        };
        assert_eq!(judge(&summary("0")), Verdict::Pass);
        assert_eq!(judge(&summary("1")), Verdict::Fail);
        assert_eq!(judge(&format!("[SKIPPED] no\n{}", summary("0"))), Verdict::Skip);
        assert_eq!(judge("   tests      0      0      0      0        0\n"), Verdict::Fail);
        assert_eq!(judge(""), Verdict::Fail);
    }

    #[test]
    fn a_line_of_the_table_has_a_cause() {
        let found =
            lines("| `SCSI.A.B` | 4 | skip | because |\n| `iSCSI.C.D` | 1 +2nd portal | pass | two paths |").unwrap();
        assert_eq!(found["SCSI.A.B"], Line { disk: 4, second_portal: false, result: Verdict::Skip });
        assert!(found["iSCSI.C.D"].second_portal);
        assert!(lines("| `SCSI.A.B` | 4 | skip |  |").is_err());
        assert!(lines("| `SCSI.A.B` | 4 | maybe | x |").is_err());
    }
}
