//! `cargo xtask conformance`: docs/conformance.md, made from the list of requirements and from the tests
//! that are named after them.
//!
//! A test belongs to a requirement by its name (`csn_03_…`, or several: `sbc_10_sbc_11_…`). What came of it is
//! taken from what `cargo test` printed; the suite `unit` keeps that in [`RUN`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask conformance [--write] [--run FILE...]
  compares docs/conformance.md with the tests; --write renews it. FILE is what `cargo test` printed,
  target/unit-run.txt where none is given: the suite `unit` leaves it there.";
/// The requirements: id, side, level, tier, text and source, with tabs between.
const LIST: &str = "docs/conformance-requirements.tsv";
/// What is made.
const DOCUMENT: &str = "docs/conformance.md";
/// What the last run of the workspace's tests printed.
pub const RUN: &str = "target/unit-run.txt";
/// Families that are left out, and why.
const LEFT_OUT: &[(&str, &str)] = &[("ISR", "left out: iSER needs RDMA")];

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    id: String,
    /// T, I or B.
    side: String,
    level: String,
    tier: String,
    text: String,
    source: String,
}

/// A family of requirements, in the order of the list.
struct Family {
    heading: String,
    requirements: Vec<Requirement>,
}

/// A test that is named after requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    name: String,
    /// The crate and file.
    place: String,
    requirements: Vec<String>,
}

/// What came of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    NotRun,
}

/// What stands for every requirement.
struct Report {
    document: String,
    /// What is wrong with it, one a line.
    findings: Vec<String>,
}

/// The command itself.
pub fn run(root: &Path, words: &[String]) -> ExitCode {
    let (mut write, mut files) = (false, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match (word.as_str(), words.len()) {
            ("--write", _) => write = true,
            ("--run", 1..) => files.extend(words.by_ref().map(PathBuf::from)),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if files.is_empty() {
        files.push(root.join(RUN));
    }
    let mut printed = String::new();
    for file in &files {
        match fs::read_to_string(file) {
            Ok(text) => printed += &text,
            Err(error) => {
                eprintln!("xtask conformance: {}: {error}; run `cargo xtask test unit` first", file.display());
                return ExitCode::from(2);
            }
        }
    }
    let report = match report(root, &printed) {
        Ok(report) => report,
        Err(why) => {
            eprintln!("xtask conformance: {why}");
            return ExitCode::from(2);
        }
    };
    for finding in &report.findings {
        println!("{finding}");
    }
    let path = root.join(DOCUMENT);
    if write && let Err(error) = fs::write(&path, &report.document) {
        eprintln!("xtask conformance: {}: {error}", path.display());
        return ExitCode::from(2);
    }
    let stale = stale(&path, &report);
    println!("{}", stale.as_deref().unwrap_or("docs/conformance.md says what there is"));
    if report.findings.is_empty() && stale.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is wrong after a run of the workspace's tests that printed this: target-side requirements without
/// a test, tests that did not run or failed, and a document that does not say so.
pub fn findings(root: &Path, printed: &str) -> Result<Vec<String>, String> {
    let mut report = report(root, printed)?;
    report.findings.extend(stale(&root.join(DOCUMENT), &report));
    Ok(report.findings)
}

fn stale(path: &Path, report: &Report) -> Option<String> {
    let committed = fs::read_to_string(path).unwrap_or_default();
    (committed != report.document)
        .then(|| "docs/conformance.md is not what the tests say: cargo xtask conformance --write".to_owned())
}

fn report(root: &Path, printed: &str) -> Result<Report, String> {
    let path = root.join(LIST);
    let text = fs::read_to_string(&path).map_err(|error| format!("{LIST}: {error}"))?;
    let families = parse(&text)?;
    let known = |id: &str| families.iter().flat_map(|family| &family.requirements).any(|known| known.id == id);
    let mut tests = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(root, &root.join(folder), &mut tests);
    }
    for test in &mut tests {
        test.requirements = identifiers(&test.name).into_iter().filter(|id| known(id)).collect();
    }
    tests.retain(|test| !test.requirements.is_empty());
    Ok(compose(&families, &tests, &verdicts(printed)))
}

fn compose(families: &[Family], tests: &[Test], verdicts: &BTreeMap<String, Verdict>) -> Report {
    let mut findings = Vec::new();
    let verdict = |test: &Test| verdicts.get(&test.name).copied().unwrap_or(Verdict::NotRun);
    let (mut rows, mut count) = (String::new(), Count::default());
    for family in families {
        let _ = write!(rows, "\n## {}\n\n| | requirement | tests | result |\n|---|---|---|---|\n", family.heading);
        for requirement in &family.requirements {
            let own: Vec<&Test> = tests.iter().filter(|test| test.requirements.contains(&requirement.id)).collect();
            let result = count.judge(requirement, &own, verdict, &mut findings);
            let names: Vec<String> = own.iter().map(|test| format!("`{}` ({})", test.name, test.place)).collect();
            let Requirement { id, side, level, tier, text, source } = requirement;
            let _ = writeln!(
                rows,
                "| {id}<br>{side} {level} {tier} | {text} ({source}) | {} | {result} |",
                names.join("<br>")
            );
        }
    }
    for test in tests {
        if verdict(test) == Verdict::NotRun {
            findings.push(format!("{} ({}) was not run", test.name, test.place));
        }
    }
    Report { document: format!("{}{rows}", count.preamble(families)), findings }
}

/// How the requirements stand.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    not_run: usize,
    missing: usize,
    initiator: usize,
    left_out: usize,
}

impl Count {
    /// The result of a requirement with these tests.
    fn judge(
        &mut self,
        requirement: &Requirement,
        own: &[&Test],
        verdict: impl Fn(&Test) -> Verdict,
        findings: &mut Vec<String>,
    ) -> String {
        let verdicts: Vec<Verdict> = own.iter().map(|test| verdict(test)).collect();
        if verdicts.contains(&Verdict::Fail) {
            self.failed += 1;
            findings.push(format!("{}: a test of it fails", requirement.id));
            return "**fail**".into();
        }
        if verdicts.contains(&Verdict::NotRun) {
            self.not_run += 1;
            return "**not run**".into();
        }
        if !verdicts.is_empty() {
            self.passed += 1;
            return "pass".into();
        }
        let family = requirement.id.split('-').next().unwrap_or_default();
        if let Some((_, why)) = LEFT_OUT.iter().find(|(left_out, _)| *left_out == family) {
            self.left_out += 1;
            return (*why).into();
        }
        if requirement.side == "I" {
            self.initiator += 1;
            return "initiator, issue 6".into();
        }
        self.missing += 1;
        findings.push(format!("{}: no test is named after it", requirement.id));
        "**no test**".into()
    }

    fn preamble(&self, families: &[Family]) -> String {
        let all: usize = families.iter().map(|family| family.requirements.len()).sum();
        let mut text = format!(
            "# Conformance: requirement by requirement

Made by `cargo xtask conformance --write` from [conformance-requirements.tsv](conformance-requirements.tsv), which
restates RFC 7143, 7144 and 3722 and the SCSI standards in our words, from the tests' names and from what a run of
them printed; not to be edited. `cargo xtask test` fails where a requirement of the target has no test, where a
named test fails or does not run, and where this page says something else. What peers' suites say, and what of the
standards is left out, is in [peers.md](peers.md).

Under each identifier stand its side (T target, I initiator, B both, of which the target's half is tested here), its
level and its tier (1 before anyone stores data, 2 with the feature it belongs to).

{all} requirements: {} tested and passed, {} failed, {} with a test that was not run, {} of the target without a test; {} of
the initiator alone, which come with issue 6; {} left out: iSER.
",
            self.passed, self.failed, self.not_run, self.missing, self.initiator, self.left_out
        );
        if self.failed + self.not_run + self.missing > 0 {
            text += "\n**This page is not as it has to be.**\n";
        }
        text
    }
}

fn parse(text: &str) -> Result<Vec<Family>, String> {
    let mut families: Vec<Family> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            families.push(Family { heading: heading.to_owned(), requirements: Vec::new() });
        } else if !line.starts_with('#') && !line.is_empty() {
            let cells: Vec<&str> = line.split('\t').collect();
            let ([id, side @ ("T" | "I" | "B"), level, tier, text, source], Some(family)) =
                (&cells[..], families.last_mut())
            else {
                return Err(format!("{LIST}:{}: id, side, level, tier, requirement, source", number + 1));
            };
            let [id, side, level, tier, text, source] = [id, side, level, tier, text, source].map(|s| s.to_string());
            family.requirements.push(Requirement { id, side, level, tier, text, source });
        }
    }
    Ok(families)
}

/// The functions behind `#[test]` in the sources of a folder.
fn collect(root: &Path, folder: &Path, tests: &mut Vec<Test>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(root, &path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let place = place.strip_prefix("crates/").unwrap_or(&place).replace("/src/", "/");
            let text = fs::read_to_string(&path).unwrap_or_default();
            tests.extend(test_names(&text).map(|name| Test { name, place: place.clone(), requirements: Vec::new() }));
        }
    }
}

fn test_names(text: &str) -> impl Iterator<Item = String> {
    let mut marked = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line.starts_with("#[") && line.ends_with("test]") {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) {
            marked = false;
            return rest.split('(').next().map(str::to_owned);
        }
        None
    })
}

/// The identifiers in a test's name: `sbc_10_sbc_11_…` has two.
fn identifiers(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split('_').collect();
    let mut found: Vec<String> = Vec::new();
    for pair in words.windows(2) {
        if let [family, number] = pair
            && family.len() == 3
            && number.len() == 2
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            found.push(format!("{}-{number}", family.to_ascii_uppercase()));
        }
    }
    found
}

/// What came of each test: `test path::name ... ok`. Where several have a name, the worst counts.
fn verdicts(printed: &str) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    for line in printed.lines() {
        let Some((path, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) else {
            continue;
        };
        let name = path.rsplit("::").next().unwrap_or(path);
        let verdict = match result.trim() {
            "ok" => Verdict::Pass,
            ignored if ignored.starts_with("ignored") => Verdict::NotRun,
            _ => Verdict::Fail,
        };
        let worst = verdicts.entry(name.to_owned()).or_insert(verdict);
        if verdict == Verdict::Fail || verdict == Verdict::NotRun && *worst == Verdict::Pass {
            *worst = verdict;
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# list\n## CSN: Numbers\nCSN-01\tI\tMUST\t1\tAdvances.\t§4\nCSN-02\tT\tMUST\t1\tIn order.\t§4\n\
                        ## ISR: iSER\nISR-01\tB\tMUST\t2\tAnswered No.\t7145\n";

    fn composed(names: &[&str], printed: &str) -> Report {
        let tests: Vec<Test> = names
            .iter()
            .map(|name| Test { name: (*name).into(), place: "sim".into(), requirements: identifiers(name) })
            .collect();
        compose(&parse(LIST).unwrap(), &tests, &verdicts(printed))
    }

    #[test]
    fn a_requirement_of_the_target_needs_a_test_that_ran() {
        assert_eq!(composed(&[], "").findings, ["CSN-02: no test is named after it"]);
        assert_eq!(composed(&["csn_02_a"], "").findings, ["csn_02_a (sim) was not run"]);
        assert_eq!(composed(&["csn_02_a"], "test x::csn_02_a ... ignored, slow\n").findings.len(), 1);
        assert_eq!(composed(&["csn_02_a"], "test x::csn_02_a ... FAILED\n").findings, ["CSN-02: a test of it fails"]);
        let good = composed(&["csn_02_a"], "test x::csn_02_a ... ok\n");
        assert_eq!(good.findings, Vec::<String>::new());
        assert!(good.document.contains("| CSN-02<br>T MUST 1 | In order. (§4) | `csn_02_a` (sim) | pass |"));
        assert!(good.document.contains("| CSN-01<br>I MUST 1 | Advances. (§4) |  | initiator, issue 6 |"));
        assert!(good.document.contains("|  | left out: iSER needs RDMA |"));
        assert!(!good.document.contains("not as it has to be"));
    }

    #[test]
    fn a_name_of_two_tests_is_as_good_as_the_worse() {
        let printed = "test a::csn_02_a ... ok\ntest b::csn_02_a ... FAILED\ntest c::csn_02_a ... ok\n";
        assert_eq!(composed(&["csn_02_a"], printed).findings, ["CSN-02: a test of it fails"]);
    }

    #[test]
    fn names_tell_their_requirements_and_only_tests_count() {
        assert_eq!(identifiers("sbc_10_sbc_11_the_medium"), ["SBC-10", "SBC-11"]);
        assert_eq!(identifiers("log_01_and_pdu_06_what"), ["LOG-01", "PDU-06"]);
        assert_eq!(identifiers("a_16_byte_cdb"), Vec::<String>::new());
        let text = "#[test]\n// why\nfn csn_02_a() {}\nfn csn_02_helper() {}\n";
        assert_eq!(test_names(text).collect::<Vec<_>>(), ["csn_02_a"]);
    }
}
