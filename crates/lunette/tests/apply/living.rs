//! Changes of the file by SIGHUP: what they do to those who are there, and what is refused.

use crate::LUNETTE;
use sim::Daemon;
use sim::raw::{Client, Command, Condition, Login};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const ONE: &str = "iqn.2026-01.org.example:one";
const TWO: &str = "iqn.2026-01.org.example:two";

/// REPORTED LUNS DATA HAS CHANGED.
const INVENTORY: Condition = Condition(0x6, 0x3f, 0x0e);

const FILE: &str = r#"# The disks of the house.
[daemon]
state-dir = "FOLDER/state"
threads = 1

[[portal]]
listen = "127.0.0.1:0"

[[target]]
name = "iqn.2026-01.org.example:one"
[[target.lun]]
number = 1
store = "FOLDER/one.img"
size = "1M"
[[target.rule]]
initiators = "any"
"#;

/// A daemon with its file.
struct House {
    daemon: Daemon,
    file: PathBuf,
    text: String,
}

impl House {
    fn new() -> House {
        let daemon = Daemon::configured(LUNETTE, FILE);
        let file = daemon.control().parent().unwrap().parent().unwrap().join("lunette.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        House { daemon, file, text }
    }

    /// A path in its folder.
    fn path(&self, name: &str) -> String {
        self.file.with_file_name(name).display().to_string()
    }

    /// Writes the file and has it applied. Returns what the log says of it.
    fn apply(&mut self, text: &str) -> String {
        self.text = text.to_owned();
        std::fs::write(&self.file, text).unwrap();
        let before = self.daemon.log().len();
        self.daemon.signal("HUP");
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let log = self.daemon.log().get(before..).unwrap_or_default().to_owned();
            let ended = ["the configuration says what runs", "what runs goes on", "it is applied"];
            if ended.iter().any(|word| log.contains(word)) {
                return log;
            }
            assert!(Instant::now() < end, "nothing comes of it\n{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Until so many sessions are there.
    fn wait_for_sessions(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.daemon.log().matches("session opened").count() - self.daemon.log().matches("session closed").count()
            != count
        {
            assert!(Instant::now() < end, "{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_nobody(&self) {
        self.wait_for_sessions(0);
    }

    fn client(&self, target: &str) -> Client {
        let mut client = self.daemon.connect();
        client.login(&Login::normal(target));
        client.take_attentions();
        client
    }
}

#[test]
fn a_disk_and_a_target_come_while_a_session_goes_on() {
    let mut house = House::new();
    let mut client = house.client(ONE);
    client.good(&Command::write(0, &[7; 512]));
    let more = format!(
        "{}\n[[target.lun]]\nnumber = 2\nstore = \"ram:2M\"\n\n[[target]]\nname = \"{TWO}\"\n[[target.lun]]\nstore = \
         \"ram:4M\"\n[[target.rule]]\ninitiators = \"any\"\n",
        house.text
    );
    let log = house.apply(&more);
    assert!(log.contains("add LUN 2 of iqn.2026-01.org.example:one: ram:2M"), "{log}");
    assert!(log.contains("add target iqn.2026-01.org.example:two"), "{log}");
    assert_eq!(client.take_attentions(), [INVENTORY], "REPORTED LUNS DATA HAS CHANGED");
    assert_eq!(client.good(&Command::read(0, 1)), vec![7; 512]);
    assert!(client.execute(&Command::test_unit_ready().at(2)).condition().is_some(), "it is new to the nexus");
    client.good(&Command::write(0, &[8; 512]).at(2));
    house.client(TWO).good(&Command::write(0, &[9; 512]));
    let log = house.apply(&more);
    assert!(log.contains("the configuration says what runs"), "{log}");
}

#[test]
fn a_disk_grows_and_shrinks_with_its_content_and_goes_offline_and_read_only() {
    let mut house = House::new();
    let mut client = house.client(ONE);
    let with = |house: &House, size: &str, more: &str| {
        house.text.replace("size = \"1M\"\n", &format!("size = \"{size}\"\n{more}"))
    };
    let blocks = |client: &mut Client| {
        let data = client.good(&Command::read_capacity());
        u64::from_be_bytes(data[..8].try_into().unwrap()) + 1
    };
    let base = house.text.clone();
    client.good(&Command::write(2047, &[5; 512]));
    let grown = with(&house, "2M", "");
    let log = house.apply(&grown);
    assert!(log.contains("resize LUN 1 of iqn.2026-01.org.example:one: 1 MiB → 2 MiB"), "{log}");
    assert_eq!(client.take_attentions(), [Condition(0x6, 0x2a, 0x09)], "CAPACITY DATA HAS CHANGED");
    assert_eq!(blocks(&mut client), 4096);
    client.good(&Command::write(4095, &[6; 512]));
    assert_eq!(std::fs::metadata(house.path("one.img")).unwrap().len(), 2 << 20);
    // Smaller is taken away from whoever is there.
    let log = house.apply(&base);
    assert!(log.contains("it is in use: resize LUN 1") && log.contains("--force"), "{log}");
    assert_eq!(blocks(&mut client), 4096, "nothing of it is seen");
    drop(client);
    house.wait_for_nobody();
    house.apply(&base);
    let mut client = house.client(ONE);
    assert_eq!(blocks(&mut client), 2048);
    assert_eq!(client.execute(&Command::read(4095, 1)).condition(), Some(Condition(0x5, 0x21, 0x00)));
    assert_eq!(client.good(&Command::read(2047, 1)), vec![5; 512]);
    house.apply(&grown);
    client.take_attentions();
    assert_eq!(client.good(&Command::read(4095, 1)), vec![6; 512], "nothing was cut off");
    house.text = base;
    let log = house.apply(&with(&house, "2M", "online = false\n"));
    assert!(log.contains("change LUN 1 of iqn.2026-01.org.example:one: offline; disturbs 1 session"), "{log}");
    assert_eq!(client.execute(&Command::read(0, 1)).condition(), Some(Condition(0x2, 0x04, 0x03)));
    house.text = house.text.replace("online = false\n", "read-only = true\n");
    let text = house.text.clone();
    house.apply(&text);
    client.take_attentions();
    client.good(&Command::read(0, 1));
    assert_eq!(client.execute(&Command::write(0, &[1; 512])).condition(), Some(Condition(0x7, 0x27, 0x00)));
    let text = house.text.replace("read-only = true\n", "write-cache = false\n");
    let log = house.apply(&text);
    assert!(log.contains("writable, write cache off"), "{log}");
    client.take_attentions();
    client.good(&Command::write(0, &[1; 512]));
}

#[test]
fn what_is_in_use_stays_and_what_nobody_uses_goes() {
    let mut house = House::new();
    let other = format!(
        "{}\n[[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\nname = \"{TWO}\"\n[[target.lun]]\nstore = \"FOLDER/two.img\"\n\
         size = \"1M\"\n[[target.rule]]\ninitiators = \"any\"\n",
        house.text
    )
    .replace("FOLDER", &house.path(""));
    let first = house.text.clone();
    house.apply(&other);
    let mut two = house.client(TWO);
    two.good(&Command::write(0, &[3; 512]));
    let mut one = house.client(ONE);
    let log = house.apply(&first);
    assert!(log.contains("remove target iqn.2026-01.org.example:two; disturbs 1 session"), "{log}");
    two.good(&Command::read(0, 1));
    drop(two);
    house.wait_for_sessions(1);
    let log = house.apply(&first);
    assert!(log.contains("it is applied"), "{log}");
    assert!(house.daemon.connect().try_login(&Login::normal(TWO)).is_err());
    one.good(&Command::read(0, 1));
    // The file is nobody's, and can be served again, with what was written.
    house.apply(&other);
    assert_eq!(house.client(TWO).good(&Command::read(0, 1)), vec![3; 512]);
}

#[test]
fn a_change_that_fails_in_the_middle_leaves_nothing_behind() {
    let mut house = House::new();
    let mut client = house.client(ONE);
    let before = house.text.clone();
    let text = format!(
        "{}\n[[portal]]\nlisten = \"127.0.0.2:0\"\n[[target]]\nname = \"{TWO}\"\n[[target.lun]]\nstore = \"FOLDER/new.img\"\n\
         size = \"1M\"\n[[target.lun]]\nstore = \"FOLDER/missing.img\"\n[[target.rule]]\ninitiators = \"any\"\n",
        before.replace("size = \"1M\"", "size = \"8M\"")
    )
    .replace("FOLDER", &house.path(""));
    let log = house.apply(&text);
    assert!(log.contains("missing.img: does not exist") && log.contains("everything is as it was"), "{log}");
    assert!(!std::path::Path::new(&house.path("new.img")).exists(), "what was made for it is gone");
    assert_eq!(std::fs::metadata(house.path("one.img")).unwrap().len(), 1 << 20);
    assert_eq!(client.take_attentions(), []);
    assert!(house.daemon.connect().try_login(&Login::normal(TWO)).is_err());
    // What it needs can be had at the next try.
    std::fs::write(house.path("missing.img"), vec![0; 1 << 20]).unwrap();
    let log = house.apply(&text);
    assert!(log.contains("it is applied"), "{log}");
    house.client(TWO).good(&Command::write(0, &[9; 512]));
}

#[test]
fn what_only_a_restart_changes_is_refused_by_name_and_a_wrong_file_with_its_places() {
    let mut house = House::new();
    let text = house.text.replace("threads = 1", "threads = 2");
    let log = house.apply(&text);
    assert!(log.contains("[daemon] threads cannot be changed while it runs (1 → 2)"), "{log}");
    assert!(log.contains("lunette upgrade"), "{log}");
    let text = text.replace("listen =", "lisen =");
    let log = house.apply(&text);
    assert!(log.contains("lunette.toml:7:1: [[portal]] has no key `lisen`; did you mean `listen`?"), "{log}");
    house.client(ONE).good(&Command::read(0, 1));
}
