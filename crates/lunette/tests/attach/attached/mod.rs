//! What needs devices of this machine: each test has some.

mod devices;
mod records;
mod refusals;
mod weather;
