//! Persistent reservations by the command: every action, and what it says of it.

use super::help::{LUNETTE, fails, good, json, url};
use sim::Daemon;
use sim::daemon::Folder;

const A: &str = "80aaaaaaaaaa";
const B: &str = "80bbbbbbbbbb";

#[test]
fn one_run_uses_what_another_registered_and_others_are_kept_out() {
    let folder = Folder::new();
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let disk = url(&daemon, 1);
    let act =
        |isid: &str, words: &[&str]| json(&folder, &[&["reserve"], words, &[&disk, "--isid", isid, "--json"]].concat());
    let refuse = |isid: &str, words: &[&str], code: i32| {
        fails(&folder, &[&["reserve"], words, &[&disk, "--isid", isid]].concat(), code)
    };
    assert_eq!(act(A, &["show"])["reservation"], serde_json::Value::Null);
    let registered = act(A, &["register", "--key", "0xabc"]);
    assert_eq!(registered["registrations"][0]["key"], "0xabc");
    assert_eq!(registered["registrations"][0]["isid"], A);
    act(B, &["register", "--key", "0xdef"]);
    let status = act(A, &["reserve", "--key", "0xabc", "--type", "write-exclusive"]);
    let holders: Vec<_> =
        status["registrations"].as_array().unwrap().iter().filter(|one| !one["holds"].is_null()).collect();
    assert_eq!((holders.len(), &holders[0]["isid"], &holders[0]["holds"]), (1, &A.into(), &"write-exclusive".into()));

    assert!(refuse(B, &["reserve", "--key", "0xdef", "--type", "we"], 6).contains("RESERVATION CONFLICT"));
    assert!(refuse(B, &["clear", "--key", "0x1"], 6).contains("RESERVATION CONFLICT"), "the key is not its own");
    // Whoever is not registered does not write either, and is told so in the same way.
    std::fs::write(folder.path().join("a"), [7; 4096]).unwrap();
    assert!(fails(&folder, &["copy", "a", &disk], 6).contains("RESERVATION CONFLICT"));

    let shown = good(&folder, &["reserve", "show", &disk]);
    assert!(shown.contains("write-exclusive of key 0xabc") && shown.contains(&format!("i,0x{B}")), "{shown}");
    let keys = act(B, &["keys"]);
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    act(B, &["preempt", "--key", "0xdef", "--victim", "0xabc", "--type", "ea", "--abort"]);
    assert_eq!(
        act(B, &["reservation"])["reservation"],
        serde_json::json!({ "key": "0xdef", "type": "exclusive-access" })
    );
    act(B, &["release", "--key", "0xdef", "--type", "ea"]);
    assert_eq!(act(B, &["unregister", "--key", "0xdef"])["registrations"], serde_json::json!([]));

    act(A, &["register", "--key", "1", "--ignore-existing"]);
    act(A, &["reserve", "--key", "1", "--type", "wear"]);
    assert_eq!(act(A, &["reservation"])["reservation"]["type"], "write-exclusive-all-registrants");
    assert_eq!(act(A, &["clear", "--key", "1"])["registrations"], serde_json::json!([]));
    assert_eq!(act(A, &["capabilities"])["types"].as_array().unwrap().len(), 6);
}

#[test]
fn a_registration_is_this_machines_until_another_port_takes_it_over() {
    let folder = Folder::new();
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let disk = url(&daemon, 1);
    let act = |words: &[&str]| json(&folder, &[&["reserve"], words, &[&disk, "--json"]].concat());
    // Without an ISID each run is the same initiator port.
    let name = act(&["register", "--key", "5"])["registrations"][0]["initiator"].as_str().unwrap().to_owned();
    act(&["reserve", "--key", "5", "--type", "ea"]);
    let port = format!("{name},i,0x{B}");
    let moved = act(&["move", "--key", "5", "--type", "ea", "--to", &port, "--new-key", "6", "--unregister"]);
    let all = moved["registrations"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["isid"], &all[0]["holds"]), (1, &B.into(), &"exclusive-access".into()));
    let other = json(&folder, &["reserve", "clear", &disk, "--key", "6", "--isid", B, "--json"]);
    assert_eq!(other["registrations"], serde_json::json!([]));
    assert!(fails(&folder, &["reserve", "reserve", &disk, "--key", "x", "--type", "ea"], 2).contains("64 bits"));
    assert!(
        fails(&folder, &["reserve", "reserve", &disk, "--key", "1", "--type", "mine"], 2).contains("write-exclusive")
    );
}
