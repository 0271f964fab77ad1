//! Bad input and bad weather: nobody there, the wrong secret, a disk that is not shown, a target that lies. One
//! line each, the right exit code, and never a hang.

use super::help::{LUNETTE, command, fails, refused, run};
use sim::Daemon;
use sim::daemon::{Folder, TARGET, free_address};
use sim::scripted::{Accepts, Server, Target};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

#[test]
fn nobody_there_is_one_line_and_exit_code_3() {
    let folder = Folder::new();
    let closed = format!("iscsi://{}/{TARGET}/0", free_address());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("iscsi://{}/{TARGET}/0", silent.local_addr().unwrap());
    let unknown = format!("iscsi://no-such-host.invalid/{TARGET}/0");
    let begun = Instant::now();
    for (url, says) in
        [(&closed, "refused"), (&unknown, "cannot find the host no-such-host.invalid"), (&silent, "within 1s")]
    {
        for words in [
            &["ls", url][..],
            &["discover", url],
            &["capacity", url],
            &["inquiry", url],
            &["copy", url, "file"],
            &["dump", url],
            &["reserve", "show", url],
            &["ping", url],
            &["perf", url],
        ] {
            let said = fails(&folder, &[words, &["--timeout", "1"]].concat(), 3);
            assert!(said.contains(says), "{words:?}: {said}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(!folder.path().join("file").exists(), "nothing is left of what failed");
    // A target that lets nobody be heard is gone while somebody copies to it too.
    std::fs::write(folder.path().join("a"), [1; 4096]).unwrap();
    fails(&folder, &["copy", "a", &closed], 3);
}

#[test]
fn a_wrong_address_is_one_line_and_exit_code_2() {
    let folder = Folder::new();
    let somewhere = format!("iscsi://127.0.0.1/{TARGET}");
    for (words, says) in [
        (&["capacity", "disk"][..], "begins with iscsi://"),
        (&["capacity", "iscsi://127.0.0.1"], "there is no target in it"),
        (&["capacity", &somewhere], "there is no LUN in it"),
        (&["ls", "127.0.0.1:99999"], "port"),
        (&["ls", "::1:x"], "in brackets"),
        (&["inquiry", "iscsi://127.0.0.1/t/0?digest=1"], "no argument digest"),
        (&["ls", "iscsi://alice@127.0.0.1"], "there is no secret of alice"),
        (&["ls", "127.0.0.1", "--initiator-name", "me"], "--initiator-name me"),
        (&["ls", "127.0.0.1", "--timeout", "0"], "--timeout"),
    ] {
        let said = fails(&folder, words, 2);
        assert!(said.contains(says), "{words:?}: {said}");
    }
}

#[test]
fn who_one_is_decides_and_no_secret_is_shown() {
    let folder = Folder::new();
    let environment = [("LUNETTE_CHAP_SECRET", "alice-secret-12"), ("LUNETTE_CHAP_MUTUAL_SECRET", "target-secret-12")];
    let arguments = ["--chap", "alice", "--chap-mutual", "disk"];
    let daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &arguments, &environment);
    let portal = daemon.address();
    let url = |who: &str, more: &str| format!("iscsi://{who}{portal}/{TARGET}/1{more}");
    let mutual = "?target_user=disk&target_password=";
    for (url, code) in [
        (url("alice%alice-secret-12@", ""), 0),
        (url("alice:alice-secret-12@", &format!("{mutual}target-secret-12&auth=sha-256")), 0),
        (url("", ""), 4),
        (url("alice%hush-hush-hush@", ""), 4),
        (url("bob%alice-secret-12@", ""), 4),
        (url("alice%alice-secret-12@", &format!("{mutual}hush-hush-hush")), 4),
    ] {
        let words = ["capacity", "--bytes", &url];
        let output = run(&folder, &words);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hush-hush"), "{url}");
        match code {
            0 => assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr)),
            code => drop(refused(output, &words, code)),
        }
    }
    // From a file, and from the environment.
    let file = folder.file("secret");
    std::fs::write(&file, "alice-secret-12\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let named = url("alice@", "");
    assert!(run(&folder, &["capacity", &named, "--secret-file", &file]).status.success());
    let plain = url("", "");
    for (name, secret) in
        [("LIBISCSI_CHAP_USERNAME", "LIBISCSI_CHAP_PASSWORD"), ("LUNETTE_CHAP_USER", "LUNETTE_CHAP_SECRET")]
    {
        let mut command = command(&folder, &["capacity", &plain]);
        assert!(command.env(name, "alice").env(secret, "alice-secret-12").output().unwrap().status.success(), "{name}");
    }
}

#[test]
fn what_is_not_there_or_not_for_us_is_exit_code_5() {
    let folder = Folder::new();
    let daemon = Daemon::configured(
        LUNETTE,
        r#"
[daemon]
state-dir = "FOLDER/state"
threads = 1
[[portal]]
listen = "127.0.0.1:0"
[[target]]
name = "iqn.2026-01.org.example:disk"
[[target.lun]]
number = 1
store = "ram:1M"
[[target.lun]]
number = 2
store = "ram:2M"
[[target.rule]]
initiators = "iqn.2026-01.org.example:client"
luns = [1]
[[target]]
name = "iqn.2026-01.org.example:other"
[[target.lun]]
store = "ram:1M"
[[target.rule]]
initiators = "iqn.2026-01.org.example:somebody"
"#,
    );
    let portal = daemon.address();
    let us = ["--initiator-name", "iqn.2026-01.org.example:client"];
    let url = |target: &str, lun: u16| format!("iscsi://{portal}/iqn.2026-01.org.example:{target}/{lun}");
    for url in [url("disk", 2), url("disk", 9)] {
        for words in [&["capacity", &url][..], &["inquiry", &url], &["ls", &url], &["dump", &url], &["copy", &url, "x"]]
        {
            let said = fails(&folder, &[words, &us].concat(), 5);
            assert!(said.contains("there is no such LUN, or it is not shown"), "{words:?}: {said}");
        }
    }
    for url in [url("other", 0), url("none", 0)] {
        let said = fails(&folder, &[&["capacity", url.as_str()][..], &us].concat(), 5);
        assert!(said.contains("no such target, or not for this initiator"), "{said}");
    }
    let listed =
        String::from_utf8(run(&folder, &[&["ls", "--urls", &portal.to_string()][..], &us].concat()).stdout).unwrap();
    assert_eq!(listed, format!("{}\n", url("disk", 1)), "what is masked is not listed");
}

/// Data, or sense data.
type Answer = Result<Vec<u8>, [u8; 3]>;

/// A target whose units answer each command as `answer` says.
fn liar(answer: impl Fn(&[u8; 16]) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |_, mut target: Target<TcpStream>| {
        target.login(&Accepts::default());
        while let Ok(frame) = target.receive() {
            if let Some(command) = frame.view::<iscsi::wire::ScsiCommand>().copied() {
                target.exp_cmd_sn = target.exp_cmd_sn.max(command.cmd_sn.get().wrapping_add(1));
                let (tag, expected) = (command.initiator_task_tag.get(), command.expected_data_transfer_length.get());
                match answer(&command.cdb) {
                    Ok(mut data) => {
                        data.truncate(expected as usize);
                        let residual = expected - data.len() as u32;
                        short_read(&mut target, tag, &data, residual);
                    }
                    Err([key, code, qualifier]) => {
                        let sense = [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0];
                        target.check_condition(tag, &sense);
                    }
                }
            } else if let Some(request) = frame.view::<iscsi::wire::LogoutRequest>().copied() {
                target.logged_out(&request, 0);
            }
        }
    })
}

/// Data-In with status and a residual count.
fn short_read(target: &mut Target<TcpStream>, tag: u32, data: &[u8], residual: u32) {
    use iscsi::wire::{DataIn, FINAL, Pdu, RESERVED_TAG};
    let mut header = DataIn::empty();
    header.flags = FINAL | 0x01 | if residual > 0 { 0x02 } else { 0 };
    header.initiator_task_tag = tag.into();
    header.target_transfer_tag = RESERVED_TAG.into();
    header.residual_count = residual.into();
    target.say(header, data);
}

/// INQUIRY data of a disk.
fn standard() -> Vec<u8> {
    let mut data = vec![0, 0, 6, 2, 31, 0, 0, 2];
    data.extend(b"LIAR    DISK            0001");
    data
}

#[test]
fn a_target_that_lies_in_its_lengths_is_found_out() {
    let folder = Folder::new();
    let number = |cdb: &[u8; 16]| (cdb[0], cdb[1] & 0x1f, cdb[2]);
    let honest = move |cdb: &[u8; 16]| match number(cdb) {
        (0x12, 0, _) => Ok(standard()),
        (0xa0, ..) => Ok([&[0, 0, 0, 8, 0, 0, 0, 0][..], &[0; 8]].concat()),
        (0x9e, 0x10, _) => Ok([&[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 2, 0][..], &[0; 20]].concat()),
        _ => Err([5, 0x20, 0]),
    };
    type Lie = Box<dyn Fn(&[u8; 16]) -> Option<Answer> + Send + Sync>;
    let lies: Vec<(&[&str], &str, Lie)> = vec![
        // A disk of 2^64 blocks, one with blocks of no bytes, half an answer.
        (&["capacity"], "capacity that cannot be", Box::new(move |cdb| (cdb[0] == 0x9e).then(|| Ok(vec![0xff; 32])))),
        (&["capacity"], "capacity that cannot be", Box::new(move |cdb| (cdb[0] == 0x9e).then(|| Ok(vec![0; 32])))),
        (&["capacity"], "capacity that cannot be", Box::new(move |cdb| (cdb[0] == 0x9e).then(|| Ok(vec![0; 9])))),
        // A page that is longer than what comes of it, and another page than was asked for.
        (
            &["inquiry", "--page", "80"],
            "VPD page 80h of 65535 bytes with 8",
            Box::new(move |cdb| (cdb[1] == 1).then(|| Ok(vec![0, 0x80, 0xff, 0xff, 1, 2, 3, 4]))),
        ),
        (
            &["inquiry", "--page", "80"],
            "VPD page 83h where 80h was asked for",
            Box::new(move |cdb| (cdb[1] == 1).then(|| Ok(vec![0, 0x83, 0, 4, 1, 2, 3, 4]))),
        ),
        (&["inquiry"], "", Box::new(move |cdb| (cdb[0] == 0x12).then(|| Ok(vec![0, 0, 6])))),
        (&["reserve", "keys"], "ReadKeys that is cut", Box::new(move |cdb| (cdb[0] == 0x5e).then(|| Ok(vec![0; 5])))),
        // Data that was asked for and did not come.
        (&["dump"], "0 of 512 bytes", Box::new(move |cdb| (cdb[0] == 0x88).then(|| Ok(Vec::new())))),
        (&["dump"], "100 of 512 bytes", Box::new(move |cdb| (cdb[0] == 0x88).then(|| Ok(vec![1; 100])))),
        (&["dump"], "MEDIUM ERROR", Box::new(move |cdb| (cdb[0] == 0x88).then_some(Err([3, 0x11, 0])))),
    ];
    for (words, says, lie) in lies {
        let server = liar(move |cdb| lie(cdb).unwrap_or_else(|| honest(cdb)));
        let url = server.url(&format!("{TARGET}/0"));
        let words = [words, &[&url, "--timeout", "5", "--replacement-timeout", "0"]].concat();
        let output = run(&folder, &words);
        let code = output.status.code().unwrap();
        assert!([1, 5].contains(&code), "{words:?}: {code} {}", String::from_utf8_lossy(&output.stderr));
        let said = refused(output, &words, code);
        assert!(said.contains(says), "{words:?}: {said}");
    }
    // A copy that fails before anything of it is whole leaves nothing.
    let server = liar(move |cdb| if cdb[0] == 0x88 { Err([3, 0x11, 0]) } else { honest(cdb) });
    let url = server.url(&format!("{TARGET}/0"));
    assert!(fails(&folder, &["copy", &url, "new"], 1).contains("reading at byte 0: MEDIUM ERROR"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // A list of LUNs that announces 4 GiB: what came is shown, and no memory is asked for.
    let server = liar(move |cdb| match cdb[0] {
        0xa0 => Ok([&[0xff, 0xff, 0xff, 0xf8, 0, 0, 0, 0][..], &[0; 8]].concat()),
        _ => honest(cdb),
    });
    let url = format!("iscsi://{}/{TARGET}", server.address());
    let listed = String::from_utf8(run(&folder, &["ls", &url]).stdout).unwrap();
    assert!(listed.contains("LIAR") && listed.contains("4 KiB"), "{listed}");
}
