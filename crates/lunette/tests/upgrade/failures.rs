//! Upgrades that come to nothing: the old process goes on as if nothing had been.

use crate::rig::{LUNETTE, options, pattern, run};
use crate::{process, upgrade};
use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use sim::raw::{Command, Login};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// A program that is this script.
fn script(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.file(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A configuration file with these disks in the place of the daemon's.
fn file(daemon: &Daemon, target: &str, stores: &[&str]) -> String {
    let state = daemon.control().with_file_name("");
    let disks = stores
        .iter()
        .zip(1..)
        .map(|(store, number)| format!("[[target.lun]]\nnumber = {number}\nstore = \"{store}\"\n"));
    format!(
        "[daemon]\nstate-dir = \"{}\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\nname = \"{target}\"\n{}[[target.rule]]\ninitiators = \"any\"\n",
        state.display(),
        disks.collect::<String>()
    )
}

#[test]
fn a_new_program_that_cannot_serve_changes_nothing() {
    let folder = Folder::new();
    let mut daemon = Some(Daemon::start(LUNETTE, &["ram:8M"]));
    run(async {
        let session = options(daemon.as_ref().unwrap()).connect().await.unwrap();
        let disk = session.unit(1);
        disk.write(0, pattern(0, 1)).await.unwrap();
        let old = process(&daemon);
        // It ends at once; it does not understand; there is none; its configuration is wrong.
        let ends = script(&folder, "ends", "echo 'lunette: the self-check failed' >&2; exit 1");
        let why = upgrade(&mut daemon, &ends, &[]).await.unwrap_err();
        assert!(why.contains("the self-check failed; the old process") && why.contains("goes on"), "{why}");
        let why = upgrade(&mut daemon, "/bin/false", &[]).await.unwrap_err();
        assert!(why.contains("without a word"), "{why}");
        let why = upgrade(&mut daemon, &folder.file("nothing"), &[]).await.unwrap_err();
        assert!(why.contains("No such file"), "{why}");
        let wrong = folder.file("wrong.toml");
        fs::write(&wrong, "target = 1\n").unwrap();
        let why = upgrade(&mut daemon, LUNETTE, &["--config", &wrong]).await.unwrap_err();
        assert!(why.contains("goes on"), "{why}");
        // One that serves other targets cannot go on with the session.
        let other = folder.file("other.toml");
        fs::write(&other, file(daemon.as_ref().unwrap(), "iqn.2026-01.org.example:other", &["ram:8M"])).unwrap();
        let why = upgrade(&mut daemon, LUNETTE, &["--config", &other]).await.unwrap_err();
        assert!(why.contains("there is no target") && why.contains("goes on"), "{why}");
        assert_eq!(process(&daemon), old);
        assert!(daemon.as_mut().unwrap().is_running());
        assert_eq!(disk.read(0, 1).await.unwrap(), pattern(0, 1));
        disk.write(1, pattern(1, 2)).await.unwrap();
        assert_eq!((session.statistics().logins, session.statistics().errors), (0, 0));
        // And then one that can.
        upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap();
        assert_eq!(disk.read(0, 2).await.unwrap(), [pattern(0, 1), pattern(1, 2)].concat());
        assert_eq!((session.statistics().logins, session.statistics().errors), (0, 0));
    });
}

#[test]
fn a_new_program_that_is_killed_in_the_midst_leaves_the_old_one_in_place() {
    let folder = Folder::new();
    let mut daemon = Some(Daemon::start(LUNETTE, &["ram:64M"]));
    run(async {
        let session = options(daemon.as_ref().unwrap()).connect().await.unwrap();
        let disk = session.unit(1);
        for round in 0..8u64 {
            // Later and later in its course.
            let time = format!("0.{:03}", 5 + round * 12);
            let text = format!("{LUNETTE} \"$@\" & child=$!; sleep {time}; kill -KILL $child; wait $child; exit 9");
            let killed = script(&folder, "killed", &text);
            let blocks: Vec<u8> = (0..64).flat_map(|block| pattern(block, round)).collect();
            disk.write(round * 64, blocks.clone()).await.unwrap();
            match upgrade(&mut daemon, &killed, &["--timeout", "20"]).await {
                // It had taken over before it was killed: the session is gone with it, as with any daemon that is.
                Ok(_) => return,
                Err(why) if why.contains("it ended after it took over") => return,
                Err(why) => assert!(why.contains("goes on"), "{why}"),
            }
            assert!(disk.read(round * 64, 64).await.unwrap() == blocks);
            assert_eq!((session.statistics().logins, session.statistics().errors), (0, 0), "round {round}");
        }
    });
}

#[test]
fn who_does_not_come_to_rest_is_named_and_goes_on() {
    let mut daemon = Some(Daemon::start(LUNETTE, &["ram:8M"]));
    // A write whose data does not come.
    let mut client = daemon.as_ref().unwrap().connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    let tag = client.start(&Command::write(0, &[7; 4096]).solicited());
    let why = daemon.as_mut().unwrap().upgrade(LUNETTE, &["--timeout", "0.3"]).unwrap_err();
    assert!(why.contains("does not come to rest: commands are under way"), "{why}");
    assert!(client.finish(tag).is_good());
    std::thread::sleep(Duration::from_millis(10));
    daemon.as_mut().unwrap().upgrade(LUNETTE, &["--timeout", "20"]).unwrap();
}

#[test]
fn a_disk_whose_file_is_no_longer_the_one_at_its_path_is_not_exchanged_in_silence() {
    let folder = Folder::new();
    let (image, copy) = (folder.file("disk.img"), folder.file("copy.img"));
    let mut daemon = Some(Daemon::start(LUNETTE, &[&format!("{image},size=8M")]));
    run(async {
        let session = options(daemon.as_ref().unwrap()).connect().await.unwrap();
        let disk = session.unit(1);
        disk.write(0, pattern(0, 1)).await.unwrap();
        // A copy of it with older content, which calls itself the same disk, has taken its place.
        let copied = std::process::Command::new("cp").args(["-a", &image, &copy]).status().unwrap();
        assert!(copied.success());
        disk.write(0, pattern(0, 2)).await.unwrap();
        fs::rename(&image, folder.file("served.img")).unwrap();
        fs::rename(&copy, &image).unwrap();
        let why = upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap_err();
        assert!(why.contains("is not the one that is served") && why.contains("goes on"), "{why}");
        assert_eq!(disk.read(0, 1).await.unwrap(), pattern(0, 2));
        // There is none, and none is made.
        fs::remove_file(&image).unwrap();
        let why = upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap_err();
        assert!(why.contains("does not exist any more, though it is served") && why.contains("goes on"), "{why}");
        assert!(!std::path::Path::new(&image).exists());
        assert_eq!(disk.read(0, 1).await.unwrap(), pattern(0, 2));
        // It is back.
        fs::rename(folder.file("served.img"), &image).unwrap();
        upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap();
        assert_eq!(disk.read(0, 1).await.unwrap(), pattern(0, 2));
        assert_eq!((session.statistics().logins, session.statistics().errors), (0, 0));
    });
}

#[test]
fn a_configuration_that_has_another_disk_at_a_number_that_is_in_use_is_refused() {
    let folder = Folder::new();
    let (one, other) = (folder.file("one.img"), folder.file("other.img"));
    let mut daemon = Some(Daemon::start(LUNETTE, &[&format!("{one},size=8M")]));
    let configured = |name: &str, stores: &[&str]| {
        let path = folder.file(name);
        fs::write(&path, file(daemon.as_ref().unwrap(), TARGET, stores)).unwrap();
        path
    };
    fs::write(&other, vec![0; 8 << 20]).unwrap();
    let exchanged = configured("exchanged.toml", &[&other]);
    let grown = configured("more.toml", &[&one, &other]);
    run(async {
        let session = options(daemon.as_ref().unwrap()).connect().await.unwrap();
        let disk = session.unit(1);
        disk.write(0, pattern(0, 1)).await.unwrap();
        let why = upgrade(&mut daemon, LUNETTE, &["--config", &exchanged, "--timeout", "20"]).await.unwrap_err();
        assert!(why.contains("LUN 1 would be another disk") && why.contains("goes on"), "{why}");
        assert_eq!(disk.read(0, 1).await.unwrap(), pattern(0, 1));
        // One more is no other.
        upgrade(&mut daemon, LUNETTE, &["--config", &grown, "--timeout", "20"]).await.unwrap();
        assert_eq!(disk.read(0, 1).await.unwrap(), pattern(0, 1));
        assert_eq!(session.statistics().logins, 0);
    });
}

#[test]
fn a_disk_that_would_be_smaller_than_initiators_have_it_is_refused() {
    let folder = Folder::new();
    let image = folder.file("disk.img");
    fs::write(&image, vec![0; 8 << 20]).unwrap();
    let mut daemon = Some(Daemon::start(LUNETTE, &[&image]));
    run(async {
        let session = options(daemon.as_ref().unwrap()).connect().await.unwrap();
        let disk = session.unit(1);
        disk.read(8191, 1).await.unwrap();
        let file = fs::File::options().write(true).open(&image).unwrap();
        file.set_len(4 << 20).unwrap();
        let why = upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap_err();
        assert!(why.contains("initiators were told of 16384") && why.contains("goes on"), "{why}");
        // Larger is told to who knows it.
        file.set_len(16 << 20).unwrap();
        upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap();
        let ready = || initiator::Command::new(&[0; 6]).as_is();
        let told = disk.execute(ready()).await.result.unwrap_err();
        assert_eq!(told.scsi().and_then(|error| error.condition()), Some((6, 0x2a, 0x09)), "{told}");
        disk.execute(ready()).await.result.unwrap();
        disk.write(32767, pattern(0, 1)).await.unwrap();
        assert_eq!(session.statistics().logins, 0);
    });
}

#[test]
fn a_new_program_that_stands_still_does_not_keep_the_sessions_and_cannot_serve_them_later() {
    let folder = Folder::new();
    let mut daemon = Some(Daemon::start(LUNETTE, &["ram:64M"]));
    run(async {
        let session = options(daemon.as_ref().unwrap()).connect().await.unwrap();
        let disk = session.unit(1);
        for round in 0..3u64 {
            // Stopped later and later in its course, and awake again when nobody waits for it any more.
            let time = format!("0.{:03}", 20 + round * 15);
            let text = format!(
                "{LUNETTE} \"$@\" & child=$!; sleep {time}; kill -STOP $child; sleep 4; kill -CONT $child; wait $child"
            );
            let stopped = script(&folder, "stopped", &text);
            let blocks: Vec<u8> = (0..64).flat_map(|block| pattern(block, round)).collect();
            disk.write(round * 64, blocks.clone()).await.unwrap();
            let said = upgrade(&mut daemon, &stopped, &["--timeout", "20"]).await;
            assert!(disk.read(round * 64, 64).await.unwrap() == blocks);
            assert_eq!((session.statistics().logins, session.statistics().errors), (0, 0), "round {round}");
            match said {
                // It was quicker.
                Ok(_) => return,
                Err(why) => assert!(why.contains("goes on"), "{why}"),
            }
        }
    });
}
