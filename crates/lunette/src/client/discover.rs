//! `lunette discover`: which targets there are, and at which portals.

use super::login::{Login, Needed};
use super::{failure, print, print_json};
use crate::failure::{Cause, Failure};
use clap::Args;
use initiator::discovery::{self, Target};
use initiator::{Address, Portal};
use serde_json::{Value, json};
use std::fmt::Write;

/// The port of iSNS (RFC 4171 §7.1.2).
const ISNS_PORT: u16 = 3205;

const EXAMPLES: &str = "\
Examples:
  lunette discover 192.0.2.7
  lunette discover storage.example:3261 --json
  lunette discover iscsi://alice@storage.example --secret-file /etc/lunette/alice.secret
  lunette discover --isns isns.example";

/// Arguments of `lunette discover`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The portal: HOST[:PORT] or iscsi://[USER@]HOST[:PORT]
    #[arg(value_name = "PORTAL")]
    portal: String,
    /// PORTAL is an iSNS server (port 3205 where none is given)
    #[arg(long)]
    isns: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// A portal as people write it, as an address.
pub fn portal_address(login: &Login, text: &str) -> Result<Address, Failure> {
    let whole = match text.contains("://") || text.starts_with("driver=") {
        true => text.to_owned(),
        // An IPv6 address of which nobody can mean anything else.
        false if text.parse::<std::net::Ipv6Addr>().is_ok() => format!("iscsi://[{text}]"),
        false => format!("iscsi://{text}"),
    };
    login.address(&whole, Needed::Portal)
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = portal_address(&arguments.login, &arguments.portal)?;
    let targets = super::run(async {
        match arguments.isns {
            true => of_isns(arguments, &address).await,
            false => of_portal(&arguments.login, &address).await,
        }
    })?;
    if arguments.json {
        let list: Vec<Value> = targets.iter().map(value).collect();
        return print_json(&json!({ "asked": address.portal(), "targets": list }));
    }
    if targets.is_empty() {
        // Nothing is an answer, and no error: the list of one who may see nothing is empty.
        eprintln!("lunette: {}: no targets are shown to this initiator", address.portal());
    }
    let mut out = String::new();
    for target in &targets {
        let _ = writeln!(out, "{}", target.name);
        for portal in &target.portals {
            let _ = writeln!(out, "    {portal}");
        }
    }
    print(&out)
}

/// The targets of a portal, or the one that the address names.
pub async fn of_portal(login: &Login, address: &Address) -> Result<Vec<Target>, Failure> {
    let options = login.options(address);
    discovery::send_targets(&options).await.map_err(|error| failure::of(address.with(None, None), &error))
}

async fn of_isns(arguments: &Arguments, address: &Address) -> Result<Vec<Target>, Failure> {
    let port = if arguments.portal.contains(&format!(":{}", address.port)) { address.port } else { ISNS_PORT };
    let server = Portal::new(address.host.clone(), port);
    let options = arguments.login.options(address);
    discovery::isns(&server, &options.initiator_name, options.login_timeout).await.map_err(|error| {
        match failure::of(format!("the iSNS server {server}"), &error) {
            Failure::Runtime(line) => Failure::because(Cause::Unreachable, line),
            other => other,
        }
    })
}

fn value(target: &Target) -> Value {
    let portals = target.portals.iter().map(
        |portal| json!({ "host": portal.portal.host, "port": portal.portal.port, "portal_group_tag": portal.group }),
    );
    json!({ "target": target.name.as_str(), "portals": portals.collect::<Vec<_>>() })
}
