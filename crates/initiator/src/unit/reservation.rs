//! Persistent reservations (SPC-5 5.14): every service action in and out.

use super::Unit;
use crate::{Command, Error};
use scsi::cdb;
use scsi::persistent::{self, Capabilities, InAction, MoveList, OutAction, OutList, ReservationType};
use scsi::transport_id::TransportId;

/// The longest answer that is taken, in bytes.
const ANSWER_BYTES: u16 = u16::MAX;

/// A registration as READ FULL STATUS tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its key.
    pub key: u64,
    /// The type, where this registrant holds the reservation.
    pub holds: Option<ReservationType>,
    /// The relative target port identifier of its nexus.
    pub relative_port: u16,
    /// Its initiator port; `None` where it is none of iSCSI.
    pub initiator: Option<TransportId>,
}

/// Registered keys or registrations, with the generation that changes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation<T> {
    /// PRGENERATION.
    pub generation: u32,
    /// What there is in it.
    pub content: T,
}

impl Unit {
    /// READ KEYS.
    pub async fn reservation_keys(&self) -> Result<Generation<Vec<u64>>, Error> {
        let bytes = self.reserve_in(InAction::ReadKeys).await?;
        let (generation, content) = persistent::parse_keys(&bytes).ok_or_else(|| self.cut(InAction::ReadKeys))?;
        Ok(Generation { generation, content })
    }

    /// READ RESERVATION: the holder's key and the type.
    pub async fn reservation(&self) -> Result<Generation<Option<(u64, ReservationType)>>, Error> {
        let bytes = self.reserve_in(InAction::ReadReservation).await?;
        let parsed = persistent::parse_reservation(&bytes).ok_or_else(|| self.cut(InAction::ReadReservation));
        let (generation, content) = parsed?;
        Ok(Generation { generation, content })
    }

    /// REPORT CAPABILITIES.
    pub async fn reservation_capabilities(&self) -> Result<Capabilities, Error> {
        let bytes = self.reserve_in(InAction::ReportCapabilities).await?;
        persistent::parse_capabilities(&bytes).ok_or_else(|| self.cut(InAction::ReportCapabilities))
    }

    /// READ FULL STATUS.
    pub async fn registrations(&self) -> Result<Generation<Vec<Registration>>, Error> {
        let bytes = self.reserve_in(InAction::ReadFullStatus).await?;
        let parsed = persistent::parse_full_status(&bytes).ok_or_else(|| self.cut(InAction::ReadFullStatus));
        let (generation, list) = parsed?;
        let content = list.into_iter().map(|one| Registration {
            key: one.key,
            holds: one.holds,
            relative_port: one.relative_port,
            initiator: TransportId::parse(one.initiator).ok().map(|(id, _)| id),
        });
        Ok(Generation { generation, content: content.collect() })
    }

    /// PERSISTENT RESERVE OUT with any action but REGISTER AND MOVE. The type counts for those that have one.
    pub async fn reserve_out(
        &self,
        action: OutAction,
        kind: Option<ReservationType>,
        list: &OutList,
    ) -> Result<(), Error> {
        self.out(action, kind, list.encode()).await
    }

    /// REGISTER AND MOVE: the reservation goes over to another nexus.
    pub async fn reserve_move(&self, kind: ReservationType, list: &MoveList) -> Result<(), Error> {
        self.out(OutAction::RegisterAndMove, Some(kind), list.encode()).await
    }

    async fn out(&self, action: OutAction, kind: Option<ReservationType>, list: Vec<u8>) -> Result<(), Error> {
        let length = u32::try_from(list.len()).unwrap_or(u32::MAX);
        let cdb = cdb::persistent_reserve_out(action, kind, length);
        self.execute(Command::new(&cdb).writing(list)).await.result.map(drop)
    }

    async fn reserve_in(&self, action: InAction) -> Result<Vec<u8>, Error> {
        let command = Command::new(&cdb::persistent_reserve_in(action, ANSWER_BYTES)).reading(ANSWER_BYTES.into());
        self.execute(command).await.bytes()
    }

    fn cut(&self, action: InAction) -> Error {
        self.nonsense(format!("{action:?} that is cut or of a type that does not exist"))
    }
}
