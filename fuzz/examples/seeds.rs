//! Writes the seeds of the corpora: `cargo run --example seeds` in this folder. What a fuzzer found
//! stands beside them under its hash and is not touched.
//!
//! Each class of hole of docs/reliability.md has its entry, named after the first that fell into it; the exchanges
//! of crates/sim/tests/golden are there whole.

use iscsi::text;
use std::fs;
use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (target, seeds) in [
        ("pdu", pdu(root)),
        ("login", login()),
        ("chap", chap()),
        ("connection", connection(root)),
        ("cdb", cdb()),
        ("isns", isns()),
        ("initiator", initiator()),
    ] {
        let folder = root.join("corpus").join(target);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes).expect("a file");
        }
    }
}

type Seeds = Vec<(String, Vec<u8>)>;

fn named(seeds: Vec<(&str, Vec<u8>)>) -> Seeds {
    seeds.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// A name, and PDUs: whether the initiator sent it, and its bytes.
type Exchange = (String, Vec<(bool, Vec<u8>)>);

/// The PDUs of the golden exchanges.
fn golden(root: &Path) -> Vec<Exchange> {
    ["discovery", "session", "data"]
        .map(|name| {
            let path = root.join(format!("../crates/sim/tests/golden/{name}.txt"));
            let content = fs::read_to_string(path).expect("a golden file");
            let mut pdus: Vec<(bool, Vec<u8>)> = Vec::new();
            for line in content.lines() {
                if let Some(rest) = line.strip_prefix("# ") {
                    pdus.push((rest.starts_with("initiator"), Vec::new()));
                } else if let (Some((_, bytes)), Some(rest)) = (pdus.last_mut(), line.get(6..53.min(line.len()))) {
                    bytes
                        .extend(rest.split_whitespace().map(|word| u8::from_str_radix(word, 16).expect("hexadecimal")));
                }
            }
            (name.to_owned(), pdus)
        })
        .to_vec()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    pairs.iter().for_each(|(key, value)| text::push(&mut out, key, value));
    out
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

const INITIATOR: (&str, &str) = ("InitiatorName", "iqn.2026-01.org.example:client");
const TARGET: (&str, &str) = ("TargetName", "iqn.2026-01.org.example:disk");

fn pdu(root: &Path) -> Seeds {
    let mut seeds = Seeds::new();
    let mut known = Vec::new();
    for (_, pdus) in golden(root) {
        for (_, bytes) in pdus {
            if !known.contains(&bytes[0]) {
                known.push(bytes[0]);
                seeds.push((format!("golden-{:02x}", bytes[0]), bytes));
            }
        }
    }
    let command = |words: u8, additional: &[u8]| {
        let mut bytes = vec![0; 48];
        (bytes[0], bytes[1], bytes[4]) = (0x01, 0xc1, words);
        bytes[32..48].copy_from_slice(&[0x7f; 16]);
        bytes.extend_from_slice(additional);
        bytes
    };
    let mut all_ones = command(0xff, &[0xff; 1020]);
    all_ones[5..8].fill(0xff);
    let extended = [&[0, 17, 1, 0][..], &[0x5a; 16]].concat();
    let bidirectional = [0, 5, 2, 0, 0, 0, 0x20, 0];
    seeds.extend(named(vec![
        ("cve-2023-21803-lengths-at-their-limits", all_ones),
        ("ahs-extended-cdb", command(5, &extended)),
        ("ahs-bidirectional", command(2, &bidirectional)),
        ("ahs-both", command(7, &[&extended[..], &bidirectional].concat())),
        ("ahs-zero-length", command(1, &[0, 0, 1, 0])),
        ("ahs-longer-than-it-is", command(1, &[0xff, 0xff, 1, 0])),
        ("ahs-unknown", command(2, &[0, 5, 0x3f, 0, 1, 2, 3, 4])),
        ("text-not-closed", [&[0x04; 48][..], b"SendTargets=All"].concat()),
        ("text-key-of-64", [&[0x04; 48][..], &[b'k'; 64], b"=1\0"].concat()),
        ("text-numbers", b"A=0\0B=0x0\0C=0xFFFFFFFFFFFFFFFF\0D=18446744073709551616\0E=00012\0F=-1\0".to_vec()),
        ("names", pairs(&[INITIATOR, ("X", "IQN.2026-01.ORG.Ex\u{e4}mple:\u{df}"), ("Y", "naa.0123456789abcdef")])),
    ]));
    seeds
}

/// A request with right lengths.
fn request(how: u8, flags: u8, text: &[u8]) -> Vec<u8> {
    [&[how, flags][..], &counted(text)].concat()
}

/// A text request of the full feature phase.
fn question(how: u8, text: &[u8]) -> Vec<u8> {
    [&[how, 1][..], &counted(text)].concat()
}

fn login() -> Seeds {
    let all = pairs(&[
        INITIATOR,
        TARGET,
        ("SessionType", "Normal"),
        ("HeaderDigest", "CRC32C,None"),
        ("DataDigest", "None"),
        ("MaxConnections", "4"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxRecvDataSegmentLength", "512"),
        ("MaxBurstLength", "262144"),
        ("FirstBurstLength", "65536"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "20"),
        ("MaxOutstandingR2T", "4"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("ErrorRecoveryLevel", "2"),
        ("TaskReporting", "FastAbort,ResponseFence,RFC3720"),
        ("iSCSIProtocolLevel", "2"),
        ("IFMarker", "No"),
        ("X-com.example.key", "1"),
    ]);
    let names = pairs(&[INITIATOR, TARGET]);
    let discovery = pairs(&[INITIATOR, ("SessionType", "Discovery"), ("MaxRecvDataSegmentLength", "512")]);
    let security = pairs(&[INITIATOR, TARGET, ("AuthMethod", "CHAP,None")]);
    let many: Vec<u8> =
        (0..2048u32).flat_map(|n| [b'a' + (n & 15) as u8, b'a' + (n >> 4 & 15) as u8, b'=', 0]).collect();
    let long_key = [&names[..], &[b'k'; 63], b"=1\0", &[b'k'; 4000], b"=1\0"].concat();
    let formats =
        pairs(&[("InitiatorName", "iqn.2026-01.org.example:%n%s%x{}{0}"), TARGET, ("InitiatorAlias", "%s%n\r\n[ok]")]);
    let half = names.len() / 2;
    let continued = [request(0, 0x40, &names[..half]), request(0, 0x87, &names[half..])].concat();
    let full = |rest: &[Vec<u8>]| [vec![0x10], request(0, 0x87, &all), rest.concat()].concat();
    named(vec![
        ("operational", [vec![0], request(0, 0x87, &all)].concat()),
        ("two-stages", [vec![0], request(0, 0x81, &names), request(0, 0x87, b"")].concat()),
        ("continued", [vec![0], continued].concat()),
        (
            "chap",
            [
                vec![0x09],
                request(0, 0, &security),
                request(0, 0, b"CHAP_A=8,7,6,5\0"),
                request(2, 0x87, b""),
                request(0, 0x87, b""),
            ]
            .concat(),
        ),
        ("not-there", [vec![0x02], request(0, 0x87, &names)].concat()),
        ("no-room", [vec![0x04], request(0, 0x87, &names)].concat()),
        ("cve-2011-0001-data-segment-length", [vec![0], request(4, 0x87, &names), vec![0xff, 0xff]].concat()),
        ("cve-2010-0743-format-string-in-names", [vec![0], request(0, 0x87, &formats)].concat()),
        (
            "tgt-8115bab-send-targets-longer-than-a-pdu",
            [
                vec![0],
                request(0, 0x87, &discovery),
                question(0x80, b"SendTargets=All\0"),
                question(0x84, b""),
                question(0x84, b""),
            ]
            .concat(),
        ),
        ("cve-2013-2850-unknown-key-too-long", [vec![0], request(0, 0x87, &long_key)].concat()),
        (
            "lio-bf33e01f8838-answer-amplification",
            [
                vec![0],
                request(0, 0x87, &[&names[..], &many[..(8192 - names.len()) & !3]].concat()),
                request(0, 0x87, b""),
                request(0, 0x87, b""),
                request(0, 0x87, b""),
            ]
            .concat(),
        ),
        ("lio-2022-login-race-another-tag", [vec![0], request(0, 0x81, &names), request(8, 0x87, b"")].concat()),
        ("endless-text", [vec![0], [request(0, 0x40, &names)].concat().repeat(20)].concat()),
        ("pdu-other-than-login", [&[0, 1][..], &[0x01; 48]].concat()),
        ("ahs-in-login", [&[0, 8, 0x87, 0x06][..], &counted(&names)].concat()),
        (
            "full-feature-text",
            full(&[question(0x80, b"MaxRecvDataSegmentLength=1024\0"), question(0x80, b"X-a=1\0X-b=2\0")]),
        ),
        (
            "full-feature-continued",
            full(&[question(0x40, b"SendTar"), question(0x84, b"gets=All\0"), question(0x84, b"")]),
        ),
        (
            "full-feature-reset",
            full(&[question(0x00, b"X-a=1\0"), question(0x80, b"SendTargets=\0"), question(0x8c, b"")]),
        ),
    ])
}

fn chap() -> Seeds {
    let message = |how: u8, text: &[u8]| [&[how][..], &counted(text)].concat();
    let offer = message(0, b"CHAP_A=8,7,6,5\0");
    let md5 = message(0, b"CHAP_A=5\0");
    let target = |setting: u8, rest: &[Vec<u8>]| [vec![setting], rest.concat()].concat();
    let own = format!("CHAP_I=1\0CHAP_C=0x{}\0", "a5".repeat(32));
    let value = |prefix: &str, digits: &str, count: usize| {
        format!("CHAP_N=alice\0CHAP_R={prefix}{}\0", digits.repeat(count)).into_bytes()
    };
    let chosen = format!("CHAP_A=7\0CHAP_I=3\0CHAP_C=0x{}\0", "7e".repeat(32));
    let mut seeds = named(vec![
        ("right-hexadecimal", target(0x0f, &[offer.clone(), message(5, b"")])),
        ("right-base64", target(0x0f, &[offer.clone(), message(7, b"")])),
        ("mutual", target(0x4f, &[offer.clone(), message(5, b"CHAP_I=200\0CHAP_C=0bAQIDBA==\0")])),
        ("cve-2024-45751-the-same-challenge", target(0x4f, &[offer.clone(), message(5, own.as_bytes())])),
        (
            "lio-7e161211f1dd-identifier-in-hexadecimal",
            target(0x4f, &[md5.clone(), message(5, b"CHAP_I=0xff\0CHAP_C=0x01\0")]),
        ),
        ("lio-cf14fc2be868-name-with-prefix", target(0x0f, &[md5.clone(), message(1, b"CHAP_N=0x616c696365\0")])),
        ("cve-2018-14633-hexadecimal-too-long", target(0x08, &[md5.clone(), message(0, &value("0x", "41", 33))])),
        ("cve-2018-14633-hexadecimal-1025", target(0x08, &[md5.clone(), message(0, &value("0x", "41", 1025))])),
        ("lio-85db7391310b-base64-of-127", target(0x08, &[md5.clone(), message(0, &value("0b", "A", 127))])),
        ("base64-of-1368", target(0x08, &[md5.clone(), message(0, &value("0b", "A", 1368))])),
        ("edk2-2021-hexadecimal-empty", target(0x08, &[md5.clone(), message(0, &value("0x", "", 1))])),
        ("edk2-2021-hexadecimal-odd", target(0x08, &[md5.clone(), message(0, &value("0x", "4", 33))])),
        ("edk2-2021-hexadecimal-invalid", target(0x08, &[md5, message(0, &value("0x", "4g", 16))])),
        ("initiator", target(0x8f, &[message(0, chosen.as_bytes())])),
        ("initiator-mutual", target(0xcf, &[message(0, chosen.as_bytes()), message(13, b"")])),
        ("initiator-mutual-base64", target(0xcf, &[message(0, chosen.as_bytes()), message(15, b"")])),
        ("initiator-edk2-2021-challenge-odd", target(0x8f, &[message(0, b"CHAP_A=5\0CHAP_I=3\0CHAP_C=0x123\0")])),
        ("initiator-not-offered", target(0x88, &[message(0, chosen.as_bytes())])),
    ]);
    for algorithm in 0..4u8 {
        let list = format!("CHAP_A={}\0", 8 - algorithm);
        seeds.push((
            format!("algorithm-{}", 8 - algorithm),
            target(1 << algorithm, &[message(0, list.as_bytes()), message(7, b"")]),
        ));
    }
    seeds
}

// Records of the connection target: kind, what is wrong with it, its fields.
fn connection(root: &Path) -> Seeds {
    const TOGETHER: u8 = 0x20;
    const LIES: u8 = 0x80;
    let course = |setting: [u8; 2], records: &[&[u8]]| [&setting[..], &records.concat()].concat();
    let text = |how: u8, tag: u8, flags: u8, text: &[u8]| [&[7, how, tag, flags][..], &counted(text)].concat();
    let bytes = |bytes: &[u8]| [&[11, 0][..], &counted(bytes)].concat();
    let (read, write): (&[u8], &[u8]) = (&[1, 0, 1, 0, 8], &[2, 0, 2, 0, 8, 0]);
    let data: &[u8] = &[4, 0, 0, 0];
    let logout: &[u8] = &[8, 8, 0, 0];
    let cut: &[u8] = &[14, 0];
    let command = |flags: u8, expected: u16, cdb: &[u8], data: &[u8]| {
        let mut whole = [0; 16];
        whole[..cdb.len()].copy_from_slice(cdb);
        [&[3, 0, 9, flags, 1][..], &expected.to_be_bytes(), &whole, &counted(data)].concat()
    };
    let target = text(0, 1, 0x80, b"SendTargets=All\0");
    let half = |of: &[u8]| of.len() / 2;
    let mut ping = vec![0; 48];
    (ping[0], ping[1], ping[7], ping[19]) = (0x40, 0x80, 8, 5);
    ping[20..24].fill(0xff);
    ping[27] = 2;
    ping.extend(b"abcdefgh");
    let mut seeds = named(vec![
        ("reads-and-writes", course([0, 8], &[read, write, data, read, logout])),
        (
            "immediate-and-unsolicited",
            course([0, 8], &[&[2, 0, 2, 0, 8, 9], &[5, 0, 2, 0x80 | 16, 0, 4], read, logout]),
        ),
        ("digests", course([0x03, 8], &[read, write, data, target.as_slice(), &[0, 0, 3, 9], logout])),
        ("small", course([0x50, 8], &[read, &[2, 0, 2, 0, 16, 0], data, data, data, data, data, data, data, data])),
        ("discovery", course([0, 0x18], &[target.as_slice(), logout])),
        ("management", course([0, 8], &[write, &[6, 8, 1, 1, 2, 1, 1], &[6, 8, 5, 2, 0, 0, 1], read])),
        ("slow-store", course([0, 0x0c], &[read, write, data, &[15, 0, 1], &[15, 0, 7], logout])),
        ("cve-2021-28361-no-data-where-some-is-due", course([0, 0], &[write, &[4, LIES, 0, 0, 2, 0], data])),
        ("tgt-7bb239b-close-with-data-outstanding", course([0, 0], &[write, read, cut])),
        ("tgt-532a527-close-with-a-function-pending", course([0, 4], &[write, data, &[6, 8, 5, 1, 0, 0, 1], cut])),
        ("data-out-beyond-its-r2t", course([0, 0], &[write, &[4, LIES, 0, 0, 0, 1], &[4, LIES, 0, 0, 2, 255]])),
        ("data-out-before-its-r2t", course([0, 0], &[write, &[4, LIES, 0, 0, 1, 1], &[4, LIES, 0, 0, 7, 0]])),
        ("data-out-for-nobody", course([0, 0], &[write, &[4, LIES, 0, 0, 3, 99], &[4, LIES, 0, 0, 4, 1], data, data])),
        (
            "lio-778c2ab142c6-text-digest-error-and-again",
            course(
                [0x0b, 0],
                &[
                    &text(2, 7, 0x80, b"SendTargets=All\0"),
                    &text(0, 7, 0x80, b"SendTargets=All\0"),
                    &text(2, 7, 0x80, b"X=1\0"),
                ],
            ),
        ),
        ("digest-error-in-data", course([0x03, 0], &[write, &[4, 2, 0, 0], read])),
        ("digest-error-in-header", course([0x03, 0], &[write, &[4, 1, 0, 0], &[13, 0, 1], read])),
        (
            "cve-2026-23216-close-storm",
            course([0, 0], &[write, &[13, 0, 1], write, cut, &[13, 0, 1], cut, &[13, 0, 5], write]),
        ),
        (
            "lio-975e861a73d4-abort-of-what-awaits-data",
            course([0, 8], &[write, &[6, 8, 1, 1, 2, 1, 1], data, &[6, 8, 2, 2, 0, 0, 1], read]),
        ),
        ("lio-2022-lost-during-login", course([0x80, 0], &[&[0x43, 0x87, 0, 0, 0, 0, 0]])),
        ("spdk-e53646435-between-data-and-digest", course([0x03, 0], &[&bytes(&ping[..52]), &bytes(&ping[52..])])),
        (
            "spdk-9ccf32d64-reset-of-a-write-in-pieces",
            course([0x50, 4], &[&[2, 0, 2, 0, 16, 0], data, &[6, 8, 5, 1, 0, 0, 1], data, data]),
        ),
        ("ms14-028-many-packets", course([0, 0], &[&[0, 8, 0x80, 255][..]; 60])),
        ("lio-default-segment-length", course([0, 8], &[&[1, 0, 1, 0, 128]])),
        (
            "snack-at-level-0",
            course(
                [0, 0],
                &[read, &[9, 8, 0, 1, 0, 0], &[9, 8, 0x11, 0, 0, 0], &[9, 8, 3, 1, 0, 0], &[9, 8, 2, 1, 0, 0]],
            ),
        ),
        (
            "snack-at-level-1",
            course([0x04, 0], &[read, &[9, 8, 0, 1, 0, 1], &[9, 8, 0x91, 0, 1, 1], write, &[9, 8, 0, 2, 0, 1], data]),
        ),
        (
            "level-2-another-connection",
            course([0x08, 3], &[write, &[13, 0, 0x10], &[8, 0x48, 2, 1], &[6, 0x48, 14, 3, 2, 1, 1], data]),
        ),
        ("reinstatement", course([0, 0], &[write, &[13, TOGETHER, 1], read, write, data])),
        ("time-passes", course([0, 0], &[write, &[12, 0, 20], &[12, 0, 20], &[12, 0, 63], read])),
        (
            "early-and-late-numbers",
            course([0, 0], &[&[1, 4, 1, 0, 8, 2], &[1, 4, 2, 0, 8, 1], &[1, 0, 3, 0, 8], &[1, 4, 4, 0, 8, 0x80]]),
        ),
        ("tag-in-use", course([0, 8], &[write, write, read, data])),
        (
            "length-that-lies",
            course([0, 0], &[&[10, 0], &[&[0x01, 0x80, 0, 0, 0, 0xff, 0xff, 0xff][..], &[0; 40], &[0, 0]].concat()]),
        ),
        (
            "ahs-that-lies",
            course(
                [0, 0],
                &[&[10, 0], &[&[0x01, 0x80, 0, 0, 1, 0, 0, 0][..], &[0; 40], &[0, 0], &[0xff, 0xff, 1, 0]].concat()],
            ),
        ),
        (
            "persistent-reservation",
            course(
                [0, 8],
                &[
                    &command(0xa1, 24, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24], &[0; 24]),
                    &command(0xc1, 255, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 255], b""),
                ],
            ),
        ),
    ]);
    for (name, pdus) in golden(root) {
        let stream: Vec<u8> =
            pdus.into_iter().filter(|(initiator, _)| *initiator).flat_map(|(_, bytes)| bytes).collect();
        let cut = half(&stream);
        seeds.push((format!("golden-{name}-half"), [&[0x80, 0][..], &stream[..cut]].concat()));
        seeds.push((format!("golden-{name}"), [&[0x80, 0][..], &stream].concat()));
    }
    seeds
}

// Records of the initiator's target: what the caller does, and PDUs of a target: 12, opcode, what is wrong with it,
// for which request, flags, value.
fn initiator() -> Seeds {
    const DATA_IN: u8 = 0;
    const RESPONSE: u8 = 1;
    const R2T: u8 = 2;
    let (read, write): (&[u8], &[u8]) = (&[0, 0, 8], &[1, 0, 64]);
    let status: &[u8] = &[12, RESPONSE, 0, 0, 0x80, 0, 0, 0];
    let course = |setting: u8, records: &[&[u8]]| [&[setting][..], &records.concat()].concat();
    named(vec![
        ("read", course(0, &[read, &[12, DATA_IN, 0, 0, 0x00, 4], &[12, DATA_IN, 0, 0, 0x81, 4]])),
        ("write", course(0x0c, &[write, &[12, R2T, 0, 0, 0x80, 8], &[12, R2T, 0, 0, 0x80, 8], status])),
        ("both", course(0, &[&[2, 0, 16], &[12, DATA_IN, 0, 0, 0x80, 16], status])),
        ("small", course(0x1c, &[write, &[12, R2T, 0, 0, 0x80, 16], status])),
        (
            "sense",
            course(
                0,
                &[
                    read,
                    &[
                        12, RESPONSE, 0, 0, 0x80, 2, 0, 20, 0, 18, 0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0,
                        0, 0, 0,
                    ],
                ],
            ),
        ),
        ("cve-2020-1711-more-data-than-memory", course(0, &[read, &[12, DATA_IN, 0, 0, 0x81, 255]])),
        ("data-at-another-offset", course(0, &[read, &[12, DATA_IN, 8, 0, 0x81, 1, 0xff, 0xff, 0xff, 0xf0]])),
        (
            "r2t-beyond-the-data",
            course(0x0c, &[write, &[12, R2T, 0, 0, 0x80, 255], &[12, R2T, 8, 0, 0x80, 1, 0xff, 0xff, 0xff, 0x80]]),
        ),
        ("r2t-for-a-read", course(0, &[read, &[12, R2T, 0, 0, 0x80, 1]])),
        ("length-that-lies", course(0, &[read, &[12, DATA_IN, 0x80, 0, 0x81, 1, 0xff, 0xff]])),
        ("status-twice", course(0, &[read, status, status])),
        (
            "digest-error-at-level-1",
            course(0x21, &[read, &[12, DATA_IN, 0x10, 0, 0x80, 8], &[12, DATA_IN, 0, 0, 0x80, 8], &[9, 3]]),
        ),
        ("level-2-lost-and-back", course(2, &[read, write, &[10, 0], &[11, 0], &[9, 3], &[7, 2], status])),
        ("management", course(0, &[read, &[3, 0], &[4, 2], &[12, 4, 0, 1, 0x80, 0]])),
        (
            "text",
            course(
                0,
                &[&[6, 0], &[12, 5, 0, 0, 0, 9, 0, 3, b'T', b'a', b'r'], &[12, 5, 0, 0, 0x80, 0, 0, 3, b'=', b'1', 0]],
            ),
        ),
        (
            "ping",
            course(
                0,
                &[
                    &[5, 4],
                    &[12, 3, 0, 0, 0x80, 0, 0, 4, 7, 7, 7, 7],
                    &[12, 3, 2, 0, 0x81, 9, 0xff, 0xff, 0xff, 0xff, 0, 0],
                ],
            ),
        ),
        ("async", course(0, &[read, &[12, 7, 0, 0, 0x80, 1, 0, 0], &[12, 7, 0, 0, 0x80, 3, 0, 0]])),
        ("reject", course(0, &[read, &[12, 8, 0, 0, 0x80, 4]])),
        ("logout", course(0, &[read, &[7, 0], &[12, 6, 0, 1, 0x80, 0]])),
        ("window-that-closes", course(0, &[&[12, 3, 0x40, 0, 0x80, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], read, read])),
    ])
}

fn isns() -> Seeds {
    let attribute = |tag: u32, value: &[u8]| {
        let mut bytes = tag.to_be_bytes().to_vec();
        let mut padded = value.to_vec();
        padded.resize(value.len().next_multiple_of(4), 0);
        bytes.extend((padded.len() as u32).to_be_bytes());
        bytes.extend(padded);
        bytes
    };
    let message = |function: u16, flags: u16, payload: &[u8]| {
        let mut bytes = vec![0, 1];
        for word in [function, payload.len() as u16, flags, 1, 0] {
            bytes.extend(word.to_be_bytes());
        }
        [&bytes, payload].concat()
    };
    let name = |name: &[u8]| attribute(32, &[name, &[0]].concat());
    let target = name(b"iqn.2026-01.org.example:disk1");
    let scn = [&target[..], &attribute(4, &9u64.to_be_bytes()), &target, &attribute(35, &[0, 0, 0, 0x08])].concat();
    let good = |attributes: &[u8]| [&[1][..], &counted(attributes)].concat();
    let begin = [vec![3, 0, 0], vec![0]].concat();
    let course = |records: &[Vec<u8>]| [begin.clone(), records.concat()].concat();
    let entity = attribute(1, b"entity.example.org\0");
    named(vec![
        ("registered", course(&[good(&entity), good(&[]), vec![3, 0, 60], good(&entity), vec![7], good(&[])])),
        ("refused", course(&[vec![0x11, 3, 0, 0], vec![3, 1, 0], vec![0], vec![0x11, 21, 0, 0], vec![0x11, 23, 0, 0]])),
        ("forgotten", course(&[good(&entity), good(&[]), vec![3, 0, 60], vec![0x11, 9, 0, 0], good(&entity)])),
        ("closed", course(&[vec![4], vec![3, 0, 60], vec![0], good(&entity), vec![4]])),
        ("unasked", course(&[vec![0x41, 0, 0, 0xff, 0xff]])),
        ("silent", course(&[vec![3, 0xff, 0xff]])),
        (
            "inquiry",
            [&[5][..], &counted(&message(13, 0x4c00, &[&attribute(4, &[0; 8])[..], &entity].concat()))].concat(),
        ),
        ("notification", [&[5][..], &counted(&message(8, 0x4c00, &scn))].concat()),
        (
            "cve-2010-2221-name-too-long",
            course(&[good(&[entity.clone(), name(&[b'a'; 300]), name(&[b'b'; 224])].concat())]),
        ),
        ("cve-2010-0743-format-string-in-names", course(&[good(&name(b"iqn.2026-01.%n%s%x"))])),
        (
            "query-response",
            message(
                0x8002,
                0x4c00,
                &[
                    &[0, 0, 0, 0][..],
                    &target,
                    &attribute(16, &[0; 16]),
                    &attribute(17, &[0, 0, 0x0c, 0xbc]),
                    &attribute(51, &[0, 0, 0, 1]),
                ]
                .concat(),
            ),
        ),
        ("parts", [message(0x8002, 0x4400, &[0; 4]), message(0x8002, 0x4800, &target)].concat()),
        ("attribute-that-lies", message(0x8002, 0x4c00, &[&[0, 0, 0, 0, 0, 0, 0, 32][..], &[0xff; 4]].concat())),
        ("length-that-lies", message(0x8002, 0x4c00, &[0; 4])[..14].to_vec()),
        ("signed", message(0x8002, 0x6c00, &[0; 4])),
    ])
}

// Records of the device server's target: kind, unit, bytes expected, CDB, bytes sent.
fn cdb() -> Seeds {
    let record = |how: u8, unit: u8, into: u16, cdb: &[u8], data: &[u8]| {
        let (kind, length) = match cdb.len() {
            0..=6 => (0, 6),
            7..=10 => (1, 10),
            11..=16 => (2, 16),
            more => (3, more),
        };
        let mut whole = cdb.to_vec();
        whole.resize(length, 0);
        let counted_cdb = if kind == 3 { vec![(length - 16) as u8] } else { vec![] };
        [&[how | kind, unit][..], &into.to_be_bytes(), &counted_cdb, &whole, &counted(data)].concat()
    };
    let goes_on = 0x10;
    let management = |function: u8, unit: u8, task: u8| vec![0x0e, function, unit, task];
    let mut seeds = named(vec![
        (
            "inquiry",
            [record(0, 1, 255, &[0x12, 0, 0, 0, 255], b""), record(0, 1, 255, &[0x12, 1, 0x83, 0, 255], b"")].concat(),
        ),
        (
            "tgt-8afadd9-mode-sense-with-little-room",
            (0..16).flat_map(|n| record(0, 1, 255, &[0x1a, 0, 0x3f, 0, n], b"")).collect(),
        ),
        (
            "cve-2024-43110-request-sense",
            [record(0, 1, 255, &[0x03, 1, 0, 0, 255], b""), record(0, 1, 3, &[0x03, 0, 0, 0, 3], b"")].concat(),
        ),
        (
            "cve-2024-42416-report-supported-operation-codes",
            [
                record(0, 1, 8192, &[0xa3, 0x0c, 2, 0x9e, 0xff, 0xff, 0, 0, 0x20, 0], b""),
                record(2, 1, 8192, &[0xa3, 0x0c, 0x83, 0xff, 0xff, 0xff, 0, 0, 0x20, 0, 0, 0], b""),
            ]
            .concat(),
        ),
        (
            "cve-2024-8178-read-buffer",
            [
                record(0, 1, 4096, &[0x3c, 2, 0, 0, 0, 0, 0, 0x10, 0, 0], b""),
                record(0, 1, 4, &[0x3c, 3, 0, 0, 0, 0, 0, 0, 4, 0], b""),
            ]
            .concat(),
        ),
        (
            "cve-2024-45063-write-buffer",
            [
                record(goes_on, 1, 0, &[0x3b, 2, 0, 0, 0, 0, 0, 0, 16, 0], &[7; 16]),
                record(goes_on, 1, 0, &[0x3b, 2, 0, 0, 0, 8, 0, 0, 16, 0], &[8; 16]),
                record(0, 1, 32, &[0x3c, 2, 0, 0, 0, 0, 0, 0, 32, 0], b""),
            ]
            .concat(),
        ),
        (
            "reads-and-writes",
            [
                record(0, 1, 0, &[0x2a, 0, 0, 0, 0, 4, 0, 0, 2, 0], &[5; 1024]),
                record(0, 1, 1024, &[0x28, 0, 0, 0, 0, 4, 0, 0, 2, 0], b""),
            ]
            .concat(),
        ),
        ("compare-and-write", record(0, 1, 0, &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0], &[0; 1024])),
        (
            "unmap",
            record(
                0,
                1,
                0,
                &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
                &[&[0, 22, 0, 16, 0, 0, 0, 0][..], &[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0, 0, 0]].concat(),
            ),
        ),
        ("write-same", record(0, 1, 0, &[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0], &[3; 512])),
        (
            "mode-select",
            record(0, 1, 0, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 28, 0], &[&[0; 8][..], &[0x08, 18, 4], &[0; 17]].concat()),
        ),
        (
            "cve-2020-1711-get-lba-status",
            record(0, 1, 255, &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], b""),
        ),
        ("report-luns", record(0, 0, 255, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], b"")),
        (
            "drive",
            [
                record(0, 3, 255, &[0x46, 0, 0, 0, 0, 0, 0, 0, 255, 0], b""),
                record(0, 3, 255, &[0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0], b""),
                record(0, 3, 0, &[0x1b, 0, 0, 0, 2, 0], b""),
                record(0, 3, 255, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 255, 0], b""),
            ]
            .concat(),
        ),
        ("long-cdb", record(0, 1, 0, &[&[0x7f, 0, 0, 0, 0, 0, 0, 24, 0, 9][..], &[0; 22]].concat(), &[0; 512])),
        (
            "abort-and-reset",
            [
                record(goes_on, 1, 0, &[0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0], &[3; 512]),
                management(0, 1, 0),
                management(4, 1, 0),
                management(5, 0, 0),
            ]
            .concat(),
        ),
        (
            "loss",
            [record(goes_on, 1, 0, &[0x2a, 0, 0, 0, 0, 4, 0, 0, 2, 0], &[5; 1024]), vec![0x0f], vec![0x2f]].concat(),
        ),
        ("log-sense", record(0, 1, 255, &[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 255, 0], b"")),
        (
            "sanitize",
            [record(0, 1, 0, &[0x48, 0x83, 0, 0, 0, 0, 0, 0, 0, 0], b""), record(0, 1, 64, &[0x03, 0, 0, 0, 64], b"")]
                .concat(),
        ),
        ("format-unit", record(0, 1, 0, &[0x04, 0x10, 0, 0, 0, 0], &[0, 0, 0, 0])),
        (
            "populate-token",
            [
                record(
                    0,
                    1,
                    0,
                    &[0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0],
                    &[
                        &[0, 30, 0, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 16][..],
                        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0],
                    ]
                    .concat(),
                ),
                record(0, 1, 1024, &[0x84, 0x07, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0], b""),
            ]
            .concat(),
        ),
    ]);
    // A copy between units that are named by what they say of themselves, and by what nobody is.
    let cscd = |designator: &[u8]| {
        let mut descriptor = vec![0xe4, 0, 0, 0, 1, 3, 0, designator.len() as u8];
        descriptor.extend_from_slice(designator);
        descriptor.resize(28, 0);
        descriptor.extend([0, 0, 2, 0]);
        descriptor
    };
    let segment = [0x02, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];
    let list = |one: &[u8], other: &[u8]| {
        let mut list = vec![0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
        list.extend([cscd(one), cscd(other), segment.to_vec()].concat());
        list
    };
    let copy = |data: &[u8]| record(0, 1, 0, &[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, data.len() as u8, 0, 0], data);
    seeds.push((
        "cve-2020-28374-copy-from-a-unit-of-nobody".into(),
        copy(&list(&[0x60, 1, 0x40, 5, 1, 2, 3, 4], &[0x60; 16])),
    ));
    seeds.push(("copy-with-too-many-descriptors".into(), copy(&list(&[], &[]).repeat(2))));
    // More registrants than any table has room for: each names others by their transport IDs.
    let mut registrants = Vec::new();
    for n in 0..20u8 {
        let name = format!("iqn.2026-01.org.example:r{n},i,0x4000000100{n:02x}");
        let mut id = vec![0x45, 0];
        let mut text = name.into_bytes();
        text.push(0);
        text.resize(text.len().next_multiple_of(4), 0);
        id.extend((text.len() as u16).to_be_bytes());
        id.extend(text);
        registrants.extend(id);
    }
    let mut parameters = vec![0; 24];
    (parameters[15], parameters[20]) = (1, 0x09);
    parameters.extend((registrants.len() as u32).to_be_bytes());
    parameters.extend(&registrants);
    let length = (parameters.len() as u16).to_be_bytes();
    seeds.push((
        "cve-2025-57275-many-registrants".into(),
        [
            record(0, 1, 0, &[0x5f, 0, 0, 0, 0, 0, 0, length[0], length[1], 0], &parameters),
            record(0, 1, 4096, &[0x5e, 3, 0, 0, 0, 0, 0, 0x10, 0, 0], b""),
            record(
                0x20,
                1,
                0,
                &[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0],
                &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0],
            ),
            record(0, 1, 4096, &[0x5e, 0, 0, 0, 0, 0, 0, 0x10, 0, 0], b""),
        ]
        .concat(),
    ));
    // Every operation code, small and with what it may answer.
    for group in 0..8u8 {
        let mut all = Vec::new();
        for opcode in (0..32).map(|low| group << 5 | low) {
            let mut cdb = [0; 16];
            cdb[0] = opcode;
            let length = [6, 10, 10, 10, 16, 12, 10, 10][usize::from(group)];
            all.extend(record(goes_on, 1, 64, &cdb[..length], b""));
        }
        seeds.push((format!("operation-codes-{group}"), all));
    }
    seeds
}
