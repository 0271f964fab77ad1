//! The requirements of docs/conformance.md as they show on the wire, each in a test of its number: a scripted
//! initiator against the whole target in this process.

mod chap;
mod data;
mod digests;
mod framing;
mod help;
mod levels;
mod login;
mod management;
mod numbers;
mod recovery;
mod requests;
mod responses;
mod text;
mod unsolicited;
