//! DAT and R2T: data transfer (RFC 7143 §4.2.5, §11.7, §11.8).

use crate::help::{
    BLOCKS, INCORRECT_AMOUNT, Simulated, UNEXPECTED_UNSOLICITED, alone, goes_on, normal, pattern, rejected,
};
use iscsi::wire::{DataIn, DataOut, FINAL, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer};
use sim::capture::Side;
use sim::raw::{Command, Condition, Login};
use sim::{Frame, Random};
use std::time::Duration;

/// Data-Out that nobody asked for.
fn unasked(client: &Simulated, tag: u32, number: u32, offset: u32, flags: u8, data: &[u8]) -> Frame {
    let mut header = DataOut::empty();
    header.flags = flags;
    header.initiator_task_tag = tag.into();
    header.target_transfer_tag = RESERVED_TAG.into();
    header.exp_stat_sn = client.exp_stat_sn.into();
    header.data_sn = number.into();
    header.buffer_offset = offset.into();
    Frame::new(header, data)
}

/// A piece of what an R2T asks for.
fn asked_for(client: &Simulated, asked: &ReadyToTransfer, number: u32, offset: u32, flags: u8, data: &[u8]) -> Frame {
    let mut frame = unasked(client, asked.initiator_task_tag.get(), number, offset, flags, data);
    frame.header[8..16].copy_from_slice(&asked.lun);
    frame.header[20..24].copy_from_slice(&asked.target_transfer_tag.get().to_be_bytes());
    frame
}

/// A WRITE of so many bytes at block 0 whose header, with its immediate data and F, is as the test says.
fn write(client: &mut Simulated, expected: usize, immediate: &[u8], last: bool) -> u32 {
    let mut frame = client.prepare(&Command::write(0, &vec![0; expected]).solicited()).remove(0);
    if !last {
        frame.header[1] &= !FINAL;
    }
    frame.header[5..8].copy_from_slice(&(immediate.len() as u32).to_be_bytes()[1..]);
    frame.data = immediate.to_vec();
    client.send(&frame);
    frame.basic().initiator_task_tag.get()
}

/// The command failed with this condition and left the disk as it was.
fn failed(client: &mut Simulated, tag: u32, condition: Condition) {
    let answer = client.finish(tag);
    assert_eq!((answer.status, answer.condition()), (2, Some(condition)));
    assert!(client.good(&Command::read(0, 8)).iter().all(|byte| *byte == 0), "nothing of it was written");
}

#[test]
fn dat_01_immediate_data_is_taken_where_it_was_agreed_and_up_to_the_first_burst() {
    let mut client = alone(&normal().key("ImmediateData", "No"));
    let tag = write(&mut client, 512, &[1; 512], true);
    failed(&mut client, tag, UNEXPECTED_UNSOLICITED);
    let mut client = alone(&normal().key("FirstBurstLength", 1024));
    let tag = write(&mut client, 2048, &[1; 1028], true);
    failed(&mut client, tag, UNEXPECTED_UNSOLICITED);
    let tag = write(&mut client, 512, &[1; 1024], true);
    failed(&mut client, tag, UNEXPECTED_UNSOLICITED);
    let tag = write(&mut client, 1024, &[1; 1024], true);
    assert!(client.finish(tag).is_good(), "exactly the first burst");
    assert_eq!(client.good(&Command::read(0, 2)), [1; 1024]);
}

#[test]
fn dat_02_unsolicited_data_needs_initial_r2t_no_and_ends_at_the_first_burst() {
    let mut client = alone(&normal().key("InitialR2T", "Yes"));
    let tag = write(&mut client, 1024, b"", false);
    client.expect_silence(Duration::from_millis(1));
    let out = unasked(&client, tag, 0, 0, FINAL, &[1; 1024]);
    client.send(&out);
    failed(&mut client, tag, UNEXPECTED_UNSOLICITED);
    // Nobody asked and nobody said that it would come.
    client.hold_data = true;
    let tag = write(&mut client, 512, b"", true);
    let (asked, _) = client.expect::<ReadyToTransfer>();
    let out = unasked(&client, tag, 0, 0, FINAL, &[0xbd; 512]);
    client.send(&out);
    assert_eq!(rejected(&mut client, &out), 0x09);
    client.answer_ready_to_transfer(&asked);
    assert!(client.finish(tag).is_good());
    client.hold_data = false;
    assert_eq!(client.good(&Command::read(0, 1)), [0; 512]);

    for immediate in [0usize, 512] {
        let mut client = alone(&normal().key("InitialR2T", "No").key("FirstBurstLength", 1024));
        let tag = write(&mut client, 4096, &vec![1; immediate], false);
        let rest = vec![1; 1024 - immediate + 4];
        let out = unasked(&client, tag, 0, immediate as u32, FINAL, &rest);
        client.send(&out);
        failed(&mut client, tag, INCORRECT_AMOUNT);
    }
}

#[test]
fn dat_04_another_amount_than_agreed_ends_the_command() {
    let login = || normal().key("InitialR2T", "No").key("FirstBurstLength", 1024).key("ImmediateData", "No");
    // Unsolicited: too little, and F too late.
    for sent in [512usize, 1536] {
        let mut client = alone(&login());
        let tag = write(&mut client, 4096, b"", false);
        for at in (0..sent).step_by(512) {
            let flags = if at + 512 == sent { FINAL } else { 0 };
            let out = unasked(&client, tag, at as u32 / 512, at as u32, flags, &[1; 512]);
            client.send(&out);
        }
        failed(&mut client, tag, INCORRECT_AMOUNT);
    }
    // Solicited, the same.
    for sent in [1024usize, 3072] {
        let mut client = alone(&normal().key("MaxBurstLength", 2048));
        client.hold_data = true;
        let tag = client.start(&Command::write(0, &[0; 2048]).solicited());
        let (asked, _) = client.expect::<ReadyToTransfer>();
        for at in (0..sent).step_by(1024) {
            let flags = if at + 1024 == sent { FINAL } else { 0 };
            let out = asked_for(&client, &asked, at as u32 / 1024, at as u32, flags, &[1; 1024]);
            client.send(&out);
        }
        failed(&mut client, tag, INCORRECT_AMOUNT);
    }
}

#[test]
fn dat_05_no_sequence_is_longer_than_a_burst() {
    for burst in [512, 4096, 65_536, 1 << 20, 16_777_215] {
        let mut client = alone(&normal().key("MaxBurstLength", burst).key("MaxRecvDataSegmentLength", 65_536));
        // What was agreed is at most what this target offers.
        let agreed = client.agreed().max_burst_length;
        assert_eq!(agreed, burst.min(1 << 20));
        let data = pattern(1 << 20, 7);
        client.capture.record();
        let answer = client.execute(&Command::write(0, &data).solicited());
        assert_eq!(answer.ready_to_transfers, (1u32 << 20).div_ceil(agreed), "bursts of {agreed}");
        assert!(client.good(&Command::read(0, 2048)) == data);
        let ends = |frame: &Frame| frame.view::<DataIn>().is_some_and(|data_in| data_in.flags & FINAL != 0);
        let finals = client.capture.recorded().iter().filter(|(_, frame)| ends(frame)).count();
        assert_eq!(finals, (1usize << 20).div_ceil(agreed as usize), "each sequence has its F");
    }
}

/// A write of four pieces of 512 bytes, of which the initiator sends these (number, offset) instead.
fn disordered(pieces: [(u32, u32); 4]) {
    let mut client = alone(&normal());
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &[0; 2048]).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    for (at, (number, offset)) in pieces.into_iter().enumerate() {
        let out = asked_for(&client, &asked, number, offset, if at == 3 { FINAL } else { 0 }, &[0xbd; 512]);
        client.send(&out);
    }
    failed(&mut client, tag, INCORRECT_AMOUNT);
    client.hold_data = false;
    goes_on(&mut client);
}

#[test]
fn dat_06_data_numbers_count_from_zero_by_one() {
    let offsets = |numbers: [u32; 4]| [(numbers[0], 0), (numbers[1], 512), (numbers[2], 1024), (numbers[3], 1536)];
    for numbers in [[0, 1, 1, 2], [0, 1, 3, 4], [3, 2, 1, 0], [u32::MAX, 0, 1, 2], [1, 2, 3, 4], [0, 0, 0, 0]] {
        disordered(offsets(numbers));
    }
    // Of a read and of R2Ts: the capture counts along; each command begins anew.
    let mut client = alone(&normal().key("MaxRecvDataSegmentLength", 512).key("MaxBurstLength", 1024));
    for _ in 0..2 {
        assert_eq!(client.execute(&Command::read(0, 7)).data_in_pdus, 7);
        client.good(&Command::write(0, &pattern(3584, 1)).solicited());
    }
}

#[test]
fn dat_07_offsets_rise_without_overlap_or_gap() {
    for offsets in [[0, 512, 512, 1024], [0, 256, 768, 1280], [1536, 1024, 512, 0], [0, 1024, 512, 1536], [0, 0, 0, 0]]
    {
        disordered([(0, offsets[0]), (1, offsets[1]), (2, offsets[2]), (3, offsets[3])]);
    }
}

#[test]
fn dat_08_data_outside_its_sequence_is_never_stored() {
    let mut client = alone(&normal());
    client.good(&Command::write(8, &[7; 512]));
    for offset in [1u32, 2, 512, 0x7fff_ffff, 0xffff_fe00, 0xffff_ffff] {
        client.hold_data = true;
        let tag = client.start(&Command::write(0, &[0; 512]).solicited());
        let (asked, _) = client.expect::<ReadyToTransfer>();
        let out = asked_for(&client, &asked, 0, offset, FINAL, &[0xbd; 512]);
        client.send(&out);
        client.hold_data = false;
        failed(&mut client, tag, INCORRECT_AMOUNT);
    }
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &[0; 512]).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    let out = asked_for(&client, &asked, 0, 0, FINAL, &[0xbd; 513]);
    client.send(&out);
    client.hold_data = false;
    failed(&mut client, tag, INCORRECT_AMOUNT);
    assert_eq!(client.good(&Command::read(8, 1)), [7; 512]);
}

#[test]
fn dat_09_a_command_that_failed_early_is_answered_behind_its_last_data() {
    let mut client = alone(&normal().key("InitialR2T", "No").key("FirstBurstLength", 2048));
    let mut beyond = Command::write(0, &[1; 2048]);
    beyond.cdb[2..6].copy_from_slice(&(BLOCKS as u32).to_be_bytes());
    beyond.immediate_data = false;
    let frames = client.prepare(&beyond.in_chunks(512));
    let tag = frames[0].basic().initiator_task_tag.get();
    assert_eq!(frames.len(), 5);
    for frame in &frames[..4] {
        client.send(frame);
        client.expect_silence(Duration::from_millis(1));
        assert!(!client.is_answered(tag), "its data is still coming");
    }
    client.send(&frames[4]);
    let answer = client.finish(tag);
    assert_eq!(answer.condition(), Some(Condition(5, 0x21, 0)));
    goes_on(&mut client);
}

#[test]
fn dat_10_data_in_is_what_was_expected_and_its_sequences_end() {
    for segment in [512, 1000, 8192] {
        let mut client = alone(&normal().key("MaxRecvDataSegmentLength", segment).key("MaxBurstLength", 4096));
        client.good(&Command::write(0, &pattern(16 * 512, 9)));
        for blocks in [1u16, 2, 7, 8, 9, 16] {
            let whole = u32::from(blocks) * 512;
            for expected in [0, 1, 3, 511, 512, 513, whole - 1, whole, whole + 1, 4 * whole] {
                // The capture judges totals, residuals, F and S of every PDU.
                let answer = client.execute(&Command::read(0, blocks).expecting(expected));
                assert_eq!(answer.data, pattern(expected.min(whole) as usize, 9), "{blocks} blocks, {expected} bytes");
                assert_eq!(answer.residual, i64::from(whole) - i64::from(expected));
                assert!(answer.is_good());
            }
        }
    }
}

#[test]
fn dat_11_a_status_with_sense_data_comes_in_a_response_of_its_own() {
    let mut client = alone(&normal());
    assert!(client.execute(&Command::read(0, 1)).collapsed);
    let answer = client.execute(&Command::read(BLOCKS as u32 - 1, 2));
    assert_eq!((answer.status, answer.condition(), answer.collapsed), (2, Some(Condition(5, 0x21, 0)), false));
    assert!(answer.data.is_empty() && answer.data_in_pdus == 0);
}

#[test]
fn dat_13_unsolicited_data_follows_the_order_of_its_commands() {
    let login = || normal().key("InitialR2T", "No").key("FirstBurstLength", 2048).key("ImmediateData", "No");
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut client = alone(&login());
        let mut commands = Vec::new();
        for number in 0..4u32 {
            let data = pattern(2048, number as u8 + 1);
            let frames = client.prepare(&Command::write(number * 4, &data).in_chunks(512));
            commands.push((frames, data));
        }
        let tags: Vec<u32> = commands.iter().map(|(frames, _)| frames[0].basic().initiator_task_tag.get()).collect();
        // Commands and data in any mixture that keeps each kind's order.
        let heads: Vec<Frame> = commands.iter().map(|(frames, _)| frames[0].clone()).collect();
        let data: Vec<Frame> = commands.iter().flat_map(|(frames, _)| frames[1..].to_vec()).collect();
        let (mut sent, mut next) = (0, 0);
        while next < data.len() {
            if sent < heads.len() && (sent * 4 <= next || random.once_in(3)) {
                client.send(&heads[sent]);
                sent += 1;
            } else {
                client.send(&data[next]);
                next += 1;
            }
        }
        for (number, tag) in tags.into_iter().enumerate() {
            assert!(client.finish(tag).is_good(), "seed {seed}");
            assert_eq!(client.good(&Command::read(number as u32 * 4, 4)), commands[number].1, "seed {seed}");
        }
    }
}

#[test]
fn dat_14_only_the_last_segment_has_a_length_that_needs_padding() {
    for segment in [513, 1023, 4097] {
        let mut client = alone(&normal().key("MaxRecvDataSegmentLength", segment));
        client.capture.record();
        let expected = 5 * 512 - 3;
        assert_eq!(client.execute(&Command::read(0, 5).expecting(expected)).data.len(), expected as usize);
        let data_in = client
            .capture
            .recorded()
            .iter()
            .filter(|(side, frame)| *side == Side::Target && frame.opcode() == Opcode::DataIn as u8);
        let lengths: Vec<usize> = data_in.map(|(_, frame)| frame.data.len()).collect();
        let (last, others) = lengths.split_last().unwrap();
        assert!(others.iter().all(|length| length.is_multiple_of(4)), "{lengths:?}");
        assert!(!last.is_multiple_of(4));
    }
    let mut client = alone(&normal().key("InitialR2T", "No"));
    let data = pattern(2048, 8);
    for chunk in [1, 5, 511, 513] {
        client.good(&Command::write(0, &[0; 2048]));
        client.good(&Command::write(0, &data).in_chunks(chunk));
        client.good(&Command::write(4, &data).solicited().in_chunks(chunk));
        assert!(client.good(&Command::read(0, 4)) == data && client.good(&Command::read(4, 4)) == data, "{chunk}");
    }
}

/// The R2Ts that come for a write of so many bytes while nothing is sent.
fn outstanding(login: &Login, bytes: usize) -> (Simulated, u32, Vec<ReadyToTransfer>) {
    let mut client = alone(login);
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &pattern(bytes, 3)).solicited());
    let mut asked = Vec::new();
    while let Ok(frame) = client.receive() {
        asked.push(*frame.view::<ReadyToTransfer>().expect("nothing but R2Ts"));
    }
    (client, tag, asked)
}

#[test]
fn r2t_01_each_asks_for_a_burst_of_its_command_under_a_tag_of_its_own() {
    for (burst, bytes) in [(512, 512), (512, 4096), (1000, 4096), (4096, 3584), (65_536, 65_536)] {
        let login = normal().key("MaxBurstLength", burst).key("MaxOutstandingR2T", 8);
        let (mut client, tag, asked) = outstanding(&login, bytes);
        assert_eq!(asked.len(), bytes.div_ceil(burst).min(8));
        let mut at = 0;
        for (number, one) in asked.iter().enumerate() {
            assert_eq!(one.buffer_offset.get(), at);
            assert_eq!(one.desired_data_transfer_length.get(), (burst as u32).min(bytes as u32 - at));
            assert_ne!(one.target_transfer_tag.get(), RESERVED_TAG);
            assert!(asked[..number].iter().all(|other| other.target_transfer_tag != one.target_transfer_tag));
            at += one.desired_data_transfer_length.get();
        }
        client.hold_data = false;
        asked.iter().for_each(|one| client.answer_ready_to_transfer(one));
        assert!(client.finish(tag).is_good());
        assert!(client.good(&Command::read(0, (bytes / 512) as u16)) == pattern(bytes, 3));
    }
}

#[test]
fn r2t_02_no_more_are_outstanding_than_was_agreed_and_each_task_counts_its_own() {
    for (asked_for, agreed) in [(1, 1), (4, 4), (16, 8)] {
        let login = normal().key("MaxBurstLength", 512).key("MaxOutstandingR2T", asked_for);
        let (mut client, tag, asked) = outstanding(&login, 512 * 12);
        assert_eq!(asked.len(), agreed);
        let numbers: Vec<u32> = asked.iter().map(|one| one.r2t_sn.get()).collect();
        assert_eq!(numbers, (0..agreed as u32).collect::<Vec<_>>());
        // One that is answered makes room for one more.
        client.answer_ready_to_transfer(&asked[0]);
        let (next, _) = client.expect::<ReadyToTransfer>();
        assert_eq!(next.r2t_sn.get(), agreed as u32);
        client.expect_silence(Duration::from_millis(1));
        let other = client.start(&Command::write(100, &pattern(512, 1)).solicited());
        let (first, _) = client.expect::<ReadyToTransfer>();
        assert_eq!((first.initiator_task_tag.get(), first.r2t_sn.get()), (other, 0));
        client.hold_data = false;
        for one in asked[1..].iter().chain([&next, &first]) {
            client.answer_ready_to_transfer(one);
        }
        assert!(client.finish(tag).is_good() && client.finish(other).is_good());
    }
}

#[test]
fn r2t_05_data_that_is_there_is_not_asked_for() {
    let mut client = alone(&normal().key("FirstBurstLength", 1024));
    assert_eq!(client.execute(&Command::write(0, &[1; 1024])).ready_to_transfers, 0, "all of it is immediate");
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &pattern(4096, 2)));
    let (asked, _) = client.expect::<ReadyToTransfer>();
    assert_eq!((asked.buffer_offset.get(), asked.desired_data_transfer_length.get()), (1024, 3072));
    client.hold_data = false;
    client.answer_ready_to_transfer(&asked);
    let answer = client.finish(tag);
    assert!(answer.is_good());
    assert_eq!(client.good(&Command::read(0, 8)), pattern(4096, 2));
}
