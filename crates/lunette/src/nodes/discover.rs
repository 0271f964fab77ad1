//! Asks a source of a discovery record for targets, with the record's patience, and says what iscsiadm says of failures.

use super::order;
use compat::iscsiadm::{Code, Failure, Found};
use compat::records::{Method, Portal, Record, Source, TAG_UNKNOWN};
use initiator::discovery::{self, Target};
use initiator::{Error, Options};
use std::time::Duration;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// All targets and portals that the source tells of.
pub fn discover(
    source: &Source,
    record: &Record,
    iface: &Record,
    name: &str,
    alias: Option<&str>,
) -> Result<Vec<Found>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Code::INTERNAL, error))?;
    let found = match source.method {
        Method::Isns => runtime.block_on(isns(source, name)),
        _ => {
            let options = options(source, record, iface, name, alias);
            let options = options.map_err(|why| Failure::new(Code::INVALID, why))?;
            let retries = record.number::<u32>("discovery.sendtargets.reopen_max").unwrap_or(5).min(1000);
            runtime.block_on(send_targets(source, &options, retries))
        }
    };
    Ok(found?.iter().flat_map(portals).collect())
}

fn portals(target: &Target) -> impl Iterator<Item = Found> {
    target.portals.iter().map(|told| Found {
        target: target.name.as_str().to_owned(),
        portal: Portal {
            address: told.portal.host.clone(),
            port: told.portal.port,
            tag: told.group.map_or(TAG_UNKNOWN, i32::from),
        },
    })
}

async fn isns(source: &Source, name: &str) -> Result<Vec<Target>, Failure> {
    let server = initiator::Portal::new(source.address.clone(), source.port);
    let answer = discovery::isns(&server, name, Duration::from_secs(30)).await;
    answer.map_err(|error| Failure::new(Code::ISNS_QUERY, format!("iSNS discovery failed: {error}")))
}

fn options(
    source: &Source,
    record: &Record,
    iface: &Record,
    name: &str,
    alias: Option<&str>,
) -> Result<Options, String> {
    let portal = initiator::Portal::new(source.address.clone(), source.port);
    let mut options = Options::discovery(portal);
    order::bind(&mut options, iface, name)?;
    options.initiator_alias = alias.map(str::to_owned);
    options.chap = order::chap(record, "discovery.sendtargets.auth")?;
    let seconds = record.number::<u64>("discovery.sendtargets.timeo.login_timeout").unwrap_or(15);
    options.login_timeout = Duration::from_secs(seconds.clamp(1, 3600));
    let length = record.number::<u32>("discovery.sendtargets.iscsi.MaxRecvDataSegmentLength").unwrap_or(32_768);
    options.max_recv_data_segment_length = length.clamp(512, (1 << 24) - 1);
    options.time_2_wait = 2;
    options.time_2_retain = 0;
    Ok(options)
}

async fn send_targets(source: &Source, options: &Options, retries: u32) -> Result<Vec<Target>, Failure> {
    let mut lines = Vec::new();
    for try_number in 0..=retries {
        let error = match discovery::send_targets(options).await {
            Ok(targets) => return Ok(targets),
            Err(error) => error,
        };
        let (line, code) = said(&error, &source.address);
        lines.extend(line);
        if let Some(code) = code {
            return Err(Failure { code, lines });
        }
        if try_number < retries {
            tokio::time::sleep(PAUSE).await;
        }
    }
    lines.push(format!("connection login retries (reopen_max) {retries} exceeded"));
    Err(Failure { code: Code::PDU_TIMED_OUT, lines })
}

/// The lines for it, and the code where another try would be no better.
fn said(error: &Error, host: &str) -> (Vec<String>, Option<Code>) {
    match error {
        Error::UnknownHost { host, why } => {
            let why = why.rsplit(": ").next().unwrap_or(why);
            // Twice, as it always was.
            let line = format!("cannot resolve host name {host}");
            let first = format!("Cannot resolve host {host}. getaddrinfo error: [{why}]");
            (vec![first, line.clone(), line], Some(Code::CONNECTION))
        }
        Error::Network { why, .. } => (vec![format!("cannot make connection to {host}: {why}")], None),
        Error::TimedOut { .. } => (vec![error.to_string()], None),
        Error::LoginRefused { class: 2, detail: 1, .. } | Error::Authentication { .. } => (
            vec![
                "Login failed to authenticate with target ".to_owned(),
                format!("discovery login to {host} rejected: initiator failed authorization"),
            ],
            Some(Code::AUTHORIZATION),
        ),
        // A target that is about to be there again (RFC 7143 §11.13.5, class 3).
        Error::LoginRefused { class: 3, .. } => (vec![error.to_string()], None),
        Error::LoginRefused { .. } => (vec![error.to_string()], Some(Code::LOGIN_FATAL)),
        Error::Invalid(_) => (vec![error.to_string()], Some(Code::INVALID)),
        _ => (vec![error.to_string()], Some(Code::LOGIN)),
    }
}
