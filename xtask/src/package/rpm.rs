//! The RPM packages, by rpmbuild and packaging/rpm/lunette.spec, of the same files as the Debian ones.

use super::{output, target, tree};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds both; their paths.
pub fn build(root: &Path, binary: &Path, dist: &Path) -> Result<Vec<PathBuf>, String> {
    let top = target(root).join("package/rpm");
    let _ = std::fs::remove_dir_all(&top);
    let files = top.join("files");
    std::fs::create_dir_all(&files).map_err(|error| error.to_string())?;
    tree::main(root, binary, dist, &files)?;
    tree::old_names(dist, &files)?;
    // zsh and fish look elsewhere there than on Debian.
    for (from, to) in [
        ("usr/share/zsh/vendor-completions", "usr/share/zsh/site-functions"),
        ("usr/share/fish/vendor_completions.d", "usr/share/fish/vendor_completions.d"),
    ] {
        if from != to {
            std::fs::rename(files.join(from), files.join(to)).map_err(|error| error.to_string())?;
        }
    }
    let define = |name: &str, value: &str| format!("{name} {value}");
    let spec = root.join("packaging/rpm/lunette.spec");
    let absolute = |path: &Path| std::fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()));
    let (top, files) = (absolute(&top)?, absolute(&files)?);
    output(
        Command::new("rpmbuild")
            .args(["-bb", "--quiet"])
            .args(["--define", &define("_topdir", &top.display().to_string())])
            .args(["--define", &define("lunette_version", env!("CARGO_PKG_VERSION"))])
            .args(["--define", &define("lunette_files", &files.display().to_string())])
            .args(["--define", &define("_dbpath", &top.join("db").display().to_string())])
            .arg(spec),
    )?;
    let mut built = Vec::new();
    for folder in ["RPMS/x86_64", "RPMS/aarch64", "RPMS/noarch"] {
        let folder = top.join(folder);
        for name in tree::names(&folder).unwrap_or_default() {
            let to = target(root).join("dist").join(&name);
            std::fs::rename(folder.join(&name), &to).map_err(|error| format!("{}: {error}", to.display()))?;
            built.push(to);
        }
    }
    match built.len() {
        2 => Ok(built),
        count => Err(format!("rpmbuild made {count} packages, not 2")),
    }
}
