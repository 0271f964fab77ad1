//! tgt's targets.conf as a `lunette.toml`: the same commands that tgt-admin would give, made on a document.

use super::Imported;
use crate::configuration::edit::{self, Edit, Fields, Place};
use crate::failure::Failure;
use crate::tgt::access::Combining;
use crate::tgt::machine::Here;
use crate::tgt::paper::{Paper, place, text};
use compat::tgt::admin::{Machine, Maker, Step};
use compat::tgt::{Change, conf};
use std::cell::RefCell;
use std::path::Path;

/// The document of this file and of those that it includes.
pub fn import(path: &Path) -> Result<Imported, Failure> {
    let (config, findings) = conf::load(path);
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    if findings.iter().any(|finding| finding.is_error) {
        return Err(Failure::Findings(told.join("\n")));
    }
    let mut imported = Imported { notes: told, ..Imported::default() };
    let combining = Combining::of_environment().map_err(Failure::input)?;
    // tgtd listens everywhere unless its command line says otherwise, which is not known here.
    let text = format!(
        "# Imported from {}.\n\n[[portal]]\nlisten = \"0.0.0.0\"\n\n[[portal]]\nlisten = \"[::]\"\n",
        path.display()
    );
    let mut paper = Paper::new(&text, combining);
    let (elsewhere, accounts) = (Elsewhere, RefCell::default());
    let driver = config.default_driver.as_ref().map_or("iscsi", |driver| driver.value.as_str()).to_owned();
    let maker =
        Maker { control_port: 0, driver, force: true, machine: &elsewhere, own: Vec::new(), accounts: &accounts };
    make(&mut paper, maker.common(&config, false), &mut imported.notes);
    let mut next = 1;
    for target in &config.targets {
        let tid = target.tid.unwrap_or(next);
        next = next.max(tid) + 1;
        make(&mut paper, maker.target(target, tid), &mut imported.notes);
        for store in &target.stores {
            if !Here.exists(&store.path) {
                imported.notes.push(format!("{}: note: {} is not there on this machine", store.at, store.path));
            }
        }
    }
    if config.control_port.is_some() || config.ignore_errors {
        let what = "control-port and ignore-errors are of tgt-admin's way to its daemon, and left out";
        imported.notes.push(format!("{}: note: {what}", path.display()));
    }
    imported.text = with_names_of_tgt(paper.text()).map_err(|wrong| Failure::runtime(wrong.to_string()))?;
    Ok(imported)
}

/// Makes the steps; what cannot be made is a note, and the rest goes on.
fn make(paper: &mut Paper, steps: Vec<Step>, notes: &mut Vec<String>) {
    let mut closed = false;
    for step in steps {
        let Some(change) = &step.change else { continue };
        if closed && let Change::Bind { .. } = change {
            // Without the account that is asked for, everybody of the list would come in.
            let at = step.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
            notes.push(format!("{at}note: lets nobody in, as an account of the target is missing"));
            continue;
        }
        if let Err(failure) = paper.apply(change) {
            let why = match failure {
                compat::tgt::Failure::Refused(_, Some(why)) => why,
                compat::tgt::Failure::Refused(error, None) => error.to_string(),
                compat::tgt::Failure::Unreachable(_, why) => why,
            };
            let at = step.at.as_ref().map(ToString::to_string).unwrap_or_default();
            let what = match change {
                Change::NewUnit(unit) => format!("LUN {}: ", unit.lun),
                _ => String::new(),
            };
            notes.push(format!("{at}: note: {what}left out: {why}"));
            closed |= matches!(change, Change::NewAccount { .. } | Change::BindAccount { outgoing: false, .. });
        }
    }
}

/// The document with the NAA designators that tgt makes of its `scsi_id`, by which multipath knows the disks.
fn with_names_of_tgt(document: &str) -> Result<String, edit::Wrong> {
    let view = edit::view(document)?;
    let mut edits = Vec::new();
    for target in &view.targets {
        let Place::Target(name) = place(target) else { continue };
        for (lun, values) in &target.luns {
            let Some(id) = text(values, "t10_id") else { continue };
            let fields = Fields::new().with("naa", naa(id));
            edits.push(Edit::Set(Place::Lun(name.clone(), Some(*lun)), fields));
        }
    }
    edit::apply(document, &edits)
}

/// tgt's NAA designator of 16 bytes: a 6, zeros, and the `scsi_id` at the end, in which what is no hexadecimal digit
/// counts as 0 (seen at tgt 1.0.85).
fn naa(scsi_id: &str) -> String {
    let digits: String = scsi_id
        .chars()
        .map(|letter| if letter.is_ascii_hexdigit() { letter.to_ascii_lowercase() } else { '0' })
        .collect();
    let kept: String = digits.chars().skip(digits.chars().count().saturating_sub(31)).collect();
    format!("6{kept:0>31}")
}

/// A file is imported on one machine for another: nobody knows what is there.
struct Elsewhere;

impl Machine for Elsewhere {
    fn exists(&self, _: &str) -> bool {
        true
    }

    fn in_use(&self, _: &str) -> Option<String> {
        None
    }

    fn identity(&self, path: &str) -> Vec<(&'static str, String)> {
        Here.identity(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> (String, Vec<String>) {
        let folder = sim::daemon::Folder::new();
        let path = folder.path().join("targets.conf");
        std::fs::write(&path, text).unwrap();
        let Imported { text, notes } = import(&path).unwrap();
        let name = path.display().to_string();
        (text.replace(&name, "CONF"), notes.iter().map(|note| note.replace(&name, "CONF")).collect())
    }

    #[test]
    fn the_manuals_example_becomes_a_document_that_says_the_same() {
        let (text, notes) = imported(
            "<target iqn.2007-04.com.example:san.monitoring>
  backing-store /no/san/monitoring
  incominguser backup secretpass12
  initiator-address 192.168.1.2
</target>
<target iqn.2007-02.com.example:san.xen1>
  backing-store /no/san/xen1-disk1 # LUN1
  initiator-address 192.168.1.2     # Allowed IP
  initiator-address 192.168.5.6     # Allowed IP
  incominguser user1 secretpass12
  incominguser user2 secretpass23
  outgoinguser userA secretpassA1
</target>
<target iqn.2007-02.com.example:san.xen2>
  backing-store /no/san/xen2
  initiator-name iqn.1994-05.com.redhat:abc
  write-cache off
</target>
",
        );
        let expected = r#"# Imported from CONF.

[[portal]]
listen = "0.0.0.0"

[[portal]]
listen = "[::]"

[[target]]
name = "iqn.2007-02.com.example:san.xen1"
tid = 1
accounts = ["user1", "user2"]
mutual = "userA"
"#;
        assert!(text.starts_with(expected), "{text}");
        let reading = crate::configuration::read("t", &text, None);
        let findings: Vec<_> = reading.findings.iter().map(crate::configuration::Found::in_a_line).collect();
        let configuration = reading.configuration.unwrap_or_else(|| panic!("{text}\n{findings:?}"));
        let all: Vec<_> = configuration.targets.iter().map(|target| (target.disks.len(), target.rules.len())).collect();
        assert_eq!(all, [(1, 1), (1, 1), (1, 1)]);
        assert!(text.contains("initiators = [\"iqn.1994-05.com.redhat:abc\"]") && text.contains("write-cache = false"));
        assert!(text.contains("naa = \"60000000000000000e00000000010001\""), "{text}");
        assert_eq!(notes.iter().filter(|note| note.contains("is not there on this machine")).count(), 3);
    }

    #[test]
    fn what_has_no_equal_is_told_with_its_line_and_the_rest_is_there() {
        let (text, notes) = imported(
            "iSNSServerIP 192.0.2.9\niSNSAccessControl On\niSNS On\n<target iqn.2007-02.com.example:a>\nMaxBurstLength 1000\n\
             incominguser short pass\n<backing-store /a>\ndevice-type tape\n</backing-store>\n<backing-store /b>\nlun 7\n\
             vendor_id MyCompany Inc.\n</backing-store>\n</target>\n",
        );
        let starts: Vec<_> = notes.iter().map(|note| note.split(": ").next().unwrap()).collect();
        assert_eq!(
            starts,
            ["CONF:2", "CONF:5", "CONF:7", "CONF:6", "CONF:6", "note", "CONF:7", "CONF:10"],
            "{notes:#?}"
        );
        assert!(!text.contains("[[target.rule]]"), "nobody comes in without the account: {text}");
        assert!(notes[2].contains("there are no tapes here") && notes[3].contains("the password of short"));
        assert!(text.contains("server = \"192.0.2.9:3205\"") && text.contains("vendor = \"MyCompan\""), "{text}");
        assert!(text.contains("number = 7") && !text.contains("enabled = false"));
    }

    #[test]
    fn multipath_sees_the_same_disks() {
        assert_eq!(naa("IET     000a0011"), "60000000000000000e000000000a0011");
        assert_eq!(naa("mydisk"), "6000000000000000000000000000d000");
    }
}
