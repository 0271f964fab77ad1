//! The arguments of `lunette serve`, and the check of those that need no look at the world.

use super::isns::Isns;
use crate::failure::Failure;
use crate::logging::Format;
use clap::Args;
use io::engine::Choice;
use iscsi::auth::Algorithm;
use iscsi::name::Name;
use scsi::inquiry::TargetPortGroupSupport;
use std::path::PathBuf;
use target::{BOUNDS, Limits, NamePattern};

const EXAMPLES: &str = "\
STORE is an address: a place and options after commas.
  disk.img,size=10G        a file; made sparse when it does not exist
  /dev/vg0/home,direct     a block device, past the page cache
  ram:1G                   memory, lost at the end
  null:1T                  reads zeros, forgets what is written
A disk of another target: iscsi://[USER@]HOST[:PORT]/TARGET/LUN, with the options ro, path=URL (another way to
the same disk), policy=least-queue|round-robin, replacement-timeout=SECONDS; its secret by LIBISCSI_CHAP_PASSWORD.
Options of the store: size=SIZE, block=512|4096, ro, direct.
Options of the disk:  lun=N (from 1 on), serial=TEXT, vendor=TEXT, product=TEXT, removable,
                      type=disk or type=cd (an image; what ends in .iso is one).
A comma that belongs to a path is written \\,

Examples:
  lunette serve disk.img,size=10G
  lunette serve a.img b.img,ro ram:512M,lun=9 --listen 192.0.2.7 --allow iqn.1993-08.org.debian:01:abc
  lunette serve --config lunette.toml
  lunette serve iscsi://192.0.2.7/iqn.2026-11.com.example:disk/1
  LUNETTE_CHAP_SECRET=a-long-secret lunette serve /dev/vdb --listen [::] --chap alice
  lunette serve a.img --listen 192.0.2.7 --listen 198.51.100.7,group=2,state=non-optimized

Exit codes: 0 told to stop and did, 1 it failed while running, 2 what was asked cannot be done as asked.";

/// What a configuration file says instead.
const OF_FILE: [&str; 19] = [
    "stores",
    "listen",
    "access_states",
    "access_management",
    "name",
    "allow",
    "chap",
    "chap_secret_file",
    "chap_mutual",
    "chap_mutual_secret_file",
    "chap_algorithms",
    "threads",
    "io_engine",
    "state_dir",
    "nop_interval",
    "limit",
    "control",
    "isns",
    "user",
];

/// Arguments of `lunette serve`.
#[derive(Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", limits()))]
pub struct Arguments {
    /// What to export, as disks from LUN 1 on
    #[arg(required_unless_present_any = ["config", "empty"], value_name = "STORE")]
    pub stores: Vec<String>,
    /// Begin without a target: they are added while it runs
    #[arg(long, conflicts_with_all = ["stores", "config"])]
    pub empty: bool,
    /// A file that says all of it: targets, portals, disks, who may use them (docs/configuration.md)
    #[arg(long, value_name = "FILE", conflicts_with_all = OF_FILE)]
    pub config: Option<PathBuf>,
    /// Apply the file of --config whenever it was written, as SIGHUP and `lunette apply` do
    #[arg(long, requires = "config")]
    pub watch: bool,
    /// Where to listen; may be given several times. After commas: group=N (a portal group, a target port of
    /// its own), state=STATE of that group (active-optimized, active-non-optimized, standby, unavailable),
    /// preferred
    #[arg(long, value_name = "ADDR[:PORT][,OPTION...]", default_value = "127.0.0.1:3260")]
    pub listen: Vec<String>,
    /// A file of lines GROUP STATE, looked at every second: the access states of portal groups
    #[arg(long, value_name = "FILE")]
    pub access_states: Option<PathBuf>,
    /// Who changes access states: the target alone (implicit), or initiators too (both)
    #[arg(long, value_name = "WHO", default_value = "both", value_parser = management)]
    pub access_management: TargetPortGroupSupport,
    /// The target's iSCSI name [default: iqn.2026-11.io.lunette:HOSTNAME]
    #[arg(long, value_name = "IQN")]
    pub name: Option<String>,
    /// Let only this initiator in; may be given several times
    #[arg(long, value_name = "IQN")]
    pub allow: Vec<String>,
    /// Initiators log in as this user with CHAP; the secret comes from --chap-secret-file,
    /// LUNETTE_CHAP_SECRET or a prompt
    #[arg(long, value_name = "USER")]
    pub chap: Option<String>,
    /// A file whose first line is the secret of --chap
    #[arg(long, value_name = "FILE", requires = "chap")]
    pub chap_secret_file: Option<PathBuf>,
    /// To an initiator that asks back, the target shows itself as this user; the secret comes from
    /// --chap-mutual-secret-file, LUNETTE_CHAP_MUTUAL_SECRET or a prompt
    #[arg(long, value_name = "USER", requires = "chap")]
    pub chap_mutual: Option<String>,
    /// A file whose first line is the secret of --chap-mutual
    #[arg(long, value_name = "FILE", requires = "chap_mutual")]
    pub chap_mutual_secret_file: Option<PathBuf>,
    /// CHAP algorithms that may be used
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "chap",
        default_value = "SHA3-256,SHA-256,SHA-1,MD5", value_parser = algorithm)]
    pub chap_algorithms: Vec<Algorithm>,
    /// Worker threads [default: one a processor, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// How disks are read and written: auto, uring, pool or inline
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = engine)]
    pub io_engine: Choice,
    /// Where reservations and saved settings are kept
    /// [default: /var/lib/lunette as root, else ~/.local/state/lunette]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Register the targets with this iSNS server. After commas: entity=NAME (what they are registered under; the
    /// target's name), period=SECONDS (without a sign of us until it forgets us; 300), notify=PORT|off (where it
    /// reaches us; a free port)
    #[arg(long, value_name = "HOST[:PORT][,OPTION...]", value_parser = super::isns::parse)]
    pub isns: Option<Isns>,
    /// Seconds after which a silent initiator is pinged, and in which it has to answer; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    pub nop_interval: u16,
    /// Sets a bound; may be given several times; `--help` lists them
    #[arg(long, value_name = "NAME=VALUE", value_parser = limit)]
    pub limit: Vec<(String, String)>,
    /// The socket at which `lunette status` asks [default: control.sock in --state-dir where that is given, else
    /// in /run/lunette as root, else in $XDG_RUNTIME_DIR/lunette]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// After ports and stores are open, become this user (started as root)
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Keep what the daemon does not need: no filter of system calls (seccomp), all files of the user (landlock)
    #[arg(long)]
    pub no_sandbox: bool,
    /// How events are written [default: auto]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<Format>,
    /// Take the place of the process behind this socket
    #[arg(long, value_name = "PATH", hide = true)]
    pub take_over: Option<PathBuf>,
    /// Seconds that its sessions may take to come to rest
    #[arg(long, value_name = "SECONDS", hide = true, default_value = "1", value_parser = crate::upgrade::seconds)]
    pub take_over_within: std::time::Duration,
    /// Serve what --config says, and not what that process does
    #[arg(long, hide = true)]
    pub take_over_anew: bool,
    /// Tell more; twice, tell everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Arguments {
    /// The target's name: what was given, or one from the host's name.
    pub fn target_name(&self) -> Result<Name, Failure> {
        match &self.name {
            Some(text) => Name::parse(text).map_err(|error| Failure::input(format!("--name {text}: {error}"))),
            None => Ok(default_name(rustix::system::uname().nodename().to_string_lossy().as_ref())),
        }
    }

    /// The initiators that may log in.
    pub fn initiators(&self) -> Result<Vec<NamePattern>, Failure> {
        let parse = |text: &String| text.parse().map_err(|error| Failure::input(format!("--allow {text}: {error}")));
        self.allow.iter().map(parse).collect()
    }
}

/// `iqn.2026-11.io.lunette:` and the host's name, made of what a name may have.
fn default_name(host: &str) -> Name {
    let host: String = host
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '-' })
        .take(128)
        .collect();
    let host = if host.is_empty() { "localhost" } else { &host };
    match Name::parse(&format!("iqn.2026-11.io.lunette:{host}")) {
        Ok(name) => name,
        Err(error) => unreachable!("ASCII letters, digits, dashes and dots make a name: {error}"),
    }
}

/// The bounds, as `--help` lists them.
fn limits() -> String {
    let defaults = Limits::default();
    let mut text = String::from("Bounds for --limit NAME=VALUE (docs/limits.md says what happens at each):");
    for bound in BOUNDS {
        let default = bound.text(bound.value(&defaults));
        text += &format!("\n  {:<22} {default:>5}  {}", bound.name, bound.what);
    }
    text
}

/// A bound's name and what it is set to, which can be.
fn limit(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Limits::default().set(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

fn management(text: &str) -> Result<TargetPortGroupSupport, String> {
    match text {
        "implicit" => Ok(TargetPortGroupSupport::Implicit),
        "both" => Ok(TargetPortGroupSupport::Both),
        _ => Err("there are implicit and both".to_owned()),
    }
}

fn engine(text: &str) -> Result<Choice, String> {
    text.parse()
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::from_name(text).ok_or_else(|| {
        let known: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        format!("there are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_name_gives_a_target_name() {
        assert_eq!(default_name("Web_01.example").as_str(), "iqn.2026-11.io.lunette:web-01.example");
        assert_eq!(default_name("").as_str(), "iqn.2026-11.io.lunette:localhost");
        default_name(&"x".repeat(300));
        default_name("żółw");
    }
}
