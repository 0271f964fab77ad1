//! What a unit tells of itself: INQUIRY and its pages, LUNs, port groups, mode and log pages.

use super::Unit;
use crate::{Command, Error, Lun};
use scsi::inquiry::{BlockLimits, Inquiry, Unmap};
use scsi::mode::{Header, ListLength, PageControl};
use scsi::vpd::{self, designation::Designator, provisioning::Provisioning};
use scsi::{blocks, cdb, inquiry, log, port_groups};

/// The answer that is asked for first; most are shorter.
const FIRST_BYTES: u16 = 252;
/// The longest list of LUNs that is taken, in bytes.
const LUNS_BYTES: usize = 1 << 20;
/// The longest list of port groups.
const GROUPS_BYTES: u32 = 64 << 10;

impl Unit {
    /// Standard INQUIRY data. It comes from a LUN without a disk too; then its qualifier is not 0.
    pub async fn inquiry(&self) -> Result<Inquiry, Error> {
        let bytes = self.standard_inquiry().await?;
        inquiry::parse(&bytes).ok_or_else(|| self.nonsense(format!("INQUIRY data of {} bytes", bytes.len())))
    }

    /// The same as it came.
    pub async fn standard_inquiry(&self) -> Result<Vec<u8>, Error> {
        let command = Command::new(&cdb::inquiry(None, FIRST_BYTES)).reading(FIRST_BYTES.into());
        self.execute(command).await.bytes()
    }

    /// A VPD page with its header, whole.
    pub async fn vpd(&self, page: u8) -> Result<Vec<u8>, Error> {
        let mut wanted = FIRST_BYTES;
        loop {
            let command = Command::new(&cdb::inquiry(Some(page), wanted)).reading(wanted.into());
            let mut bytes = self.execute(command).await.bytes()?;
            let [_, code, high, low, ..] = *bytes else {
                return Err(self.nonsense(format!("VPD page {page:02x}h with {} bytes", bytes.len())));
            };
            if code != page {
                return Err(self.nonsense(format!("VPD page {code:02x}h where {page:02x}h was asked for")));
            }
            let total = u16::from_be_bytes([high, low]).saturating_add(4);
            if total > wanted && bytes.len() >= usize::from(wanted) {
                wanted = total;
                continue;
            }
            if bytes.len() < usize::from(total) {
                return Err(self.nonsense(format!("VPD page {page:02x}h of {total} bytes with {}", bytes.len())));
            }
            bytes.truncate(total.into());
            return Ok(bytes);
        }
    }

    /// The codes of its VPD pages (00h).
    pub async fn vpd_pages(&self) -> Result<Vec<u8>, Error> {
        self.page(0x00, vpd::supported::parse).await
    }

    /// The unit serial number (80h).
    pub async fn serial_number(&self) -> Result<String, Error> {
        self.page(0x80, vpd::serial_number::parse).await
    }

    /// What the unit, its port and its target are called (83h).
    pub async fn designators(&self) -> Result<Vec<Designator>, Error> {
        self.page(0x83, vpd::designation::parse).await
    }

    /// Limits of commands (B0h), and those of UNMAP where it has it.
    pub async fn block_limits(&self) -> Result<(BlockLimits, Option<Unmap>), Error> {
        self.page(0xb0, vpd::block_limits::parse).await
    }

    /// Which commands give space back (B2h).
    pub async fn provisioning(&self) -> Result<Provisioning, Error> {
        self.page(0xb2, vpd::provisioning::parse).await
    }

    async fn page<T>(&self, code: u8, parse: fn(&[u8]) -> Result<T, vpd::ParseError>) -> Result<T, Error> {
        parse(&self.vpd(code).await?).map_err(|error| self.nonsense(error.to_string()))
    }

    /// The LUNs that the target shows this initiator. Any unit may be asked, one that is not there too.
    pub async fn report_luns(&self) -> Result<Vec<Lun>, Error> {
        let mut wanted = 16 << 10;
        loop {
            let bytes = self.execute(Command::new(&cdb::report_luns(wanted as u32)).reading(wanted)).await.bytes()?;
            let parsed = blocks::parse_luns(&bytes);
            let (announced, luns) = parsed.ok_or_else(|| self.nonsense("a list of LUNs that is cut".to_owned()))?;
            let needed = announced.saturating_add(8);
            if needed <= wanted || wanted == LUNS_BYTES {
                return Ok(luns.into_iter().map(Lun::from_wire).collect());
            }
            wanted = needed.min(LUNS_BYTES);
        }
    }

    /// The groups of target ports and what they let through (REPORT TARGET PORT GROUPS).
    pub async fn target_port_groups(&self) -> Result<Vec<port_groups::Group>, Error> {
        let command = Command::new(&cdb::report_target_port_groups(GROUPS_BYTES)).reading(GROUPS_BYTES as usize);
        let bytes = self.execute(command).await.bytes()?;
        port_groups::parse(&bytes).ok_or_else(|| self.nonsense("a list of port groups that is cut".to_owned()))
    }

    /// Mode pages (MODE SENSE (10)): 3Fh are all, subpage FFh all subpages.
    pub async fn mode_sense(&self, page: u8, subpage: u8, control: PageControl) -> Result<Header, Error> {
        let bytes = 4096;
        let command = Command::new(&cdb::mode_sense_10(page, subpage, control, false, bytes)).reading(bytes.into());
        let bytes = self.execute(command).await.bytes()?;
        scsi::mode::parse(ListLength::Ten, &bytes).map_err(|error| self.nonsense(error.to_string()))
    }

    /// The parameters of a log page (LOG SENSE, cumulative values).
    pub async fn log_sense(&self, page: u8, subpage: u8) -> Result<Vec<log::Parameter>, Error> {
        let bytes = u16::MAX;
        let command = Command::new(&cdb::log_sense(page, subpage, bytes)).reading(bytes.into());
        let bytes = self.execute(command).await.bytes()?;
        match log::parse(&bytes) {
            Some((code, of, parameters)) if code == page && of == subpage => Ok(parameters),
            _ => Err(self.nonsense(format!("log page {page:02x}h that is cut or another"))),
        }
    }

    /// What the unit said cannot be.
    pub(crate) fn nonsense(&self, why: String) -> Error {
        let target = self.session().information().target;
        Error::Protocol { target, why: format!("LUN {} answers with {why}", self.lun()) }
    }
}
