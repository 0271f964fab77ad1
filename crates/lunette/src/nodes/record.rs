//! A node record by the name that a person gives it, for `lunette attach`.

use super::{Settings, command, order};
use crate::attach::hold::Request;
use crate::failure::Failure;
use compat::records::{Choice, PortalPattern};

/// What a record says: `TARGET[,HOST[:PORT]]`. Where a target has several portals, each is a path to the same disks.
pub fn request(name: &str) -> Result<Request, Failure> {
    let (target, portal) = match name.split_once(',') {
        Some((target, portal)) => (target, Some(portal)),
        None => (name, None),
    };
    let read = |text: &str| {
        PortalPattern::read(text).ok_or_else(|| {
            Failure::input(format!("{name}: an address (iscsi://…) or a record (TARGET[,HOST[:PORT]]) is expected"))
        })
    };
    let portal = portal.map(read).transpose()?;
    let settings = Settings::of_environment()?;
    let database = settings.database();
    let machine = settings.machine(&database)?;
    let choice = Choice { target: Some(target.to_owned()), portal, iface: None };
    let mut nodes = command::existing(&database, &choice)?;
    // Through other interfaces the same portals would be other paths; the first one is meant.
    let iface = nodes.first().map(|node| node.iface.clone()).unwrap_or_default();
    nodes.retain(|node| node.iface == iface);
    let own = database.name_or_new().map_err(|error| command::failed(&error))?;
    let mut requests = Vec::new();
    for node in &nodes {
        let request = order::request(node, &own, machine.alias.as_deref(), machine.via, machine.state_dir.clone());
        requests.push(request.map_err(Failure::input)?);
    }
    let portals = requests.iter().skip(1).map(|request| request.options.portal.clone()).collect();
    match requests.into_iter().next() {
        // Its label is left out: logins by records do not take it for one of theirs, which has one portal.
        Some(first) => Ok(Request { more_portals: portals, ..first }),
        None => Err(Failure::input(format!("{name}: there is no such record"))),
    }
}
