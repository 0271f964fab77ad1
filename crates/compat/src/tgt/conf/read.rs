//! What the directives of targets.conf mean: which there are, where they may stand, how often, and what they take.

use super::finding::{Finding, Place};
use super::tree::{Block, Entry, Value};
use super::{Account, Config, Store, TargetConfig};

/// What sessions agree on, as a target may say it.
pub const SESSION_KEYS: [&str; 19] = [
    "DataDigest",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "DefaultTime2Retain",
    "DefaultTime2Wait",
    "ErrorRecoveryLevel",
    "FirstBurstLength",
    "HeaderDigest",
    "IFMarkInt",
    "IFMarker",
    "ImmediateData",
    "InitialR2T",
    "MaxBurstLength",
    "MaxConnections",
    "MaxOutstandingR2T",
    "MaxRecvDataSegmentLength",
    "MaxXmitDataSegmentLength",
    "OFMarkInt",
    "OFMarker",
];

/// The parameters of a unit that are directives by their own names.
pub const UNIT_PARAMETERS: [&str; 14] = [
    "scsi_id",
    "sense_format",
    "removable",
    "online",
    "path",
    "readonly",
    "vendor_id",
    "product_id",
    "product_rev",
    "scsi_sn",
    "lbppbe",
    "la_lba",
    "optimal_xfer_gran",
    "optimal_xfer_len",
];

/// Directives of the whole that are known and stand at the top.
const GLOBAL: [&str; 9] = [
    "default-driver",
    "ignore-errors",
    "control-port",
    "iSNS",
    "iSNSServerIP",
    "iSNSServerPort",
    "iSNSAccessControl",
    "incomingdiscoveryuser",
    "outgoingdiscoveryuser",
];

/// Directives of a target.
const TARGET: [&str; 10] = [
    "driver",
    "backing-store",
    "direct-store",
    "initiator-address",
    "initiator-name",
    "incominguser",
    "outgoinguser",
    "controller_tid",
    "state",
    "allow-in-use",
];

/// Directives of a unit, beside [`UNIT_PARAMETERS`].
const UNIT: [&str; 10] = [
    "lun",
    "write-cache",
    "bs-type",
    "bsopts",
    "bsoflags",
    "device-type",
    "block-size",
    "mode_page",
    "params",
    "allow-in-use",
];

/// The configuration that these entries are.
pub fn config(entries: Vec<Entry>, findings: &mut Vec<Finding>) -> Config {
    let mut config = Config::default();
    let (mut globals, mut blocks): (Vec<Value>, Vec<Block>) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            Entry::Value(value) if GLOBAL.contains(&value.key.as_str()) => globals.push(value),
            Entry::Value(value) => unknown(&value.at, &value.key, "", &GLOBAL, findings),
            Entry::Block(block) if block.name == "target" => {
                if block.argument.is_empty() {
                    findings.push(Finding::error(block.at, "the target has no name; write <target IQN>"));
                    continue;
                }
                // The same target twice is one target.
                match blocks.iter_mut().find(|other| other.argument == block.argument) {
                    Some(other) => other.entries.extend(block.entries),
                    None => blocks.push(block),
                }
            }
            Entry::Block(block) => unknown(&block.at, &format!("<{}>", block.name), "", &["<target>"], findings),
        }
    }
    let mut globals = Values { values: globals, findings };
    config.default_driver = globals.one("default-driver");
    config.ignore_errors = globals.one("ignore-errors").is_some_and(|value| value.value == "yes");
    config.control_port = globals.number("control-port", u16::MAX.into()).and_then(|port| u16::try_from(port).ok());
    for key in ["iSNSAccessControl", "iSNSServerIP", "iSNSServerPort", "iSNS"] {
        config.isns.extend(globals.one(key));
    }
    config.incoming_discovery = globals.accounts("incomingdiscoveryuser");
    config.outgoing_discovery = globals.accounts("outgoingdiscoveryuser").into_iter().next();
    config.targets = blocks.into_iter().map(|block| target(block, findings)).collect();
    config.targets.sort_by(|one, other| one.name.cmp(&other.name));
    for (at, target) in config.targets.iter().enumerate() {
        let Some(tid) = target.tid else { continue };
        if let Some(twin) = config.targets.iter().take(at).find(|other| other.tid == Some(tid)) {
            let what = format!("controller_tid {tid} is that of {} too", twin.name);
            findings.push(Finding::error(target.at.clone(), what));
        }
    }
    config
}

/// Values of one place, by their keys.
struct Values<'a> {
    values: Vec<Value>,
    findings: &'a mut Vec<Finding>,
}

impl Values<'_> {
    /// All of this key; those without a value are told.
    fn all(&mut self, key: &str) -> Vec<Value> {
        let (all, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.values).into_iter().partition(|value| value.key == key);
        self.values = rest;
        let (good, empty): (Vec<_>, Vec<_>) = all.into_iter().partition(|value| !value.value.is_empty());
        for value in empty {
            self.findings.push(Finding::error(value.at, format!("Option {key} has a missing value!")));
        }
        good
    }

    /// The only one of this key.
    fn one(&mut self, key: &str) -> Option<Value> {
        let mut all = self.all(key).into_iter();
        let first = all.next()?;
        for more in all {
            let what = format!("{key} stands at line {} already; only one is allowed", first.at.line);
            self.findings.push(Finding::error(more.at, what));
        }
        Some(first)
    }

    fn number(&mut self, key: &str, most: u64) -> Option<u64> {
        let value = self.one(key)?;
        match value.value.parse::<u64>() {
            Ok(number) if number <= most => Some(number),
            _ => {
                let what = format!("{key} {} is no number; use 0 to {most}", value.value);
                self.findings.push(Finding::error(value.at, what));
                None
            }
        }
    }

    fn accounts(&mut self, key: &str) -> Vec<Account> {
        let values = self.all(key);
        let account = |value: Value| {
            let mut words = value.value.split_whitespace();
            match (words.next(), words.next()) {
                (Some(user), Some(password)) => {
                    Some(Account { at: value.at, user: user.to_owned(), password: password.to_owned() })
                }
                _ => {
                    // The value may be a secret without its name, and is not repeated.
                    let what = format!("{key} has no password; write {key} NAME PASSWORD");
                    self.findings.push(Finding::error(value.at, what));
                    None
                }
            }
        };
        values.into_iter().filter_map(account).collect()
    }
}

fn unknown(at: &Place, key: &str, within: &str, known: &[&str], findings: &mut Vec<Finding>) {
    let near = known.iter().find(|other| {
        let plain = |text: &str| text.to_lowercase().replace(['-', '_', '<', '>'], "");
        plain(other) == plain(key)
    });
    let help = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    findings.push(Finding::error(at.clone(), format!("there is no directive {key}{within}{help}")));
}

fn target(block: Block, findings: &mut Vec<Finding>) -> TargetConfig {
    let Block { at, argument: name, entries, .. } = block;
    let (mut values, mut stores): (Vec<Value>, Vec<Wish>) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            Entry::Value(value) if is_store(&value.key) => match value.value.is_empty() {
                true => {
                    let what = format!("Option {} has a missing value!", value.key);
                    findings.push(Finding::error(value.at, what));
                }
                false => stores.push(Wish {
                    direct: value.key == "direct-store",
                    path: value.value,
                    at: value.at,
                    own: Vec::new(),
                }),
            },
            Entry::Value(value) if is_of_target(&value.key) || is_of_unit(&value.key) => values.push(value),
            Entry::Value(value) => {
                unknown(&value.at, &value.key, " of a target", &known_of_target(), findings);
            }
            Entry::Block(block) if is_store(&block.name) => stores.extend(wish(block, findings)),
            Entry::Block(block) => {
                unknown(&block.at, &format!("<{}>", block.name), " of a target", &["<backing-store>"], findings);
            }
        }
    }
    let mut values = Values { values, findings };
    let driver = values.one("driver");
    let tid = values.number("controller_tid", i32::MAX as u64).and_then(|tid| u32::try_from(tid).ok());
    let (incoming, outgoing) = (values.accounts("incominguser"), values.accounts("outgoinguser"));
    let (addresses, names) = (values.all("initiator-address"), values.all("initiator-name"));
    let mut parameters: Vec<Value> = SESSION_KEYS.iter().filter_map(|key| values.one(key)).collect();
    parameters.extend(values.one("state"));
    // tgt gives the target's number to every unit; with more than one that cannot be meant.
    let lun = values.one("lun");
    if let Some(lun) = lun.as_ref().filter(|_| stores.len() > 1) {
        let what = "lun stands at the target, which has several units; write it into a block of each";
        values.findings.push(Finding::error(lun.at.clone(), what));
    }
    let lun = lun.filter(|_| stores.len() == 1);
    let Values { values: common, .. } = values;
    // Backing before direct, each by the order of their paths: tgt's rule, and so its numbers.
    stores.sort_by(|one, other| (one.direct, &one.path).cmp(&(other.direct, &other.path)));
    for pair in stores.windows(2) {
        if let [one, other] = pair
            && one.path == other.path
        {
            let what = format!("{} stands at line {} already", other.path, one.at.line);
            findings.push(Finding::error(other.at.clone(), what));
        }
    }
    let units = stores.into_iter().map(|wish| store(wish, &common, lun.as_ref(), findings)).collect();
    TargetConfig {
        at,
        name,
        driver,
        tid,
        parameters,
        stores: numbered(units, findings),
        incoming,
        outgoing,
        addresses,
        names,
    }
}

fn is_store(key: &str) -> bool {
    matches!(key, "backing-store" | "direct-store")
}

fn is_of_target(key: &str) -> bool {
    TARGET.contains(&key) || SESSION_KEYS.contains(&key)
}

fn is_of_unit(key: &str) -> bool {
    UNIT.contains(&key) || UNIT_PARAMETERS.contains(&key)
}

fn known_of_target() -> Vec<&'static str> {
    TARGET.iter().chain(&SESSION_KEYS).chain(&UNIT).chain(&UNIT_PARAMETERS).copied().collect()
}

/// A unit with what is said of it alone.
struct Wish {
    direct: bool,
    path: String,
    at: Place,
    own: Vec<Value>,
}

fn wish(block: Block, findings: &mut Vec<Finding>) -> Option<Wish> {
    let Block { at, name, argument: path, entries } = block;
    if path.is_empty() {
        findings.push(Finding::error(at, format!("<{name}> has no path")));
        return None;
    }
    let mut own = Vec::new();
    for entry in entries {
        match entry {
            Entry::Value(value) if is_of_unit(&value.key) => own.push(value),
            Entry::Value(value) => {
                let known: Vec<&str> = UNIT.iter().chain(&UNIT_PARAMETERS).copied().collect();
                unknown(&value.at, &value.key, &format!(" of a {name}"), &known, findings);
            }
            Entry::Block(inner) => {
                unknown(&inner.at, &format!("<{}>", inner.name), &format!(" of a {name}"), &[], findings);
            }
        }
    }
    Some(Wish { direct: name == "direct-store", path, at, own })
}

/// A unit with what is said of it, and where nothing is, of its target.
fn store(wish: Wish, common: &[Value], of_target: Option<&Value>, findings: &mut Vec<Finding>) -> (Store, Option<u64>) {
    let Wish { direct, path, at, own } = wish;
    let mut own = Values { values: own, findings };
    let number = own.number("lun", u64::MAX).or_else(|| of_target.and_then(|value| value.value.parse().ok()));
    let mut either = |key: &str| {
        let inner = own.one(key);
        inner.or_else(|| common.iter().find(|value| value.key == key && !value.value.is_empty()).cloned())
    };
    let [device_type, bs_type, bsopts, bsoflags, block_size, write_cache, allow] =
        ["device-type", "bs-type", "bsopts", "bsoflags", "block-size", "write-cache", "allow-in-use"].map(&mut either);
    let parameters = UNIT_PARAMETERS.iter().filter_map(|key| either(key)).collect();
    let mut both = |key: &str| {
        let mut all = own.all(key);
        all.extend(common.iter().filter(|value| value.key == key && !value.value.is_empty()).cloned());
        all
    };
    let (mode_pages, raw) = (both("mode_page"), both("params"));
    if let Some(value) = write_cache.as_ref().filter(|value| !matches!(value.value.as_str(), "on" | "off")) {
        findings.push(Finding::error(value.at.clone(), format!("write-cache {}; use on or off", value.value)));
    }
    let allow_in_use = allow.is_some_and(|value| value.value == "yes");
    let store = Store {
        at,
        path,
        direct,
        lun: 0,
        allow_in_use,
        device_type,
        bs_type,
        bsopts,
        bsoflags,
        block_size,
        write_cache,
        mode_pages,
        parameters,
        raw,
    };
    (store, number)
}

/// The units with their numbers: those that are said, and the lowest free ones from 1 on in order.
fn numbered(units: Vec<(Store, Option<u64>)>, findings: &mut Vec<Finding>) -> Vec<Store> {
    let mut taken: Vec<u64> = Vec::new();
    for (store, number) in &units {
        let Some(number) = number else { continue };
        if *number == 0 {
            let what = "LUN 0 is the controller's; use another number, or lunette.toml, where a disk may be LUN 0";
            findings.push(Finding::error(store.at.clone(), what));
        }
        if taken.contains(number) {
            findings.push(Finding::error(store.at.clone(), format!("lun {number} is taken by another unit")));
        }
        taken.push(*number);
    }
    let mut next = 1;
    let mut free = || {
        while taken.contains(&next) {
            next += 1;
        }
        taken.push(next);
        next
    };
    units.into_iter().map(|(store, number)| Store { lun: number.unwrap_or_else(&mut free), ..store }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{lines, tree};
    use super::*;

    fn read(text: &str) -> (Config, Vec<String>) {
        let mut findings = Vec::new();
        let lines = lines::of_text("t", text, &mut findings);
        let entries = tree::build(&lines, &mut findings);
        let config = config(entries, &mut findings);
        (config, findings.iter().map(ToString::to_string).collect())
    }

    fn good(text: &str) -> Config {
        let (config, findings) = read(text);
        assert_eq!(findings, [""; 0], "{text}");
        config
    }

    #[test]
    fn units_are_numbered_as_tgt_numbers_them() {
        let text = "<target iqn.a>\n direct-store /dev/sdb\n backing-store /dev/sdc\n direct-store /dev/sdd\n \
                    backing-store /dev/sda\n</target>";
        let target = &good(text).targets[0];
        let numbers: Vec<_> =
            target.stores.iter().map(|store| (store.path.as_str(), store.lun, store.direct)).collect();
        let expected = [("/dev/sda", 1, false), ("/dev/sdc", 2, false), ("/dev/sdb", 3, true), ("/dev/sdd", 4, true)];
        assert_eq!(numbers, expected);
        let text = "<target iqn.a>\n<backing-store /b>\nlun 1\n</backing-store>\n<backing-store /a>\n</backing-store>\n\
                    backing-store /c\n</target>";
        let target = &good(text).targets[0];
        let numbers: Vec<_> = target.stores.iter().map(|store| (store.path.as_str(), store.lun)).collect();
        assert_eq!(numbers, [("/a", 2), ("/b", 1), ("/c", 3)], "single lines and blocks may stand together");
    }

    #[test]
    fn what_a_target_says_of_units_holds_where_a_unit_says_nothing() {
        let text = "<target iqn.a>\n<backing-store /a>\nvendor_id own\nmode_page 1\nwrite-cache on\n</backing-store>\n\
                    <backing-store /b>\n</backing-store>\nvendor_id MyCompany Inc.\nwrite-cache off\nmode_page 2\n</target>";
        let target = &good(text).targets[0];
        let [a, b] = &target.stores[..] else { panic!("{target:?}") };
        let said = |store: &Store| {
            let vendor = store.parameters.first().map(|value| value.value.clone());
            let pages: Vec<_> = store.mode_pages.iter().map(|value| value.value.clone()).collect();
            (vendor.unwrap_or_default(), store.write_cache.as_ref().map(|value| value.value.clone()), pages)
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(said(a), (text("own"), Some(text("on")), vec![text("1"), text("2")]));
        assert_eq!(said(b), (text("MyCompany Inc."), Some(text("off")), vec![text("2")]));
    }

    #[test]
    fn targets_of_one_name_are_one_and_all_stand_by_name() {
        let text = "<target iqn.b>\nbacking-store /b\nincominguser u1 secretpass12\n</target>\n<target iqn.a>\n</target>\n\
                    <target iqn.b>\nbacking-store /a\nincominguser u2 secretpass23\ncontroller_tid 10\n</target>\n\
                    incomingdiscoveryuser d secretpass34\niSNS On\niSNSServerIP 192.0.2.1";
        let config = good(text);
        let names: Vec<_> = config.targets.iter().map(|target| (target.name.as_str(), target.stores.len())).collect();
        assert_eq!(names, [("iqn.a", 0), ("iqn.b", 2)]);
        assert_eq!((config.targets[1].incoming.len(), config.targets[1].tid), (2, Some(10)));
        let isns: Vec<_> = config.isns.iter().map(|value| value.key.as_str()).collect();
        assert_eq!(isns, ["iSNSServerIP", "iSNS"], "it is switched on when it is known where it is");
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line_and_without_secrets() {
        for (text, said) in [
            ("<target a>\nbacking-store\n</target>", "t:2: error: Option backing-store has a missing value!"),
            (
                "<target a>\ninitiatoraddress 1\n</target>",
                "t:2: error: there is no directive initiatoraddress of a target; did you mean initiator-address?",
            ),
            ("foo 1", "t:1: error: there is no directive foo"),
            ("control-port 99999", "t:1: error: control-port 99999 is no number; use 0 to 65535"),
            (
                "default-driver iscsi\ndefault-driver iser",
                "t:2: error: default-driver stands at line 1 already; only one is allowed",
            ),
            (
                "<target a>\nincominguser onlysecret\n</target>",
                "t:2: error: incominguser has no password; write incominguser NAME PASSWORD",
            ),
            (
                "<target a>\nbacking-store /a\nbacking-store /b\nlun 10\n</target>",
                "t:4: error: lun stands at the target, which has several units; write it into a block of each",
            ),
            (
                "<target a>\n<backing-store /a>\nlun 0\n</backing-store>\n</target>",
                "t:2: error: LUN 0 is the controller's; use another number, or lunette.toml, where a disk may be LUN 0",
            ),
            ("<target a>\nbacking-store /a\nbacking-store /a\n</target>", "t:3: error: /a stands at line 2 already"),
            (
                "<target a>\ncontroller_tid 1\n</target>\n<target b>\ncontroller_tid 1\n</target>",
                "t:4: error: controller_tid 1 is that of a too",
            ),
        ] {
            assert_eq!(read(text).1, [said], "{text}");
        }
    }
}
