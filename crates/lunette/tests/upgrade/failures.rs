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
        let text = format!(
            "[[targets]]\nname = \"iqn.2026-01.org.example:other\"\n[[targets.luns]]\nstore = \"ram:1M\"\n[[portals]]\naddress = \"{}\"\n",
            daemon.as_ref().unwrap().address()
        );
        fs::write(&other, text).unwrap();
        let why = upgrade(&mut daemon, LUNETTE, &["--config", &other]).await.unwrap_err();
        assert!(why.contains("goes on"), "{why}");
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
