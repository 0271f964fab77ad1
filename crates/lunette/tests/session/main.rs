//! The initiator's library against `lunette serve`, over real sockets.

mod basics;
mod rig;
