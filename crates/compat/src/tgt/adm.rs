//! One run of tgtadm: what it prints, and its exit code.

use super::arguments::{self, Read};
use super::listing;
use super::manner::Manner;
use super::request::{Change, Error, Failure, Request};
use super::view::Daemon;
use std::io::Write;

/// Exit code of what the daemon refuses, and of most that is wrong with the words.
const INVALID: u8 = 22;

/// One run of tgtadm.
pub struct Run<'a> {
    /// The daemon with this control port.
    pub daemon: &'a dyn Fn(u16) -> Box<dyn Daemon>,
    /// Whose text is printed.
    pub manner: Manner,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
}

impl Run<'_> {
    /// Does what the words behind the program's name say. The answer is the exit code.
    pub fn run(&mut self, words: &[String]) -> u8 {
        match arguments::read(words) {
            Read::Request { request, control_port, debug } => {
                if debug {
                    let _ = writeln!(self.err, "tgtadm: to {control_port}: {}", shown(&request));
                }
                let daemon = (self.daemon)(control_port);
                self.request(&*daemon, &request)
            }
            Read::Help => {
                self.print(&usage(self.manner));
                0
            }
            Read::Version => {
                self.print(&format!("{}\n", self.manner.version()));
                0
            }
            Read::Wrong(code, lines) => {
                for line in lines {
                    let _ = writeln!(self.err, "{line}");
                }
                code
            }
        }
    }

    fn request(&mut self, daemon: &dyn Daemon, request: &Request) -> u8 {
        let done = match request {
            Request::Show(what) => daemon.view().and_then(|view| listing::text(&view, *what, self.manner)),
            Request::Change(change) => {
                // What stands on a command line can be read by whoever lists processes.
                if matches!(change, Change::NewAccount { .. }) {
                    self.complain("note: everybody here could read this password in the list of processes");
                }
                daemon.change(change).map(|()| String::new())
            }
            Request::Unsupported => daemon.view().and(Err(Error::InvalidRequest.into())),
            Request::Refused(why) => Err(Failure::because(Error::Unsupported, why)),
        };
        match done {
            Ok(text) => {
                self.print(&text);
                0
            }
            Err(failure) => self.failure(failure),
        }
    }

    fn failure(&mut self, failure: Failure) -> u8 {
        match failure {
            Failure::Unreachable(number, text) => {
                self.complain(&format!("failed to send request hdr to tgt daemon, {text}"));
                u8::try_from(number).unwrap_or(1)
            }
            Failure::Refused(error, why) => {
                self.complain(&error.to_string());
                if let Some(why) = why {
                    self.complain(&why);
                }
                INVALID
            }
        }
    }

    fn print(&mut self, text: &str) {
        // Whoever asked may have closed the pipe.
        let _ = self.out.write_all(text.as_bytes());
    }

    fn complain(&mut self, line: &str) {
        let _ = writeln!(self.err, "tgtadm: {line}");
    }
}

/// A request for who debugs, without what is secret.
fn shown(request: &Request) -> String {
    match request {
        Request::Change(Change::NewAccount { user, .. }) => format!("NewAccount {{ user: {user:?} }}"),
        request => format!("{request:?}"),
    }
}

fn usage(manner: Manner) -> String {
    let version = manner.version();
    format!(
        "Linux SCSI Target administration utility, version {version}

Usage: tgtadm [OPTION]
  the options of every line: [--lld iscsi] [--control-port N]
--mode target --op new --tid N --targetname IQN
--mode target --op delete [--force] --tid N
--mode target --op show [--tid N]
--mode target --op bind|unbind --tid N --initiator-address ALL|ADDRESS|NETWORK
--mode target --op bind|unbind --tid N --initiator-name IQN
--mode target --op update --tid N --name NAME --value VALUE
--mode target --op stat --tid N
--mode logicalunit --op new --tid N --lun N --backing-store PATH [--bstype TYPE]
        [--bsopts OPTIONS] [--bsoflags sync|direct|sync:direct] [--blocksize BYTES] [--device-type disk|cd]
--mode logicalunit --op delete|stat --tid N --lun N
--mode logicalunit --op update --tid N --lun N --params NAME=VALUE[,NAME=VALUE...]
--mode account --op new --user NAME --password SECRET
--mode account --op delete --user NAME
--mode account --op bind|unbind [--tid N] --user NAME [--outgoing]
--mode account --op show
--mode portal --op new|delete --param portal=ADDRESS[:PORT]
--mode portal --op show
--mode session --op show|stat --tid N --sid N
--mode connection --op show --tid N
--mode connection --op delete|stat --tid N --sid N --cid N
--mode lld --op show|start|stop
--mode system --op show|stat|delete
--mode system --op update --name NAME --value VALUE
--help
--version

tgtadm --lld iscsi --op new --mode target --tid 1 -T iqn.2014-09.com.example:target1
tgtadm --lld iscsi --op new --mode logicalunit --tid 1 --lun 1 -b /dev/VolGroup1/work
tgtadm --lld iscsi --op bind --mode target --tid 1 -I 192.168.1.0/24

What differs from tgt's own: docs/tgt.md
"
    )
}

#[cfg(test)]
mod tests {
    use super::super::view::{Target, View};
    use super::*;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Puppet {
        changes: RefCell<Vec<Change>>,
        answer: Option<Failure>,
    }

    struct Handle(&'static Puppet);

    impl Daemon for Handle {
        fn view(&self) -> Result<View, Failure> {
            match &self.0.answer {
                Some(failure) => Err(failure.clone()),
                None => {
                    Ok(View { targets: vec![Target { tid: 3, ready: true, ..Target::default() }], ..View::default() })
                }
            }
        }

        fn change(&self, change: &Change) -> Result<(), Failure> {
            self.0.changes.borrow_mut().push(change.clone());
            self.0.answer.clone().map_or(Ok(()), Err)
        }
    }

    fn run(line: &str, answer: Option<Failure>) -> (u8, String, String, Vec<Change>) {
        let puppet: &'static Puppet = Box::leak(Box::new(Puppet { answer, ..Puppet::default() }));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let daemon = |_| Box::new(Handle(puppet)) as Box<dyn Daemon>;
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let code = Run { daemon: &daemon, manner: Manner::default(), out: &mut out, err: &mut err }.run(&words);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(err), puppet.changes.borrow().clone())
    }

    #[test]
    fn a_refusal_has_tgts_word_and_our_reason_and_code_22() {
        let why = Failure::because(Error::InvalidRequest, "a secret has 12 bytes or more");
        let (code, out, err, changes) = run("--mode account --op new --user a --password b", Some(why));
        assert_eq!((code, out.as_str(), changes.len()), (22, "", 1));
        assert!(err.ends_with("tgtadm: invalid request\ntgtadm: a secret has 12 bytes or more\n"), "{err}");
        assert!(!err.contains("b\""), "the secret is not repeated: {err}");
    }

    #[test]
    fn without_a_daemon_the_code_is_the_systems() {
        let away = Failure::Unreachable(107, "Transport endpoint is not connected".into());
        let (code, _, err, _) = run("--mode target --op show", Some(away));
        let line = "tgtadm: failed to send request hdr to tgt daemon, Transport endpoint is not connected\n";
        assert_eq!((code, err.as_str()), (107, line));
    }

    #[test]
    fn what_succeeds_says_nothing_and_what_is_shown_is_all_that_is_said() {
        assert_eq!(run("--mode target --op delete --tid 3", None).1, "");
        let (code, out, err, changes) = run("--mode lld --op show", None);
        assert_eq!((code, err.as_str(), changes.len()), (0, "", 0));
        assert_eq!(out, "LLDs:\n    iscsi: ready\n        Target 3: \n");
        assert_eq!(run("-V", None).1, "1.0.85\n");
    }
}
