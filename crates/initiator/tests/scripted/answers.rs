//! SBC-13: whatever a unit answers, it is looked at before it is believed.

use crate::help::{options, plain, run, serve};
use initiator::Error;
use sim::scripted::Server;
use std::sync::{Arc, Mutex};

/// A unit that answers every command with these bytes, as far as the command takes them.
fn answering(bytes: &Arc<Mutex<Vec<u8>>>) -> Server {
    let bytes = Arc::clone(bytes);
    Server::start(move |_, mut target| {
        target.login(&plain());
        target.news();
        serve(&mut target, |target, command, _| {
            let tag = command.initiator_task_tag.get();
            if !command.reads() {
                target.good(tag);
                return true;
            }
            let room = command.expected_data_transfer_length.get() as usize;
            let bytes = bytes.lock().unwrap();
            let came = bytes.get(..room).unwrap_or(&bytes).to_vec();
            match came.is_empty() {
                true => target.good(tag),
                false => target.answer_read(tag, &came),
            }
            true
        });
    })
}

#[test]
fn sbc_13_answers_whose_lengths_and_counts_are_lies_end_in_an_error_or_in_what_came() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let server = answering(&bytes);
    run(async {
        let session = options(server.address()).connect().await.unwrap();
        let unit = session.unit(0);
        let mut random = sim::Random::new(13);
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for length in [0, 1, 3, 4, 7, 8, 9, 16, 20, 31, 32, 36, 64, 255] {
            for byte in [0x00, 0xff, 0x7f, 0x01] {
                contents.push(vec![byte; length]);
            }
            contents.push((0..length).map(|_| random.number() as u8).collect());
        }
        // Page codes that fit, with lengths that do not.
        for page in [0x00, 0x80, 0x83, 0xb0, 0xb2] {
            for length in [0u16, 1, 4, 0x3c, 0xffff] {
                let mut page = vec![0, page];
                page.extend(length.to_be_bytes());
                page.extend([0xff; 24]);
                contents.push(page);
            }
        }
        for content in contents {
            bytes.lock().unwrap().clone_from(&content);
            // None of them panics, hangs or gives more than came; what is an error is one.
            let _ = unit.capacity().await;
            let _ = unit.inquiry().await;
            let _ = unit.vpd_pages().await;
            let _ = unit.serial_number().await;
            let _ = unit.designators().await;
            let _ = unit.block_limits().await;
            let _ = unit.provisioning().await;
            if let Ok(luns) = unit.report_luns().await {
                assert!(luns.len() * 8 <= content.len(), "{} units in {} bytes", luns.len(), content.len());
            }
            let _ = unit.target_port_groups().await;
            let _ = unit.log_sense(0x0d, 0).await;
            if let Ok(states) = unit.block_states(0).await {
                assert!(states.len() * 16 <= content.len(), "{} ranges in {} bytes", states.len(), content.len());
            }
            if let Ok(keys) = unit.reservation_keys().await {
                assert!(keys.content.len() * 8 <= content.len());
            }
            let _ = unit.reservation().await;
            let _ = unit.reservation_capabilities().await;
            let _ = unit.registrations().await;
        }
        // Shorter than it has to be is an error, and not zeros.
        bytes.lock().unwrap().clone_from(&vec![0; 11]);
        let error = unit.capacity().await.unwrap_err();
        assert!(matches!(error, Error::Short { .. } | Error::Protocol { .. }), "{error}");
    });
}

#[test]
fn sbc_13_sense_data_of_every_kind_is_told_without_a_panic() {
    let sense = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&sense);
    let server = Server::start(move |_, mut target| {
        target.login(&plain());
        target.news();
        serve(&mut target, |target, command, _| {
            target.check_condition(command.initiator_task_tag.get(), &said.lock().unwrap());
            true
        });
    });
    run(async {
        let session = options(server.address()).connect().await.unwrap();
        let mut random = sim::Random::new(4);
        for length in 1..40 {
            for first in [0x70, 0x71, 0x72, 0x73, 0xf0, 0x00, 0xff] {
                let mut bytes: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
                bytes[0] = first;
                // No unit attention and nothing that is tried again: that is another test's.
                if let Some(key) = bytes.get_mut(if first & 0x7e == 0x72 { 1 } else { 2 }) {
                    *key = 0x05;
                }
                sense.lock().unwrap().clone_from(&bytes);
                let error = session.unit(0).test_ready().await.unwrap_err();
                assert!(!error.to_string().is_empty() && error.scsi().is_some(), "{bytes:02x?}: {error:?}");
            }
        }
    });
}

#[test]
fn a_unit_without_fua_has_its_cache_flushed_instead() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let commands = Arc::clone(&seen);
    let server = Server::start(move |_, mut target| {
        target.login(&plain());
        target.news();
        serve(&mut target, |target, command, _| {
            if crate::help::capacity(target, command) {
                return true;
            }
            commands.lock().unwrap().push((command.cdb[0], command.cdb[1]));
            let tag = command.initiator_task_tag.get();
            // As the Linux kernel's target does it.
            let sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0];
            match command.cdb[1] & 0x08 {
                0 => target.good(tag),
                _ => target.check_condition(tag, &sense),
            }
            true
        });
    });
    run(async {
        let session = options(server.address()).connect().await.unwrap();
        session.unit(0).write_durably(0, vec![1; 512]).await.unwrap();
    });
    assert_eq!(*seen.lock().unwrap(), [(0x8a, 0x08), (0x8a, 0), (0x91, 0)]);
}
