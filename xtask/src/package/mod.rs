//! `cargo xtask package`: what is shipped, as files in target/dist: manual pages, completions, a Debian package
//! and one of the old names, and RPM packages where rpmbuild is there.

mod debian;
mod manual;
mod rpm;
pub mod tree;

use crate::suites::served;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Names of tgt and open-iscsi that the second package has, with the section of their pages.
pub const OLD_NAMES: &[(&str, u8)] = &[
    ("tgtd", 8),
    ("tgtadm", 8),
    ("tgt-admin", 8),
    ("tgtimg", 8),
    ("tgt-setup-lun", 8),
    ("iscsiadm", 8),
    ("iscsi-iname", 8),
];

/// Builds what is named: deb, rpm, or all that this machine can.
pub fn run(root: &Path, wanted: &[String]) -> ExitCode {
    let known = |word: &&String| ["deb", "rpm", "dist"].contains(&word.as_str());
    if let Some(unknown) = wanted.iter().find(|word| !known(word)) {
        eprintln!("xtask: there is no package {unknown}; there are deb, rpm and dist (pages and completions alone)");
        return ExitCode::from(2);
    }
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let built = || -> Result<Vec<PathBuf>, String> {
        let binary = served::build(root)?;
        let dist = dist(root, &binary)?;
        let mut files = vec![dist.clone()];
        if wants("deb") {
            files.extend(debian::build(root, &binary, &dist)?);
        }
        if wants("rpm") {
            match tool("rpmbuild") {
                true => files.extend(rpm::build(root, &binary, &dist)?),
                false => println!("no RPM packages: rpmbuild is not there (on Debian: apt-get install rpm)"),
            }
        }
        Ok(files)
    };
    match built() {
        Ok(files) => {
            files.iter().for_each(|file| println!("{}", file.display()));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The Debian packages.
pub fn deb(root: &Path, binary: &Path, dist: &Path) -> Result<Vec<PathBuf>, String> {
    debian::build(root, binary, dist)
}

/// The RPM packages, where rpmbuild is there.
pub fn rpm(root: &Path, binary: &Path, dist: &Path) -> Result<Option<Vec<PathBuf>>, String> {
    tool("rpmbuild").then(|| rpm::build(root, binary, dist)).transpose()
}

/// Pages and completions, in a folder of target.
pub fn dist(root: &Path, binary: &Path) -> Result<PathBuf, String> {
    let dist = target(root).join("dist");
    let folder = |name: &str| {
        let folder = dist.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok::<_, String>(folder)
    };
    let pages = folder("man")?;
    output(Command::new(binary).arg("man").arg(&pages))?;
    manual::old_names(&pages)?;
    let text = std::fs::read_to_string(root.join("docs/configuration.md")).map_err(|error| error.to_string())?;
    write(&pages.join("lunette.toml.5"), manual::page(&text, env!("CARGO_PKG_VERSION")).as_bytes())?;
    let completions = folder("completions")?;
    for (shell, name) in [("bash", "lunette"), ("zsh", "_lunette"), ("fish", "lunette.fish")] {
        write(&completions.join(name), &output(Command::new(binary).args(["completions", shell]))?)?;
    }
    Ok(dist)
}

/// Where cargo builds.
pub fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Runs a command; what it said on standard output.
fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn tool(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
}
