//! The administration over TCP: with TLS and the token, and not otherwise.

use super::rig::{LUNETTE, told};
use sim::Daemon;
use sim::daemon::{Folder, free_address};
use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A folder with a certificate, its key and tokens.
fn papers() -> Folder {
    let folder = Folder::new();
    let private = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    };
    private("certificate.pem", include_str!("certificate.pem"));
    private("key.pem", include_str!("key.pem"));
    private("token", TOKEN);
    private("wrong", "ffffffffffffffffffffffffffffffff");
    folder
}

fn configuration(papers: &Folder, address: SocketAddr) -> String {
    format!(
        "[daemon]\nstate-dir = \"FOLDER/state\"\nthreads = 1\n[administration]\nlisten = \"{address}\"\n\
         certificate = \"{}\"\nkey = \"{}\"\ntoken-file = \"{}\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n\
         [[target]]\nname = \"iqn.2026-01.org.example:home\"\n[[target.lun]]\nstore = \"ram:1M\"\n",
        papers.file("certificate.pem"),
        papers.file("key.pem"),
        papers.file("token")
    )
}

fn list(server: &str, token: &str, ca: Option<&str>) -> (i32, String, String) {
    let mut command = Command::new(LUNETTE);
    command.args(["target", "list", "--server", server, "--token-file", token]);
    if let Some(ca) = ca {
        command.args(["--ca", ca]);
    }
    told(command.output().expect("the command"))
}

#[test]
fn over_tcp_it_is_there_for_whoever_has_the_token_and_speaks_tls() {
    let papers = papers();
    let address = free_address();
    let _daemon = Daemon::configured(LUNETTE, &configuration(&papers, address));
    let server = format!("https://localhost:{}", address.port());
    let (token, ca) = (papers.file("token"), papers.file("certificate.pem"));
    let (code, out, err) = list(&server, &token, Some(&ca));
    assert!(code == 0 && out.contains("iqn.2026-01.org.example:home"), "{out}{err}");
    let (code, _, err) = list(&server, &papers.file("wrong"), Some(&ca));
    assert!(code == 4 && err.contains("the token is wrong"), "{err}");
    let (code, _, err) = list(&server, &token, None);
    assert!(code == 3, "a certificate that nobody has signed is not trusted: {code} {err}");
    std::fs::set_permissions(&token, Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = list(&server, &token, Some(&ca));
    assert!(code == 2 && err.contains("chmod 600"), "{err}");
    // Without TLS nobody answers, whatever is said.
    let mut plain = TcpStream::connect(address).unwrap();
    // It may be closed before all of that is said.
    let _ = write!(plain, "GET /v1/targets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn what_others_may_read_is_not_a_key_and_not_a_token() {
    for (file, missing) in [("key.pem", "certificate"), ("token", "token-file")] {
        let papers = papers();
        std::fs::set_permissions(papers.path().join(file), Permissions::from_mode(0o644)).unwrap();
        let path = papers.file("lunette.toml");
        let text = configuration(&papers, free_address()).replace("FOLDER", &papers.path().display().to_string());
        let serve = |text: &str| {
            std::fs::write(&path, text).unwrap();
            told(Command::new(LUNETTE).args(["serve", "--config", &path]).output().expect("the daemon"))
        };
        let (code, _, err) = serve(&text);
        assert!(code == 2 && err.contains("chmod 600"), "{err}");
        let without: Vec<&str> = text.lines().filter(|line| !line.starts_with(missing)).collect();
        let (code, _, err) = serve(&without.join("\n"));
        assert!(code == 2 && err.contains(&format!("has no `{missing}`")), "{err}");
    }
}
