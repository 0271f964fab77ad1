//! Sockets that the service manager has opened for us (LISTEN_FDS): portals and the administration's socket.
//!
//! A socket of IPv4 or IPv6 is a portal: the one of the configuration that has its address, else one more, of the
//! portal group that its name says (`FileDescriptorName=group-2`; group 1 where it says none). A Unix socket is the
//! administration's.

use crate::failure::Failure;
use listenfd::ListenFd;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

/// The group of a portal whose name says none.
const GROUP: u16 = 1;
/// What stands before the group's number in a name.
const NAME: &str = "group-";

/// What was handed over.
#[derive(Debug, Default)]
pub struct Handed {
    portals: Vec<(SocketAddr, u16, TcpListener)>,
    /// The administration's socket.
    pub control: Option<UnixListener>,
}

impl Handed {
    /// What there is. To be called once, and while there is one thread: it changes the environment.
    pub fn take() -> Result<Handed, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut all = ListenFd::from_env();
        let mut handed = Handed::default();
        for number in 0..all.len() {
            let name = names.next().unwrap_or_default();
            if let Ok(Some(listener)) = all.take_tcp_listener(number) {
                let address = listener.local_addr().map_err(Failure::runtime)?;
                handed.portals.push((address, group(name)?, listener));
            } else if let Ok(Some(listener)) = all.take_unix_listener(number) {
                if handed.control.replace(listener).is_some() {
                    return Err(Failure::input(
                        "the service manager has handed over two sockets for the administration",
                    ));
                }
            } else {
                return Err(Failure::input(format!(
                    "the service manager has handed over something of the name {name:?} that is no socket which \
                     listens; use ListenStream="
                )));
            }
        }
        Ok(handed)
    }

    /// The socket for a portal of this address: one that is bound to it, or one that has the port at all addresses.
    pub fn portal(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let fits = |bound: &SocketAddr| {
            let all = bound.ip().is_unspecified() && (bound.is_ipv6() || address.is_ipv4());
            bound.port() == address.port() && (bound.ip() == address.ip() || all)
        };
        let at = self.portals.iter().position(|(bound, ..)| fits(bound))?;
        Some(self.portals.swap_remove(at).2)
    }

    /// Those that no portal of the configuration has taken, with their groups.
    pub fn rest(&mut self) -> Vec<(TcpListener, u16)> {
        self.portals.drain(..).map(|(_, group, listener)| (listener, group)).collect()
    }
}

fn group(name: &str) -> Result<u16, Failure> {
    let Some(number) = name.strip_prefix(NAME) else { return Ok(GROUP) };
    number.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
        Failure::input(format!("FileDescriptorName={name}: {number} is no portal group; write {NAME}1 to {NAME}65535"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(addresses: &[&str]) -> Handed {
        let listen = |address: &&str| {
            let listener = TcpListener::bind(address).unwrap();
            (listener.local_addr().unwrap(), GROUP, listener)
        };
        Handed { portals: addresses.iter().map(listen).collect(), control: None }
    }

    #[test]
    fn a_portal_takes_the_socket_of_its_address_and_what_is_left_is_one_more() {
        let mut handed = handed(&["127.0.0.1:0", "0.0.0.0:0"]);
        let (own, all) = (handed.portals[0].0, handed.portals[1].0);
        assert!(handed.portal("127.0.0.1:1".parse().unwrap()).is_none());
        assert!(handed.portal(SocketAddr::new("::1".parse().unwrap(), all.port())).is_none(), "IPv4 only");
        assert_eq!(handed.portal(own).unwrap().local_addr().unwrap(), own);
        let wide = SocketAddr::new(own.ip(), all.port());
        let rest = handed.rest();
        assert_eq!((rest.len(), rest[0].1), (1, GROUP));
        let mut again = Handed { portals: vec![(all, GROUP, rest.into_iter().next().unwrap().0)], control: None };
        assert!(again.portal(wide).is_some(), "a socket of all addresses has this one too");
    }

    #[test]
    fn a_name_says_the_group() {
        assert_eq!(group("group-7").unwrap(), 7);
        assert_eq!(group("lunette.socket").unwrap(), GROUP);
        assert!(group("group-0").is_err() && group("group-x").is_err());
    }
}
