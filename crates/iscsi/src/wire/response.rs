//! What a target sends.

use super::pdu;
use zerocopy::byteorder::big_endian::{U16, U32};

pdu! {
    /// RFC 7143 §11.4.
    ScsiResponse = ScsiResponse {
        /// Opcode 21h.
        opcode_byte: u8,
        /// 80h, o, u, O, U.
        flags: u8,
        /// 00h completed at target, 01h target failure.
        response: u8,
        /// SAM-5 status.
        status: u8,
        /// Zero.
        total_ahs_length: u8,
        /// Sense and response data.
        data_segment_length: [u8; 3],
        /// Reserved; the status qualifier in its first two bytes at protocol level 2 (RFC 7144 §5.2).
        reserved: [u8; 8],
        /// The task.
        initiator_task_tag: U32,
        /// SNACK tag, or zero.
        snack_tag: U32,
        /// Status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// Number of Data-In and R2T PDUs sent for the command.
        exp_data_sn: U32,
        /// Residual of the read of a bidirectional command.
        bidirectional_read_residual_count: U32,
        /// Residual.
        residual_count: U32,
    }
}

pdu! {
    /// RFC 7143 §11.6.
    TaskManagementResponse = TaskManagementResponse {
        /// Opcode 22h.
        opcode_byte: u8,
        /// 80h.
        flags: u8,
        /// What came of it.
        response: u8,
        /// Reserved.
        reserved: u8,
        /// Zero.
        total_ahs_length: u8,
        /// Zero.
        data_segment_length: [u8; 3],
        /// Reserved; additional response information in its first three bytes at protocol level 2.
        reserved_2: [u8; 8],
        /// The request.
        initiator_task_tag: U32,
        /// Reserved.
        reserved_3: U32,
        /// Status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// Reserved.
        reserved_4: [u8; 12],
    }
}

pdu! {
    /// RFC 7143 §11.7.
    DataIn = DataIn {
        /// Opcode 25h.
        opcode_byte: u8,
        /// F, A, O, U, S.
        flags: u8,
        /// Reserved.
        reserved: u8,
        /// SAM-5 status, with S.
        status: u8,
        /// Zero.
        total_ahs_length: u8,
        /// Payload.
        data_segment_length: [u8; 3],
        /// The unit, with a target transfer tag.
        lun: [u8; 8],
        /// The task.
        initiator_task_tag: U32,
        /// FFFFFFFFh unless A is set.
        target_transfer_tag: U32,
        /// Status number, with S.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// Number within the command.
        data_sn: U32,
        /// First byte within the command's data.
        buffer_offset: U32,
        /// Residual, with S.
        residual_count: U32,
    }
}

pdu! {
    /// RFC 7143 §11.8.
    ReadyToTransfer = ReadyToTransfer {
        /// Opcode 31h.
        opcode_byte: u8,
        /// 80h.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Zero.
        data_segment_length: [u8; 3],
        /// The unit.
        lun: [u8; 8],
        /// The task.
        initiator_task_tag: U32,
        /// The target's name for this sequence.
        target_transfer_tag: U32,
        /// Next status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// Number within the command.
        r2t_sn: U32,
        /// First byte wanted.
        buffer_offset: U32,
        /// Bytes wanted, at most MaxBurstLength.
        desired_data_transfer_length: U32,
    }
}

pdu! {
    /// RFC 7143 §11.9.
    AsyncMessage = AsyncMessage {
        /// Opcode 32h.
        opcode_byte: u8,
        /// 80h.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Sense data, or the vendor's.
        data_segment_length: [u8; 3],
        /// The unit, for events 0 and 5.
        lun: [u8; 8],
        /// FFFFFFFFh.
        initiator_task_tag: U32,
        /// Reserved.
        reserved_2: U32,
        /// Status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// What happened.
        event: u8,
        /// The vendor's code.
        vendor_code: u8,
        /// CID for event 2.
        parameter_1: U16,
        /// Time2Wait for events 2 and 3.
        parameter_2: U16,
        /// Seconds for events 1 and 4; Time2Retain for events 2 and 3.
        parameter_3: U16,
        /// Reserved.
        reserved_3: U32,
    }
}

pdu! {
    /// RFC 7143 §11.11.
    TextResponse = TextResponse {
        /// Opcode 24h.
        opcode_byte: u8,
        /// F and C.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Text.
        data_segment_length: [u8; 3],
        /// To be given back with the transfer tag.
        lun: [u8; 8],
        /// The negotiation.
        initiator_task_tag: U32,
        /// The target's name for the negotiation, FFFFFFFFh at its end.
        target_transfer_tag: U32,
        /// Status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// Reserved.
        reserved_2: [u8; 12],
    }
}

pdu! {
    /// RFC 7143 §11.13.
    LoginResponse = LoginResponse {
        /// Opcode 23h.
        opcode_byte: u8,
        /// T, C, CSG, NSG.
        flags: u8,
        /// Highest version that the target speaks.
        version_max: u8,
        /// The version in use.
        version_active: u8,
        /// Zero.
        total_ahs_length: u8,
        /// Text.
        data_segment_length: [u8; 3],
        /// As asked.
        isid: [u8; 6],
        /// As asked; the new one in the last response of a leading login.
        tsih: U16,
        /// The login.
        initiator_task_tag: U32,
        /// Reserved.
        reserved: U32,
        /// Status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// 0 success, 1 redirection, 2 the initiator's error, 3 the target's error.
        status_class: u8,
        /// More closely.
        status_detail: u8,
        /// Reserved.
        reserved_2: [u8; 10],
    }
}

pdu! {
    /// RFC 7143 §11.15.
    LogoutResponse = LogoutResponse {
        /// Opcode 26h.
        opcode_byte: u8,
        /// 80h.
        flags: u8,
        /// What came of it.
        response: u8,
        /// Reserved.
        reserved: u8,
        /// Zero.
        total_ahs_length: u8,
        /// Zero.
        data_segment_length: [u8; 3],
        /// Reserved.
        reserved_2: [u8; 8],
        /// The request.
        initiator_task_tag: U32,
        /// Reserved.
        reserved_3: U32,
        /// Status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// Reserved.
        reserved_4: U32,
        /// Seconds to wait before a reconnection.
        time_2_wait: U16,
        /// Seconds after that in which tasks can be reassigned.
        time_2_retain: U16,
        /// Reserved.
        reserved_5: U32,
    }
}

pdu! {
    /// RFC 7143 §11.17.
    Reject = Reject {
        /// Opcode 3Fh.
        opcode_byte: u8,
        /// 80h.
        flags: u8,
        /// Why.
        reason: u8,
        /// Reserved.
        reserved: u8,
        /// Zero.
        total_ahs_length: u8,
        /// The header of what is rejected.
        data_segment_length: [u8; 3],
        /// Reserved.
        reserved_2: [u8; 8],
        /// FFFFFFFFh.
        initiator_task_tag: U32,
        /// Reserved.
        reserved_3: U32,
        /// Status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// Next data number, or R2TSN, of the rejected PDU's task.
        data_sn: U32,
        /// Reserved.
        reserved_4: [u8; 8],
    }
}

pdu! {
    /// RFC 7143 §11.19.
    NopIn = NopIn {
        /// Opcode 20h.
        opcode_byte: u8,
        /// 80h.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// Zero.
        total_ahs_length: u8,
        /// Ping data.
        data_segment_length: [u8; 3],
        /// The unit, with a target transfer tag.
        lun: [u8; 8],
        /// The ping that is answered, or FFFFFFFFh.
        initiator_task_tag: U32,
        /// The target's own ping, or FFFFFFFFh.
        target_transfer_tag: U32,
        /// Status number.
        stat_sn: U32,
        /// Next command number expected.
        exp_cmd_sn: U32,
        /// Last command number allowed.
        max_cmd_sn: U32,
        /// Reserved.
        reserved_2: [u8; 12],
    }
}
