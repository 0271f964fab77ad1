//! The way into a session: the connection, the login over it, and where the target sends us instead.

use crate::Error;
use crate::options::{Algorithm, Chap, Options, Portal, SessionKind};
use iscsi::auth::{Challenge, Initiator};
use iscsi::key::{Offers, SessionParameters};
use iscsi::login::initiator::{Authentication, Failure, LoggedIn, Login, Step, Wanted};
use iscsi::wire::BHS_BYTES;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Redirections that are followed, one after the other.
const REDIRECTIONS: usize = 8;
/// CmdSN of a session's first command.
const FIRST_CMD_SN: u32 = 1;

/// Which place of a session a login is for.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub cid: u16,
    /// TSIH and parameters of the session that is joined.
    pub joins: Option<(u16, SessionParameters)>,
    pub cmd_sn: u32,
    /// ExpStatSN of the connection whose place it takes.
    pub exp_stat_sn: u32,
}

impl Place {
    /// The leading connection of a session.
    pub fn leading() -> Place {
        Place { cid: 0, joins: None, cmd_sn: FIRST_CMD_SN, exp_stat_sn: 0 }
    }
}

/// A connection that has logged in. Nothing behind the last login response has been read.
pub(crate) struct Entered {
    pub stream: TcpStream,
    pub logged_in: LoggedIn,
    /// Where the login succeeded.
    pub portal: Portal,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// The target has moved there for good.
    pub moved: Option<Portal>,
}

/// An ISID of type "random" (RFC 7143 §11.12.5).
pub(crate) fn random_isid() -> Result<[u8; 6], Error> {
    let mut isid = [0; 6];
    random(&mut isid)?;
    isid[0] = 0x80;
    Ok(isid)
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| Error::Invalid(format!("the system gives no random numbers: {error}")))
}

/// Connects and logs in, following redirections, within the options' login timeout.
pub(crate) async fn log_in(options: &Options, isid: [u8; 6], place: Place) -> Result<Entered, Error> {
    let limit = options.login_timeout;
    let what = || format!("{} at {} did not complete the login", options.whom(), options.portal);
    match tokio::time::timeout(limit, persist(options, isid, place)).await {
        Ok(result) => result,
        Err(_) => Err(Error::TimedOut { what: what(), limit }),
    }
}

/// tgt chooses SHA-256 where it is offered, cannot read the answer to it, and calls that our mistake. What it can do
/// is offered it alone then: MD5 was in the list before, so that nobody gains by it. A wrong secret has a status of
/// its own, and is not tried again.
async fn persist(options: &Options, isid: [u8; 6], place: Place) -> Result<Entered, Error> {
    let refused = match follow(options, isid, place.clone()).await {
        Err(error @ Error::LoginRefused { class: 2, detail: 0, .. }) => error,
        other => return other,
    };
    match &options.chap {
        Some(chap) if chap.algorithms.len() > 1 && chap.algorithms.contains(&Algorithm::Md5) => {
            let chap = Chap { algorithms: vec![Algorithm::Md5], ..chap.clone() };
            follow(&Options { chap: Some(chap), ..options.clone() }, isid, place).await
        }
        _ => Err(refused),
    }
}

async fn follow(options: &Options, isid: [u8; 6], place: Place) -> Result<Entered, Error> {
    let mut portal = options.portal.clone();
    let mut moved = None;
    for _ in 0..REDIRECTIONS {
        let stream = connect(options, &portal).await?;
        match exchange(options, isid, place.clone(), stream, &portal).await? {
            Exchanged::Entered(mut entered) => {
                entered.moved = moved;
                return Ok(*entered);
            }
            Exchanged::Redirected(to, permanent) => {
                moved = permanent.then(|| to.clone());
                portal = to;
            }
        }
    }
    let why = format!("more than {REDIRECTIONS} redirections, the last to {portal}");
    Err(Error::Protocol { target: options.whom(), why })
}

/// A connection to the first address of the portal that answers.
async fn connect(options: &Options, portal: &Portal) -> Result<TcpStream, Error> {
    let unknown = |why: String| Error::UnknownHost { host: portal.host.clone(), why };
    let found = tokio::net::lookup_host((&*portal.host, portal.port)).await;
    let addresses = found.map_err(|error| unknown(error.to_string()))?;
    let mut last = unknown("it has no address".to_owned());
    for address in addresses {
        match attempt(options, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = network(portal, &error),
        }
    }
    Err(last)
}

async fn attempt(options: &Options, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = options.local_address {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    if let Some(device) = &options.device {
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&socket).bind_device(Some(device.as_bytes()))?;
        #[cfg(not(target_os = "linux"))]
        return Err(std::io::Error::other(format!("cannot connect through the device {device} on this system")));
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    // A session that ends well is logged out before its socket is closed. Of one that does not, nothing is to be sent
    // any more: otherwise the system would go on with what is unsent, and a write could arrive when it is long undone.
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
    Ok(stream)
}

fn network(portal: &Portal, error: &std::io::Error) -> Error {
    Error::Network { portal: portal.to_string(), kind: error.kind(), why: error.to_string() }
}

enum Exchanged {
    Entered(Box<Entered>),
    Redirected(Portal, bool),
}

async fn exchange(
    options: &Options,
    isid: [u8; 6],
    place: Place,
    mut stream: TcpStream,
    portal: &Portal,
) -> Result<Exchanged, Error> {
    let lost = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Network {
            portal: portal.to_string(),
            kind: error.kind(),
            why: "the target closed the connection during the login".to_owned(),
        },
        _ => network(portal, &error),
    };
    let mut login = Login::new(wanted(options, isid, place)?);
    let mut out = Vec::new();
    login.begin(&mut out);
    let mut header = [0; BHS_BYTES];
    let mut data = Vec::new();
    loop {
        stream.write_all(&out).await.map_err(lost)?;
        out.clear();
        stream.read_exact(&mut header).await.map_err(lost)?;
        let length = login.data_bytes(&header).map_err(|failure| failed(options, failure))?;
        data.resize(length, 0);
        stream.read_exact(&mut data).await.map_err(lost)?;
        match login.handle(&header, &data, &mut out) {
            Step::More => {}
            Step::Done(logged_in) => {
                let (peer, local) = (stream.peer_addr().map_err(lost)?, stream.local_addr().map_err(lost)?);
                let portal = portal.clone();
                let entered = Entered { stream, logged_in: *logged_in, portal, peer, local, moved: None };
                return Ok(Exchanged::Entered(Box::new(entered)));
            }
            Step::Redirected { addresses, permanent } => {
                let to = addresses.iter().find_map(|address| Portal::parse(address)).ok_or_else(|| {
                    let why = format!("a redirection to {}, which is no address", addresses.join(" "));
                    Error::Protocol { target: options.whom(), why }
                })?;
                return Ok(Exchanged::Redirected(to, permanent));
            }
            Step::Failed(failure) => return Err(failed(options, failure)),
        }
    }
}

fn failed(options: &Options, failure: Failure) -> Error {
    let target = options.whom();
    match failure {
        Failure::Refused(status) => Error::LoginRefused { target, class: status.0, detail: status.1 },
        Failure::Target(why) => Error::Protocol { target, why },
        Failure::Authentication(error) => Error::Authentication { target, why: error.to_string() },
    }
}

fn wanted(options: &Options, isid: [u8; 6], place: Place) -> Result<Wanted, Error> {
    let authentication = match &options.chap {
        None => Authentication::None,
        Some(chap) => {
            let mut challenge = Challenge { identifier: 0, bytes: [0; 32] };
            random(&mut challenge.bytes)?;
            random(std::slice::from_mut(&mut challenge.identifier))?;
            let (account, mutual) = (chap.account.clone(), chap.mutual.clone());
            Authentication::Chap(Box::new(Initiator::new(account, mutual, chap.algorithms.clone(), challenge)))
        }
    };
    Ok(Wanted {
        initiator_name: options.initiator_name.clone(),
        initiator_alias: options.initiator_alias.clone(),
        target_name: options.target.clone(),
        kind: options.kind,
        isid,
        cid: place.cid,
        joins: place.joins,
        cmd_sn: place.cmd_sn,
        exp_stat_sn: place.exp_stat_sn,
        offers: offers(options),
        header_digest: options.header_digest,
        data_digest: options.data_digest,
        authentication,
    })
}

fn offers(options: &Options) -> Offers {
    let discovery = options.kind == SessionKind::Discovery;
    Offers {
        session: SessionParameters {
            max_connections: if discovery { 1 } else { options.connections.into() },
            initial_r2t: options.initial_r2t,
            immediate_data: options.immediate_data,
            max_burst_length: options.max_burst_length,
            first_burst_length: options.first_burst_length,
            default_time_2_wait: options.time_2_wait,
            default_time_2_retain: options.time_2_retain,
            max_outstanding_r2t: options.max_outstanding_r2t,
            error_recovery_level: options.error_recovery_level.into(),
            ..SessionParameters::default()
        },
        max_recv_data_segment_length: options.max_recv_data_segment_length,
    }
}

/// A connection that has logged in, for who carries the session on without this library: the kernel.
#[derive(Debug)]
pub struct HandOver {
    /// The socket, in blocking mode. Nothing behind the last login response has been read from it.
    pub stream: std::net::TcpStream,
    /// What was agreed, and the numbers with which both ends go on.
    pub logged_in: LoggedIn,
    /// The ISID of the session.
    pub isid: [u8; 6],
    /// Where the login succeeded, after redirections.
    pub portal: Portal,
}

/// Logs in and hands the connection over. `joins` makes it a further connection of a session (or one that takes
/// the place of a lost one, with its CID).
pub async fn connect_for_hand_over(options: &Options, joins: Option<Joining>) -> Result<HandOver, Error> {
    let place = match joins {
        None => Place::leading(),
        Some(Joining { tsih, parameters, cid, cmd_sn, exp_stat_sn }) => {
            Place { cid, joins: Some((tsih, parameters)), cmd_sn, exp_stat_sn }
        }
    };
    hand_over(options, place).await
}

/// The same for a session that was lost and is to go on with this CmdSN, which whoever it was handed over to counts.
/// The options have the session's ISID, so that the target ends what is left of it first.
pub async fn reconnect_for_hand_over(options: &Options, cmd_sn: u32) -> Result<HandOver, Error> {
    hand_over(options, Place { cmd_sn, ..Place::leading() }).await
}

async fn hand_over(options: &Options, place: Place) -> Result<HandOver, Error> {
    options.check()?;
    let isid = match options.isid {
        Some(isid) => isid,
        None => random_isid()?,
    };
    let entered = log_in(options, isid, place).await?;
    let stream = entered.stream.into_std().map_err(|error| network(&entered.portal, &error))?;
    socket2::SockRef::from(&stream).set_linger(None).map_err(|error| network(&entered.portal, &error))?;
    stream.set_nonblocking(false).map_err(|error| network(&entered.portal, &error))?;
    Ok(HandOver { stream, logged_in: entered.logged_in, isid, portal: entered.portal })
}

/// The session that a connection joins.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Its TSIH.
    pub tsih: u16,
    /// What it has agreed on.
    pub parameters: SessionParameters,
    /// The connection's identifier.
    pub cid: u16,
    /// CmdSN of its next command.
    pub cmd_sn: u32,
    /// ExpStatSN of the connection whose place this one takes, or 0.
    pub exp_stat_sn: u32,
}
