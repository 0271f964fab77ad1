//! A PDU in words: its name, every field by the name that RFC 7143 gives it, and what it says in a line. Any bytes
//! have words; nothing is judged.

use super::record::{Record, Side};
use io::crc32c::Crc32c;
use iscsi::wire::{
    AdditionalHeader, AdditionalHeaders, AsyncEvent, AsyncMessage, BHS_BYTES, DataIn, DataOut, Header, LoginRequest,
    LoginResponse, LogoutRequest, LogoutResponse, NopIn, NopOut, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer, Reject,
    RejectReason, ScsiCommand, ScsiResponse, SnackRequest, TaskManagementRequest, TaskManagementResponse, TextRequest,
    TextResponse,
};
use serde_json::{Value, json};
use zerocopy::FromBytes;

/// All kinds: opcode, name, word on the command line.
pub const KINDS: &[(Opcode, &str, &str)] = &[
    (Opcode::NopOut, "NOP-Out", "nop-out"),
    (Opcode::ScsiCommand, "SCSI Command", "scsi-command"),
    (Opcode::TaskManagementRequest, "Task Mgmt Request", "task-management-request"),
    (Opcode::LoginRequest, "Login Request", "login-request"),
    (Opcode::TextRequest, "Text Request", "text-request"),
    (Opcode::DataOut, "Data-Out", "data-out"),
    (Opcode::LogoutRequest, "Logout Request", "logout-request"),
    (Opcode::SnackRequest, "SNACK Request", "snack"),
    (Opcode::NopIn, "NOP-In", "nop-in"),
    (Opcode::ScsiResponse, "SCSI Response", "scsi-response"),
    (Opcode::TaskManagementResponse, "Task Mgmt Response", "task-management-response"),
    (Opcode::LoginResponse, "Login Response", "login-response"),
    (Opcode::TextResponse, "Text Response", "text-response"),
    (Opcode::DataIn, "Data-In", "data-in"),
    (Opcode::LogoutResponse, "Logout Response", "logout-response"),
    (Opcode::ReadyToTransfer, "R2T", "r2t"),
    (Opcode::AsyncMessage, "Async Message", "async-message"),
    (Opcode::Reject, "Reject", "reject"),
];

/// A PDU, taken apart.
pub struct Decoded<'a> {
    /// Its kind, where it has one.
    pub opcode: Option<Opcode>,
    /// The kind's name.
    pub name: String,
    /// Every field that means something.
    pub fields: Vec<(&'static str, Value)>,
    /// What it says, without what [`Decoded::numbers`] has.
    pub words: String,
    /// The numbers that order it among others.
    pub numbers: Vec<(&'static str, u32)>,
    /// Whether it tells that something went wrong.
    pub bad: bool,
    /// Initiator Task Tag.
    pub tag: u32,
    /// The LUN, of PDUs that name one.
    pub lun: Option<[u8; 8]>,
    /// The CDB of a command.
    pub cdb: Option<Vec<u8>>,
    /// Whether it is a task's last PDU.
    pub ends_task: bool,
    /// The data segment, as far as it was kept.
    pub data: &'a [u8],
    /// The text of login and text PDUs.
    pub text: Vec<(String, String)>,
}

impl<'a> Decoded<'a> {
    fn number(&mut self, short: &'static str, name: &'static str, value: u32) {
        self.numbers.push((short, value));
        self.fields.push((name, value.into()));
    }

    fn field(&mut self, name: &'static str, value: impl Into<Value>) {
        self.fields.push((name, value.into()));
    }

    fn window(&mut self, stat_sn: Option<u32>, exp_cmd_sn: u32, max_cmd_sn: u32) {
        if let Some(stat_sn) = stat_sn {
            self.number("StatSN", "StatSN", stat_sn);
        }
        self.number("ExpCmdSN", "ExpCmdSN", exp_cmd_sn);
        self.number("MaxCmdSN", "MaxCmdSN", max_cmd_sn);
    }

    fn lun(&mut self, lun: [u8; 8]) {
        self.lun = Some(lun);
        self.field("LUN", lun_words(lun));
    }

    fn transfer_tag(&mut self, tag: u32) {
        self.field("Target Transfer Tag", tag);
    }

    /// Takes a PDU apart; `None` where it has not even a header.
    pub fn of(record: &'a Record) -> Option<Decoded<'a>> {
        let (header, _) = Header::ref_from_prefix(&record.bytes).ok()?;
        let kind = Opcode::from_number(header.opcode());
        let name = KINDS.iter().find(|(opcode, ..)| Some(*opcode) == kind).map(|(_, name, _)| (*name).to_owned());
        let digest = if record.header_digest { 4 } else { 0 };
        let plain = BHS_BYTES + header.additional_bytes();
        let from = (plain + digest).min(record.bytes.len());
        let kept = (header.data_segment_bytes() as usize).min(record.bytes.len() - from);
        let mut decoded = Decoded {
            opcode: kind,
            name: name.unwrap_or_else(|| format!("opcode {:02X}h", header.opcode())),
            fields: Vec::new(),
            words: String::new(),
            numbers: Vec::new(),
            bad: false,
            tag: header.initiator_task_tag.get(),
            lun: None,
            cdb: None,
            ends_task: false,
            data: &record.bytes[from..from + kept],
            text: Vec::new(),
        };
        if record.side == Side::Initiator {
            decoded.field("Immediate", header.immediate());
        }
        decoded.field("Final", header.flags & 0x80 != 0);
        decoded.field("TotalAHSLength", header.total_ahs_length);
        decoded.field("DataSegmentLength", header.data_segment_bytes());
        decoded.field("Initiator Task Tag", decoded.tag);
        let additional = record.bytes.get(BHS_BYTES..plain).unwrap_or_default();
        match kind {
            Some(kind) => decoded.take_apart(kind, header, additional),
            None => decoded.words = "no PDU of RFC 7143".to_owned(),
        }
        if digest > 0 && plain + digest <= record.bytes.len() {
            let right = Crc32c::over(&record.bytes[..plain]).to_le_bytes() == record.bytes[plain..plain + 4];
            decoded.digest("HeaderDigest", right);
        }
        if record.data_digest
            && kept > 0
            && record.bytes.len() == record.length as usize
            && let Some((covered, digest)) = record.bytes[from..].split_last_chunk::<4>()
        {
            decoded.digest("DataDigest", Crc32c::over(covered).to_le_bytes() == *digest);
        }
        Some(decoded)
    }

    fn digest(&mut self, name: &'static str, right: bool) {
        self.field(name, if right { "right" } else { "wrong" });
        if !right {
            self.bad = true;
            self.words += &format!("; its {name} is wrong");
        }
    }

    fn take_apart(&mut self, kind: Opcode, header: &Header, additional: &[u8]) {
        match kind {
            Opcode::ScsiCommand => self.scsi_command(ScsiCommand::view(header), additional),
            Opcode::ScsiResponse => self.scsi_response(ScsiResponse::view(header)),
            Opcode::DataIn => self.data_in(DataIn::view(header)),
            Opcode::DataOut => self.data_out(DataOut::view(header)),
            Opcode::ReadyToTransfer => self.ready_to_transfer(ReadyToTransfer::view(header)),
            Opcode::TaskManagementRequest => self.function_request(TaskManagementRequest::view(header)),
            Opcode::TaskManagementResponse => self.function_response(TaskManagementResponse::view(header)),
            Opcode::LoginRequest => self.login_request(LoginRequest::view(header)),
            Opcode::LoginResponse => self.login_response(LoginResponse::view(header)),
            Opcode::TextRequest => self.text_request(TextRequest::view(header)),
            Opcode::TextResponse => self.text_response(TextResponse::view(header)),
            Opcode::LogoutRequest => self.logout_request(LogoutRequest::view(header)),
            Opcode::LogoutResponse => self.logout_response(LogoutResponse::view(header)),
            Opcode::NopOut => self.nop_out(NopOut::view(header)),
            Opcode::NopIn => self.nop_in(NopIn::view(header)),
            Opcode::SnackRequest => self.snack(SnackRequest::view(header)),
            Opcode::AsyncMessage => self.async_message(AsyncMessage::view(header)),
            Opcode::Reject => self.reject(Reject::view(header)),
        }
    }

    fn scsi_command(&mut self, pdu: &ScsiCommand, additional: &[u8]) {
        self.lun(pdu.lun);
        let mut cdb = pdu.cdb.to_vec();
        let mut reads = None;
        for segment in AdditionalHeaders::new(additional).flatten() {
            match segment {
                AdditionalHeader::ExtendedCdb(rest) => cdb.extend_from_slice(rest),
                AdditionalHeader::BidirectionalReadLength(length) => reads = Some(length),
                AdditionalHeader::Unknown(_) => {}
            }
        }
        self.words = scsi::commands::describe(&cdb);
        let length = pdu.expected_data_transfer_length.get();
        match (pdu.reads(), pdu.writes()) {
            (false, false) => {}
            (true, false) => self.words += &format!("; up to {length} bytes in"),
            (_, true) => {
                self.words += &format!("; {length} bytes out");
                if let Some(reads) = reads {
                    self.words += &format!(", up to {reads} in");
                }
                let immediate = pdu.header().data_segment_bytes();
                if immediate > 0 {
                    self.words += &format!(", {immediate} immediate");
                }
            }
        }
        self.field("Read", pdu.reads());
        self.field("Write", pdu.writes());
        self.field("Attribute", attribute(pdu.attribute()));
        self.field("Priority", pdu.priority >> 4);
        self.field("Expected Data Transfer Length", length);
        if let Some(reads) = reads {
            self.field("Bidirectional Read Expected Data Transfer Length", reads);
        }
        self.field("CDB", hex(&cdb));
        self.number("CmdSN", "CmdSN", pdu.cmd_sn.get());
        self.number("ExpStatSN", "ExpStatSN", pdu.exp_stat_sn.get());
        self.cdb = Some(cdb);
    }

    fn residuals(&mut self, flags: u8, residual: u32, wide: bool) {
        let (over, under) = (flags & 4 != 0, flags & 2 != 0);
        self.field("Residual Overflow", over);
        self.field("Residual Underflow", under);
        self.field("Residual Count", residual);
        if over || under {
            let more = if over { "more" } else { "less" };
            self.words += &format!(", {residual} bytes {more} than expected");
        }
        if wide {
            self.field("Bidirectional Read Residual Overflow", flags & 0x10 != 0);
            self.field("Bidirectional Read Residual Underflow", flags & 8 != 0);
        }
    }

    fn scsi_response(&mut self, pdu: &ScsiResponse) {
        self.ends_task = true;
        self.field("Response", pdu.response);
        self.field("Status", scsi::words::status(pdu.status));
        self.words = match pdu.response {
            0 => scsi::words::status(pdu.status),
            1 => "target failure".to_owned(),
            other => format!("response {other:02X}h"),
        };
        // CONDITION MET is what PRE-FETCH says when all went well.
        self.bad = pdu.response != 0 || !matches!(pdu.status, 0 | 0x04);
        // Sense data has its length before it (RFC 7143 §11.4.7).
        if let Some(([high, low], rest)) = self.data.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
            self.sense(&rest[..length]);
        }
        self.residuals(pdu.flags, pdu.residual_count.get(), true);
        self.field("Bidirectional Read Residual Count", pdu.bidirectional_read_residual_count.get());
        self.field("SNACK Tag", pdu.snack_tag.get());
        self.field("ExpDataSN", pdu.exp_data_sn.get());
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
    }

    fn sense(&mut self, bytes: &[u8]) {
        let Some(sense) = scsi::sense::parse(bytes) else { return };
        let (code, qualifier) = sense.code;
        let additional = scsi::words::additional(code, qualifier);
        let words = additional.map_or_else(|| format!("{code:02X}h/{qualifier:02X}h"), str::to_owned);
        let key = scsi::words::sense_key(sense.key);
        self.words += &format!(": {key}, {words}");
        if let Some(information) = sense.information {
            self.words += &format!(", at {information}");
        }
        self.field("Sense Key", key);
        self.field("Additional Sense", format!("{code:02X}h/{qualifier:02X}h {}", additional.unwrap_or_default()));
        self.field("Sense Data", hex(bytes));
    }

    fn data_in(&mut self, pdu: &DataIn) {
        let (offset, length) = (pdu.buffer_offset.get(), pdu.header().data_segment_bytes());
        self.words = format!("{length} bytes at {offset}");
        self.field("Acknowledge", pdu.flags & 0x40 != 0);
        self.field("Status Present", pdu.flags & 1 != 0);
        self.transfer_tag(pdu.target_transfer_tag.get());
        if pdu.target_transfer_tag.get() != RESERVED_TAG {
            self.lun(pdu.lun);
        }
        self.field("Buffer Offset", offset);
        let has_status = pdu.flags & 1 != 0;
        if has_status {
            self.ends_task = true;
            self.words += &format!(", {}", scsi::words::status(pdu.status));
            self.field("Status", scsi::words::status(pdu.status));
            self.residuals(pdu.flags, pdu.residual_count.get(), false);
        }
        self.number("DataSN", "DataSN", pdu.data_sn.get());
        self.window(has_status.then(|| pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
    }

    fn data_out(&mut self, pdu: &DataOut) {
        let (offset, length) = (pdu.buffer_offset.get(), pdu.header().data_segment_bytes());
        let unsolicited = pdu.target_transfer_tag.get() == RESERVED_TAG;
        let how = if unsolicited { ", unsolicited" } else { "" };
        let last = if pdu.flags & 0x80 != 0 { ", last of its sequence" } else { "" };
        self.words = format!("{length} bytes at {offset}{how}{last}");
        if !unsolicited {
            self.lun(pdu.lun);
        }
        self.transfer_tag(pdu.target_transfer_tag.get());
        self.field("Buffer Offset", offset);
        self.number("DataSN", "DataSN", pdu.data_sn.get());
        self.number("ExpStatSN", "ExpStatSN", pdu.exp_stat_sn.get());
    }

    fn ready_to_transfer(&mut self, pdu: &ReadyToTransfer) {
        let (offset, length) = (pdu.buffer_offset.get(), pdu.desired_data_transfer_length.get());
        self.words = format!("wants {length} bytes at {offset}");
        self.lun(pdu.lun);
        self.transfer_tag(pdu.target_transfer_tag.get());
        self.field("Buffer Offset", offset);
        self.field("Desired Data Transfer Length", length);
        self.number("R2TSN", "R2TSN", pdu.r2t_sn.get());
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
    }

    fn function_request(&mut self, pdu: &TaskManagementRequest) {
        let function = function(pdu.function & 0x7f);
        self.words = function.clone();
        if matches!(pdu.function & 0x7f, 1 | 8) {
            self.words += &format!(" of task {:08X}", pdu.referenced_task_tag.get());
        }
        self.field("Function", function);
        self.lun(pdu.lun);
        self.field("Referenced Task Tag", pdu.referenced_task_tag.get());
        self.field("RefCmdSN", pdu.ref_cmd_sn.get());
        self.field("ExpDataSN", pdu.exp_data_sn.get());
        self.number("CmdSN", "CmdSN", pdu.cmd_sn.get());
        self.number("ExpStatSN", "ExpStatSN", pdu.exp_stat_sn.get());
    }

    fn function_response(&mut self, pdu: &TaskManagementResponse) {
        let words = match pdu.response {
            0 => "function complete",
            1 => "task does not exist",
            2 => "LUN does not exist",
            3 => "task still allegiant",
            4 => "task allegiance reassignment not supported",
            5 => "function not supported",
            6 => "function authorization failed",
            255 => "function rejected",
            _ => "reserved response",
        };
        self.words = words.to_owned();
        self.bad = pdu.response > 1;
        self.field("Response", words);
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
    }

    /// The pairs of the data segment.
    fn text(&mut self) {
        let pairs = iscsi::text::pairs(self.data).flatten();
        self.text = pairs.map(|(key, value)| (key.to_owned(), printable(value))).collect();
        // A pair that goes on in the next PDU, or none at all.
        let told: usize = iscsi::text::pairs(self.data).flatten().map(|(key, value)| key.len() + value.len() + 2).sum();
        if told < self.data.len() {
            let rest = String::from_utf8_lossy(&self.data[told..]);
            let rest = rest.trim_matches('\0');
            if !rest.is_empty() {
                self.text.push((printable(rest), "…".to_owned()));
            }
        }
        for (key, value) in &self.text {
            self.words += &format!(" {key}={value}");
        }
    }

    fn stages(&mut self, flags: u8) {
        let (current, next) = (flags >> 2 & 3, flags & 3);
        let transit = flags & 0x80 != 0;
        self.words = stage(current).to_owned();
        if transit {
            self.words += &format!(" → {}", stage(next));
        }
        self.field("Transit", transit);
        self.field("Continue", flags & 0x40 != 0);
        self.field("Current Stage", stage(current));
        self.field("Next Stage", stage(next));
    }

    fn login_request(&mut self, pdu: &LoginRequest) {
        self.stages(pdu.flags);
        self.field("Version-max", pdu.version_max);
        self.field("Version-min", pdu.version_min);
        self.field("ISID", hex(&pdu.isid));
        self.field("TSIH", pdu.tsih.get());
        self.field("CID", pdu.cid.get());
        self.number("CmdSN", "CmdSN", pdu.cmd_sn.get());
        self.number("ExpStatSN", "ExpStatSN", pdu.exp_stat_sn.get());
        self.text();
    }

    fn login_response(&mut self, pdu: &LoginResponse) {
        self.stages(pdu.flags);
        let (class, detail) = (pdu.status_class, pdu.status_detail);
        let status = login_status(class, detail);
        self.bad = class >= 2;
        if class != 0 {
            self.words = format!("{status} ({class:02X}{detail:02X}h)");
        }
        self.field("Version-max", pdu.version_max);
        self.field("Version-active", pdu.version_active);
        self.field("ISID", hex(&pdu.isid));
        self.field("TSIH", pdu.tsih.get());
        self.field("Status", format!("{class:02X}{detail:02X}h {status}"));
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
        self.text();
    }

    fn text_request(&mut self, pdu: &TextRequest) {
        self.field("Continue", pdu.flags & 0x40 != 0);
        self.field("LUN", hex(&pdu.lun));
        self.transfer_tag(pdu.target_transfer_tag.get());
        self.number("CmdSN", "CmdSN", pdu.cmd_sn.get());
        self.number("ExpStatSN", "ExpStatSN", pdu.exp_stat_sn.get());
        self.text();
        self.words = self.words.trim_start().to_owned();
    }

    fn text_response(&mut self, pdu: &TextResponse) {
        self.field("Continue", pdu.flags & 0x40 != 0);
        self.field("LUN", hex(&pdu.lun));
        self.transfer_tag(pdu.target_transfer_tag.get());
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
        self.text();
        self.words = self.words.trim_start().to_owned();
    }

    fn logout_request(&mut self, pdu: &LogoutRequest) {
        let words = match pdu.reason & 0x7f {
            0 => "close the session",
            1 => "close the connection",
            2 => "remove the connection for recovery",
            _ => "reserved reason",
        };
        self.words = match pdu.reason & 0x7f {
            0 => words.to_owned(),
            _ => format!("{words} {}", pdu.cid.get()),
        };
        self.field("Reason Code", words);
        self.field("CID", pdu.cid.get());
        self.number("CmdSN", "CmdSN", pdu.cmd_sn.get());
        self.number("ExpStatSN", "ExpStatSN", pdu.exp_stat_sn.get());
    }

    fn logout_response(&mut self, pdu: &LogoutResponse) {
        let words = match pdu.response {
            0 => "closed",
            1 => "CID not found",
            2 => "connection recovery is not supported",
            3 => "cleanup failed",
            _ => "reserved response",
        };
        self.words = words.to_owned();
        self.bad = pdu.response != 0;
        self.field("Response", words);
        self.field("Time2Wait", pdu.time_2_wait.get());
        self.field("Time2Retain", pdu.time_2_retain.get());
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
    }

    fn ping(&mut self, lun: [u8; 8], transfer_tag: u32, data_bytes: u32) {
        self.words = match (self.tag, transfer_tag) {
            (RESERVED_TAG, RESERVED_TAG) => "asks for nothing".to_owned(),
            (_, RESERVED_TAG) => "ping".to_owned(),
            _ => format!("ping {transfer_tag:08X} of the target"),
        };
        if data_bytes > 0 {
            self.words += &format!(", {data_bytes} bytes");
        }
        self.field("LUN", hex(&lun));
        self.transfer_tag(transfer_tag);
    }

    fn nop_out(&mut self, pdu: &NopOut) {
        self.ping(pdu.lun, pdu.target_transfer_tag.get(), pdu.header().data_segment_bytes());
        self.number("CmdSN", "CmdSN", pdu.cmd_sn.get());
        self.number("ExpStatSN", "ExpStatSN", pdu.exp_stat_sn.get());
    }

    fn nop_in(&mut self, pdu: &NopIn) {
        self.ping(pdu.lun, pdu.target_transfer_tag.get(), pdu.header().data_segment_bytes());
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
    }

    fn snack(&mut self, pdu: &SnackRequest) {
        let kind = match pdu.kind & 0x0f {
            0 => "Data/R2T",
            1 => "Status",
            2 => "DataACK",
            3 => "R-Data",
            _ => "reserved",
        };
        let (from, count) = (pdu.beg_run.get(), pdu.run_length.get());
        self.words = match count {
            0 => format!("{kind} from {from} on"),
            _ => format!("{kind} {count} from {from} on"),
        };
        self.field("Type", kind);
        self.field("LUN", hex(&pdu.lun));
        self.transfer_tag(pdu.target_transfer_tag.get());
        self.field("BegRun", from);
        self.field("RunLength", count);
        self.number("ExpStatSN", "ExpStatSN", pdu.exp_stat_sn.get());
    }

    fn async_message(&mut self, pdu: &AsyncMessage) {
        let [one, two, three] = [pdu.parameter_1.get(), pdu.parameter_2.get(), pdu.parameter_3.get()];
        self.words = match AsyncEvent::from_number(pdu.event) {
            Some(AsyncEvent::ScsiAsyncEvent) => "SCSI asynchronous event".to_owned(),
            Some(AsyncEvent::LogoutRequest) => format!("asks for a logout within {three} s"),
            Some(AsyncEvent::DropConnection) => format!("drops connection {one}"),
            Some(AsyncEvent::DropAllConnections) => "drops all connections".to_owned(),
            Some(AsyncEvent::Renegotiate) => format!("asks for a negotiation within {three} s"),
            Some(AsyncEvent::TasksTerminated) => "ends all tasks of a LUN".to_owned(),
            Some(AsyncEvent::VendorSpecific) => format!("vendor's event {}", pdu.vendor_code),
            None => format!("event {}", pdu.event),
        };
        if pdu.event == AsyncEvent::ScsiAsyncEvent as u8
            && let Some((length, rest)) = self.data.split_first_chunk::<2>()
        {
            let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
            self.sense(&rest[..length]);
        }
        self.lun(pdu.lun);
        self.field("AsyncEvent", pdu.event);
        self.field("AsyncVCode", pdu.vendor_code);
        self.field("Parameter1", one);
        self.field("Parameter2", two);
        self.field("Parameter3", three);
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
    }

    fn reject(&mut self, pdu: &Reject) {
        self.bad = true;
        let reason = match RejectReason::from_number(pdu.reason) {
            Some(RejectReason::DataDigestError) => "data digest error",
            Some(RejectReason::SnackReject) => "SNACK reject",
            Some(RejectReason::ProtocolError) => "protocol error",
            Some(RejectReason::CommandNotSupported) => "command not supported",
            Some(RejectReason::ImmediateCommandReject) => "too many immediate commands",
            Some(RejectReason::TaskInProgress) => "task in progress",
            Some(RejectReason::InvalidDataAck) => "invalid data ACK",
            Some(RejectReason::InvalidPduField) => "invalid PDU field",
            Some(RejectReason::LongOperationReject) => "long operation reject",
            Some(RejectReason::WaitingForLogout) => "waiting for logout",
            None => "reserved reason",
        };
        self.words = reason.to_owned();
        if let Ok((refused, _)) = Header::ref_from_prefix(self.data) {
            let kind = Opcode::from_number(refused.opcode());
            let name = KINDS.iter().find(|(opcode, ..)| Some(*opcode) == kind).map(|(_, name, _)| *name);
            let tag = refused.initiator_task_tag.get();
            self.words += &format!(" of a {} with tag {tag:08X}", name.unwrap_or("PDU"));
        }
        self.field("Reason", reason);
        self.field("DataSN/R2TSN", pdu.data_sn.get());
        self.window(Some(pdu.stat_sn.get()), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get());
    }

    /// The fields as an object: their names in small letters.
    pub fn json(&self) -> Value {
        let key = |name: &str| name.to_ascii_lowercase().replace([' ', '-', '/'], "_");
        Value::Object(self.fields.iter().map(|(name, value)| (key(name), value.clone())).collect())
    }
}

/// A field's value for people: tags as the RFC's readers know them.
pub fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if name.ends_with("Tag") => {
            format!("{:08X}h", number.as_u64().unwrap_or_default())
        }
        Value::String(text) => text.clone(),
        Value::Bool(set) => if *set { "1" } else { "0" }.to_owned(),
        other => other.to_string(),
    }
}

/// The number of a LUN where it is one of the usual kinds (SAM-5 4.7), else its bytes.
pub fn lun_words(lun: [u8; 8]) -> String {
    match lun {
        [0, number, 0, 0, 0, 0, 0, 0] => number.to_string(),
        [high @ 0x40..=0x7f, low, 0, 0, 0, 0, 0, 0] => (u16::from(high & 0x3f) << 8 | u16::from(low)).to_string(),
        other => hex(&other),
    }
}

/// Without what a terminal would act upon.
fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(attribute: u8) -> &'static str {
    match attribute {
        0 => "untagged",
        1 => "simple",
        2 => "ordered",
        3 => "head of queue",
        4 => "ACA",
        _ => "reserved",
    }
}

fn function(function: u8) -> String {
    match function {
        1 => "ABORT TASK",
        2 => "ABORT TASK SET",
        3 => "CLEAR ACA",
        4 => "CLEAR TASK SET",
        5 => "LOGICAL UNIT RESET",
        6 => "TARGET WARM RESET",
        7 => "TARGET COLD RESET",
        8 => "TASK REASSIGN",
        9 => "QUERY TASK",
        10 => "QUERY TASK SET",
        11 => "I_T NEXUS RESET",
        12 => "QUERY ASYNCHRONOUS EVENT",
        other => return format!("function {other}"),
    }
    .to_owned()
}

fn stage(stage: u8) -> &'static str {
    match stage {
        0 => "security",
        1 => "operational",
        3 => "full feature",
        _ => "reserved stage",
    }
}

/// RFC 7143 §11.13.5.
fn login_status(class: u8, detail: u8) -> &'static str {
    match (class, detail) {
        (0, _) => "success",
        (1, 1) => "target moved temporarily",
        (1, 2) => "target moved permanently",
        (2, 0) => "initiator error",
        (2, 1) => "authentication failure",
        (2, 2) => "authorization failure",
        (2, 3) => "not found",
        (2, 4) => "target removed",
        (2, 5) => "unsupported version",
        (2, 6) => "too many connections",
        (2, 7) => "missing parameter",
        (2, 8) => "cannot include in session",
        (2, 9) => "session type not supported",
        (2, 10) => "session does not exist",
        (2, 11) => "invalid request during login",
        (3, 0) => "target error",
        (3, 1) => "service unavailable",
        (3, 2) => "out of resources",
        _ => "reserved status",
    }
}

/// The PDU for programs.
pub fn json(decoded: &Decoded<'_>) -> Value {
    let mut all = json!({ "pdu": decoded.name, "words": decoded.words, "fields": decoded.json() });
    if let Some(lun) = decoded.lun {
        all["lun"] = lun_words(lun).into();
    }
    if let Some(cdb) = &decoded.cdb {
        let extent = scsi::commands::extent(cdb);
        all["command"] = json!({
            "name": scsi::commands::name(cdb),
            "lba": extent.map(|(lba, _)| lba),
            "blocks": extent.map(|(_, blocks)| blocks),
            "cdb": hex(cdb),
        });
    }
    if !decoded.text.is_empty() {
        all["text"] = decoded.text.iter().map(|(key, value)| json!([key, value])).collect();
    }
    all
}
