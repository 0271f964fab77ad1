//! The opener's process: answers what its daemon asks until that has gone.

use super::message::{self, Answer, Refusal, Request};
use super::policy::{self, Policy};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use stores::host::{Direct, Host, How};

/// Requests at a time; a store that hangs holds up its own.
const AT_A_TIME: usize = 32;
/// The extended attributes that stores have.
const ATTRIBUTES: &str = "user.lunette.";

/// Serves the socket until its other end is closed.
pub fn serve(socket: &OwnedFd, policy: Policy) {
    let opener = Arc::new(Opener { policy, made: Mutex::default() });
    let busy = Arc::new(AtomicUsize::new(0));
    while let Ok(Some((packet, files))) = message::receive(socket) {
        let (opener, busy) = (Arc::clone(&opener), Arc::clone(&busy));
        if busy.fetch_add(1, Ordering::AcqRel) >= AT_A_TIME {
            opener.answer(&packet, files);
            busy.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        // Where the system has no thread left, what was asked is not answered, and the socket for it closes.
        let done = Arc::clone(&busy);
        let work = move || {
            opener.answer(&packet, files);
            done.fetch_sub(1, Ordering::AcqRel);
        };
        if std::thread::Builder::new().name("open".into()).spawn(work).is_err() {
            busy.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

struct Opener {
    policy: Policy,
    /// What was made for the daemon and may be taken away again.
    made: Mutex<HashSet<PathBuf>>,
}

impl Opener {
    fn answer(&self, packet: &[u8], files: Vec<OwnedFd>) {
        let mut files = files.into_iter();
        // The socket for the answer is always the first.
        let Some(reply) = files.next() else { return };
        let (answer, file) = match Request::decode(packet) {
            None => (Err(Refusal::Opener("what was asked makes no sense".into())), None),
            Some(request) => match self.perform(request, files.next().map(File::from)) {
                Ok((bytes, file)) => (Ok(bytes), file),
                Err(refusal) => (Err(refusal), None),
            },
        };
        let answer: Answer = answer;
        let beside: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        let _ = message::send(&reply, &message::encode(&answer), &beside);
    }

    fn perform(&self, request: Request, beside: Option<File>) -> Result<(Vec<u8>, Option<File>), Refusal> {
        let beside = || beside.as_ref().ok_or_else(|| Refusal::Opener("no file came with it".into()));
        match request {
            Request::Open(path, how) => self.open(&path, how).map(|file| (Vec::new(), Some(file))),
            Request::Reopen(how) => {
                let file = beside()?;
                self.usable(file, how)?;
                Ok((Vec::new(), Some(Direct.reopen(file, How { create: false, ..how })?)))
            }
            Request::Remove(path) => {
                let place = self.own(&path)?;
                Direct.remove(&path)?;
                self.made().remove(&place);
                Ok((Vec::new(), None))
            }
            Request::Rename(from, to) => {
                self.own(&from)?;
                if from.parent() != to.parent() {
                    return Err(Refusal::Opener("a file is renamed in its directory only".into()));
                }
                self.policy.place(&absolute(&to), &in_place(&to)?).map_err(Refusal::Opener)?;
                Direct.rename(&from, &to)?;
                Ok((Vec::new(), None))
            }
            Request::SyncDirectory(path) => {
                Direct.sync_directory(&path)?;
                Ok((Vec::new(), None))
            }
            Request::Attribute(name) => {
                let file = beside()?;
                self.usable(file, How::READ)?;
                Ok((Direct.attribute(file, own_attribute(&name)?)?, None))
            }
            Request::SetAttribute(name, value, new) => {
                let file = beside()?;
                self.usable(file, How::WRITE)?;
                Direct.set_attribute(file, own_attribute(&name)?, value.as_deref(), new)?;
                Ok((Vec::new(), None))
            }
            Request::CreateLike(path, other) => {
                let place = in_place(&path)?;
                self.policy.place(&absolute(&path), &place).map_err(Refusal::Opener)?;
                let like = Direct.open(&other, How::LOOK)?;
                self.policy.place(&absolute(&other), &policy::real(&like)?).map_err(Refusal::Opener)?;
                if path.parent() != other.parent() {
                    return Err(Refusal::Opener("a file takes another one's place in its directory only".into()));
                }
                let file = Direct.create_like(&path, &other)?;
                self.made().insert(place);
                Ok((Vec::new(), Some(file)))
            }
        }
    }

    fn open(&self, path: &Path, how: How) -> Result<File, Refusal> {
        let said = absolute(path);
        if how.create {
            self.policy.place(&said, &in_place(path)?).map_err(Refusal::Opener)?;
        } else if how != How::LOOK {
            // A pipe would keep us waiting for its other end.
            let found = Direct.open(path, How::LOOK)?;
            self.policy.file(&said, &found, how).map_err(Refusal::Opener)?;
        }
        let file = Direct.open(path, how)?;
        // What lies there now is what counts.
        self.policy.file(&said, &file, how).map_err(Refusal::Opener)?;
        if how.create {
            self.made().insert(in_place(path)?);
        }
        Ok(file)
    }

    /// Whether this process may do with an open file what is asked: its daemon has it open for that already.
    fn usable(&self, file: &File, how: How) -> Result<(), Refusal> {
        let flags = rustix::fs::fcntl_getfl(file).map_err(std::io::Error::from)?;
        let writable = flags.contains(rustix::fs::OFlags::RDWR) || flags.contains(rustix::fs::OFlags::WRONLY);
        let readable = !flags.contains(rustix::fs::OFlags::WRONLY) && !flags.contains(rustix::fs::OFlags::PATH);
        let allowed = policy::is_disk(&file.metadata()?) && readable && (writable || !how.write);
        if allowed { Ok(()) } else { Err(Refusal::Opener("the file is not open for that".into())) }
    }

    /// The place of a file that was made for the daemon, or is one that it writes to rename it.
    fn own(&self, path: &Path) -> Result<PathBuf, Refusal> {
        let place = in_place(path)?;
        self.policy.place(&absolute(path), &place).map_err(Refusal::Opener)?;
        let fresh = path.extension().is_some_and(|end| end == policy::FRESH);
        match fresh || self.made().contains(&place) {
            true => Ok(place),
            false => Err(Refusal::Opener("was not made by this daemon".into())),
        }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn own_attribute(name: &str) -> Result<&str, Refusal> {
    match name.starts_with(ATTRIBUTES) {
        true => Ok(name),
        false => Err(Refusal::Opener(format!("{name} is no attribute of a store"))),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Where a name lies, without links in its directory: of a file that is not there yet, or of a name itself.
fn in_place(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = absolute(path);
    let (Some(directory), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(rustix::io::Errno::INVAL.into());
    };
    Ok(std::fs::canonicalize(directory)?.join(name))
}
