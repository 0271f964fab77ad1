//! `cargo xtask test`: every suite in turn, a table of what ran, and what did not run by name.

mod attach;
mod commands;
mod counts;
mod fuzz;
mod image;
mod isns;
mod libiscsi;
mod licences;
mod openapi;
mod packages;
mod peers;
mod qemu;
pub mod served;
mod simulation;
mod targets;
mod tgt;
mod top;
mod tshark;
mod unit;
mod vm;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// A suite: its name, the commands that must be there, and what runs it.
struct Suite {
    name: &'static str,
    about: &'static str,
    needs: &'static [&'static str],
    run: fn(&Path, &mut Outcome),
}

const SUITES: &[Suite] = &[
    Suite { name: "tidy", about: "the invariants of ARCHITECTURE.md", needs: &[], run: tidy },
    Suite { name: "licences", about: "what we depend on, by licence and source", needs: &[], run: licences::run },
    Suite {
        name: "simulation",
        about: "ten thousand seeds: initiator and target over a bad network",
        needs: &[],
        run: simulation::run,
    },
    Suite { name: "unit", about: "the workspace's own tests", needs: &[], run: unit::run },
    Suite {
        name: "counts",
        about: "instructions of the inner parts against docs/instruction-counts.md",
        needs: &["valgrind"],
        run: counts::run,
    },
    Suite {
        name: "fuzz",
        about: "each fuzz target: its corpus, then ten seconds of new inputs",
        needs: &["c++"],
        run: fuzz::run,
    },
    Suite {
        name: "libiscsi",
        about: "libiscsi's tools and its 230 tests",
        needs: &["iscsi-ls", "iscsi-inq", "iscsi-readcapacity16", "iscsi-perf", "iscsi-test-cu"],
        run: libiscsi::run,
    },
    Suite {
        name: "qemu",
        about: "qemu-img over iscsi://, there and back; booting from a CD",
        needs: &["qemu-img", "qemu-io"],
        run: qemu::run,
    },
    Suite {
        name: "commands",
        about: "our discover, ls, inquiry, copy and others against tgt, and beside qemu-img",
        needs: &["tgtd", "tgtadm", "qemu-img", "qemu-io"],
        run: commands::run,
    },
    Suite {
        name: "targets",
        about: "one scenario of the initiator against Lunette and tgt, connections killed in the midst of writes",
        needs: &["tgtd", "tgtadm"],
        run: targets::run,
    },
    Suite {
        name: "tgt",
        about: "tgtadm's lines to tgt's daemon and to ours, by text and exit code",
        needs: &["tgtd", "tgtadm"],
        run: tgt::run,
    },
    Suite {
        name: "tshark",
        about: "a captured session, decoded",
        needs: &["tshark", "iscsi-test-cu"],
        run: tshark::run,
    },
    Suite {
        name: "openapi",
        about: "the administration's API against its document, by schemathesis",
        needs: &["python3"],
        run: openapi::run,
    },
    Suite { name: "top", about: "the screen of `lunette top`, driven in a terminal", needs: &["tmux"], run: top::run },
    Suite { name: "isns", about: "registration with open-isns' server", needs: &[], run: isns::run },
    Suite {
        name: "attach",
        about: "each front-end of this machine through its kernel: FUSE with loop, nbd, ublk",
        needs: &["mkfs.ext4", "fsck.ext4", "fstrim", "blkdiscard", "fallocate"],
        run: attach::run,
    },
    Suite {
        name: "packages",
        about: "pages and units; the Debian packages in a clean root: installed, used, purged; RPM packages",
        needs: &["dpkg-deb", "groff", "mmdebstrap", "rpmbuild", "systemd-analyze", "unshare"],
        run: packages::run,
    },
    Suite {
        name: "vm",
        about: "the Linux kernel's initiator, in a virtual machine",
        needs: &["qemu-system-x86_64", "cpio", "zstd", "mkfs.ext4", "apt-get", "ss"],
        run: vm::run,
    },
];

/// What came of a suite.
#[derive(Default)]
pub struct Outcome {
    passed: u32,
    failed: u32,
    /// Tests that the peer itself skipped, each with a known cause.
    skipped: u32,
    /// Why the suite did not run, or what else there is to say.
    notes: Vec<String>,
}

impl Outcome {
    /// One more test with this result; a failure says why at once.
    fn count(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => {
                println!("  ok    {name}");
                self.passed += 1;
            }
            Err(why) => {
                println!("  FAIL  {name}: {why}");
                self.failed += 1;
            }
        }
    }
}

/// The suites' names with what they are, for help.
pub fn list() -> String {
    SUITES.iter().map(|suite| format!("  {:<9} {}\n", suite.name, suite.about)).collect()
}

/// Runs all suites, or those that are named. Fails when any test failed.
pub fn run(root: &Path, wanted: &[String]) -> ExitCode {
    if let Some(unknown) = wanted.iter().find(|name| !SUITES.iter().any(|suite| suite.name == **name)) {
        eprintln!("xtask: there is no suite {unknown}; there are:\n{}", list());
        return ExitCode::from(2);
    }
    let suites: Vec<&Suite> =
        SUITES.iter().filter(|suite| wanted.is_empty() || wanted.iter().any(|name| name == suite.name)).collect();
    let needs: Vec<&str> = suites.iter().flat_map(|suite| suite.needs).copied().collect();
    peers::install(&needs);
    let mut rows = Vec::new();
    for suite in suites {
        println!("\n== {}: {}", suite.name, suite.about);
        let start = Instant::now();
        let mut outcome = Outcome::default();
        let missing = peers::missing(suite.needs);
        match missing.is_empty() {
            true => (suite.run)(root, &mut outcome),
            false => outcome.notes.push(peers::remedy(&missing)),
        }
        rows.push((suite.name, start.elapsed().as_secs_f32(), outcome));
    }
    table(&rows)
}

fn table(rows: &[(&'static str, f32, Outcome)]) -> ExitCode {
    println!("\n{:<10} {:>7} {:>7} {:>8} {:>8}", "suite", "passed", "failed", "skipped", "seconds");
    let (mut passed, mut failed, mut skipped, mut not_run) = (0, 0, 0, Vec::new());
    for (name, seconds, outcome) in rows {
        let Outcome { passed: good, failed: bad, skipped: left, .. } = outcome;
        if good + bad + left == 0 {
            not_run.push(*name);
            println!("{name:<10} {:>7}", "not run");
        } else {
            println!("{name:<10} {good:>7} {bad:>7} {left:>8} {seconds:>8.1}");
        }
        (passed, failed, skipped) = (passed + good, failed + bad, skipped + left);
    }
    for (name, _, outcome) in rows {
        for note in &outcome.notes {
            println!("{name}: {note}");
        }
    }
    match not_run.is_empty() {
        true => println!("{passed} passed, {failed} failed, {skipped} skipped by peers with a known cause"),
        false => println!(
            "{passed} passed, {failed} failed, {skipped} skipped by peers with a known cause, {} suites not run: {}",
            not_run.len(),
            not_run.join(", ")
        ),
    }
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tidy(root: &Path, outcome: &mut Outcome) {
    let findings = crate::tidy::findings(root);
    outcome.count("invariants", if findings.is_empty() { Ok(()) } else { Err(findings.join("\n        ")) });
}
