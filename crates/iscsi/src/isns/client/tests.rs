//! The client against a server that is well, forgetful, slow, lying, or away.

use super::*;
use crate::isns::{Node, Portal};
use crate::name::Name;
use proptest::prelude::*;
use std::net::SocketAddr;

const TARGET: &str = "iqn.2026-11.com.example:disk";

fn name(text: &str) -> Name {
    Name::lenient(text).unwrap()
}

fn portal() -> SocketAddr {
    "192.0.2.7:3260".parse().unwrap()
}

fn registration() -> Registration {
    let target = Node { name: name(TARGET), alias: Some("a disk".into()), portals: vec![(portal(), 1)] };
    Registration {
        entity: "disk.example.com".into(),
        period: 90,
        portals: vec![Portal { address: portal(), notified_at: Some(40_000) }],
        targets: vec![target],
    }
}

/// A client, its clock, and what it wants.
struct World {
    client: Client,
    begun: Instant,
    now: Instant,
    events: Vec<Event>,
}

impl World {
    fn new() -> World {
        let now = Instant::now();
        World { client: Client::new(now, 7), begun: now, now, events: Vec::new() }
    }

    fn seconds(&self) -> u64 {
        self.now.duration_since(self.begun).as_secs()
    }

    /// The next action, after as much time as it takes.
    fn action(&mut self) -> Action {
        loop {
            while let Some(event) = self.client.poll_event() {
                self.events.push(event);
            }
            if let Some(action) = self.client.poll_action() {
                return action;
            }
            self.now = self.now.max(self.client.poll_timeout().expect("it waits for something"));
            self.client.handle_timeout(self.now);
        }
    }

    fn connect(&mut self) {
        assert_eq!(self.action(), Action::Connect);
        self.client.handle_connected(self.now, registration());
    }

    /// The next request.
    fn request(&mut self) -> Message {
        match self.action() {
            Action::Send(bytes) => decoded(&bytes),
            other => panic!("{other:?} instead of a request"),
        }
    }

    fn answer(&mut self, request: &Message, status: Status, attributes: Vec<Attribute>) {
        let bytes = request.answer(status, attributes).encode();
        self.client.handle_bytes(self.now, &bytes);
    }

    /// Registers with a server that says this period, up to where it waits.
    fn registered(&mut self, period: u32) {
        self.connect();
        let request = self.request();
        self.answer(&request, Status::SUCCESSFUL, known(period));
        let listen = self.request();
        assert_eq!(listen.function, Function::STATE_CHANGE_REGISTRATION);
        self.answer(&listen, Status::SUCCESSFUL, Vec::new());
        assert_eq!(self.told(), [Event::Registered { period }]);
    }

    fn told(&mut self) -> Vec<Event> {
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
        std::mem::take(&mut self.events)
    }
}

fn decoded(bytes: &[u8]) -> Message {
    let mut receiver = Receiver::new(MESSAGE_BYTES);
    receiver.push(bytes);
    receiver.take().unwrap().unwrap()
}

/// The entity with its portal as a server tells of it.
fn known(period: u32) -> Vec<Attribute> {
    let mut attributes = vec![Attribute::text(Tag::ENTITY_IDENTIFIER, "disk.example.com")];
    attributes.push(Attribute::empty(Tag::DELIMITER));
    attributes.push(Attribute::text(Tag::ENTITY_IDENTIFIER, "disk.example.com"));
    attributes.push(Attribute::number(Tag::REGISTRATION_PERIOD, period));
    attributes.push(Attribute::address(Tag::PORTAL_ADDRESS, portal().ip()));
    attributes.push(Attribute::port(Tag::PORTAL_PORT, 3260));
    attributes
}

fn tags(message: &Message) -> Vec<u32> {
    message.attributes.iter().map(|attribute| attribute.tag.0).collect()
}

#[test]
fn dsc_10_the_entity_is_registered_with_portals_targets_and_groups() {
    let mut world = World::new();
    world.connect();
    let request = world.request();
    assert_eq!(request.function, Function::DEVICE_ATTRIBUTE_REGISTRATION);
    assert!(request.replace, "what an earlier life has left there is put away");
    // Source, key, delimiter; entity; portal; target with its alias; its portal group.
    assert_eq!(tags(&request), [32, 1, 0, 1, 2, 6, 16, 17, 19, 20, 23, 32, 33, 34, 51, 49, 50]);
    let [source, ..] = request.attributes.as_slice() else { panic!() };
    assert_eq!(source.as_text(), Some(TARGET));
    world.answer(&request, Status::SUCCESSFUL, known(90));
    let listen = world.request();
    assert_eq!(tags(&listen), [32, 32, 0, 35]);
    world.answer(&listen, Status::SUCCESSFUL, Vec::new());
    assert_eq!(world.told(), [Event::Registered { period: 90 }]);
}

#[test]
fn dsc_10_it_asks_three_times_within_the_period_that_the_server_has_said() {
    let mut world = World::new();
    world.registered(30);
    for time in [10, 20, 30] {
        let request = world.request();
        assert_eq!((request.function, world.seconds()), (Function::DEVICE_ATTRIBUTE_QUERY, time));
        assert_eq!(tags(&request), [32, 1, 0, 1, 6, 16, 17]);
        world.answer(&request, Status::SUCCESSFUL, known(30));
    }
    assert_eq!(world.told(), []);
}

#[test]
fn dsc_10_what_has_changed_is_registered_at_once_and_the_last_target_takes_the_entity_out() {
    let mut world = World::new();
    world.registered(90);
    let other = Node { name: name("iqn.2026-11.com.example:other"), alias: None, portals: vec![(portal(), 2)] };
    let mut more = registration();
    more.targets.push(other.clone());
    let renew = |world: &mut World, next: &Registration| {
        world.client.renew(world.now);
        assert_eq!([world.action(), world.action()], [Action::Close, Action::Connect]);
        world.client.handle_connected(world.now, next.clone());
        world.request()
    };
    let request = renew(&mut world, &more);
    assert_eq!((request.function, request.replace), (Function::DEVICE_ATTRIBUTE_REGISTRATION, true));
    assert_eq!(tags(&request).iter().filter(|tag| **tag == 32).count(), 3, "the source and two targets");
    world.answer(&request, Status::SUCCESSFUL, known(90));
    // Nothing has changed: it is only asked for.
    assert_eq!(world.request().function, Function::STATE_CHANGE_REGISTRATION);
    let request = renew(&mut world, &more);
    assert_eq!(request.function, Function::DEVICE_ATTRIBUTE_QUERY);
    // None that the server knows is left to speak for the entity: it is taken out by who was, and registered anew.
    let third = Node { name: name("iqn.2026-11.com.example:third"), ..other };
    let left = Registration { targets: vec![third], ..registration() };
    let request = renew(&mut world, &left);
    assert_eq!(request.function, Function::DEVICE_DEREGISTRATION);
    assert_eq!(request.attributes[0].as_text(), Some(TARGET));
    world.answer(&request, Status::SUCCESSFUL, Vec::new());
    let request = world.request();
    assert_eq!(request.function, Function::DEVICE_ATTRIBUTE_REGISTRATION);
    assert_eq!(request.attributes[0].as_text(), Some("iqn.2026-11.com.example:third"));
    world.answer(&request, Status::SUCCESSFUL, known(90));
    assert_eq!(world.request().function, Function::STATE_CHANGE_REGISTRATION);
    let none = Registration { targets: Vec::new(), portals: Vec::new(), ..registration() };
    let request = renew(&mut world, &none);
    assert_eq!(request.function, Function::DEVICE_DEREGISTRATION);
    world.answer(&request, Status::SUCCESSFUL, Vec::new());
    assert!(world.seconds() < 2, "at once: {}", world.seconds());
}

#[test]
fn a_server_that_does_not_say_its_period_is_asked_for_it() {
    let mut world = World::new();
    world.connect();
    let request = world.request();
    world.answer(&request, Status::SUCCESSFUL, Vec::new());
    let listen = world.request();
    world.answer(&listen, Status::SUCCESSFUL, Vec::new());
    let inquiry = world.request();
    assert_eq!((inquiry.function, world.seconds()), (Function::DEVICE_ATTRIBUTE_QUERY, 0));
    world.answer(&inquiry, Status::SUCCESSFUL, known(6));
    world.request();
    assert_eq!(world.seconds(), 2);
}

#[test]
fn dsc_10_a_server_that_was_started_anew_is_told_again() {
    let mut world = World::new();
    world.registered(30);
    world.client.handle_closed(world.now, "reset");
    world.connect();
    assert!(world.seconds() <= 2, "soon: {}", world.seconds());
    let inquiry = world.request();
    assert_eq!(inquiry.function, Function::DEVICE_ATTRIBUTE_QUERY);
    world.answer(&inquiry, Status::NO_SUCH_ENTRY, Vec::new());
    let request = world.request();
    assert_eq!(request.function, Function::DEVICE_ATTRIBUTE_REGISTRATION);
    assert!(!request.replace, "whoever is still there is not taken away and brought again");
    world.answer(&request, Status::SUCCESSFUL, known(30));
    assert_eq!(world.told(), [Event::Forgotten, Event::Registered { period: 30 }]);
}

#[test]
fn a_closed_connection_alone_is_nothing_to_tell() {
    let mut world = World::new();
    world.registered(3000);
    // This server closes after every answer.
    let mut times = Vec::new();
    for _ in 0..10 {
        world.client.handle_closed(world.now, "closed");
        world.connect();
        times.push(world.seconds());
        let inquiry = world.request();
        world.answer(&inquiry, Status::SUCCESSFUL, known(3000));
    }
    assert_eq!(world.told(), []);
    assert!(times[0] <= 2 && times[9] - times[8] >= 60, "less and less often: {times:?}");
}

#[test]
fn a_server_that_is_gone_costs_one_line_and_ever_fewer_attempts() {
    let mut world = World::new();
    let mut attempts = 0;
    while world.seconds() < 3600 {
        assert_eq!(world.action(), Action::Connect);
        attempts += 1;
        world.client.handle_closed(world.now, "connection refused");
    }
    assert!((50..80).contains(&attempts), "{attempts} in an hour");
    assert_eq!(world.told(), [Event::Away(Reason::Connection("connection refused".into()))]);
    world.connect();
    let request = world.request();
    world.answer(&request, Status::SUCCESSFUL, known(30));
    assert_eq!(world.told(), [Event::Registered { period: 30 }]);
}

#[test]
fn a_server_that_was_away_and_knows_us_is_back() {
    let mut world = World::new();
    world.registered(30);
    world.client.handle_closed(world.now, "reset");
    assert_eq!(world.action(), Action::Connect);
    world.client.handle_closed(world.now, "refused");
    world.connect();
    let inquiry = world.request();
    world.answer(&inquiry, Status::SUCCESSFUL, known(30));
    assert_eq!(world.told(), [Event::Away(Reason::Connection("refused".into())), Event::Back]);
}

#[test]
fn a_server_that_does_not_answer_is_left_after_a_while() {
    let mut world = World::new();
    world.connect();
    world.request();
    assert_eq!((world.action(), world.seconds()), (Action::Close, 15));
    assert_eq!(world.told(), [Event::Away(Reason::Silent)]);
    // One that does not even accept.
    assert_eq!(world.action(), Action::Connect);
    let begun = world.seconds();
    assert_eq!((world.action(), world.seconds()), (Action::Close, begun + 10));
}

#[test]
fn a_server_that_lies_loses_its_connection_and_nothing_else() {
    for lie in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[0; 100],
        &[0, 1, 0x80, 1, 0, 4, 0x4c, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0],
    ] {
        let mut world = World::new();
        world.connect();
        world.request();
        world.client.handle_bytes(world.now, lie);
        assert_eq!((world.action(), world.seconds()), (Action::Close, 0), "{lie:?}");
        assert_eq!(world.action(), Action::Connect);
        assert!(matches!(world.told().as_slice(), [Event::Away(_)]));
    }
}

#[test]
fn what_a_server_does_not_do_is_left_out() {
    let mut world = World::new();
    world.connect();
    let first = world.request();
    world.answer(&first, Status::ESI_NOT_AVAILABLE, Vec::new());
    let second = world.request();
    assert!(!tags(&second).contains(&20) && tags(&second).contains(&23) && tags(&second).contains(&51));
    world.answer(&second, Status::REGISTRATION_FEATURE_NOT_SUPPORTED, Vec::new());
    let third = world.request();
    assert!(!tags(&third).contains(&20) && !tags(&third).contains(&51));
    world.answer(&third, Status::SUCCESSFUL, known(90));
    let listen = world.request();
    world.answer(&listen, Status(17), Vec::new());
    assert!(
        matches!(
            world.told().as_slice(),
            [Event::Without(_), Event::Without(_), Event::Registered { period: 90 }, Event::Without(_)]
        ),
        "each is told"
    );
}

#[test]
fn what_another_entity_still_has_of_ours_is_taken_out_of_it_once() {
    let mut world = World::new();
    world.connect();
    let first = world.request();
    world.answer(&first, Status::INVALID_REGISTRATION, Vec::new());
    for objects in [vec![32, 0, 16, 17], vec![32, 0, 32]] {
        let out = world.request();
        assert_eq!((out.function, tags(&out)), (Function::DEVICE_DEREGISTRATION, objects));
        world.answer(&out, Status(8), Vec::new());
    }
    let again = world.request();
    assert_eq!(again.function, Function::DEVICE_ATTRIBUTE_REGISTRATION);
    // When that does not help it is told, and tried again ever later.
    world.answer(&again, Status::INVALID_REGISTRATION, Vec::new());
    for _ in 0..6 {
        let later = world.request();
        world.answer(&later, Status::INVALID_REGISTRATION, Vec::new());
    }
    assert_eq!(world.told(), [Event::Refused(Status::INVALID_REGISTRATION)]);
    assert!(world.seconds() >= 63);
}

#[test]
fn portals_that_the_server_drops_are_registered_again_in_the_end_without_inquiries() {
    let mut world = World::new();
    world.registered(30);
    for round in 0..2 {
        let inquiry = world.request();
        let entity_alone = known(30).into_iter().take(4).collect();
        world.answer(&inquiry, Status::SUCCESSFUL, entity_alone);
        let request = world.request();
        assert_eq!(tags(&request).contains(&20), round == 0);
        world.answer(&request, Status::SUCCESSFUL, known(30));
        let listen = world.request();
        world.answer(&listen, Status::SUCCESSFUL, Vec::new());
    }
    assert_eq!(world.told().iter().filter(|event| matches!(event, Event::Without(_))).count(), 1);
}

#[test]
fn a_server_that_never_shows_the_entity_is_told_again_and_again_but_nobody_else() {
    let mut world = World::new();
    world.registered(30);
    while world.seconds() < 600 {
        let request = world.request();
        let answer = match request.function {
            Function::DEVICE_ATTRIBUTE_QUERY => Vec::new(),
            _ => known(30),
        };
        world.answer(&request, Status::SUCCESSFUL, answer);
    }
    assert!(world.told().len() <= 4);
}

#[test]
fn dsc_10_at_the_end_the_entity_is_taken_out() {
    let mut world = World::new();
    world.registered(30);
    world.client.stop(world.now);
    let request = world.request();
    assert_eq!((request.function, tags(&request)), (Function::DEVICE_DEREGISTRATION, vec![32, 0, 1]));
    world.answer(&request, Status::SUCCESSFUL, Vec::new());
    assert!(world.client.is_finished());
    assert_eq!((world.action(), world.told()), (Action::Close, vec![Event::Deregistered]));
}

#[test]
fn the_end_is_bounded_whatever_the_server_does() {
    // Nothing was registered: nothing is to be done.
    let mut world = World::new();
    world.client.stop(world.now);
    assert!(world.client.is_finished());
    // It does not answer.
    let mut world = World::new();
    world.registered(30);
    world.client.stop(world.now);
    world.request();
    assert_eq!((world.action(), world.seconds()), (Action::Close, 3));
    assert!(world.client.is_finished());
    // It is not there.
    let mut world = World::new();
    world.registered(30);
    world.client.handle_closed(world.now, "reset");
    let begun = world.now;
    world.client.stop(world.now);
    while !world.client.is_finished() {
        world.now = world.client.poll_timeout().unwrap();
        world.client.handle_timeout(world.now);
        if world.client.poll_action() == Some(Action::Connect) {
            world.client.handle_closed(world.now, "refused");
        }
    }
    assert!(world.now - begun <= Duration::from_secs(3));
    // It is back just then.
    let mut world = World::new();
    world.registered(30);
    world.client.handle_closed(world.now, "reset");
    world.client.stop(world.now);
    world.connect();
    assert_eq!(world.request().function, Function::DEVICE_DEREGISTRATION);
}

#[test]
fn inquiries_are_answered_with_what_they_say() {
    let mut world = World::new();
    world.registered(30);
    let esi = |entity: &str| {
        let attributes = vec![
            Attribute::timestamp(1_800_000_000),
            Attribute::text(Tag::ENTITY_IDENTIFIER, entity),
            Attribute::address(Tag::PORTAL_ADDRESS, portal().ip()),
            Attribute::port(Tag::PORTAL_PORT, 3260),
        ];
        Message { attributes, transaction: 9, ..Message::request(Function::ENTITY_STATUS_INQUIRY) }
    };
    let question = esi("disk.example.com");
    let answer = decoded(&world.client.handle_notification(world.now, &question).unwrap());
    assert_eq!((answer.function, answer.status), (question.function.response(), Some(Status::SUCCESSFUL)));
    assert_eq!((answer.transaction, &answer.attributes), (9, &question.attributes));
    // On the connection of the client too.
    world.client.handle_bytes(world.now, &question.encode());
    assert_eq!(world.request(), answer);
    let foreign = world.client.handle_notification(world.now, &esi("another.example.com")).unwrap();
    assert_eq!(decoded(&foreign).status, Some(Status::NO_SUCH_ENTRY));
    let other = Message::request(Function(6));
    let answer = decoded(&world.client.handle_notification(world.now, &other).unwrap());
    assert_eq!(answer.status, Some(Status::MESSAGE_NOT_SUPPORTED));
    assert_eq!(world.client.handle_notification(world.now, &answer), None, "an answer is not answered");
}

fn notification(to: &str, bitmap: u32, node: &str) -> Message {
    let attributes = vec![
        Attribute::text(Tag::ISCSI_NAME, to),
        Attribute::timestamp(1_800_000_000),
        Attribute::number(Tag::ISCSI_SCN_BITMAP, bitmap),
        Attribute::text(Tag::ISCSI_NAME, node),
    ];
    Message { attributes, ..Message::request(Function::STATE_CHANGE_NOTIFICATION) }
}

#[test]
fn dsc_10_changes_are_taken_and_kept_as_events() {
    let mut world = World::new();
    world.registered(30);
    let change = notification(TARGET, 8, "iqn.2026-11.com.example:host");
    let answer = decoded(&world.client.handle_notification(world.now, &change).unwrap());
    assert_eq!((answer.status, tags(&answer)), (Some(Status::SUCCESSFUL), vec![32]));
    let host = name("iqn.2026-11.com.example:host");
    let expected = StateChange { node: host, removed: false, added: true, updated: false };
    assert_eq!(world.told(), [Event::Changed(expected)]);
    let foreign = notification("iqn.2026-11.com.example:other", 8, TARGET);
    let answer = decoded(&world.client.handle_notification(world.now, &foreign).unwrap());
    assert_eq!((answer.status, world.told()), (Some(Status::NO_SUCH_ENTRY), Vec::new()));
    // Nobody takes the events: they do not pile up.
    for _ in 0..1000 {
        world.client.handle_notification(world.now, &change);
    }
    assert!(world.told().len() <= EVENTS);
}

#[test]
fn when_we_are_removed_by_somebody_the_server_is_asked_at_once() {
    let mut world = World::new();
    world.registered(3000);
    let change = notification(TARGET, 16, TARGET);
    world.client.handle_notification(world.now, &change);
    assert_eq!(world.request().function, Function::DEVICE_ATTRIBUTE_QUERY);
    assert!(world.seconds() <= 3);
}

#[test]
fn many_targets_take_several_requests_and_portals_that_lead_nowhere_are_null() {
    let other: SocketAddr = "[2001:db8::7]:3261".parse().unwrap();
    let mut all = registration();
    all.portals.push(Portal { address: other, notified_at: None });
    all.targets = (0..2000)
        .map(|number| Node {
            name: name(&format!("{TARGET}.{number}")),
            alias: None,
            portals: vec![(if number == 0 { other } else { portal() }, 2)],
        })
        .collect();
    let messages = all.register(Features::default(), Manner::Replace);
    assert!(messages.len() > 5);
    let nodes = |message: &Message| message.attributes.iter().filter(|attribute| attribute.tag == Tag(33)).count();
    assert_eq!(messages.iter().map(nodes).sum::<usize>(), 2000);
    assert!(messages.iter().all(|message| message.encode().len() < 40_000));
    assert_eq!(messages.iter().map(|message| message.replace).collect::<Vec<_>>()[..2], [true, false]);
    // The first target: group 2 at the second portal, none at the first.
    let groups: Vec<_> = messages[0].attributes.iter().filter(|one| matches!(one.tag.0, 50 | 51)).take(4).collect();
    let numbers: Vec<_> = groups.iter().map(|one| one.as_number()).collect();
    assert_eq!(numbers, [Some(2), Some(3261), None, Some(3260)]);
}

#[derive(Debug, Clone)]
enum Step {
    Connected,
    Closed,
    Bytes(Vec<u8>),
    Answer(u32, Vec<u8>),
    Notify(u16, Vec<u8>),
    Wait(u16),
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        4 => Just(Step::Connected),
        1 => Just(Step::Closed),
        1 => bytes().prop_map(Step::Bytes),
        6 => (prop::sample::select(vec![0u32, 0, 0, 3, 9, 12, 21, 23]), bytes()).prop_map(|(s, b)| Step::Answer(s, b)),
        2 => (any::<u16>(), bytes()).prop_map(|(function, bytes)| Step::Notify(function, bytes)),
        6 => any::<u16>().prop_map(Step::Wait),
        1 => Just(Step::Stop),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_one_request_is_under_way_and_the_end_comes_in_time(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        let (mut last, mut stopped) = (None::<Message>, None);
        for step in steps {
            match step {
                Step::Connected => world.client.handle_connected(world.now, registration()),
                Step::Closed => world.client.handle_closed(world.now, "closed"),
                Step::Bytes(bytes) => world.client.handle_bytes(world.now, &bytes),
                Step::Answer(status, bytes) => {
                    if let Some(request) = last.take() {
                        let attributes = if bytes.len() % 2 == 0 { known(30) } else { Vec::new() };
                        world.answer(&request, Status(status), attributes);
                    }
                }
                Step::Notify(function, bytes) => {
                    let value = bytes.chunks_exact(4).flatten().copied().collect();
                    let attributes = vec![Attribute { tag: Tag::ISCSI_NAME, value }];
                    let message = Message { attributes, ..Message::request(Function(function % 16)) };
                    world.client.handle_notification(world.now, &message);
                }
                Step::Wait(milliseconds) => {
                    world.now += Duration::from_millis(milliseconds.into());
                    world.client.handle_timeout(world.now);
                }
                Step::Stop => {
                    stopped.get_or_insert(world.now);
                    world.client.stop(world.now);
                }
            }
            let mut requests = 0;
            while let Some(action) = world.client.poll_action() {
                if let Action::Send(bytes) = action {
                    let message = decoded(&bytes);
                    requests += usize::from(!message.function.is_response());
                    last = Some(message);
                }
            }
            // One for what was asked, and one for the end, which does not wait for its answer.
            prop_assert!(requests <= 2);
            while world.client.poll_event().is_some() {}
            if stopped.is_some_and(|time| world.now > time + LEAVE) {
                world.client.handle_timeout(world.now);
                prop_assert!(world.client.is_finished());
            }
        }
    }
}
