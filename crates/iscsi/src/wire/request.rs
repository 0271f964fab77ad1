//! What an initiator sends.

use super::pdu;
use zerocopy::byteorder::big_endian::{U16, U32};

pdu! {
    /// RFC 7143 §11.3.
    ScsiCommand = ScsiCommand {
        /// Immediate bit and opcode 01h.
        opcode_byte: u8,
        /// F, R, W and ATTR.
        flags: u8,
        /// The priority in its high four bits at protocol level 2 (RFC 7144 §5.1); reserved before.
        priority: u8,
        /// Command reference number.
        crn: u8,
        /// In words.
        total_ahs_length: u8,
        /// Immediate data.
        data_segment_length: [u8; 3],
        /// The unit.
        lun: [u8; 8],
        /// The task.
        initiator_task_tag: U32,
        /// Bytes in the direction of the command; of the write where it has both.
        expected_data_transfer_length: U32,
        /// Command number.
        cmd_sn: U32,
        /// Status acknowledged.
        exp_stat_sn: U32,
        /// The CDB, or its first 16 bytes.
        cdb: [u8; 16],
    }
}

impl ScsiCommand {
    /// R: data is expected from the target.
    pub fn reads(&self) -> bool {
        self.flags & 0x40 != 0
    }

    /// W: data is to be sent to the target.
    pub fn writes(&self) -> bool {
        self.flags & 0x20 != 0
    }

    /// ATTR (§11.3.1.1).
    pub fn attribute(&self) -> u8 {
        self.flags & 7
    }
}

pdu! {
    /// RFC 7143 §11.5.
    TaskManagementRequest = TaskManagementRequest {
        /// Immediate bit and opcode 02h.
        opcode_byte: u8,
        /// 80h and the function.
        function: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Zero.
        data_segment_length: [u8; 3],
        /// The unit, for the functions that name one.
        lun: [u8; 8],
        /// This request.
        initiator_task_tag: U32,
        /// The task that it is about.
        referenced_task_tag: U32,
        /// Command number.
        cmd_sn: U32,
        /// Status acknowledged.
        exp_stat_sn: U32,
        /// CmdSN of the task that it is about (ABORT TASK).
        ref_cmd_sn: U32,
        /// Next expected data number (TASK REASSIGN).
        exp_data_sn: U32,
        /// Reserved.
        reserved_2: [u8; 8],
    }
}

pdu! {
    /// RFC 7143 §11.7.
    DataOut = DataOut {
        /// Opcode 05h.
        opcode_byte: u8,
        /// F.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Payload.
        data_segment_length: [u8; 3],
        /// The unit, with a target transfer tag.
        lun: [u8; 8],
        /// The task.
        initiator_task_tag: U32,
        /// The R2T that asked, or FFFFFFFFh for unsolicited data.
        target_transfer_tag: U32,
        /// Reserved.
        reserved_2: U32,
        /// Status acknowledged.
        exp_stat_sn: U32,
        /// Reserved.
        reserved_3: U32,
        /// Number within its sequence.
        data_sn: U32,
        /// First byte within the task's data.
        buffer_offset: U32,
        /// Reserved.
        reserved_4: U32,
    }
}

pdu! {
    /// RFC 7143 §11.10.
    TextRequest = TextRequest {
        /// Immediate bit and opcode 04h.
        opcode_byte: u8,
        /// F and C.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Text.
        data_segment_length: [u8; 3],
        /// As the target gave it with the transfer tag.
        lun: [u8; 8],
        /// The negotiation.
        initiator_task_tag: U32,
        /// The target's name for the negotiation, FFFFFFFFh at its start.
        target_transfer_tag: U32,
        /// Command number.
        cmd_sn: U32,
        /// Status acknowledged.
        exp_stat_sn: U32,
        /// Reserved.
        reserved_2: [u8; 16],
    }
}

pdu! {
    /// RFC 7143 §11.12.
    LoginRequest = LoginRequest {
        /// 43h: login requests are immediate.
        opcode_byte: u8,
        /// T, C, CSG, NSG.
        flags: u8,
        /// Highest version that the initiator speaks.
        version_max: u8,
        /// Lowest version that the initiator speaks.
        version_min: u8,
        /// Zero.
        total_ahs_length: u8,
        /// Text.
        data_segment_length: [u8; 3],
        /// The initiator's part of the session identifier.
        isid: [u8; 6],
        /// The target's part, zero for a new session.
        tsih: U16,
        /// The login.
        initiator_task_tag: U32,
        /// The connection within the session.
        cid: U16,
        /// Reserved.
        reserved: U16,
        /// The number that the first command will have.
        cmd_sn: U32,
        /// Status acknowledged.
        exp_stat_sn: U32,
        /// Reserved.
        reserved_2: [u8; 16],
    }
}

impl LoginRequest {
    /// CSG: the stage that this request belongs to.
    pub fn current_stage(&self) -> u8 {
        self.flags >> 2 & 3
    }

    /// NSG: the stage that the initiator wants to go to, with T.
    pub fn next_stage(&self) -> u8 {
        self.flags & 3
    }
}

pdu! {
    /// RFC 7143 §11.14.
    LogoutRequest = LogoutRequest {
        /// Immediate bit and opcode 06h.
        opcode_byte: u8,
        /// 80h and the reason.
        reason: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Zero.
        data_segment_length: [u8; 3],
        /// Reserved.
        reserved_2: [u8; 8],
        /// This request.
        initiator_task_tag: U32,
        /// The connection to close.
        cid: U16,
        /// Reserved.
        reserved_3: U16,
        /// Command number.
        cmd_sn: U32,
        /// Status acknowledged.
        exp_stat_sn: U32,
        /// Reserved.
        reserved_4: [u8; 16],
    }
}

pdu! {
    /// RFC 7143 §11.16.
    SnackRequest = SnackRequest {
        /// Opcode 10h.
        opcode_byte: u8,
        /// 80h and the type.
        kind: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Zero.
        data_segment_length: [u8; 3],
        /// The unit.
        lun: [u8; 8],
        /// The task, or FFFFFFFFh.
        initiator_task_tag: U32,
        /// Target transfer tag or SNACK tag.
        target_transfer_tag: U32,
        /// Reserved.
        reserved_2: U32,
        /// Status acknowledged.
        exp_stat_sn: U32,
        /// Reserved.
        reserved_3: [u8; 8],
        /// First number wanted.
        beg_run: U32,
        /// How many; 0 for all.
        run_length: U32,
    }
}

pdu! {
    /// RFC 7143 §11.18.
    NopOut = NopOut {
        /// Immediate bit and opcode 00h.
        opcode_byte: u8,
        /// 80h.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Ping data.
        data_segment_length: [u8; 3],
        /// As the target gave it with the transfer tag.
        lun: [u8; 8],
        /// The ping, or FFFFFFFFh.
        initiator_task_tag: U32,
        /// The target's ping that is answered, or FFFFFFFFh.
        target_transfer_tag: U32,
        /// Command number.
        cmd_sn: U32,
        /// Status acknowledged.
        exp_stat_sn: U32,
        /// Reserved.
        reserved_2: [u8; 16],
    }
}
