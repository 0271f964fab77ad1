//! Layers: backends that stand before another backend and change one thing about it.
//!
//! A rate limit is not among them: it needs a clock, and nothing at this floor has one.

mod bounded;
mod delay;
mod error;
mod log;
mod readonly;

pub use bounded::Bounded;
pub use delay::{Delay, Valve};
pub use error::{Effect, Fault, FaultPlan, Faulty, On};
pub use log::{Journal, Logged, Record};
pub use readonly::ReadOnly;
