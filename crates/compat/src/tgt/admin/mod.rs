//! tgt-admin: targets.conf made into commands for a daemon, and what it prints.

mod arguments;
mod steps;

pub use steps::{Machine, Maker, Step};

use super::conf;
use super::listing;
use super::manner::Manner;
use super::request::{Change, Failure, Show};
use super::view::{Daemon, View};
use arguments::{Action, Arguments, Which};
use std::cell::RefCell;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;

/// Where targets.conf is.
const CONF: &str = "/etc/tgt/targets.conf";

/// Several changes at a time, and what a file would say of what runs.
pub trait Whole: Daemon {
    /// All of these or none. What runs as they want it is left as it is, sessions among it. Where one of them cannot
    /// be, its place in the list comes with the reason. An account that is there takes its new password.
    fn together(&self, changes: &[Change], force: bool) -> Result<(), (Option<usize>, Failure)>;

    /// What runs, as a targets.conf that makes it again.
    fn dump(&self) -> Result<String, Failure>;
}

/// One run of tgt-admin.
pub struct Run<'a> {
    /// The daemon with this control port.
    pub daemon: &'a dyn Fn(u16) -> Box<dyn Whole>,
    /// The machine.
    pub machine: &'a dyn Machine,
    /// Whether it is root's, without which nothing is changed.
    pub is_root: bool,
    /// Whose text is printed.
    pub manner: Manner,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
}

/// The run ends with this code.
type Stop = u8;

impl Run<'_> {
    /// Does what the words behind the program's name say. The answer is the exit code.
    pub fn run(&mut self, words: &[String]) -> u8 {
        let arguments = match arguments::read(words) {
            Ok(arguments) => arguments,
            Err(line) => {
                let _ = writeln!(self.err, "{line}");
                return 1;
            }
        };
        match self.act(&arguments) {
            Ok(()) => 0,
            Err(code) => code,
        }
    }

    fn act(&mut self, arguments: &Arguments) -> Result<(), Stop> {
        let port = arguments.control_port.unwrap_or(0);
        match &arguments.action {
            Action::None => {
                self.say("No action specified.");
                Ok(())
            }
            Action::Help => {
                self.print(USAGE);
                Ok(())
            }
            Action::Delete(Which::Help) | Action::Update(Which::Help) | Action::State(_, Which::Help) => {
                self.print(WHICH);
                Ok(())
            }
            Action::Show => {
                let daemon = (self.daemon)(port);
                let text = daemon.view().and_then(|view| listing::text(&view, Show::Targets, self.manner));
                let text = text.map_err(|failure| self.failed(failure))?;
                self.print(&text);
                Ok(())
            }
            Action::Dump => {
                let daemon = (self.daemon)(port);
                let text = daemon.dump().map_err(|failure| self.failed(failure))?;
                self.print(&text);
                Ok(())
            }
            Action::Execute => self.execute(arguments),
            Action::Update(which) => self.update(arguments, which),
            Action::Delete(which) => self.delete(arguments, which, port),
            Action::State(state, which) => self.state(arguments, state, which, port),
        }
    }

    /// The file, where nothing that stands in the way is in it.
    fn load(&mut self, arguments: &Arguments) -> Result<conf::Config, Stop> {
        if !self.is_root {
            let _ = writeln!(self.err, "You must be root to run this program.");
            return Err(1);
        }
        let path = arguments.conf.as_deref().unwrap_or(CONF);
        if !Path::new(path).exists() {
            let _ = writeln!(self.err, "Config file {path} not found. Exiting...");
            return Err(1);
        }
        if let Some(path) = &arguments.conf {
            self.tell(arguments, &format!("# Using {path} as configuration file\n"));
        }
        let (config, findings) = conf::load(Path::new(path));
        for finding in &findings {
            let _ = writeln!(self.err, "{finding}");
        }
        let goes_on = arguments.ignore_errors || config.ignore_errors;
        match findings.iter().any(|finding| finding.is_error) && !goes_on {
            true => Err(1),
            false => Ok(config),
        }
    }

    fn execute(&mut self, arguments: &Arguments) -> Result<(), Stop> {
        let config = self.load(arguments)?;
        let work = Work::new(self, arguments, &config)?;
        self.common(arguments, &config, &work)?;
        let mut next = work.view.targets.iter().map(|target| target.tid).max().unwrap_or(0) + 1;
        for target in &config.targets {
            self.one(arguments, &config, &work, target, &mut next)?;
        }
        for running in &work.view.targets {
            if !config.targets.iter().any(|target| target.name == running.name) {
                // tgt deletes it. A file that was read with a mistake in an include would take disks away.
                let name = &running.name;
                let line =
                    format!("# Target {name} is not in the file and stays; tgt-admin --delete {name} deletes it");
                self.tell(arguments, &line);
            }
        }
        Ok(())
    }

    fn update(&mut self, arguments: &Arguments, which: &Which) -> Result<(), Stop> {
        let config = self.load(arguments)?;
        let work = Work::new(self, arguments, &config)?;
        let names = match which {
            Which::Tid(tid) => {
                let found = work.view.targets.iter().find(|target| target.tid.to_string() == *tid);
                let Some(found) = found else {
                    self.say(format_args!("There is no target with tid {tid}, can't continue!"));
                    return Err(1);
                };
                vec![found.name.clone()]
            }
            Which::Name(name) => vec![name.clone()],
            _ => {
                self.common(arguments, &config, &work)?;
                let running = work.view.targets.iter().map(|target| target.name.clone());
                let gone = running.filter(|name| !config.targets.iter().any(|target| target.name == *name));
                gone.chain(config.targets.iter().map(|target| target.name.clone())).collect()
            }
        };
        let mut next = work.view.targets.iter().map(|target| target.tid).max().unwrap_or(0) + 1;
        for name in names {
            let running = work.view.targets.iter().any(|target| target.name == name);
            match config.targets.iter().find(|target| target.name == name) {
                Some(target) => self.one(arguments, &config, &work, target, &mut next)?,
                None if running => self.remove(arguments, &work, &name, "updated")?,
                None => {
                    self.say(format_args!("Target {name} is currently not configured"));
                    self.say("and does not exist in the config file - can't continue!");
                    return Err(1);
                }
            }
        }
        Ok(())
    }

    /// What holds for all targets.
    fn common(&mut self, arguments: &Arguments, config: &conf::Config, work: &Work) -> Result<(), Stop> {
        let maker = work.maker(self.machine, arguments);
        let steps = maker.common(config, work.view.system.isns.on);
        self.together(arguments, config, work, None, &steps)
    }

    /// One target of the file is to be as it says there.
    fn one(
        &mut self,
        arguments: &Arguments,
        config: &conf::Config,
        work: &Work,
        target: &conf::TargetConfig,
        next: &mut u32,
    ) -> Result<(), Stop> {
        let running = work.view.targets.iter().find(|running| running.name == target.name);
        let tid = target.tid.or(running.map(|running| running.tid)).unwrap_or_else(|| {
            *next += 1;
            *next - 1
        });
        // Its own number is not another's to take.
        *next = (*next).max(tid + 1);
        let paths = running.iter().flat_map(|running| &running.units).filter_map(|unit| unit.path.clone());
        let maker = Maker { own: paths.collect(), ..work.maker(self.machine, arguments) };
        let mut steps = maker.target(target, tid);
        if let Some(running) = running {
            let change = Change::DeleteTarget { tid: running.tid, force: true };
            let shown = format!("tgtadm -C {} --mode target --op delete --tid={}", work.port, running.tid);
            let removed = Step::note(format!("# Removing target: {}", target.name));
            steps.splice(0..0, [removed, Step { shown, change: Some(change), at: None }]);
        }
        self.together(arguments, config, work, running.map(|running| (running.tid, target.name.as_str())), &steps)
    }

    /// Steps that are done as one: whoever looks sees all of them or none.
    fn together(
        &mut self,
        arguments: &Arguments,
        config: &conf::Config,
        work: &Work,
        of: Option<(u32, &str)>,
        steps: &[Step],
    ) -> Result<(), Stop> {
        for step in steps {
            self.tell(arguments, &step.shown);
        }
        self.tell(arguments, "");
        if arguments.pretend {
            return Ok(());
        }
        // What is skipped is told, whether or not all is.
        if !arguments.verbose {
            steps.iter().filter(|step| step.shown.starts_with("# Skipping")).for_each(|step| self.say(&step.shown));
        }
        let mut steps: Vec<&Step> = steps.iter().filter(|step| step.change.is_some()).collect();
        while !steps.is_empty() {
            let changes: Vec<Change> = steps.iter().filter_map(|step| step.change.clone()).collect();
            let Err((at, failure)) = work.daemon.together(&changes, arguments.force) else { return Ok(()) };
            let active = matches!(failure, Failure::Refused(super::Error::TargetActive | super::Error::UnitActive, _));
            if let (Some((tid, name)), true, None) = (of, active, at) {
                self.say(format_args!("# Target with tid {tid} ({name}) is in use, it won't be updated."));
                self.say("# What it would take away needs --force.");
                return Ok(());
            }
            let shown = at.and_then(|at| steps.get(at)).or(steps.last()).map(|step| step.shown.clone());
            if let Some(place) = at.and_then(|at| steps.get(at)).and_then(|step| step.at.as_ref()) {
                let _ = write!(self.err, "{place}: ");
            }
            let code = self.failed(failure);
            let Some(at) = at.filter(|_| arguments.ignore_errors || config.ignore_errors) else {
                self.say(format_args!("Command:\n\t{}\nexited with code: {code}.", shown.unwrap_or_default()));
                return Err(code);
            };
            let gone = steps.remove(at.min(steps.len() - 1));
            if asks_for_a_login(gone) {
                // Without the account that is asked for, everybody of the list would come in.
                steps.retain(|step| !matches!(step.change, Some(Change::Bind { .. })));
                if let Some((_, name)) = of.or(named(&steps)) {
                    self.say(format_args!("# Target {name} lets nobody in: its account could not be made."));
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, arguments: &Arguments, which: &Which, port: u16) -> Result<(), Stop> {
        let work = Work::with(self, arguments, port)?;
        let names: Vec<String> = match which {
            Which::Tid(tid) => match work.view.targets.iter().find(|target| target.tid.to_string() == *tid) {
                Some(target) => vec![target.name.clone()],
                None => {
                    self.tell(arguments, &format!("# Target with tid {tid} does not exist!"));
                    return Ok(());
                }
            },
            Which::Name(name) => vec![name.clone()],
            _ => work.view.targets.iter().map(|target| target.name.clone()).collect(),
        };
        for name in names {
            self.remove(arguments, &work, &name, "deleted")?;
        }
        Ok(())
    }

    fn remove(&mut self, arguments: &Arguments, work: &Work, name: &str, done: &str) -> Result<(), Stop> {
        let Some(target) = work.view.targets.iter().find(|target| target.name == name) else {
            self.tell(arguments, &format!("# Target with name {name} does not exist!"));
            return Ok(());
        };
        let tid = target.tid;
        if !target.sessions.is_empty() && !arguments.force {
            // tgt says it with -v only, and ends well.
            self.say(format_args!("# Target with tid {tid} ({name}) is in use, it won't be {done}."));
            return Ok(());
        }
        let shown = format!("tgtadm -C {} --mode target --op delete --tid={tid}", work.port);
        let change = Change::DeleteTarget { tid, force: arguments.force };
        let steps = [Step::note(format!("# Removing target: {name}")), Step { shown, change: Some(change), at: None }];
        self.together(arguments, &conf::Config::default(), work, None, &steps)
    }

    fn state(&mut self, arguments: &Arguments, state: &str, which: &Which, port: u16) -> Result<(), Stop> {
        let work = Work::with(self, arguments, port)?;
        let tids: Vec<u32> = match which {
            Which::Tid(tid) => match tid.parse() {
                Ok(tid) => vec![tid],
                Err(_) => {
                    self.say(format_args!("There is no target with tid {tid}, can't {state} it!"));
                    return Err(1);
                }
            },
            Which::Name(name) => match work.view.targets.iter().find(|target| target.name == *name) {
                Some(target) => vec![target.tid],
                None => {
                    self.say(format_args!("There is no target with name \"{name}\", can't {state} it!"));
                    return Err(1);
                }
            },
            _ => work.view.targets.iter().map(|target| target.tid).collect(),
        };
        for tid in tids {
            let shown = format!("tgtadm -C {} --op update --mode target --tid={tid} -n state -v {state}", work.port);
            let change = Change::Target { tid, name: "state".to_owned(), value: state.to_owned() };
            self.together(
                arguments,
                &conf::Config::default(),
                &work,
                None,
                &[Step { shown, change: Some(change), at: None }],
            )?;
        }
        Ok(())
    }

    /// What is printed where it is wished for.
    fn tell(&mut self, arguments: &Arguments, line: &str) {
        if arguments.pretend || arguments.verbose {
            self.say(line);
        }
    }

    fn say(&mut self, line: impl Display) {
        // Whoever asked may have closed the pipe.
        let _ = writeln!(self.out, "{line}");
    }

    fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
    }

    fn failed(&mut self, failure: Failure) -> Stop {
        match failure {
            Failure::Unreachable(number, text) => {
                let _ = writeln!(self.err, "tgtadm: failed to send request hdr to tgt daemon, {text}");
                u8::try_from(number).unwrap_or(1)
            }
            Failure::Refused(error, why) => {
                let _ = writeln!(self.err, "tgtadm: {error}");
                if let Some(why) = why {
                    let _ = writeln!(self.err, "tgtadm: {why}");
                }
                22
            }
        }
    }
}

/// Whether a step makes an account that initiators have to show.
fn asks_for_a_login(step: &Step) -> bool {
    matches!(step.change, Some(Change::NewAccount { .. } | Change::BindAccount { outgoing: false, tid: Some(_), .. }))
}

/// The target that these steps make.
fn named<'s>(steps: &[&'s Step]) -> Option<(u32, &'s str)> {
    steps.iter().find_map(|step| match &step.change {
        Some(Change::NewTarget { tid, name, .. }) => Some((*tid, name.as_str())),
        _ => None,
    })
}

/// What a run works on.
struct Work {
    port: u16,
    daemon: Box<dyn Whole>,
    view: View,
    driver: String,
    /// Accounts that were made.
    accounts: RefCell<Vec<String>>,
}

impl Work {
    fn new(run: &mut Run<'_>, arguments: &Arguments, config: &conf::Config) -> Result<Work, Stop> {
        // The command line's word goes before the file's.
        let port = arguments.control_port.or(config.control_port).unwrap_or(0);
        let driver = config.default_driver.as_ref().map(|driver| driver.value.clone());
        Ok(Work { driver: driver.unwrap_or_else(|| "iscsi".to_owned()), ..Work::with(run, arguments, port)? })
    }

    fn with(run: &mut Run<'_>, arguments: &Arguments, port: u16) -> Result<Work, Stop> {
        if !run.is_root {
            let _ = writeln!(run.err, "You must be root to run this program.");
            return Err(1);
        }
        let daemon = (run.daemon)(port);
        let view = match daemon.view() {
            Ok(view) => view,
            // Whoever only wants to see the commands needs no daemon.
            Err(Failure::Unreachable(..)) if arguments.pretend => View::default(),
            Err(failure) => return Err(run.failed(failure)),
        };
        Ok(Work { port, daemon, view, driver: "iscsi".to_owned(), accounts: RefCell::default() })
    }

    fn maker<'m>(&'m self, machine: &'m dyn Machine, arguments: &Arguments) -> Maker<'m> {
        Maker {
            control_port: self.port,
            driver: self.driver.clone(),
            force: arguments.force,
            machine,
            own: Vec::new(),
            accounts: &self.accounts,
        }
    }
}

const WHICH: &str = "\
      --delete|--offline|--ready|--update <value>

      ALL                  all targets
      tid=4                the target with tid 4
      iqn.2008-08.com.example:some.target
                           this target
      help                 this text

Targets that initiators use are deleted with --force only. An update changes what is different, and leaves
sessions alone; what it would take from them needs --force.
";

const USAGE: &str = "\
Usage:
tgt-admin [OPTION]...
This tool configures tgt targets.

  -e, --execute                 make the targets of /etc/tgt/targets.conf
      --delete <value>          delete all or selected targets
                                (see \"--delete help\" for more info)
      --offline <value>         all or selected targets take no logins
      --ready <value>           all or selected targets take logins
      --update <value>          make all or selected targets as the file says
  -s, --show                    show all the targets
  -C, --control-port <NNNN>     the daemon with this control port
  -c, --conf <conf file>        another configuration file
      --ignore-errors           go on when something fails
  -f, --force                   also what is in use
  -p, --pretend                 only print the commands
      --dump                    what runs, as a configuration file (with its passwords)
  -v, --verbose                 print the commands
  -h, --help                    show this help

What differs from tgt's own: docs/tgt.md
";

#[cfg(test)]
mod tests;
