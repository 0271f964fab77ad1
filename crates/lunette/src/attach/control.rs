//! A holder's socket: a line of JSON asks, a line of JSON answers.
//!
//! It lies in the session's directory, which is its owner's alone. What can be asked: `status`, `statistics`,
//! `refresh` (look at sizes and units again), `detach` (some LUNs or all, with force or without).

use crate::failure::{Cause, Failure};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// The socket's name in its directory.
const SOCKET: &str = "control";
/// Bytes of a question.
const QUESTION_BYTES: u64 = 64 << 10;
/// Bytes of an answer.
const ANSWER_BYTES: u64 = 16 << 20;
/// How long a question may take to be written.
const QUESTION_TIME: Duration = Duration::from_secs(5);
/// Conversations at a time; more wait.
const CONVERSATIONS: usize = 16;

/// What a holder is asked, with the way back.
pub type Question = (Value, oneshot::Sender<Value>);

/// The longest path of a socket (unix(7)), with its last zero.
const PATH_BYTES: usize = 108;

/// A path by which the socket can be named, however deep its directory lies, and what must be open meanwhile.
fn path(directory: &Path) -> std::io::Result<(PathBuf, Option<File>)> {
    let path = directory.join(SOCKET);
    if path.as_os_str().len() < PATH_BYTES {
        return Ok((path, None));
    }
    let open = File::open(directory)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())).join(SOCKET), Some(open)))
}

/// Opens a holder's socket.
pub fn listen(directory: &Path) -> std::io::Result<UnixListener> {
    let (path, _open) = path(directory)?;
    // One that the holder before us left.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Takes questions until the holder ends, and hands each on.
pub async fn serve(listener: UnixListener, questions: mpsc::Sender<Question>) -> std::io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONVERSATIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, for a moment.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let questions = questions.clone();
        tokio::spawn(async move {
            let _ = converse(stream, questions).await;
            drop(place);
        });
    }
}

async fn converse(stream: tokio::net::UnixStream, questions: mpsc::Sender<Question>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = tokio::io::BufReader::new(read.take(QUESTION_BYTES));
    tokio::time::timeout(QUESTION_TIME, read.read_line(&mut line)).await??;
    let question = serde_json::from_str(&line).unwrap_or(Value::Null);
    let (sender, answer) = oneshot::channel();
    let gone = || failure_to_json(&Failure::runtime("the holder is ending"));
    let answer = match questions.send((question, sender)).await {
        Ok(()) => answer.await.unwrap_or_else(|_| gone()),
        Err(_) => gone(),
    };
    tokio::time::timeout(QUESTION_TIME, write.write_all(format!("{answer}\n").as_bytes())).await?
}

/// Asks the holder of the session with this directory.
pub fn ask(directory: &Path, question: &Value, patience: Duration) -> Result<Value, Failure> {
    let exchange = || -> std::io::Result<Value> {
        let (path, _open) = path(directory)?;
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream.take(ANSWER_BYTES)).read_line(&mut line)?;
        if line.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    };
    let answer = exchange().map_err(|error| {
        let number = directory.file_name().unwrap_or_default().to_string_lossy();
        match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Failure::because(
                Cause::TimedOut,
                format!("the holder of session {number} did not answer within {patience:?}; --force ends it"),
            ),
            _ => Failure::runtime(format!("the holder of session {number}: {error}")),
        }
    })?;
    match failure_from_json(&answer) {
        Some(failure) => Err(failure),
        None => Ok(answer),
    }
}

/// A failure, for the other side of a pipe or socket.
pub fn failure_to_json(failure: &Failure) -> Value {
    let cause = match failure {
        Failure::Because(cause, _) => Cause::ALL.iter().find(|(_, known)| known == cause).map(|(name, _)| *name),
        Failure::Input(_) | Failure::Findings(_) | Failure::Told => Some("input"),
        Failure::Runtime(_) => None,
    };
    json!({ "failure": failure.to_string(), "cause": cause })
}

/// The failure that an answer is, where it is one.
pub fn failure_from_json(answer: &Value) -> Option<Failure> {
    let line = answer["failure"].as_str()?;
    let cause = answer["cause"].as_str().unwrap_or_default();
    Some(match Cause::ALL.iter().find(|(name, _)| *name == cause) {
        Some((_, cause)) => Failure::because(*cause, line),
        None if cause == "input" => Failure::input(line),
        None => Failure::runtime(line),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::daemon::Folder;

    #[test]
    fn a_failure_is_the_same_on_both_sides() {
        let mut failures = vec![Failure::input("a"), Failure::runtime("b")];
        failures.extend(Cause::ALL.iter().map(|(name, cause)| Failure::because(*cause, name)));
        for failure in failures {
            assert_eq!(failure_from_json(&failure_to_json(&failure)), Some(failure));
        }
        assert_eq!(failure_from_json(&json!({ "record": {} })), None);
    }

    #[test]
    fn a_question_is_answered_however_deep_the_directory_lies_and_silence_is_told() {
        let folder = Folder::new();
        let deep = folder.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let listener = listen(&deep).unwrap();
        let (sender, mut questions) = mpsc::channel::<Question>(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::spawn(serve(listener, sender));
                let mut kept = Vec::new();
                while let Some((question, back)) = questions.recv().await {
                    match question["do"].as_str() {
                        Some("echo") => back.send(question).unwrap(),
                        Some("fail") => {
                            back.send(failure_to_json(&Failure::because(Cause::InUse, "busy"))).unwrap();
                        }
                        _ => kept.push(back),
                    }
                }
            });
        });
        let ask = |what: &str| ask(&deep, &json!({ "do": what }), Duration::from_millis(500));
        assert_eq!(ask("echo").unwrap()["do"], "echo");
        assert_eq!(ask("fail"), Err(Failure::because(Cause::InUse, "busy")));
        let Err(Failure::Because(Cause::TimedOut, line)) = ask("be silent") else { panic!("it was told") };
        assert!(line.contains("--force"), "{line}");
    }
}
