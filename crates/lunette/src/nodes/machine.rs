//! This machine as what logs in and out: holders, and the kernel's sessions beside them.

use super::{discover, firmware, kernel, order, told};
use crate::attach::hold::{self, Via};
use crate::attach::state::{Entry, Place};
use crate::attach::{dead, detach};
use crate::failure::{Cause, Failure};
use compat::iscsiadm::{Code, Failure as Refusal, Found, Initiator, Session, Statistics, Wait};
use compat::records::{Node, Record, Source};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Logins and logouts at a time.
const AT_A_TIME: usize = 16;
/// The state of a session whose target answers.
const LOGGED_IN: &str = "LOGGED_IN";
/// How long the kernel may take to end a session.
const END_TIME: Duration = Duration::from_secs(30);

/// Holders and the kernel.
pub struct Machine {
    /// Where holders keep account.
    pub place: Place,
    /// The same, where it is not the usual one.
    pub state_dir: Option<PathBuf>,
    /// What offers disks.
    pub via: Via,
    /// What is mounted is not logged out.
    pub careful: bool,
    /// Our alias.
    pub alias: Option<String>,
}

/// Who looks after a session.
pub enum Keeper {
    Holder(Box<Entry>),
    /// Somebody else had the kernel make it.
    Kernel,
}

impl Machine {
    /// All sessions with those who look after them.
    pub fn kept(&self) -> Vec<(Session, Keeper)> {
        let mut kernels = kernel::sessions();
        let mut kept = Vec::new();
        for entry in self.place.sessions() {
            // One that has not logged in yet has no name of a target, and may never have.
            if !entry.alive || entry.record.target.is_empty() {
                continue;
            }
            let mut session = told::session(&entry);
            if entry.record.kernel_session.is_some() {
                let same = |known: &Session| Some(known.id) == entry.record.kernel_session;
                if let Some(at) = kernels.iter().position(same) {
                    let known = kernels.swap_remove(at);
                    let Session { iface, initiator_name, handle, .. } = session;
                    session = Session { iface, initiator_name, handle, ..known };
                }
            }
            kept.push((session, Keeper::Holder(Box::new(entry))));
        }
        kept.extend(kernels.into_iter().map(|session| (session, Keeper::Kernel)));
        kept
    }

    fn keeper(&self, session: &Session) -> Result<Keeper, Refusal> {
        let gone = || Refusal::of(Code::NOTHING_FOUND);
        match session.handle.strip_prefix(told::HOLDER) {
            Some(number) => {
                let entry = number.parse().ok().and_then(|number| self.place.session(number));
                let entry = entry.filter(|entry| entry.record.target == session.target).ok_or_else(gone)?;
                Ok(Keeper::Holder(Box::new(entry)))
            }
            None => {
                let known = attach::kernel::known_session(session.id);
                known.filter(|known| known.target == session.target).map(|_| Keeper::Kernel).ok_or_else(gone)
            }
        }
    }

    fn log_in(&self, node: &Node, label: &str, name: &str, wait: Wait) -> Result<(), Refusal> {
        if wait == Wait::No {
            return self.log_in_later(node);
        }
        let request = order::request(node, name, self.alias.as_deref(), self.via, self.state_dir.clone());
        let mut request = request.map_err(|why| Refusal::new(Code::INVALID, why))?;
        request.record = Some(label.to_owned());
        let held = hold::start(&request).map_err(|failure| refusal(&failure, Code::LOGIN))?;
        match held.already {
            true => Err(Refusal::of(Code::SESSION_EXISTS)),
            false => Ok(()),
        }
    }

    /// A process of its own waits for the end of the login.
    fn log_in_later(&self, node: &Node) -> Result<(), Refusal> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("lunette").args(["node", "login", &node.target, "--portal", &node.portal.with_colon()]);
        command.args(["--iface", &node.iface, "--via", self.via.name()]);
        if let Some(state_dir) = &self.state_dir {
            command.arg("--state-dir").arg(state_dir);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(drop).map_err(|error| Refusal::new(Code::INTERNAL, error))
    }

    fn log_out(&self, session: &Session) -> Result<(), Refusal> {
        match self.keeper(session)? {
            Keeper::Holder(entry) => {
                let mut ended = detach::session(&self.place, &entry, None, !self.careful);
                // Nobody uses it, and it waits for a target that is gone: what was not written by now is lost with it,
                // and a logout ends all the same, as it always did.
                let waits = match &ended {
                    Err(Failure::Because(Cause::TimedOut, _)) => true,
                    Err(Failure::Because(Cause::InUse, line)) => line.contains(attach::UNSTABLE),
                    _ => false,
                };
                if waits && session.session_state != LOGGED_IN {
                    ended = detach::session(&self.place, &entry, None, true);
                }
                ended.map(drop).map_err(|failure| refusal(&failure, Code::LOGOUT))
            }
            Keeper::Kernel => {
                if iscsid_runs() {
                    let line = "open-iscsi's iscsid looks after this session, and would bring it back: log out by its own \
                                iscsiadm, or stop it first";
                    return Err(Refusal::new(Code::LOGOUT, line));
                }
                let disks = session.units.iter().filter_map(|unit| unit.device.as_deref());
                let used = disks.filter(|_| self.careful).find_map(|disk| {
                    let user = attach::users::of_disk(disk).into_iter().next()?;
                    Some(format!("/dev/{disk}: {user}"))
                });
                if let Some(used) = used {
                    return Err(Refusal::new(Code::BUSY, used));
                }
                attach::kernel::end(session.id, END_TIME).map_err(|error| Refusal::new(Code::LOGOUT, error))
            }
        }
    }

    /// Does something with all of them, several at a time, and gives the results in their order.
    fn with_all<T: Sync>(
        &self,
        all: &[T],
        what: impl Fn(&T) -> Result<(), Refusal> + Sync,
    ) -> Vec<Result<(), Refusal>> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(vec![Err(Refusal::of(Code::INTERNAL)); all.len()]);
        std::thread::scope(|scope| {
            for _ in 0..all.len().min(AT_A_TIME) {
                scope.spawn(|| {
                    while let Some((at, one)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, all.get(at)?)))
                    {
                        let result = what(one);
                        if let Some(place) = results.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
                            *place = result;
                        }
                    }
                });
            }
        });
        results.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Initiator for Machine {
    fn sessions(&self) -> Result<Vec<Session>, Refusal> {
        // Of holders that were killed nothing may stand in the way.
        dead::tidy(&self.place);
        Ok(self.kept().into_iter().map(|(session, _)| session).collect())
    }

    fn discover(&self, source: &Source, record: &Record, iface: &Record, name: &str) -> Result<Vec<Found>, Refusal> {
        discover::discover(source, record, iface, name, self.alias.as_deref())
    }

    fn login(&self, nodes: &[Node], name: &str, wait: Wait) -> Vec<Result<(), Refusal>> {
        // Several sessions may be wanted of one record: each has a label of its own.
        let mut labels: Vec<String> =
            self.place.sessions().into_iter().filter_map(|entry| entry.record.node_record).collect();
        let mut labelled = Vec::new();
        for node in nodes {
            let free = (1..).map(|number| order::label(node, number)).find(|label| !labels.contains(label));
            let label = free.unwrap_or_default();
            labels.push(label.clone());
            labelled.push((node, label));
        }
        self.with_all(&labelled, |(node, label)| self.log_in(node, label, name, wait))
    }

    fn logout(&self, sessions: &[Session]) -> Vec<Result<(), Refusal>> {
        self.with_all(sessions, |session| self.log_out(session))
    }

    fn rescan(&self, session: &Session) -> Result<(), Refusal> {
        match self.keeper(session)? {
            Keeper::Holder(entry) => {
                detach::ask(&entry, "refresh").map(drop).map_err(|failure| refusal(&failure, Code::INTERNAL))
            }
            Keeper::Kernel => {
                attach::kernel::rescan(session.id, None).map_err(|error| Refusal::new(Code::INTERNAL, error))
            }
        }
    }

    fn statistics(&self, session: &Session) -> Result<Statistics, Refusal> {
        let of_kernel = |session: u32| {
            let counted = attach::kernel::statistics(session).map_err(|error| Refusal::new(Code::INTERNAL, error))?;
            let mib = counted.rows().iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            Ok(Statistics { mib, others: Vec::new() })
        };
        match self.keeper(session)? {
            Keeper::Holder(entry) if entry.record.kernel_session.is_some() => of_kernel(session.id),
            Keeper::Holder(entry) => {
                let answer = detach::ask(&entry, "statistics");
                answer.map(|answer| told::statistics(&answer)).map_err(|failure| refusal(&failure, Code::INTERNAL))
            }
            Keeper::Kernel => of_kernel(session.id),
        }
    }

    fn firmware(&self) -> Result<Vec<Vec<(String, String)>>, Refusal> {
        Ok(firmware::targets(Path::new("/sys")))
    }
}

/// Whether open-iscsi's daemon listens where its iscsiadm asks it.
fn iscsid_runs() -> bool {
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    sockets.lines().any(|line| line.ends_with(" @ISCSIADM_ABSTRACT_NAMESPACE"))
}

/// A failure of ours as a code of iscsiadm's; `otherwise` where none is nearer.
fn refusal(failure: &Failure, otherwise: Code) -> Refusal {
    let code = match failure {
        Failure::Input(_) | Failure::Findings(_) | Failure::Told => Code::INVALID,
        Failure::Because(Cause::Unreachable | Cause::TimedOut, _) => Code::TIMED_OUT,
        Failure::Because(Cause::Refused | Cause::NotFound, _) => Code::LOGIN_FATAL,
        Failure::Because(Cause::Authentication, _) => Code::AUTHORIZATION,
        Failure::Because(Cause::InUse, _) => match otherwise {
            Code::LOGIN => Code::SESSION_EXISTS,
            _ => Code::BUSY,
        },
        Failure::Because(Cause::Unavailable, _) => Code::DRIVER,
        Failure::Runtime(_) => otherwise,
    };
    Refusal::new(code, failure)
}
