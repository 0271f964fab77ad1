//! Faults of the store on the wire (reliability.md F10 to F16): the right sense data, and a connection
//! that goes on.

use block::ErrorKind;
use block::layer::{Effect, Fault, FaultPlan, Faulty, On};
use block::pure::Ram;
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Condition, Login};
use sim::world::{Network, Shared, Wire};

const K: u64 = 1024;

/// A target over a store with these faults, logged in, and the plan to change them.
fn faulty() -> (Client<Wire>, FaultPlan) {
    let plan = FaultPlan::default();
    let world = Shared::new(Faulty::new(Ram::new(512, 2048), plan.clone()), None);
    let mut client = Client::over(world.connect(Network::default()));
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    (client, plan)
}

/// The command fails with this condition, at this block where one is named, and the next one works.
fn fails(client: &mut Client<Wire>, command: &Command, condition: Condition, block: Option<u32>) {
    let answer = client.execute(command);
    assert_eq!((answer.status, answer.condition()), (2, Some(condition)), "{answer:?}");
    assert_eq!(answer.information(), block);
    assert!(client.execute(&Command::test_unit_ready()).is_good(), "the connection goes on");
}

#[test]
fn f10_a_read_that_fails_once_names_its_block_and_works_the_next_time() {
    let (mut client, plan) = faulty();
    plan.add(Fault::nth(On::Read, 0, ErrorKind::Medium));
    fails(&mut client, &Command::read(40, 8), Condition(3, 0x11, 0), Some(40));
    assert_eq!(client.good(&Command::read(40, 8)).len(), 4096);
}

#[test]
fn f11_a_bad_sector_is_named_and_its_neighbours_are_read() {
    let (mut client, plan) = faulty();
    plan.add(Fault::always(On::Read, ErrorKind::Medium).within(45 * 512..46 * 512));
    fails(&mut client, &Command::read(40, 8), Condition(3, 0x11, 0), Some(45));
    client.good(&Command::read(40, 5));
    client.good(&Command::read(46, 8));
}

#[test]
fn f12_a_flush_that_fails_is_told_and_so_is_a_forced_write() {
    let (mut client, plan) = faulty();
    plan.add(Fault::nth(On::Flush, 0, ErrorKind::Medium));
    let answer = client.execute(&Command::synchronize_cache());
    assert_eq!((answer.status, answer.condition()), (2, Some(Condition(3, 0x0c, 0))), "{answer:?}");
    client.good(&Command::synchronize_cache());
}

#[test]
fn f13_a_full_store_is_write_protected_by_lack_of_space_and_still_read() {
    let (mut client, plan) = faulty();
    plan.add(Fault::always(On::Write, ErrorKind::NoSpace));
    fails(&mut client, &Command::write(8, &[1; 512]), Condition(7, 0x27, 7), Some(8));
    client.good(&Command::read(8, 1));
    plan.clear();
    client.good(&Command::write(8, &[1; 512]));
}

#[test]
fn f15_a_short_write_is_an_error_and_not_an_acknowledgement() {
    let (mut client, plan) = faulty();
    plan.add(Fault::nth(On::Write, 0, ErrorKind::Medium).effect(Effect::Torn { bytes: 2 * K }));
    let answer = client.execute(&Command::write(0, &[7; 4096]));
    assert_eq!((answer.status, answer.condition().map(|condition| condition.0)), (2, Some(3)), "{answer:?}");
    let data = client.good(&Command::read(0, 8));
    assert!(data[2048..].iter().all(|byte| *byte == 0), "what was not written is not there");
}

#[test]
fn f16_blocks_past_the_end_are_refused_before_the_store_is_asked() {
    let (mut client, _) = faulty();
    fails(&mut client, &Command::read(2047, 2), Condition(5, 0x21, 0), Some(2048));
    fails(&mut client, &Command::write(2048, &[1; 512]), Condition(5, 0x21, 0), Some(2048));
}
