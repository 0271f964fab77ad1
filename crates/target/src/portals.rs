//! Listening, and no more: portals that come and go while the door stands.

use crate::door::Door;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;

/// Connections that the kernel holds for us.
const BACKLOG: i32 = 1024;

/// A listener for a portal at this address; `only_ipv6` where `[::]` must leave IPv4 to another. Two processes, or two
/// portals, never share an address: SO_REUSEADDR only spares a restart the wait for the last process's connections.
pub fn bind(address: SocketAddr, only_ipv6: bool) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && only_ipv6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The portals at which a door listens.
#[derive(Default)]
pub(crate) struct Portals(Mutex<HashMap<SocketAddr, Listening>>);

struct Listening {
    /// Read once for each connection that comes.
    group: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Portals {
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Listening>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    /// Begins to accept with this listener, for a portal of this group, until [`Door::close_portal`]. Returns the
    /// address by which it is known, which is the listener's own. To be called on the runtime of the door.
    pub fn open_portal(self: &Arc<Door>, listener: TcpListener, group: u16) -> io::Result<SocketAddr> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut portals = self.portals.lock();
        if portals.get(&address).is_some_and(|other| !other.task.is_finished()) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "there is a portal at this address"));
        }
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let group = Arc::new(AtomicU16::new(group));
        let task = tokio::spawn(Arc::clone(self).accept(listener, Arc::clone(&group)));
        portals.insert(address, Listening { group, task });
        Ok(address)
    }

    /// Connections that come to the portal from now on belong to this group; those that are there stay in theirs.
    /// False where there is no such portal.
    pub fn regroup_portal(&self, address: SocketAddr, group: u16) -> bool {
        let portals = self.portals.lock();
        let portal = portals.get(&address);
        portal.inspect(|portal| portal.group.store(group, Ordering::Relaxed)).is_some()
    }

    /// Stops listening at an address, and comes back when it is free. Connections that have been accepted stay:
    /// [`Door::sessions_at`] says whose they are. False where there is no such portal.
    pub async fn close_portal(&self, address: SocketAddr) -> bool {
        let Some(portal) = self.portals.lock().remove(&address) else { return false };
        portal.task.abort();
        let _ = portal.task.await;
        true
    }

    /// Stops listening everywhere.
    pub async fn close_portals(&self) {
        let addresses: Vec<SocketAddr> = self.listening().into_iter().map(|(address, _)| address).collect();
        for address in addresses {
            self.close_portal(address).await;
        }
    }

    /// Where the door listens, and for which portal group, in order.
    pub fn listening(&self) -> Vec<(SocketAddr, u16)> {
        let portals = self.portals.lock();
        let mut listening: Vec<_> =
            portals.iter().map(|(address, portal)| (*address, portal.group.load(Ordering::Relaxed))).collect();
        listening.sort();
        listening
    }

    /// The connections that came by a portal at this address: TSIH and CID of each.
    pub async fn sessions_at(&self, address: SocketAddr) -> Vec<(u16, u16)> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let here = |local: SocketAddr| {
            let (local, portal) = (canonical(local), canonical(address));
            // [::] takes IPv4 as well; 0.0.0.0 takes nothing else.
            local == portal
                || local.port() == portal.port()
                    && portal.ip().is_unspecified()
                    && (address.is_ipv6() || local.is_ipv4())
        };
        let mut found = Vec::new();
        for session in self.workers().await.into_iter().flatten().flat_map(|worker| worker.sessions) {
            let own = session.connections.iter().filter(|connection| here(connection.local));
            found.extend(own.map(|connection| (session.tsih, connection.cid)));
        }
        found.sort_unstable();
        found
    }
}
