//! `cargo xtask conformance`: docs/conformance.md, made from the list of requirements and from the tests
//! that are named after them.
//!
//! A test belongs to a requirement by its name (`csn_03_…`, or several: `sbc_10_sbc_11_…`), and to an end by where
//! it is ([`Test::ends`]). What came of it is taken from what `cargo test` printed; the suite `unit` keeps that in
//! [`RUN`].

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
/// What both ends are made of: a test in one of these places is of both.
const COMMON: &[&str] = &[
    "iscsi/auth/",
    "iscsi/isns/",
    "iscsi/key.rs",
    "iscsi/name.rs",
    "iscsi/serial.rs",
    "iscsi/text.rs",
    "iscsi/wire/",
    "io/",
    "scsi/",
    "sim/frame.rs",
];

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

/// An end of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Target,
    Initiator,
}

impl End {
    const BOTH: [End; 2] = [End::Target, End::Initiator];

    fn word(self) -> &'static str {
        match self {
            End::Target => "target",
            End::Initiator => "initiator",
        }
    }
}

impl Requirement {
    /// Whom it binds.
    fn binds(&self, end: End) -> bool {
        self.side == "B" || self.side == if end == End::Target { "T" } else { "I" }
    }
}

impl Test {
    /// Of which end it is: where "initiator" is in its path, of that one; in what both are made of, of both.
    fn is_of(&self, end: End) -> bool {
        let common = COMMON.iter().any(|place| self.place.starts_with(place));
        common || self.place.contains("initiator") == (end == End::Initiator)
    }
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

/// What is wrong after a run of the workspace's tests that printed this: requirements of which a half has no
/// test, tests that did not run or failed, and a document that does not say so.
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
        let _ = write!(
            rows,
            "\n## {}\n\n| | requirement | tests | target | initiator |\n|---|---|---|---|---|\n",
            family.heading
        );
        for requirement in &family.requirements {
            let own: Vec<&Test> = tests.iter().filter(|test| test.requirements.contains(&requirement.id)).collect();
            let [target, initiator] = count.judge(requirement, &own, verdict, &mut findings);
            let names: Vec<String> = own.iter().map(|test| format!("`{}` ({})", test.name, test.place)).collect();
            let Requirement { id, side, level, tier, text, source } = requirement;
            let _ = writeln!(
                rows,
                "| {id}<br>{side} {level} {tier} | {text} ({source}) | {} | {target} | {initiator} |",
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
    left_out: usize,
}

/// How a half of a requirement stands, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    NotBound,
    Passed,
    NotRun,
    Missing,
    Failed,
}

impl Standing {
    fn of(binds: bool, verdicts: &[Verdict]) -> Standing {
        if verdicts.contains(&Verdict::Fail) {
            Standing::Failed
        } else if verdicts.contains(&Verdict::NotRun) {
            Standing::NotRun
        } else if !binds {
            Standing::NotBound
        } else if verdicts.is_empty() {
            Standing::Missing
        } else {
            Standing::Passed
        }
    }

    fn word(self) -> &'static str {
        match self {
            Standing::NotBound => "–",
            Standing::Passed => "pass",
            Standing::NotRun => "**not run**",
            Standing::Missing => "**no test**",
            Standing::Failed => "**fail**",
        }
    }
}

impl Count {
    /// The results of a requirement with these tests, for the target and for the initiator.
    fn judge(
        &mut self,
        requirement: &Requirement,
        own: &[&Test],
        verdict: impl Fn(&Test) -> Verdict,
        findings: &mut Vec<String>,
    ) -> [String; 2] {
        let family = requirement.id.split('-').next().unwrap_or_default();
        if own.is_empty()
            && let Some((_, why)) = LEFT_OUT.iter().find(|(left_out, _)| *left_out == family)
        {
            self.left_out += 1;
            return [(*why).into(), (*why).into()];
        }
        let results = End::BOTH.map(|end| {
            let verdicts = own.iter().filter(|test| test.is_of(end)).map(|test| verdict(test));
            Standing::of(requirement.binds(end), &verdicts.collect::<Vec<_>>())
        });
        match results.iter().max() {
            Some(Standing::Failed) => {
                self.failed += 1;
                findings.push(format!("{}: a test of it fails", requirement.id));
            }
            Some(Standing::Missing) => {
                self.missing += 1;
                for (end, _) in End::BOTH.iter().zip(&results).filter(|(_, result)| **result == Standing::Missing) {
                    findings.push(format!("{}: no test of the {}'s is named after it", requirement.id, end.word()));
                }
            }
            Some(Standing::NotRun) => self.not_run += 1,
            _ => self.passed += 1,
        }
        results.map(|result| result.word().to_owned())
    }

    fn preamble(&self, families: &[Family]) -> String {
        let all: usize = families.iter().map(|family| family.requirements.len()).sum();
        let requirements = || families.iter().flat_map(|family| &family.requirements);
        let binding = |sides: &[&str]| requirements().filter(|one| sides.contains(&one.side.as_str())).count();
        let mut text = format!(
            "# Conformance: requirement by requirement

Made by `cargo xtask conformance --write` from [conformance-requirements.tsv](conformance-requirements.tsv), which
restates RFC 7143, 7144 and 3722 and the SCSI standards in our words, from the tests' names and from what a run of
them printed; not to be edited. `cargo xtask test` fails where a requirement has no test at an end that it binds,
where a named test fails or does not run, and where this page says something else. What peers' suites say, and what
of the standards is left out, is in [peers.md](peers.md).

Under each identifier stand its side (T target, I initiator, B both), its level and its tier (1 before anyone stores
data, 2 with the feature it belongs to). The target is tested against a scripted initiator, the initiator against a
scripted target (their tests have `initiator` in their path), and what both are made of once for both.

{all} requirements: {} tested at each end that they bind and passed, {} failed, {} with a test that was not run, {}
without a test at an end; {} left out: iSER. {} bind the target, {} the initiator, {} of them both.
",
            self.passed,
            self.failed,
            self.not_run,
            self.missing,
            self.left_out,
            binding(&["T", "B"]),
            binding(&["I", "B"]),
            binding(&["B"])
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
                        CSN-03\tB\tMUST\t1\tWraps.\t§4\n## ISR: iSER\nISR-01\tB\tMUST\t2\tAnswered No.\t7145\n";
    const HERE: [&str; 3] = ["sim/tests/conformance/numbers.rs", "sim/tests/initiator/numbers.rs", "iscsi/serial.rs"];

    /// Tests and where each is.
    fn composed(tests: &[(&str, &str)], printed: &str) -> Report {
        let test = |(name, place): &(&str, &str)| Test {
            name: (*name).into(),
            place: (*place).into(),
            requirements: identifiers(name),
        };
        let tests: Vec<Test> = tests.iter().map(test).collect();
        compose(&parse(LIST).unwrap(), &tests, &verdicts(printed))
    }

    #[test]
    fn a_requirement_needs_a_test_that_ran_at_each_end_that_it_binds() {
        let [target, initiator, both] = HERE;
        let findings = composed(&[], "").findings;
        let missing =
            |id: &str, end: &str| findings.contains(&format!("{id}: no test of the {end}'s is named after it"));
        assert_eq!(findings.len(), 4, "{findings:?}");
        assert!(missing("CSN-01", "initiator") && missing("CSN-02", "target"));
        assert!(missing("CSN-03", "initiator") && missing("CSN-03", "target"));
        let printed = "test x::csn_01_a ... ok\ntest x::csn_02_a ... ok\ntest x::csn_03_a ... ok\n";
        let tests = |third| [("csn_01_a", initiator), ("csn_02_a", target), ("csn_03_a", third)];
        assert_eq!(composed(&tests(both), printed).findings, Vec::<String>::new());
        let half = composed(&tests(target), printed);
        assert_eq!(half.findings, ["CSN-03: no test of the initiator's is named after it"]);
        assert!(half.document.contains("| `csn_03_a` (sim/tests/conformance/numbers.rs) | pass | **no test** |"));
        let good = composed(&tests(both), printed).document;
        assert!(good.contains(
            "| CSN-02<br>T MUST 1 | In order. (§4) | `csn_02_a` (sim/tests/conformance/numbers.rs) | pass | – |"
        ));
        assert!(good.contains(
            "| CSN-01<br>I MUST 1 | Advances. (§4) | `csn_01_a` (sim/tests/initiator/numbers.rs) | – | pass |"
        ));
        assert!(good.contains("|  | left out: iSER needs RDMA | left out: iSER needs RDMA |"));
        assert!(!good.contains("not as it has to be"));
    }

    #[test]
    fn a_test_that_fails_or_does_not_run_is_told() {
        let tests: Vec<_> = ["csn_01_a", "csn_02_a", "csn_03_a"].into_iter().zip([HERE[1], HERE[0], HERE[2]]).collect();
        let rest = "test x::csn_01_a ... ok\ntest x::csn_03_a ... ok\n";
        assert_eq!(composed(&tests, rest).findings, ["csn_02_a (sim/tests/conformance/numbers.rs) was not run"]);
        assert_eq!(composed(&tests, &format!("{rest}test x::csn_02_a ... ignored, slow\n")).findings.len(), 1);
        let failed = composed(&tests, &format!("{rest}test x::csn_02_a ... FAILED\n")).findings;
        assert_eq!(failed, ["CSN-02: a test of it fails"]);
    }

    #[test]
    fn a_name_of_two_tests_is_as_good_as_the_worse() {
        let printed = "test a::csn_02_a ... ok\ntest b::csn_02_a ... FAILED\ntest c::csn_02_a ... ok\n";
        let findings = composed(&[("csn_02_a", HERE[0])], printed).findings;
        assert!(findings.contains(&"CSN-02: a test of it fails".to_owned()), "{findings:?}");
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
