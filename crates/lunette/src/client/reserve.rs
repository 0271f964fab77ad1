//! `lunette reserve`: persistent reservations, seen and changed.

use super::login::{Login, Needed, leave};
use super::{failure, print, print_json};
use crate::failure::Failure;
use clap::{Args, Subcommand};
use initiator::{Registration, Unit};
use scsi::persistent::{Capabilities, MoveList, OutAction, OutList, ReservationType};
use scsi::transport_id::TransportId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  lunette reserve show iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0
  lunette reserve register iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0 --key 0xabc
  lunette reserve reserve iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0 --key 0xabc --type write-exclusive
  lunette reserve preempt iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0 --key 0xabc --victim 0xdef --type we

A registration belongs to an initiator port, which is a name and an ISID. This command has the same ISID each
time it runs on a machine (--isid gives another), so that one run can use what another has registered.
Types: write-exclusive (we), exclusive-access (ea), and each with -registrants-only (wero, earo) or
-all-registrants (wear, eaar). Keys are decimal, or hexadecimal with 0x.";

/// Arguments of `lunette reserve`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// The disk, and how one logs in.
#[derive(Args, Debug)]
struct Common {
    /// The disk: iscsi://HOST[:PORT]/TARGET/LUN
    #[arg(value_name = "URL")]
    url: String,
    /// The ISID of the session, 12 hexadecimal digits [default: made of our name and this machine's identity]
    #[arg(long, value_name = "HEX", value_parser = parse_isid)]
    isid: Option<[u8; 6]>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// A registered key, and what is kept of a registration.
#[derive(Args, Debug)]
struct Key {
    /// The key under which this initiator port is registered
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    key: u64,
}

#[derive(Args, Debug)]
struct Typed {
    /// The type of the reservation
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    kind: ReservationType,
}

#[derive(Args, Debug)]
struct Registering {
    /// Through all ports of the target, not only this one (ALL_TG_PT)
    #[arg(long)]
    all_target_ports: bool,
    /// It outlives a loss of power (APTPL)
    #[arg(long)]
    persist: bool,
    /// Register these initiators too: NAME or NAME,i,0xISID (SPEC_I_PT)
    #[arg(long = "initiator", value_name = "PORT", value_parser = parse_port)]
    initiators: Vec<TransportId>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Everything: capabilities, registrations, the reservation
    Show(Common),
    /// The registered keys (READ KEYS)
    Keys(Common),
    /// The reservation (READ RESERVATION)
    Reservation(Common),
    /// What the disk can do (REPORT CAPABILITIES)
    Capabilities(Common),
    /// Registrations with their initiators (READ FULL STATUS)
    Status(Common),
    /// Register a key, or change it (REGISTER)
    Register {
        #[command(flatten)]
        common: Common,
        /// The new key
        #[arg(long, value_name = "KEY", value_parser = parse_key)]
        key: u64,
        /// The key so far, where there is one
        #[arg(long, value_name = "KEY", default_value = "0", value_parser = parse_key)]
        old_key: u64,
        #[command(flatten)]
        registering: Registering,
        /// Register whatever key there is so far (REGISTER AND IGNORE EXISTING KEY)
        #[arg(long, conflicts_with_all = ["old_key", "initiators"])]
        ignore_existing: bool,
    },
    /// End this initiator port's registration (REGISTER with key 0)
    Unregister {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        key: Key,
    },
    /// Reserve (RESERVE)
    Reserve {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        typed: Typed,
    },
    /// Give the reservation up (RELEASE)
    Release {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        typed: Typed,
    },
    /// End the reservation and every registration (CLEAR)
    Clear {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        key: Key,
    },
    /// End the registrations of a key and take its reservation (PREEMPT)
    Preempt {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        key: Key,
        /// The key that loses
        #[arg(long, value_name = "KEY", value_parser = parse_key)]
        victim: u64,
        #[command(flatten)]
        typed: Typed,
        /// End its commands too (PREEMPT AND ABORT)
        #[arg(long)]
        abort: bool,
    },
    /// Give the reservation to another initiator port (REGISTER AND MOVE)
    Move {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        typed: Typed,
        /// The other port: NAME,i,0xISID
        #[arg(long, value_name = "PORT", value_parser = parse_port)]
        to: TransportId,
        /// Its key from now on
        #[arg(long, value_name = "KEY", value_parser = parse_key)]
        new_key: u64,
        /// The relative target port identifier of its session
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        target_port: u16,
        /// End this port's registration
        #[arg(long)]
        unregister: bool,
        /// It outlives a loss of power (APTPL)
        #[arg(long)]
        persist: bool,
    },
    /// Begin anew where the disk has lost its reservations (REPLACE LOST RESERVATION)
    ReplaceLost {
        #[command(flatten)]
        common: Common,
        /// The key that is registered and holds the reservation
        #[arg(long, value_name = "KEY", value_parser = parse_key)]
        key: u64,
        #[command(flatten)]
        typed: Typed,
    },
}

impl Action {
    fn common(&self) -> &Common {
        match self {
            Action::Show(common)
            | Action::Keys(common)
            | Action::Reservation(common)
            | Action::Capabilities(common)
            | Action::Status(common)
            | Action::Register { common, .. }
            | Action::Unregister { common, .. }
            | Action::Reserve { common, .. }
            | Action::Release { common, .. }
            | Action::Clear { common, .. }
            | Action::Preempt { common, .. }
            | Action::Move { common, .. }
            | Action::ReplaceLost { common, .. } => common,
        }
    }
}

/// Does it and tells.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let common = arguments.action.common();
    let address = common.login.address(&common.url, Needed::Unit)?;
    let text = super::run(async {
        let options = common.login.options(&address);
        let isid = common.isid.unwrap_or_else(|| machine_isid(&options.initiator_name));
        let session = options.isid(isid).connect().await.map_err(|error| failure::of(&address, &error))?;
        let unit = session.unit(address.lun.unwrap_or(0));
        let result = act(&arguments.action, &unit).await.map_err(|error| failure::of(&address, &error));
        leave(&session).await;
        result
    })?;
    match (text, common.json) {
        (Shown { value, .. }, true) => print_json(&value),
        (Shown { text, .. }, false) => print(&text),
    }
}

/// What is told, both ways.
struct Shown {
    value: Value,
    text: String,
}

async fn act(action: &Action, unit: &Unit) -> Result<Shown, initiator::Error> {
    let list = |key: u64, action_key: u64| OutList { key, action_key, ..OutList::default() };
    let out = |what, kind, list: OutList| async move { unit.reserve_out(what, kind, &list).await };
    match action {
        Action::Show(_) => return everything(unit).await,
        Action::Keys(_) => return unit.reservation_keys().await.map(|keys| show_keys(keys.generation, &keys.content)),
        Action::Reservation(_) => {
            let found = unit.reservation().await?;
            return Ok(show_reservation(found.generation, found.content));
        }
        Action::Capabilities(_) => return unit.reservation_capabilities().await.map(|found| show_capabilities(&found)),
        Action::Status(_) => {
            let found = unit.registrations().await?;
            return Ok(show_status(found.generation, &found.content));
        }
        Action::Register { key, old_key, registering, ignore_existing, .. } => {
            let what = if *ignore_existing { OutAction::RegisterAndIgnoreExistingKey } else { OutAction::Register };
            let list = OutList {
                all_target_ports: registering.all_target_ports,
                persist: registering.persist,
                initiators: (!registering.initiators.is_empty()).then(|| registering.initiators.clone()),
                ..list(*old_key, *key)
            };
            out(what, None, list).await?;
        }
        Action::Unregister { key, .. } => out(OutAction::Register, None, list(key.key, 0)).await?,
        Action::Reserve { key, typed, .. } => out(OutAction::Reserve, Some(typed.kind), list(key.key, 0)).await?,
        Action::Release { key, typed, .. } => out(OutAction::Release, Some(typed.kind), list(key.key, 0)).await?,
        Action::Clear { key, .. } => out(OutAction::Clear, None, list(key.key, 0)).await?,
        Action::Preempt { key, victim, typed, abort, .. } => {
            let what = if *abort { OutAction::PreemptAndAbort } else { OutAction::Preempt };
            out(what, Some(typed.kind), list(key.key, *victim)).await?;
        }
        Action::ReplaceLost { key, typed, .. } => {
            out(OutAction::ReplaceLostReservation, Some(typed.kind), list(0, *key)).await?;
        }
        Action::Move { key, typed, to, new_key, target_port, unregister, persist, .. } => {
            let list = MoveList {
                key: key.key,
                action_key: *new_key,
                unregister: *unregister,
                persist: *persist,
                relative_port: *target_port,
                initiator: to.clone(),
            };
            unit.reserve_move(typed.kind, &list).await?;
        }
    }
    // What there is after it.
    status(unit).await
}

/// The registrations, or their keys alone of a target that does not have READ FULL STATUS.
async fn status(unit: &Unit) -> Result<Shown, initiator::Error> {
    match unit.registrations().await {
        Ok(found) => Ok(show_status(found.generation, &found.content)),
        Err(initiator::Error::Scsi(_)) => {
            let keys = unit.reservation_keys().await?;
            Ok(show_keys(keys.generation, &keys.content))
        }
        Err(error) => Err(error),
    }
}

async fn everything(unit: &Unit) -> Result<Shown, initiator::Error> {
    let capabilities = show_capabilities(&unit.reservation_capabilities().await?);
    let reservation = unit.reservation().await?;
    let reservation = show_reservation(reservation.generation, reservation.content);
    let status = status(unit).await?;
    let mut value = status.value;
    value["capabilities"] = capabilities.value;
    value["reservation"] = reservation.value["reservation"].clone();
    Ok(Shown { value, text: format!("{}{}{}", reservation.text, status.text, capabilities.text) })
}

fn show_keys(generation: u32, keys: &[u64]) -> Shown {
    let mut text = format!("Generation      {generation}\n");
    for key in keys {
        let _ = writeln!(text, "Key             {key:#x}");
    }
    if keys.is_empty() {
        text += "Keys            none is registered\n";
    }
    let keys: Vec<_> = keys.iter().map(|key| format!("{key:#x}")).collect();
    Shown { value: json!({ "generation": generation, "keys": keys }), text }
}

fn show_reservation(generation: u32, found: Option<(u64, ReservationType)>) -> Shown {
    let text = match found {
        None => "Reservation     none\n".to_owned(),
        Some((key, kind)) if kind.is_all_registrants() && key == 0 => {
            format!("Reservation     {} of all registrants\n", kind.name())
        }
        Some((key, kind)) => format!("Reservation     {} of key {key:#x}\n", kind.name()),
    };
    let reservation = found.map(|(key, kind)| json!({ "key": format!("{key:#x}"), "type": kind.name() }));
    Shown { value: json!({ "generation": generation, "reservation": reservation }), text }
}

fn show_status(generation: u32, list: &[Registration]) -> Shown {
    let mut text = format!("Generation      {generation}\n");
    if list.is_empty() {
        text += "Registrations   none\n";
    }
    let mut values = Vec::new();
    for one in list {
        let (name, isid) = match &one.initiator {
            Some(TransportId::Port { name, isid }) => (name.as_str(), Some(hex(isid))),
            Some(TransportId::Device { name }) => (name.as_str(), None),
            None => ("of another transport", None),
        };
        let port = isid.as_ref().map_or_else(|| name.to_owned(), |isid| format!("{name},i,0x{isid}"));
        let holds = one.holds.map_or_else(String::new, |kind| format!(", holds {}", kind.name()));
        let _ = writeln!(text, "Registration    {:#x}  {port}  target port {}{holds}", one.key, one.relative_port);
        values.push(json!({
            "key": format!("{:#x}", one.key),
            "initiator": one.initiator.as_ref().map(TransportId::name),
            "isid": isid,
            "target_port": one.relative_port,
            "holds": one.holds.map(ReservationType::name),
        }));
    }
    Shown { value: json!({ "generation": generation, "registrations": values }), text }
}

fn show_capabilities(found: &Capabilities) -> Shown {
    let types = found.types.as_ref().map(|types| types.iter().map(|kind| kind.name()).collect::<Vec<_>>());
    let mut can = Vec::new();
    for (has, word) in [
        (found.can_persist, "outlives a loss of power"),
        (found.specifies_initiators, "registers other initiators"),
        (found.all_target_ports, "registers for all target ports"),
        (found.compatible, "serves RESERVE and RELEASE of old"),
        (found.replaces_lost, "replaces lost reservations"),
    ] {
        can.extend(has.then_some(word));
    }
    let mut text = format!("Can             {}\n", if can.is_empty() { "nothing more".into() } else { can.join(", ") });
    let persists = if found.persists { "yes" } else { "no" };
    let _ = writeln!(text, "Persists now    {persists}");
    let named = types.as_ref().map_or_else(|| "not told".to_owned(), |types| types.join(", "));
    let _ = writeln!(text, "Types           {named}");
    let value = json!({
        "can_persist": found.can_persist,
        "persists": found.persists,
        "specifies_initiators": found.specifies_initiators,
        "all_target_ports": found.all_target_ports,
        "compatible": found.compatible,
        "replaces_lost": found.replaces_lost,
        "types": types,
    });
    Shown { value, text }
}

/// An ISID of the random format that is the same each time on this machine.
fn machine_isid(initiator_name: &str) -> [u8; 6] {
    let machine = std::fs::read("/etc/machine-id").or_else(|_| std::fs::read("/proc/sys/kernel/hostname"));
    let digest = Sha256::new().chain_update(machine.unwrap_or_default()).chain_update(initiator_name).finalize();
    [0x80, digest[0], digest[1], digest[2], digest[3], digest[4]]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_key(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a key is a number of 64 bits, decimal or hexadecimal with 0x".to_owned())
}

fn parse_type(text: &str) -> Result<ReservationType, String> {
    let names: Vec<_> = ReservationType::ALL.iter().map(|kind| kind.name()).collect();
    ReservationType::from_name(text).ok_or_else(|| format!("there are {}", names.join(", ")))
}

fn parse_isid(text: &str) -> Result<[u8; 6], String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let wrong = || "an ISID has 12 hexadecimal digits".to_owned();
    if digits.len() != 12 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let [_, _, isid @ ..] = u64::from_str_radix(digits, 16).map_err(|_| wrong())?.to_be_bytes();
    Ok(isid)
}

fn parse_port(text: &str) -> Result<TransportId, String> {
    let (name, isid) = match text.split_once(",i,") {
        Some((name, isid)) => (name, Some(parse_isid(isid)?)),
        None => (text, None),
    };
    let name = iscsi::name::Name::parse(name).map_err(|error| error.to_string())?;
    Ok(match isid {
        Some(isid) => TransportId::port(name.as_str(), isid),
        None => TransportId::Device { name: name.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ports_and_isids_are_read_as_people_write_them() {
        assert_eq!((parse_key("0xabc"), parse_key("12")), (Ok(0xabc), Ok(12)));
        assert!(parse_key("abc").is_err() && parse_key("0x10000000000000000").is_err());
        assert_eq!(parse_isid("0x00023d000001"), Ok([0, 2, 0x3d, 0, 0, 1]));
        assert!(parse_isid("00023d00000").is_err() && parse_isid("+0023d000001").is_err());
        let port = parse_port("iqn.2026-11.com.example:a,i,0x00023d000001").unwrap();
        assert_eq!(port, TransportId::port("iqn.2026-11.com.example:a", [0, 2, 0x3d, 0, 0, 1]));
        assert!(parse_port("disk").is_err());
        assert_eq!(machine_isid("a"), machine_isid("a"));
        assert_ne!(machine_isid("a"), machine_isid("b"));
        assert_eq!(machine_isid("a")[0], 0x80);
    }
}
