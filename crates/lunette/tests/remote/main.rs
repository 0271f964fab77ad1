//! The initiator's discovery, remote disks and multipath groups against the real binary, and remote disks served
//! on by it.

mod discovery;
mod disk;
mod help;
mod paths;
mod served;
mod switch;
