//! The `lunette` binary: the command line, and what comes of it as an exit code.
#![forbid(unsafe_code)]

mod administer;
mod apply;
mod attach;
mod bench;
mod check;
mod client;
mod configuration;
mod control;
mod failure;
mod logging;
mod manual;
mod metrics;
mod nodes;
mod remote;
mod sandbox;
mod serve;
mod status;
mod tgt;
mod top;
mod trace;
mod upgrade;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// iSCSI, both ends of the wire.
#[derive(Parser)]
#[command(
    name = "lunette",
    version,
    after_help = "Exit codes: 0 all went well, 1 it failed while running, 2 what was asked cannot be done as it was asked, \
                  3 nobody answers there or not in time, 4 the login was refused, 5 there is no such target or LUN, \
                  6 it is in use or reserved, 7 this machine or this disk cannot do it."
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Export files, devices or memory as disks of one target.
    Serve(Box<serve::Arguments>),
    /// Have a running daemon serve what its file says now.
    Apply(apply::Arguments),
    /// Say all that is wrong with a configuration file.
    Check(check::Arguments),
    /// Put another program in the place of a daemon that serves; nobody has to log in again.
    Upgrade(upgrade::Arguments),
    /// Show how a daemon stands: its bounds, who was refused and why.
    Status(status::Arguments),
    /// Watch what disks and sessions do, on a screen or as text.
    Top(Box<top::Arguments>),
    /// Show PDUs decoded as they pass, or write them for Wireshark.
    Trace(Box<trace::Arguments>),
    /// Targets: show them, add them, change them while they are used.
    Target(administer::Arguments<{ administer::TARGET }>),
    /// LUNs, the disks of targets: the same, and sizes, online and offline, who may write.
    Lun(administer::Arguments<{ administer::LUN }>),
    /// Portals, the addresses at which a daemon listens.
    Portal(administer::Arguments<{ administer::PORTAL }>),
    /// Portal groups and their access states.
    Group(administer::Arguments<{ administer::GROUP }>),
    /// Rules: who may use a target, and what of it.
    Acl(administer::Arguments<{ administer::ACL }>),
    /// CHAP accounts.
    Account(administer::Arguments<{ administer::ACCOUNT }>),
    /// Sessions: who is logged in, with what was agreed; and to drop them.
    Session(administer::Arguments<{ administer::SESSION }>),
    /// Connections of sessions, and to drop them.
    Connection(administer::Arguments<{ administer::CONNECTION }>),
    /// Reservations of disks: who holds them, and an end of that.
    Reservation(administer::Arguments<{ administer::RESERVATION }>),
    /// Show what happens at a daemon as it happens.
    Events(administer::events::Arguments),
    /// Find the targets of a portal or of an iSNS server.
    Discover(client::discover::Arguments),
    /// List targets and their disks.
    Ls(client::ls::Arguments),
    /// Show what a disk says of itself.
    Inquiry(client::inquiry::Arguments),
    /// Show how large a disk is.
    Capacity(client::capacity::Arguments),
    /// Copy between disks, files and block devices.
    Copy(Box<client::copy::Arguments>),
    /// Show the bytes of a disk.
    Dump(client::dump::Arguments),
    /// Show and change persistent reservations.
    Reserve(Box<client::reserve::Arguments>),
    /// See whether a target answers, and how fast.
    Ping(client::ping::Arguments),
    /// Put load on a disk and measure it, as a client of the library.
    Perf(client::perf::Arguments),
    /// Put load on a target and measure it.
    Bench(bench::Arguments),
    /// Make a remote disk a block device of this machine.
    Attach(Box<attach::Arguments>),
    /// Take such devices away, and log out.
    Detach(attach::detach::Arguments),
    /// Show what is attached.
    Attached(attach::list::Arguments),
    /// Records of targets, and logins by them.
    Node(Box<nodes::command::Arguments>),
    /// Log in what starts by itself, or out again: for when the machine starts and stops.
    Boot(nodes::boot::Arguments),
    /// open-iscsi's command line, text and exit codes (also by the name iscsiadm).
    #[command(disable_help_flag = true)]
    Iscsiadm {
        /// As iscsiadm takes them; `--help` shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// Show what the daemon's sandbox keeps out on this machine.
    Sandbox(sandbox::Arguments),
    /// Write the manual pages.
    Man(manual::ManArguments),
    /// Write what a shell completes.
    Completions(manual::CompletionsArguments),
    /// The process that opens files for a daemon in its sandbox.
    #[command(hide = true)]
    Opener {
        /// What may be opened.
        policy: Vec<std::ffi::OsString>,
    },
    /// tgt's administration: command line, text and exit codes (also by the name tgtadm).
    #[command(disable_help_flag = true)]
    Tgtadm {
        /// As tgtadm takes them; `--help` shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// tgt's way to make the targets of targets.conf (also by the name tgt-admin).
    #[command(disable_help_flag = true)]
    TgtAdmin {
        /// As tgt-admin takes them; `--help` shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// The daemon as tgt starts it: without targets, for tgtadm to fill (also by the name tgtd).
    #[command(disable_help_flag = true)]
    Tgtd {
        /// As tgtd takes them; `--help` shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// tgt's way to make image files (also by the name tgtimg).
    #[command(disable_help_flag = true)]
    Tgtimg {
        /// As tgtimg takes them; `--help` shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// tgt's way to a target with one disk (also by the name tgt-setup-lun).
    #[command(disable_help_flag = true)]
    TgtSetupLun {
        /// As tgt-setup-lun takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// Make a lunette.toml of tgt's targets.conf or LIO's saveconfig.json.
    Import(tgt::ImportArguments),
    /// Make one of those of a lunette.toml.
    Export(tgt::ExportArguments),
    /// The process that holds what is attached.
    #[command(hide = true)]
    Hold {
        /// Target and portals, for whoever lists processes; the order comes by standard input.
        _what: Vec<String>,
    },
}

fn main() -> ExitCode {
    if let Some(code) = by_old_name() {
        return code;
    }
    let result = match Line::try_parse() {
        Ok(Line { command: Command::Serve(arguments) }) => serve::run(&arguments),
        Ok(Line { command: Command::Apply(arguments) }) => apply::run(&arguments),
        Ok(Line { command: Command::Check(arguments) }) => check::run(&arguments),
        Ok(Line { command: Command::Upgrade(arguments) }) => upgrade::run(&arguments),
        Ok(Line { command: Command::Status(arguments) }) => status::run(&arguments),
        Ok(Line { command: Command::Top(arguments) }) => top::run(&arguments),
        Ok(Line { command: Command::Trace(arguments) }) => trace::run(&arguments),
        Ok(Line { command: Command::Target(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Lun(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Portal(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Group(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Acl(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Account(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Session(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Connection(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Reservation(arguments) }) => arguments.run(),
        Ok(Line { command: Command::Events(arguments) }) => administer::events::run(&arguments),
        Ok(Line { command: Command::Discover(arguments) }) => client::discover::run(&arguments),
        Ok(Line { command: Command::Ls(arguments) }) => client::ls::run(&arguments),
        Ok(Line { command: Command::Inquiry(arguments) }) => client::inquiry::run(&arguments),
        Ok(Line { command: Command::Capacity(arguments) }) => client::capacity::run(&arguments),
        Ok(Line { command: Command::Copy(arguments) }) => client::copy::run(&arguments),
        Ok(Line { command: Command::Dump(arguments) }) => client::dump::run(&arguments),
        Ok(Line { command: Command::Reserve(arguments) }) => client::reserve::run(&arguments),
        Ok(Line { command: Command::Ping(arguments) }) => client::ping::run(&arguments),
        Ok(Line { command: Command::Perf(arguments) }) => client::perf::run(&arguments),
        Ok(Line { command: Command::Bench(arguments) }) => bench::run(&arguments),
        Ok(Line { command: Command::Attach(arguments) }) => attach::run(&arguments),
        Ok(Line { command: Command::Detach(arguments) }) => attach::detach::run(&arguments),
        Ok(Line { command: Command::Attached(arguments) }) => attach::list::run(&arguments),
        Ok(Line { command: Command::Node(arguments) }) => nodes::command::run(&arguments),
        Ok(Line { command: Command::Boot(arguments) }) => nodes::boot::run(&arguments),
        Ok(Line { command: Command::Iscsiadm { words } }) => return nodes::iscsiadm::main(&words),
        Ok(Line { command: Command::Sandbox(arguments) }) => sandbox::run(&arguments),
        Ok(Line { command: Command::Man(arguments) }) => manual::man(&arguments),
        Ok(Line { command: Command::Completions(arguments) }) => manual::completions(&arguments),
        Ok(Line { command: Command::Opener { policy } }) => sandbox::run_opener(&policy),
        Ok(Line { command: Command::Tgtadm { words } }) => return tgt::tgtadm(&words),
        Ok(Line { command: Command::TgtAdmin { words } }) => return tgt::tgt_admin(&words),
        Ok(Line { command: Command::Tgtd { words } }) => return tgt::tgtd(&words),
        Ok(Line { command: Command::Tgtimg { words } }) => return tgt::tgtimg(&words),
        Ok(Line { command: Command::TgtSetupLun { words } }) => return tgt::setup_lun(&words),
        Ok(Line { command: Command::Import(arguments) }) => tgt::import(&arguments),
        Ok(Line { command: Command::Export(arguments) }) => tgt::export(&arguments),
        Ok(Line { command: Command::Hold { .. } }) => attach::hold_run(),
        Err(error) if error.use_stderr() => Err(Failure::input(one_line(&error.render().to_string()))),
        // Help and version. Whoever asked may have closed the pipe.
        Err(shown) => {
            let _ = shown.print();
            return ExitCode::SUCCESS;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                // Each finding begins with its place, as compilers have it.
                Failure::Findings(_) => eprintln!("{failure}"),
                Failure::Told => {}
                _ => eprintln!("lunette: {failure}"),
            }
            failure.exit_code()
        }
    }
}

/// Programs that people and scripts know by other names, where we were called by one of them.
fn by_old_name() -> Option<ExitCode> {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let name = words.next()?;
    let words: Vec<String> = words.collect();
    match name.rsplit('/').next()? {
        "iscsiadm" => Some(nodes::iscsiadm::main(&words)),
        "iscsi-iname" => Some(nodes::iscsi_iname(&words)),
        "tgtadm" => Some(tgt::tgtadm(&words)),
        "tgt-admin" => Some(tgt::tgt_admin(&words)),
        "tgtd" => Some(tgt::tgtd(&words)),
        "tgtimg" => Some(tgt::tgtimg(&words)),
        "tgt-setup-lun" => Some(tgt::setup_lun(&words)),
        "iscsi-gen-initiatorname" => Some(nodes::iscsi_gen_initiatorname(&words)),
        _ => None,
    }
}

/// What the command line's parser says in a paragraph, in a line.
fn one_line(paragraph: &str) -> String {
    let lines = paragraph.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept: Vec<_> = lines.filter(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    format!("{}; see --help", kept.join(" ").trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_errors_are_one_line() {
        use clap::CommandFactory;
        Line::command().debug_assert();
        for words in [&["lunette"][..], &["lunette", "serve"], &["lunette", "serve", "a", "--thread", "0"]] {
            let Err(error) = Line::try_parse_from(words) else { panic!("{words:?} was taken") };
            let line = one_line(&error.render().to_string());
            assert!(!line.contains('\n') && line.ends_with("see --help") && line.len() > 30, "{line}");
        }
    }
}
