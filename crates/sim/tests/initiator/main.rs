//! The initiator's half of docs/conformance.md, each requirement in a test of its number: the sans-IO initiator
//! against a scripted target that breaks whatever rule the test is about.

mod data;
mod digests;
mod framing;
mod help;
mod numbers;
