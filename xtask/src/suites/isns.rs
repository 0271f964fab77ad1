//! Registration with the iSNS server of open-isns: what it shows of us, what we hear of others, and what is left
//! after a restart, a clean end and a kill.
//!
//! The server and its client program come from this machine where they are installed; otherwise Debian's packages
//! are fetched and unpacked in a folder of the suite's own, which needs no root and starts no service.

use super::Outcome;
use super::peers;
use super::served::{self, Served, TARGET, command};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The packages with the programs; the library comes by their dependencies.
const PACKAGES: [&str; 2] = ["open-isns-server", "open-isns-utils"];
/// The server forgets after so many seconds.
const PERIOD: u64 = 6;
/// How long something may take that should happen at once.
const SOON: Duration = Duration::from_secs(10);

pub fn run(root: &Path, outcome: &mut Outcome) {
    let folder = std::env::temp_dir().join(format!("lunette-isnsd-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let done = std::fs::create_dir_all(&folder).map_err(|error| error.to_string()).and_then(|()| {
        let Some(programs) = Programs::find(&folder) else {
            outcome.notes.push(format!(
                "not run: isnsd is missing, and its package cannot be had; on Debian or Ubuntu: apt-get install {}",
                PACKAGES.join(" ")
            ));
            return Ok(());
        };
        try_run(root, &folder, &programs, outcome)
    });
    if let Err(why) = done {
        outcome.count("set-up", Err(why));
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn try_run(root: &Path, folder: &Path, programs: &Programs, outcome: &mut Outcome) -> Result<(), String> {
    let binary = served::build(root)?;
    let mut server = Server::start(programs, folder, 3)?;
    let place = server.place();
    let portals = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0,group=7", "--isns"];
    let serve = |suite: &str| Served::start(&binary, suite, &["null:1G"], &[&portals[..], &[&place]].concat());
    let mut served = serve("isns")?;
    outcome.count("registers the entity with portals, target and groups", server.shows(&served));
    server.isnsadm(&["--register", "initiator=iqn.2026-11.com.example:host"])?;
    let told = || served.log().contains("node=iqn.2026-11.com.example:host added=true");
    outcome.count("is told of a new initiator", soon(told, "no line of the log says so"));
    let found = server.isnsadm(&["--query", &format!("iscsi-name={TARGET}"), "node-type=target"])?;
    let has = if found.contains(TARGET) { Ok(()) } else { Err(found) };
    outcome.count("an initiator's query finds the target", has);
    outcome.count("our own discovery finds it with portals and groups", discovered(&binary, &server, &served));
    // Longer than the server keeps those of whom it hears nothing.
    std::thread::sleep(Duration::from_secs(PERIOD + 4));
    outcome.count("stays longer than its registration period", server.shows(&served).and_then(|()| unbroken(&served)));
    let inquired = if server.log().contains("Good ESI response") { Ok(()) } else { Err("no good answer".into()) };
    outcome.count("answers whether its portals are there", inquired);
    server.isnsadm(&["--deregister", &format!("iscsi-name={TARGET}")])?;
    outcome.count("comes back when somebody takes it out", server.shows(&served));
    server.stop();
    std::thread::sleep(Duration::from_secs(2));
    let mut server = Server::restart(programs, folder, server.port, 3)?;
    outcome.count("registers again with a server that was started anew", server.shows(&served));
    let begun = Instant::now();
    let ended = served.stop().map(|status| (status.success(), begun.elapsed().as_secs()));
    outcome.count("ends in time", if matches!(ended, Ok((true, 0..3))) { Ok(()) } else { Err(format!("{ended:?}")) });
    outcome.count("is taken out at the end", server.is_empty(Duration::ZERO));
    // From here on nobody says good-bye.
    let killed = serve("isns-killed")?;
    outcome.count("registers again", server.shows(&killed));
    let addresses: Vec<&str> = killed.portals.iter().filter_map(|portal| portal.split(',').next()).collect();
    let [one, two] = addresses[..] else { return Err("there are not two portals".into()) };
    let (one, two) = (one.to_owned(), format!("{two},group=7"));
    drop(killed);
    let words = ["--listen", &one, "--listen", &two, "--isns", &format!("{place},entity=another.example.com")];
    let another = Served::start(&binary, "isns-another", &["null:1G"], &words)?;
    let taken =
        soon(|| server.isnsadm(&["--list", "entities"]).is_ok_and(|text| text.contains("another")), "not there");
    outcome.count("takes the place of an entity that it was", taken);
    drop(another);
    outcome.count("is forgotten when it was killed", server.is_empty(Duration::from_secs(PERIOD + 6)));
    server.stop();
    // One that makes no inquiries refuses those who ask for them.
    let mut server = Server::restart(programs, folder, server.port, 0)?;
    let plain = serve("isns-plain")?;
    outcome.count("goes without what the server does not do", server.shows(&plain));
    std::thread::sleep(Duration::from_secs(PERIOD + 4));
    outcome.count("stays by its own inquiries alone", server.shows(&plain).and_then(|()| unbroken(&plain)));
    server.stop();
    drop(plain);
    Ok(())
}

/// Whether `lunette discover --isns` tells the target as it is served.
fn discovered(binary: &Path, server: &Server<'_>, served: &Served) -> Result<(), String> {
    let place = format!("127.0.0.1:{}", server.port);
    let told = served::succeeds(15, &binary.display().to_string(), &["discover", "--isns", &place])?;
    let mut lines = told.lines().map(str::trim);
    let (name, mut portals) = (lines.next(), lines.map(str::to_owned).collect::<Vec<_>>());
    let address = |portal: &String| portal.split(',').next().unwrap_or_default().to_owned();
    let mut wanted: Vec<_> =
        served.portals.iter().map(address).zip([1, 7]).map(|(address, group)| format!("{address},{group}")).collect();
    portals.sort();
    wanted.sort();
    if name == Some(TARGET) && portals == wanted { Ok(()) } else { Err(format!("it tells {told} and not {wanted:?}")) }
}

/// Whether the server has never lost it.
fn unbroken(served: &Served) -> Result<(), String> {
    let log = served.log();
    let lost = log.lines().find(|line| line.contains("has lost us"));
    lost.map_or(Ok(()), |line| Err(line.to_owned()))
}

/// Waits until it is so.
fn soon(mut is: impl FnMut() -> bool, otherwise: &str) -> Result<(), String> {
    let end = Instant::now() + SOON;
    while !is() {
        if Instant::now() > end {
            return Err(otherwise.to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Where the programs of open-isns are.
struct Programs {
    folder: PathBuf,
    library: PathBuf,
}

impl Programs {
    fn find(folder: &Path) -> Option<Programs> {
        if peers::missing(&["isnsd", "isnsadm"]).is_empty() {
            let here =
                ["/usr/sbin", "/sbin", "/usr/bin"].iter().map(PathBuf::from).find(|at| at.join("isnsd").is_file());
            return here.map(|folder| Programs { folder, library: PathBuf::new() });
        }
        let root = folder.join("root");
        let shell = format!(
            "set -e; mkdir -p debs root; cd debs; get() {{ apt-get -qq download {0} $(apt-cache depends {0} | \
             sed -n 's/^ *Depends: \\(libisns[^ ]*\\)$/\\1/p' | sort -u); }}; \
             get || {{ apt-get -qq update; get; }}; for deb in *.deb; do dpkg-deb -x \"$deb\" ../root; done",
            PACKAGES.join(" ")
        );
        let fetched = Command::new("timeout")
            .args(["120", "sh", "-c", &shell])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let library = std::fs::read_dir(root.join("usr/lib")).ok()?.flatten().map(|entry| entry.path()).find(|at| {
            std::fs::read_dir(at).is_ok_and(|mut files| {
                files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libisns.so")))
            })
        })?;
        let programs = Programs { folder: root.join("usr/sbin"), library };
        let is_there = fetched.is_ok_and(|status| status.success()) && programs.folder.join("isnsd").is_file();
        is_there.then_some(programs)
    }
}

/// isnsd on a port of its own, with everything it writes in the suite's folder.
struct Server<'a> {
    programs: &'a Programs,
    folder: &'a Path,
    port: u16,
    child: Child,
}

impl<'a> Server<'a> {
    fn start(programs: &'a Programs, folder: &'a Path, inquiries: u32) -> Result<Server<'a>, String> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        Server::restart(programs, folder, free.map_err(|error| error.to_string())?.port(), inquiries)
    }

    /// Starts it at this port. Its database is memory: it knows nobody.
    fn restart(programs: &'a Programs, folder: &'a Path, port: u16, inquiries: u32) -> Result<Server<'a>, String> {
        let at = folder.display();
        let shared = format!("Security = 0\nControlSocket = {at}/control\n");
        let server = format!(
            "{shared}SourceName = iqn.2026-11.com.example:isnsd\nBindAddress = 127.0.0.1:{port}\nPIDFile = {at}/pid\n\
             RegistrationPeriod = {PERIOD}\nDefaultDiscoveryDomain = 1\nESIRetries = {inquiries}\nESIMinInterval = 2\n\
             ESIMaxInterval = 3\nSCNTimeout = 5\nSCNRetries = 3\n"
        );
        let admin = format!(
            "{shared}SourceName = iqn.2026-11.com.example:host\nServerAddress = 127.0.0.1:{port}\n\
             Network.ConnectTimeout = 3\nNetwork.CallTimeout = 5\n"
        );
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
        write("isnsd.conf", &server).and_then(|()| write("isnsadm.conf", &admin)).map_err(|error| error.to_string())?;
        let log = std::fs::File::create(folder.join("isnsd.log")).map_err(|error| error.to_string())?;
        let child = Command::new(programs.folder.join("isnsd"))
            .args(["-f", "-d", "esi", "-c"])
            .arg(folder.join("isnsd.conf"))
            .env("LD_LIBRARY_PATH", &programs.library)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("isnsd: {error}"))?;
        let server = Server { programs, folder, port, child };
        soon(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(), "isnsd does not listen")
            .map_err(|why| format!("{why}: {}", server.log()))?;
        Ok(server)
    }

    fn place(&self) -> String {
        format!("127.0.0.1:{},period=60", self.port)
    }

    /// What it said.
    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("isnsd.log")).unwrap_or_default()).into_owned()
    }

    fn isnsadm(&self, words: &[&str]) -> Result<String, String> {
        let library = format!("LD_LIBRARY_PATH={}", self.programs.library.display());
        let program = self.programs.folder.join("isnsadm").display().to_string();
        let conf = self.folder.join("isnsadm.conf").display().to_string();
        match command(15, "env", &[&[&*library, &program, "-c", &conf], words].concat()) {
            (true, text) => Ok(text),
            (false, text) => Err(format!("isnsadm {}: {text}", words.join(" "))),
        }
    }

    /// Whether it shows all of a target that listens at two portals, soon.
    fn shows(&self, served: &Served) -> Result<(), String> {
        let mut seen = String::new();
        let all = || {
            let list = |kind| self.isnsadm(&["--list", kind]).unwrap_or_default();
            seen = format!("{}{}{}{}", list("entities"), list("nodes"), list("portals"), list("portal-groups"));
            let ports = served.portals.iter().filter_map(|portal| portal.split(',').next()?.rsplit(':').next());
            let has = |text: &str| seen.contains(text);
            has(&format!("Entity identifier = \"{TARGET}\""))
                && has(&format!("iSCSI name = \"{TARGET}\""))
                && has("iSCSI node type = Target")
                && ports.clone().count() == 2
                && ports.clone().all(|port| has(&format!("Portal TCP/UDP port = {port}/tcp")))
                && ports.clone().all(|port| has(&format!("Portal group port = {port}/tcp")))
                && has("Portal group tag = 1")
                && has("Portal group tag = 7")
        };
        let shown = soon(all, "");
        shown.map_err(|_| format!("\n{seen}\n{}", served.log()))
    }

    /// Whether it knows none of us, at the latest then.
    fn is_empty(&self, within: Duration) -> Result<(), String> {
        let end = Instant::now() + within;
        loop {
            let nodes = self.isnsadm(&["--list", "nodes"])?;
            match nodes.contains(TARGET) {
                false => return Ok(()),
                true if Instant::now() > end => return Err(nodes),
                true => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
