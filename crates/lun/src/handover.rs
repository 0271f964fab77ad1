//! What a unit and its nexuses are at a moment at which nothing is under way, so that another process can go on
//! with them: an upgrade is neither a power loss nor a reset, and nobody is owed a unit attention for it.
//!
//! Plain values; how they get there is the transport's business. What initiators were told stays true: who holds
//! what, which unit attentions are owed, what the mode pages say, which tokens stand for what.

use crate::commons::flag;
use crate::lane::Lane;
use crate::reservation::{Nexus, Reservations, StoredError};
use crate::{LogicalUnit, NexusDescription, NexusId};
use scsi::Condition;
use std::sync::Arc;
use std::time::Duration;

/// Flags of a unit that are states and follow from nothing else.
const STATES: u32 = flag::STOPPED | flag::EJECTED | flag::EMPTY | flag::AWAITED | flag::IDLE | flag::STANDBY;

/// Those that whoever administers the unit has set, beside what its configuration says.
const ADMINISTERED: u32 = flag::OFFLINE | flag::READ_ONLY;

/// A unit as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitAtRest {
    /// Who it is.
    pub uuid: [u8; 16],
    /// The mode pages in force.
    pub mode_pages: Vec<u8>,
    /// Those that were saved.
    pub saved_mode_pages: Option<Vec<u8>>,
    /// Stopped, ejected, empty, in a power condition.
    pub flags: u32,
    /// Registrations and the persistent reservation, whether or not they outlive a power loss.
    pub reservations: Vec<u8>,
    /// Who holds it by RESERVE of SPC-2.
    pub exclusive: Option<Nexus>,
    /// Who knows that it was powered on.
    pub greeted: Vec<Nexus>,
    /// Its identifying information.
    pub names: Vec<u8>,
    /// What its clock was set to in milliseconds, and when.
    pub clock: Option<(u64, Duration)>,
    /// Reads, writes, bytes read and bytes written, of the log page 19h.
    pub counters: [u64; 4],
    /// What applications noted in the log page 0Fh: a parameter and its bytes.
    pub notes: Vec<(u16, Vec<u8>)>,
    /// Tokens of copies.
    pub tokens: Vec<TokenAtRest>,
    /// The threshold of thin provisioning was reached.
    pub threshold_reached: bool,
    /// How a SANITIZE or FORMAT UNIT ended that did not end well.
    pub occupation: u8,
    /// Blocks that it shows.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_length: u32,
}

/// A token of a copy (SPC-4 5.16.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenAtRest {
    /// The token.
    pub token: Vec<u8>,
    /// Who made it.
    pub maker: Nexus,
    /// First block and number of blocks, in the order in which they were named.
    pub ranges: Vec<(u64, u32)>,
    /// Bytes of a block when it was made.
    pub block_length: u32,
    /// How long it is kept without being used.
    pub timeout: Duration,
    /// When it was last used, by the machine's time.
    pub used: Duration,
}

/// A nexus as it stands, by the numbers of its units.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NexusAtRest {
    /// Its units.
    pub views: Vec<ViewAtRest>,
    /// What it can see has changed, and LUN 0, where there is no disk to tell it, has not yet told.
    pub inventory_changed: bool,
}

/// A unit as one nexus has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ViewAtRest {
    /// Its number.
    pub number: u16,
    /// Which unit it is.
    pub uuid: [u8; 16],
    /// Unit attentions that are owed, the first to be told first.
    pub attentions: Vec<Condition>,
    /// What happened to the medium of a drive and was not told yet (MMC-6, the media event).
    pub media_event: u8,
    /// That it is to let go of the medium was not told yet.
    pub eject_requested: bool,
    /// It prevents the removal of the medium.
    pub prevents: bool,
}

/// Why a unit cannot go on from what another process says of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Its reservations cannot be read.
    #[error("its reservations: {0}")]
    Reservations(#[from] StoredError),
    /// Its identifying information cannot be read.
    #[error("its identifying information cannot be read")]
    Names,
    /// Its blocks are of another length.
    #[error("its blocks have {is} bytes, and initiators were told of {was}")]
    BlockLength {
        /// Bytes of a block, as initiators have it.
        was: u32,
        /// Bytes of a block here.
        is: u32,
    },
    /// It is smaller.
    #[error("it would show {is} blocks, and initiators were told of {was}; give it that size in the configuration")]
    Smaller {
        /// Blocks, as initiators have it.
        was: u64,
        /// Blocks here.
        is: u64,
    },
}

impl LogicalUnit {
    /// The unit as it stands. No lane has a task at it.
    pub fn at_rest(&self) -> UnitAtRest {
        let commons = &self.commons;
        let values = commons.values();
        let (reservations, exclusive) = commons.reservations.snapshot().at_rest();
        let limits = self.backend().limits();
        UnitAtRest {
            uuid: self.identity().uuid,
            mode_pages: values.to_current(),
            saved_mode_pages: values.is_saved().then(|| values.to_saved()),
            flags: commons.flags() & (STATES | ADMINISTERED),
            reservations,
            exclusive,
            greeted: commons.greeted(),
            names: commons.naming.at_rest(),
            clock: commons.clock.at_rest(),
            counters: commons.ledger.counters(),
            notes: commons.ledger.notes().all().map(|(code, bytes)| (code, bytes.to_vec())).collect(),
            tokens: commons.tokens.at_rest(),
            threshold_reached: commons.is_threshold_reached(),
            occupation: commons.occupation.code(),
            blocks: limits.blocks,
            block_length: limits.block_length,
        }
    }

    /// Goes on from where another process left the unit. Nobody uses it yet. Whether it has become larger, of which
    /// all who know it are to be told.
    pub fn revive(&self, rest: &UnitAtRest) -> Result<bool, Unfit> {
        let commons = &self.commons;
        let limits = self.backend().limits();
        if limits.block_length != rest.block_length {
            return Err(Unfit::BlockLength { was: rest.block_length, is: limits.block_length });
        }
        if limits.blocks < rest.blocks {
            return Err(Unfit::Smaller { was: rest.blocks, is: limits.blocks });
        }
        let reservations = Reservations::revive(&rest.reservations, rest.exclusive.clone())?;
        if !commons.naming.revive(&rest.names) {
            return Err(Unfit::Names);
        }
        commons.reservations.revive(reservations);
        commons.revive_values(&rest.mode_pages, rest.saved_mode_pages.as_deref());
        commons.set_flags(rest.flags & (STATES | ADMINISTERED), STATES & !rest.flags);
        commons.greet(rest.greeted.iter().cloned());
        commons.clock.revive(rest.clock);
        commons.ledger.revive(rest.counters, &rest.notes);
        commons.tokens.revive(&rest.tokens);
        commons.threshold_reached(rest.threshold_reached);
        if commons.occupation.revive(rest.occupation) {
            commons.set_flags(flag::OCCUPIED, 0);
        }
        Ok(limits.blocks > rest.blocks)
    }
}

impl Lane {
    /// Whether nothing is under way, or what is.
    pub fn rests(&self) -> Result<(), &'static str> {
        match self.is_idle() {
            true => Ok(()),
            false => Err("disks are at work"),
        }
    }

    /// A nexus as it stands, where nothing of it is under way.
    pub fn nexus_at_rest(&self, id: NexusId) -> Option<NexusAtRest> {
        let (views, inventory_changed) = self.views_at_rest(id)?;
        Some(NexusAtRest { views, inventory_changed })
    }

    /// A nexus that goes on: nothing has happened to it. Units that it did not have owe it what
    /// [`Lane::open_nexus`] says.
    pub fn revive_nexus(&mut self, description: NexusDescription, rest: &NexusAtRest) -> NexusId {
        let id = self.open_nexus(description);
        rest.views.iter().for_each(|view| self.revive_view(id, view));
        if rest.inventory_changed {
            self.inventory_has_changed(id);
        }
        id
    }
}

/// The initiator and port of a nexus, as reservations know it.
pub fn nexus(initiator: &[u8], relative_port: u16) -> Nexus {
    Nexus { initiator: Arc::from(initiator), relative_port }
}
