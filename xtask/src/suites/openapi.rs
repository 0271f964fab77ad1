//! The administration's API against its own document, by schemathesis: thousands of requests, right ones and wrong
//! ones, of which each answer has to be as the document says.
//!
//! It is installed with pip into an environment of its own. Where that cannot be had, the suite did not run.

use super::Outcome;
use super::served::{self, command};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is installed, so that it is the same tomorrow.
const VERSION: &str = "schemathesis==4.32.5";
/// What is looked at. Whether a request that fits the document is taken depends on what runs, which no document knows.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance,negative_data_rejection,unsupported_method,ignored_auth";
/// Requests to each operation, at most.
const EXAMPLES: &str = "20";
/// Seconds for all of them.
const SECONDS: u32 = 240;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub fn run(root: &Path, outcome: &mut Outcome) {
    let Some(program) = install(root) else {
        outcome.notes.push(format!("not run: {VERSION} cannot be had; it needs python3 with venv, and PyPI"));
        return;
    };
    if let Err(why) = try_run(root, &program, outcome) {
        outcome.count("set-up", Err(why));
    }
}

/// The program, in an environment that is kept for the next time.
fn install(root: &Path) -> Option<PathBuf> {
    let folder = root.join("target/schemathesis").join(VERSION.replace("==", "-"));
    let program = folder.join("bin/schemathesis");
    let works = || command(60, &program.display().to_string(), &["--version"]).0;
    if works() {
        return Some(program);
    }
    let _ = std::fs::remove_dir_all(&folder);
    let place = folder.display().to_string();
    let make = || command(120, "python3", &["-m", "venv", &place]).0;
    // On Debian that is a package of its own.
    let made = make() || {
        let _ = std::fs::remove_dir_all(&folder);
        command(300, "apt-get", &["install", "-y", "-qq", "--no-install-recommends", "python3-venv"]).0 && make()
    };
    let pip = folder.join("bin/pip").display().to_string();
    let installed = made && command(300, &pip, &["install", "--quiet", "--disable-pip-version-check", VERSION]).0;
    (installed && works()).then_some(program)
}

fn try_run(root: &Path, program: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let binary = served::build(root)?;
    let daemon = Daemon::start(&binary, root)?;
    let url = format!("https://127.0.0.1:{}", daemon.port);
    let header = format!("Authorization: Bearer {TOKEN}");
    let (document, certificate) = (
        root.join("docs/openapi.json").display().to_string(),
        daemon.folder.join("certificate.pem").display().to_string(),
    );
    let words = [
        "run",
        &document,
        "--url",
        &url,
        "--header",
        &header,
        "--tls-verify",
        &certificate,
        "--checks",
        CHECKS,
        "--max-examples",
        EXAMPLES,
        // These do not end.
        "--exclude-path",
        "/v1/events",
        "--exclude-path",
        "/v1/trace",
        "--phases",
        "examples,coverage,fuzzing",
        "--seed",
        "1",
        "--no-shrink",
        "--warnings",
        "off",
        "--request-timeout",
        "30",
        // With more, Python's own parser fails now and then.
        "--workers",
        "1",
    ];
    // It keeps notes where it is run.
    let (folder, program) = (daemon.folder.display().to_string(), program.display().to_string());
    let (good, text) = command(SECONDS, "env", &[&["-C", &folder, &program], &words[..]].concat());
    let summary = text.lines().filter(|line| line.contains("generated") || line.contains("passed")).collect::<Vec<_>>();
    println!("  {}", summary.join("; ").trim());
    outcome.count("every answer is as the document says", if good { Ok(()) } else { Err(text) });
    let lives = command(20, &binary.display().to_string(), &["status", "--control", &daemon.control()]).0;
    outcome.count("the daemon lives", if lives { Ok(()) } else { Err(daemon.log()) });
    let odd = daemon.log();
    let odd: Vec<&str> = odd.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect();
    outcome.count("its log has no defect", if odd.is_empty() { Ok(()) } else { Err(odd.join("\n")) });
    Ok(())
}

/// A daemon that is administered over TLS, with something of everything.
struct Daemon {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Daemon {
    fn start(binary: &Path, root: &Path) -> Result<Daemon, String> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        let folder = std::env::temp_dir().join(format!("lunette-openapi-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let private = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)))
                .map_err(|error| format!("{}: {error}", path.display()))
        };
        let papers = root.join("crates/lunette/tests/administration");
        for paper in ["certificate.pem", "key.pem"] {
            private(paper, &std::fs::read_to_string(papers.join(paper)).map_err(|error| error.to_string())?)?;
        }
        private("token", TOKEN)?;
        let at = folder.display();
        private(
            "lunette.toml",
            &format!(
                "[daemon]\nstate-dir = \"{at}/state\"\n[administration]\nlisten = \"127.0.0.1:{port}\"\ncertificate = \
                 \"{at}/certificate.pem\"\nkey = \"{at}/key.pem\"\ntoken-file = \"{at}/token\"\n[[portal]]\nlisten = \
                 \"127.0.0.1:0\"\n[account.alice]\nsecret = \"alice-secret-12\"\n[[target]]\nname = \
                 \"iqn.2026-11.com.example:home\"\naccounts = [\"alice\"]\n[[target.lun]]\nstore = \"ram:1M\"\n\
                 [[target.rule]]\ninitiators = \"any\"\n"
            ),
        )?;
        let log = std::fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
        let child = Command::new(binary)
            .args(["serve", "--config", "lunette.toml"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let daemon = Daemon { child, folder, port };
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > end {
                return Err(format!("lunette did not start: {}", daemon.log()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    fn control(&self) -> String {
        self.folder.join("state/control.sock").display().to_string()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
