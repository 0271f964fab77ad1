//! `lunette check`: what a person and a script hear of a file.

use crate::LUNETTE;
use sim::daemon::Folder;
use std::process::Command;

fn check(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(LUNETTE).arg("check").args(arguments).current_dir(folder.path()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const GOOD: &str = "[[portal]]\nlisten = \"127.0.0.1\"\n[[target]]\nname = \"iqn.2026-01.org.example:disk\"\n[[target.lun]]\n\
                    store = \"a.img\"\nsize = \"1M\"\n[[target.rule]]\ninitiators = \"any\"\n";

#[test]
fn a_good_file_is_said_to_be_good() {
    let folder = Folder::new();
    std::fs::write(folder.file("lunette.toml"), GOOD).unwrap();
    let (code, out, error) = check(&folder, &["lunette.toml"]);
    assert_eq!((code, out.as_str(), error.as_str()), (Some(0), "lunette.toml: can be served: 1 target, 1 LUN\n", ""));
    assert!(!folder.path().join("a.img").exists(), "nothing is made");
}

#[test]
fn what_only_the_machine_knows_is_told_with_all_the_rest() {
    let folder = Folder::new();
    let text = "[daemon]\naccess-states = \"states\"\nthread = 2\n[[portal]]\nlisten = \"192.0.2.77\"\n[[target]]\n\
                name = \"iqn.2026-01.org.example:disk\"\n[[target.lun]]\nstore = \"missing.img\"\n[[target.lun]]\n\
                store = \"none/b.img\"\nsize = \"1M\"\n[[target.lun]]\nstore = \"c.img,sise=1M\"\n[[target.rule]]\n\
                initiators = \"any\"\n";
    std::fs::write(folder.file("lunette.toml"), text).unwrap();
    let (code, out, error) = check(&folder, &["lunette.toml"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let wanted = "\
lunette.toml:2:17: error: states: No such file or directory (os error 2)
  |
2 | access-states = \"states\"
  |                 ^^^^^^^^ make it, or take this line out
lunette.toml:3:1: error: [daemon] has no key `thread`
  |
3 | thread = 2
  | ^^^^^^ did you mean `threads`?
lunette.toml:5:10: warning: this machine has no address 192.0.2.77 now
  |
5 | listen = \"192.0.2.77\"
  |          ^^^^^^^^^^^^ see: ip address
lunette.toml:9:9: error: missing.img does not exist
  |
9 | store = \"missing.img\"
  |         ^^^^^^^^^^^^^ add size = \"10G\" to create it
lunette.toml:11:9: error: its directory none does not exist
   |
11 | store = \"none/b.img\"
   |         ^^^^^^^^^^^^ mkdir -p none
lunette.toml:14:9: error: c.img,sise=1M: 'sise' is no option of file
   |
14 | store = \"c.img,sise=1M\"
   |         ^^^^^^^^^^^^^^^ did you mean size?
";
    assert_eq!(error, wanted);
    let (code, out, error) = check(&folder, &["--json", "lunette.toml"]);
    assert_eq!((code, error.as_str()), (Some(2), ""));
    assert!(out.contains("\"errors\": 5") && out.contains("\"warnings\": 1") && out.contains("\"line\": 14"), "{out}");
}

#[test]
fn the_schema_is_printed() {
    let folder = Folder::new();
    let (code, out, _) = check(&folder, &["--schema"]);
    assert_eq!(code, Some(0));
    let published = include_str!("../../../../docs/lunette.schema.json");
    assert!(out == published);
}
