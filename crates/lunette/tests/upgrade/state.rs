//! What initiators were told stays true behind an upgrade.

use crate::rig::{LUNETTE, options, run};
use crate::upgrade;
use initiator::{Command, Error};
use sim::Daemon;
use sim::daemon::Folder;

/// PERSISTENT RESERVE OUT with this action and type, key and new key, without APTPL.
fn reserve(action: u8, kind: u8, key: u64, new: u64) -> Command {
    let mut list = [0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&new.to_be_bytes());
    Command::new(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0]).writing(list.to_vec())
}

#[test]
fn reservations_that_would_not_outlive_a_power_loss_outlive_an_upgrade() {
    let folder = Folder::new();
    let image = format!("{},size=8M", folder.file("disk.img"));
    let mut daemon = Some(Daemon::start(LUNETTE, &[&image, "ram:8M"]));
    run(async {
        let one = options(daemon.as_ref().unwrap()).isid([0x80, 0, 0, 0, 1, 1]).connect().await.unwrap();
        let two = options(daemon.as_ref().unwrap()).isid([0x80, 0, 0, 0, 1, 2]).connect().await.unwrap();
        for lun in [1u16, 2] {
            one.unit(lun).execute(reserve(0, 0, 0, 77)).await.result.unwrap();
            // Write exclusive.
            one.unit(lun).execute(reserve(1, 1, 77, 0)).await.result.unwrap();
            two.unit(lun).test_ready().await.unwrap();
        }
        for _ in 0..2 {
            upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap();
            for lun in [1u16, 2] {
                let keys = one.unit(lun).execute(Command::new(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0]).reading(64)).await;
                let keys = keys.bytes().unwrap();
                assert_eq!(keys[8..16], 77u64.to_be_bytes(), "{keys:?}");
                one.unit(lun).write(0, vec![1; 512]).await.unwrap();
                let error = two.unit(lun).write(0, vec![2; 512]).await.unwrap_err();
                assert!(error.to_string().contains("RESERVATION CONFLICT"), "{error}");
                assert_eq!(two.unit(lun).read(0, 1).await.unwrap(), [1; 512]);
            }
        }
        // An initiator that comes later is no stranger either.
        let late = options(daemon.as_ref().unwrap()).isid([0x80, 0, 0, 0, 1, 3]).connect().await.unwrap();
        let error = late.unit(1).write(0, vec![3; 512]).await.unwrap_err();
        assert!(error.to_string().contains("RESERVATION CONFLICT"), "{error}");
    });
}

#[test]
fn no_unit_attention_is_invented_and_none_is_lost() {
    let mut daemon = Some(Daemon::start(LUNETTE, &["ram:8M"]));
    run(async {
        let one = options(daemon.as_ref().unwrap()).isid([0x80, 0, 0, 0, 1, 1]).connect().await.unwrap();
        let two = options(daemon.as_ref().unwrap()).isid([0x80, 0, 0, 0, 1, 2]).connect().await.unwrap();
        let ready = || Command::new(&[0; 6]).as_is();
        // All that is owed for the login is told.
        for session in [&one, &two] {
            while session.unit(1).execute(ready()).await.result.is_err() {}
        }
        // MODE SELECT of one (descriptor sense on) is told to the other: 2Ah/01h.
        let mut list = vec![0; 8];
        list.extend([0x0a, 0x0a, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let sense = one.unit(1).execute(Command::new(&[0x5a, 8, 0x0a, 0, 0, 0, 0, 0, 64, 0]).reading(64)).await;
        let page = sense.bytes().unwrap();
        list[8..20].copy_from_slice(&page[8..20]);
        list[8] &= 0x3f;
        list[10] |= 0x04;
        one.unit(1).execute(Command::new(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 20, 0]).writing(list)).await.result.unwrap();
        upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap();
        one.unit(1).execute(ready()).await.result.unwrap();
        let told = two.unit(1).execute(ready()).await.result.unwrap_err();
        assert_eq!(told.scsi().and_then(|error| error.condition()), Some((6, 0x2a, 0x01)), "{told}");
        two.unit(1).execute(ready()).await.result.unwrap();
        // The page is what it was set to.
        let sense = two.unit(1).execute(Command::new(&[0x5a, 8, 0x0a, 0, 0, 0, 0, 0, 64, 0]).reading(64)).await;
        assert_eq!(sense.bytes().unwrap()[10] & 0x04, 0x04);
    });
}

#[test]
fn the_locks_of_files_pass_over() {
    let folder = Folder::new();
    let image = format!("{},size=8M", folder.file("disk.img"));
    let mut daemon = Some(Daemon::start(LUNETTE, &[&image]));
    run(async { upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap() });
    let second = std::process::Command::new(LUNETTE)
        .args(["serve", &image, "--listen", "127.0.0.1:0", "--state-dir", &folder.file("state")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("is in use"), "{said}");
    run(async {
        let session = options(daemon.as_ref().unwrap()).connect().await.unwrap();
        assert!(!matches!(session.unit(1).test_ready().await, Err(Error::Closed)));
    });
}
