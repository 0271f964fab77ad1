//! A target of targets.conf as commands, in the order in which tgt-admin gives them.

use crate::tgt::conf::{Account, Config, Place, Store, TargetConfig};
use crate::tgt::request::{Change, DeviceType, NewUnit, Who};
use std::cell::RefCell;

/// Something that is done, or told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// As it is printed.
    pub shown: String,
    /// What it does; nothing where it is only told.
    pub change: Option<Change>,
    /// What says so.
    pub at: Option<Place>,
}

impl Step {
    /// A line that is only told.
    pub fn note(text: impl Into<String>) -> Step {
        Step { shown: text.into(), change: None, at: None }
    }

    /// Where it is said, unless that is known more closely.
    fn located(self, at: &Place) -> Step {
        Step { at: self.at.or_else(|| Some(at.clone())), ..self }
    }
}

/// What is asked of the machine about a store.
pub trait Machine {
    /// Whether there is something at this path that is no directory.
    fn exists(&self, path: &str) -> bool;
    /// Who else uses it.
    fn in_use(&self, path: &str) -> Option<String>;
    /// What the device at this path is called by itself: names of parameters with their values, and `blocksize`.
    fn identity(&self, path: &str) -> Vec<(&'static str, String)>;
}

/// What the commands of one run need to know.
pub struct Maker<'a> {
    /// The daemon's control port.
    pub control_port: u16,
    /// The driver of targets that name none.
    pub driver: String,
    /// Not to ask who else uses a store.
    pub force: bool,
    /// The machine.
    pub machine: &'a dyn Machine,
    /// Paths that the target has already: it is no other who uses them.
    pub own: Vec<String>,
    /// Accounts that this run has made already.
    pub accounts: &'a RefCell<Vec<String>>,
}

impl Maker<'_> {
    /// What holds for all targets.
    pub fn common(&self, config: &Config, isns_is_on: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for account in &config.incoming_discovery {
            self.account(account, None, false, &mut steps);
        }
        if let Some(account) = &config.outgoing_discovery {
            self.account(account, None, true, &mut steps);
        }
        for setting in &config.isns {
            if isns_is_on {
                if setting.key == "iSNS" {
                    steps.push(Step::note("# iSNS already enabled"));
                }
                continue;
            }
            let (name, value) = (setting.key.clone(), setting.value.clone());
            let words = format!("--op update --mode sys --name {name} -v {value}");
            steps.push(self.bare(&words, Change::System { name, value }).located(&setting.at));
        }
        if config.default_driver.is_none() {
            steps.push(Step::note("# default-driver not defined, defaulting to iscsi.\n"));
        }
        steps
    }

    /// A target that is not there, with this number.
    pub fn target(&self, target: &TargetConfig, tid: u32) -> Vec<Step> {
        let driver = target.driver.as_ref().map_or_else(|| self.driver.clone(), |driver| driver.value.clone());
        let name = target.name.clone();
        let mut steps = vec![Step::note(format!("# Adding target: {name}")).located(&target.at)];
        let words = format!("--op new --mode target --tid {tid} -T {name}");
        steps.push(
            self.step(&driver, &words, Change::NewTarget { tid, name, driver: driver.clone() }).located(&target.at),
        );
        for parameter in target.parameters.iter().filter(|parameter| parameter.key != "state") {
            steps.push(self.parameter(&driver, tid, &parameter.key, &parameter.value).located(&parameter.at));
        }
        for store in &target.stores {
            let mut own = Vec::new();
            self.store(&driver, tid, store, &mut own);
            steps.extend(own.into_iter().map(|step| step.located(&store.at)));
        }
        for account in &target.incoming {
            self.account(account, Some((&driver, tid)), false, &mut steps);
        }
        // tgt lets everybody in who has an address, whatever name was asked for. Here a name restricts.
        let bound = |who: &str, letter: char, who_is: Who| {
            let words = format!("--op bind --mode target --tid {tid} -{letter} {who}");
            self.step(&driver, &words, Change::Bind { tid, who: who_is })
        };
        for address in &target.addresses {
            let who = Who { address: Some(address.value.clone()), initiator: None };
            steps.push(bound(&address.value, 'I', who).located(&address.at));
        }
        for initiator in &target.names {
            let who = Who { address: None, initiator: Some(initiator.value.clone()) };
            steps.push(bound(&initiator.value, 'Q', who).located(&initiator.at));
        }
        let everybody = (target.addresses.is_empty() && target.names.is_empty())
            .then(|| bound("ALL", 'I', Who { address: Some("ALL".to_owned()), initiator: None }));
        if let Some(account) = target.outgoing.first() {
            if target.outgoing.len() > 1 {
                let warning = "# Warning: only one outgoinguser is allowed. Will only use the first one.";
                steps.push(Step::note(warning));
            }
            self.account(account, Some((&driver, tid)), true, &mut steps);
        }
        for parameter in target.parameters.iter().filter(|parameter| parameter.key == "state") {
            steps.push(self.parameter(&driver, tid, &parameter.key, &parameter.value).located(&parameter.at));
        }
        steps.extend(everybody);
        steps
    }

    fn bare(&self, words: &str, change: Change) -> Step {
        Step { shown: format!("tgtadm -C {} {words}", self.control_port), change: Some(change), at: None }
    }

    fn step(&self, driver: &str, words: &str, change: Change) -> Step {
        self.bare(&format!("--lld {driver} {words}"), change)
    }

    fn parameter(&self, driver: &str, tid: u32, name: &str, value: &str) -> Step {
        let words = format!("--mode target --op update --tid {tid} --name {name} --value {value}");
        self.step(driver, &words, Change::Target { tid, name: name.to_owned(), value: value.to_owned() })
    }

    /// The account, where it is not there yet, and that it is asked for or shown.
    fn account(&self, account: &Account, of: Option<(&str, u32)>, outgoing: bool, steps: &mut Vec<Step>) {
        let Account { user, password, .. } = account;
        let driver = of.map(|(driver, _)| format!("--lld {driver} ")).unwrap_or_default();
        if !self.accounts.borrow().contains(user) {
            self.accounts.borrow_mut().push(user.clone());
            // A password in a list of commands is one in a scroll-back, a log, a paste.
            let words = format!("{driver}--mode account --op new --user={user} --password=********");
            let change = Change::NewAccount { user: user.clone(), password: password.clone() };
            steps.push(self.bare(&words, change).located(&account.at));
        }
        let tid = of.map(|(_, tid)| tid);
        let of = tid.map(|tid| format!("--tid={tid} ")).unwrap_or_default();
        let direction = if outgoing { " --outgoing" } else { "" };
        let words = format!("{driver}--mode account --op bind {of}--user={user}{direction}");
        steps.push(self.bare(&words, Change::BindAccount { tid, user: user.clone(), outgoing }).located(&account.at));
    }

    fn store(&self, driver: &str, tid: u32, store: &Store, steps: &mut Vec<Step>) {
        let Store { path, lun, .. } = store;
        let lun = *lun;
        let kind = store.bs_type.as_ref().map(|value| value.value.as_str()).unwrap_or_default();
        let is_path = !["rbd", "glfs", "sheepdog", "null"].contains(&kind) && !path.starts_with("NONE");
        if is_path && !self.machine.exists(path) {
            steps.push(Step::note(format!("# Skipping device: {path}")));
            steps.push(Step::note(format!("# {path} does not exist - please check the configuration file")));
            return;
        }
        if is_path
            && !self.force
            && !store.allow_in_use
            && !self.own.contains(path)
            && let Some(who) = self.machine.in_use(path)
        {
            steps.push(Step::note(format!("# Device {path} is used by {who}.")));
            steps.push(Step::note(format!("# Skipping device {path} - it is in use.")));
            steps.push(Step::note("# You can override it with --force or 'allow-in-use yes' config option."));
            steps.push(Step::note("# Note - do so only if you know what you're doing, you may damage your data."));
            return;
        }
        let own = if store.direct { self.machine.identity(path) } else { Vec::new() };
        let own_value = |name: &str| own.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone());
        let said = |value: &Option<super::super::conf::Value>| value.as_ref().map(|value| value.value.clone());
        let (device_type, bs_type) = (said(&store.device_type), said(&store.bs_type));
        let (bsopts, bsoflags) = (said(&store.bsopts), said(&store.bsoflags));
        let block_size = said(&store.block_size).or_else(|| own_value("blocksize"));
        let word = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name} {value}"));
        let words = [
            word("device-type", &device_type),
            word("bstype", &bs_type),
            word("bsopts", &bsopts),
            word("bsoflags", &bsoflags),
            word("blocksize", &block_size),
        ];
        let words = words.map(Option::unwrap_or_default).join(" ");
        let words = format!("--op new --mode logicalunit --tid {tid} --lun {lun} -b \"{path}\" {words}");
        let named = device_type.as_deref().map_or(Some(DeviceType::Disk), DeviceType::named);
        match named {
            Some(device_type) => {
                let new = NewUnit {
                    tid,
                    lun,
                    path: Some(path.clone()),
                    store: bs_type,
                    store_options: bsopts,
                    open_flags: bsoflags,
                    block_size,
                    device_type,
                };
                steps.push(self.step(driver, &words, Change::NewUnit(new)));
            }
            None => {
                let device_type = device_type.unwrap_or_default();
                steps.push(Step::note(format!("# Skipping device {path} - there is no device-type {device_type}.")));
                return;
            }
        }
        let update = |shown: String, parameters: String| {
            let words = format!("--op update --mode logicalunit --tid {tid} --lun={lun} --params {shown}");
            self.step(driver, &words, Change::Unit { tid, lun, parameters })
        };
        let mut last = Vec::new();
        match store.write_cache.as_ref().map(|value| value.value.as_str()) {
            Some("off") => steps.push(update(WRITE_CACHE_OFF.to_owned(), WRITE_CACHE_OFF.to_owned())),
            _ => last.push(Step::note(format!("# Write cache is enabled (default) for lun {lun}."))),
        }
        for page in &store.mode_pages {
            let value = &page.value;
            steps.push(update(format!("mode_page=\"{value}\""), format!("mode_page={value}")).located(&page.at));
        }
        for parameter in &store.parameters {
            let (key, value) = (&parameter.key, &parameter.value);
            steps.push(update(format!("{key}=\"{value}\""), format!("{key}={value}")).located(&parameter.at));
        }
        for (key, value) in own.iter().filter(|(key, _)| *key != "blocksize") {
            if !store.parameters.iter().any(|parameter| parameter.key == *key) {
                steps.push(update(format!("{key}=\"{value}\""), format!("{key}={value}")));
            }
        }
        steps.extend(last);
        for raw in &store.raw {
            let value = raw.value.replace("${tid}", &tid.to_string()).replace("${lun}", &lun.to_string());
            steps.push(update(format!("\"{value}\""), value).located(&raw.at));
        }
    }
}

/// The caching page with WCE off.
const WRITE_CACHE_OFF: &str = "mode_page=8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0";
