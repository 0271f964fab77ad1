//! What a run is made of, all of it told by its seed.

use super::network::Weather;
use crate::Random;
use iscsi::initiator::Limits;
use iscsi::key::{Offers, SessionParameters, TaskReporting};
use iscsi::login::initiator::DigestOffer;
use iscsi::session::SessionLimits;
use std::rc::Rc;
use std::time::Duration;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its seed.
    pub seed: u64,
    /// ErrorRecoveryLevel.
    pub level: u32,
    /// Connections of the session.
    pub connections: u16,
    /// What the initiator proposes.
    pub(super) offers: Offers,
    /// MaxRecvDataSegmentLength of the target.
    pub(super) target_segment: u32,
    pub(super) digests: (bool, bool),
    /// Blocks of the disk.
    pub(super) blocks: u64,
    /// Commands to be carried out, and how many at a time.
    pub(super) commands: u32,
    pub(super) depth: usize,
    /// Once in so many commands one is aborted, the unit is reset, a connection is left. 0: never.
    pub(super) aborts: u64,
    pub(super) resets: u64,
    pub(super) leaves: u64,
    pub(super) weather: Rc<Weather>,
    /// Every PDU is printed.
    pub trace: bool,
}

impl Setup {
    /// The run of this seed: level and number of connections follow from it, too.
    pub fn of(seed: u64) -> Setup {
        let level = (seed % 3) as u32;
        let connections = (seed / 3 % 4) as u16 + 1;
        Setup::with(seed, level, connections)
    }

    /// The run of this seed at this level with so many connections.
    pub fn with(seed: u64, level: u32, connections: u16) -> Setup {
        let mut random = Random::new(seed ^ 0x5e7_0b5e7);
        let random = &mut random;
        let cuts = random.below(4) as u32;
        let damages = random.below(5) as u32;
        // What is damaged must be seen to be damaged.
        let digests = if damages > 0 { (true, true) } else { (random.once_in(2), random.once_in(2)) };
        let segments = [512, 1024, 2048, 4096, 8192];
        let first_burst_length = *random.pick(&[512, 1024, 1536, 4096, 65_536]);
        let offers = Offers {
            session: SessionParameters {
                max_connections: u32::from(connections),
                initial_r2t: random.once_in(2),
                immediate_data: random.once_in(2),
                max_burst_length: *random.pick(&[512, 1024, 4096, 8192, 65_536]),
                first_burst_length,
                default_time_2_wait: random.below(3) as u32,
                default_time_2_retain: 5 + random.below(20) as u32,
                max_outstanding_r2t: 1 + random.below(4) as u32,
                data_pdu_in_order: true,
                data_sequence_in_order: random.once_in(2),
                error_recovery_level: level,
                protocol_level: 1,
                task_reporting: *random.pick(&[
                    TaskReporting::Rfc3720,
                    TaskReporting::ResponseFence,
                    TaskReporting::FastAbort,
                ]),
            },
            max_recv_data_segment_length: *random.pick(&segments),
        };
        let weather = Weather {
            piece_bytes: *random.pick(&[40, 500, 3000, 8000, 8000]),
            delay_us: *random.pick(&[1, 100, 2000, 20_000]),
            holds: *random.pick(&[0, 0, 30, 200]),
            cuts,
            damages,
            within_bytes: *random.pick(&[2000, 10_000, 40_000]),
        };
        Setup {
            seed,
            level,
            connections,
            offers,
            target_segment: *random.pick(&segments),
            digests,
            blocks: 128,
            commands: 10 + random.below(30) as u32,
            depth: 1 + random.size(8),
            aborts: *random.pick(&[0, 0, 8, 20]),
            resets: *random.pick(&[0, 0, 0, 20]),
            leaves: *random.pick(&[0, 0, 10, 20]),
            weather: Rc::new(weather),
            trace: false,
        }
    }

    /// The command that runs it again.
    pub fn rerun(&self) -> String {
        format!("simulate --seeds {} --level {} --connections {}", self.seed, self.level, self.connections)
    }

    pub(super) fn digest(on: bool) -> DigestOffer {
        if on { DigestOffer::Required } else { DigestOffer::None }
    }

    pub(super) fn target_offers(&self) -> Offers {
        let session = SessionParameters {
            max_connections: 16,
            initial_r2t: false,
            max_burst_length: 1 << 20,
            first_burst_length: 256 << 10,
            max_outstanding_r2t: 8,
            data_pdu_in_order: false,
            data_sequence_in_order: false,
            default_time_2_wait: 0,
            default_time_2_retain: 3600,
            error_recovery_level: 2,
            ..SessionParameters::default()
        };
        Offers { session, max_recv_data_segment_length: self.target_segment }
    }

    pub(super) fn target_limits(&self) -> SessionLimits {
        SessionLimits {
            window: 1 + (self.seed % 13) as u32 * 3,
            nop_interval: Duration::from_secs(5),
            nop_timeout: Duration::from_secs(5),
            ..SessionLimits::default()
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits::default()
    }
}
