//! The initiator's commands as a person and a script meet them: the real binary against the real target, against a
//! target that lies, and against nobody at all.

mod copying;
mod help;
mod looking;
mod reserving;
mod weather;
