//! For tests: an initiator that says yes, and runs of iscsiadm against it.

use super::{Code, Failure, Found, Initiator, Run, Session, Statistics, Unit, Wait};
use crate::records::{Database, Manner, Node, Portal, Record, Source};
use std::cell::RefCell;

/// An initiator of which tests say what it finds.
#[derive(Default)]
pub(super) struct Puppet {
    pub sessions: RefCell<Vec<Session>>,
    pub found: RefCell<Vec<Found>>,
    /// What a login or logout fails with.
    pub fails: RefCell<Option<Failure>>,
    /// What the firmware tells.
    pub booted: RefCell<Vec<Vec<(String, String)>>>,
    /// Discovery records as they were when it was asked.
    pub asked: RefCell<Vec<Record>>,
}

pub(super) fn session(id: u32, target: &str, portal: &Portal, iface: &str) -> Session {
    let negotiated = [
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("MaxRecvDataSegmentLength", "262144"),
        ("MaxXmitDataSegmentLength", "8192"),
        ("FirstBurstLength", "65536"),
        ("MaxBurstLength", "262144"),
        ("ImmediateData", "Yes"),
        ("InitialR2T", "Yes"),
        ("MaxOutstandingR2T", "1"),
    ];
    Session {
        id,
        transport: "tcp".to_owned(),
        target: target.to_owned(),
        portal: Portal { tag: 1, ..portal.clone() },
        persistent: portal.clone(),
        iface: iface.to_owned(),
        initiator_name: "iqn.1994-05.com.redhat:abc".to_owned(),
        ip_address: "192.168.1.12".to_owned(),
        connection_state: "LOGGED IN".to_owned(),
        session_state: "LOGGED_IN".to_owned(),
        internal_state: "NO CHANGE".to_owned(),
        timeouts: [Some(120), Some(30), Some(30), Some(15)],
        negotiated: negotiated.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        host: Some(id + 2),
        host_state: "running".to_owned(),
        units: vec![
            Unit { lun: 0, device: None, state: "running".to_owned() },
            Unit { lun: 1, device: Some("sdb".to_owned()), state: "running".to_owned() },
        ],
        ..Session::default()
    }
}

impl Initiator for Puppet {
    fn sessions(&self) -> Result<Vec<Session>, Failure> {
        Ok(self.sessions.borrow().clone())
    }

    fn discover(&self, _: &Source, record: &Record, _: &Record, _: &str) -> Result<Vec<Found>, Failure> {
        self.asked.borrow_mut().push(record.clone());
        match self.fails.borrow().clone() {
            Some(failure) => Err(failure),
            None => Ok(self.found.borrow().clone()),
        }
    }

    fn login(&self, nodes: &[Node], _: &str, _: Wait) -> Vec<Result<(), Failure>> {
        let login = |node: &Node| {
            if let Some(failure) = self.fails.borrow().clone() {
                return Err(failure);
            }
            let mut sessions = self.sessions.borrow_mut();
            let id = sessions.last().map_or(1, |last| last.id + 1);
            sessions.push(session(id, &node.target, &node.portal, &node.iface));
            Ok(())
        };
        nodes.iter().map(login).collect()
    }

    fn logout(&self, sessions: &[Session]) -> Vec<Result<(), Failure>> {
        let logout = |session: &Session| match self.fails.borrow().clone() {
            Some(failure) => Err(failure),
            None => {
                self.sessions.borrow_mut().retain(|known| known.id != session.id);
                Ok(())
            }
        };
        sessions.iter().map(logout).collect()
    }

    fn firmware(&self) -> Result<Vec<Vec<(String, String)>>, Failure> {
        Ok(self.booted.borrow().clone())
    }

    fn rescan(&self, _: &Session) -> Result<(), Failure> {
        Ok(())
    }

    fn statistics(&self, _: &Session) -> Result<Statistics, Failure> {
        let counters = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 7)).collect();
        Ok(Statistics { mib: counters(&["txdata_octets", "rxdata_octets"]), others: counters(&["eh_abort_cnt"]) })
    }
}

/// A directory with records in it, and an initiator.
pub(super) struct Bench {
    folder: sim::daemon::Folder,
    pub puppet: Puppet,
    pub manner: Manner,
}

impl Bench {
    pub fn new() -> Bench {
        Bench { folder: sim::daemon::Folder::new(), puppet: Puppet::default(), manner: Manner::V218 }
    }

    pub fn database(&self) -> Database {
        Database::open(Some(self.folder.path()))
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A source tells of a target at these portals.
    pub fn tells(&self, target: &str, portals: &[(&str, u16, i32)]) {
        let found = |(address, port, tag): &(&str, u16, i32)| Found {
            target: target.to_owned(),
            portal: Portal { address: (*address).to_owned(), port: *port, tag: *tag },
        };
        *self.puppet.found.borrow_mut() = portals.iter().map(found).collect();
    }

    /// Exit code, standard output, standard error.
    pub fn run(&self, line: &str) -> (u8, String, String) {
        let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let database = self.database();
        let Code(code) = Run::new(&database, &self.puppet, self.manner, &mut out, &mut err).run(&words);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    }

    /// Standard output of what goes well.
    pub fn out(&self, line: &str) -> String {
        let (code, out, err) = self.run(line);
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        out
    }

    /// Exit code and standard error of what does not.
    pub fn fails(&self, line: &str) -> (u8, String) {
        let (code, _, err) = self.run(line);
        assert_ne!(code, 0, "{line}");
        (code, err)
    }
}
