//! The exchanges of the walk-through as bytes. A change of the wire shows here; whoever makes one reads
//! the difference (`LUNETTE_GOLDEN=write cargo test -p lunette-sim --test golden`).

use block::pure::Ram;
use sim::daemon::TARGET;
use sim::golden;
use sim::raw::{Client, Command, Login};
use sim::world::{Network, Shared, Wire};
use std::path::Path;

fn client() -> Client<Wire> {
    let world = Shared::new(Ram::new(512, 2048), None);
    let mut client = Client::over(world.connect(Network::default()));
    client.capture.record();
    client
}

fn compare(name: &str, client: &Client<Wire>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    golden::compare(&path, client.capture.recorded());
}

#[test]
fn discovery() {
    let mut client = client();
    client.login(&Login::discovery());
    client.text(b"SendTargets=All\0");
    client.logout();
    compare("discovery.txt", &client);
}

#[test]
fn a_session_that_looks_around() {
    let mut client = client();
    client
        .login(&Login::normal(TARGET).key("InitialR2T", "No").key("FirstBurstLength", 65536).key("X-com.example.k", 1));
    client.take_attentions();
    client.good(&Command::inquiry(None));
    client.good(&Command::inquiry(Some(0x00)));
    client.good(&Command::inquiry(Some(0x83)));
    client.good(&Command::read_capacity());
    client.logout();
    compare("session.txt", &client);
}

#[test]
fn data_both_ways() {
    let mut client = client();
    client.login(&Login::normal(TARGET).key("ImmediateData", "No").key("MaxBurstLength", 1024));
    client.take_attentions();
    client.good(&Command::write(4, &[0x5a; 1536]));
    client.good(&Command::read(4, 3));
    client.ping(b"are you there");
    client.logout();
    compare("data.txt", &client);
}
