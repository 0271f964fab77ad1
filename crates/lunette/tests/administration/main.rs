//! A daemon that is administered while it runs, by its commands and by its API.

mod api;
mod commands;
mod remote;
mod rig;
