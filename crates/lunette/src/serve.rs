//! `lunette serve`: stores in, a target on the network out.

use clap::Args;
use io::engine::{Choice, Engines};
use lun::{Identity, LogicalUnit, LunEntry, LunMap, Options};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use target::{Door, Target, WorkerHandle};
use tokio::net::TcpListener;

/// How long a shutdown waits for what is in flight.
const GRACE: Duration = Duration::from_secs(10);

/// Arguments of `lunette serve`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  lunette serve disk.img,size=10G\n  lunette serve ram:256M --listen 127.0.0.1:3261"
)]
pub struct Arguments {
    /// What to export, as disks from LUN 1 on: a path, `ram:SIZE` or `null:SIZE`, options after commas
    #[arg(required = true, value_name = "STORE")]
    stores: Vec<String>,
    /// Where to listen; may be given several times
    #[arg(long, value_name = "ADDR[:PORT]", default_value = "127.0.0.1:3260")]
    listen: Vec<String>,
    /// The target's iSCSI name
    #[arg(long, value_name = "IQN", default_value = "iqn.2026-11.io.lunette:disk")]
    name: String,
}

/// Serves until it is told to stop. The error is one line for the person who called.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let name = arguments.name.to_lowercase();
    let named = ["iqn.", "eui.", "naa."].iter().any(|kind| name.starts_with(kind));
    if !named || name.len() > 223 || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("--name {name}: an iSCSI name begins with iqn., eui. or naa. and has no blanks"));
    }
    let mut units = LunMap::default();
    for (number, address) in (1u16..).zip(&arguments.stores) {
        let opened = stores::open(address).map_err(|error| error.to_string())?;
        println!("LUN {number}: {address}, {} bytes", opened.backend.limits().capacity());
        let identity = identity(&name, number, address);
        let unit = LogicalUnit::new(identity, Options::default(), opened.backend);
        units.entries.push(LunEntry { number, unit, read_only: false });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        // One worker: task management reaches the tasks of one lane.
        let worker = WorkerHandle::start(0, Engines::new(Choice::Auto)).map_err(|error| error.to_string())?;
        let target = Target { name: name.clone(), alias: None, units: Arc::new(units) };
        let door = Door::new(target, vec![worker.clone()]);
        for wanted in &arguments.listen {
            let address = portal(wanted)?;
            let listener = TcpListener::bind(address)
                .await
                .map_err(|error| format!("--listen {wanted}: {error}; choose another address or port"))?;
            println!("target {name} at {address},1");
            tokio::spawn(Arc::clone(&door).listen(listener));
        }
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|error| error.to_string())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        worker.stop(GRACE).await;
        Ok(())
    })
}

/// An address with the port that is meant where none is given.
fn portal(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>().ok();
    let without = || text.trim_matches(['[', ']']).parse().ok().map(|address| SocketAddr::new(address, 3260));
    with_port.or_else(without).ok_or_else(|| format!("--listen {text}: give an IP address, with or without :PORT"))
}

/// The disk's identity, from the target's name and its number: the same at every start.
fn identity(target: &str, number: u16, address: &str) -> Identity {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, target, number).hash(&mut hasher);
        hasher.finish().to_be_bytes()
    };
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&half(0));
    uuid[8..].copy_from_slice(&half(1));
    let serial = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let product = if address.starts_with("ram:") { "Memory" } else { "Disk" };
    let (vendor, revision) = ("LUNETTE".to_owned(), "0001".to_owned());
    Identity { uuid, vendor, product: product.to_owned(), revision, serial }
}
