//! One scenario for any target: `scenario iscsi://[USER%SECRET@]HOST:PORT/TARGET/LUN [--connections N] [--level L]
//! [--absent LUN]`. It writes over the whole disk. Every step is a line; the first that fails ends it with status 1.
//!
//! The same steps run against Lunette's own target, tgt and the Linux kernel's target (`cargo xtask test targets`,
//! tests/vm/scenarios/71-lio-scenario); what a target does not have is told and left out.

use initiator::{
    Address, Chap, Command, Compared, DigestOffer, Error, Event, Function, Options, Portal, Session, Unit, discovery,
};
use scsi::cdb::WriteSame;
use scsi::persistent::{OutAction, OutList, ReservationType};
use sim::Random;
use sim::proxy::{Action, Direction, Plan, Proxy};
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Step = Result<String, String>;

/// What the scenario is played with.
struct Stage {
    options: Options,
    lun: u16,
    connections: u16,
    level: u8,
    absent: Option<u16>,
}

fn main() -> ExitCode {
    let stage = match stage() {
        Ok(stage) => stage,
        Err(why) => {
            eprintln!("scenario: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        macro_rules! steps {
            ($($what:literal: $step:expr;)*) => {$(
                let begun = Instant::now();
                let done = tokio::time::timeout(Duration::from_secs(300), $step).await;
                match done.unwrap_or_else(|_| Err("it hangs".to_owned())) {
                    Ok(told) => println!("ok   {} ({:.1} s){}{told}", $what, begun.elapsed().as_secs_f32(),
                        if told.is_empty() { "" } else { ": " }),
                    Err(why) => {
                        println!("FAIL {}: {why}", $what);
                        return ExitCode::FAILURE;
                    }
                }
            )*};
        }
        steps! {
            "discovery finds the target": found(&stage);
            "who and how large the disk is": described(&stage);
            "every size is read as it was written": sizes(&stage);
            "many at a time": verified(&stage, stage.options.clone(), 8, 3);
            "with both digests": digests(&stage);
            "over several connections": connections(&stage);
            "pings of every size": pings(&stage);
            "zeros, space given back, compare and write": blocks(&stage);
            "reservations keep another session out": reservations(&stage);
            "what cannot be is an error in words": errors(&stage);
            "a wrong secret is refused": secrets(&stage);
            "a reset of the unit is told and harmless": reset(&stage);
            "connections that are killed in the midst of writes lose nothing": killed(&stage, 0, 1);
            "so with digests and bits turned on the way": flipped(&stage);
            "so with several connections": killed(&stage, 0, stage.connections);
            "so at the highest recovery level that there is": killed(&stage, stage.level, stage.connections);
            "the session is logged out, and another finds all": again(&stage);
        }
        ExitCode::SUCCESS
    })
}

fn stage() -> Result<Stage, String> {
    let mut words = std::env::args().skip(1);
    let url = words.next().ok_or("a URL is needed")?;
    let address: Address = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let address = address.resolve().map_err(|error| error.to_string())?;
    let lun = address.lun.ok_or("the URL names no LUN")?;
    let options = Options {
        initiator_name: "iqn.2026-11.io.lunette:scenario".to_owned(),
        ..Session::builder(&address).replacement_timeout(Duration::from_secs(60))
    };
    let lun = lun.to_string().parse().map_err(|_| "the LUN is no number")?;
    let mut stage = Stage { options, lun, connections: 4, level: 2, absent: None };
    while let (Some(word), value) = (words.next(), words.next()) {
        let value = value.ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{word} {value}: no number"));
        match word.as_str() {
            "--connections" => stage.connections = number()?,
            "--level" => stage.level = number()? as u8,
            "--absent" => stage.absent = Some(number()?),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(stage)
}

fn words(error: Error) -> String {
    error.to_string()
}

impl Stage {
    async fn enter(&self, options: Options) -> Result<(Session, Unit), String> {
        let session = options.connect().await.map_err(words)?;
        let unit = session.unit(self.lun);
        Ok((session, unit))
    }
}

/// Bytes that tell their block and generation.
fn pattern(lba: u64, blocks: u64, block: usize, generation: u64) -> Vec<u8> {
    let word = |lba: u64| (lba.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation).to_le_bytes();
    (lba..lba + blocks).flat_map(|lba| word(lba).repeat(block / 8)).collect()
}

async fn check(unit: &Unit, lba: u64, blocks: u64, block: usize, generation: u64) -> Result<(), String> {
    let read = unit.read(lba, blocks as u32).await.map_err(words)?;
    if read == pattern(lba, blocks, block, generation) {
        return Ok(());
    }
    let bad =
        (0..blocks).find(|at| read[*at as usize * block..][..block] != pattern(lba + at, 1, block, generation)[..]);
    Err(format!("wrong data in block {} of generation {generation}", lba + bad.unwrap_or(0)))
}

async fn found(stage: &Stage) -> Step {
    let asking = Options { target: None, ..stage.options.clone() };
    let targets = match discovery::send_targets(&asking).await {
        // Its account is for the target; whoever asks for targets needs none.
        Err(Error::LoginRefused { .. } | Error::Authentication { .. }) if asking.chap.is_some() => {
            discovery::send_targets(&Options { chap: None, ..asking }).await
        }
        targets => targets,
    };
    let targets = targets.map_err(words)?;
    let wanted = stage.options.target.clone().unwrap_or_default();
    let found = targets.iter().find(|target| target.name.as_str() == wanted).ok_or("it is not among them")?;
    Ok(format!("{} portals", found.portals.len()))
}

async fn described(stage: &Stage) -> Step {
    let (session, unit) = stage.enter(stage.options.clone()).await?;
    let inquiry = unit.inquiry().await.map_err(words)?;
    let capacity = unit.capacity().await.map_err(words)?;
    let luns = unit.report_luns().await.map_err(words)?;
    if !luns.iter().any(|lun| lun.to_string() == stage.lun.to_string()) {
        return Err(format!("REPORT LUNS does not have {}: {luns:?}", stage.lun));
    }
    let pages = unit.vpd_pages().await.map_err(words)?;
    session.logout().await.map_err(words)?;
    let (blocks, length) = (capacity.blocks, capacity.block_length);
    Ok(format!("{inquiry:?}").chars().take(60).collect::<String>()
        + &format!("…, {blocks} blocks of {length}, {} pages", pages.len()))
}

async fn sizes(stage: &Stage) -> Step {
    let (session, unit) = stage.enter(stage.options.clone()).await?;
    let block = unit.capacity().await.map_err(words)?.block_length as usize;
    let mut lba = 1;
    for (generation, blocks) in
        [1u64, 2, 3, 7, 8, 15, 16, 17, 127, 128, 129, 511, 512, 513, 1024, 2047].into_iter().enumerate()
    {
        unit.write(lba, pattern(lba, blocks, block, generation as u64)).await.map_err(words)?;
        check(&unit, lba, blocks, block, generation as u64).await?;
        lba += blocks;
    }
    unit.flush().await.map_err(words)?;
    // Where the unit has no cache there is no FUA.
    let forced = optional(unit.write_durably(0, pattern(0, 1, block, 7)).await)?;
    if !forced {
        unit.write(0, pattern(0, 1, block, 7)).await.map_err(words)?;
    }
    check(&unit, 0, 1, block, 7).await?;
    session.logout().await.map_err(words)?;
    Ok(if forced { String::new() } else { "it does not have FUA".into() })
}

/// Writers, each of a region of its own, that read back all that they write, for so many rounds.
async fn verified(stage: &Stage, options: Options, writers: u64, rounds: u64) -> Step {
    let (session, unit) = stage.enter(options).await?;
    let capacity = unit.capacity().await.map_err(words)?;
    let (block, region) = (capacity.block_length as usize, (capacity.blocks / writers).min(2048));
    let all: Vec<_> = (0..writers)
        .map(|writer| {
            let unit = unit.clone();
            tokio::spawn(async move {
                let mut random = Random::new(writer + 1);
                for generation in 1..=rounds {
                    let (mut at, base) = (0, writer * region);
                    let mut pieces = Vec::new();
                    while at < region {
                        let blocks = (1 + random.below(256)).min(region - at);
                        pieces.push((base + at, blocks));
                        at += blocks;
                    }
                    let writes = pieces.iter().map(|(lba, blocks)| {
                        let (unit, data) = (unit.clone(), pattern(*lba, *blocks, block, generation));
                        let lba = *lba;
                        tokio::spawn(async move { unit.write(lba, data).await })
                    });
                    for write in writes.collect::<Vec<_>>() {
                        write.await.map_err(|error| error.to_string())?.map_err(words)?;
                    }
                    for (lba, blocks) in pieces {
                        check(&unit, lba, blocks, block, generation).await?;
                    }
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    for one in all {
        one.await.map_err(|error| error.to_string())??;
    }
    unit.flush().await.map_err(words)?;
    let (statistics, information) = (session.statistics(), session.information());
    let open = information.connections.len();
    session.logout().await.map_err(words)?;
    Ok(format!(
        "{open} connections, level {}; {} MiB, {} sent again, {} connections lost, {} logins",
        information.parameters.error_recovery_level,
        (statistics.data_in_bytes + statistics.data_out_bytes) >> 20,
        statistics.replayed,
        statistics.connections_lost,
        statistics.logins
    ))
}

async fn digests(stage: &Stage) -> Step {
    let options = stage.options.clone().digests(DigestOffer::Required);
    match options.clone().connect().await {
        Err(error @ (Error::Protocol { .. } | Error::LoginRefused { .. })) => Ok(format!("left out: {error}")),
        Err(error) => Err(words(error)),
        Ok(session) => {
            let connection = session.information().connections[0].parameters.clone();
            session.logout().await.map_err(words)?;
            if !(connection.header_digest && connection.data_digest) {
                return Err("they were not agreed".into());
            }
            verified(stage, options, 4, 1).await
        }
    }
}

async fn connections(stage: &Stage) -> Step {
    let session = stage.options.clone().connections(stage.connections).connect().await.map_err(words)?;
    let agreed = session.information().parameters.max_connections.min(stage.connections.into()) as usize;
    let end = Instant::now() + Duration::from_secs(10);
    while session.information().connections.len() < agreed {
        if Instant::now() > end {
            return Err(format!("{} of {agreed} connections are there", session.information().connections.len()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    session.logout().await.map_err(words)?;
    verified(stage, stage.options.clone().connections(stage.connections), 8, 2).await
}

async fn pings(stage: &Stage) -> Step {
    let (session, _) = stage.enter(stage.options.clone()).await?;
    for length in [0, 1, 3, 4, 5, 100, 511, 512] {
        let data: Vec<u8> = (0..length).map(|at| at as u8).collect();
        if session.ping(&data).await.map_err(words)? != data {
            return Err(format!("{length} bytes come back as others"));
        }
    }
    session.logout().await.map_err(words)?;
    Ok(String::new())
}

/// What a target may lack: `Ok(false)`.
fn optional(result: Result<(), Error>) -> Result<bool, String> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.scsi().and_then(|error| error.condition()).is_some_and(|(key, ..)| key == 5) => Ok(false),
        Err(error) => Err(words(error)),
    }
}

async fn blocks(stage: &Stage) -> Step {
    let (session, unit) = stage.enter(stage.options.clone()).await?;
    let block = unit.capacity().await.map_err(words)?.block_length as usize;
    let mut lacks = Vec::new();
    unit.write(0, pattern(0, 64, block, 9)).await.map_err(words)?;
    match optional(unit.write_zeroes(8, 8, false).await)? {
        true if unit.read(8, 8).await.map_err(words)?.iter().any(|byte| *byte != 0) => return Err("no zeros".into()),
        true => {}
        false => lacks.push("zeros"),
    }
    check(&unit, 0, 8, block, 9).await?;
    check(&unit, 16, 48, block, 9).await?;
    match optional(unit.write_same(16, 4, pattern(99, 1, block, 9), WriteSame::default()).await)? {
        true if unit.read(16, 4).await.map_err(words)? != pattern(99, 1, block, 9).repeat(4) => {
            return Err("WRITE SAME wrote something else".into());
        }
        true => {}
        false => lacks.push("WRITE SAME"),
    }
    match optional(unit.unmap(&[(32, 8), (48, 8)]).await)? {
        true => {
            check(&unit, 40, 8, block, 9).await?;
            check(&unit, 56, 8, block, 9).await?;
        }
        false => lacks.push("UNMAP"),
    }
    unit.write(60, pattern(60, 1, block, 10)).await.map_err(words)?;
    let (old, new) = (pattern(60, 1, block, 10), pattern(60, 1, block, 11));
    match unit.compare_and_write(60, &old, &new).await {
        Ok(Compared::Equal) => {
            check(&unit, 60, 1, block, 11).await?;
            match unit.compare_and_write(60, &old, &new).await.map_err(words)? {
                Compared::Different { .. } => check(&unit, 60, 1, block, 11).await?,
                Compared::Equal => return Err("what differs is called equal".into()),
            }
        }
        Ok(Compared::Different { .. }) => return Err("what is equal is called different".into()),
        Err(error) if !optional(Err(error.clone()))? => lacks.push("COMPARE AND WRITE"),
        Err(error) => return Err(words(error)),
    }
    session.logout().await.map_err(words)?;
    Ok(if lacks.is_empty() { String::new() } else { format!("it does not have {}", lacks.join(", ")) })
}

async fn reservations(stage: &Stage) -> Step {
    let (one, mine) = stage.enter(stage.options.clone()).await?;
    let other = Options { initiator_name: "iqn.2026-11.io.lunette:other".into(), ..stage.options.clone() };
    let (two, theirs) = stage.enter(other).await?;
    let list = |key, action_key| OutList { key, action_key, initiators: None, all_target_ports: false, persist: false };
    let register = mine.reserve_out(OutAction::RegisterAndIgnoreExistingKey, None, &list(0, 0x11)).await;
    if !optional(register)? {
        return Ok("it has none".into());
    }
    let kind = Some(ReservationType::WriteExclusive);
    mine.reserve_out(OutAction::Reserve, kind, &list(0x11, 0)).await.map_err(words)?;
    let block = mine.capacity().await.map_err(words)?.block_length as usize;
    let refused = theirs.write(0, vec![0; block]).await;
    let conflict = matches!(&refused, Err(Error::Scsi(error)) if error.is_reservation_conflict());
    if !conflict {
        return Err(format!("the other session's write: {refused:?}"));
    }
    mine.write(0, pattern(0, 1, block, 3)).await.map_err(words)?;
    mine.reserve_out(OutAction::Release, kind, &list(0x11, 0)).await.map_err(words)?;
    theirs.write(0, pattern(0, 1, block, 4)).await.map_err(words)?;
    mine.reserve_out(OutAction::Clear, None, &list(0x11, 0)).await.map_err(words)?;
    one.logout().await.map_err(words)?;
    two.logout().await.map_err(words)?;
    Ok(String::new())
}

async fn errors(stage: &Stage) -> Step {
    let (session, unit) = stage.enter(stage.options.clone()).await?;
    let capacity = unit.capacity().await.map_err(words)?;
    let error = unit.read(capacity.blocks - 1, 2).await.err().ok_or("a read beyond the end succeeds")?;
    let told = words(error.clone());
    if error.scsi().and_then(|error| error.condition()).map(|(key, code, _)| (key, code)) != Some((5, 0x21)) {
        return Err(format!("a read beyond the end: {told}"));
    }
    let unknown = unit.execute(Command::new(&[0xc7; 16])).await.result.err().ok_or("an unknown command succeeds")?;
    if let Some(absent) = stage.absent {
        session.unit(absent).test_ready().await.err().ok_or("a unit that is not there is ready")?;
    }
    let nobody = Options { target: Some("iqn.2026-11.io.lunette:nobody".into()), ..stage.options.clone() };
    let refused = nobody.connect().await.err().ok_or("a target that is not there lets in")?;
    let nowhere = Options { portal: Portal::new("127.0.0.1", 1), ..stage.options.clone() };
    let gone = nowhere.connect().await.err().ok_or("a port that is closed lets in")?;
    unit.test_ready().await.map_err(words)?;
    session.logout().await.map_err(words)?;
    Ok([told, words(unknown), words(refused), words(gone)].join("; "))
}

async fn secrets(stage: &Stage) -> Step {
    let Some(chap) = &stage.options.chap else { return Ok("left out: no account".into()) };
    let wrong = stage.options.clone().chap(Chap::new(chap.account.user.clone(), "not-the-secret-at-all"));
    match wrong.connect().await {
        Err(error @ (Error::LoginRefused { .. } | Error::Authentication { .. })) => Ok(words(error)),
        other => Err(format!("{other:?}")),
    }
}

async fn reset(stage: &Stage) -> Step {
    let (session, unit) = stage.enter(stage.options.clone()).await?;
    let mut events = session.events();
    let block = unit.capacity().await.map_err(words)?.block_length as usize;
    unit.write(5, pattern(5, 1, block, 21)).await.map_err(words)?;
    match session.task_management(Function::LogicalUnitReset, stage.lun.into()).await {
        Ok(()) => {}
        Err(error @ Error::Function(5)) => return Ok(format!("left out: {error}")),
        Err(error) => return Err(words(error)),
    }
    check(&unit, 5, 1, block, 21).await?;
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::UnitAttention { words, .. } = event {
            told.push(words);
        }
    }
    session.logout().await.map_err(words)?;
    Ok(told.join("; "))
}

/// The same options through a proxy with these plans.
fn through(options: Options, plans: Vec<Plan>) -> Result<(Options, Proxy), String> {
    let portal = (&*options.portal.host, options.portal.port);
    let address = portal.to_socket_addrs().map_err(|error| error.to_string())?.next().ok_or("no address")?;
    let proxy = Proxy::start(address, plans);
    let portal = Portal::new(proxy.address().ip().to_string(), proxy.address().port());
    Ok((Options { portal, ..options }, proxy))
}

async fn killed(stage: &Stage, level: u8, connections: u16) -> Step {
    let mut random = Random::new(u64::from(level) << 8 | u64::from(connections));
    let plans = (0..6 * connections)
        .map(|_| {
            let direction = if random.once_in(2) { Direction::ToTarget } else { Direction::ToInitiator };
            let action = if random.once_in(2) { Action::Reset } else { Action::Close };
            Plan::fault(direction, 2000 + random.below(3 << 20), action)
        })
        .collect();
    let (options, proxy) = through(stage.options.clone(), plans)?;
    let told = verified(stage, options.connections(connections).error_recovery_level(level), 8, 3).await;
    drop(proxy);
    told
}

async fn flipped(stage: &Stage) -> Step {
    let options = stage.options.clone().digests(DigestOffer::Required);
    match options.clone().connect().await {
        Ok(session) => session.logout().await.map_err(words)?,
        Err(_) => return Ok("left out: no digests".into()),
    }
    let mut random = Random::new(3);
    let plans = (0..5)
        .map(|_| {
            let direction = if random.once_in(2) { Direction::ToTarget } else { Direction::ToInitiator };
            Plan::fault(direction, 5000 + random.below(2 << 20), Action::Flip(random.below(8) as u8))
        })
        .collect();
    let (options, proxy) = through(options, plans)?;
    let told = verified(stage, options.error_recovery_level(stage.level), 8, 2).await;
    drop(proxy);
    told
}

async fn again(stage: &Stage) -> Step {
    let (session, unit) = stage.enter(stage.options.clone()).await?;
    let capacity = unit.capacity().await.map_err(words)?;
    let region = (capacity.blocks / 8).min(2048);
    for writer in 0..8 {
        for lba in (writer * region..(writer + 1) * region).step_by(512) {
            let blocks = ((writer + 1) * region - lba).min(512);
            check(&unit, lba, blocks, capacity.block_length as usize, 3).await?;
        }
    }
    session.logout().await.map_err(words)?;
    match session.unit(stage.lun).test_ready().await {
        Err(Error::Closed) => Ok(String::new()),
        other => Err(format!("a command behind the logout: {other:?}")),
    }
}
