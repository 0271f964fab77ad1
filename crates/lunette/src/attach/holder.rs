//! The holder: the process that has a session, offers its disks, and ends with them.

use super::hold::{self, Held, Request};
use super::state::Place;
use crate::failure::Failure;
use serde_json::Value;
use std::io::{Read, Write};

/// Bytes of an order.
const ORDER_BYTES: u64 = 1 << 20;

/// The process of the hidden command: reads its order, and answers when the devices are there.
pub fn run() -> Result<(), Failure> {
    // A terminal's interrupt, and its end, are not for us.
    let _ = rustix::process::setsid();
    let outcome = order().and_then(|(request, resumed)| attach(&request, resumed));
    let answer = hold::to_answer(&outcome);
    let _ = std::io::stdout().write_all(format!("{answer}\n").as_bytes());
    Ok(())
}

fn order() -> Result<(Request, Option<u64>), Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(ORDER_BYTES).read_to_string(&mut text);
    let value: Value = read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default();
    let request = Request::from_json(&value["request"])
        .ok_or_else(|| Failure::input("this command is for `lunette attach`, which writes the order to it"))?;
    Ok((request, value["resume"].as_u64()))
}

fn attach(request: &Request, _resumed: Option<u64>) -> Result<Held, Failure> {
    let place = Place::of(request.state_dir.as_deref())?;
    place.turn()?;
    Err(Failure::runtime("this program has no initiator yet"))
}
