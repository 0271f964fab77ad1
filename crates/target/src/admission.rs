//! What the door tells a login: who is asked for what, which targets are there for whom, and its place
//! among the sessions.

use crate::door::Door;
use crate::registry::Admitted;
use crate::target::Target;
use crate::worker::WorkerHandle;
use iscsi::auth::Rules;
use iscsi::key::SessionParameters;
use iscsi::login::Status;
use iscsi::login::target::{Asked, Found, Policy};
use iscsi::session::SessionKind;
use std::sync::Arc;

/// One login as the door sees it.
pub(crate) struct Admission<'a> {
    door: &'a Door,
    portal_group: u16,
    account: Option<String>,
    /// The target that it asks for, once it is found.
    pub target: Option<Arc<Target>>,
    /// Its place among the sessions, once it is complete.
    pub admitted: Option<Admitted>,
}

impl Admission<'_> {
    /// A login at a portal of this group.
    pub fn new(door: &Door, portal_group: u16) -> Admission<'_> {
        Admission { door, portal_group, account: None, target: None, admitted: None }
    }
}

impl Policy for Admission<'_> {
    fn portal_group_tag(&self) -> u16 {
        self.portal_group
    }

    fn authentication(&mut self, asked: &Asked) -> Result<Option<Rules>, Status> {
        let targets = &self.door.targets;
        let target = asked.target_name.as_ref().and_then(|name| targets.named(name));
        // A target that is not there asks for what discovery asks for.
        let chap = target.map_or(&targets.discovery, |target| &target.access.chap);
        chap.as_ref().map(|chap| chap.rules()).transpose().map_err(|_| Status::OUT_OF_RESOURCES)
    }

    fn authenticated(&mut self, _: &Asked, account: &str) -> Result<(), Status> {
        self.account = Some(account.to_owned());
        Ok(())
    }

    fn find(&mut self, asked: &Asked) -> Result<Found, Status> {
        // A discovery session without a name is for everybody; it lists what he may see.
        let Some(name) = &asked.target_name else { return Ok(Found { alias: None }) };
        // Whom the target does not admit, or not at this portal, does not learn that it is there.
        let target =
            self.door.targets.named(name).filter(|target| {
                target.access.admits(&asked.initiator_name) && target.groups.contains(self.portal_group)
            });
        let target = target.ok_or(Status::NOT_FOUND)?;
        self.target = Some(Arc::clone(target));
        Ok(Found { alias: target.alias.clone() })
    }

    fn admit(&mut self, asked: &Asked, _: &SessionParameters) -> Result<u16, Status> {
        let door = self.door;
        if asked.kind == SessionKind::Discovery {
            // Discovery sessions live at the door and have no state that another could find.
            return if asked.tsih == 0 { Ok(1) } else { Err(Status::SESSION_DOES_NOT_EXIST) };
        }
        let workers: Vec<bool> = door.workers.iter().map(WorkerHandle::lives).collect();
        let (tsih, admitted) =
            door.registry.admit(asked, self.portal_group, self.account.as_deref(), &door.limits, &workers)?;
        self.admitted = Some(admitted);
        Ok(tsih)
    }
}
