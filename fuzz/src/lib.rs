//! What is run under the fuzzer: each module takes any bytes as an input and asserts what must hold.
//!
//! More than "no panic": answers are bounded by what was asked, memory comes back, nobody is logged in
//! without having shown who it is, and what leaves on the wire keeps the wire's rules. An input is
//! not raw bytes alone: its first bytes choose a setting, the rest are records that are easily mutated
//! (a login with valid lengths, a PDU with a valid digest and the right number), and a record may
//! say that its bytes are to be taken as they are.
#![forbid(unsafe_code)]

pub mod cdb;
pub mod chap;
pub mod connection;
pub mod initiator;
mod input;
pub mod isns;
pub mod login;
pub mod pdu;

pub use input::Input;
