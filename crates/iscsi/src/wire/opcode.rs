//! The codes of RFC 7143 section 11: opcodes, reject reasons, asynchronous events.

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$code_doc:meta])* $code:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$code_doc])* $code = $value,)* }
        impl $name {
            /// The code with this number, if it is defined.
            pub fn from_number(number: u8) -> Option<$name> {
                match number { $($value => Some($name::$code),)* _ => None }
            }
        }
    };
}

codes! {
    /// RFC 7143 §11.2.1.2. Numbers below 20h are the initiator's, those from 20h the target's.
    Opcode {
        /// NOP-Out.
        NopOut = 0x00,
        /// SCSI Command.
        ScsiCommand = 0x01,
        /// SCSI Task Management Function Request.
        TaskManagementRequest = 0x02,
        /// Login Request.
        LoginRequest = 0x03,
        /// Text Request.
        TextRequest = 0x04,
        /// SCSI Data-Out.
        DataOut = 0x05,
        /// Logout Request.
        LogoutRequest = 0x06,
        /// SNACK Request.
        SnackRequest = 0x10,
        /// NOP-In.
        NopIn = 0x20,
        /// SCSI Response.
        ScsiResponse = 0x21,
        /// SCSI Task Management Function Response.
        TaskManagementResponse = 0x22,
        /// Login Response.
        LoginResponse = 0x23,
        /// Text Response.
        TextResponse = 0x24,
        /// SCSI Data-In.
        DataIn = 0x25,
        /// Logout Response.
        LogoutResponse = 0x26,
        /// Ready To Transfer.
        ReadyToTransfer = 0x31,
        /// Asynchronous Message.
        AsyncMessage = 0x32,
        /// Reject.
        Reject = 0x3f,
    }
}

codes! {
    /// RFC 7143 §11.17.1.
    RejectReason {
        /// The data digest did not match; the PDU may be sent again.
        DataDigestError = 0x02,
        /// A SNACK cannot be served.
        SnackReject = 0x03,
        /// The PDU is not legal here.
        ProtocolError = 0x04,
        /// The command is not supported.
        CommandNotSupported = 0x05,
        /// Too many immediate commands.
        ImmediateCommandReject = 0x06,
        /// The task is in progress.
        TaskInProgress = 0x07,
        /// A Data ACK SNACK for data that was not sent.
        InvalidDataAck = 0x08,
        /// A field of the PDU is not legal.
        InvalidPduField = 0x09,
        /// Out of resources; the target transfer tag cannot be had now.
        LongOperationReject = 0x0a,
        /// The connection waits for a logout.
        WaitingForLogout = 0x0c,
    }
}

codes! {
    /// RFC 7143 §11.9.1.
    AsyncEvent {
        /// Sense data of an asynchronous event.
        ScsiAsyncEvent = 0,
        /// The target asks for a logout of this connection within Parameter3 seconds.
        LogoutRequest = 1,
        /// The target drops the connection named in Parameter1.
        DropConnection = 2,
        /// The target drops all connections of the session.
        DropAllConnections = 3,
        /// The target asks for parameter negotiation.
        Renegotiate = 4,
        /// All active tasks of a LUN are being ended (FastAbort).
        TasksTerminated = 5,
        /// The vendor's own.
        VendorSpecific = 255,
    }
}
