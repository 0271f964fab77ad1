//! The steps of a session's life in the kernel: made, brought up on a socket, stopped, logged out, ended.

use super::message::{Event, PDU_HEADER_BYTES, Parameter, Place, Request, Statistics, Stop};
use super::netlink::{Netlink, timespec};
use super::sysfs::Sysfs;
use super::{Agreed, Login, SessionSettings};
use crate::Error;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsRawFd;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Opcodes and flags (RFC 7143 11.2.1, 11.12, 11.14).
const IMMEDIATE_LOGIN: u8 = 0x43;
const IMMEDIATE_LOGOUT: u8 = 0x46;
const FINAL: u8 = 0x80;
const LOGOUT_RESPONSE: u8 = 0x26;
/// Where CmdSN stands in a request.
const CMD_SN: std::ops::Range<usize> = 24..28;
/// What a task's tag is before the kernel gives it one: any but the reserved one.
const ANY_TAG: std::ops::Range<usize> = 16..20;
/// How long the kernel may take to say its number over loopback.
const NUMBER_LIMIT: Duration = Duration::from_secs(5);
/// Error numbers by which the kernel says that a session or connection is not there.
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
/// A parameter that this kernel does not know.
const ENOSYS: i32 = 38;

/// A session without a connection that works; its devices come with [`bring_up`].
pub(super) fn create(netlink: &mut Netlink, agreed: &Agreed, settings: &SessionSettings) -> Result<Place, Error> {
    let [session, _host] = netlink.call(&Request::CreateSession {
        first_command: agreed.first_command,
        commands_max: settings.commands_max,
        queue_depth: settings.queue_depth,
    })?;
    let place = Place { session, connection: 0 };
    if let Err(error) = netlink.call(&Request::CreateConnection(place)) {
        let _ = netlink.call(&Request::DestroySession { session });
        return Err(error);
    }
    Ok(place)
}

/// Gives the kernel a socket that is logged in, and lets it begin. The socket is the kernel's from then on.
pub(super) fn bring_up(
    netlink: &mut Netlink,
    place: Place,
    login: Login,
    settings: &SessionSettings,
) -> Result<(), Error> {
    // Small headers go out at once, as the kernel's own driver is used to.
    let _ = login.socket.set_nodelay(true);
    netlink.call(&Request::Bind { place, socket: login.socket.as_raw_fd() })?;
    let begun = parameters(&login.agreed, settings)
        .into_iter()
        .try_for_each(|(parameter, value)| {
            match netlink.call(&Request::Set { place, parameter, value: &value }) {
                // Older kernels lack some that only tell.
                Err(Error::System { source, .. }) if source.raw_os_error() == Some(ENOSYS) => Ok(()),
                other => other.map(drop),
            }
        })
        .and_then(|()| netlink.call(&Request::Start(place)).map(drop));
    if begun.is_err() {
        let _ = netlink.call(&Request::Stop { place, how: Stop::Recover });
    }
    begun
}

fn parameters(agreed: &Agreed, settings: &SessionSettings) -> Vec<(Parameter, String)> {
    let yes = |yes: bool| u8::from(yes).to_string();
    let seconds = |duration: Duration| duration.as_secs().to_string();
    let mut parameters = vec![
        (Parameter::MaxRecvDataSegmentLength, agreed.max_recv_data_segment_length.to_string()),
        (Parameter::MaxSendDataSegmentLength, agreed.max_send_data_segment_length.to_string()),
        (Parameter::HeaderDigest, yes(agreed.header_digest)),
        (Parameter::DataDigest, yes(agreed.data_digest)),
        (Parameter::InitialR2t, yes(agreed.initial_r2t)),
        // Its table of them has a power of two.
        (Parameter::MaxOutstandingR2t, agreed.max_outstanding_r2t.max(1).next_power_of_two().to_string()),
        (Parameter::ImmediateData, yes(agreed.immediate_data)),
        (Parameter::FirstBurstLength, agreed.first_burst_length.to_string()),
        (Parameter::MaxBurstLength, agreed.max_burst_length.to_string()),
        (Parameter::DataPduInOrder, yes(agreed.data_pdu_in_order)),
        (Parameter::DataSequenceInOrder, yes(agreed.data_sequence_in_order)),
        (Parameter::ErrorRecoveryLevel, "0".into()),
        (Parameter::ExpStatSn, agreed.exp_stat_sn.to_string()),
        (Parameter::TargetName, agreed.target_name.clone()),
        (Parameter::TargetPortalGroupTag, agreed.portal_group_tag.to_string()),
        (Parameter::PersistentAddress, agreed.address.clone()),
        (Parameter::PersistentPort, agreed.port.to_string()),
        (Parameter::RecoveryTimeout, settings.replacement_timeout.map_or("-1".into(), seconds)),
        (Parameter::FastAbort, yes(settings.fast_abort)),
        (Parameter::AbortTimeout, seconds(settings.abort_timeout)),
        (Parameter::LogicalUnitResetTimeout, seconds(settings.logical_unit_reset_timeout)),
        (Parameter::TargetResetTimeout, seconds(settings.target_reset_timeout)),
        (Parameter::PingTimeout, seconds(settings.noop_out_timeout)),
        (Parameter::ReceiveTimeout, seconds(settings.noop_out_interval)),
        (Parameter::InterfaceName, settings.interface_name.clone()),
        (Parameter::InitiatorName, agreed.initiator_name.clone()),
    ];
    if let Some(alias) = agreed.target_alias.as_ref().filter(|alias| !alias.is_empty()) {
        parameters.push((Parameter::TargetAlias, alias.clone()));
    }
    parameters
}

/// Takes the connection's socket away; commands wait for another one.
pub(super) fn pause(netlink: &mut Netlink, place: Place) -> Result<(), Error> {
    netlink.call(&Request::Stop { place, how: Stop::Recover }).map(drop)
}

/// The CmdSN with which the kernel will go on. A login has to say it, and nothing but a request that the kernel
/// sends tells it: so a paused connection is given one end of a connection of ours, and sends a login to nobody.
pub(super) fn next_command(netlink: &mut Netlink, place: Place) -> Result<u32, Error> {
    let system = |error| Error::system("no loopback connection on which the kernel could tell its CmdSN", error);
    let (kernels, mut ours) = loopback().map_err(system)?;
    netlink.call(&Request::Bind { place, socket: kernels.as_raw_fd() })?;
    let mut header = [0; PDU_HEADER_BYTES];
    header[0] = IMMEDIATE_LOGIN;
    header[1] = FINAL;
    header[ANY_TAG].copy_from_slice(&1u32.to_be_bytes());
    let sent = netlink.call(&Request::Send { place, header: &header, data: &[] });
    let read = sent.and_then(|_| {
        ours.set_read_timeout(Some(NUMBER_LIMIT)).map_err(system)?;
        let mut request = [0; PDU_HEADER_BYTES];
        ours.read_exact(&mut request).map_err(system)?;
        Ok(request)
    });
    let paused = pause(netlink, place);
    let request = read?;
    paused?;
    let mut number = [0; 4];
    number.copy_from_slice(&request[CMD_SN]);
    Ok(u32::from_be_bytes(number))
}

/// Both ends of a connection within this host.
fn loopback() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    // Somebody else may have found the port.
    for _ in 0..16 {
        let (other, from) = listener.accept()?;
        if from == one.local_addr()? {
            return Ok((one, other));
        }
    }
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, "strangers connect"))
}

/// Removes the session's devices, which writes what their caches hold, and waits for it.
pub(super) fn unbind(netlink: &mut Netlink, sysfs: &Sysfs, place: Place, end: Instant) -> Result<(), Error> {
    netlink.call(&Request::Unbind { session: place.session })?;
    let unbound = |event: &Event| *event == Event::Unbound { session: place.session };
    if await_event(netlink, end, unbound).is_none() && !sysfs.disks(place.session).is_empty() {
        return Err(Error::TimedOut(format!("the devices of session {} do not go", place.session)));
    }
    Ok(())
}

/// Says goodbye to the target and waits for its answer (RFC 7143 11.14, close the session).
pub(super) fn log_out(netlink: &mut Netlink, place: Place, end: Instant) -> Result<(), Error> {
    let mut header = [0; PDU_HEADER_BYTES];
    header[0] = IMMEDIATE_LOGOUT;
    header[1] = FINAL;
    header[ANY_TAG].copy_from_slice(&1u32.to_be_bytes());
    netlink.call(&Request::Send { place, header: &header, data: &[] })?;
    let answered = |event: &Event| match event {
        Event::Pdu { place: from, header, .. } => *from == place && header[0] & 0x3f == LOGOUT_RESPONSE,
        Event::ConnectionError { place: from, .. } => *from == place,
        _ => false,
    };
    match await_event(netlink, end, answered) {
        Some(_) => Ok(()),
        None => Err(Error::TimedOut(format!("the target does not answer the logout of session {}", place.session))),
    }
}

/// Ends the session in the kernel, whatever its state. What is gone already is no error.
pub(super) fn destroy(netlink: &mut Netlink, place: Place) -> Result<(), Error> {
    let steps = [
        Request::Stop { place, how: Stop::Terminate },
        Request::DestroyConnection(place),
        Request::DestroySession { session: place.session },
    ];
    let mut last = Ok(());
    for step in steps {
        last = match netlink.call(&step) {
            Err(Error::System { source, .. }) if matches!(source.raw_os_error(), Some(EINVAL | ENODEV)) => Ok(()),
            other => other.map(drop),
        };
    }
    last
}

/// Waits for the first event that is meant; others are passed over.
fn await_event(netlink: &mut Netlink, end: Instant, meant: impl Fn(&Event) -> bool) -> Option<Event> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match netlink.event(left) {
            Ok(Some(event)) if meant(&event) => return Some(event),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) if left.is_zero() => return None,
            Ok(None) => {}
            Err(_) => return None,
        }
    }
}

/// Waits until one of both can be read, or the limit has passed.
pub(super) fn wait(netlink: &Netlink, wake: &impl rustix::fd::AsFd, limit: Duration) {
    let mut polls = [PollFd::new(netlink, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
    let _ = rustix::event::poll(&mut polls, Some(&timespec(limit)));
}

/// Ends a session for good, with its devices' caches written and a goodbye to the target where it is there.
/// Always ends within the limit and a second or two for the kernel.
pub(super) fn end(netlink: &mut Netlink, sysfs: &Sysfs, place: Place, limit: Duration) -> Result<(), Error> {
    let end = Instant::now() + limit;
    if sysfs.state(place.session).as_deref() == Some("LOGGED_IN") {
        let half = Instant::now() + limit / 2;
        let goodbye = unbind(netlink, sysfs, place, half).and_then(|()| log_out(netlink, place, end));
        if let Err(error) = goodbye {
            tracing::warn!(session = place.session, %error, "the session is ended without the target");
        }
    }
    destroy(netlink, place)?;
    while sysfs.state(place.session).is_some() {
        if Instant::now() >= end + Duration::from_secs(1) {
            return Err(Error::TimedOut(format!("session {} is still in the kernel", place.session)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The counters of a connection.
pub(super) fn statistics(netlink: &mut Netlink, place: Place) -> Result<Statistics, Error> {
    netlink.call(&Request::Statistics(place))?;
    let end = Instant::now();
    let ours = |event: &Event| matches!(event, Event::Statistics { place: of, .. } if *of == place);
    match await_event(netlink, end, ours) {
        Some(Event::Statistics { statistics, .. }) => Ok(statistics),
        _ => Err(Error::TimedOut(format!("the kernel does not tell the counters of session {}", place.session))),
    }
}
