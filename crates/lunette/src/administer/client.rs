//! A client of the administration's API: over the daemon's socket, or over TLS with a token.

use crate::control::{self, remote};
use crate::failure::{Cause, Failure};
use axum::body::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

/// How long the daemon may take to answer; a change may wait for what is in flight.
const PATIENCE: Duration = Duration::from_secs(310);
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_BYTES: usize = 256 << 20;
/// Whom this machine trusts, where Debian, Red Hat and others keep it.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Which daemon is meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Whom {
    /// The daemon's socket [default: where `lunette serve` puts it]
    #[arg(long, value_name = "PATH", help_heading = "Daemon")]
    pub control: Option<PathBuf>,
    /// The --state-dir of the daemon, where its socket is in it
    #[arg(long, value_name = "DIR", conflicts_with = "control", help_heading = "Daemon")]
    pub state_dir: Option<PathBuf>,
    /// A daemon elsewhere, over TLS
    #[arg(long, value_name = "https://HOST:PORT", conflicts_with_all = ["control", "state_dir"], requires = "token_file",
        help_heading = "Daemon")]
    pub server: Option<String>,
    /// The file with the token for it, readable by its owner only
    #[arg(long, value_name = "FILE", requires = "server", help_heading = "Daemon")]
    pub token_file: Option<PathBuf>,
    /// Trust certificates signed by these, in PEM [default: those that this machine trusts]
    #[arg(long, value_name = "FILE", requires = "server", help_heading = "Daemon")]
    pub ca: Option<PathBuf>,
}

/// Where the daemon is asked.
enum Place {
    Socket(PathBuf),
    Server { address: String, name: ServerName<'static>, tls: TlsConnector, token: zeroize::Zeroizing<String> },
}

/// A daemon that can be asked. Each question is a connection.
pub struct Client {
    place: Place,
    runtime: Runtime,
}

/// An error that the daemon has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status of HTTP.
    pub status: u16,
    /// The answer: code, message, help, findings, plan.
    pub problem: Value,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum Error {
    /// The daemon was not reached, or not understood.
    Failure(Failure),
    /// It has refused.
    Refused(Refused),
}

impl Refused {
    /// The word for programs.
    pub fn code(&self) -> &str {
        self.problem["code"].as_str().unwrap_or("failed")
    }

    /// In a line, with what would mend it.
    pub fn line(&self) -> String {
        let text = |key: &str| self.problem[key].as_str().unwrap_or_default();
        match (text("message"), text("help")) {
            ("", _) => format!("the daemon refuses with status {}", self.status),
            (message, "") => message.to_owned(),
            (message, help) => format!("{message}; {help}"),
        }
    }

    /// As a command ends with it.
    pub fn failure(&self) -> Failure {
        let findings: Vec<String> = self.problem["findings"].as_array().into_iter().flatten().map(finding).collect();
        if !findings.is_empty() {
            return Failure::Findings(findings.join("\n"));
        }
        let line = self.line();
        match self.code() {
            "not-found" => Failure::because(Cause::NotFound, line),
            "in-use" | "conflict" | "busy" => Failure::because(Cause::InUse, line),
            "unauthorized" => Failure::because(Cause::Authentication, line),
            "needs-restart" => Failure::because(Cause::Unavailable, line),
            "exists" | "input" | "invalid" | "bad-request" | "too-large" | "media-type" | "method" => {
                Failure::input(line)
            }
            _ => Failure::runtime(line),
        }
    }
}

impl Error {
    /// As a command ends with it.
    pub fn failure(self) -> Failure {
        match self {
            Error::Failure(failure) => failure,
            Error::Refused(refused) => refused.failure(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::Failure(failure)
    }
}

/// A finding as compilers show it.
fn finding(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or_default();
    let number = |key: &str| finding[key].as_u64().unwrap_or(1).max(1) as usize;
    let (line, column) = (number("line"), number("column"));
    let head = format!("{}:{line}:{column}: {}: {}", text("file"), text("severity"), text("message"));
    let shown = text("text");
    if shown.is_empty() {
        return if text("help").is_empty() { head } else { format!("{head}; {}", text("help")) };
    }
    let margin = " ".repeat(line.to_string().len());
    let before: String = shown.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let room = (shown.chars().count() + 1).saturating_sub(column).max(1);
    let marks = "^".repeat(number("end_column").saturating_sub(column).clamp(1, room));
    let marked = format!("{margin} | {before}{marks} {}", text("help"));
    format!("{head}\n{margin} |\n{line} | {shown}\n{}", marked.trim_end())
}

impl Whom {
    /// The daemon at this socket.
    #[cfg(test)]
    pub fn at(path: &Path) -> Whom {
        Whom { control: Some(path.to_owned()), ..Whom::default() }
    }

    /// A client of it.
    pub fn client(&self) -> Result<Client, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::runtime(format!("cannot start: {error}")))?;
        let place = match (&self.server, &self.token_file) {
            (Some(server), Some(token_file)) => self.remote(server, token_file)?,
            _ => {
                let path = control::path(self.control.as_deref(), self.state_dir.as_deref());
                let unknown = "where the daemon's socket is, is not known; name it with --control PATH";
                Place::Socket(path.ok_or_else(|| Failure::input(unknown))?)
            }
        };
        Ok(Client { place, runtime })
    }

    fn remote(&self, server: &str, token_file: &Path) -> Result<Place, Failure> {
        let wrong = |why: &str| Failure::input(format!("--server {server}: {why}"));
        let address = server.strip_prefix("https://").ok_or_else(|| wrong("give https://HOST:PORT"))?;
        let address = address.trim_end_matches('/');
        let (host, _) = address
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .ok_or_else(|| wrong("it has no port; give https://HOST:PORT"))?;
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())
            .map_err(|_| wrong("that is no host"))?;
        let token = remote::read_token(token_file)
            .map_err(|why| Failure::input(format!("--token-file {}: {why}", token_file.display())))?;
        let mut roots = rustls::RootCertStore::empty();
        let file = match &self.ca {
            Some(file) => file.clone(),
            None => ROOTS.iter().map(PathBuf::from).find(|file| file.is_file()).unwrap_or_default(),
        };
        let failed = |error: rustls::pki_types::pem::Error| {
            Failure::input(format!("{}: {error}; name the certificates to trust with --ca FILE", file.display()))
        };
        for certificate in CertificateDer::pem_file_iter(&file).map_err(failed)? {
            // Of a machine's hundred some may be of a kind that is not understood.
            let _ = roots.add(certificate.map_err(failed)?);
        }
        let settings = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Failure::runtime)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Place::Server { address: address.to_owned(), name, tls: TlsConnector::from(Arc::new(settings)), token })
    }
}

impl Client {
    /// Shows what is there.
    pub fn get(&self, path: &str) -> Result<Value, Error> {
        self.ask(Method::GET, path, None)
    }

    /// Asks, and waits for the whole answer.
    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        self.runtime.block_on(async {
            let asking = async {
                let response = self.send(method, path, body).await?;
                let status = response.status().as_u16();
                let limited = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES);
                let bytes = limited.collect().await.map_err(|error| self.failed(&error.to_string()))?.to_bytes();
                let value = serde_json::from_slice(&bytes)
                    .map_err(|error| self.failed(&format!("its answer is no JSON: {error}")))?;
                match status {
                    200..=299 => Ok(value),
                    _ => Err(Error::Refused(Refused { status, problem: value })),
                }
            };
            let late = || Failure::because(Cause::TimedOut, format!("{}: it does not answer in time", self.name()));
            tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(late().into()))
        })
    }

    /// Reads a stream of events, line by line, as long as `act` wants more.
    pub fn lines(&self, path: &str, mut act: impl FnMut(&str) -> Result<bool, Failure>) -> Result<(), Error> {
        self.runtime.block_on(async {
            let response = self.send(Method::GET, path, None).await?;
            let status = response.status().as_u16();
            let mut body = response.into_body();
            if status != 200 {
                let bytes = body.collect().await.map_err(|error| self.failed(&error.to_string()))?.to_bytes();
                let problem = serde_json::from_slice(&bytes).unwrap_or_default();
                return Err(Error::Refused(Refused { status, problem }));
            }
            let mut text: Vec<u8> = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.failed(&error.to_string()))?;
                let Ok(data) = frame.into_data() else { continue };
                text.extend_from_slice(&data);
                if text.len() > ANSWER_BYTES {
                    return Err(self.failed("a line of its answer has no end").into());
                }
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    if !act(String::from_utf8_lossy(&line).trim_end())? {
                        return Ok(());
                    }
                }
            }
            Err(self.failed("it has ended").into())
        })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        match &self.place {
            Place::Socket(place) => {
                let stream = UnixStream::connect(place).await.map_err(|error| unreachable_socket(place, &error))?;
                let request = request.header(HOST, "lunette").body(Full::new(bytes)).map_err(Failure::runtime)?;
                Ok(self.exchange(stream, request).await?)
            }
            Place::Server { address, name, tls, token } => {
                let connecting = async {
                    let stream = TcpStream::connect(address).await?;
                    tls.connect(name.clone(), stream).await
                };
                let unreachable =
                    |why: String| Failure::because(Cause::Unreachable, format!("https://{address}: {why}"));
                let stream = tokio::time::timeout(CONNECT_TIME, connecting)
                    .await
                    .map_err(|_| unreachable("nobody answers".to_owned()))?
                    .map_err(|error| unreachable(error.to_string()))?;
                let request = request
                    .header(HOST, address)
                    .header(AUTHORIZATION, format!("Bearer {}", token.as_str()))
                    .body(Full::new(bytes))
                    .map_err(Failure::runtime)?;
                Ok(self.exchange(stream, request).await?)
            }
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| match error.is_incomplete_message() {
            true => self.failed("it closed without an answer; it is for the daemon's owner and root"),
            false => self.failed(&error.to_string()),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(failed)
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Socket(path) => path.display().to_string(),
            Place::Server { address, .. } => format!("https://{address}"),
        }
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::runtime(format!("{}: {why}", self.name()))
    }
}

/// Nobody answers at a socket.
fn unreachable_socket(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied => Failure::because(
            Cause::Unavailable,
            format!("{path}: {error}; the administration is for the daemon's owner and root: try sudo"),
        ),
        _ => Failure::because(
            Cause::Unreachable,
            format!(
                "no daemon answers at {path}: {error}; start one with `lunette serve`, or name its socket with --control \
                 PATH or --state-dir DIR"
            ),
        ),
    }
}

/// A name as a part of a path.
pub fn segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_daemon_that_is_not_there_is_told_with_the_remedy() {
        let folder = sim::daemon::Folder::new();
        let client = Whom::at(&folder.path().join("none.sock")).client().unwrap();
        let Err(Error::Failure(Failure::Because(cause, line))) = client.get("/v1/status") else { panic!("an answer") };
        assert_eq!(cause, Cause::Unreachable);
        assert!(line.contains("none.sock") && line.contains("lunette serve") && line.contains("--control"), "{line}");
        let denied = unreachable_socket(Path::new("/x"), &ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().contains("sudo"), "{denied}");
    }

    #[test]
    fn a_refusal_is_a_line_and_findings_are_shown_as_compilers_do() {
        let refused = |problem: Value| Refused { status: 404, problem }.failure();
        let line =
            refused(json!({ "code": "not-found", "message": "there is no target a", "help": "did you mean `b`?" }));
        assert_eq!(line, Failure::because(Cause::NotFound, "there is no target a; did you mean `b`?"));
        let finding = json!({ "file": "l.toml", "line": 12, "column": 3, "end_column": 6, "severity": "error",
            "message": "is wrong", "help": "mend it", "text": "a bcd" });
        let shown = refused(json!({ "code": "invalid", "message": "", "help": "", "findings": [finding] }));
        assert_eq!(
            shown,
            Failure::Findings("l.toml:12:3: error: is wrong\n   |\n12 | a bcd\n   |   ^^^ mend it".into())
        );
        assert_eq!(segment("iqn.a:b/[::1] é"), "iqn.a:b%2F%5B::1%5D%20%C3%A9");
    }
}
