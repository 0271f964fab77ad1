//! What a polite target answers, for the parts of a script that are not what the test is about.

use super::{Target, data_in, news, response};
use crate::raw::Transport;
use iscsi::wire::{
    AsyncMessage, DataOut, FINAL, LogoutRequest, LogoutResponse, NopIn, Pdu, RESERVED_TAG, ReadyToTransfer, Reject,
    RejectReason, ScsiCommand, TaskManagementResponse, TextRequest, TextResponse,
};

impl<T: Transport> Target<T> {
    /// Tells the command window.
    pub fn news(&mut self) {
        self.say(news(), &[]);
    }

    /// The next command with its immediate data.
    pub fn command(&mut self) -> (ScsiCommand, Vec<u8>) {
        self.expect::<ScsiCommand>()
    }

    /// Ends a command with GOOD.
    pub fn good(&mut self, tag: u32) {
        self.say(response(tag), &[]);
    }

    /// Ends a command with CHECK CONDITION and this sense data.
    pub fn check_condition(&mut self, tag: u32, sense: &[u8]) {
        let mut header = response(tag);
        header.status = 2;
        let mut data = (sense.len() as u16).to_be_bytes().to_vec();
        data.extend_from_slice(sense);
        self.say(header, &data);
    }

    /// Answers a read with this data and GOOD in one PDU.
    pub fn answer_read(&mut self, tag: u32, data: &[u8]) {
        let mut header = data_in(tag, 0, 0);
        header.flags = FINAL | 0x01;
        self.say(header, data);
    }

    /// An R2T for a command, with a transfer tag that tells its number.
    pub fn r2t(&mut self, command: &ScsiCommand, r2t_sn: u32, offset: u32, length: u32) -> ReadyToTransfer {
        let mut header = ReadyToTransfer::empty();
        header.flags = FINAL;
        header.lun = command.lun;
        header.initiator_task_tag = command.initiator_task_tag;
        header.target_transfer_tag = (0x700 + r2t_sn).into();
        header.r2t_sn = r2t_sn.into();
        header.buffer_offset = offset.into();
        header.desired_data_transfer_length = length.into();
        self.numbered(header)
    }

    /// Asks for data and takes it.
    pub fn fetch(&mut self, command: &ScsiCommand, r2t_sn: u32, offset: u32, length: u32) -> Vec<u8> {
        let header = self.r2t(command, r2t_sn, offset, length);
        self.send(&crate::frame::Frame::new(header, &[]));
        self.data_out(header.target_transfer_tag.get())
    }

    /// Takes Data-Out of this transfer tag up to its end.
    pub fn data_out(&mut self, target_transfer_tag: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let (header, data) = self.expect::<DataOut>();
            assert_eq!(header.target_transfer_tag.get(), target_transfer_tag, "whose data it is");
            assert_eq!(header.buffer_offset.get() as usize % 4, 0, "whole words");
            bytes.extend(data);
            if header.flags & FINAL != 0 {
                return bytes;
            }
        }
    }

    /// A ping of the target's own, which wants an answer.
    pub fn ping(&mut self, target_transfer_tag: u32, lun: [u8; 8]) {
        let mut header = NopIn::empty();
        header.flags = FINAL;
        header.lun = lun;
        header.initiator_task_tag = RESERVED_TAG.into();
        header.target_transfer_tag = target_transfer_tag.into();
        self.say(header, &[]);
    }

    /// The answer to a ping of the initiator's.
    pub fn pong(&mut self, tag: u32, data: &[u8]) {
        let mut header = news();
        header.initiator_task_tag = tag.into();
        self.say(header, data);
    }

    /// An asynchronous message.
    pub fn event(&mut self, event: u8, lun: [u8; 8], parameters: [u16; 3], data: &[u8]) {
        let mut header = AsyncMessage::empty();
        header.flags = FINAL;
        header.lun = lun;
        header.initiator_task_tag = RESERVED_TAG.into();
        header.event = event;
        let [first, second, third] = parameters;
        (header.parameter_1, header.parameter_2, header.parameter_3) = (first.into(), second.into(), third.into());
        self.say(header, data);
    }

    /// Rejects a PDU.
    pub fn reject(&mut self, reason: RejectReason, refused: &[u8]) {
        let mut header = Reject::empty();
        header.flags = FINAL;
        header.reason = reason as u8;
        header.initiator_task_tag = RESERVED_TAG.into();
        self.say(header, refused);
    }

    /// The answer to a task management function.
    pub fn function_done(&mut self, tag: u32, response: u8) {
        let mut header = TaskManagementResponse::empty();
        header.flags = FINAL;
        header.response = response;
        header.initiator_task_tag = tag.into();
        self.say(header, &[]);
    }

    /// The answer to a text request, whole or with more to come.
    pub fn text(&mut self, request: &TextRequest, flags: u8, target_transfer_tag: u32, text: &[u8]) {
        let mut header = TextResponse::empty();
        header.flags = flags;
        header.initiator_task_tag = request.initiator_task_tag;
        header.target_transfer_tag = target_transfer_tag.into();
        self.say(header, text);
    }

    /// The answer to a logout.
    pub fn logged_out(&mut self, request: &LogoutRequest, response: u8) {
        let mut header = LogoutResponse::empty();
        header.flags = FINAL;
        header.response = response;
        header.initiator_task_tag = request.initiator_task_tag;
        self.say(header, &[]);
    }
}
