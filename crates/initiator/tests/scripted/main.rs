//! The library over real sockets against a scripted target that breaks the rules: one clear error or recovery, and
//! never wrong data, a hang, or a write out of its order.

mod answers;
mod entering;
mod help;
mod replay;
