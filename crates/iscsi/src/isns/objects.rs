//! What the attributes of an answer or a notification speak of: entities, portals, nodes, groups, changes.

use super::attribute::{Attribute, Tag};
use super::message::{Message, Status};
use super::wire::Function;
use crate::name::Name;
use std::net::SocketAddr;

/// An object as a server tells of it. Which attributes it tells depends on what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A network entity.
    Entity {
        /// Its identifier.
        identifier: String,
        /// Seconds without a message after which the server forgets it.
        period: Option<u32>,
    },
    /// A portal.
    Portal {
        /// Its address and TCP port.
        address: SocketAddr,
    },
    /// A storage node.
    Node {
        /// Its name.
        name: Name,
        /// Its alias.
        alias: Option<String>,
    },
    /// A portal group, in an answer behind the node and the portal that it joins.
    Group {
        /// The tag; `None` where the portal does not lead to the node.
        tag: Option<u16>,
    },
}

/// The objects among attributes, in their order. What is no object of these kinds, or not as it should be, is
/// left out.
pub fn objects(attributes: &[Attribute]) -> Vec<Object> {
    let mut found: Vec<Object> = Vec::new();
    let mut address = None;
    for attribute in attributes {
        match (attribute.tag, found.last_mut()) {
            (Tag::ENTITY_IDENTIFIER, _) => {
                let identifier = attribute.as_text().filter(|text| !text.is_empty());
                found.extend(identifier.map(|text| Object::Entity { identifier: text.to_owned(), period: None }));
            }
            (Tag::REGISTRATION_PERIOD, Some(Object::Entity { period, .. })) => *period = attribute.as_number(),
            (Tag::PORTAL_ADDRESS, _) => address = attribute.as_address(),
            (Tag::PORTAL_PORT, _) => {
                if let (Some(address), Some(port)) = (address.take(), attribute.as_port()) {
                    found.push(Object::Portal { address: SocketAddr::new(address, port) });
                }
            }
            (Tag::ISCSI_NAME, _) => {
                let name = attribute.as_text().and_then(|text| Name::lenient(text).ok());
                found.extend(name.map(|name| Object::Node { name, alias: None }));
            }
            (Tag::ISCSI_ALIAS, Some(Object::Node { alias, .. })) => *alias = attribute.as_text().map(str::to_owned),
            (Tag::GROUP_TAG, _) => {
                let tag = attribute.as_number().and_then(|tag| u16::try_from(tag & 0xffff).ok());
                found.push(Object::Group { tag });
            }
            _ => {}
        }
    }
    found
}

/// A target that a query has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTarget {
    /// Its name.
    pub name: Name,
    /// Its alias.
    pub alias: Option<String>,
    /// Where it is reached, with the portal group tags where the server tells them.
    pub portals: Vec<(SocketAddr, Option<u16>)>,
}

/// The targets of an answer to [`find_targets`](super::find_targets): each node is followed by the portals that
/// lead to it, and either all of these or each by the tags of their groups (RFC 4171 §5.6.5.2).
pub fn found_targets(answer: &Message) -> Vec<FoundTarget> {
    let mut targets: Vec<FoundTarget> = Vec::new();
    // How many portals of the last node have a tag.
    let mut tagged = 0;
    for object in objects(answer.operating()) {
        match (object, targets.last_mut()) {
            (Object::Node { name, alias }, _) => {
                targets.push(FoundTarget { name, alias, portals: Vec::new() });
                tagged = 0;
            }
            (Object::Portal { address }, Some(target)) => target.portals.push((address, None)),
            (Object::Group { tag }, Some(target)) => {
                if let Some((_, own)) = target.portals.get_mut(tagged) {
                    *own = tag;
                }
                tagged += 1;
            }
            (Object::Portal { .. } | Object::Group { .. } | Object::Entity { .. }, _) => {}
        }
    }
    targets
}

/// That something has changed at a node (RFC 4171 §5.6.5.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// At whom.
    pub node: Name,
    /// It, or something of it, was removed.
    pub removed: bool,
    /// It, or something of it, is new.
    pub added: bool,
    /// It, or something of it, has changed.
    pub updated: bool,
}

impl StateChange {
    /// Bits of the SCN bitmap (RFC 4171 §6.4.4), of which the least significant is bit 31.
    const REMOVED: u32 = 1 << 4;
    const ADDED: u32 = 1 << 3;
    const UPDATED: u32 = 1 << 2;
    const TARGET_AND_SELF: u32 = 1 << 6;
    const INITIATOR_AND_SELF: u32 = 1 << 7;

    /// What a target asks to hear of: initiators and itself.
    pub(super) const OF_INITIATORS: u32 =
        StateChange::INITIATOR_AND_SELF | StateChange::REMOVED | StateChange::ADDED | StateChange::UPDATED;
    /// What an initiator asks to hear of: targets and itself.
    pub(super) const OF_TARGETS: u32 =
        StateChange::TARGET_AND_SELF | StateChange::REMOVED | StateChange::ADDED | StateChange::UPDATED;

    fn of(node: Name, bitmap: u32) -> StateChange {
        let has = |bit| bitmap & bit != 0;
        StateChange {
            node,
            removed: has(StateChange::REMOVED),
            added: has(StateChange::ADDED),
            updated: has(StateChange::UPDATED),
        }
    }
}

/// To whom a notification goes, and what it tells. An error is the status to answer it with.
pub(super) fn notification(message: &Message) -> Result<(Name, Vec<StateChange>), Status> {
    debug_assert_eq!(message.function, Function::STATE_CHANGE_NOTIFICATION);
    let name = |attribute: &Attribute| match attribute.tag {
        Tag::ISCSI_NAME => attribute.as_text().and_then(|text| Name::lenient(text).ok()),
        _ => None,
    };
    let [destination, timestamp, events @ ..] = message.attributes.as_slice() else {
        return Err(Status::MESSAGE_FORMAT_ERROR);
    };
    if timestamp.tag != Tag::TIMESTAMP {
        return Err(Status::MESSAGE_FORMAT_ERROR);
    }
    let destination = name(destination).ok_or(Status::MESSAGE_FORMAT_ERROR)?;
    let (mut changes, mut bitmap) = (Vec::new(), None);
    for attribute in events {
        match attribute.tag {
            Tag::ISCSI_SCN_BITMAP => bitmap = attribute.as_number(),
            Tag::ISCSI_NAME => {
                let node = name(attribute).ok_or(Status::MESSAGE_FORMAT_ERROR)?;
                let bitmap = bitmap.take().ok_or(Status::MESSAGE_FORMAT_ERROR)?;
                changes.push(StateChange::of(node, bitmap));
            }
            // Discovery domains stand in notifications for control nodes.
            _ => {}
        }
    }
    Ok((destination, changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::lenient(text).unwrap()
    }

    fn notified(events: Vec<Attribute>) -> Result<(Name, Vec<StateChange>), Status> {
        let mut attributes = vec![Attribute::text(Tag::ISCSI_NAME, "iqn.2026-11.com.example:a")];
        attributes.push(Attribute::timestamp(1_800_000_000));
        attributes.extend(events);
        notification(&Message { attributes, ..Message::request(Function::STATE_CHANGE_NOTIFICATION) })
    }

    #[test]
    fn a_notification_of_several_nodes() {
        let node = |text: &str| Attribute::text(Tag::ISCSI_NAME, text);
        let (to, changes) = notified(vec![
            Attribute::number(Tag::ISCSI_SCN_BITMAP, 0x8),
            node("iqn.2026-11.com.example:b"),
            Attribute::number(Tag(2065), 1),
            Attribute::number(Tag::ISCSI_SCN_BITMAP, 0x14),
            node("iqn.2026-11.com.example:c"),
        ])
        .unwrap();
        assert_eq!(to, name("iqn.2026-11.com.example:a"));
        let [b, c] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!((b.node.as_str(), b.added, b.removed, b.updated), ("iqn.2026-11.com.example:b", true, false, false));
        assert_eq!((c.node.as_str(), c.added, c.removed, c.updated), ("iqn.2026-11.com.example:c", false, true, true));
    }

    #[test]
    fn notifications_that_lie_are_answered_with_an_error() {
        let format = Err(Status::MESSAGE_FORMAT_ERROR);
        let node = |text: &str| Attribute::text(Tag::ISCSI_NAME, text);
        assert_eq!(notified(vec![node("iqn.2026-11.com.example:b")]), format, "a node without a bitmap");
        let bitmap = Attribute::number(Tag::ISCSI_SCN_BITMAP, 8);
        for text in ["a b", "a\nb", "\u{1b}[2J", &"%n".repeat(120)] {
            assert_eq!(notified(vec![bitmap.clone(), node(text)]), format, "{text:?}");
        }
        assert_eq!(notification(&Message::request(Function::STATE_CHANGE_NOTIFICATION)), format);
    }

    #[test]
    fn targets_are_found_with_their_portals_and_tags() {
        let four = |last| std::net::IpAddr::from([192, 0, 2, last]);
        let portal = |last| {
            let address = Attribute::address(Tag::PORTAL_ADDRESS, four(last));
            [address, Attribute::port(Tag::PORTAL_PORT, 3260)]
        };
        let mut attributes = vec![Attribute::number(Tag::ISCSI_NODE_TYPE, 1), Attribute::empty(Tag::DELIMITER)];
        attributes.push(Attribute::text(Tag::ISCSI_NAME, "iqn.2026-11.com.example:a"));
        attributes.push(Attribute::text(Tag::ISCSI_ALIAS, "first"));
        attributes.extend(portal(1).into_iter().chain(portal(2)));
        attributes.extend([Attribute::number(Tag::GROUP_TAG, 1), Attribute::number(Tag::GROUP_TAG, 7)]);
        attributes.push(Attribute::text(Tag::ISCSI_NAME, "iqn.2026-11.com.example:b"));
        attributes.extend(portal(1));
        let query = Message::request(Function::DEVICE_ATTRIBUTE_QUERY);
        let found = found_targets(&query.answer(Status::SUCCESSFUL, attributes));
        let at = |last, tag| (SocketAddr::new(four(last), 3260), tag);
        assert_eq!(
            found,
            [
                FoundTarget {
                    name: name("iqn.2026-11.com.example:a"),
                    alias: Some("first".into()),
                    portals: vec![at(1, Some(1)), at(2, Some(7))],
                },
                FoundTarget { name: name("iqn.2026-11.com.example:b"), alias: None, portals: vec![at(1, None)] },
            ]
        );
    }

    #[test]
    fn the_answer_of_open_isns() {
        // isnsd 0.101 with two targets at two portals each, asked by `find_targets`.
        const ANSWER: &str = "0001800201204c0000000000000000000000002100000004000000010000000000000000\
            000000200000001c69716e2e323032362d31312e636f6d2e6578616d706c653a62000000\
            000000100000001000000000000000000000ffff7f0000010000001100000004000033d6000000330000000400000001\
            000000100000001000000000000000000000ffff7f0000020000001100000004000033d6000000330000000400000007\
            000000200000001c69716e2e323032362d31312e636f6d2e6578616d706c653a61000000\
            000000100000001000000000000000000000ffff7f0000010000001100000004000033cc000000330000000400000001\
            000000100000001000000000000000000000ffff7f0000020000001100000004000033cc000000330000000400000007";
        let digits: Vec<u32> = ANSWER.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect();
        let mut receiver = crate::isns::Receiver::new(1000);
        receiver.push(&bytes);
        let found = found_targets(&receiver.take().unwrap().unwrap());
        let told: Vec<(&str, Vec<String>)> = found
            .iter()
            .map(|target| {
                let portal = |(address, tag): &(SocketAddr, Option<u16>)| format!("{address},{}", tag.unwrap());
                (target.name.as_str(), target.portals.iter().map(portal).collect())
            })
            .collect();
        let portals = |port: u16| vec![format!("127.0.0.1:{port},1"), format!("127.0.0.2:{port},7")];
        assert_eq!(
            told,
            [("iqn.2026-11.com.example:b", portals(13270)), ("iqn.2026-11.com.example:a", portals(13260))]
        );
    }

    proptest! {
        #[test]
        fn any_attributes_are_objects_or_left_out(
            all in prop::collection::vec(
                (prop::sample::select(vec![0u32, 1, 4, 6, 16, 17, 32, 34, 35, 51]),
                    prop::collection::vec(any::<[u8; 4]>(), 0..60)),
                0..40,
            ),
        ) {
            let attributes: Vec<_> =
                all.into_iter().map(|(tag, words)| Attribute { tag: Tag(tag), value: words.concat() }).collect();
            let message = Message { attributes, ..Message::request(Function::STATE_CHANGE_NOTIFICATION) };
            prop_assert!(objects(&message.attributes).len() <= message.attributes.len());
            let _ = (notification(&message), found_targets(&message));
        }
    }
}
