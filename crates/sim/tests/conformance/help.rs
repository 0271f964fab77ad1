//! What the tests of every family begin with.

use block::pure::Ram;
use iscsi::wire::{FINAL, Pdu, Reject};
use sim::Frame;
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Condition, Login};
use sim::world::{Network, Shared, Wire};

/// A client in the simulated network.
pub type Simulated = Client<Wire>;

/// Blocks of the disk.
pub const BLOCKS: u64 = 4096;

/// Sense data of data-out that was not allowed, or not as much as was to come (RFC 7143 §11.4.7.2).
pub const UNEXPECTED_UNSOLICITED: Condition = Condition(0x0b, 0x0c, 0x0c);
pub const INCORRECT_AMOUNT: Condition = Condition(0x0b, 0x0c, 0x0d);

/// A target with a disk of 2 MiB in memory.
pub fn target() -> Shared {
    Shared::new(Ram::new(512, BLOCKS), None)
}

/// A connection before its login.
pub fn connect(target: &Shared) -> Simulated {
    Client::over(target.connect(Network::default()))
}

/// A session with this login, whose unit attentions are taken.
pub fn session(target: &Shared, login: &Login) -> Simulated {
    let mut client = connect(target);
    client.login(login);
    client.take_attentions();
    client
}

/// A login with everything as the target offers it.
pub fn normal() -> Login {
    Login::normal(TARGET)
}

/// A session at a target of its own.
pub fn alone(login: &Login) -> Simulated {
    session(&target(), login)
}

/// The reason of the Reject that comes next, which carries this frame's header.
pub fn rejected(client: &mut Simulated, refused: &Frame) -> u8 {
    let (reject, header) = client.expect::<Reject>();
    assert_eq!(header, refused.header, "REJ-01: the whole header comes back");
    reject.reason
}

/// The connection serves its initiator as before.
pub fn goes_on(client: &mut Simulated) {
    assert!(client.execute(&Command::test_unit_ready()).is_good(), "the connection goes on");
}

/// A PDU of this kind with everything but its opcode, F and tag zero, immediate.
pub fn immediate<P: Pdu>(tag: u32) -> Frame {
    let mut frame = Frame::new(P::empty(), b"");
    frame.header[0] |= 0x40;
    frame.header[1] = FINAL;
    frame.header[16..20].copy_from_slice(&tag.to_be_bytes());
    frame
}

/// Bytes that differ from place to place and from salt to salt.
pub fn pattern(bytes: usize, salt: u8) -> Vec<u8> {
    (0..bytes).map(|at| (at / 512) as u8 ^ salt ^ at as u8).collect()
}
