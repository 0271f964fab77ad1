//! Golden tests of what a configuration file is taken for, and of what is said of a wrong one.

use super::*;
use iscsi::login::Status;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use target::{NoRule, Rule};

pub const WHOLE: &str = r#"
[log]
format = "json"
level = "debug"

[daemon]
threads = 2
io-engine = "pool"
state-dir = "/var/lib/lunette"
access-management = "implicit"

[limits]
sessions = 100
login-time = "5s"
nop-interval = 30

[isns]
server = "isns.example.org"
period = 60
notify-port = 3206

[[portal]]
listen = "192.0.2.7"
advertise = "nas.example.org:13260"

[[portal]]
listen = "[2001:db8::7]:3261"
group = 2

[[group]]
number = 2
state = "non-optimized"
preferred = true

[chap]
algorithms = ["SHA-256", "sha3-256"]

[account.alice]
secret-env = "PATH"

[account."target of the cluster"]
user = "target"
secret-env = "CARGO_MANIFEST_DIR"

[discovery]
open = true

[[target]]
name = "IQN.2026-11.com.example:Disk"
alias = "the cluster's"
groups = [2]
accounts = ["alice"]
mutual = "target of the cluster"
redirect = "192.0.2.8"

[[target.lun]]
store = "ram:1M"

[[target.lun]]
number = 1
store = "ram:2M,block=4096"
serial = "S2"
removable = true

[[target.rule]]
initiators = "iqn.1993-08.org.debian:01:abc"
addresses = ["192.0.2.0/24", "2001:db8::9"]
luns = [2, { lun = 1, as = 0, read-only = true }]

[[target.rule]]
initiators = ["iqn.2026-01.com.example:*", "eui.0123456789abcdef"]
accounts = []
read-only = true
redirect = { address = "[2001:db8::8]:1", permanent = true }

[[target.rule]]
initiators = "any"
"#;

fn read(text: &str) -> Result<(Configuration, Vec<String>), String> {
    parse("lunette.toml", text, Path::new("/nowhere")).map_err(|failure| failure.to_string())
}

fn label(rule: Result<&Arc<Rule>, NoRule>) -> String {
    rule.map(|rule| rule.label.clone()).unwrap_or_default()
}

#[test]
fn a_whole_file_becomes_the_model() {
    let (read, warnings) = read(WHOLE).unwrap();
    assert_eq!(warnings, [] as [String; 0]);
    assert_eq!((read.log_format, read.log_level, read.threads), (Format::Json, "debug", Some(2)));
    assert!(read.io_engine == Choice::Pool && read.access_management == TargetPortGroupSupport::Implicit);
    assert_eq!((read.limits.sessions, read.limits.login_time.as_secs()), (100, 5));
    assert_eq!(read.limits.session.nop_interval.as_secs(), 30);
    let server = IsnsSettings { server: "isns.example.org:3205".into(), entity: None, period: 60 };
    assert_eq!(read.isns, Some(Isns { settings: server, notify: Some(3206) }));
    let listens: Vec<_> = read
        .listens
        .iter()
        .map(|one| (one.address.to_string(), one.group, one.advertise.as_ref().map(ToString::to_string)))
        .collect();
    assert_eq!(
        listens,
        [("192.0.2.7:3260".into(), 1, Some("nas.example.org:13260".into())), ("[2001:db8::7]:3261".into(), 2, None)]
    );
    let second = GroupSettings { number: 2, state: AccessState::ActiveNonOptimized, preferred: true };
    assert_eq!(read.groups, [GroupSettings::new(1), second]);
    assert_eq!(read.algorithms, [Algorithm::Sha256, Algorithm::Sha3_256]);
    assert_eq!(read.discovery, Discovery::Open);
    let [target] = &read.targets[..] else { panic!("one target") };
    assert_eq!(
        (target.name.as_str(), target.alias.as_deref()),
        ("iqn.2026-11.com.example:disk", Some("the cluster's"))
    );
    assert_eq!(target.groups, [2]);
    let disks: Vec<_> = target.disks.iter().map(|disk| (disk.number, disk.address.as_str(), disk.removable)).collect();
    assert_eq!(disks, [(1, "ram:2M,block=4096", true), (2, "ram:1M", false)]);
    let [first, second, third] = &target.rules[..] else { panic!("three rules") };
    let shown: Vec<_> = first.units.iter().flatten().map(|unit| (unit.number, unit.shown_as, unit.read_only)).collect();
    assert_eq!(shown, [(1, 0, true), (2, 2, false)]);
    let chap = first.rule.chap.as_ref().unwrap();
    assert_eq!(chap.accounts[0].user, "alice");
    assert_eq!(chap.own.as_ref().unwrap().user, "target");
    assert_eq!(first.rule.redirection.as_ref().unwrap().address, "192.0.2.8:3260");
    assert_eq!(first.rule.redirection.as_ref().unwrap().status, Status::MOVED_TEMPORARILY);
    assert!(second.rule.chap.is_none() && second.read_only && second.units.is_none());
    assert_eq!(second.rule.redirection.as_ref().unwrap().status, Status::MOVED_PERMANENTLY);
    assert_eq!(second.rule.redirection.as_ref().unwrap().address, "[2001:db8::8]:1");
    let access = target::Access { rules: [first, second, third].map(|plan| Arc::new(plan.rule.clone())).into() };
    let at = |address: &str| address.parse::<IpAddr>().unwrap();
    let debian = "iqn.1993-08.org.debian:01:abc";
    assert_eq!(label(access.decide(debian, at("192.0.2.9"))), "the rule at lunette.toml:65:1");
    assert_eq!(label(access.decide("iqn.2026-01.com.example:a", at("10.0.0.1"))), "the rule at lunette.toml:70:1");
    assert_eq!(label(access.decide(debian, at("10.0.0.1"))), "the rule at lunette.toml:76:1");
}

#[test]
fn nam_05_what_is_not_said_is_as_on_the_command_line_but_nobody_is_admitted() {
    let (read, warnings) = read("[[target]]\nname = \"iqn.2026-11.com.example:disk\"\n").unwrap();
    assert_eq!(read.listens[0].address.to_string(), "127.0.0.1:3260");
    assert_eq!(read.discovery, Discovery::AsTargets { own: None });
    assert_eq!(read.targets[0].groups, [1]);
    assert!(read.targets[0].rules.is_empty());
    let help = "add [[target.rule]] with initiators = \"iqn…\", or \"any\"";
    assert_eq!(
        warnings,
        [format!("lunette.toml:1:1: iqn.2026-11.com.example:disk has no rule and admits nobody; {help}")]
    );
}

/// Every case of the golden file: a name, a file, and what is said of it.
#[test]
fn what_is_wrong_is_told_with_its_place_and_a_way_out() {
    let cases = include_str!("cases.txt");
    let mut said = String::new();
    let mut wrong = Vec::new();
    for case in cases.split("=== ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (text, wanted) = rest.split_once("---\n").unwrap();
        let answer = match read(text) {
            Ok((_, warnings)) => warnings.join("\n"),
            Err(error) => error,
        };
        if wanted.trim_end() != answer {
            wrong.push(format!("{name}:\n{answer}"));
        }
        let _ = write!(said, "=== {name}\n{text}---\n{answer}\n");
    }
    if std::env::var_os("LUNETTE_WRITE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/configuration/file/cases.txt");
        std::fs::write(path, &said).unwrap();
    }
    assert!(wrong.is_empty(), "{}\nLUNETTE_WRITE=1 writes the golden file anew", wrong.join("\n"));
}

#[test]
fn nam_01_chp_14_two_accounts_with_one_secret_are_told_and_one_for_both_directions_is_refused() {
    let file = |accounts: &str, own: &str| {
        format!(
            "[account.a]\nsecret-env = \"PATH\"\n[account.b]\nsecret-env = \"PATH\"\n[[target]]\n\
             name = \"iqn.2026-11.com.example:disk\"\naccounts = {accounts}\n{own}\n\
             [[target.rule]]\ninitiators = \"any\"\n"
        )
    };
    let (_, warnings) = read(&file("[\"a\", \"b\"]", "")).unwrap();
    assert_eq!(
        warnings,
        [
            "lunette.toml:3:10: accounts `a` and `b` have one secret; whoever knows it is both; give each its own: openssl \
          rand -hex 16"
        ]
    );
    let refused = read(&file("[\"a\"]", "mutual = \"b\"")).err().unwrap();
    assert!(refused.contains("lunette.toml:3:10: error: accounts `a` and `b` have one secret"), "{refused}");
    let refused = read(&file("[\"a\", \"b\"]", "mutual = \"b\"")).err().unwrap();
    assert!(refused.contains("account `b` is used for both directions"), "nam_01: {refused}");
}

#[test]
fn chp_18_no_finding_shows_a_secret() {
    let refused = read("[account.a]\nsecret = \"alice-secret-12\" x = 1\n[[target]]\nname = 1\n").err().unwrap();
    assert!(refused.contains("2 | secret = …") && !refused.contains("alice-secret"), "{refused}");
    let refused = read("[account]\na = { secret = \"alice-secret-12\", usr = \"x\" }\n").err().unwrap();
    assert!(refused.contains("has no key `usr`") && !refused.contains("alice-secret"), "{refused}");
}

#[test]
fn chp_18_a_file_with_secrets_that_everybody_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("lunette-secrets-{}.toml", std::process::id()));
    let text = "[account.a]\nsecret = \"alice-secret-12\"\n[[target]]\nname = \"iqn.2026-11.com.example:disk\"\n\
                accounts = [\"a\"]\n[[target.rule]]\ninitiators = \"any\"\n";
    std::fs::write(&path, text).unwrap();
    let with_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        from_file(&path).map(|_| ()).map_err(|failure| failure.to_string())
    };
    let (open, closed) = (with_mode(0o644), with_mode(0o640));
    let far = "[[target]]\nname = \"iqn.2026-11.com.example:disk\"\n[[target.lun]]\n\
               store = \"iscsi://a%sesame-open-up@192.0.2.1/iqn.2026-11.com.example:far/1\"\n[[target.rule]]\n\
               initiators = \"any\"\n";
    std::fs::write(&path, far).unwrap();
    let (far_open, far_closed) = (with_mode(0o644).unwrap_err(), with_mode(0o640));
    let _ = std::fs::remove_file(&path);
    assert!(far_open.contains("everybody can read") && !far_open.contains("sesame"), "{far_open}");
    assert_eq!(far_closed, Ok(()));
    assert!(open.unwrap_err().contains("everybody can read"), "a file of mode 644");
    assert_eq!(closed, Ok(()));
}

#[test]
fn the_files_of_the_manual_are_good_as_they_stand() {
    let manual = include_str!("../../../../../docs/configuration.md");
    let mut read_whole = 0;
    for block in manual.split("```toml\n").skip(1) {
        let (text, _) = block.split_once("```").unwrap();
        // The files with secrets are not on this machine.
        let said = read(text).err().unwrap_or_default();
        let errors: Vec<_> = said.lines().filter(|line| line.contains(": error: ")).collect();
        assert!(errors.iter().all(|line| line.contains("error: /etc/lunette/")), "{said}");
        read_whole += 1;
    }
    assert_eq!(read_whole, 4);
    for key in
        ["size", "online", "write-cache", "secret-credential", "advertise", "access-states", "notify-port", "removable"]
    {
        assert!(manual.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn whatever_stands_in_a_file_is_answered() {
    let mut random = sim::Random::new(1);
    let pieces =
        ["[[", "]]", "=", "\"", "\n", "é", "\u{1f980}", "{", "}", ",", "0x", "1e9", "secret", "\t", "'''", "# ", "."];
    for round in 0..3000 {
        let mut text = WHOLE.to_owned();
        for _ in 0..=random.below(4) {
            let mut at = random.size(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match random.below(3) {
                0 => text.insert_str(at, pieces[random.size(pieces.len())]),
                1 => text.truncate(at),
                _ => text = format!("{}{}", &text[..at], text[at..].split_once('\n').map_or("", |(_, rest)| rest)),
            }
            text.push('\n');
        }
        if let Err(said) = read(&text) {
            assert!(said.starts_with("lunette.toml:"), "{round}: {said}\n{text}");
        }
    }
}
