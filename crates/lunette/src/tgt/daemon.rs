//! Our daemon, as tgtadm and tgt-admin see it.

use super::access::Combining;
use super::export;
use super::link::{Link, Problem};
use super::paper::Paper;
use super::show::{self, Answers};
use crate::configuration::edit;
use compat::tgt::admin::Whole;
use compat::tgt::{Change, Daemon, Error, Failure, NewUnit, View};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a daemon may take to end.
const END_TIME: Duration = Duration::from_secs(30);

/// How long the store of a unit that was taken out may be held.
const REOPEN_TIME: Duration = Duration::from_secs(10);

/// A daemon at its socket.
pub struct Served {
    link: Link,
    combining: Combining,
}

impl Served {
    /// The daemon at this socket.
    pub fn new(link: Link, combining: Combining) -> Served {
        Served { link, combining }
    }

    fn paper(&self) -> Result<Paper, Failure> {
        let answer = self.link.get("/v1/configuration")?;
        let text = answer["text"].as_str().ok_or(Error::Unknown)?;
        Ok(Paper::new(text, self.combining))
    }

    /// Serves this document. `active` is what it is called that somebody uses what would go.
    fn serve(&self, paper: &Paper, force: bool, active: Error) -> Result<(), Unserved> {
        let what = format!("/v1/configuration?force={force}");
        let body = json!({ "text": paper.text() });
        match self.link.exchange("PUT", &what, Some(&body)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(problem)) if problem.code == "in-use" => {
                Err(Unserved::Failed(Failure::because(active, problem.line)))
            }
            Ok(Err(problem)) if problem.code == "needs-restart" => Err(Unserved::Stuck(problem)),
            Ok(Err(problem)) => Err(Unserved::Failed(Failure::because(Error::InvalidRequest, problem.line))),
            Err(failure) => Err(Unserved::Failed(failure)),
        }
    }

    fn session(&self, view: &View, tid: u32, sid: u64) -> Result<(), Failure> {
        view.target(tid).and_then(|target| target.session(sid)).map(drop).map_err(|_| Error::NoSession.into())
    }

    fn close(&self, tid: u32, sid: u64, cid: u32) -> Result<(), Failure> {
        self.session(&self.view()?, tid, sid)?;
        match self.link.exchange("DELETE", &format!("/v1/sessions/{sid}/connections/{cid}"), None)? {
            Ok(_) => Ok(()),
            Err(problem) if problem.code == "not-found" => Err(Error::NoConnection.into()),
            Err(problem) => Err(Failure::because(Error::Unknown, problem.line)),
        }
    }

    /// Whether anybody may log in.
    fn open_door(&self, value: &str) -> Result<(), Failure> {
        let open = match value {
            "ready" => true,
            "offline" => false,
            _ => return Err(Failure::because(Error::InvalidRequest, "State is ready or offline")),
        };
        let done = self.link.exchange("PATCH", "/v1/door", Some(&json!({ "open": open })))?;
        done.map(drop).map_err(|problem| Failure::because(Error::InvalidRequest, problem.line))
    }

    fn end(&self) -> Result<(), Failure> {
        if !self.view()?.targets.is_empty() {
            return Err(Failure::because(
                Error::InvalidRequest,
                "there are targets; delete them first, or use SIGTERM",
            ));
        }
        self.signal(rustix::process::Signal::TERM)?;
        let end = Instant::now() + END_TIME;
        while self.link.answers() {
            if Instant::now() > end {
                return Err(Failure::because(Error::Unknown, "the daemon does not end"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failure> {
        let status = self.link.get("/v1/status")?;
        let process = status["process"].as_u64().and_then(|process| i32::try_from(process).ok());
        let process = process.and_then(rustix::process::Pid::from_raw).ok_or(Error::Unknown)?;
        rustix::process::kill_process(process, signal).map_err(|error| Failure::because(Error::Unknown, error))
    }

    /// The unit anew: out, and in again as the paper has it. What it says of itself cannot change while it is there.
    fn reopen(&self, paper: &Paper, before: &Paper, tid: u32, lun: u64) -> Result<(), Failure> {
        // What is out has no secret to keep any more.
        let answer = self.link.get("/v1/configuration?secrets=true")?;
        let known = answer["text"].as_str().ok_or(Error::Unknown)?;
        let whole = |paper: &Paper| {
            let text =
                edit::with_secrets_of(paper.text(), known).map_err(|why| Failure::because(Error::Unknown, why))?;
            Ok::<_, Failure>(Paper::new(&text, self.combining))
        };
        let (paper, before) = (&whole(paper)?, &whole(before)?);
        let mut without = before.clone();
        without.apply(&Change::DeleteUnit { tid, lun })?;
        self.serve(&without, true, Error::UnitActive).map_err(Unserved::failure)?;
        // Whoever still holds the old one lets go of its store a moment later.
        let again = |paper: &Paper| {
            let end = Instant::now() + REOPEN_TIME;
            loop {
                match self.serve(paper, true, Error::UnitActive) {
                    Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
                    done => return done.map_err(Unserved::failure),
                }
            }
        };
        let done = again(paper);
        if done.is_err() {
            // It was there, and stays.
            let _ = again(before);
        }
        done
    }
}

/// Why a document is not served.
enum Unserved {
    Failed(Failure),
    /// It cannot be while the daemon runs.
    Stuck(Problem),
}

impl Unserved {
    fn failure(self) -> Failure {
        match self {
            Unserved::Failed(failure) => failure,
            Unserved::Stuck(problem) => Failure::because(Error::InvalidRequest, problem.line),
        }
    }
}

impl Daemon for Served {
    fn view(&self) -> Result<View, Failure> {
        let paper = self.paper()?;
        let door = self.link.get("/v1/door")?;
        let answers = Answers {
            targets: self.link.get("/v1/targets")?,
            sessions: self.link.get("/v1/sessions")?,
            portals: self.link.get("/v1/portals")?,
            ready: door["open"].as_bool().unwrap_or(true),
            statistics: self.link.get("/v1/statistics")?,
        };
        show::view(&paper, &answers)
    }

    fn change(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::CloseConnection { tid, sid, cid } => return self.close(*tid, *sid, *cid),
            Change::End => return self.end(),
            Change::StartDriver => return self.view().map(drop),
            Change::StopDriver => return self.view().and(Err(Error::DriverBusy.into())),
            Change::System { name, value } if name == "State" => return self.open_door(value),
            _ => {}
        }
        let before = self.paper()?;
        let mut paper = before.clone();
        paper.apply(change)?;
        if paper.text() == before.text() {
            // The same path again: whoever resized the store wants it looked at.
            if let Change::Unit { parameters, .. } = change
                && parameters.contains("path=")
            {
                self.signal(rustix::process::Signal::USR1)?;
            }
            return Ok(());
        }
        // What tgt does without asking is done here too, and those whom it disturbs are told.
        let (force, active) = match change {
            Change::DeleteTarget { force, .. } => (*force, Error::TargetActive),
            Change::NewTarget { .. } | Change::NewUnit(_) | Change::NewAccount { .. } => (false, Error::InvalidRequest),
            _ => (true, Error::UnitActive),
        };
        match (self.serve(&paper, force, active), change) {
            (Ok(()), _) => Ok(()),
            (Err(Unserved::Stuck(_)), Change::Unit { tid, lun, .. }) => self.reopen(&paper, &before, *tid, *lun),
            (Err(other), _) => Err(other.failure()),
        }
    }
}

impl Whole for Served {
    fn together(&self, changes: &[Change], force: bool) -> Result<(), (Option<usize>, Failure)> {
        let mut paper = self.paper().map_err(|failure| (None, failure))?;
        paper.replaces_passwords = true;
        let before = paper.text().to_owned();
        for (at, change) in changes.iter().enumerate() {
            match change {
                Change::System { name, value } if name == "State" => {
                    self.open_door(value).map_err(|failure| (Some(at), failure))?;
                }
                change => paper.apply(change).map_err(|failure| (Some(at), failure))?,
            }
        }
        if paper.text() == before {
            return Ok(());
        }
        let whole = self.serve(&paper, force, Error::TargetActive).map_err(Unserved::failure);
        let Err(failure) = whole else { return Ok(()) };
        // Which of them it was is seen by trying those that open something one after the other; nothing is touched.
        Err((self.culprit(&before, changes), failure))
    }

    fn dump(&self) -> Result<String, Failure> {
        let answer = self.link.get("/v1/configuration?secrets=true")?;
        let text = answer["text"].as_str().ok_or(Error::Unknown)?;
        let (text, notes) = export::targets_conf(text).map_err(|why| Failure::because(Error::Unknown, why))?;
        notes.iter().for_each(|note| eprintln!("# {note}"));
        Ok(text)
    }
}

impl Served {
    /// The first change behind which the document cannot be served any more.
    fn culprit(&self, before: &str, changes: &[Change]) -> Option<usize> {
        let mut paper = Paper::new(before, self.combining);
        paper.replaces_passwords = true;
        for (at, change) in changes.iter().enumerate() {
            paper.apply(change).ok()?;
            // Only what is opened can fail when the document itself is right.
            let opens = matches!(change, Change::NewUnit(NewUnit { .. }) | Change::Unit { .. });
            if opens {
                let body = json!({ "text": paper.text() });
                let tried = self.link.exchange("PUT", "/v1/configuration?dry-run=true&force=true", Some(&body)).ok()?;
                if tried.is_err() {
                    return Some(at);
                }
            }
        }
        None
    }
}
