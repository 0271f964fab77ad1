//! tgt-admin against a daemon that only notes what it is asked for.

use super::*;
use crate::tgt::request::Error;
use crate::tgt::view::{Session, Target};
use std::rc::Rc;

#[derive(Default)]
struct Puppet {
    view: View,
    batches: RefCell<Vec<(Vec<Change>, bool)>>,
    refuses: RefCell<Vec<(Option<usize>, Failure)>>,
}

struct Handle(Rc<Puppet>);

impl Daemon for Handle {
    fn view(&self) -> Result<View, Failure> {
        Ok(self.0.view.clone())
    }

    fn change(&self, _: &Change) -> Result<(), Failure> {
        unreachable!("tgt-admin changes several things at a time")
    }
}

impl Whole for Handle {
    fn together(&self, changes: &[Change], force: bool) -> Result<(), (Option<usize>, Failure)> {
        self.0.batches.borrow_mut().push((changes.to_vec(), force));
        self.0.refuses.borrow_mut().pop().map_or(Ok(()), Err)
    }

    fn dump(&self) -> Result<String, Failure> {
        Ok("dumped\n".to_owned())
    }
}

/// All paths exist but those with `absent`; those with `busy` are mounted.
struct Paths;

impl Machine for Paths {
    fn exists(&self, path: &str) -> bool {
        !path.contains("absent")
    }

    fn in_use(&self, path: &str) -> Option<String> {
        path.contains("busy").then(|| "the system (mounted, used by swap?)".to_owned())
    }

    fn identity(&self, _: &str) -> Vec<(&'static str, String)> {
        vec![("blocksize", "4096".into()), ("vendor_id", "ATA".into()), ("scsi_sn", "S1".into())]
    }
}

struct Case {
    folder: sim::daemon::Folder,
    puppet: Rc<Puppet>,
}

impl Case {
    fn new(text: &str, view: View) -> Case {
        let folder = sim::daemon::Folder::new();
        std::fs::write(folder.path().join("targets.conf"), text).unwrap();
        Case { folder, puppet: Rc::new(Puppet { view, ..Puppet::default() }) }
    }

    fn run(&self, line: &str) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let daemon = |_| Box::new(Handle(Rc::clone(&self.puppet))) as Box<dyn Whole>;
        let conf = self.folder.path().join("targets.conf").display().to_string();
        let words: Vec<String> = line.split_whitespace().map(|word| word.replace("CONF", &conf)).collect();
        let manner = Manner::default();
        let mut run = Run { daemon: &daemon, machine: &Paths, is_root: true, manner, out: &mut out, err: &mut err };
        let code = run.run(&words);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&conf, "CONF");
        (code, text(out), text(err))
    }

    fn changes(&self) -> Vec<Change> {
        self.puppet.batches.borrow().iter().flat_map(|(changes, _)| changes.clone()).collect()
    }
}

fn running(tid: u32, name: &str) -> View {
    let target = Target { tid, name: name.to_owned(), sessions: vec![Session::default()], ..Target::default() };
    View { targets: vec![target], ..View::default() }
}

#[test]
fn pretending_prints_the_commands_in_tgts_order_and_does_nothing() {
    let text = "<target iqn.2007-02.com.example:san.xen1>
  backing-store /dev/san/xen1-disk1 # LUN1
  direct-store /dev/san/xen1-disk2  # LUN2
  initiator-address 192.168.1.2     # Allowed IP
  incominguser user1 secretpass12
  outgoinguser userA secretpassA
  MaxBurstLength 131072
  write-cache off
</target>
";
    let case = Case::new(text, View::default());
    let (code, out, err) = case.run("-e -p -c CONF");
    let expected = "\
# Using CONF as configuration file

# default-driver not defined, defaulting to iscsi.


# Adding target: iqn.2007-02.com.example:san.xen1
tgtadm -C 0 --lld iscsi --op new --mode target --tid 1 -T iqn.2007-02.com.example:san.xen1
tgtadm -C 0 --lld iscsi --mode target --op update --tid 1 --name MaxBurstLength --value 131072
tgtadm -C 0 --lld iscsi --op new --mode logicalunit --tid 1 --lun 1 -b \"/dev/san/xen1-disk1\"     \n\
tgtadm -C 0 --lld iscsi --op update --mode logicalunit --tid 1 --lun=1 --params mode_page=8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0
tgtadm -C 0 --lld iscsi --op new --mode logicalunit --tid 1 --lun 2 -b \"/dev/san/xen1-disk2\"     --blocksize 4096
tgtadm -C 0 --lld iscsi --op update --mode logicalunit --tid 1 --lun=2 --params mode_page=8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0
tgtadm -C 0 --lld iscsi --op update --mode logicalunit --tid 1 --lun=2 --params vendor_id=\"ATA\"
tgtadm -C 0 --lld iscsi --op update --mode logicalunit --tid 1 --lun=2 --params scsi_sn=\"S1\"
tgtadm -C 0 --lld iscsi --mode account --op new --user=user1 --password=********
tgtadm -C 0 --lld iscsi --mode account --op bind --tid=1 --user=user1
tgtadm -C 0 --lld iscsi --op bind --mode target --tid 1 -I 192.168.1.2
tgtadm -C 0 --lld iscsi --mode account --op new --user=userA --password=********
tgtadm -C 0 --lld iscsi --mode account --op bind --tid=1 --user=userA --outgoing

";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    assert!(case.changes().is_empty());
}

#[test]
fn a_name_alone_restricts_and_nothing_at_all_lets_everybody_in() {
    let bound = |text: &str| {
        let case = Case::new(&format!("<target iqn.a>\n{text}\n</target>\n"), View::default());
        assert_eq!(case.run("-e -c CONF").0, 0);
        let who = |change: &Change| match change {
            Change::Bind { who, .. } => who.address.clone().or(who.initiator.clone()),
            _ => None,
        };
        case.changes().iter().filter_map(who).collect::<Vec<_>>()
    };
    assert_eq!(bound("initiator-name iqn.b"), ["iqn.b"], "tgt binds ALL too, and so lets everybody in");
    assert_eq!(bound(""), ["ALL"]);
    assert_eq!(bound("initiator-address 192.0.2.1\ninitiator-name iqn.b"), ["192.0.2.1", "iqn.b"]);
}

#[test]
fn what_is_not_there_or_in_use_is_skipped_and_told() {
    let text = "<target iqn.a>\nbacking-store /absent\nbacking-store /busy\nbacking-store /c\n</target>\n";
    let case = Case::new(text, View::default());
    let (code, out, _) = case.run("-e -c CONF");
    assert_eq!((code, out.as_str()), (0, "# Skipping device: /absent\n# Skipping device /busy - it is in use.\n"));
    let luns: Vec<u64> = case
        .changes()
        .iter()
        .filter_map(|change| match change {
            Change::NewUnit(unit) => Some(unit.lun),
            _ => None,
        })
        .collect();
    assert_eq!(luns, [3], "a unit that is missing leaves its number free, and no other takes its place");
    assert!(Case::new(text, View::default()).run("-e -f -c CONF").1.lines().count() == 1, "--force takes it");
}

#[test]
fn execute_leaves_alone_what_is_not_in_the_file_and_an_update_of_all_deletes_it() {
    let text = "<target iqn.a>\nbacking-store /a\n</target>\n";
    let case = Case::new(text, running(4, "iqn.other"));
    let (code, out, _) = case.run("-e -v -c CONF");
    assert!(code == 0 && out.contains("# Target iqn.other is not in the file and stays"), "{out}");
    assert!(!case.changes().iter().any(|change| matches!(change, Change::DeleteTarget { .. })));
    assert!(case.changes().iter().any(|change| matches!(change, Change::NewTarget { tid: 5, .. })));

    let (code, out, _) = Case::new(text, running(4, "iqn.other")).run("--update ALL -c CONF");
    assert_eq!((code, out.as_str()), (0, "# Target with tid 4 (iqn.other) is in use, it won't be updated.\n"));
    let case = Case::new(text, running(4, "iqn.other"));
    case.run("--update ALL -f -c CONF");
    assert!(case.changes().contains(&Change::DeleteTarget { tid: 4, force: true }));
}

#[test]
fn a_target_that_runs_is_made_as_the_file_says_in_one_step() {
    let text = "<target iqn.a>\nbacking-store /a\n</target>\n";
    let case = Case::new(text, running(4, "iqn.a"));
    assert_eq!(case.run("--update ALL -c CONF"), (0, String::new(), String::new()));
    let batches = case.puppet.batches.borrow();
    let [(changes, forced)] = &batches[..] else { panic!("{batches:?}") };
    assert_eq!(changes[0], Change::DeleteTarget { tid: 4, force: true });
    assert!(matches!(&changes[1], Change::NewTarget { tid: 4, .. }) && !forced);
    drop(batches);
    case.puppet.refuses.borrow_mut().push((None, Error::TargetActive.into()));
    let (code, out, _) = case.run("--update ALL -c CONF");
    assert!(code == 0 && out.starts_with("# Target with tid 4 (iqn.a) is in use, it won't be updated."), "{out}");
}

#[test]
fn what_fails_ends_the_run_unless_errors_are_to_be_ignored() {
    let text = "<target iqn.a>\nbacking-store /a\n</target>\n<target iqn.b>\n</target>\n";
    let refusal = || (Some(1), Failure::from(Error::InvalidRequest));
    let case = Case::new(text, View::default());
    case.puppet.refuses.borrow_mut().push(refusal());
    let (code, out, err) = case.run("-e -c CONF");
    assert_eq!((code, err.as_str()), (22, "CONF:2: tgtadm: invalid request\n"), "with its place");
    assert!(out.starts_with("Command:\n\ttgtadm -C 0 --lld iscsi --op new --mode logicalunit"), "{out}");
    assert!(out.ends_with("exited with code: 22.\n") && case.puppet.batches.borrow().len() == 1);

    let case = Case::new(text, View::default());
    case.puppet.refuses.borrow_mut().push(refusal());
    assert_eq!(case.run("-e --ignore-errors -c CONF").0, 0);
    let lengths: Vec<usize> = case.puppet.batches.borrow().iter().map(|(changes, _)| changes.len()).collect();
    assert_eq!(lengths, [3, 2, 2], "the rest of the target, and the other one");
}

#[test]
fn a_target_whose_account_cannot_be_made_lets_nobody_in() {
    let text = "<target iqn.a>\nbacking-store /a\nincominguser u short\n</target>\n";
    let case = Case::new(text, View::default());
    // What is named last is refused first: the account, then that it is asked for.
    for at in [2, 2] {
        case.puppet.refuses.borrow_mut().push((Some(at), Failure::from(Error::InvalidRequest)));
    }
    let (code, out, _) = case.run("-e --ignore-errors -c CONF");
    assert!(code == 0 && out.contains("# Target iqn.a lets nobody in: its account could not be made.\n"), "{out}");
    let batches = case.puppet.batches.borrow();
    let (last, _) = batches.last().unwrap();
    assert!(!last.iter().any(|change| matches!(change, Change::Bind { .. })), "{last:?}");
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let case = Case::new("<target iqn.a>\ninitiatoraddress 192.0.2.1\n</target>\n", View::default());
    let (code, _, err) = case.run("-e -c CONF");
    let line = "CONF:2: error: there is no directive initiatoraddress of a target; did you mean initiator-address?\n";
    assert_eq!((code, err.as_str()), (1, line));
    assert!(case.puppet.batches.borrow().is_empty());
    assert_eq!(case.run("-e -c /no/such/file").2, "Config file /no/such/file not found. Exiting...\n");
}
