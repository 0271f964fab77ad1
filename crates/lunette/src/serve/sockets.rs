//! The sockets on which a daemon listens: opened, or taken from the process whose place it takes.

use crate::upgrade::taker::Inheritance;
use std::net::{SocketAddr, TcpListener};

/// All of them, by the address that was asked for.
pub struct Sockets {
    inherited: Vec<(SocketAddr, TcpListener)>,
}

impl Sockets {
    /// None yet, but what is inherited.
    pub fn new(inheritance: Option<&mut Inheritance>) -> Sockets {
        let inherited = inheritance.map_or(Vec::new(), |inheritance| std::mem::take(&mut inheritance.listeners));
        Sockets { inherited }
    }

    /// The one of this address, once.
    pub fn inherited(&mut self, asked: SocketAddr) -> Option<TcpListener> {
        let at = self.inherited.iter().position(|(own, _)| *own == asked)?;
        Some(self.inherited.remove(at).1)
    }
}
