//! `lunette boot`: what starts by itself is logged in when the machine starts, and logged out before it stops.

use super::Settings;
use super::command::{Outcome, is_of, login, logouts, refused};
use super::machine::Machine;
use crate::failure::Failure;
use clap::Args;
use compat::iscsiadm::{Code, Initiator, Session};
use compat::records::{Choice, Database, Node};
use serde_json::json;
use std::io::Write;
use std::time::{Duration, Instant};

/// Between two rounds over those that nobody answered.
const PAUSE: Duration = Duration::from_secs(3);

/// Arguments of `lunette boot`.
#[derive(Args)]
#[command(
    after_help = "The units in packaging/systemd call it. What is set to `automatic` or `onboot` (node.startup) is logged\n\
    in; with --stop, all but what is `onboot` is logged out, unless a disk is in use.\n\n\
    Examples:\n  lunette boot\n  lunette boot --wait 300 --json\n  lunette boot --stop\n\n\
    Exit codes: 0 all are logged in (or out), 1 some are not: each has said why."
)]
pub struct Arguments {
    /// Log out instead
    #[arg(long)]
    stop: bool,
    /// How long is tried where nobody answers, all in all
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    wait: u64,
    /// What came of it, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Does it, and says a line for each.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = arguments.settings.with_environment()?;
    let database = settings.database();
    let machine = settings.machine(&database)?;
    let nodes = database.nodes(&Choice::default()).map_err(Failure::runtime)?;
    let (done, outcomes) = match arguments.stop {
        true => ("logged out", stop(&machine, &nodes)?),
        false => ("logged in", start(&database, &machine, nodes, Duration::from_secs(arguments.wait))?),
    };
    let mut text = String::new();
    if arguments.json {
        let of = |outcome: &Outcome| {
            let failure = outcome.refusal.as_ref().map(|refusal| refused(refusal).to_string());
            json!({ "node": outcome.what, "devices": outcome.devices, "failure": failure })
        };
        text = format!("{}\n", json!({ "nodes": outcomes.iter().map(of).collect::<Vec<_>>() }));
    } else {
        outcomes.iter().for_each(|outcome| text += &outcome.line(done));
    }
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let failed = outcomes.iter().filter(|outcome| outcome.refusal.is_some()).count();
    match failed {
        0 => Ok(()),
        _ => Err(Failure::runtime(format!("{failed} of {} are not {done}", outcomes.len()))),
    }
}

/// Logs in all that starts by itself. Nobody waits for another; who does not answer is asked again until the time is up.
///
/// Of a target with leading logins one session is enough: its records take turns until one of them is logged in.
fn start(database: &Database, machine: &Machine, nodes: Vec<Node>, wait: Duration) -> Result<Vec<Outcome>, Failure> {
    let end = Instant::now() + wait;
    let starts = |node: &Node| matches!(node.record.value("node.startup"), "automatic" | "onboot");
    let mut open: Vec<Node> = nodes.into_iter().filter(starts).collect();
    // How often is tried is said here, once for all of them.
    open.iter_mut().for_each(|node| node.record.set("node.session.initial_login_retry_max", "0"));
    let sessions = machine.sessions().map_err(|refusal| refused(&refusal))?;
    let is_there = |node: &Node| sessions.iter().any(|session| is_of(session, node));
    let led: Vec<String> = open.iter().filter(|node| leads(node) && is_there(node)).map(|n| n.target.clone()).collect();
    open.retain(|node| !leads(node) || is_there(node) || !led.contains(&node.target));
    let mut outcomes: Vec<(Node, Outcome)> = Vec::new();
    while !open.is_empty() {
        let mut led: Vec<String> = Vec::new();
        let in_turn = |node: &Node| {
            let first = !leads(node) || !led.contains(&node.target);
            led.push(node.target.clone());
            first
        };
        let (round, mut again): (Vec<Node>, Vec<Node>) = open.into_iter().partition(in_turn);
        let mut waits = false;
        let results = login(database, machine, &round)?;
        for (node, outcome) in round.into_iter().zip(results) {
            match &outcome.refusal {
                Some(refusal) if is_passing(refusal.code) && Instant::now() + PAUSE < end => {
                    waits = true;
                    again.push(node);
                }
                Some(_) => outcomes.push((node, outcome)),
                None => {
                    let is_done = |other: &Node| leads(&node) && leads(other) && other.target == node.target;
                    again.retain(|other| !is_done(other));
                    outcomes.retain(|(other, _)| !is_done(other));
                    outcomes.push((node, outcome));
                }
            }
        }
        open = again;
        if waits {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

fn leads(node: &Node) -> bool {
    node.record.value("node.leading_login") == "Yes"
}

/// Whether it may be otherwise in a moment: a network or a target that is starting too.
fn is_passing(code: Code) -> bool {
    matches!(code, Code::TIMED_OUT | Code::CONNECTION | Code::PDU_TIMED_OUT | Code::LOGIN)
}

/// Logs out of all that holders have, but what the machine was booted from.
fn stop(machine: &Machine, nodes: &[Node]) -> Result<Vec<Outcome>, Failure> {
    let stays = |session: &Session| {
        nodes.iter().any(|node| node.record.value("node.startup") == "onboot" && is_of(session, node))
    };
    // What died is cleared away first, so that nobody waits for it.
    machine.sessions().map_err(|refusal| refused(&refusal))?;
    let ours = machine.kept().into_iter().filter_map(|(session, keeper)| match keeper {
        super::machine::Keeper::Holder(_) => Some(session),
        super::machine::Keeper::Kernel => None,
    });
    let sessions: Vec<Session> = ours.filter(|session| !stays(session)).collect();
    Ok(logouts(machine, &sessions))
}
