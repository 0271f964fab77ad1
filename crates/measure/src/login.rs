//! A whole login in one exchange: the keys that Linux's initiator sends, and their answers.

use crate::Case;
use iscsi::key::{Offers, SessionParameters};
use iscsi::login::target::{Asked, Failure, Found, Login, LoginLimits, Policy, Step};
use iscsi::wire::{BHS_BYTES, LoginRequest, Pdu};
use std::hint::black_box;
use zerocopy::IntoBytes;

pub(crate) const CASES: &[Case] = &[Case { name: "login: 15 keys in one exchange", prepare: login }];

const TEXT: &[u8] = b"InitiatorName=iqn.2026-01.org.example:client\0\
    TargetName=iqn.2026-01.org.example:disk\0\
    SessionType=Normal\0\
    HeaderDigest=None\0\
    DataDigest=None\0\
    DefaultTime2Wait=2\0\
    DefaultTime2Retain=0\0\
    ErrorRecoveryLevel=0\0\
    InitialR2T=No\0\
    ImmediateData=Yes\0\
    MaxBurstLength=262144\0\
    FirstBurstLength=65536\0\
    MaxOutstandingR2T=1\0\
    MaxConnections=1\0\
    MaxRecvDataSegmentLength=262144\0";

/// Everybody may come in.
struct Open;

impl Policy for Open {
    fn portal_group_tag(&self) -> u16 {
        1
    }

    fn find(&mut self, _: &Asked) -> Result<Found, Failure> {
        Ok(Found::default())
    }

    fn admit(&mut self, _: &Asked, _: &SessionParameters) -> Result<u16, Failure> {
        Ok(7)
    }
}

fn login() -> Box<dyn FnMut()> {
    let mut request = LoginRequest::empty();
    request.opcode_byte = 0x43;
    // T, from the operational stage to the full feature phase.
    request.flags = 0x87;
    request.isid = [0x40, 0, 0, 1, 0, 0];
    request.initiator_task_tag = 5.into();
    request.cid = 1.into();
    request.cmd_sn = 42.into();
    request.set_data_segment_bytes(TEXT.len() as u32);
    let header: [u8; BHS_BYTES] = request.as_bytes().try_into().unwrap_or([0; BHS_BYTES]);
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let mut login = Login::new(Offers::default(), LoginLimits::default());
        let step = login.handle(black_box(&header), black_box(TEXT), &mut Open, &mut out);
        assert!(matches!(step, Step::Done(_)), "{step:?}");
        black_box(&out);
    })
}
