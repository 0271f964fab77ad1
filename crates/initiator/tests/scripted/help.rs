//! A runtime, options in which nothing takes long, and a target that goes along.

use initiator::{Options, Portal};
use iscsi::wire::{LogoutRequest, NopOut, ScsiCommand, TextRequest};
use sim::Frame;
use sim::daemon::TARGET;
use sim::scripted::{Accepts, Target};
use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A target's end of a connection.
pub type Played = Target<TcpStream>;

/// Runs this on a runtime of its own thread, and ends it where it hangs.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(50), future).await.expect("it ends") })
}

/// Options of a session with this target, in which nothing takes long.
pub fn options(address: SocketAddr) -> Options {
    Options {
        login_timeout: Duration::from_secs(3),
        logout_timeout: Duration::from_millis(300),
        ..Options::new(Portal::new(address.ip().to_string(), address.port()), TARGET)
    }
    .command_timeout(Duration::from_secs(10))
    .replacement_timeout(Duration::from_secs(20))
}

/// Takes commands until the connection ends; pings and logouts are answered. The script gives what is to be done
/// with a command: true where it is done, false where the connection is to be left.
pub fn serve(target: &mut Played, mut script: impl FnMut(&mut Played, &ScsiCommand, &[u8]) -> bool) {
    while let Ok(frame) = target.receive() {
        if let Some(command) = frame.view::<ScsiCommand>() {
            if !script(target, command, &frame.data) {
                return;
            }
        } else if let Some(ping) = frame.view::<NopOut>() {
            if ping.initiator_task_tag.get() != u32::MAX {
                target.pong(ping.initiator_task_tag.get(), &frame.data);
            }
        } else if let Some(request) = frame.view::<LogoutRequest>() {
            target.logged_out(request, 0);
            return;
        } else {
            other(target, &frame);
        }
    }
}

fn other(target: &mut Played, frame: &Frame) {
    if let Some(request) = frame.view::<TextRequest>() {
        target.text(request, 0x80, u32::MAX, b"");
    }
}

/// What a polite target of level 0 lets everybody in with.
pub fn plain() -> Accepts {
    let mut accepts = Accepts::default();
    accepts.offers.session.error_recovery_level = 0;
    accepts.offers.session.default_time_2_wait = 0;
    accepts
}

/// READ CAPACITY (16) of a disk of 1,000 blocks of 512 bytes, or nothing where it is another command.
pub fn capacity(target: &mut Played, command: &ScsiCommand) -> bool {
    if command.cdb[..2] != [0x9e, 0x10] {
        return false;
    }
    let mut data = [0; 32];
    data[..8].copy_from_slice(&999u64.to_be_bytes());
    data[8..12].copy_from_slice(&512u32.to_be_bytes());
    target.answer_read(command.initiator_task_tag.get(), &data);
    true
}

/// LBA and blocks of a READ or WRITE (16).
pub fn extent(command: &ScsiCommand) -> (u64, u32) {
    let lba = u64::from_be_bytes(command.cdb[2..10].try_into().expect("eight bytes"));
    (lba, u32::from_be_bytes(command.cdb[10..14].try_into().expect("four bytes")))
}
