//! The initiator's library against `lunette serve` and against targets that lie, over real sockets.

mod basics;
mod fake;
mod liars;
mod rig;
mod weather;
