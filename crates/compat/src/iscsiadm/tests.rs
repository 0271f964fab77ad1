//! What people and scripts see of iscsiadm: text, exit codes, and the records behind it.

use super::testing::Bench;
use super::{Code, Failure};
use crate::records::Manner;
use std::fs;

const TARGET: &str = "iqn.2014-09.com.example:target1";

fn discovered() -> Bench {
    let bench = Bench::new();
    bench.tells(TARGET, &[("192.168.1.11", 3260, 1)]);
    bench.out("--mode discovery --type sendtargets --portal 192.168.1.11 --discover");
    bench
}

fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect()
}

#[test]
fn the_walk_through_reads_as_it_is_written() {
    let bench = Bench::new();
    fs::write(bench.path("iscsid.conf"), "# how-to\nnode.startup = automatic\nnode.conn[0].timeo.login_timeout = 15\n")
        .expect("a file");
    bench.tells(TARGET, &[("192.168.1.11", 3260, 1)]);
    assert_eq!(
        bench.out("--mode discovery --type sendtargets --portal 192.168.1.11 --discover"),
        "192.168.1.11:3260,1 iqn.2014-09.com.example:target1\n"
    );
    let shown = bench.out("--mode node --op show");
    for line in [
        "# BEGIN RECORD 2.1.8",
        "node.name = iqn.2014-09.com.example:target1",
        "node.tpgt = 1",
        "node.startup = automatic",
        "iface.net_ifacename = <empty>",
        "node.discovery_address = 192.168.1.11",
        "node.discovery_type = send_targets",
        "node.session.auth.password = <empty>",
        "node.conn[0].timeo.login_timeout = 15",
        "node.conn[0].iscsi.OFMarker = No",
        "# END RECORD",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert_eq!(names(&shown).len(), 4 + 55 + 48);
    let login = format!("--mode node --targetname {TARGET} --portal 192.168.1.11 --login");
    assert_eq!(
        bench.out(&login),
        "Logging in to [iface: default, target: iqn.2014-09.com.example:target1, portal: 192.168.1.11,3260]\n\
         Login to [iface: default, target: iqn.2014-09.com.example:target1, portal: 192.168.1.11,3260] successful.\n"
    );
    assert_eq!(
        bench.run(&login),
        (
            15,
            String::new(),
            "iscsiadm: default: 1 session requested, but 1 already present.\n\
             iscsiadm: Could not log into all portals\n"
                .to_owned()
        )
    );
    assert_eq!(bench.out("-m session"), "tcp: [1] 192.168.1.11:3260,1 iqn.2014-09.com.example:target1 (non-flash)\n");
    assert_eq!(
        bench.out("-m node -u"),
        "Logging out of session [sid: 1, target: iqn.2014-09.com.example:target1, portal: 192.168.1.11,3260]\n\
         Logout of [sid: 1, target: iqn.2014-09.com.example:target1, portal: 192.168.1.11,3260] successful.\n"
    );
}

#[test]
fn the_older_manner_prints_what_how_tos_show() {
    let mut bench = discovered();
    bench.manner = Manner::V873;
    let shown = bench.out("-m node -o show");
    assert!(shown.starts_with("# BEGIN RECORD 6.2.0-873.10.el6\nnode.name = "), "{shown}");
    // The names of the walk-through's third step on the client, in their order.
    let rest = [
        "node.discovery_address node.discovery_port node.discovery_type",
        "node.session.initial_cmdsn node.session.initial_login_retry_max node.session.xmit_thread_priority",
        "node.session.cmds_max node.session.queue_depth node.session.nr_sessions node.session.auth.authmethod",
        "node.session.auth.username node.session.auth.password node.session.auth.username_in",
        "node.session.auth.password_in node.session.timeo.replacement_timeout",
    ];
    let wanted: Vec<&str> = rest.iter().flat_map(|line| line.split(' ')).collect();
    assert_eq!(names(&shown).get(25..25 + wanted.len()), Some(wanted.as_slice()), "{shown}");
    let out = bench.out("-m node -l");
    assert!(out.starts_with("Logging in to [iface: default, ") && out.contains("3260] (multiple)\n"), "{out}");
    assert_eq!(bench.out("-m session"), "tcp: [1] 192.168.1.11:3260,1 iqn.2014-09.com.example:target1\n");
}

#[test]
fn files_are_where_open_iscsi_looks_for_them() {
    use std::os::unix::fs::MetadataExt;
    let bench = discovered();
    bench.out("-m node -T iqn.b -p [fe80::1]:99 -o new");
    bench.out("-m node -T iqn.c -p 10.0.0.1,2 -o new");
    let mode = |name: &str| fs::metadata(bench.path(name)).expect(name).mode() & 0o7777;
    assert_eq!(mode("nodes/iqn.2014-09.com.example:target1/192.168.1.11,3260,1/default"), 0o600);
    assert_eq!(mode("nodes/iqn.2014-09.com.example:target1/192.168.1.11,3260,1"), 0o700);
    assert_eq!(mode("nodes/iqn.b/fe80::1,99"), 0o600);
    assert_eq!(mode("send_targets/192.168.1.11,3260/st_config"), 0o600);
    let link = |name: &str| fs::read_link(bench.path(name)).expect(name);
    assert_eq!(
        link("send_targets/192.168.1.11,3260/iqn.2014-09.com.example:target1,192.168.1.11,3260,1,default"),
        bench.path("nodes/iqn.2014-09.com.example:target1/192.168.1.11,3260,1")
    );
    assert_eq!(link("static/iqn.c,10.0.0.1,3260,2,default"), bench.path("nodes/iqn.c/10.0.0.1,3260,2"));
    let text = fs::read_to_string(bench.path("nodes/iqn.b/fe80::1,99")).expect("a record");
    assert!(text.starts_with("# BEGIN RECORD 2.1.8\nnode.name = iqn.b\nnode.tpgt = -1\n"), "{text}");
    assert!(text.ends_with("# END RECORD\n") && !text.contains("empty") && !text.contains(" = \n"), "{text}");
    bench.out("-m node -o delete");
    for gone in
        ["nodes/iqn.b", "nodes/iqn.c", "nodes/iqn.2014-09.com.example:target1", "static/iqn.c,10.0.0.1,3260,2,default"]
    {
        assert!(fs::symlink_metadata(bench.path(gone)).is_err(), "{gone} is there");
    }
    assert!(bench.path("nodes").is_dir());
    // Once the tag is known, what was known without it gives way.
    bench.out("-m node -T iqn.b -p 10.0.0.1 -o new");
    bench.out("-m node -T iqn.b -p 10.0.0.1,4 -o new");
    assert_eq!(bench.out("-m node"), "10.0.0.1:3260,4 iqn.b\n");
    let left: Vec<_> =
        fs::read_dir(bench.path("")).expect("the root").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".lunette")), "{left:?}");
}

#[test]
fn records_that_others_wrote_are_used_and_kept() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("nodes/iqn.old")).expect("a directory");
    // The order of 6.2.0-873, the file form with a tag, a field that nobody knows.
    let text = "# BEGIN RECORD 6.2.0-873.10.el6\nnode.name = iqn.old\nnode.tpgt = 1\nnode.startup = automatic\n\
                iface.hwaddress = default\niface.iscsi_ifacename = default\nnode.conn[0].address = 10.0.0.5\n\
                node.conn[0].port = 3260\nnode.conn[0].new_thing = 5\nnode.session.auth.password_length = 3\n# END RECORD\n";
    fs::write(bench.path("nodes/iqn.old/10.0.0.5,3260"), text).expect("a record");
    assert_eq!(bench.out("-m node"), "10.0.0.5:3260,1 iqn.old\n");
    bench.out("-m node -T iqn.old -o update -n node.startup -v onboot");
    let text = fs::read_to_string(bench.path("nodes/iqn.old/10.0.0.5,3260")).expect("a record");
    for line in ["node.startup = onboot", "node.conn[0].new_thing = 5", "iface.hwaddress = default", "node.tpgt = 1"] {
        assert!(text.lines().any(|kept| kept == line), "{line}\n{text}");
    }
    // Nothing of what a program that was killed left in its directory counts.
    fs::write(bench.path("nodes/iqn.old/.swp"), "x").expect("a file");
    fs::write(bench.path("nodes/iqn.old/noise"), "x").expect("a file");
    assert_eq!(bench.out("-m node"), "10.0.0.5:3260,1 iqn.old\n");
}

#[test]
fn nothing_is_21_everywhere() {
    let bench = Bench::new();
    for (line, told) in [
        ("-m node", "iscsiadm: No records found\n"),
        ("-m node -P 1", "iscsiadm: No records found\n"),
        ("-m node -T iqn.x -o delete", "iscsiadm: No records found\n"),
        ("-m node -p 1.2.3.4:abc", "iscsiadm: No records found\n"),
        ("-m node -L onboot", "iscsiadm: No records found\n"),
        ("-m node -u", "iscsiadm: No matching sessions found\n"),
        ("-m node -U all", "iscsiadm: No matching sessions found\n"),
        ("-m node -R", "iscsiadm: No session found.\n"),
        ("-m session", "iscsiadm: No active sessions.\n"),
        ("-m session -P 9", "iscsiadm: No active sessions.\n"),
        ("-m session -u", "iscsiadm: No matching sessions found\n"),
        ("-m session -s", "iscsiadm: No session found.\n"),
        ("-m host", "iscsiadm: No iSCSI hosts.\n"),
        ("-m fw", "iscsiadm: Could not get list of targets from firmware. (err 21)\n"),
        ("-m discovery -t fw", "iscsiadm: Could not get list of targets from firmware. (err 21)\n"),
        ("-m discovery", ""),
        ("-m discovery -P 1", ""),
        ("-m discoverydb", ""),
    ] {
        assert_eq!(bench.fails(line), (21, told.to_owned()), "{line}");
    }
}

#[test]
fn refusals_have_their_words_and_codes() {
    let bench = discovered();
    let all = "iscsiadm: Could not execute operation on all records: invalid parameter";
    for (line, code, told) in [
        ("-m node -P 2", 7, &["iscsiadm: Invalid info level 2. Try 0 or 1."][..]),
        ("-m node -l -u", 7, &["iscsiadm: Invalid parameters. Both login and logout passed in"]),
        ("-m node -o update", 7, &["iscsiadm: update requires name and value"]),
        ("-m node -o update -n node.startup", 7, &["iscsiadm: update requires name and value"]),
        ("-m node -o update -n bogus.name -v x", 7, &["iscsiadm: Cannot modify bogus.name. Invalid param name.", all]),
        (
            "-m node -o update -n node.name -v x",
            7,
            &["iscsiadm: Cannot modify node.name. It is used to look up the record and cannot be changed.", all],
        ),
        (
            "-m node -o update -n node.startup -v wrong",
            7,
            &[
                "iscsiadm: unknown value format 'wrong' for parameter name 'node.startup'",
                "iscsiadm: Unknown parameter node.startup.",
                all,
            ],
        ),
        (
            "-m node -o update -n iface.mtu -v 9000",
            7,
            &["iscsiadm: Cannot modify iface.mtu. Use iface mode to update this value."],
        ),
        ("-m node -I bogus", 3, &["iscsiadm: Could not read iface info for bogus."]),
        ("-m discovery -t st", 7, &["iscsiadm: Please specify portal as <ipaddr>[:<ipport>]"]),
        ("-m discoverydb -t st -p 127.0.0.9", 6, &["iscsiadm: Discovery record [127.0.0.9,3260] not found."]),
        ("-m discovery -t slp -p 127.0.0.9", 7, &["iscsiadm: SLP discovery is not fully implemented yet."]),
        ("-m session -r abc", 1, &["iscsiadm: abc is an invalid session ID or path"]),
        (
            "-m session -r 9",
            22,
            &["iscsiadm: could not read session targetname: 5", "iscsiadm: Could not get session info for sid 9"],
        ),
        ("-m session -o new", 7, &["iscsiadm: session mode: Operation 'new' only allowed with specific session IDs"]),
        ("-m iface -P 2", 7, &["iscsiadm: Invalid info level 2. Try 0 - 1."]),
        ("-m iface -o new", 22, &["iscsiadm: Could not add interface. No interface passed in."]),
        ("-m iface -I x -o update -n iface.mtu -v 1", 7, &["iscsiadm: Could not read iface info for x."]),
        ("-m iface -I x -o update", 7, &["iscsiadm: Update requires name, value, and iface."]),
        (
            "-m iface -I default -o delete",
            7,
            &[
                "iscsiadm: iface default is a special interface and cannot be deleted.",
                "iscsiadm: Could not delete iface default: invalid parameter",
            ],
        ),
    ] {
        assert_eq!(bench.fails(line), (code, told.join("\n") + "\n"), "{line}");
    }
    // A record in use stays.
    bench.out("-m node -l");
    let (code, told) = bench.fails("-m node -o delete");
    assert_eq!(code, 15);
    assert!(told.starts_with("iscsiadm: This command will remove the record [iface: default, target: "), "{told}");
    assert!(told.ends_with("iscsiadm: Could not execute operation on all records: session exists\n"), "{told}");
    assert_eq!(bench.fails("-m session -P 4"), (7, "iscsiadm: Invalid info level 4. Try 0 - 3.\n".to_owned()));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let bench = Bench::new();
    for line in ["-m node -T ../../x -p 1.2.3.4 -o new", "-m node -T iqn.a -p ../x -o new", "-m iface -I ../x -o new"] {
        assert_eq!(bench.run(line).0, 7, "{line}");
    }
    // What a target says is no better.
    bench.tells("../../../tmp/x", &[("1.2.3.4", 3260, 1)]);
    assert_eq!(bench.run("-m discovery -t st -p 1.2.3.4").0, 21);
    assert!(!bench.path("nodes").exists());
}

#[test]
fn a_login_that_fails_tells_the_code_of_the_first() {
    let bench = discovered();
    *bench.puppet.fails.borrow_mut() = Some(Failure::of(Code::AUTHORIZATION));
    assert_eq!(
        bench.fails("-m node -l"),
        (
            24,
            "iscsiadm: Could not login to [iface: default, target: iqn.2014-09.com.example:target1, portal: 192.168.1.11,3260].\n\
             iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)\n\
             iscsiadm: Could not log into all portals\n"
                .to_owned()
        )
    );
    assert_eq!(
        bench.fails("-m discovery -t st -p 192.168.1.11").1,
        "iscsiadm: Could not perform SendTargets discovery: iSCSI login failed due to authorization failure\n"
    );
    *bench.puppet.fails.borrow_mut() = None;
    bench.out("-m node -l");
    *bench.puppet.fails.borrow_mut() = Some(Failure::of(Code::BUSY));
    assert_eq!(
        bench.fails("-m session -r 1 -u"),
        (
            28,
            "iscsiadm: Could not logout of [sid: 1, target: iqn.2014-09.com.example:target1, portal: 192.168.1.11,3260].\n\
             iscsiadm: initiator reported error (28 - device or resource in use)\n\
             iscsiadm: Could not logout of all requested sessions\n"
                .to_owned()
        )
    );
}

#[test]
fn discovery_changes_records_as_far_as_it_was_asked_to() {
    let bench = Bench::new();
    let portals: &[_] = &[("10.0.0.1", 3260, 1), ("fe80::1", 3260, 2)];
    bench.tells("iqn.a", portals);
    assert_eq!(
        bench.out("-m discovery -t st -p 10.0.0.1 -o nonpersistent"),
        "10.0.0.1:3260,1 iqn.a\n[fe80::1]:3260,2 iqn.a\n"
    );
    assert_eq!(bench.run("-m node").0, 21);
    assert_eq!(bench.run("-m discovery").0, 21, "no record of the source either");
    assert_eq!(
        bench.out("-m discovery -t st -p 10.0.0.1 -P 1"),
        "Target: iqn.a\n\tPortal: 10.0.0.1:3260,1\n\t\tIface Name: default\n\tPortal: [fe80::1]:3260,2\n\t\tIface Name: default\n"
    );
    bench.out("-m node -T iqn.a -o update -n node.startup -v automatic");
    // Only new ones.
    bench.tells("iqn.a", &[("10.0.0.1", 3260, 1), ("10.0.0.2", 3260, 1)]);
    bench.out("-m discovery -t st -p 10.0.0.1 -o new");
    assert_eq!(bench.out("-m node").lines().count(), 3);
    assert_eq!(bench.out("-m node -o show").matches("node.startup = automatic").count(), 2);
    // Only those that are gone; one of them has a session, which ends before.
    bench.out("-m node -p [fe80::1] -l");
    let out = bench.out("-m discovery -t st -p 10.0.0.1 -o delete");
    assert!(out.contains("Logout of [sid: 1, target: iqn.a, portal: fe80::1,3260] successful.\n"), "{out}");
    assert_eq!(bench.out("-m node"), "10.0.0.1:3260,1 iqn.a\n10.0.0.2:3260,1 iqn.a\n");
    // All of it: what is there is as iscsid.conf has it.
    bench.out("-m discovery -t st -p 10.0.0.1");
    assert!(!bench.out("-m node -o show").contains("automatic"));
    // Another source takes over; the first has nothing left.
    bench.out("-m discovery -t st -p 10.0.0.2");
    assert_eq!(
        bench.out("-m discovery -P 1"),
        "SENDTARGETS:\nDiscoveryAddress: 10.0.0.1,3260\nDiscoveryAddress: 10.0.0.2,3260\nTarget: iqn.a\n\
         \tPortal: 10.0.0.1:3260,1\n\t\tIface Name: default\n\tPortal: 10.0.0.2:3260,1\n\t\tIface Name: default\n\
         iSNS:\nNo targets found.\nSTATIC:\nNo targets found.\nFIRMWARE:\nNo targets found.\n"
    );
    bench.out("-m discoverydb -t st -p 10.0.0.2 -o delete");
    assert_eq!(bench.run("-m node").0, 21);
    assert_eq!(bench.out("-m discovery"), "10.0.0.1:3260 via sendtargets\n");
}

#[test]
fn discovery_records_are_shown_changed_and_obeyed() {
    let bench = Bench::new();
    assert_eq!(
        bench.out("-m discoverydb -t st -p 127.0.0.1:13477 -o new"),
        "New discovery record for [127.0.0.1,13477] added.\n"
    );
    assert_eq!(bench.out("-m discoverydb"), "127.0.0.1:13477 via sendtargets\n");
    let place = "-m discoverydb -t st -p 127.0.0.1:13477";
    bench.out(&format!("{place} -o update -n discovery.sendtargets.auth.authmethod -v CHAP"));
    bench.out(&format!("{place} -o update -n discovery.sendtargets.auth.password -v secretsecret"));
    assert_eq!(bench.fails(&format!("{place} -o update -n bogus -v x")).0, 7);
    let shown = bench.out(place);
    assert_eq!(
        shown,
        "# BEGIN RECORD 2.1.8\ndiscovery.startup = manual\ndiscovery.type = sendtargets\n\
         discovery.sendtargets.address = 127.0.0.1\ndiscovery.sendtargets.port = 13477\n\
         discovery.sendtargets.auth.authmethod = CHAP\ndiscovery.sendtargets.auth.username = <empty>\n\
         discovery.sendtargets.auth.password = ********\ndiscovery.sendtargets.auth.username_in = <empty>\n\
         discovery.sendtargets.auth.password_in = <empty>\nnode.session.auth.chap_algs = MD5\n\
         discovery.sendtargets.timeo.login_timeout = 15\ndiscovery.sendtargets.use_discoveryd = No\n\
         discovery.sendtargets.discoveryd_poll_inval = 30\ndiscovery.sendtargets.reopen_max = 5\n\
         discovery.sendtargets.timeo.auth_timeout = 45\ndiscovery.sendtargets.timeo.active_timeout = 30\n\
         discovery.sendtargets.iscsi.MaxRecvDataSegmentLength = 32768\n# END RECORD\n"
    );
    assert!(bench.out(&format!("{place} -S")).contains("auth.password = secretsecret\n"));
    bench.tells("iqn.a", &[("127.0.0.1", 13477, 1)]);
    bench.out(&format!("{place} -D"));
    bench.out("-m discovery -t st -p 127.0.0.1:13477");
    let asked: Vec<String> = bench
        .puppet
        .asked
        .borrow()
        .iter()
        .map(|record| record.value("discovery.sendtargets.auth.authmethod").to_owned())
        .collect();
    assert_eq!(asked, ["CHAP", "None"], "discovery is as iscsid.conf says, discoverydb as the record says");
    bench.out("-m discoverydb -t isns -p 127.0.0.9 -o new");
    assert_eq!(
        bench.out("-m discoverydb -t isns -p 127.0.0.9"),
        "# BEGIN RECORD 2.1.8\ndiscovery.startup = manual\ndiscovery.type = isns\ndiscovery.sendtargets.address = 127.0.0.9\n\
         discovery.sendtargets.port = 3205\ndiscovery.isns.use_discoveryd = No\ndiscovery.isns.discoveryd_poll_inval = -1\n\
         # END RECORD\n"
    );
}

#[test]
fn trees_of_sessions_are_as_programs_read_them() {
    let bench = discovered();
    bench.out("-m node -l");
    bench.out("-m session -r 1 -o new");
    let level_3 = bench.out("-m session -P 3");
    let interface = "\t\t**********\n\t\tInterface:\n\t\t**********\n\t\tIface Name: default\n\t\tIface Transport: tcp\n\
                     \t\tIface Initiatorname: iqn.1994-05.com.redhat:abc\n\t\tIface IPaddress: 192.168.1.12\n\
                     \t\tIface HWaddress: <empty>\n\t\tIface Netdev: <empty>\n\t\tSID: N\n\
                     \t\tiSCSI Connection State: LOGGED IN\n\t\tiSCSI Session State: LOGGED_IN\n\
                     \t\tInternal iscsid Session State: NO CHANGE\n";
    let middle = "\t\t*********\n\t\tTimeouts:\n\t\t*********\n\t\tRecovery Timeout: 120\n\t\tTarget Reset Timeout: 30\n\
                  \t\tLUN Reset Timeout: 30\n\t\tAbort Timeout: 15\n\t\t*****\n\t\tCHAP:\n\t\t*****\n\
                  \t\tusername: <empty>\n\t\tpassword: ********\n\t\tusername_in: <empty>\n\t\tpassword_in: ********\n\
                  \t\t************************\n\t\tNegotiated iSCSI params:\n\t\t************************\n\
                  \t\tHeaderDigest: None\n\t\tDataDigest: None\n\t\tMaxRecvDataSegmentLength: 262144\n\
                  \t\tMaxXmitDataSegmentLength: 8192\n\t\tFirstBurstLength: 65536\n\t\tMaxBurstLength: 262144\n\
                  \t\tImmediateData: Yes\n\t\tInitialR2T: Yes\n\t\tMaxOutstandingR2T: 1\n";
    let units = "\t\t************************\n\t\tAttached SCSI devices:\n\t\t************************\n\
                 \t\tHost Number: H\tState: running\n\t\tscsiH Channel 00 Id 0 Lun: 0\n\t\tscsiH Channel 00 Id 0 Lun: 1\n\
                 \t\t\tAttached scsi disk sdb\t\tState: running\n";
    let top = "Target: iqn.2014-09.com.example:target1 (non-flash)\n\tCurrent Portal: 192.168.1.11:3260,1\n\
               \tPersistent Portal: 192.168.1.11:3260,1\n";
    let of = |text: &str, id: u32| text.replace("SID: N", &format!("SID: {id}"));
    let whole = |id: u32, host: u32| {
        let units = units.replace("scsiH", &format!("scsi{host}")).replace("Number: H", &format!("Number: {host}"));
        of(interface, id) + middle + &units
    };
    let head = "iSCSI Transport Class version 2.0-870\nversion 2.1.8\n";
    assert_eq!(level_3, format!("{head}{top}{}\n{}", whole(1, 3), whole(2, 4)));
    assert_eq!(bench.out("-m session -P 1"), format!("{top}{}\n{}", of(interface, 1), of(interface, 2)));
    assert_eq!(bench.out("-m session -r 2 -P 2"), format!("{top}{}{middle}", of(interface, 2)));
    let shown = bench.out("-m session -r 1 -P 2 -S");
    assert!(shown.contains("\t\tusername_in: <empty>\n\t\tpassword: <empty>\n"), "{shown}");
    assert_eq!(
        bench.out("-m session -r 1 -s"),
        "Stats for session [sid: 1, target: iqn.2014-09.com.example:target1, portal: 192.168.1.11,3260]\niSCSI SNMP:\n\
         \ttxdata_octets: 7\n\trxdata_octets: 7\niSCSI Extended:\n\teh_abort_cnt: 7\n"
    );
    assert_eq!(
        bench.out("-m host"),
        "tcp: [3] 192.168.1.12,[<empty>],<empty> <empty>\ntcp: [4] 192.168.1.12,[<empty>],<empty> <empty>\n"
    );
    let host = bench.out("-m host -P 4");
    assert!(host.contains("Host Number: 3\n\tState: running\n\tTransport: tcp\n\tInitiatorname: <empty>\n"), "{host}");
    assert!(
        host.contains("\n\t\t\tscsi3 Channel 00 Id 0 Lun: 1\n\t\t\t\tAttached scsi disk sdb\t\tState: running\n"),
        "{host}"
    );
    assert!(bench.out("-m session -r /sys/devices/platform/host3/session1/target3:0:0").starts_with("# BEGIN RECORD"));
}

#[test]
fn interfaces_are_made_bound_changed_and_removed() {
    let bench = Bench::new();
    assert_eq!(
        bench.out("-m iface"),
        "default tcp,<empty>,<empty>,<empty>,<empty>\niser iser,<empty>,<empty>,<empty>,<empty>\n"
    );
    assert_eq!(bench.out("-m iface -I eth -o new"), "eth updated.\nNew interface eth added\n");
    assert_eq!(bench.out("-m iface -I eth -o update -n iface.net_ifacename -v eth0"), "eth updated.\n");
    assert_eq!(bench.out("-m iface -I eth -o update -n iface.initiatorname -v iqn.a:b"), "eth updated.\n");
    assert_eq!(bench.out("-m iface").lines().next(), Some("eth tcp,<empty>,<empty>,eth0,iqn.a:b"));
    let (code, _, told) = bench.run("-m iface -I eth -o update -n iface.hwaddress -v 00:11:22:33:44:55");
    assert_eq!(code, 0, "so iscsiadm does");
    assert!(told.starts_with("iscsiadm: Can not update interface binding from net_ifacename to hwaddress."), "{told}");
    // What is discovered is seen through what somebody bound.
    bench.tells("iqn.a", &[("10.0.0.1", 3260, 1)]);
    bench.out("-m discovery -t st -p 10.0.0.1");
    assert!(bench.path("nodes/iqn.a/10.0.0.1,3260,1/eth").is_file());
    bench.out("-m discovery -t st -p 10.0.0.1 -I eth -I default");
    assert_eq!(bench.out("-m node").lines().count(), 2);
    assert_eq!(
        bench.out("-m iface -P 1"),
        "Iface: eth\n\tTarget: iqn.a\n\t\tPortal: 10.0.0.1:3260,1\nIface: default\n\tTarget: iqn.a\n\
         \t\tPortal: 10.0.0.1:3260,1\nIface: iser\n"
    );
    bench.out("-m iface -I eth -o update -n iface.mtu -v 9000");
    assert!(bench.out("-m node -I eth -o show").contains("iface.mtu = 9000\n"), "records follow their interface");
    let shown = bench.out("-m iface -I eth");
    assert_eq!(names(&shown).len(), 55, "{shown}");
    assert_eq!(bench.out("-m iface -I eth -o delete"), "eth unbound and deleted.\n");
    assert_eq!(bench.out("-m node"), "10.0.0.1:3260,1 iqn.a\n");
    assert_eq!(bench.run("-m iface -I eth").0, 6);
}

#[test]
fn startup_says_who_is_logged_in_together() {
    let bench = Bench::new();
    bench.tells("iqn.a", &[("10.0.0.1", 3260, 1), ("10.0.0.2", 3260, 1)]);
    bench.out("-m discovery -t st -p 10.0.0.1");
    bench.out("-m node -p 10.0.0.1 -o update -n node.startup -v automatic");
    bench.out("-m node -T iqn.b -p 10.0.0.3 -o new");
    bench.out("-m node -T iqn.b -o update -n node.startup -v onboot");
    bench.out("-m node -L automatic");
    assert_eq!(bench.puppet.sessions.borrow().len(), 1);
    bench.out("-m node -L onboot");
    bench.out("-m node -L manual");
    assert_eq!(bench.puppet.sessions.borrow().len(), 3);
    bench.out("-m node -U all");
    assert_eq!(bench.out("-m session"), "tcp: [2] 10.0.0.3:3260,1 iqn.b (non-flash)\n", "what was booted from stays");
    // Several sessions of a record; one of a target with leading logins.
    bench.out("-m node -U onboot");
    bench.out("-m node -p 10.0.0.1 -o update -n node.session.nr_sessions -v 3");
    bench.out("-m node -p 10.0.0.1 -l");
    assert_eq!(bench.puppet.sessions.borrow().len(), 3);
    bench.out("-m session -u");
    bench.out("-m node -T iqn.a -o update -n node.leading_login -v Yes -n node.startup -v automatic -n node.session.nr_sessions -v 1");
    bench.out("-m node -L automatic");
    assert_eq!(bench.puppet.sessions.borrow().len(), 1);
}

#[test]
fn changes_are_all_or_nothing_for_a_record_and_secrets_stay_hidden() {
    let bench = discovered();
    bench.out("-m node -o update -n node.session.auth.authmethod -v CHAP -n node.session.auth.username -v me -n node.session.auth.password -v verysecret12");
    assert!(bench.out("-m node -o show").contains("node.session.auth.password = ********\n"));
    assert!(bench.out("-m node -o show -S").contains("node.session.auth.password = verysecret12\n"));
    assert_eq!(bench.run("-m node -o update -n node.startup -v onboot -n bogus -v 1").0, 7);
    assert!(bench.out("-m node -o show").contains("node.startup = manual\n"), "nothing of it was done");
    let (code, _, told) = bench.run("-m node -o update -n node.session.auth.chap_algs -v bogus");
    assert_eq!(
        (code, told.as_str()),
        (0, "iscsiadm: Ignoring unknown value 'bogus' for 'node.session.auth.chap_algs'\n")
    );
}

#[test]
fn our_name_is_made_once() {
    let bench = discovered();
    let text = fs::read_to_string(bench.path("initiatorname.iscsi")).expect("a name");
    let name = text.lines().find_map(|line| line.strip_prefix("InitiatorName=")).expect("a name");
    assert!(name.starts_with("iqn.2016-04.com.open-iscsi:") && name.len() == 27 + 12, "{name}");
    bench.out("-m discovery -t st -p 192.168.1.11");
    assert_eq!(fs::read_to_string(bench.path("initiatorname.iscsi")).expect("a name"), text);
}

#[test]
fn what_the_firmware_booted_from_is_shown_and_logged_in() {
    let bench = Bench::new();
    let fields = [
        ("iface.initiatorname", "iqn.boot:me"),
        ("iface.transport_name", "tcp"),
        ("node.name", "iqn.boot:disk"),
        ("node.conn[0].address", "10.0.0.1"),
        ("node.conn[0].port", "3260"),
    ];
    let target = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    *bench.puppet.booted.borrow_mut() = vec![target];
    assert_eq!(
        bench.out("-m fw"),
        "# BEGIN RECORD 2.1.8\niface.initiatorname = iqn.boot:me\niface.transport_name = tcp\nnode.name = iqn.boot:disk\n\
         node.conn[0].address = 10.0.0.1\nnode.conn[0].port = 3260\n# END RECORD\n"
    );
    assert_eq!(bench.out("-m discovery -t fw"), "10.0.0.1:3260,1 iqn.boot:disk\n");
    bench.out("-m fw -l -n node.session.queue_depth -v 64");
    assert_eq!(bench.puppet.sessions.borrow().len(), 1);
    assert_eq!(bench.run("-m node").0, 21, "no record comes of it");
}

#[test]
fn many_at_once_lose_nothing_and_leave_no_lock() {
    let bench = Bench::new();
    let database = bench.database();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let database = &database;
            scope.spawn(move || {
                let iface = database.iface("default").expect("the interface");
                let defaults = database.defaults(crate::records::Class::Node).expect("defaults");
                for number in 0..10_u16 {
                    let address = format!("10.0.{worker}.1");
                    let portal = crate::records::Portal { address, port: 3260 + number, tag: 1 };
                    let node = crate::records::Node::new(&defaults, "iqn.a", &portal, &iface).expect("a node");
                    database.add_node(&node).expect("added");
                }
            });
        }
    });
    assert_eq!(bench.out("-m node").lines().count(), 40);
    assert!(!bench.path(".lock/lock.write").exists());
    // Whoever was killed while writing left this; it is nobody's record and goes with the next change.
    fs::write(bench.path(".lunette-1"), "half").expect("a file");
    bench.out("-m node -o delete");
    assert!(!bench.path(".lunette-1").exists());
}
