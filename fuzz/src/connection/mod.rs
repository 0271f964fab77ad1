//! The whole connection: login, session and device server over the simulated wire, fed by a grammar of
//! PDUs and by bytes.
//!
//! Input: two bytes of setting (digests, recovery level, how data travels, how many connections), then
//! records. Most make one PDU whose lengths, digests and numbers are right, so that what stands behind
//! the first checks is reached; each can be told to be wrong in one of them; two kinds pass bytes
//! through as they are. In a strict setting the capture checker judges everything that the target says.

mod frames;

use crate::Input;
use block::Backend;
use block::layer::{Delay, Valve};
use block::pure::Ram;
use iscsi::key::Offers;
use iscsi::wire::{
    FINAL, IMMEDIATE, LoginResponse, NopIn, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer, ScsiCommand, ScsiResponse,
    TRANSIT, TextResponse,
};
use sim::daemon::TARGET;
use sim::frame::Assembler;
use sim::raw::Login;
use sim::world::{Network, Setup, Shared, Wire};
use sim::{Capture, Digests, Frame};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::FromBytes;

/// Records of one input.
const RECORDS: usize = 64;
/// Connections of one input, closed ones among them.
const CONNECTIONS: usize = 6;
/// Blocks of the disk.
const BLOCKS: u64 = 128;
/// Bytes that the target may send for each record, at most: all of the disk, or a ping's echo.
const BYTES_FOR_RECORD: usize = 300 << 10;
/// Bytes of memory that tasks may hold, whatever is asked.
const HELD_BYTES: usize = 64 << 20;

// The first byte of the setting.
const HEADER_DIGEST: u8 = 0x01;
const DATA_DIGEST: u8 = 0x02;
/// Two bits of ErrorRecoveryLevel.
const LEVEL_SHIFT: u8 = 2;
const INITIAL_R2T: u8 = 0x10;
const NO_IMMEDIATE: u8 = 0x20;
const SMALL: u8 = 0x40;
/// No login is made: all that follows is bytes.
const RAW: u8 = 0x80;
// The second byte.
/// MaxConnections less one, two bits.
const CONNECTIONS_MASK: u8 = 0x03;
/// The store completes only when it is let.
const SLOW: u8 = 0x04;
/// Nothing is damaged, and the checker judges.
const STRICT: u8 = 0x08;
const DISCOVERY: u8 = 0x10;
/// MaxOutstandingR2T less one, two bits.
const R2T_SHIFT: u8 = 5;

// What is wrong or special about a record.
const BAD_HEADER_DIGEST: u8 = 0x01;
const BAD_DATA_DIGEST: u8 = 0x02;
const OTHER_CMD_SN: u8 = 0x04;
const IS_IMMEDIATE: u8 = 0x08;
const OTHER_STAT_SN: u8 = 0x10;
/// The next record follows in the same moment.
const TOGETHER: u8 = 0x20;
/// Over the connection behind the current one.
const NEXT_CONNECTION: u8 = 0x40;
/// A field has another value than it should.
const LIES: u8 = 0x80;

/// A course of events; or bytes as they are.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut rig = Rig::new([input.byte(), input.byte()]);
    if rig.setting[0] & RAW != 0 {
        rig.raw(input);
    } else {
        rig.connect(rig.login(0, 0));
        for _ in 0..RECORDS {
            if input.is_empty() {
                break;
            }
            rig.record(&mut input);
        }
    }
    rig.end();
}

struct Rig {
    setting: [u8; 2],
    world: Shared,
    valve: Option<Valve>,
    peers: Vec<Peer>,
    current: usize,
    cmd_sn: u32,
    tsih: u16,
    records: usize,
}

/// One connection at the initiator.
struct Peer {
    wire: Wire,
    assembler: Assembler,
    capture: Capture,
    login: Login,
    full_feature: bool,
    exp_stat_sn: u32,
    asked: VecDeque<ReadyToTransfer>,
    /// Of the last ping and the last text response of the target.
    ping_tag: u32,
    text_tag: u32,
    /// Of the last status that carried a SNACK tag.
    snack_tag: u32,
    received: usize,
    /// Command numbers of what was rejected.
    gaps: VecDeque<u32>,
    /// What was sent went past the capture, which can judge nothing more.
    unseen: bool,
}

impl Rig {
    fn new(setting: [u8; 2]) -> Rig {
        let ram = Ram::new(512, BLOCKS);
        let valve = (setting[1] & SLOW != 0).then(Valve::closed);
        let disk: Arc<dyn Backend> = match &valve {
            Some(valve) => Delay::new(ram, valve.clone()),
            None => ram,
        };
        let mut offers = Offers::default();
        offers.session.error_recovery_level = 2;
        offers.session.max_connections = 4;
        let world = Shared::with(Setup { units: vec![disk], valve: valve.clone(), offers, ..Setup::default() });
        Rig { setting, world, valve, peers: Vec::new(), current: 0, cmd_sn: 1, tsih: 0, records: 0 }
    }

    fn strict(&self) -> bool {
        self.setting[1] & STRICT != 0
    }

    /// Whether a recovery level above 0 is asked for.
    fn recovers(&self) -> bool {
        self.setting[0] >> LEVEL_SHIFT & 3 > 0
    }

    /// The login that the setting describes.
    fn login(&self, isid: u8, tsih: u16) -> Login {
        let [first, second] = self.setting;
        let word = |yes: bool| if yes { "Yes" } else { "No" };
        let mut login = match second & DISCOVERY == 0 {
            true => Login::normal(TARGET),
            false => Login::discovery(),
        };
        login = login.digests(first & HEADER_DIGEST != 0, first & DATA_DIGEST != 0).isid(isid);
        login.tsih = tsih;
        login.cmd_sn = self.cmd_sn;
        if first & SMALL != 0 {
            login = login.key("MaxRecvDataSegmentLength", 512);
        }
        if tsih != 0 {
            return login;
        }
        login = login.key("ErrorRecoveryLevel", (first >> LEVEL_SHIFT & 3).min(2));
        if second & DISCOVERY != 0 {
            return login;
        }
        login = login
            .key("InitialR2T", word(first & INITIAL_R2T != 0))
            .key("ImmediateData", word(first & NO_IMMEDIATE == 0))
            .key("MaxConnections", 1 + (second & CONNECTIONS_MASK))
            .key("MaxOutstandingR2T", 1 + (second >> R2T_SHIFT & 3));
        match first & SMALL != 0 {
            true => login.key("MaxBurstLength", 1024).key("FirstBurstLength", 512),
            false => login,
        }
    }

    /// A connection that logs in with one request.
    fn connect(&mut self, login: Login) {
        if self.peers.len() == CONNECTIONS {
            return;
        }
        let mut peer = Peer {
            wire: self.world.connect(Network::default()),
            assembler: Assembler::default(),
            capture: Capture::default(),
            full_feature: false,
            exp_stat_sn: 0,
            asked: VecDeque::new(),
            ping_tag: RESERVED_TAG,
            text_tag: RESERVED_TAG,
            snack_tag: 0,
            received: 0,
            gaps: VecDeque::new(),
            unseen: false,
            login,
        };
        let request = peer.login.request(TRANSIT | 0x04 | 0x03, 0);
        peer.send(&Frame::new(request, &peer.login.text()), 0);
        self.current = self.peers.len();
        self.peers.push(peer);
        self.drain();
        let peer = &mut self.peers[self.current];
        if !peer.full_feature {
            return;
        }
        let new = peer.login.tsih != self.tsih;
        self.tsih = peer.login.tsih;
        if new && peer.login.target.is_some() {
            // The attention that a new session is owed would be the answer to what the input asks first.
            let mut header = ScsiCommand::empty();
            header.flags = FINAL | 1;
            header.lun[1] = 1;
            header.initiator_task_tag = 0x2000.into();
            let mut frame = Frame::new(header, &[]);
            self.number(&mut frame, self.current, 0, &mut Input::new(&[]));
            self.peers[self.current].send(&frame, 0);
            self.drain();
        }
    }

    fn raw(&mut self, mut input: Input<'_>) {
        let login = self.login(0, 0);
        let mut peer = Peer {
            wire: self.world.connect(Network::default()),
            assembler: Assembler::default(),
            capture: Capture::default(),
            full_feature: false,
            exp_stat_sn: 0,
            asked: VecDeque::new(),
            ping_tag: RESERVED_TAG,
            text_tag: RESERVED_TAG,
            snack_tag: 0,
            received: 0,
            gaps: VecDeque::new(),
            unseen: true,
            login,
        };
        peer.wire.push(input.rest());
        self.peers.push(peer);
        // As the target sees it the digests are those of the bytes, which we do not know: only count.
        let mut sent = 0;
        let mut bytes = [0; 16 << 10];
        while let Some(count @ 1..) = self.peers[0].wire.turn(&mut bytes) {
            sent += count;
            assert!(sent <= RECORDS * BYTES_FOR_RECORD, "{sent} bytes of answers");
        }
    }

    fn record(&mut self, input: &mut Input<'_>) {
        self.records += 1;
        let (kind, mut how) = (input.byte(), input.byte());
        if self.strict() {
            how &= !(BAD_HEADER_DIGEST | BAD_DATA_DIGEST | OTHER_CMD_SN | NEXT_CONNECTION);
        }
        let at = (self.current + usize::from(how & NEXT_CONNECTION != 0)) % self.peers.len();
        let frame = match kind & 0x0f {
            0 => Some(self.ping(input, at, how)),
            1 => Some(self.read(input, how)),
            2 => Some(self.write(input, how)),
            3 => Some(self.command(input)),
            4 => self.data_asked(input, at, how),
            5 => Some(self.data_unasked(input)),
            6 => Some(self.management(input)),
            7 => Some(self.text(input, at)),
            8 => Some(self.logout(input, at)),
            9 => Some(self.snack(input, at)),
            10 => {
                let header: [u8; 48] = input.array();
                let data = input.counted();
                let mut frame = Frame { header: header.to_vec(), data: data.to_vec() };
                frame.header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
                let more = input.take(usize::from(header[4]) * 4);
                frame.header.extend_from_slice(more);
                frame.header.resize(48 + usize::from(header[4]) * 4, 0);
                Some(frame)
            }
            11 => {
                let bytes = input.counted();
                if !self.strict() {
                    self.peers[at].wire.push(bytes);
                }
                None
            }
            12 => {
                // Above level 0 data that does not come is given up in time, which the checker would not forgive.
                let seconds = u64::from(input.byte() & 63);
                if !self.strict() || !self.recovers() {
                    self.world.pass(Duration::from_secs(seconds));
                }
                None
            }
            13 => {
                self.another(input);
                None
            }
            14 => {
                self.peers[at].wire.cut();
                None
            }
            _ => {
                let choice = input.byte();
                if let Some(valve) = &self.valve {
                    valve.release(u64::from(choice & 7));
                }
                if !self.strict() {
                    self.current = usize::from(choice >> 3) % self.peers.len();
                }
                None
            }
        };
        // Well-behaved: nothing before the login has its answer.
        let ready = !self.strict() || self.peers[at].full_feature;
        if let Some(mut frame) = frame.filter(|_| ready) {
            self.number(&mut frame, at, how, input);
            self.peers[at].send(&frame, how);
        }
        if how & TOGETHER == 0 {
            self.drain();
        }
    }

    /// CmdSN and ExpStatSN, right or not.
    fn number(&mut self, frame: &mut Frame, at: usize, how: u8, input: &mut Input<'_>) {
        let takes = matches!(
            Opcode::from_number(frame.opcode()),
            Some(
                Opcode::NopOut
                    | Opcode::ScsiCommand
                    | Opcode::TaskManagementRequest
                    | Opcode::TextRequest
                    | Opcode::LogoutRequest
            )
        );
        let delta = |input: &mut Input<'_>| i32::from(input.byte() as i8) as u32;
        if how & IS_IMMEDIATE != 0 {
            frame.header[0] |= IMMEDIATE;
        }
        if takes {
            let mut cmd_sn = self.cmd_sn;
            if how & OTHER_CMD_SN != 0 {
                cmd_sn = cmd_sn.wrapping_add(delta(input));
            } else if frame.header[0] & IMMEDIATE == 0 {
                // What was rejected has left a gap, which is to be filled first (CSN-12).
                match self.peers[at].gaps.pop_front() {
                    Some(gap) => cmd_sn = gap,
                    None => self.cmd_sn = cmd_sn.wrapping_add(1),
                }
            }
            frame.header[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
        }
        let mut exp_stat_sn = self.peers[at].exp_stat_sn;
        if how & OTHER_STAT_SN != 0 {
            exp_stat_sn = exp_stat_sn.wrapping_add(delta(input));
        }
        frame.header[28..32].copy_from_slice(&exp_stat_sn.to_be_bytes());
    }

    /// Another connection: of this session, in its place, or of another initiator port.
    fn another(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        if self.strict() {
            // One session after the other: the checker knows one connection at a time.
            let current = self.current;
            self.peers[current].wire.cut();
        }
        let mut login = match choice & 3 {
            0 if !self.strict() => self.login(0, self.tsih),
            2 => self.login(choice >> 2, 0),
            _ if self.strict() || choice & 3 == 1 => self.login(0, 0),
            _ => self.login(0, u16::from(choice >> 2)),
        };
        login.cid = 1 + u16::from(choice >> 4);
        self.connect(login);
    }

    /// Takes all that the target has to say at this moment.
    fn drain(&mut self) {
        let (strict, small) = (self.strict(), self.setting[0] & SMALL != 0);
        for peer in &mut self.peers {
            peer.drain(strict, if small { 512 } else { 8192 });
            assert!(
                peer.received <= (self.records + 2) * BYTES_FOR_RECORD * 2,
                "{} bytes to an initiator after {} records",
                peer.received,
                self.records
            );
        }
        let held = self.world.taken_bytes();
        assert!(held <= HELD_BYTES, "{held} bytes are held");
    }

    /// Every connection is lost: nothing is left of it.
    fn end(mut self) {
        self.drain();
        if self.strict() {
            for peer in &self.peers {
                if !peer.unseen {
                    peer.capture.assert_clean();
                }
            }
        }
        for peer in &mut self.peers {
            peer.wire.cut();
        }
        if let Some(valve) = &self.valve {
            valve.release_all();
        }
        // Beyond every Time2Retain.
        self.world.pass(Duration::from_secs(7200));
        self.world.settle();
        assert_eq!((self.world.tasks(), self.world.taken_bytes()), (0, 0), "tasks and memory are left");
    }
}

impl Peer {
    fn send(&mut self, frame: &Frame, how: u8) {
        if !self.unseen {
            self.capture.initiator(frame);
        }
        let mut bytes = frame.encode(self.assembler.digests);
        let Digests { header, data } = self.assembler.digests;
        if header && how & BAD_HEADER_DIGEST != 0 {
            bytes[frame.header.len()] ^= 0x10;
        }
        if data
            && how & BAD_DATA_DIGEST != 0
            && !frame.data.is_empty()
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 0x10;
        }
        self.wire.push(&bytes);
    }

    fn drain(&mut self, strict: bool, limit: usize) {
        let mut bytes = [0; 4 << 10];
        while let Some(count @ 1..) = self.wire.turn(&mut bytes) {
            self.received += count;
            self.assembler.push(&bytes[..count]);
            while let Some((frame, complaints)) = self.assembler.take() {
                assert!(complaints.is_empty(), "{complaints:?}: {}", frame.summary());
                assert!(frame.opcode() >= 0x20, "{}", frame.summary());
                assert!(frame.data.len() <= limit, "{} bytes of data where {limit} are taken", frame.data.len());
                if !self.unseen {
                    self.capture.target(&frame, &[]);
                }
                self.take_in(&frame);
                // Without judgement the checker is there to read the login, no more.
                self.unseen |= self.full_feature && !strict;
            }
        }
        if strict && !self.unseen {
            self.capture.assert_clean();
        }
    }

    fn take_in(&mut self, frame: &Frame) {
        if let Some(response) = frame.view::<LoginResponse>() {
            if response.status_class == 0 && response.flags & (TRANSIT | 3) == TRANSIT | 3 {
                self.full_feature = true;
                self.login.tsih = response.tsih.get();
                self.assembler.digests = self.capture.agreed().digests;
            }
            self.exp_stat_sn = response.stat_sn.get().wrapping_add(1);
            return;
        }
        let basic = frame.basic();
        let unnumbered = match Opcode::from_number(frame.opcode()) {
            Some(Opcode::DataIn) => basic.flags & 0x01 == 0,
            Some(Opcode::ReadyToTransfer) => true,
            Some(Opcode::NopIn) => basic.initiator_task_tag.get() == RESERVED_TAG,
            _ => false,
        };
        if !unnumbered {
            self.exp_stat_sn = ScsiResponse::view(basic).stat_sn.get().wrapping_add(1);
        }
        if let Some(asked) = frame.view::<ReadyToTransfer>() {
            if self.asked.len() == 16 {
                self.asked.pop_front();
            }
            let mut asked = *asked;
            asked.r2t_sn = 0.into();
            self.asked.push_back(asked);
        } else if frame.opcode() == Opcode::Reject as u8 {
            if let Ok((refused, _)) = ScsiCommand::ref_from_prefix(&frame.data)
                && !refused.header().immediate()
                && refused.header().opcode() < 0x10
                && refused.header().opcode() != Opcode::DataOut as u8
            {
                self.gaps.push_back(refused.cmd_sn.get());
            }
        } else if let Some(ping) = frame.view::<NopIn>() {
            self.ping_tag = ping.target_transfer_tag.get();
        } else if let Some(text) = frame.view::<TextResponse>() {
            self.text_tag = text.target_transfer_tag.get();
        } else if let Some(response) = frame.view::<ScsiResponse>() {
            self.snack_tag = response.snack_tag.get();
        }
    }
}
