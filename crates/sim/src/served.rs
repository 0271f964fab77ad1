//! The target in this process, behind a real socket: for examples, which have no binary at hand.

use crate::daemon::TARGET;
use block::pure::Ram;
use io::engine::{Choice, Engines};
use lun::{GroupSettings, Identity, LogicalUnit, LunEntry, LunMap, Options, TargetPortGroups};
use scsi::inquiry::TargetPortGroupSupport;
use std::net::TcpListener;
use std::sync::Arc;
use target::{Access, Discovery, Door, Initiators, Limits, Portal, Rule, Target, Targets, WorkerHandle};

/// Serves a disk of so many blocks of 512 bytes in memory, as LUN 0 of [`TARGET`], until the process ends. Returns
/// its URL.
pub fn disk(blocks: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    let identity = Identity {
        uuid: [0x5e; 16],
        vendor: "LUNETTE".into(),
        product: "EXAMPLE".into(),
        revision: "1".into(),
        serial: "example".into(),
    };
    let unit = LogicalUnit::new(identity, Options::default(), Ram::new(512, blocks));
    let groups = TargetPortGroups::new(&[GroupSettings::new(1)], TargetPortGroupSupport::Implicit);
    groups.serve(std::iter::once(&unit));
    let units = Arc::new(LunMap { entries: vec![LunEntry { number: 0, unit, read_only: false }] });
    let rule = Rule {
        label: "anybody".into(),
        initiators: Initiators::Any,
        networks: Vec::new(),
        chap: None,
        units: Arc::clone(&units),
        target_resets: false,
        redirection: None,
        limiter: Arc::default(),
    };
    let target = Target {
        name: TARGET.into(),
        alias: None,
        offline: false,
        access: Access { rules: vec![Arc::new(rule)] },
        portals: vec![Portal { address, group: 1, advertise: None }],
        groups,
        units,
    };
    let limits = Arc::new(Limits::default());
    let worker = WorkerHandle::start(0, 1, Engines::new(Choice::Inline), Arc::clone(&limits)).expect("a worker");
    let door = Door::new(Targets::new(vec![target], Discovery::Open, Vec::new()), limits, vec![worker]);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            door.listen(listener, 1).await;
        });
    });
    format!("iscsi://{address}/{TARGET}/0")
}
