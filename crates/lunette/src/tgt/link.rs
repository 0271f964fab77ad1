//! Asks a daemon over its socket, as HTTP with JSON.

use compat::tgt::{Error, Failure};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon may take to answer: a change may open stores.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const ANSWER_BYTES: u64 = 256 << 20;
/// ENOTCONN, which tgtadm tells of whatever keeps it from its daemon.
const NOT_CONNECTED: (i32, &str) = (107, "Transport endpoint is not connected");

/// The socket of a daemon.
#[derive(Debug, Clone)]
pub struct Link {
    path: PathBuf,
}

/// What a daemon answers that does not do it.
#[derive(Debug, Clone)]
pub struct Problem {
    /// A word for it.
    pub code: String,
    /// It for people, in a line.
    pub line: String,
}

impl Link {
    /// The daemon with this control port: at `$TGT_IPC_SOCKET.N` or `/var/run/tgtd/socket.N`, as tgt has it, and where
    /// nobody is there, port 0 is the daemon of this machine.
    pub fn of_port(port: u16) -> Link {
        let path = socket(port);
        let own = || crate::control::path(None, None);
        let is_own = port == 0 && std::env::var_os("TGT_IPC_SOCKET").is_none() && !path.exists();
        Link { path: if is_own { own().filter(|own| own.exists()).unwrap_or(path) } else { path } }
    }

    /// The socket at this path.
    pub fn at(path: &Path) -> Link {
        Link { path: path.to_owned() }
    }

    /// Whether somebody answers.
    pub fn answers(&self) -> bool {
        UnixStream::connect(&self.path).is_ok()
    }

    /// Asks for something.
    pub fn get(&self, what: &str) -> Result<Value, Failure> {
        match self.exchange("GET", what, None)? {
            Ok(value) => Ok(value),
            Err(problem) => Err(Failure::because(Error::InvalidRequest, problem.line)),
        }
    }

    /// Asks for something to be done. The outer error is that nobody answers.
    pub fn exchange(&self, method: &str, what: &str, body: Option<&Value>) -> Result<Result<Value, Problem>, Failure> {
        let away = |_| Failure::Unreachable(NOT_CONNECTED.0, NOT_CONNECTED.1.to_owned());
        let mut stream = UnixStream::connect(&self.path).map_err(away)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut ask = || -> std::io::Result<Vec<u8>> {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            write!(stream, "{method} {what} HTTP/1.1\r\nHost: lunette\r\nConnection: close\r\n")?;
            if !body.is_empty() {
                write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())?;
            }
            write!(stream, "\r\n{body}")?;
            let mut answer = Vec::new();
            (&stream).take(ANSWER_BYTES).read_to_end(&mut answer)?;
            Ok(answer)
        };
        let failed = |why: &str| Failure::because(Error::Unknown, format!("{}: {why}", self.path.display()));
        let answer = ask().map_err(|error| failed(&error.to_string()))?;
        let answer = String::from_utf8(answer).map_err(|_| failed("its answer is no text"))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed("it closed without an answer"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        let body: Value = serde_json::from_str(body).map_err(|_| failed("its answer is no JSON"))?;
        Ok(if status.starts_with('2') { Ok(body) } else { Err(problem(&body)) })
    }
}

/// Where the socket of the daemon with this control port is.
pub fn socket(port: u16) -> PathBuf {
    let base = std::env::var_os("TGT_IPC_SOCKET").filter(|base| !base.is_empty());
    let mut path = base.unwrap_or_else(|| "/var/run/tgtd/socket".into());
    path.push(format!(".{port}"));
    PathBuf::from(path)
}

/// A problem as it is told: what is wrong, what would mend it, and the first finding.
fn problem(body: &Value) -> Problem {
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    let finding = body["findings"].as_array().and_then(|findings| findings.first());
    let found = finding.and_then(|finding| {
        let message = finding["message"].as_str()?;
        let help = finding["help"].as_str().filter(|help| !help.is_empty());
        Some(help.map_or(message.to_owned(), |help| format!("{message}; {help}")))
    });
    let line = match (found, text("help")) {
        (Some(found), _) => found,
        (None, "") => text("message").to_owned(),
        (None, help) => format!("{}; {help}", text("message")),
    };
    Problem { code: text("code").to_owned(), line }
}
