//! What is shipped: pages that render, units that systemd takes, and the Debian packages in a clean root: installed,
//! walked through, removed and purged, with nothing left behind.

use super::Outcome;
use super::served;
use crate::package;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a root has that is Debian and not much more.
const RELEASE: &str = "bookworm";
/// The target of the walk-through.
const TARGET: &str = "iqn.2026-11.com.example:package";
/// Files that installing and removing any package changes.
const CHANGES: &[&str] = &[
    "/var/lib/dpkg",
    "/var/log",
    "/var/cache",
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid",
    "/etc/subgid",
    "/proc",
    "/tmp",
    "/run/lock",
    "/etc/.pwd.lock",
];

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let binary = served::build(root)?;
    let dist = package::dist(root, &binary)?;
    pages(&dist.join("man"), outcome)?;
    units(root, &binary, outcome);
    let packages = package::deb(root, &binary, &dist)?;
    lintian(&packages, outcome);
    if let Some(rpms) = package::rpm(root, &binary, &dist)? {
        outcome.count("rpm packages hold what they should", rpm_content(&rpms));
    } else {
        outcome.notes.push("rpm packages not built: rpmbuild is missing; on Debian: apt-get install rpm".into());
    }
    match clean_root() {
        Err(why) => outcome.notes.push(format!("not run in a clean root: {why}")),
        Ok(clean) => {
            outcome.count("installed, walked through, removed and purged in a clean root", walk(&clean, &packages));
            outcome.count("a root like the OCI image's, without any privilege", image(&clean, root, &binary));
        }
    }
    Ok(())
}

/// Each page without a word of groff's, and of mandoc's where it is there.
fn pages(folder: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let mut wrong = Vec::new();
    let names = package::tree::names(folder)?;
    for name in &names {
        let said = Command::new("groff")
            .args(["-man", "-ww", "-Tutf8", "-rLL=100n"])
            .arg(folder.join(name))
            .current_dir(folder)
            .output()
            .map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        // What a page refers to lies elsewhere when it is installed.
        let link = name.ends_with(".8");
        if (!told.is_empty() && !link) || !said.status.success() {
            wrong.push(format!("{name}: {}", told.lines().next().unwrap_or("groff failed")));
        }
    }
    let label = format!("{} pages rendered by groff without a warning", names.len());
    outcome.count(&label, if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n        ")) });
    Ok(())
}

/// The units as systemd reads them.
fn units(root: &Path, binary: &Path, outcome: &mut Outcome) {
    let folder = root.join("packaging/systemd");
    let scratch = std::env::temp_dir().join(format!("lunette-units-{}", std::process::id()));
    let result = (|| -> Result<(), String> {
        std::fs::create_dir_all(&scratch).map_err(|error| error.to_string())?;
        let mut files = Vec::new();
        for name in package::tree::names(&folder)? {
            let text = std::fs::read_to_string(folder.join(&name)).map_err(|error| error.to_string())?;
            // Where the program is before it is installed.
            let text = text.replace("/usr/bin/lunette", &binary.display().to_string());
            std::fs::write(scratch.join(&name), text).map_err(|error| error.to_string())?;
            files.push(scratch.join(&name));
        }
        let said = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .args(&files)
            .output()
            .map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        let ours: Vec<&str> = told.lines().filter(|line| line.contains("lunette")).collect();
        if ours.is_empty() { Ok(()) } else { Err(ours.join("\n        ")) }
    })();
    let _ = std::fs::remove_dir_all(&scratch);
    match Command::new("systemd-analyze").arg("--version").output() {
        Ok(_) => outcome.count("units verified by systemd", result),
        Err(_) => outcome.notes.push("units not verified: systemd-analyze is missing".into()),
    }
}

/// Errors that Debian's own checker finds, where it is to be had.
fn lintian(packages: &[PathBuf], outcome: &mut Outcome) {
    super::peers::install(&["lintian"]);
    let said = Command::new("lintian").args(["--fail-on", "error", "--no-tag-display-limit"]).args(packages).output();
    match said {
        Ok(said) => {
            let told = String::from_utf8_lossy(&said.stdout).into_owned();
            let errors: Vec<&str> = told.lines().filter(|line| line.starts_with("E:")).collect();
            let result = if errors.is_empty() { Ok(()) } else { Err(errors.join("\n        ")) };
            outcome.count("lintian finds no error", result);
        }
        Err(_) => outcome.notes.push("lintian not run: it is missing".into()),
    }
}

fn rpm_content(packages: &[PathBuf]) -> Result<(), String> {
    let list = |path: &Path| -> Result<String, String> {
        let said = Command::new("rpm").args(["-qlp", "--nosignature"]).arg(path).output();
        Ok(String::from_utf8_lossy(&said.map_err(|error| error.to_string())?.stdout).into_owned())
    };
    let all = packages.iter().map(|path| list(path)).collect::<Result<Vec<_>, _>>()?.join("\n");
    for file in [
        "/usr/bin/lunette",
        "/usr/lib/systemd/system/lunette.service",
        "/etc/lunette/lunette.toml",
        "/usr/share/man/man1/lunette-serve.1.gz",
        "/usr/sbin/tgtadm",
    ] {
        if !all.lines().any(|line| line == file) {
            return Err(format!("{file} is in neither of them"));
        }
    }
    Ok(())
}

/// A Debian that nobody has touched, made once and kept for the next time.
fn clean_root() -> Result<PathBuf, String> {
    let cache = std::env::var_os("LUNETTE_ROOT_CACHE")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/lunette-root")));
    let cache = cache.ok_or("there is no home directory")?;
    std::fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    let archive = cache.join(format!("{RELEASE}.tar"));
    if !archive.is_file() {
        let partial = cache.join("partial.tar");
        let said = Command::new("mmdebstrap")
            .args(["--variant=essential", "--include=passwd", "--quiet", RELEASE])
            .arg(&partial)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("mmdebstrap: {error}"))?;
        if !said.status.success() {
            let told = String::from_utf8_lossy(&said.stderr).into_owned();
            return Err(format!("mmdebstrap: {}", told.lines().last().unwrap_or("it failed")));
        }
        std::fs::rename(&partial, &archive).map_err(|error| error.to_string())?;
    }
    Ok(archive)
}

/// A root unpacked in a folder of its own, gone with it.
struct Root(PathBuf);

impl Root {
    fn unpack(archive: &Path, name: &str) -> Result<Root, String> {
        let folder = std::env::temp_dir().join(format!("lunette-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let root = Root(folder);
        let said =
            Command::new("tar").args(["-xf"]).arg(archive).arg("-C").arg(&root.0).args(["--exclude=./dev/*"]).output();
        let said = said.map_err(|error| error.to_string())?;
        if !said.status.success() {
            return Err(format!("the root cannot be unpacked: {}", String::from_utf8_lossy(&said.stderr)));
        }
        std::fs::write(root.0.join("dev/null"), "").map_err(|error| error.to_string())?;
        Ok(root)
    }

    /// A command in it, in namespaces of mounts and processes that end with it.
    fn command(&self, shell: &str) -> Command {
        let mut command = Command::new("unshare");
        let script =
            "mount -t proc proc \"$0/proc\" && mount --bind /dev \"$0/dev\" && exec chroot \"$0\" /bin/sh -ec \"$1\"";
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script]).arg(&self.0).arg(shell);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, shell: &str) -> Result<String, String> {
        let said = self.command(shell).output().map_err(|error| error.to_string())?;
        let out = String::from_utf8_lossy(&said.stdout).into_owned();
        match said.status.success() {
            true => Ok(out),
            false => Err(format!("{shell}: {}{out}", String::from_utf8_lossy(&said.stderr))),
        }
    }

    /// All names in it, but those that every package changes.
    fn names(&self) -> Result<BTreeSet<String>, String> {
        let all = self.run("find / -xdev -not -path '/proc*' -not -path '/dev*' -print")?;
        let ours = |name: &&str| !CHANGES.iter().any(|change| name.starts_with(change));
        Ok(all.lines().filter(ours).map(str::to_owned).collect())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A daemon in a root; ended with its namespace when it is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn walk(archive: &Path, packages: &[PathBuf]) -> Result<(), String> {
    let root = Root::unpack(archive, "package")?;
    let before = root.names()?;
    for package in packages {
        let name = package.file_name().unwrap_or_default();
        std::fs::copy(package, root.0.join("tmp").join(name)).map_err(|error| error.to_string())?;
    }
    root.run("dpkg -i /tmp/*.deb")?;
    root.run("lunette --version && tgtadm --version && iscsiadm --version && getent passwd lunette")?;
    let modes = root.run("stat -c '%a %U:%G %n' /etc/lunette /etc/lunette/lunette.toml")?;
    if modes != "750 root:lunette /etc/lunette\n640 root:lunette /etc/lunette/lunette.toml\n" {
        return Err(format!("who may read the configuration: {modes}"));
    }
    // As README has it: a configuration, the daemon, and it is there for others.
    let port = free_port()?;
    let configuration = format!(
        "[daemon]\nuser = \"lunette\"\n[[portal]]\nlisten = \"127.0.0.1:{port}\"\n\
         [account.alice]\nsecret-file = \"/etc/lunette/alice.secret\"\n\
         [[target]]\nname = \"{TARGET}\"\naccounts = [\"alice\"]\n\
         [[target.lun]]\nstore = \"/srv/disk.img,size=64M\"\n[[target.rule]]\ninitiators = \"any\"\n"
    );
    std::fs::write(root.0.join("etc/lunette/lunette.toml"), configuration).map_err(|error| error.to_string())?;
    root.run("umask 077; echo sesame-open-up-12 > /etc/lunette/alice.secret")?;
    let serve = "exec lunette serve --config /etc/lunette/lunette.toml";
    let log = std::fs::File::create(root.0.join("tmp/log")).map_err(|error| error.to_string())?;
    let child = root.command(serve).stdout(Stdio::null()).stderr(log).spawn().map_err(|error| error.to_string())?;
    let mut daemon = Daemon(child);
    let walked = (|| -> Result<(), String> {
        wait_for(port)?;
        let client = |words: &str| {
            root.run(&format!("export LUNETTE_CHAP_SECRET=sesame-open-up-12 XDG_STATE_HOME=/tmp/state; {words}"))
        };
        let url = format!("iscsi://alice@127.0.0.1:{port}/{TARGET}/1");
        let listed = client(&format!("lunette ls iscsi://alice@127.0.0.1:{port}"))?;
        if !listed.contains(TARGET) {
            return Err(format!("discovery does not show it: {listed}"));
        }
        client(&format!(
            "dd if=/dev/urandom of=/tmp/data bs=1M count=4 status=none && lunette copy /tmp/data {url} && \
             lunette copy {url} /tmp/back && cmp -n 4194304 /tmp/data /tmp/back && rm /tmp/data /tmp/back"
        ))?;
        let status = root.run("lunette status")?;
        match status.contains("user lunette, seccomp on") {
            true => Ok(()),
            false => Err(format!("the daemon is not in its sandbox: {status}")),
        }
    })();
    // The daemon is the first process of its namespace, whose end is asked for by its own signal.
    let ended = terminate(&mut daemon.0);
    let log = std::fs::read_to_string(root.0.join("tmp/log")).unwrap_or_default();
    walked.and(ended).map_err(|why| format!("{why}\n        the daemon said: {log}"))?;
    root.run("dpkg --remove lunette-compat lunette && test -f /etc/lunette/lunette.toml && test -f /srv/disk.img")?;
    root.run(
        "rm /etc/lunette/alice.secret; dpkg --purge lunette lunette-compat && rm /srv/disk.img /tmp/*.deb /tmp/log",
    )?;
    let left: Vec<String> = root.names()?.difference(&before).cloned().collect();
    match (left.is_empty(), root.run("getent passwd lunette").is_err()) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("left behind: {}", left.join(", "))),
        (_, false) => Err("the user lunette is left behind".into()),
    }
}

/// A root with what the recipe puts into the image, and its command as its user.
fn image(archive: &Path, source: &Path, binary: &Path) -> Result<(), String> {
    let root = Root::unpack(archive, "image")?;
    package::tree::file(binary, &root.0.join("usr/bin/lunette"), 0o755)?;
    let port = free_port()?;
    let text = std::fs::read_to_string(source.join("packaging/oci/lunette.toml")).map_err(|error| error.to_string())?;
    let text = text.replace("0.0.0.0:3260", &format!("127.0.0.1:{port}"));
    root.run("mkdir -p /etc/lunette /srv /run/lunette /var/lib/lunette && chown 65532:65532 /srv /run/lunette /var/lib/lunette")?;
    std::fs::write(root.0.join("etc/lunette/lunette.toml"), text).map_err(|error| error.to_string())?;
    let user = "setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs --bounding-set -all";
    let command = root.command(&format!("exec {user} lunette serve --config /etc/lunette/lunette.toml"));
    let mut command = command;
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let mut daemon = Daemon(child);
    wait_for(port)?;
    let status = root.run(&format!("{user} lunette status --control /run/lunette/control.sock"))?;
    if !status.contains("seccomp on") {
        return Err(format!("it is not in its sandbox: {status}"));
    }
    root.run(&format!("lunette ls iscsi://127.0.0.1:{port}"))?;
    terminate(&mut daemon.0)
}

fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

fn wait_for(port: u16) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("the daemon does not listen".into())
}

/// Ends the daemon that is the child of this `unshare`, as a service manager would.
fn terminate(child: &mut Child) -> Result<(), String> {
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let inner = std::fs::read_to_string(children).unwrap_or_default();
    for id in inner.split_whitespace() {
        let _ = Command::new("kill").args(["-TERM", id]).status();
    }
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("the daemon ended with {status}")),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    Err("the daemon does not end".into())
}
