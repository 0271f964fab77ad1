//! Which front-end makes a disk a device here, and what is asked of it.

use super::hold::{Request, Via};
use crate::failure::{Cause, Failure};
use attach::{Attachment, Error, Frontend, Notice, Settings, Unusable};
use block::Backend;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a device may take to go.
pub const DETACH_LIMIT: Duration = Duration::from_secs(10);

/// A front-end, none for the kernel's own initiator, and why it is taken.
type Candidate = (Via, Option<Box<dyn Frontend>>, &'static str);

/// The front-ends, the best first, and why each is before those behind it. The kernel's own initiator is not one over
/// a store.
fn frontends() -> Vec<Candidate> {
    vec![
        (Via::Kernel, None, "the kernel's own initiator needs no process on the way of the data"),
        (
            Via::Ublk,
            Some(Box::new(attach::ublk::Ublk)),
            "of what works in user space it is the fastest and outlives its process",
        ),
        (
            Via::Nbd,
            Some(Box::new(attach::nbd::NetworkBlockDevice)),
            "it needs no loop device, and its device waits for another process when its own dies",
        ),
        (
            Via::Fuse,
            Some(Box::new(attach::fuse::Fuse)),
            "it needs no module but FUSE and loop, which nearly all kernels have",
        ),
    ]
}

/// A front-end that was chosen.
pub struct Choice {
    /// Which.
    pub via: Via,
    /// None for the kernel's own initiator.
    frontend: Option<Box<dyn Frontend>>,
    /// Whether another may be taken where it fails.
    pub fallback: bool,
}

/// Those that may be tried, the best first, and what a person should know of the choice.
pub fn choose(request: &Request) -> Result<(Vec<Choice>, Vec<String>), Failure> {
    let wanted = match request.via {
        // Only one has files.
        Via::Auto if request.file_only => Via::Fuse,
        via => via,
    };
    let (mut choices, mut reasons, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (via, frontend, why) in frontends() {
        if wanted != Via::Auto && wanted != via {
            continue;
        }
        let usable = match &frontend {
            Some(frontend) if via == Via::Fuse && !request.file_only => {
                frontend.probe().and_then(|()| attach::fuse::probe_loop())
            }
            Some(frontend) => frontend.probe(),
            None if request.more_portals.is_empty() => attach::kernel::probe(),
            None => Err(Unusable("it makes a disk of each path, and not one of all".to_owned())),
        };
        match usable {
            Ok(()) => {
                if choices.is_empty() && wanted == Via::Auto {
                    let others = match reasons.is_empty() {
                        true => String::new(),
                        false => format!(" ({})", reasons.join("; ")),
                    };
                    notes.push(format!("via {}: {why}{others}", via.name()));
                }
                choices.push(Choice { via, frontend, fallback: wanted == Via::Auto });
            }
            Err(unusable) => reasons.push(format!("{}: {unusable}", via.name())),
        }
    }
    match choices.is_empty() {
        false => Ok((choices, notes)),
        true if reasons.is_empty() => {
            Err(Failure::because(Cause::Unavailable, format!("this program has no front-end {}", wanted.name())))
        }
        true => Err(Failure::because(
            Cause::Unavailable,
            format!("nothing on this machine can offer the disk: {}", reasons.join("; ")),
        )),
    }
}

/// What one device is to be like.
pub struct Plan<'a> {
    /// Its name, by target and LUN.
    pub name: String,
    /// Its directory, which exists.
    pub directory: &'a Path,
    /// A device that a dead holder left, to be taken over.
    pub take_over: Option<&'a Path>,
    /// Who is told when it has gone.
    pub notice: Notice,
}

/// Makes a device of the disk, by the first of these that can; those before it are dropped. Blocks.
pub fn attach(
    choices: &mut Vec<Choice>,
    backend: &Arc<dyn Backend>,
    request: &Request,
    plan: &Plan<'_>,
    notes: &mut Vec<String>,
) -> Result<Arc<dyn Attachment>, Failure> {
    let settings = Settings {
        read_only: request.read_only,
        file_only: request.file_only,
        detach_limit: DETACH_LIMIT,
        take_over: plan.take_over.map(Path::to_owned),
        notice: Some(plan.notice.clone()),
        ..Settings::new(plan.name.clone(), plan.directory)
    };
    loop {
        let Some(choice) = choices.first() else {
            return Err(Failure::because(Cause::Unavailable, "nothing on this machine can offer the disk"));
        };
        let attached = match &choice.frontend {
            Some(frontend) => frontend.attach(backend.clone(), &settings),
            None => Err(Unusable("it is no front-end over a store".to_owned()).into()),
        };
        match attached {
            Ok(attachment) => return Ok(Arc::from(attachment)),
            Err(error) if choice.fallback && choices.len() > 1 && !matches!(error, Error::Store(_)) => {
                notes.push(format!("{} failed, the next is taken: {error}", choice.via.name()));
                choices.remove(0);
            }
            Err(error) => return Err(failure(&error)),
        }
    }
}

/// A front-end's error, for people and scripts.
pub fn failure(error: &Error) -> Failure {
    let cause = match error {
        Error::Busy { .. } => Cause::InUse,
        Error::Unusable(_) | Error::Unsupported(_) => Cause::Unavailable,
        Error::TimedOut(_) => Cause::TimedOut,
        Error::System { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => Cause::Unavailable,
        _ => return Failure::runtime(error),
    };
    Failure::because(cause, error)
}
