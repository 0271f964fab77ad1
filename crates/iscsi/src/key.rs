//! What a login agrees on (RFC 7143 §13): the parameters that the full feature phase runs by.

/// What was agreed for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionParameters {
    /// §13.2.
    pub max_connections: u32,
    /// §13.10: data-out waits for an R2T.
    pub initial_r2t: bool,
    /// §13.11: a command may carry data.
    pub immediate_data: bool,
    /// §13.13, bytes of a sequence.
    pub max_burst_length: u32,
    /// §13.14, bytes of unsolicited data.
    pub first_burst_length: u32,
    /// §13.15, seconds.
    pub default_time_2_wait: u32,
    /// §13.16, seconds.
    pub default_time_2_retain: u32,
    /// §13.17, of one task.
    pub max_outstanding_r2t: u32,
    /// §13.18.
    pub data_pdu_in_order: bool,
    /// §13.19.
    pub data_sequence_in_order: bool,
    /// §13.20.
    pub error_recovery_level: u32,
    /// §13.24, RFC 7144 §7.1.
    pub protocol_level: u32,
}

impl Default for SessionParameters {
    /// What holds where nothing is said.
    fn default() -> Self {
        SessionParameters {
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            default_time_2_wait: 2,
            default_time_2_retain: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            protocol_level: 1,
        }
    }
}

/// What was agreed for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionParameters {
    /// §13.1: headers carry CRC32C.
    pub header_digest: bool,
    /// §13.1: data segments carry CRC32C.
    pub data_digest: bool,
    /// §13.12, as this end declared it: the most bytes of a data segment that it accepts.
    pub max_recv_data_segment_length: u32,
    /// §13.12, as the peer declared it: the most bytes of a data segment that it is sent.
    pub max_send_data_segment_length: u32,
}

impl Default for ConnectionParameters {
    /// What holds where nothing is said.
    fn default() -> Self {
        ConnectionParameters {
            header_digest: false,
            data_digest: false,
            max_recv_data_segment_length: 8192,
            max_send_data_segment_length: 8192,
        }
    }
}
