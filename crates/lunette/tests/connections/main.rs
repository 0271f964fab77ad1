//! Sessions with several connections against the real binary: joining, reinstatement, loss, order over all of
//! them, and nothing left behind (RFC 7143 §4.2.2, §6.3.4, §6.3.5, §11.14).

mod ending;
mod entering;
mod fences;
mod help;
mod load;
mod numbers;
mod recovery;
