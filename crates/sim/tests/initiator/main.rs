//! The initiator's half of docs/conformance.md, each requirement in a test of its number: the sans-IO initiator
//! against a scripted target that breaks whatever rule the test is about.

mod chap;
mod data;
mod digests;
mod floods;
mod framing;
mod help;
mod keys;
mod login;
mod management;
mod numbers;
mod text;
mod unsolicited;
