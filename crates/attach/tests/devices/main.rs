//! Every front-end through the kernel of the machine that this runs on: the same story for each.
//!
//! Attaching needs root and what the front-end needs of the kernel, so these tests are not run unasked:
//! `cargo xtask test attach` asks for those that can run here, and says which cannot and why.

mod conformance;
mod death;
mod helper;
mod story;

use attach::Frontend;

/// Which front-ends can be used here, for whoever wants to know what will run.
#[test]
#[ignore = "only says what can be used"]
fn what_can_be_used() {
    let all: [&dyn Frontend; 3] = [&attach::fuse::Fuse, &attach::nbd::NetworkBlockDevice, &attach::ublk::Ublk];
    // The test runner's own words stand at the beginning of this line.
    println!();
    for frontend in all {
        match frontend.probe() {
            Ok(()) => println!("{}: usable", frontend.name()),
            Err(why) => println!("{}: {why}", frontend.name()),
        }
    }
    match attach::fuse::probe_loop() {
        Ok(()) => println!("loop: usable"),
        Err(why) => println!("loop: {why}"),
    }
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn fuse_and_loop_conform_with_blocks_of_512() {
    conformance::conforms(&attach::fuse::Fuse, 512);
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn fuse_and_loop_conform_with_blocks_of_4096() {
    conformance::conforms(&attach::fuse::Fuse, 4096);
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn fuse_and_loop_carry_a_file_system_on_a_file() {
    story::file_system(&attach::fuse::Fuse);
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn fuse_and_loop_leave_nothing_behind_when_their_process_is_killed() {
    death::killed("fuse", "dies_with_a_fuse_device");
}

#[test]
#[ignore = "the process that is killed by the test above"]
fn dies_with_a_fuse_device() {
    death::serve(&attach::fuse::Fuse);
}

#[test]
#[ignore = "needs root and FUSE: cargo xtask test attach"]
fn fuse_alone_is_a_file_of_the_disk() {
    story::file_alone();
}

#[test]
#[ignore = "needs FUSE, and fusermount3 where it is not root's: cargo xtask test attach"]
fn fuse_alone_is_anybodys() {
    story::file_of_anybody();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn fuse_and_loop_can_die_while_they_are_detached() {
    death::killed_while_detached("dies_while_it_detaches_a_fuse_device");
}

#[test]
#[ignore = "the process that is killed by the test above"]
fn dies_while_it_detaches_a_fuse_device() {
    death::detach_for_ever(&attach::fuse::Fuse);
}

#[test]
#[ignore = "needs root and the kernel's nbd: cargo xtask test attach, or tests/vm/scenarios/84-attach-devices"]
fn nbd_conforms_with_blocks_of_512() {
    conformance::conforms(&attach::nbd::NetworkBlockDevice, 512);
}

#[test]
#[ignore = "needs root and the kernel's nbd: cargo xtask test attach, or tests/vm/scenarios/84-attach-devices"]
fn nbd_conforms_with_blocks_of_4096() {
    conformance::conforms(&attach::nbd::NetworkBlockDevice, 4096);
}

#[test]
#[ignore = "needs root and the kernel's nbd: cargo xtask test attach, or tests/vm/scenarios/84-attach-devices"]
fn nbd_carries_a_file_system_on_a_file() {
    story::file_system(&attach::nbd::NetworkBlockDevice);
}

#[test]
#[ignore = "needs root and ublk: cargo xtask test attach, or tests/vm/scenarios/84-attach-devices"]
fn ublk_conforms_with_blocks_of_512() {
    conformance::conforms(&attach::ublk::Ublk, 512);
}

#[test]
#[ignore = "needs root and ublk: cargo xtask test attach, or tests/vm/scenarios/84-attach-devices"]
fn ublk_conforms_with_blocks_of_4096() {
    conformance::conforms(&attach::ublk::Ublk, 4096);
}

#[test]
#[ignore = "needs root and ublk: cargo xtask test attach, or tests/vm/scenarios/84-attach-devices"]
fn ublk_carries_a_file_system_on_a_file() {
    story::file_system(&attach::ublk::Ublk);
}
